//! What the steps down the trie need of a register: sixteen lanes of AVX-512, eight of AVX2.

use super::{gather_8, gather_16, roots, store_16, word_8, word_16};
use crate::Address;
use crate::arena::Generation;
use crate::entry::Entry;
use core::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_cvtsi32_si128, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cmpeq_epi32,
    _mm256_maskstore_epi32, _mm256_movemask_ps, _mm256_or_si256, _mm256_set1_epi32, _mm256_setr_epi32,
    _mm256_sllv_epi32, _mm256_srl_epi32, _mm256_storeu_si256, _mm256_xor_si256, _mm512_and_si512,
    _mm512_cmpeq_epi32_mask, _mm512_loadu_si512, _mm512_mask_mov_epi32, _mm512_or_si512, _mm512_set1_epi32,
    _mm512_srl_epi32, _mm512_testn_epi32_mask,
};

/// Lanes side by side, as one register holds them.
///
/// # Safety
/// All functions need the CPU features of the kernel that they are inlined into.
pub(super) trait Vector: Copy {
    const LANES: usize;
    /// Which lanes are not at a leaf yet.
    type Below: Copy;

    /// One word in every lane.
    unsafe fn splat(word: u32) -> Self;

    /// The root's entries for `N` addresses from `first` on, in `G` vectors.
    unsafe fn roots<A: Address, const R: u8, const N: usize, const G: usize>(
        table: &Generation,
        addrs: &[A; 64],
        first: usize,
    ) -> [Self; G];

    /// The 32 bits that hold the bits at `depth`, of the addresses from `first` on.
    unsafe fn words<A: Address>(addrs: &[A; 64], first: usize, depth: u8) -> Self;

    /// Of entries: the lanes that go on.
    unsafe fn below(self) -> Self::Below;

    /// Whether any lane of all these entries goes on.
    unsafe fn any_below<const G: usize>(entries: &[Self; G], below: &[Self::Below; G]) -> bool;

    /// Of entries: reads the next ones in the lanes of `below`. The slot in the line is the
    /// nibble of `words` that `to_nibble` shifts down.
    ///
    /// # Safety
    /// In the lanes of `below`, each is the first of 16 slots inside the lines at `base`.
    unsafe fn descend(self, below: Self::Below, base: *const u32, words: Self, to_nibble: __m128i) -> Self;

    /// Of leaves: writes their groups to those lanes of `to` that `lanes` has.
    ///
    /// # Safety
    /// `to` has as many lanes as the vector.
    unsafe fn store(self, to: *mut u32, lanes: u16);
}

impl Vector for __m512i {
    const LANES: usize = 16;
    type Below = u16;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: the CPU has AVX-512, as the caller promises.
        unsafe { _mm512_set1_epi32(word as i32) }
    }

    #[inline(always)]
    unsafe fn roots<A: Address, const R: u8, const N: usize, const G: usize>(
        table: &Generation,
        addrs: &[A; 64],
        first: usize,
    ) -> [Self; G] {
        let roots = roots::<A, R, N>(table, addrs, first);
        // SAFETY: 16 entries from entry 16 * q on are inside `roots`; AVX-512 as promised.
        core::array::from_fn(|q| unsafe { _mm512_loadu_si512(roots.0[16 * q..][..16].as_ptr().cast()) })
    }

    #[inline(always)]
    unsafe fn words<A: Address>(addrs: &[A; 64], first: usize, depth: u8) -> Self {
        // SAFETY: the CPU has AVX-512, as the caller promises.
        unsafe { word_16(addrs, first, depth) }
    }

    #[inline(always)]
    unsafe fn below(self) -> u16 {
        // SAFETY: the CPU has AVX-512, as the caller promises.
        unsafe { _mm512_testn_epi32_mask(self, _mm512_set1_epi32(Entry::LEAF as i32)) }
    }

    #[inline(always)]
    unsafe fn any_below<const G: usize>(_: &[Self; G], below: &[u16; G]) -> bool {
        *below != [0; G]
    }

    #[inline(always)]
    unsafe fn descend(self, below: u16, base: *const u32, words: Self, to_nibble: __m128i) -> Self {
        // SAFETY: a child entry is the first of 16 slots inside the lines; AVX-512 as promised.
        unsafe {
            let nibble = _mm512_and_si512(_mm512_srl_epi32(words, to_nibble), _mm512_set1_epi32(15));
            gather_16(self, below, base, _mm512_or_si512(self, nibble))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32, lanes: u16) {
        // SAFETY: `to` has 16 lanes, as the caller promises, and the CPU AVX-512.
        unsafe {
            let none = _mm512_set1_epi32(-1);
            let group = _mm512_and_si512(self, _mm512_set1_epi32(Entry::GROUP_MASK as i32));
            store_16(to, lanes, _mm512_mask_mov_epi32(group, _mm512_cmpeq_epi32_mask(self, none), none));
        }
    }
}

