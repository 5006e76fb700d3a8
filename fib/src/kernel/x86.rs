//! The kernels for x86-64.
//!
//! Lanes outside the mask are not read: their gathers are masked, and so are the stores.

use crate::Address;
use crate::arena::{Generation, NIBBLE};
use crate::entry::Entry;
use core::arch::asm;
use core::arch::x86_64::{
    __m256i, __m512i, _mm_cvtsi32_si128, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cmpeq_epi32,
    _mm256_loadu_si256, _mm256_maskstore_epi32, _mm256_movemask_ps, _mm256_or_si256, _mm256_set1_epi32,
    _mm256_setr_epi32, _mm256_sllv_epi32, _mm256_srl_epi32,_mm256_srai_epi32, _mm256_xor_si256,
    _mm512_and_si512, _mm512_cmpeq_epi32_mask, _mm512_loadu_si512, _mm512_mask_mov_epi32,
    _mm512_mask_storeu_epi32, _mm512_or_si512, _mm512_set1_epi32, _mm512_srl_epi32,
    _mm512_testn_epi32_mask,_mm512_setzero_si512,_mm512_setr_epi32,_mm512_add_epi32,_mm512_permutex2var_epi32,_mm_setr_epi8,_mm512_shuffle_epi8,_mm512_broadcast_i32x4,_mm256_setzero_si256,
};

