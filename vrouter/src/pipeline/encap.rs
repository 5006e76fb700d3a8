//! Stage 9: puts the outer header of a tunnel in front of the packet.
//!
//! The header was built with the adjacency; length, ECN, identification and
//! checksum are patched here. Frames keep 256 bytes of headroom, so nothing moves.
//!
//! Where a burst has many, the headers are made side by side, a column a word, and written from there.

use encap::tunnel::ipip::{self, Inner, OuterIpv4};
use encap::wire::ethernet;

use crate::burst::{Burst, GsoKind, LANES, Meta, are_few, lanes};
use crate::counters::TunnelRun;
use crate::drop_reason::DropReason;
use crate::frame::columns::Columns;
use crate::ids::{AdjacencyId, TunnelId};
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::Tables;
use crate::vector;

/// Bytes of the inner header that the outer one follows.
const START: usize = 8;
/// Bytes of the longest packet that fits behind an outer header.
const LARGEST_INNER: u32 = u16::MAX as u32 - ipip::OVERHEAD as u32;
/// As offsets count.
const OVERHEAD: u16 = ipip::OVERHEAD as u16;
const ETHERNET: u16 = ethernet::HEADER_LEN as u16;

/// Encapsulates the packets whose adjacency is a tunnel.
#[inline]
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let mask = burst.alive & burst.tunnelled;
    if mask != 0 {
        packets(burst, mask, tables, state);
    }
}

fn packets(burst: &mut Burst, mask: u64, tables: &Tables, state: &mut WorkerState) {
    let plain = mask & !burst.offloaded() & !burst.traced;
    let done = if are_few(plain) { 0 } else { side_by_side(burst, plain, tables, state) };
    one_by_one(burst, mask & !done, tables, state);
    // Those without room are gone.
    let done = burst.alive & mask;
    burst.v4 |= done;
    burst.v6 &= !done;
}

/// Encapsulates ordinary packets. Returns those that have their header; it tells nothing of others.
fn side_by_side(burst: &mut Burst, mask: u64, tables: &Tables, state: &mut WorkerState) -> u64 {
    let v6 = burst.v6;
    let (frames, meta) = burst.frames_mut();
    let area = state.pool.area();
    let [start, outer, end] = &mut *state.columns;
    let mut places = [0; LANES];
    let roomy = starts(meta, mask, &mut places);
    // Read up to the word that `ttl_mtu` has just written: a load that takes in what a narrower store
    // wrote waits for it.
    area.columns(frames, &places, [0], roomy, core::array::from_mut(start));
    let mut runs = [(TunnelId::NONE, 0); LANES];
    let mut ways = 0;
    let mut rest = roomy;
    while let Some(first) = lanes(rest).next() {
        let along = same_adjacency(&meta.adjacency, meta.adjacency[first], rest);
        // Most bursts go into few tunnels. Where one does not, the rest is quicker one by one.
        if are_few(along) {
            break;
        }
        rest &= !along;
        let adjacency = &tables.adjacencies[meta.adjacency[first].index()];
        let Some(tunnel) = &adjacency.tunnel else { continue };
        headers(tunnel, along, v6, state.ip_id, meta, start, outer, &mut end.0[0]);
        runs[ways] = (adjacency.tunnel_id, along);
        ways += 1;
    }
    state.ip_id = state.ip_id.wrapping_add(LANES as u16);
    outer_places(meta, &mut places);
    let written = area.put_columns(frames, &places, roomy & !rest, outer);
    last_places(&mut places);
    let written = written & area.put_words(frames, &places, written, &end.0[0]);
    for (tunnel, along) in &runs[..ways] {
        let sent = along & written;
        let run = TunnelRun::new(*tunnel, sent.count_ones().into(), meta.ip_bytes(sent));
        state.counters.sent_by_tunnel(run);
    }
    lengthen(meta, written);
    written
}

vector::widest! {
    /// The packets that have room for both headers and may be as long as they become. `places` is where
    /// to read, eight bytes in front of each.
    fn starts(meta: &Meta, mask: u64, places: &mut [u16; LANES]) -> u64 {
        vector::each(mask, |lane| places[lane] = meta.l3[lane].wrapping_sub(START as u16));
        vector::mask(mask, |lane| {
            (meta.l3[lane] >= OVERHEAD + ETHERNET) & (meta.ip_len[lane] <= LARGEST_INNER)
        })
    }
}

