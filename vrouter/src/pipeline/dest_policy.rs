//! Stage 7: may the destination pod receive this packet?
//!
//! Around it, the policy of host endpoints: `host_policy`.
//!
//! Evaluated on the node of the destination, after decapsulation, for packets that open a flow; those
//! of known flows pass. What the node itself sends to its pods is not policed, as in Calico, and
//! neither is what the router originates.

use acl::Direction;

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::host_policy;
use crate::pipeline::police::{Asked, Side, out_port, take_port};
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::{Role, Tables};

const INGRESS: Side =
    Side { slot: Direction::Ingress, stage: Stage::DestPolicy, reason: DropReason::PolicyIngress };

/// Polices what pods receive.
#[inline]
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    if tables.policy.in_use {
        packets(burst, tables, state);
    }
}

fn packets(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    if tables.policy.hosts {
        host_policy::entering(burst.alive, burst, tables, state);
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
    let mut rest = burst.alive & received & burst.opens;
    while let Some((id, group)) = take_port(&mut rest, burst, out_port) {
        let policy = tables.port(id).and_then(|port| port.policy.as_ref());
        let program = policy.map(|policy| policy.program(Direction::Ingress));
        let asked = Asked { program, port: id, direction: Direction::Ingress, counted: group };
        INGRESS.police(group, &asked, burst, tables, state);
    }
    if tables.policy.hosts {
        host_policy::leaving(burst.alive, burst, tables, state);
    }
}
