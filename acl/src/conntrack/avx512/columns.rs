//! Columns of a burst's headers in wide registers: a group of eight lanes at a time.
#![allow(unsafe_code)] // Loads and stores of whole groups.

use core::arch::x86_64::*;

use super::{GROUP, LOW};
use crate::conntrack::headers::LANES;

/// The full products of two columns, their halves folded.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn mix(a: __m512i, b: __m512i) -> __m512i {
    let low = _mm512_set1_epi64(LOW);
    let (a_high, b_high) = (_mm512_srli_epi64::<32>(a), _mm512_srli_epi64::<32>(b));
    let ll = _mm512_mul_epu32(a, b);
    let hl = _mm512_mul_epu32(a_high, b);
    let lh = _mm512_mul_epu32(a, b_high);
    let hh = _mm512_mul_epu32(a_high, b_high);
    // Neither sum exceeds 64 bits.
    let middle = _mm512_add_epi64(hl, _mm512_srli_epi64::<32>(ll));
    let cross = _mm512_add_epi64(lh, _mm512_and_si512(middle, low));
    let upper = _mm512_add_epi64(
        _mm512_add_epi64(hh, _mm512_srli_epi64::<32>(middle)),
        _mm512_srli_epi64::<32>(cross),
    );
    // cross << 32 | ll & low, xor upper
    let lower = _mm512_mask_blend_epi32(0xaaaa, ll, _mm512_slli_epi64::<32>(cross));
    _mm512_xor_si512(lower, upper)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(column: &[u64; LANES], group: usize) -> __m512i {
    // SAFETY: a group's eight words are 64 readable bytes.
    unsafe { _mm512_loadu_si512(column[group * GROUP..(group + 1) * GROUP].as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(column: &mut [u64; LANES], group: usize, words: __m512i) {
    // SAFETY: a group's eight words are 64 writable bytes.
    unsafe { _mm512_storeu_si512(column[group * GROUP..(group + 1) * GROUP].as_mut_ptr().cast(), words) }
}

/// Stores the words of some lanes of a group. Reading the others first is faster than a store with a mask.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_some(column: &mut [u64; LANES], group: usize, some: __mmask8, words: __m512i) {
    let others = load(column, group);
    store(column, group, _mm512_mask_mov_epi64(others, some, words));
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
pub(super) fn words(column: &[u32; LANES], group: usize) -> __m512i {
    // SAFETY: a group's eight numbers are 32 readable bytes.
    _mm512_cvtepu32_epi64(unsafe {
        _mm256_loadu_si256(column[group * GROUP..(group + 1) * GROUP].as_ptr().cast())
    })
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
pub(super) fn halves(column: &[u16; LANES], group: usize) -> __m512i {
    // SAFETY: a group's eight numbers are 16 readable bytes.
    _mm512_cvtepu16_epi64(unsafe {
        _mm_loadu_si128(column[group * GROUP..(group + 1) * GROUP].as_ptr().cast())
    })
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
pub(super) fn octets(column: &[u8; LANES], group: usize) -> __m512i {
    // SAFETY: a group's eight numbers are 8 readable bytes.
    _mm512_cvtepu8_epi64(unsafe {
        _mm_loadl_epi64(column[group * GROUP..(group + 1) * GROUP].as_ptr().cast())
    })
}

/// Eight rows of four words as four columns. The rows come in pairs: 0 and 2, 1 and 3, 4 and 6, 5 and 7.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transposed([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (even, even_above) = (_mm512_unpacklo_epi64(a, b), _mm512_unpacklo_epi64(c, d));
    let (odd, odd_above) = (_mm512_unpackhi_epi64(a, b), _mm512_unpackhi_epi64(c, d));
    [
        _mm512_shuffle_i64x2::<0x88>(even, even_above),
        _mm512_shuffle_i64x2::<0x88>(odd, odd_above),
        _mm512_shuffle_i64x2::<0xdd>(even, even_above),
        _mm512_shuffle_i64x2::<0xdd>(odd, odd_above),
    ]
}
