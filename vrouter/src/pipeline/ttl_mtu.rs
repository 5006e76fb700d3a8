//! Stage 8: time to live and size.
//!
//! TTL (hop limit) goes down by one per node for what passes through, as in Linux:
//! not for what the node's own stack sends or receives, and not for what the router
//! originates. A packet larger than the adjacency's MTU is fragmented if it is IPv4
//! without don't-fragment, else answered by ICMP with the MTU that fits
//! (RFC 1191 4, RFC 8201 3).

use crate::burst::{Burst, GsoKind, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::pipeline::{fragment, icmp_error};
use crate::tables::Tables;
use encap::wire::checksum;

/// Ages and measures every packet.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    for lane in lanes(burst.alive) {
        let v4 = burst.v4 >> lane & 1 == 1;
        let ages = (burst.originated | burst.from_host | burst.to_host) >> lane & 1 == 0;
        if ages && burst.traced == 0 && passes(burst, lane, v4, state) {
            continue;
        }
        if ages && hops_left(burst, lane, v4, state) <= 1 {
            icmp_error::time_exceeded(burst, lane, tables, state);
            let reason = if v4 { DropReason::TtlExpired } else { DropReason::HopLimitExpired };
            state.drop_packet(burst, lane, reason);
            continue;
        }
        let size = packet_size(burst, lane);
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

/// Ages a packet that lives on and fits, as nearly all do; whether it is one.
#[inline(always)]
fn passes(burst: &mut Burst, lane: usize, v4: bool, state: &WorkerState) -> bool {
    let (l3, area) = (burst.meta.l3[lane], state.pool.area());
    if burst.meta.gso[lane].kind != GsoKind::None || burst.meta.ip_len[lane] > burst.meta.mtu[lane] {
        return false;
    }
    let Some(header) = area.header_mut::<12>(burst.frame_mut(lane), l3) else { return false };
    if !v4 {
        let lives = header[7] > 1;
        header[7] -= u8::from(lives);
        return lives;
    }
    if header[8] <= 1 {
        return false;
    }
    header[8] -= 1;
    // RFC 1624 3: adding what -0x100 is in one's complement to the sum's complement.
    let sum = u32::from(!u16::from_be_bytes([header[10], header[11]])) + 0xfeff;
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..].copy_from_slice(&sum.to_be_bytes());
    true
}

/// What the MTU is compared with: the packet, or one segment of a super-packet.
#[inline]
fn packet_size(burst: &Burst, lane: usize) -> u32 {
    let meta = &burst.meta;
    if meta.gso[lane].kind == GsoKind::None {
        return meta.ip_len[lane];
    }
    // Headers up to the transport header, a transport header of at most 60 bytes
    // is within the first segment by definition of the size.
    u32::from(meta.l4[lane] - meta.l3[lane]) + u32::from(meta.gso[lane].size)
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
