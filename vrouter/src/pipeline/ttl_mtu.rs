//! Stage 8: time to live and size.
//!
//! TTL (hop limit) goes down by one per node for what passes through, as in Linux:
//! not for what the node's own stack sends or receives, and not for what the router
//! originates. A packet larger than the adjacency's MTU is fragmented if it is IPv4
//! without don't-fragment, else answered by ICMP with the MTU that fits
//! (RFC 1191 4, RFC 8201 3).

use crate::burst::{Burst, GsoKind, LANES, Meta, are_few, lanes};
use crate::drop_reason::DropReason;
use crate::frame::columns::Columns;
use crate::pipeline::parse::offload;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::pipeline::{fragment, icmp_error};
use crate::tables::Tables;
use crate::vector;
use encap::wire::checksum;

/// Ages and measures every packet.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let aging = !(burst.originated | burst.from_host | burst.to_host);
    let plain = burst.alive & aging & !burst.offloaded() & !burst.traced;
    let aged = if are_few(plain) {
        lanes(plain).fold(0, |aged, lane| aged | u64::from(age_one(burst, lane, state)) << lane)
    } else {
        let fitting = fits(&burst.meta, plain);
        age(burst, fitting, state)
    };
    for lane in lanes(burst.alive & !aged) {
        let v4 = burst.v4 >> lane & 1 == 1;
        let ages = aging >> lane & 1 == 1;
        if ages && hops_left(burst, lane, v4, state) <= 1 {
            icmp_error::time_exceeded(burst, lane, tables, state);
            let reason = if v4 { DropReason::TtlExpired } else { DropReason::HopLimitExpired };
            state.drop_packet(burst, lane, reason);
            continue;
        }
        let size = packet_size(burst, lane, state);
        let mtu = burst.meta.mtu[lane];
        if size > mtu {
            // Checked before the TTL is touched: the ICMP error quotes the packet
            // as it came.
            let v4_may_fragment = v4 && may_fragment(burst, lane, state);
            if !v4_may_fragment {
                state.tracer.note(burst, lane, Stage::TtlMtu, size, mtu);
                icmp_error::too_big(burst, lane, mtu, tables, state);
                let reason = if v4 { DropReason::FragmentationNeeded } else { DropReason::PacketTooBig };
                state.drop_packet(burst, lane, reason);
                continue;
            }
        }
        if ages {
            decrement(burst, lane, v4, state);
        }
        state.tracer.note(burst, lane, Stage::TtlMtu, size, u32::MAX);
        if size > mtu {
            fragment::packet(burst, lane, mtu, tables, state);
        }
    }
}

vector::widest! {
    /// Packets that need no cutting.
    fn fits(meta: &Meta, mask: u64) -> u64 {
        vector::mask(mask, |lane| meta.ip_len[lane] <= meta.mtu[lane])
    }
}

/// Ages packets that live on, as nearly all do; which they were.
#[inline]
fn age(burst: &mut Burst, mask: u64, state: &mut WorkerState) -> u64 {
    if mask == 0 {
        return 0;
    }
    let (area, v4) = (state.pool.area(), burst.v4);
    let known = mask & !burst.in_columns == 0;
    let (frames, meta) = burst.frames_mut();
    let [start, parsed, _] = &mut *state.columns;
    if !known {
        area.columns(frames, &meta.l3, [0], mask, core::array::from_mut(start));
    }
    let start = if known { parsed } else { start };
    let (mut words, mut places) = ([0; LANES], [0; LANES]);
    let living = aged(start, mask, v4, &meta.l3, &mut words, &mut places);
    area.put_words(frames, &places, living, &words)
}

/// The same for one packet, if it needs no cutting: whether it was aged.
#[inline]
fn age_one(burst: &mut Burst, lane: usize, state: &mut WorkerState) -> bool {
    let (v4, meta) = (burst.v4 >> lane & 1 == 1, &burst.meta);
    if meta.ip_len[lane] > meta.mtu[lane] {
        return false;
    }
    let at = meta.l3[lane].wrapping_add(if v4 { 8 } else { 4 });
    let Some(word) = state.pool.area().header_mut::<4>(burst.frame_mut(lane), at) else { return false };
    let old = u32::from_le_bytes(*word);
    let (hops, aged) = if v4 { (old & 0xff, aged_v4(old)) } else { (old >> 24, old.wrapping_sub(1 << 24)) };
    if hops > 1 {
        *word = aged.to_le_bytes();
    }
    hops > 1
}

vector::widest! {
    /// The word of each header that holds the TTL, aged, and where it lies; which packets live on.
    fn aged(start: &Columns, mask: u64, v4: u64, l3: &[u16; LANES], words: &mut [u32; LANES], places: &mut [u16; LANES]) -> u64 {
        let [_, second, third, _] = &start.0;
        vector::each(mask, |lane| {
            let is_v4 = v4 >> lane & 1 == 1;
            words[lane] = if is_v4 { aged_v4(third[lane]) } else { second[lane].wrapping_sub(1 << 24) };
            places[lane] = l3[lane].wrapping_add(if is_v4 { 8 } else { 4 });
        });
        vector::mask(mask, |lane| {
            let hops = if v4 >> lane & 1 == 1 { third[lane] & 0xff } else { second[lane] >> 24 };
            hops > 1
        })
    }
}

/// TTL, protocol and checksum, as they lie in memory, with the TTL one less.
///
/// RFC 1624 3: the checksum is then higher by 0x100, in one's complement; with the octets as they
/// lie here, higher by one. All ones become zero, as there.
#[inline(always)]
fn aged_v4(third: u32) -> u32 {
    let sum = (third >> 16) + 1;
    let sum = sum + u32::from(sum >= 0xffff);
    (third & 0xffff).wrapping_sub(1) | (sum << 16)
}

/// What the MTU is compared with: the packet, or one segment of a super-packet.
#[inline]
fn packet_size(burst: &Burst, lane: usize, state: &WorkerState) -> u32 {
    let gso = burst.gso(lane);
    if gso.kind == GsoKind::None {
        return burst.meta.ip_len[lane];
    }
    // The first segment is as large as any.
    offload::headers_len(burst, lane, gso, state.pool.area()) + u32::from(gso.size)
}

#[inline]
fn may_fragment(burst: &Burst, lane: usize, state: &WorkerState) -> bool {
    burst.network(lane, state.pool.area()).get(6).is_some_and(|flags| flags & 0x40 == 0)
}

/// TTL or hop limit as the packet came.
#[inline]
fn hops_left(burst: &Burst, lane: usize, v4: bool, state: &WorkerState) -> u8 {
    let at = if v4 { 8 } else { 7 };
    burst.network(lane, state.pool.area()).get(at).copied().unwrap_or(0)
}

/// Counts TTL or hop limit down by one.
#[inline]
fn decrement(burst: &mut Burst, lane: usize, v4: bool, state: &WorkerState) {
    let ip = burst.network_mut(lane, state.pool.area());
    if v4 {
        let Some(header) = ip.first_chunk_mut::<12>() else { return };
        let old = u16::from_be_bytes([header[8], header[9]]);
        let sum = u16::from_be_bytes([header[10], header[11]]);
        header[8] -= 1;
        let sum = checksum::update16(sum, old, old - 0x100);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    } else if let Some(hops) = ip.get_mut(7) {
        *hops -= 1;
    }
}
