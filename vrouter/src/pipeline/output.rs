//! Stage 11: hands each packet to its port, for transmission when the burst ends.

use crate::burst::{Burst, LANES, are_few, lanes};
use crate::drop_reason::DropReason;
use crate::ids::AdjacencyId;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Outcome;
use crate::tables::Tables;
use crate::vector::{self, widest};

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
        count(burst, mask, first, state);
        burst.take_all_tx(mask, state.tx.batch(port));
    }
}

/// Counts packets by adjacency, `first` being the first of them: mostly they all have the same.
#[inline]
fn count(burst: &Burst, mask: u64, first: usize, state: &WorkerState) {
    let meta = &burst.meta;
    if !are_few(mask) {
        let (same, bytes) = same_way(&meta.adjacency, &meta.len, meta.adjacency[first], mask);
        if same == mask {
            let counters = state.counters.adjacency(meta.adjacency[first]);
            counters.tx_packets.add(mask.count_ones().into());
            counters.tx_bytes.add(bytes.into());
            return;
        }
    }
    for lane in lanes(mask) {
        let counters = state.counters.adjacency(meta.adjacency[lane]);
        counters.tx_packets.add(1);
        counters.tx_bytes.add(meta.len[lane].into());
    }
}

widest! {
    /// The lanes of `mask` that go by `id`, and the bytes of all of `mask`.
    fn same_way(
        adjacency: &[AdjacencyId; LANES],
        len: &[u16; LANES],
        id: AdjacencyId,
        mask: u64,
    ) -> (u64, u32) {
        let same = vector::mask(mask, |lane| adjacency[lane] == id);
        let bytes = len.iter().enumerate().map(|(lane, len)| u32::from(*len) * (mask >> lane & 1) as u32);
        (same, bytes.sum())
    }
}
