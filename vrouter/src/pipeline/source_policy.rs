//! Stage 5: may this pod send this packet?
//!
//! The egress policy of the pod is asked about packets that open a flow; those of known flows pass.
//! Packets of other ports are not policed here.

use acl::Direction;

use crate::burst::Burst;
use crate::drop_reason::DropReason;
use crate::pipeline::conntrack;
use crate::pipeline::police::{Asked, Side, in_port, take_port};
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::Tables;

const EGRESS: Side =
    Side { slot: Direction::Egress, stage: Stage::SourcePolicy, reason: DropReason::PolicyEgress };

/// Polices what pods send.
#[inline]
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let sent = burst.alive & burst.from_pod & !burst.originated;
    if sent != 0 {
        packets(burst, sent, tables, state);
    }
}

fn packets(burst: &mut Burst, sent: u64, tables: &Tables, state: &mut WorkerState) {
    let noted = sent & burst.known & burst.traced & !burst.held;
    if noted != 0 {
        EGRESS.note_known(noted, burst, state);
    }
    let mut rest = sent & burst.opens;
    while let Some((id, group)) = take_port(&mut rest, burst, in_port) {
        let policy = tables.port(id).and_then(|port| port.policy.as_ref());
        let program = policy.map(|policy| policy.program(Direction::Egress));
        // What waited for a neighbour was asked about and counted before.
        let asked = Asked { program, port: id, direction: Direction::Egress, counted: group & !burst.held };
        EGRESS.police(group, &asked, burst, tables, state);
    }
    let fragments = burst.alive & sent & burst.fragments;
    if fragments != 0 {
        conntrack::sent_fragments(burst, fragments, state);
    }
}
