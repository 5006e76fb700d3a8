//! Stage 9: hands each packet to its port, for transmission when the burst ends.

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Outcome;
use crate::tables::Tables;

/// Queues every packet that is left.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let mut last = (crate::ids::PortId::NONE, false);
    for lane in lanes(burst.alive) {
        let port = tables.adjacencies[burst.meta.adjacency[lane].index()].port;
        if last.0 != port {
            last = (port, tables.port(port).is_some_and(|p| p.up));
        }
        if !last.1 {
            state.drop_packet(burst, lane, DropReason::PortDown);
            continue;
        }
        if burst.traced >> lane & 1 == 1 {
            state.tracer.finish(burst, lane, Outcome::Sent(port), state.now);
        }
        let packet = burst.take_tx(lane);
        state.tx.push(port, packet);
    }
}
