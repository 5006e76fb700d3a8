//! The same code, compiled twice: for any CPU, and for one with AVX-512.
//!
//! ```text
//!   widest! { fn checks(..) {..} }   -->  checks    AVX-512 at hand? wide : plain
//!                                          |- plain  as the rest is compiled
//!                                          '- wide   the same body, with registers of 64 bytes
//! ```
//!
//! Stages that check or change the same fact of all 64 lanes are plain loops over arrays; the
//! compiler turns them into vector instructions as wide as it may use. But for one instruction that every
//! CPU has, nothing here chooses them by hand, and both copies are the same Rust, so they give the same
//! answers.

#![allow(unsafe_code, reason = "calls of functions that need CPU features, an instruction of SSE2")]

/// Lanes of a mask.
const LANES: usize = u64::BITS as usize;
/// Lanes that are looked at together.
const GROUP: usize = 16;

#[cfg(all(target_arch = "x86_64", not(miri)))]
static HAS_AVX512: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("lzcnt")
        && std::arch::is_x86_feature_detected!("popcnt")
});

/// Whether this CPU has the parts of AVX-512 that are used here.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
pub(crate) fn has_avx512() -> bool {
    *HAS_AVX512
}

/// Makes a function that runs as it was compiled for the widest registers of this CPU. What it
/// calls must be inlined (`#[inline(always)]`) to be part of that.
macro_rules! widest {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    ) => {
        $(#[$meta])*
        #[inline]
        $vis fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            fn plain($($arg: $type),*) $(-> $result)? $body

            #[cfg(all(target_arch = "x86_64", not(miri)))]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,bmi2,lzcnt,popcnt")]
            fn wide($($arg: $type),*) $(-> $result)? {
                plain($($arg),*)
            }

            #[cfg(all(target_arch = "x86_64", not(miri)))]
            if $crate::vector::has_avx512() {
                #[allow(unsafe_code)]
                // SAFETY: the CPU has what the function is compiled for.
                return unsafe { wide($($arg),*) };
            }
            plain($($arg),*)
        }
    };
}
pub(crate) use widest;

/// Groups of lanes that have to be looked at where all lanes of interest are in `over`: one for a
/// small burst, whose lanes are the first ones, else all. Two fixed numbers, so that the loops over
/// them can be laid out flat: that is worth a sixth of the whole path.
#[inline(always)]
pub(crate) fn groups(over: u64) -> usize {
    if over >> GROUP == 0 { 1 } else { LANES / GROUP }
}

/// Does something for each lane of the groups of `over`, the lanes not in it included.
#[inline(always)]
pub(crate) fn each(over: u64, work: impl FnMut(usize)) {
    match groups(over) {
        1 => (0..GROUP).for_each(work),
        _ => (0..LANES).for_each(work),
    }
}

/// The lanes of `over` that pass a test, as a mask. The test is asked about others as well.
#[inline(always)]
pub(crate) fn mask(over: u64, test: impl Fn(usize) -> bool) -> u64 {
    over & match groups(over) {
        1 => bits::<GROUP>(test),
        _ => bits::<LANES>(test),
    }
}

/// The first `N` lanes that pass a test.
#[inline(always)]
fn bits<const N: usize>(test: impl Fn(usize) -> bool) -> u64 {
    let mut passes = [0_u8; N];
    // A loop rather than `from_fn`, which is not always made part of its caller.
    for (lane, passes) in passes.iter_mut().enumerate() {
        *passes = u8::from(test(lane)).wrapping_neg();
    }
    let (groups, _) = passes.as_chunks::<GROUP>();
    groups.iter().enumerate().fold(0, |mask, (n, group)| mask | u64::from(highest_bits(group)) << (GROUP * n))
}

/// The highest bit of each byte. The compiler knows what this instruction does: where bytes come from a
/// comparison of wide registers, the bits of its result are taken and there are no bytes.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn highest_bits(bytes: &[u8; GROUP]) -> u16 {
    use core::arch::x86_64::{_mm_loadu_si128, _mm_movemask_epi8};
    // SAFETY: sixteen bytes are the size of the register; every x86-64 CPU has SSE2.
    unsafe { _mm_movemask_epi8(_mm_loadu_si128(bytes.as_ptr().cast())) as u16 }
}

/// The highest bit of each byte.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
fn highest_bits(bytes: &[u8; GROUP]) -> u16 {
    bytes.iter().enumerate().fold(0, |bits, (n, byte)| bits | u16::from(byte >> 7) << n)
}

#[cfg(test)]
mod tests {
    use super::*;

    widest! {
        fn wide_mask(over: u64, odd: u64) -> u64 {
            mask(over, |lane| odd >> lane & 1 == 1)
        }
    }

    #[test]
    fn a_mask_has_the_bits_of_the_lanes_that_pass() {
        for over in [0, 1, 0x8000, 0x1_0000, 0xffff_ffff, 1 << 63, u64::MAX, 0x0f0f_3333_5555_0001] {
            for odd in [0, u64::MAX, 0x8000_0000_0000_0000, 0x0123_4567_89ab_cdef, 0xf0f0_0ff0_1111_8421] {
                assert_eq!(mask(over, |lane| odd >> lane & 1 == 1), over & odd);
                assert_eq!(wide_mask(over, odd), over & odd);
            }
        }
    }

    #[test]
    fn each_lane_of_interest_is_visited_once() {
        for (over, lanes) in [(0, 16), (1, 16), (0x8000, 16), (0x1_0000, 64), (1 << 40, 64), (u64::MAX, 64)] {
            let mut visited = Vec::new();
            each(over, |lane| visited.push(lane));
            assert_eq!(visited, (0..lanes).collect::<Vec<_>>());
        }
    }
}