/// The 32 bits that hold the bits at `depth`, of eight addresses from `first` on.
#[inline(always)]
fn word_8<A: Address>(addrs: &[A; 64], first: usize, depth: u8) -> [u32; 8] {
    core::array::from_fn(|i| addrs[first + i].slice(depth / 32 * 32, 32) as u32)
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

/// The root's entries for the lanes in `mask` and their neighbours.
///
/// Sixteen loads are under way sooner than a gather of sixteen is: where the table is larger than
/// the nearest cache, this step is the faster for it, and no later one.
#[inline(always)]
fn roots<A: Address>(table: &Generation, addrs: &[A; 64], mask: u64) -> [u32; 64] {
    let mut entries = [u32::MAX; 64];
    let root_bits = table.root_bits();
    for (q, (entries, addrs)) in entries.chunks_exact_mut(16).zip(addrs.chunks_exact(16)).enumerate() {
        if mask >> (16 * q) & 0xffff != 0 {
            for (entry, addr) in entries.iter_mut().zip(addrs) {
                // SAFETY: the root has a slot for each number of `root_bits` bits.
                *entry = unsafe { table.load_unchecked(addr.slice(0, root_bits)) }.0;
            }
        }
    }
    entries
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

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn avx512<A: Address>(table: &Generation, addrs: &[A; 64], mask: u64, out: &mut [u32; 64]) {
    let base: *const u32 = table.base().cast();
    let mut depth = table.root_bits();
    let leaf = _mm512_set1_epi32(Entry::LEAF as i32);
    let nibble = _mm512_set1_epi32(15);
    let none = _mm512_set1_epi32(-1);
    let lanes: [u16; 4] = core::array::from_fn(|q| (mask >> (16 * q)) as u16);
    let mut words = [_mm512_setzero_si512(); 4];
    let mut entries = [none; 4];
    let mut descending = [0_u16; 4];
    let first = roots(table, addrs, mask);
    for q in 0..4 {
        words[q] = word_16(addrs, 16 * q, 0);
        // SAFETY: 16 entries of 4 bytes from entry 16 * q on are inside `first`.
        let entry = unsafe { _mm512_loadu_si512(first.as_ptr().add(16 * q).cast()) };
        entries[q] = _mm512_mask_mov_epi32(none, lanes[q], entry);
        descending[q] = _mm512_testn_epi32_mask(entries[q], leaf);
    }
    while descending != [0; 4] {
        if depth.is_multiple_of(32) {
            for q in 0..4 {
                words[q] = word_16(addrs, 16 * q, depth);
            }
        }
        let to_nibble = _mm_cvtsi32_si128(i32::from(32 - NIBBLE - depth % 32));
        for q in 0..4 {
            let below = _mm512_and_si512(_mm512_srl_epi32(words[q], to_nibble), nibble);
            let index = _mm512_or_si512(entries[q], below);
            // SAFETY: a child entry is the first of 16 slots inside the lines.
            entries[q] = unsafe { gather_16(entries[q], descending[q], base, index) };
            descending[q] = _mm512_testn_epi32_mask(entries[q], leaf);
        }
        depth += NIBBLE;
    }
    let group = _mm512_set1_epi32(Entry::GROUP_MASK as i32);
    for q in 0..4 {
        let missed = _mm512_cmpeq_epi32_mask(entries[q], none);
        let groups = _mm512_mask_mov_epi32(_mm512_and_si512(entries[q], group), missed, none);
        // SAFETY: 16 lanes from lane 16 * q on are inside `out`.
        unsafe { _mm512_mask_storeu_epi32(out.as_mut_ptr().add(16 * q).cast(), lanes[q], groups) };
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn avx2<A: Address>(table: &Generation, addrs: &[A; 64], mask: u64, out: &mut [u32; 64]) {
    let base: *const u32 = table.base().cast();
    let mut depth = table.root_bits();
    let nibble = _mm256_set1_epi32(15);
    let none = _mm256_set1_epi32(-1);
    let load = |q: usize, depth: u8| {
        let words = word_8(addrs, 8 * q, depth);
        // SAFETY: 8 words of 4 bytes are 32 bytes.
        unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
    };
    // Bit `lane` of the mask into the sign of the lane.
    let to_sign = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
    let signs: [__m256i; 8] = core::array::from_fn(|q| {
        _mm256_sllv_epi32(_mm256_set1_epi32(i32::from((mask >> (8 * q)) as u8)), to_sign)
    });
    let mut words = [_mm256_setzero_si256(); 8];
    let mut entries = [none; 8];
    let first = roots(table, addrs, mask);
    for q in 0..8 {
        words[q] = load(q, 0);
        // SAFETY: 8 entries of 4 bytes from entry 8 * q on are inside `first`.
        let entry = unsafe { _mm256_loadu_si256(first.as_ptr().add(8 * q).cast()) };
        // Lanes outside the mask hold NONE, which is all ones.
        entries[q] = _mm256_or_si256(entry, _mm256_xor_si256(_mm256_srai_epi32::<31>(signs[q]), none));
    }
    loop {
        // A leaf has its sign set: lanes go on whose sign is clear in all of these.
        let leaves = entries.iter().fold(none, |all, &entry| _mm256_and_si256(all, entry));
        if _mm256_movemask_ps(_mm256_castsi256_ps(leaves)) == 0xff {
            break;
        }
        if depth.is_multiple_of(32) {
            words = core::array::from_fn(|q| load(q, depth));
        }
        let to_nibble = _mm_cvtsi32_si128(i32::from(32 - NIBBLE - depth % 32));
        for q in 0..8 {
            let below = _mm256_and_si256(_mm256_srl_epi32(words[q], to_nibble), nibble);
            let index = _mm256_or_si256(entries[q], below);
            let children = _mm256_xor_si256(entries[q], none);
            // SAFETY: a child entry is the first of 16 slots inside the lines.
            entries[q] = unsafe { gather_8(entries[q], children, base, index) };
        }
        depth += NIBBLE;
    }
    let group = _mm256_set1_epi32(Entry::GROUP_MASK as i32);
    for q in 0..8 {
        let missed = _mm256_cmpeq_epi32(entries[q], none);
        let groups = _mm256_or_si256(_mm256_and_si256(entries[q], group), missed);
        // SAFETY: 8 lanes from lane 8 * q on are inside `out`.
        unsafe { _mm256_maskstore_epi32(out.as_mut_ptr().add(8 * q).cast(), signs[q], groups) };
    }
}