impl Vector for __m256i {
    const LANES: usize = 8;
    /// The sign of a lane says it.
    type Below = __m256i;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: the CPU has AVX2, as the caller promises.
        unsafe { _mm256_set1_epi32(word as i32) }
    }

    #[inline(always)]
    unsafe fn roots<A: Address, const R: u8, const N: usize, const G: usize>(
        table: &Generation,
        addrs: &[A; 64],
        first: usize,
    ) -> [Self; G] {
        let base: *const u32 = table.base().cast();
        // SAFETY: the root has a slot for each number of R bits; AVX2 as promised.
        core::array::from_fn(|q| unsafe {
            let none = _mm256_set1_epi32(-1);
            let to_root = _mm_cvtsi32_si128(32 - i32::from(R));
            gather_8(none, none, base, _mm256_srl_epi32(word_8(addrs, first + 8 * q, 0), to_root))
        })
    }

    #[inline(always)]
    unsafe fn words<A: Address>(addrs: &[A; 64], first: usize, depth: u8) -> Self {
        // SAFETY: the CPU has AVX2, as the caller promises.
        unsafe { word_8(addrs, first, depth) }
    }

    #[inline(always)]
    unsafe fn below(self) -> __m256i {
        // A leaf has its sign set.
        // SAFETY: the CPU has AVX2, as the caller promises.
        unsafe { _mm256_xor_si256(self, _mm256_set1_epi32(-1)) }
    }

    #[inline(always)]
    unsafe fn any_below<const G: usize>(entries: &[Self; G], _: &[__m256i; G]) -> bool {
        // SAFETY: the CPU has AVX2, as the caller promises.
        unsafe {
            let leaves =
                entries.iter().fold(_mm256_set1_epi32(-1), |all, &entry| _mm256_and_si256(all, entry));
            _mm256_movemask_ps(_mm256_castsi256_ps(leaves)) != 0xff
        }
    }

    #[inline(always)]
    unsafe fn descend(self, below: __m256i, base: *const u32, words: Self, to_nibble: __m128i) -> Self {
        // SAFETY: a child entry is the first of 16 slots inside the lines; AVX2 as promised.
        unsafe {
            let nibble = _mm256_and_si256(_mm256_srl_epi32(words, to_nibble), _mm256_set1_epi32(15));
            gather_8(self, below, base, _mm256_or_si256(self, nibble))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32, lanes: u16) {
        // SAFETY: `to` has 8 lanes, as the caller promises. A store under a mask costs more.
        unsafe {
            let missed = _mm256_cmpeq_epi32(self, _mm256_set1_epi32(-1));
            let group = _mm256_and_si256(self, _mm256_set1_epi32(Entry::GROUP_MASK as i32));
            let groups = _mm256_or_si256(group, missed);
            match lanes as u8 {
                u8::MAX => _mm256_storeu_si256(to.cast(), groups),
                lanes => {
                    // Bit `lane` of the mask into the sign of the lane.
                    let to_sign = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
                    let signs = _mm256_sllv_epi32(_mm256_set1_epi32(i32::from(lanes)), to_sign);
                    _mm256_maskstore_epi32(to.cast(), signs, groups);
                }
            }
        }
    }
}
