//! The kernels for x86-64.
//!
//! Both go down in the same steps ([`steps`]), and in every step read for those lanes that are not at a leaf
//! yet. Whole bursts take all lanes through each step together; shorter ones go group by group, so
//! that no lane behind the last one costs anything. Lanes in between that are not in the mask go
//! down too, since every address has an answer, and are left out at the end.

#![allow(clippy::needless_range_loop, reason = "one group of lanes lies in several arrays")]

use crate::Address;
use crate::arena::{Generation, NIBBLE};
use crate::front::{self, Front};
use core::arch::asm;
use core::arch::x86_64::{
    __m128i, __m256i, __m512i, _MM_HINT_T1, _mm_cvtsi32_si128, _mm_loadu_si128, _mm_prefetch, _mm_setr_epi8,
    _mm256_broadcastsi128_si256, _mm256_castsi128_si256, _mm256_castsi256_ps, _mm256_cmpeq_epi32,
    _mm256_cmpgt_epi32, _mm256_inserti128_si256, _mm256_loadu_si256, _mm256_maskstore_epi32,
    _mm256_movemask_ps, _mm256_or_si256, _mm256_set1_epi32, _mm256_setr_epi32, _mm256_shuffle_epi8,
    _mm256_sllv_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm512_add_epi32, _mm512_and_si512, _mm512_broadcast_i32x4,
    _mm512_cmpeq_epi32_mask, _mm512_cmpgt_epi32_mask, _mm512_loadu_si512, _mm512_mask_mov_epi32,
    _mm512_mask_storeu_epi32, _mm512_permutex2var_epi32, _mm512_set1_epi32, _mm512_setr_epi32,
    _mm512_shuffle_epi8, _mm512_srli_epi32, _mm512_srlv_epi32, _mm512_storeu_si512,
};
use core::net::Ipv4Addr;

mod overwrite;
mod ranges;
mod vector;

pub(super) use overwrite::{overwrite_avx512, store_words_avx512};
pub(super) use ranges::ranges_avx512;
use vector::Vector;

/// Words in whole cache lines: a vector that straddles two is slow to read back.
#[repr(align(64))]
struct Words<const N: usize>([u32; N]);

/// The root's entries for `N` addresses from `first` on.
///
/// Single loads are under way sooner than those of a gather are, which pays where they miss the
/// nearest cache.
#[inline(always)]
fn roots<A: Address, const R: u8, const N: usize>(
    table: &Generation,
    addrs: &[A; 64],
    first: usize,
) -> Words<N> {
    debug_assert!(table.root_bits() == R);
    let mut entries = Words([0; N]);
    for (entry, addr) in entries.0.iter_mut().zip(&addrs[first..first + N]) {
        // SAFETY: the root has a slot for each number of R bits.
        *entry = unsafe { table.load_unchecked(addr.slice(0, R)) }.0;
    }
    entries
}

/// The 32 bits that hold the bits at `depth`, of eight addresses from `first` on.
#[inline]
#[target_feature(enable = "avx2")]
fn word_8<A: Address>(addrs: &[A; 64], first: usize, depth: u8) -> __m256i {
    const { assert!(size_of::<A>() == A::BITS as usize / 8) };
    let addrs: *const __m128i = addrs[first..first + 8].as_ptr().cast();
    // SAFETY: eight addresses are 32 or 128 bytes; each address is its octets in network order
    // and, by its size, nothing else.
    let words = unsafe {
        if A::BITS == 32 {
            _mm256_loadu_si256(addrs.cast())
        } else {
            // Address i beside address i + 4, so that both halves are transposed alike.
            let pair = |i| {
                let (low, high) = (_mm_loadu_si128(addrs.add(i)), _mm_loadu_si128(addrs.add(i + 4)));
                _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
            };
            let (a, b, c, d) = (pair(0), pair(1), pair(2), pair(3));
            let (left, right) = if depth < 64 {
                (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d))
            } else {
                (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d))
            };
            if (depth / 32).is_multiple_of(2) {
                _mm256_unpacklo_epi64(left, right)
            } else {
                _mm256_unpackhi_epi64(left, right)
            }
        }
    };
    let swap = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(swap))
}