vector::widest! {
    fn same_adjacency(adjacencies: &[AdjacencyId; LANES], id: AdjacencyId, mask: u64) -> u64 {
        vector::mask(mask, |lane| adjacencies[lane] == id)
    }
}

vector::widest! {
    /// The headers of the packets of one tunnel: four words each to `outer`, the last to `end`.
    /// Identifications are `id` and on.
    #[allow(clippy::too_many_arguments)]
    fn headers(
        tunnel: &OuterIpv4,
        along: u64,
        v6: u64,
        id: u16,
        meta: &Meta,
        start: &Columns,
        outer: &mut Columns,
        end: &mut [u32; LANES],
    ) {
        vector::each(along, |lane| {
            let start = [start.0[2][lane], start.0[3][lane]];
            let total_len = (meta.ip_len[lane] as u16).wrapping_add(OVERHEAD);
            let id = id.wrapping_add(lane as u16);
            let four = tunnel.words(Inner::Ipv4, start, total_len, id);
            let six = tunnel.words(Inner::Ipv6, start, total_len, id);
            let words = if v6 >> lane & 1 == 1 { six } else { four };
            let along = along >> lane & 1 == 1;
            let [front @ .., last] = words;
            for (column, word) in outer.0.iter_mut().zip(front) {
                column[lane] = if along { word } else { column[lane] };
            }
            end[lane] = if along { last } else { end[lane] };
        });
    }
}

vector::widest! {
    fn outer_places(meta: &Meta, places: &mut [u16; LANES]) {
        vector::each(u64::MAX, |lane| places[lane] = meta.l3[lane].wrapping_sub(OVERHEAD));
    }
}

vector::widest! {
    fn last_places(places: &mut [u16; LANES]) {
        vector::each(u64::MAX, |lane| places[lane] = places[lane].wrapping_add(OVERHEAD - 4));
    }
}

vector::widest! {
    /// Notes the outer header as the packet's.
    fn lengthen(meta: &mut Meta, mask: u64) {
        vector::each(mask, |lane| {
            let more = if mask >> lane & 1 == 1 { OVERHEAD } else { 0 };
            meta.len[lane] = meta.len[lane].wrapping_add(more);
            meta.ip_len[lane] += u32::from(more);
            let l3 = meta.l3[lane].wrapping_sub(more);
            meta.l3[lane] = l3;
            meta.offset[lane] = if more != 0 { l3.wrapping_sub(ETHERNET) } else { meta.offset[lane] };
        });
    }
}

/// Encapsulates any packet; one without room is dropped.
fn one_by_one(burst: &mut Burst, mask: u64, tables: &Tables, state: &mut WorkerState) {
    let mut run = TunnelRun::NONE;
    for lane in lanes(mask) {
        let adjacency = &tables.adjacencies[burst.meta.adjacency[lane].index()];
        let Some(outer) = &adjacency.tunnel else { continue };
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
        if let Some(ended) = run.add(adjacency.tunnel_id, inner_len) {
            state.counters.sent_by_tunnel(ended);
        }
        let meta = &mut burst.meta;
        meta.l3[lane] -= OVERHEAD;
        meta.len[lane] += OVERHEAD;
        meta.offset[lane] = meta.l3[lane] - ETHERNET;
        meta.ip_len[lane] += u32::from(OVERHEAD);
        state.tracer.note(burst, lane, Stage::Encap, u32::from(outer.dst()), inner_len);
    }
    state.counters.sent_by_tunnel(run);
}

/// Writes the outer header, if there is room for it and an Ethernet header.
#[inline]
fn push(burst: &mut Burst, lane: usize, outer: &OuterIpv4, inner_len: u16, state: &mut WorkerState) -> bool {
    let Some(at) = burst.meta.l3[lane].checked_sub(OVERHEAD) else { return false };
    let id = state.next_ip_id();
    let header = state.pool.area().header_mut::<{ ipip::OVERHEAD + START }>(burst.frame_mut(lane), at);
    let Some(header) = header.filter(|_| at >= ETHERNET) else { return false };
    let (space, inner) = header.split_at_mut(ipip::OVERHEAD);
    outer.push(space, inner, inner_len, id).is_ok()
}
