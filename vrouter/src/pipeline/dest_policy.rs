//! Stage 7: may the destination pod receive this packet?
//!
//! Evaluated on the node of the destination, after decapsulation, for packets that open a flow; those
//! of known flows pass. What the node itself sends to its pods is not policed, as in Calico, and
//! neither is what the router originates.

use acl::Direction;

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::police::Side;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::{Role, Tables};

const INGRESS: Side = Side {
    direction: Direction::Ingress,
    port: |burst, lane| burst.meta.out_port[lane],
    stage: Stage::DestPolicy,
    reason: DropReason::PolicyIngress,
};

/// Polices what pods receive.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    if !tables.policy.in_use {
        return;
    }
    let pod = |port| tables.port(port).is_some_and(|port| port.role == Role::Pod);
    let mut last = (crate::ids::PortId::NONE, false);
    for lane in lanes(burst.alive & burst.direct & !burst.originated) {
        let out_port = burst.meta.out_port[lane];
        if last.0 != out_port {
            last = (out_port, pod(out_port));
        }
        burst.to_pod |= u64::from(last.1) << lane;
    }
    let received = burst.alive & burst.to_pod & !burst.from_host;
    for lane in lanes(received & burst.unfit) {
        let reason = state.flows.unfit_reason(lane);
        state.drop_packet(burst, lane, reason);
    }
    let noted = received & burst.known & burst.traced & !burst.held;
    if noted != 0 {
        INGRESS.note_known(noted, burst, state);
    }
    INGRESS.police(burst.alive & received & burst.opens, burst, tables, state);
}
