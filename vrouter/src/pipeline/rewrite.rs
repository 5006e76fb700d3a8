//! Stage 10: the Ethernet header of the way out.

use encap::wire::ethernet;

use crate::burst::{Burst, LANES, Meta, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::Tables;
use crate::vector;

/// Ethertypes as they lie in memory.
const IPV4: u64 = 0x0008;
const IPV6: u64 = 0xdd86;

/// Writes destination, source and type of every packet.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    begin_at_ethernet(&mut burst.meta);
    let (v4, alive) = (burst.v4, burst.alive);
    let mut last = (None, 0);
    for lane in lanes(alive) {
        let adjacency = burst.meta.adjacency[lane];
        if last.0 != Some(adjacency) {
            last = (
                Some(adjacency),
                tables.adjacencies[adjacency.index()].source_mac.to_u64().swap_bytes() >> 16,
            );
        }
        let (source, destination) = (last.1, burst.meta.mac[lane]);
        let ethertype = if v4 >> lane & 1 == 1 { IPV4 } else { IPV6 };
        let offset = burst.meta.offset[lane];
        let frame = burst.frame_mut(lane);
        let Some(header) = state.pool.area().header_mut::<{ ethernet::HEADER_LEN }>(frame, offset) else {
            state.drop_packet(burst, lane, DropReason::NoHeadroom);
            continue;
        };
        let (front, back) = (destination | source << 48, source >> 16 | ethertype << 32);
        header[..8].copy_from_slice(&front.to_le_bytes());
        header[8..].copy_from_slice(&back.to_le_bytes()[..6]);
        if burst.traced >> lane & 1 == 1 {
            let mac = (destination << 16).swap_bytes();
            state.tracer.note(burst, lane, Stage::Rewrite, (mac >> 32) as u32, mac as u32);
        }
    }
}

vector::widest! {
    /// Makes packets begin where the Ethernet header will be. Where that is in front of the frame,
    /// the place is beyond its end, for `run` to find.
    fn begin_at_ethernet(meta: &mut Meta) {
        for lane in 0..LANES {
            let offset = meta.l3[lane].wrapping_sub(ethernet::HEADER_LEN as u16);
            meta.len[lane] = meta.len[lane].wrapping_add(meta.offset[lane]).wrapping_sub(offset);
            meta.offset[lane] = offset;
        }
    }
}
