//! Stage 8: time to live and size.
//!
//! TTL (hop limit) goes down by one per node for what passes through, as in Linux:
//! not for what the node's own stack sends or receives, and not for what the router
//! originates. A packet larger than the adjacency's MTU is fragmented if it is IPv4
//! without don't-fragment, else answered by ICMP with the MTU that fits
//! (RFC 1191 4, RFC 8201 3).

use crate::burst::{Burst, Gso, GsoKind, Meta, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::pipeline::{fragment, icmp_error};
use crate::tables::Tables;
use crate::vector;
use encap::wire::checksum;

/// Ages and measures every packet.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let aging = !(burst.originated | burst.from_host | burst.to_host);
    let plain = burst.alive & aging & fits(&burst.meta) & !burst.offloaded() & !burst.traced;
    let aged = age_v4(burst, plain & burst.v4, state) | age_v6(burst, plain & burst.v6, state);
    for lane in lanes(burst.alive & !aged) {
        let v4 = burst.v4 >> lane & 1 == 1;
        let ages = aging >> lane & 1 == 1;
        if ages && hops_left(burst, lane, v4, state) <= 1 {
            icmp_error::time_exceeded(burst, lane, tables, state);
            let reason = if v4 { DropReason::TtlExpired } else { DropReason::HopLimitExpired };
            state.drop_packet(burst, lane, reason);
            continue;
        }
        let size = packet_size(burst, lane, burst.gso(lane));
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
    fn fits(meta: &Meta) -> u64 {
        vector::mask(|lane| meta.ip_len[lane] <= meta.mtu[lane])
    }
}

/// Ages IPv4 packets that live on, as nearly all do; which they were.
#[inline]
fn age_v4(burst: &mut Burst, mask: u64, state: &WorkerState) -> u64 {
    let (mut aged, area) = (0, state.pool.area());
    for lane in lanes(mask) {
        let l3 = burst.meta.l3[lane];
        let Some(header) = area.header_mut::<12>(burst.frame_mut(lane), l3) else { continue };
        let Some(word) = header.last_chunk_mut::<4>() else { continue };
        // TTL, protocol and checksum as they lie in memory.
        let third = u32::from_le_bytes(*word);
        if third & 0xff <= 1 {
            continue;
        }
        // RFC 1624 3: a TTL lower by one is a checksum higher by 0x100, in one's complement; with
        // the octets as they lie here, higher by one. All ones become zero, as there.
        let sum = (third >> 16) + 1;
        let sum = sum + u32::from(sum >= 0xffff);
        *word = ((third & 0xffff) - 1 | sum << 16).to_le_bytes();
        aged |= 1 << lane;
    }
    aged
}

/// Ages IPv6 packets that live on; which they were.
#[inline]
fn age_v6(burst: &mut Burst, mask: u64, state: &WorkerState) -> u64 {
    let (mut aged, area) = (0, state.pool.area());
    for lane in lanes(mask) {
        let l3 = burst.meta.l3[lane];
        let Some([.., hops]) = area.header_mut::<8>(burst.frame_mut(lane), l3) else { continue };
        let lives = *hops > 1;
        *hops -= u8::from(lives);
        aged |= u64::from(lives) << lane;
    }
    aged
}

/// What the MTU is compared with: the packet, or one segment of a super-packet.
#[inline]
fn packet_size(burst: &Burst, lane: usize, gso: Gso) -> u32 {
    let meta = &burst.meta;
    if gso.kind == GsoKind::None {
        return meta.ip_len[lane];
    }
    // Headers up to the transport header, a transport header of at most 60 bytes
    // is within the first segment by definition of the size.
    u32::from(meta.l4[lane] - meta.l3[lane]) + u32::from(gso.size)
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
