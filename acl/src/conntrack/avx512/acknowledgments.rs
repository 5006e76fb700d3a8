//! What [`acknowledgment`] makes of one segment, for eight: the same sums and bounds, two of 32 bits in each lane, and
//! masks where it has conditions.
//!
//! [`acknowledgment`]: crate::conntrack::tcp::established::acknowledgment

use core::arch::x86_64::*;

use super::LOW;
use crate::conntrack::tcp::Kind;
use crate::conntrack::tcp::established::{ACKNOWLEDGED, KEPT, MAX_UNITS, NOT_CHECKED, UNITS_SHIFT};
use crate::conntrack::window::ACK_SLACK;

/// Columns of what segments say.
#[derive(Clone, Copy)]
pub(super) struct Segments {
    /// Lanes that go against the flow's original direction.
    pub(super) reply: __mmask8,
    pub(super) seq: __m512i,
    pub(super) ack: __m512i,
    pub(super) payload: __m512i,
    pub(super) window: __m512i,
}

/// Columns of the words of their connections.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) sender: __m512i,
    pub(super) receiver: __m512i,
    pub(super) windows: __m512i,
    pub(super) last: __m512i,
}

/// The words after the segments, where they fit: lanes of which both bits are set in the mask of 32-bit halves.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn acknowledgments(known: Known, segments: Segments) -> (__mmask16, Known) {
    let Known { sender, receiver, windows, last } = known;
    let Segments { reply, seq, ack, payload, window } = segments;
    let zero = _mm512_setzero_si512();
    let both = |upper: u32, lower: u32| _mm512_set1_epi64((u64::from(upper) << 32 | u64::from(lower)) as i64);
    // Offered by the receiver || by the sender.
    let turned = _mm512_mask_mov_epi64(_mm512_rol_epi64::<32>(windows), reply, windows);
    let units = _mm512_srli_epi32::<UNITS_SHIFT>(turned);
    let offered = _mm512_slli_epi32::<4>(units);
    // The sender's || the receiver's.
    let offers = _mm512_rol_epi64::<32>(offered);
    let window_there = _mm512_and_si512(offers, _mm512_set1_epi64(LOW));
    // Upper bounds: end of what the receiver sent || number that it can take.
    let upper = _mm512_add_epi32(receiver, window_there);
    let first = _mm512_or_si512(_mm512_slli_epi64::<32>(ack), seq);
    let beyond = _mm512_sub_epi32(first, upper);
    // Lower bounds: the same end || newest of what the sender has sent and the receiver can take.
    let own_end = _mm512_srli_epi64::<32>(sender);
    let ahead = _mm512_max_epi32(_mm512_sub_epi32(own_end, upper), zero);
    let newest = _mm512_sub_epi32(own_end, ahead);
    let newest = _mm512_mask_mov_epi32(receiver, LOWER, newest);
    let slack = _mm512_max_epu32(offers, both(ACK_SLACK, 0));
    let end = _mm512_add_epi32(first, payload);
    let above = _mm512_add_epi32(_mm512_sub_epi32(end, newest), _mm512_add_epi32(slack, both(1, 1)));

    let fits = _mm512_test_epi32_mask(offered, offered);
    let fits = _mm512_mask_test_epi32_mask(fits, turned, both(ACKNOWLEDGED, ACKNOWLEDGED));
    let fits = _mm512_mask_testn_epi32_mask(fits, last, _mm512_set1_epi64(NOT_CHECKED as i64));
    let fits = _mm512_mask_cmple_epi32_mask(fits, beyond, zero);
    let fits = _mm512_mask_cmpgt_epi32_mask(fits, above, zero);

    // End || acknowledged: each grows, or stays.
    let grown = _mm512_max_epi32(_mm512_sub_epi32(_mm512_rol_epi64::<32>(end), sender), zero);
    // Only the sender's half has a window to be compared with.
    let shift = _mm512_and_si512(_mm512_srli_epi32::<2>(turned), both(0xf, 0xf));
    let scaled = _mm512_add_epi32(_mm512_sllv_epi32(window, shift), both(0, 15));
    let now = _mm512_min_epu32(_mm512_srli_epi32::<4>(scaled), both(0, MAX_UNITS));
    let now = _mm512_slli_epi32::<UNITS_SHIFT>(_mm512_max_epu32(units, now));
    let rest = (1 << UNITS_SHIFT) - 1;
    let turned = _mm512_or_si512(now, _mm512_and_si512(turned, both(rest, rest)));
    let kind = (Kind::Ack as i64) << 40;
    let kind = _mm512_mask_mov_epi64(_mm512_set1_epi64(kind), reply, _mm512_set1_epi64(kind | 1 << 39));
    let end = _mm512_and_si512(end, _mm512_set1_epi64(LOW));
    let kept = _mm512_and_si512(last, _mm512_set1_epi64(KEPT as i64));
    let segment = _mm512_or_si512(_mm512_slli_epi64::<48>(window), end);
    let after = Known {
        sender: _mm512_add_epi32(sender, grown),
        receiver,
        windows: _mm512_mask_mov_epi64(_mm512_rol_epi64::<32>(turned), reply, turned),
        last: _mm512_or_si512(_mm512_or_si512(kept, kind), segment),
    };
    (fits, after)
}

/// The lower halves of all lanes.
const LOWER: __mmask16 = 0x5555;
