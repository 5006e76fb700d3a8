//! Stage 11: hands each packet to its port, for transmission when the burst ends.

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Outcome;
use crate::tables::Tables;

/// Queues every packet that is left.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    while let Some(first) = lanes(burst.alive).next() {
        let port = burst.meta.out_port[first];
        let mask = burst.toward(port, burst.alive);
        if !tables.port(port).is_some_and(|p| p.up) {
            lanes(mask).for_each(|lane| state.drop_packet(burst, lane, DropReason::PortDown));
            continue;
        }
        for lane in lanes(mask & burst.traced) {
            state.tracer.finish(burst, lane, Outcome::Sent(port), state.now);
        }
        burst.take_all_tx(mask, state.tx.batch(port));
    }
}
