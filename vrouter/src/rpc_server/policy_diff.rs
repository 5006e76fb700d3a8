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
use acl::{Action, Verdict};
use tokio::sync::Mutex;
use tonic::Status;

use crate::control::policy::{Packet, PolicyWorld, Questions};
use crate::daemon::Node;
use crate::pipeline::flow_log::Event;
use crate::rpc::v1;
use crate::rpc_server::{explain, flow_log, flows, headers, resources};

/// Differences that are listed unless the request says otherwise.
const LISTED: usize = 1000;

/// Verdicts of both sides, the source's first.
type Verdicts = [Option<Verdict>; 2];

/// Something whose verdict may change.
struct Subject {
    of: &'static str,
    packet: Packet,
    /// Which sides are policed on this node.
    sides: [bool; 2],
    packets: u64,
}

impl Subject {
    fn of_flow(flow: &Flow) -> Self {
        let sides = [&flow.egress, &flow.ingress].map(|side| side.endpoint != SideVerdict::NO_ENDPOINT);
        let packets = flow.original.packets + flow.reply.packets;
        Subject { of: "flow", packet: flows::packet(flow), sides, packets }
    }
}

/// Answers a request.
pub(super) async fn diff(
    node: Arc<Mutex<Node>>,
    request: v1::DiffPolicyRequest,
) -> Result<v1::DiffPolicyReply, Status> {
    let (now, then, table, denied, own) = {
        let mut node = node.lock().await;
        let next = match resources::judge(&node, &request.documents, &request.deletions)? {
            Ok(next) => next,
            Err(refused) => return Ok(v1::DiffPolicyReply { refused, ..v1::DiffPolicyReply::default() }),
        };
        node.take_flow_log();
        let engine = node.router.engine();
        let now = engine.policy_parts(node.resources.of_policy().map(|(_, resource)| resource));
        let then = engine.policy_parts(next.of_policy().map(|(_, resource)| resource));
        (now, then, engine.flows().clone(), denials(&node), engine.own_addresses())
    };
    // A large table and many policies take their time; the event loop has other things to do.
    let compared = tokio::task::spawn_blocking(move || {
        let (now, then) = (now.world(), then.world());
        let live: Vec<Subject> = flows::collect(&table, |_| true).iter().map(Subject::of_flow).collect();
        let listed = usize::try_from(request.count).ok().filter(|count| *count > 0).unwrap_or(LISTED);
        compare([&now, &then], &own, &live, &denied, listed)
    });
    compared.await.map_err(|error| Status::internal(format!("the comparison ended early: {error}")))
}

/// Packets denied lately, each source, destination and service once.
fn denials(node: &Node) -> Vec<Subject> {
    let mut found: BTreeMap<_, Subject> = BTreeMap::new();
    let entries = node.flow_log.since(0).map(|kept| &kept.entry);
    for entry in entries.filter(|entry| entry.event == Event::Denied) {
        let packet = flow_log::packet(entry);
        let service = packet.transport.map(|(first, second)| match packet.protocol {
            1 | 58 => (first, second),
            _ => (0, second),
        });
        let key = (packet.source, packet.destination, packet.protocol, service);
        let subject =
            found.entry(key).or_insert(Subject { of: "denial", packet, sides: [true; 2], packets: 0 });
        subject.packets += 1;
    }
    found.into_values().collect()
}

fn compare(
    worlds: [&PolicyWorld; 2],
    own: &[std::net::IpAddr],
    live: &[Subject],
    denied: &[Subject],
    listed: usize,
) -> v1::DiffPolicyReply {
    let [now, then] = worlds.map(|world| Questions::new(world).on_node(own.iter().copied()));
    let mut reply = v1::DiffPolicyReply {
        flows: live.len() as u64,
        denials: denied.len() as u64,
        ..v1::DiffPolicyReply::default()
    };
    for subject in live.iter().chain(denied) {
        let verdicts = [&now, &then].map(|questions| policed(questions.verdicts(&subject.packet), subject));
        let allowed = verdicts.map(is_allowed);
        match allowed {
            [true, false] => reply.stopped += 1,
            [false, true] => reply.opened += 1,
            _ => continue,
        }
        if reply.differences.len() < listed {
            let show = |questions: &Questions<'_>, verdicts| {
                Some(explain::show(questions.answer(verdicts), [Vec::new(), Vec::new()]))
            };
            reply.differences.push(v1::PolicyDifference {
                of: subject.of.to_owned(),
                headers: Some(headers::show(&subject.packet, &then)),
                now: show(&now, verdicts[0]),
                then: show(&then, verdicts[1]),
                packets: subject.packets,
            });
        }
    }
    reply
}

fn policed([egress, ingress]: Verdicts, subject: &Subject) -> Verdicts {
    [egress.filter(|_| subject.sides[0]), ingress.filter(|_| subject.sides[1])]
}

fn is_allowed(verdicts: Verdicts) -> bool {
    verdicts.iter().flatten().all(|verdict| verdict.action == Action::Allow)
}
