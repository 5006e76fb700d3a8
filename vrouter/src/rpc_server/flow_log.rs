//! `ListFlowLog`: packets that policy denied or was told to log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::sync::mpsc::Sender;
use tonic::Status;

use crate::control::policy::{Packet, Questions};
use crate::daemon::Node;
use crate::daemon::flow_log::Kept;
use crate::pipeline::flow_log::{Entry, Event};
use crate::rpc::v1;
use crate::rpc_server::headers::{self, Filter};
use crate::rpc_server::policy::direction_word;

/// How often a follower looks for more.
const PERIOD: Duration = Duration::from_millis(200);

/// The packet of an entry.
pub(super) fn packet(entry: &Entry) -> Packet {
    let Entry { source, destination, protocol, transport, .. } = *entry;
    Packet { source, destination, protocol, transport }
}

struct Wanted {
    filter: Filter,
    logged: bool,
    rule: String,
}

impl Wanted {
    fn wants(&self, node: &Node, kept: &Kept) -> bool {
        let name = || node.router.engine().rule_name(kept.entry.rule.0).unwrap_or_default();
        (self.logged || kept.entry.event == Event::Denied)
            && self.filter.wants(&packet(&kept.entry))
            && (self.rule.is_empty() || name().contains(&self.rule))
    }
}

/// Sends what is kept and, if asked for, what comes, until the client goes away.
pub(super) async fn send(
    node: Arc<Mutex<Node>>,
    request: v1::ListFlowLogRequest,
    to: Sender<Result<v1::FlowLogEntry, Status>>,
) {
    let v1::ListFlowLogRequest { follow, logged, pod, rule, filter, count } = request;
    let filter = match Filter::new(&*node.lock().await, filter, &pod) {
        Ok(filter) => filter,
        Err(status) => {
            // A client that went away needs no reason.
            let _ = to.send(Err(status)).await;
            return;
        }
    };
    let wanted = Wanted { filter, logged, rule };
    let mut from = 0;
    let mut latest = usize::try_from(count).ok().filter(|count| *count > 0);
    loop {
        let entries: Vec<v1::FlowLogEntry> = {
            let mut node = node.lock().await;
            node.take_flow_log();
            let questions = headers::questions(&node);
            let found = node.flow_log.since(from).rev().filter(|kept| wanted.wants(&node, kept));
            let found = found.take(latest.take().unwrap_or(usize::MAX));
            let mut entries: Vec<_> = found.map(|kept| show(&node, &questions, kept)).collect();
            entries.reverse();
            from = node.flow_log.next_number();
            entries
        };
        for entry in entries {
            if to.send(Ok(entry)).await.is_err() {
                return;
            }
        }
        if !follow || to.is_closed() {
            return;
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn show(node: &Node, questions: &Questions<'_>, kept: &Kept) -> v1::FlowLogEntry {
    let entry = &kept.entry;
    let name = node.router.engine().policy().names().name(entry.rule);
    let (tier, policy) = name.map(|name| name.tier_and_policy()).unwrap_or_default();
    v1::FlowLogEntry {
        number: kept.number,
        timestamp_ns: kept.timestamp_ns,
        event: match entry.event {
            Event::Denied => "denied",
            Event::Logged => "logged",
        }
        .to_owned(),
        direction: direction_word(entry.direction),
        port: kept.port.to_string(),
        rule: name.map(ToString::to_string).unwrap_or_default(),
        tier: tier.unwrap_or_default(),
        policy: policy.unwrap_or_default(),
        headers: Some(headers::show(&packet(entry), questions)),
        length: entry.len,
        missed: kept.missed,
    }
}
