//! Stage 9: puts the outer header of a tunnel in front of the packet.
//!
//! The header was built with the adjacency; length, ECN, identification and
//! checksum are patched here. Frames keep 256 bytes of headroom, so nothing moves.

use encap::tunnel::ipip::{self, OuterIpv4};
use encap::wire::ethernet;

use crate::burst::{Burst, GsoKind, lanes};
use crate::counters::TunnelRun;
use crate::drop_reason::DropReason;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::Tables;

/// Bytes of the inner header that the outer one follows.
const START: usize = 8;
/// Bytes of the longest packet that fits behind an outer header.
const LARGEST_INNER: u32 = u16::MAX as u32 - ipip::OVERHEAD as u32;

/// Encapsulates the packets whose adjacency is a tunnel.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let mut way = None;
    let mut run = TunnelRun::NONE;
    let mut done = 0;
    for lane in lanes(burst.alive & burst.tunnelled) {
        let id = burst.meta.adjacency[lane];
        let (outer, tunnel) = match way {
            Some((known, outer, tunnel)) if known == id => (outer, tunnel),
            _ => {
                let adjacency = &tables.adjacencies[id.index()];
                let Some(outer) = &adjacency.tunnel else { continue };
                way = Some((id, outer, adjacency.tunnel_id));
                (outer, adjacency.tunnel_id)
            }
        };
        let inner_len = burst.meta.ip_len[lane];
        // A super-packet's outer length is that of no packet: each segment gets one, and an
        // identification, of its own.
        let gso = burst.gso(lane);
        let (pushed_len, more) = match gso.kind {
            GsoKind::None => (inner_len, 0),
            _ => (inner_len.min(LARGEST_INNER), inner_len / u32::from(gso.size.max(1))),
        };
        if !push(burst, lane, outer, pushed_len as u16, state) {
            state.drop_packet(burst, lane, DropReason::NoHeadroom);
            continue;
        }
        state.ip_id = state.ip_id.wrapping_add(more as u16);
        if let Some(ended) = run.add(tunnel, inner_len) {
            state.counters.sent_by_tunnel(ended);
        }
        let meta = &mut burst.meta;
        meta.l3[lane] -= ipip::OVERHEAD as u16;
        meta.len[lane] += ipip::OVERHEAD as u16;
        meta.offset[lane] = meta.l3[lane] - ethernet::HEADER_LEN as u16;
        meta.ip_len[lane] += ipip::OVERHEAD as u32;
        done |= 1 << lane;
        state.tracer.note(burst, lane, Stage::Encap, u32::from(outer.dst()), inner_len);
    }
    state.counters.sent_by_tunnel(run);
    burst.v4 |= done;
    burst.v6 &= !done;
}

/// Writes the outer header, if there is room for it and an Ethernet header.
#[inline]
fn push(burst: &mut Burst, lane: usize, outer: &OuterIpv4, inner_len: u16, state: &mut WorkerState) -> bool {
    let Some(at) = burst.meta.l3[lane].checked_sub(ipip::OVERHEAD as u16) else { return false };
    let id = state.next_ip_id();
    let header = state.pool.area().header_mut::<{ ipip::OVERHEAD + START }>(burst.frame_mut(lane), at);
    let Some(header) = header.filter(|_| usize::from(at) >= ethernet::HEADER_LEN) else { return false };
    let (space, inner) = header.split_at_mut(ipip::OVERHEAD);
    outer.push(space, inner, inner_len, id).is_ok()
}
