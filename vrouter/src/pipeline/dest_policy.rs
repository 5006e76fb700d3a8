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
use crate::tables::{self, Role, Tables};

/// Polices what pods receive.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    for lane in lanes(burst.alive & !burst.originated) {
        let adjacency = &tables.adjacencies[burst.meta.adjacency[lane].index()];
        if adjacency.action != tables::Action::Direct {
            continue;
        }
        let Some(port) = tables.port(adjacency.port).filter(|port| port.role == Role::Pod) else { continue };
        if tables.port(burst.meta.in_port[lane]).is_some_and(|from| from.role == Role::Host) {
            continue;
        }
        let verdict = port.policy.verdict(Direction::Ingress);
        burst.meta.rule[lane] = verdict.rule.0;
        state.tracer.note(burst, lane, Stage::DestPolicy, verdict.rule.0, verdict.action as u32);
        if verdict.action == Action::Deny {
            state.drop_packet(burst, lane, DropReason::PolicyIngress);
        }
    }
}
