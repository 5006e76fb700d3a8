//! Stage 5: may this pod send this packet?
//!
//! The egress policy of the pod is asked about packets that open a flow; those of known flows pass.
//! Packets of other ports are not policed here.

use acl::Direction;

use crate::burst::Burst;
use crate::drop_reason::DropReason;
use crate::pipeline::conntrack;
use crate::pipeline::police::Side;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::Tables;

const EGRESS: Side = Side {
    direction: Direction::Egress,
    port: |burst, lane| burst.meta.in_port[lane],
    stage: Stage::SourcePolicy,
    reason: DropReason::PolicyEgress,
};

/// Polices what pods send.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let sent = burst.alive & burst.from_pod & !burst.originated;
    let noted = sent & burst.known & burst.traced & !burst.held;
    if noted != 0 {
        EGRESS.note_known(noted, burst, state);
    }
    EGRESS.police(sent & burst.opens, burst, tables, state);
    let fragments = burst.alive & sent & burst.fragments;
    if fragments != 0 {
        conntrack::sent_fragments(burst, fragments, state);
    }
}
