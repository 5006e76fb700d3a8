//! Heads of eight entries, read at once from memory that others change.
#![allow(unsafe_code)] // Loads of shared words by assembly.

use core::arch::asm;
use core::arch::x86_64::*;

use super::GROUP;
use super::columns::transposed;

/// The addresses, rests and policies of eight heads.
///
/// # Safety
/// Each head is 32 readable bytes, aligned to 32.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) unsafe fn keys_and_policies(at: [*const u8; GROUP]) -> [__m512i; 3] {
    let pair = |low: *const u8, high: *const u8| -> __m512i {
        let both;
        // SAFETY: as the caller promises; see the module above about shared words.
        unsafe {
            asm!(
                "vmovdqa {both:y}, ymmword ptr [{low}]",
                "vinserti64x4 {both}, {both}, ymmword ptr [{high}], 1",
                low = in(reg) low,
                high = in(reg) high,
                both = out(zmm_reg) both,
                options(nostack, preserves_flags, readonly)
            );
        }
        both
    };
    let [_, address, rest, policy] =
        transposed([pair(at[0], at[2]), pair(at[1], at[3]), pair(at[4], at[6]), pair(at[5], at[7])]);
    [address, rest, policy]
}

/// The states of eight heads.
///
/// # Safety
/// As [`keys_and_policies`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) unsafe fn states(at: [*const u8; GROUP]) -> __m512i {
    let pair = |low: *const u8, high: *const u8| -> __m128i {
        let both;
        // SAFETY: as the caller promises; see the module above about shared words.
        unsafe {
            asm!(
                "vmovq {both}, qword ptr [{low}]",
                "vmovhps {both}, {both}, qword ptr [{high}]",
                low = in(reg) low,
                high = in(reg) high,
                both = out(xmm_reg) both,
                options(nostack, preserves_flags, readonly)
            );
        }
        both
    };
    let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(pair(at[0], at[1])), pair(at[2], at[3]));
    let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(pair(at[4], at[5])), pair(at[6], at[7]));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}
