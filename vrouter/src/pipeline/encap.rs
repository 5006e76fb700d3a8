//! Stage 9: puts the outer header of a tunnel in front of the packet.
//!
//! The header was built with the adjacency; length, ECN, identification and
//! checksum are patched here. Frames keep 256 bytes of headroom, so nothing moves.

use encap::tunnel::ipip;
use encap::wire::ethernet;

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::Tables;

/// Encapsulates the packets whose adjacency is a tunnel.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    for lane in lanes(burst.alive & burst.tunnelled) {
        let adjacency = &tables.adjacencies[burst.meta.adjacency[lane].index()];
        let Some(outer) = &adjacency.tunnel else { continue };
        let l3 = burst.meta.l3[lane] as usize;
        let inner_len = burst.meta.ip_len[lane];
        if l3 < ipip::OVERHEAD + ethernet::HEADER_LEN {
            state.drop_packet(burst, lane, DropReason::NoHeadroom);
            continue;
        }
        let id = state.next_ip_id();
        let chunk = state.pool.area().chunk_mut(burst.frame_mut(lane));
        let (front, inner) = chunk.split_at_mut(l3);
        let Some(space) = front.last_chunk_mut::<{ ipip::OVERHEAD }>() else { continue };
        if outer.push(space, inner, inner_len as u16, id).is_err() {
            state.drop_packet(burst, lane, DropReason::NoHeadroom);
            continue;
        }
        let counters = state.counters.tunnel(adjacency.tunnel_id);
        counters.tx_packets.add(1);
        counters.tx_bytes.add(u64::from(inner_len));
        let meta = &mut burst.meta;
        meta.l3[lane] -= ipip::OVERHEAD as u16;
        meta.len[lane] += ipip::OVERHEAD as u16;
        meta.offset[lane] = meta.l3[lane] - ethernet::HEADER_LEN as u16;
        meta.ip_len[lane] += ipip::OVERHEAD as u32;
        burst.v4 |= 1 << lane;
        burst.v6 &= !(1 << lane);
        state.tracer.note(burst, lane, Stage::Encap, u32::from(outer.dst()), inner_len);
    }
}
