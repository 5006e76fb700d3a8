//! Stage 10: the Ethernet header of the way out.

use encap::wire::ethernet;

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::Tables;

/// Ethertypes as they lie in memory.
const IPV4: u64 = 0x0008;
const IPV6: u64 = 0xdd86;

/// Writes destination, source and type of every packet.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    for lane in lanes(burst.alive) {
        let adjacency = &tables.adjacencies[burst.meta.adjacency[lane].index()];
        let source = adjacency.source_mac.to_u64().swap_bytes() >> 16;
        let ethertype = if burst.v4 >> lane & 1 == 1 { IPV4 } else { IPV6 };
        let destination = burst.meta.mac[lane];
        let l3 = burst.meta.l3[lane];
        let offset = l3 - ethernet::HEADER_LEN as u16;
        burst.meta.len[lane] += burst.meta.offset[lane].wrapping_sub(offset);
        burst.meta.offset[lane] = offset;
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
