//! Stage 5: may the destination pod receive this packet?
//!
//! Evaluated on the node of the destination, after decapsulation. What the node
//! itself sends to its pods is not policed, as in Calico, and neither is what the
//! router originates.

use acl::{Action, Direction};

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::{Role, Tables};

/// Polices what pods receive.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    for lane in lanes(burst.alive & burst.direct & !burst.originated & !burst.from_host) {
        let out_port = burst.meta.out_port[lane];
        let Some(port) = tables.port(out_port).filter(|port| port.role == Role::Pod) else { continue };
        let verdict = port.policy.verdict(Direction::Ingress);
        burst.meta.rule[lane] = verdict.rule.0;
        state.tracer.note(burst, lane, Stage::DestPolicy, verdict.rule.0, verdict.action as u32);
        if verdict.action == Action::Deny {
            state.drop_packet(burst, lane, DropReason::PolicyIngress);
        }
    }
}