/// As [`word_8`], of sixteen addresses.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn word_16<A: Address>(addrs: &[A; 64], first: usize, depth: u8) -> __m512i {
    const { assert!(size_of::<A>() == A::BITS as usize / 8) };
    let words: *const i32 = addrs[first..first + 16].as_ptr().cast();
    let word = i32::from(depth / 32);
    // SAFETY: 16 addresses are 16 or 64 words; each address is its octets in network order and,
    // by its size, nothing else.
    let words = unsafe {
        if A::BITS == 32 {
            _mm512_loadu_si512(words.cast())
        } else {
            // Every fourth word of eight addresses; the upper half repeats the lower.
            let lanes = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
            let lanes = _mm512_add_epi32(lanes, _mm512_set1_epi32(word));
            let load = |at| _mm512_loadu_si512(words.add(at).cast());
            let low = _mm512_permutex2var_epi32(load(0), lanes, load(16));
            let high = _mm512_permutex2var_epi32(load(32), lanes, load(48));
            _mm512_mask_mov_epi32(low, 0xff00, high)
        }
    };
    let swap = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(swap))
}

/// Reads `base[index]` in the lanes of `mask`, others keep what `from` holds.
///
/// # Safety
/// `base[index]` lies in a generation's lines for every lane in the mask.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn gather_16(mut from: __m512i, mask: u16, base: *const u32, index: __m512i) -> __m512i {
    // SAFETY: reads four bytes at `base[index]` in each lane of the mask, as the caller allows.
    unsafe {
        asm!(
            "vpgatherdd {from}{{{mask}}}, [{base} + {index} * 4]",
            from = inout(zmm_reg) from,
            mask = inout(kreg) mask => _,
            base = in(reg) base,
            index = in(zmm_reg) index,
            options(nostack, preserves_flags, readonly)
        );
    }
    from
}

/// Writes words to those lanes of `to` that `lanes` has. A store under a mask costs more.
///
/// # Safety
/// `to` has 16 lanes.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_16(to: *mut u32, lanes: u16, words: __m512i) {
    // SAFETY: as the caller promises.
    unsafe {
        match lanes {
            u16::MAX => _mm512_storeu_si512(to.cast(), words),
            _ => _mm512_mask_storeu_epi32(to.cast(), lanes, words),
        }
    }
}

/// As [`gather_16`] for 8 lanes; the mask is the sign of each lane of `mask`.
///
/// # Safety
/// As [`gather_16`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn gather_8(mut from: __m256i, mask: __m256i, base: *const u32, index: __m256i) -> __m256i {
    // SAFETY: reads four bytes at `base[index]` in each lane of the mask, as the caller allows.
    unsafe {
        asm!(
            "vpgatherdd {from}, [{base} + {index} * 4], {mask}",
            from = inout(ymm_reg) from,
            mask = inout(ymm_reg) mask => _,
            base = in(reg) base,
            index = in(ymm_reg) index,
            options(nostack, preserves_flags, readonly)
        );
    }
    from
}

/// Has the front's words for `N` addresses from `first` on fetched into the second cache.
///
/// Loads wait in the CPU's window until memory answers, and 64 gathered ones fill it: the next
/// burst's are not even seen by then. Prefetches leave the window at once, so that as many are
/// under way as there are places for misses. In a full table, addresses drawn evenly are found half
/// again as fast by it; where the caches hit it costs nothing that could be measured.
#[inline(always)]
fn prefetch_words<const N: usize>(front: &Front, addrs: &[Ipv4Addr; 64], first: usize) {
    for addr in &addrs[first..first + N] {
        prefetch(front.word(*addr));
    }
}

/// Has memory fetched into the second cache.
#[inline(always)]
pub(super) fn prefetch<T>(word: *const T) {
    // SAFETY: every x86-64 CPU has the instruction, and it faults for no address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(word.cast()) };
}

