//! Bodies of eight entries: the lock of their connections, their words as columns, and pairs of words written back.
#![allow(unsafe_code)] // Loads and stores of shared words by assembly.

use core::arch::asm;
use core::arch::x86_64::*;

use super::GROUP;
use super::columns::transposed;

/// Locks the words of eight connections, as [`Connection::try_lock`] does; returns the lanes that now have theirs. A
/// lock that is taken stays as it is: of two lanes with one body, one has it.
///
/// [`Connection::try_lock`]: crate::conntrack::tcp::connection::Connection::try_lock
///
/// # Safety
/// Each body is 64 bytes of atomic words, aligned to 64.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) unsafe fn lock(at: [*const u8; GROUP]) -> __mmask8 {
    let mut taken = 0_u32;
    for body in at.into_iter().rev() {
        // SAFETY: changes a bit of word 3, as the caller promises; see the module above about shared words.
        unsafe {
            asm!(
                "lock bts qword ptr [{body} + 24], 32",
                "adc {taken:e}, {taken:e}",
                body = in(reg) body,
                taken = inout(reg) taken,
                options(nostack)
            );
        }
    }
    !taken as u8
}

/// Half of each body as four columns: the first half at 0, the second at 32.
///
/// # Safety
/// As [`lock`]; `OFFSET` is one of the two.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) unsafe fn columns<const OFFSET: usize>(at: [*const u8; GROUP]) -> [__m512i; 4] {
    let half = |body: *const u8| -> __m256i {
        let words;
        // SAFETY: as the caller promises; see the module above about shared words.
        unsafe {
            asm!(
                "vmovdqa {words}, ymmword ptr [{body} + {offset}]",
                body = in(reg) body,
                words = out(ymm_reg) words,
                offset = const OFFSET,
                options(nostack, preserves_flags, readonly)
            );
        }
        words
    };
    let pair = |low, high| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(half(low)), half(high));
    transposed([pair(at[0], at[2]), pair(at[1], at[3]), pair(at[4], at[6]), pair(at[5], at[7])])
}

/// Writes two neighbouring words of each body, both at once, at `OFFSET`.
///
/// # Safety
/// As [`lock`], and the words may be written; `OFFSET` is a multiple of 16 below 64.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) unsafe fn write<const OFFSET: usize>(at: [*const u8; GROUP], first: __m512i, second: __m512i) {
    let put = |body: *const u8, words: __m128i| {
        // SAFETY: as the caller promises; see the module above about shared words.
        unsafe {
            asm!(
                "vmovdqa xmmword ptr [{body} + {offset}], {words}",
                body = in(reg) body,
                words = in(xmm_reg) words,
                offset = const OFFSET,
                options(nostack, preserves_flags)
            );
        }
    };
    let (even, odd) = (_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
    for (from, mut pairs) in [even, odd].into_iter().enumerate() {
        // SAFETY: does nothing. The compiler would make these pairs one by one.
        unsafe { asm!("/* {0} */", inout(zmm_reg) pairs, options(nomem, nostack, preserves_flags)) };
        put(at[from], _mm512_castsi512_si128(pairs));
        put(at[from + 2], _mm512_extracti64x2_epi64::<1>(pairs));
        put(at[from + 4], _mm512_extracti64x2_epi64::<2>(pairs));
        put(at[from + 6], _mm512_extracti64x2_epi64::<3>(pairs));
    }
}
