//! `DiffPolicy`: which open flows and which packets denied lately would meet another verdict.
//!
//! ```text
//!   resources in force -----------------> world now  --+
//!   the same, changed as the text says -> world then --+--> each flow, each denied packet: two verdicts
//! ```
//!
//! Both worlds are made for the question; the one in force is not touched, and the node is not held
//! while they are compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use acl::conntrack::{Flow, SideVerdict};
use tokio::sync::Mutex;
use tonic::Status;

use crate::control::policy::{NodeView, Packet, Path, PolicyWorld, Questions, Verdicts, Way};
use crate::daemon::Node;
use crate::ids::PortId;
use crate::pipeline::flow_log::Event;
use crate::rpc::v1;
use crate::rpc_server::{explain, flow_log, flows, headers, resources};
use crate::tables::Role;

/// Differences that are listed unless the request says otherwise.
const LISTED: usize = 1000;

/// Something whose verdict may change.
struct Subject {
    of: &'static str,
    packet: Packet,
    path: Path,
    packets: u64,
}

/// Where packets come from and go to, by addresses and routes; and by the ports that a flow has noted.
struct Ways<'a> {
    node: &'a Node,
    questions: Questions<'a>,
}

impl<'a> Ways<'a> {
    fn new(node: &'a Node) -> Self {
        Ways { node, questions: headers::questions(node) }
    }

    fn path(&self, packet: &Packet) -> Path {
        // With routes there is always an answer.
        let way = |one, other| self.questions.way(one, other).unwrap_or(Way::Elsewhere);
        Path {
            source: way(packet.source, packet.destination),
            destination: way(packet.destination, packet.source),
        }
    }

    fn flow(&self, flow: &Flow) -> Subject {
        let packet = flows::packet(flow);
        let mut path = self.path(&packet);
        for (way, side) in [(&mut path.source, &flow.egress), (&mut path.destination, &flow.ingress)] {
            let port = self.uplink(side);
            if let (Way::Interface { name, .. }, Some(port)) = (way, port) {
                port.clone_into(name);
            }
        }
        let packets = flow.original.packets + flow.reply.packets;
        Subject { of: "flow", packet, path, packets }
    }

    /// The uplink that a flow has crossed, where a host endpoint was asked about it.
    fn uplink(&self, side: &SideVerdict) -> Option<&str> {
        let engine = self.node.router.engine();
        let id = Some(PortId(side.endpoint)).filter(|_| side.endpoint != SideVerdict::NO_ENDPOINT)?;
        let role = engine.tables().port(id)?.role;
        if matches!(role, Role::Uplink { .. }) { engine.port_name(id) } else { None }
    }
}

/// Answers a request.
pub(super) async fn diff(
    node: Arc<Mutex<Node>>,
    request: v1::DiffPolicyRequest,
) -> Result<v1::DiffPolicyReply, Status> {
    let (now, then, table, denied) = {
        let mut node = node.lock().await;
        let next = match resources::judge(&node, &request.documents, &request.deletions)? {
            Ok(next) => next,
            Err(refused) => return Ok(v1::DiffPolicyReply { refused, ..v1::DiffPolicyReply::default() }),
        };
        node.take_flow_log();
        let engine = node.router.engine();
        let now = engine.policy_parts(node.resources.of_policy().map(|(_, resource)| resource));
        let then = engine.policy_parts(next.of_policy().map(|(_, resource)| resource));
        (now, then, engine.flows().clone(), denials(&node))
    };
    // A large table and many policies take their time; the event loop has other things to do.
    let live = tokio::task::spawn_blocking(move || flows::collect(&table, |_| true));
    let live = live.await.map_err(|error| Status::internal(format!("the flows were not read: {error}")))?;
    let mut subjects = Vec::with_capacity(live.len());
    for page in live.chunks(flows::PAGE) {
        let node = node.lock().await;
        let ways = Ways::new(&node);
        subjects.extend(page.iter().map(|flow| ways.flow(flow)));
    }
    let live = subjects;
    let compared = tokio::task::spawn_blocking(move || {
        let views = [now.view(), then.view()];
        let (now, then) = (now.world(), then.world());
        let listed = usize::try_from(request.count).ok().filter(|count| *count > 0).unwrap_or(LISTED);
        compare([&now, &then], views, &live, &denied, listed)
    });
    compared.await.map_err(|error| Status::internal(format!("the comparison ended early: {error}")))
}

/// Packets denied lately, each source, destination and service once.
fn denials(node: &Node) -> Vec<Subject> {
    let ways = Ways::new(node);
    let mut found: BTreeMap<_, Subject> = BTreeMap::new();
    let entries = node.flow_log.since(0).map(|kept| &kept.entry);
    for entry in entries.filter(|entry| entry.event == Event::Denied) {
        let packet = flow_log::packet(entry);
        let service = packet.transport.map(|(first, second)| match packet.protocol {
            1 | 58 => (first, second),
            _ => (0, second),
        });
        let key = (packet.source, packet.destination, packet.protocol, service);
        let subject = found.entry(key).or_insert_with(|| {
            let path = ways.path(&packet);
            Subject { of: "denial", packet, path, packets: 0 }
        });
        subject.packets += 1;
    }
    found.into_values().collect()
}

fn compare(
    worlds: [&PolicyWorld; 2],
    views: [NodeView; 2],
    live: &[Subject],
    denied: &[Subject],
    listed: usize,
) -> v1::DiffPolicyReply {
    let [view_now, view_then] = views;
    let now = Questions::new(worlds[0]).on_node(view_now);
    let then = Questions::new(worlds[1]).on_node(view_then);
    let mut reply = v1::DiffPolicyReply {
        flows: live.len() as u64,
        denials: denied.len() as u64,
        ..v1::DiffPolicyReply::default()
    };
    for subject in live.iter().chain(denied) {
        let verdicts = [&now, &then].map(|questions| questions.verdicts(&subject.packet, &subject.path));
        match verdicts.each_ref().map(Verdicts::allow) {
            [true, false] => reply.stopped += 1,
            [false, true] => reply.opened += 1,
            _ => continue,
        }
        if reply.differences.len() < listed {
            let show =
                |questions: &Questions<'_>, verdicts| Some(explain::show(questions.answer(verdicts, None)));
            reply.differences.push(v1::PolicyDifference {
                of: subject.of.to_owned(),
                headers: Some(headers::show(&subject.packet, &then)),
                now: show(&now, &verdicts[0]),
                then: show(&then, &verdicts[1]),
                packets: subject.packets,
            });
        }
    }
    reply
}