/// The front's words for sixteen addresses from `first` on.
///
/// Single loads, as in [`roots`]; in assembly, because the compiler would pass each word through
/// vector registers, at several times the cost.
#[inline(always)]
fn front_16(front: &Front, addrs: &[Ipv4Addr; 64], first: usize, words: &mut Words<64>) {
    macro_rules! loads {
        ($($offset:literal)*) => {
            // SAFETY: reads the octets of 16 addresses, each in network order, and the word of
            // the front for the first 24 bits of each, of which there are 2^24; writes 16 words.
            unsafe {
                asm!(
                    $(
                        concat!("mov {word:e}, dword ptr [{addrs} + ", $offset, "]"),
                        "bswap {word:e}",
                        "shr {word:e}, 8",
                        "movzx {word:e}, word ptr [{front} + {word} * 2]",
                        concat!("mov dword ptr [{words} + ", $offset, "], {word:e}"),
                    )*
                    word = out(reg) _,
                    addrs = in(reg) addrs[first..first + 16].as_ptr(),
                    front = in(reg) front.base(),
                    words = in(reg) words.0[first..first + 16].as_mut_ptr(),
                    options(nostack)
                );
            }
        };
    }
    loads!(0 4 8 12 16 20 24 28 32 36 40 44 48 52 56 60);
}

