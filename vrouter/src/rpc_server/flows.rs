//! `ListFlows`: the flows that are open, with what policy said of each.

use std::sync::Arc;

use acl::conntrack::{Flow, Keep, Phase, PolicyGenerations, SideVerdict, Tick};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Sender;
use tonic::Status;

use crate::clock;
use crate::control::policy::{Packet, Questions};
use crate::daemon::Node;
use crate::ids::PortId;
use crate::pipeline::conntrack::opener;
use crate::rpc::v1;
use crate::rpc_server::headers::{self, Filter};
use crate::rpc_server::policy::verdict_word;
use crate::tables::FlowTable;

/// Entries of the table that are looked at at a time.
const STEP: u32 = 1 << 14;
/// Flows that are described while the node is held.
pub(super) const PAGE: usize = 512;

/// The packet that opened a flow.
pub(super) fn packet(flow: &Flow) -> Packet {
    let (source, destination, transport) = opener(flow);
    Packet { source, destination, protocol: flow.tuple.protocol, transport }
}

/// Every flow that lives and that `wants` lets pass, without the node.
pub(super) fn collect(table: &FlowTable, mut wants: impl FnMut(&Flow) -> bool) -> Vec<Flow> {
    let now = Tick::from_millis(clock::now().0 / 1_000_000);
    let mut flows = Vec::new();
    let mut next = Some(0);
    while let Some(from) = next {
        next = table.visit(from, STEP, now, |flow| {
            if flow.expires_in_ms > 0 && wants(flow) {
                flows.push(*flow);
            }
            Keep::Yes
        });
    }
    flows
}

/// `TcpEstablished` as `tcp-established`.
fn phase_word(phase: Phase) -> String {
    let mut out = String::new();
    for c in format!("{phase:?}").chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The phase of a word; `None` for the empty one.
fn phase(word: &str) -> Result<Option<Phase>, Status> {
    if word.is_empty() {
        return Ok(None);
    }
    let mut phases = Phase::ALL.into_iter().filter(|phase| *phase != Phase::Free);
    phases.clone().find(|phase| phase_word(*phase) == word).map(Some).ok_or_else(|| {
        let all: Vec<String> = phases.by_ref().map(phase_word).collect();
        Status::invalid_argument(format!("phase {word:?}: expected one of {}", all.join(", ")))
    })
}

/// Sends every flow that the request asks for. The node is held for a page at a time.
pub(super) async fn send(
    node: Arc<Mutex<Node>>,
    request: v1::ListFlowsRequest,
    to: Sender<Result<v1::Flow, Status>>,
) {
    let found = {
        let node = node.lock().await;
        find(&node, &request)
    };
    let (table, filter, phase) = match found {
        Ok(found) => found,
        Err(status) => {
            // A client that went away needs no reason.
            let _ = to.send(Err(status)).await;
            return;
        }
    };
    let wants =
        move |flow: &Flow| phase.is_none_or(|phase| flow.phase == phase) && filter.wants(&packet(flow));
    // A large table takes its time; the event loop has other things to do.
    let Ok(flows) = tokio::task::spawn_blocking(move || collect(&table, wants)).await else { return };
    let mut left = if request.count == 0 { u64::MAX } else { request.count };
    for page in flows.chunks(PAGE) {
        let shown: Vec<v1::Flow> = {
            let node = node.lock().await;
            let tables = node.router.engine().tables();
            let questions = headers::questions(&node);
            let shown = page.iter().map(|flow| show(&node, &tables.policy.generations, &questions, flow));
            shown.filter(|flow| has_rule(flow, &request.rule)).collect()
        };
        for flow in shown {
            if left == 0 || to.send(Ok(flow)).await.is_err() {
                return;
            }
            left -= 1;
        }
    }
}

type Found = (Arc<FlowTable>, Filter, Option<Phase>);

fn find(node: &Node, request: &v1::ListFlowsRequest) -> Result<Found, Status> {
    let filter = Filter::new(node, request.filter.clone(), &request.pod)?.both_ways(request.both_ways);
    Ok((node.router.engine().flows().clone(), filter, phase(&request.phase)?))
}

fn has_rule(flow: &v1::Flow, part: &str) -> bool {
    part.is_empty()
        || [&flow.egress, &flow.ingress].into_iter().flatten().any(|side| side.rule.contains(part))
}

fn show(node: &Node, generations: &[PolicyGenerations], questions: &Questions<'_>, flow: &Flow) -> v1::Flow {
    let side = |side: &SideVerdict, generation: fn(&PolicyGenerations) -> u16| {
        if side.endpoint == SideVerdict::NO_ENDPOINT {
            return v1::FlowSide { verdict: "Allow".to_owned(), ..v1::FlowSide::default() };
        }
        let engine = node.router.engine();
        let current = generations.get(usize::from(side.endpoint)).map(generation);
        v1::FlowSide {
            port: engine.port_name(PortId(side.endpoint)).unwrap_or_default().to_owned(),
            verdict: verdict_word(side.verdict.action).to_owned(),
            rule: engine.rule_name(side.verdict.rule.0).unwrap_or_default().to_owned(),
            stale: current != Some(side.generation),
        }
    };
    v1::Flow {
        headers: Some(headers::show(&packet(flow), questions)),
        phase: phase_word(flow.phase),
        expires_ms: flow.expires_in_ms,
        packets: flow.original.packets,
        bytes: flow.original.bytes,
        reply_packets: flow.reply.packets,
        reply_bytes: flow.reply.bytes,
        egress: Some(side(&flow.egress, |of| of.egress)),
        ingress: Some(side(&flow.ingress, |of| of.ingress)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_have_words() {
        assert_eq!(phase_word(Phase::TcpSynSentBoth), "tcp-syn-sent-both");
        assert_eq!(phase("tcp-established").unwrap(), Some(Phase::TcpEstablished));
        assert_eq!(phase("").unwrap(), None);
        let refused = phase("free").unwrap_err();
        assert!(refused.message().contains("udp-replied"), "{}", refused.message());
    }
}
