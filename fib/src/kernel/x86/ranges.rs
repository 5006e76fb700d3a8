//! A burst through the ranges of a large IPv6 table.
//!
//! ```text
//!  gather root -> gather 12 bits -> gather 8 bits -> gather 8 bits, or touch the range line
//!                                                       `--> range lines, lane by lane
//! ```
//!
//! The last gather reads the first word of each range line for no other reason than to have the
//! line in the first cache, as many at a time as there are lanes. Loads and prefetches do that too,
//! but a hundred of them at unrelated addresses make the CPU lose track of what it had been
//! reading in order, such as the addresses, and stop reading ahead; gathers do not. Where
//! addresses come from memory, this alone is worth a fifth.

use super::vector::Vector;
use super::{Words, gather_16, word_16};
use crate::Address;
use crate::entry::Entry;
use crate::kernel::lanes;
use crate::ranges::{ANSWERS, DOWN, END, INDEX, MIDDLE, OCTET, RANGE, ROOT, Ranges};
use core::arch::asm;
use core::arch::x86_64::{
    __m256i, __m512i, _mm256_set1_epi32, _mm512_add_epi32, _mm512_and_si512, _mm512_mask_add_epi32,
    _mm512_mask_loadu_epi32, _mm512_mask_mov_epi32, _mm512_or_si512, _mm512_set1_epi32, _mm512_slli_epi32,
    _mm512_srli_epi32, _mm512_storeu_si512, _mm512_testn_epi32_mask,
};

const _: () = assert!(ROOT == 20 && MIDDLE == 32 && OCTET == 8 && END == 48);

/// The lanes that name something, all of them or dense nodes.
#[inline]
#[target_feature(enable = "avx512f")]
fn named(entries: __m512i, bits: u32) -> u16 {
    _mm512_testn_epi32_mask(entries, _mm512_set1_epi32(bits as i32))
}

/// How many of a line's ten bounds are below the number that `key` holds in each of its 16 lanes.
///
/// # Safety
/// `line` is the first word of a line of the ranges.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn rank(line: *const u32, key: __m256i) -> usize {
    let bounds = 0x3ff_u32;
    let below: u32;
    // SAFETY: reads 32 bytes of the line, which is as long as two of that.
    unsafe {
        asm!(
            "vpcmpuw {mask}{{{bounds}}}, {key}, [{line}], 6",
            "kmovd {below:e}, {mask}",
            mask = out(kreg) _,
            bounds = in(kreg) bounds,
            key = in(ymm_reg) key,
            line = in(reg) line,
            below = lateout(reg) below,
            options(nostack, preserves_flags, readonly)
        );
    }
    below.count_ones() as usize
}

/// Answers the lanes in `mask` but for those it returns: see [`Ranges::burst`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi2,popcnt")]
pub(in crate::kernel) fn ranges_avx512<A: Address>(
    ranges: &Ranges,
    addrs: &[A; 64],
    mask: u64,
    out: &mut [u32; 64],
) -> u64 {
    if mask >> 48 != 0 {
        return steps::<A, 4>(ranges, addrs, mask, 0, out);
    }
    let firsts = (0..48).step_by(16).take_while(|&first| mask >> first != 0);
    firsts.fold(0, |down, first| down | steps::<A, 1>(ranges, addrs, mask, first, out))
}

/// Sixteen lanes at a time from `first` on, `G` times.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi2,popcnt")]
fn steps<A: Address, const G: usize>(
    ranges: &Ranges,
    addrs: &[A; 64],
    mask: u64,
    first: usize,
    out: &mut [u32; 64],
) -> u64 {
    let base = ranges.base();
    let none = _mm512_set1_epi32(-1);
    let (high, low) = ([none; G], [none; G]);
    let (mut high, mut low, mut entries) = (high, low, [none; G]);
    for q in 0..G {
        high[q] = word_16(addrs, first + 16 * q, 0);
        low[q] = word_16(addrs, first + 16 * q, 32);
    }
    for q in 0..G {
        // SAFETY: the root has a word for each number of 20 bits.
        entries[q] = unsafe { gather_16(none, u16::MAX, base, _mm512_srli_epi32::<12>(high[q])) };
    }
    const LEAF: u32 = Entry::LEAF;
    const DENSE: u32 = LEAF | RANGE | DOWN;
    for q in 0..G {
        let slot = _mm512_and_si512(high[q], _mm512_set1_epi32(0xfff));
        let word = _mm512_add_epi32(entries[q], slot);
        // SAFETY: what the root names are dense nodes of 2^12 words.
        entries[q] = unsafe { gather_16(entries[q], named(entries[q], DENSE), base, word) };
    }
    for q in 0..G {
        let word = _mm512_add_epi32(entries[q], _mm512_srli_epi32::<24>(low[q]));
        // SAFETY: dense nodes below them have 2^8 words.
        entries[q] = unsafe { gather_16(entries[q], named(entries[q], DENSE), base, word) };
    }
    let mut in_line = 0_u64;
    let mut lines = Words([0_u32; 64]);
    let mut keys = Words([0_u32; 64]);
    let index = _mm512_set1_epi32(INDEX as i32);
    for q in 0..G {
        let dense = named(entries[q], DENSE);
        let range = named(entries[q], LEAF) & !named(entries[q], RANGE);
        let slot = _mm512_and_si512(_mm512_srli_epi32::<16>(low[q]), _mm512_set1_epi32(0xff));
        let word = _mm512_mask_add_epi32(entries[q], dense, entries[q], slot);
        let word = _mm512_and_si512(word, index);
        // SAFETY: as before; a range's index is the first word of a line.
        let next = unsafe { gather_16(none, dense | range, base, word) };
        // SAFETY: nothing is done; the gather is not in vain.
        unsafe { asm!("/* {0} */", in(zmm_reg) next, options(nostack, nomem, preserves_flags)) };
        entries[q] = _mm512_mask_mov_epi32(entries[q], dense, next);
        in_line |= u64::from(range) << (16 * q);
        let key = _mm512_srli_epi32::<16>(low[q]);
        let key = _mm512_or_si512(key, _mm512_slli_epi32::<16>(key));
        // SAFETY: both have 64 words, of which 16 * q and the 15 behind it are some.
        unsafe {
            _mm512_storeu_si512(lines.0[16 * q..][..16].as_mut_ptr().cast(), word);
            _mm512_storeu_si512(keys.0[16 * q..][..16].as_mut_ptr().cast(), key);
        }
    }
    for lane in lanes(in_line) {
        let word = lines.0[lane] as usize;
        // SAFETY: `word` is the first of a line; the answers are its words 5 to 15.
        lines.0[lane] = unsafe {
            let line = base.add(word);
            let rank = rank(line, _mm256_set1_epi32(keys.0[lane] as i32));
            ranges.load_unchecked(word + ANSWERS + rank).0
        };
    }
    let mut down = 0;
    for q in 0..G {
        let range = (in_line >> (16 * q)) as u16;
        let answers = lines.0[16 * q..][..16].as_ptr();
        // SAFETY: 16 words are read.
        let leaves = unsafe { _mm512_mask_loadu_epi32(entries[q], range, answers.cast()) };
        let at = first + 16 * q;
        let lanes = (mask >> at) as u16;
        let below = named(leaves, LEAF);
        down |= u64::from(below & lanes) << at;
        // SAFETY: these are 16 lanes; a CPU with the kernel's features runs it.
        unsafe { leaves.store(out[at..at + 16].as_mut_ptr(), lanes) };
    }
    down
}