/// Answers the lanes in `mask` but for those it returns, which the trie has to answer.
///
/// A gather reads words in pairs, aligned to four bytes; the last bit of the first 24 says which
/// of a pair is meant.
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
pub(super) fn front_avx512(front: &Front, addrs: &[Ipv4Addr; 64], mask: u64, out: &mut [u32; 64]) -> u64 {
    if mask >> 48 != 0 {
        prefetch_words::<64>(front, addrs, 0);
        return front_steps::<4>(front, addrs, mask, 0, out);
    }
    let firsts = || (0..48).step_by(16).take_while(|&first| mask >> first != 0);
    firsts().for_each(|first| prefetch_words::<16>(front, addrs, first));
    firsts().fold(0, |down, first| down | front_steps::<1>(front, addrs, mask, first, out))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
fn front_steps<const G: usize>(
    front: &Front,
    addrs: &[Ipv4Addr; 64],
    mask: u64,
    first: usize,
    out: &mut [u32; 64],
) -> u64 {
    let base: *const u32 = front.base().cast();
    let (none, last) = (_mm512_set1_epi32(-1), _mm512_set1_epi32(i32::from(front::LAST_GROUP)));
    let to_down = _mm512_set1_epi32(i32::from(front::DOWN));
    let (sixteen, word) = (_mm512_set1_epi32(16), _mm512_set1_epi32(0xffff));
    let mut words = [none; G];
    for q in 0..G {
        let addrs = word_16(addrs, first + 16 * q, 0);
        // SAFETY: the front has 2^23 pairs of words.
        let pairs = unsafe { gather_16(none, u16::MAX, base, _mm512_srli_epi32::<9>(addrs)) };
        let odd = _mm512_and_si512(_mm512_srli_epi32::<4>(addrs), sixteen);
        words[q] = _mm512_and_si512(_mm512_srlv_epi32(pairs, odd), word);
    }
    let mut down = 0;
    for q in 0..G {
        let at = first + 16 * q;
        let lanes = (mask >> at) as u16;
        down |= u64::from(_mm512_cmpeq_epi32_mask(words[q], to_down) & lanes) << at;
        let groups = _mm512_mask_mov_epi32(words[q], _mm512_cmpgt_epi32_mask(words[q], last), none);
        // SAFETY: these are 16 lanes.
        unsafe { store_16(out[at..at + 16].as_mut_ptr(), lanes, groups) };
    }
    down
}

/// As [`front_avx512`].
#[target_feature(enable = "avx2,bmi2")]
pub(super) fn front_avx2(front: &Front, addrs: &[Ipv4Addr; 64], mask: u64, out: &mut [u32; 64]) -> u64 {
    let last = _mm256_set1_epi32(i32::from(front::LAST_GROUP));
    let to_down = _mm256_set1_epi32(i32::from(front::DOWN));
    let to_sign = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
    let mut words = Words([0; 64]);
    let groups = (64 - mask.leading_zeros() as usize).div_ceil(16);
    (0..groups).for_each(|q| prefetch_words::<16>(front, addrs, 16 * q));
    for q in 0..groups {
        front_16(front, addrs, 16 * q, &mut words);
    }
    let mut down = 0;
    for q in 0..2 * groups {
        let (from, to) = (words.0[8 * q..][..8].as_ptr(), out[8 * q..][..8].as_mut_ptr());
        let lanes = (mask >> (8 * q)) as u8;
        // SAFETY: both have 8 words.
        unsafe {
            let word = _mm256_loadu_si256(from.cast());
            let below = _mm256_castsi256_ps(_mm256_cmpeq_epi32(word, to_down));
            down |= (_mm256_movemask_ps(below) as u64 & u64::from(lanes)) << (8 * q);
            let group = _mm256_or_si256(word, _mm256_cmpgt_epi32(word, last));
            // A store under a mask costs more.
            match lanes {
                u8::MAX => _mm256_storeu_si256(to.cast(), group),
                _ => {
                    let signs = _mm256_sllv_epi32(_mm256_set1_epi32(i32::from(lanes)), to_sign);
                    _mm256_maskstore_epi32(to.cast(), signs, group);
                }
            }
        }
    }
    down
}

/// Looks up `N` lanes from `first` on, in `G` vectors.
///
/// # Safety
/// The CPU has what `V` needs.
#[inline(always)]
unsafe fn steps<V: Vector, A: Address, const R: u8, const N: usize, const G: usize>(
    table: &Generation,
    addrs: &[A; 64],
    mask: u64,
    first: usize,
    out: &mut [u32; 64],
) {
    let base: *const u32 = table.base().cast();
    // SAFETY: the features are the caller's promise; a child entry names a line of the table, and
    // `to` has the lanes of a vector.
    unsafe {
        let mut entries = V::roots::<A, R, N, G>(table, addrs, first);
        let mut words = [V::splat(0); G];
        let mut below = [entries[0].below(); G];
        for q in 0..G {
            below[q] = entries[q].below();
            words[q] = V::words(addrs, first + V::LANES * q, 0);
        }
        let mut depth = R;
        while V::any_below(&entries, &below) {
            if depth.is_multiple_of(32) {
                for q in 0..G {
                    words[q] = V::words(addrs, first + V::LANES * q, depth);
                }
            }
            let to_nibble = _mm_cvtsi32_si128(i32::from(32 - NIBBLE - depth % 32));
            for q in 0..G {
                entries[q] = entries[q].descend(below[q], base, words[q], to_nibble);
                below[q] = entries[q].below();
            }
            depth = depth.wrapping_add(NIBBLE);
        }
        for q in 0..G {
            let at = first + V::LANES * q;
            let to = out[at..at + V::LANES].as_mut_ptr();
            entries[q].store(to, (mask >> at) as u16);
        }
    }
}

/// Takes the width of the root, and all lanes at once or vector by vector.
macro_rules! by_shape {
    ($vector:ty, $lanes:literal, $table:ident, $addrs:ident, $mask:ident, $out:ident, $($bits:literal)*) => {
        match $table.root_bits() {
            // SAFETY: the function that this is in is compiled for the CPU features of the vector.
            $($bits => unsafe {
                if $mask >> (64 - $lanes) != 0 {
                    return steps::<$vector, A, $bits, 64, { 64 / $lanes }>($table, $addrs, $mask, 0, $out);
                }
                for first in (0..64).step_by($lanes).take_while(|&first| $mask >> first != 0) {
                    steps::<$vector, A, $bits, $lanes, 1>($table, $addrs, $mask, first, $out);
                }
            })*
            bits => unreachable!("no root takes {bits} bits"),
        }
    };
}

#[target_feature(enable = "avx512f,avx512bw,bmi2")]
pub(super) fn avx512<A: Address>(table: &Generation, addrs: &[A; 64], mask: u64, out: &mut [u32; 64]) {
    by_shape!(__m512i, 16, table, addrs, mask, out, 8 12 16 20);
}

#[target_feature(enable = "avx2,bmi2")]
pub(super) fn avx2<A: Address>(table: &Generation, addrs: &[A; 64], mask: u64, out: &mut [u32; 64]) {
    by_shape!(__m256i, 8, table, addrs, mask, out, 8 12 16 20);
}
