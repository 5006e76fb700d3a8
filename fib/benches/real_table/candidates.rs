//! The structures that the library could have been built on, as read-only copies of its answers,
//! with the same care for their lookups as for the library's own.
//!
//! | candidate | IPv4 | IPv6 |
//! |---|---|---|
//! | multibit, strides 24 8 8 ... | DIR-24-8 | as `rte_fib6` |
//! | multibit, strides 16 8 8 ... | the middle | the middle |
//! | multibit, strides 20 4 4 ... | the library's lines without its front | the library's |
//! | leaf vectors, strides 18 6 6 ... | poptrie with runs of equal leaves merged | the same |
//!
//! (Asai and Ohara, "Poptrie: A Compressed Trie with Population Count for Fast and Scalable
//! Software IP Routing Table Lookup", 2015.)

#![allow(
    unsafe_code,
    clippy::needless_range_loop,
    clippy::wildcard_imports,
    reason = "vector instructions and loads without bounds checks"
)]

use super::report::Report;
use super::traffic::{Family, KINDS};
use core::arch::x86_64::*;
use fib::{GroupId, NO_ROUTE, Prefix};
use std::arch::is_x86_feature_detected;
use std::hint::black_box;

const CHILD: u32 = 1 << 31;
const NONE: u32 = !CHILD;

pub(crate) trait Candidate<A> {
    fn name(&self) -> String;
    fn bytes(&self) -> usize;
    fn burst(&self, addrs: &[A; 64], out: &mut [u32; 64]);
}

/// Whether this CPU can run the candidates.
pub(crate) fn can_run() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vpopcntdq")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("bmi2")
}

pub(crate) fn measure<A: Family>(report: &Report, candidate: &impl Candidate<A>, traces: &[Vec<A>; 3]) {
    let report = report.of(candidate.name());
    report.value("memory_mb", candidate.bytes() as f64 / 1e6);
    for (kind, trace) in KINDS.iter().zip(traces) {
        report.rate(kind, "avx512 burst 64", trace, |slice| {
            let mut out = [NO_ROUTE; 64];
            for burst in slice.as_chunks::<64>().0 {
                candidate.burst(burst, &mut out);
                black_box(&mut out);
            }
        });
    }
}

/// A trie of flat nodes, leaves pushed down.
pub(crate) struct Multibit {
    slots: Vec<u32>,
    /// Bits consumed by each level.
    strides: Vec<u8>,
}

impl Multibit {
    /// Of ascending routes. The root takes `first` bits, every level below `rest`.
    pub(crate) fn new<A: Family>(routes: &[(Prefix<A>, GroupId)], first: u8, rest: u8) -> Self {
        let mut strides = vec![first];
        strides.extend((first..A::BITS).step_by(rest.into()).map(|depth| rest.min(A::BITS - depth)));
        let mut slots = vec![NONE; 1 << first];
        for (route, group) in routes {
            let (mut node, mut depth, mut level) = (0, 0, 0);
            while route.len() > depth + strides[level] {
                let slot = node + route.addr().slice(depth, strides[level]);
                (depth, level) = (depth + strides[level], level + 1);
                if slots[slot] & CHILD == 0 {
                    let leaf = slots[slot];
                    slots[slot] = CHILD | u32::try_from(slots.len()).expect("a small table");
                    slots.resize(slots.len() + (1 << strides[level]), leaf);
                }
                node = (slots[slot] & !CHILD) as usize;
            }
            let first = node + route.addr().slice(depth, strides[level]);
            let count = 1 << (depth + strides[level] - route.len());
            slots[first..first + count].fill(group.raw());
        }
        Self { slots, strides }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    fn descend<A: Family>(&self, addrs: &[A; 64], out: &mut [u32; 64]) {
        let base: *const i32 = self.slots.as_ptr().cast();
        let index = _mm512_set1_epi32(NONE as i32);
        let mut entries = [_mm512_setzero_si512(); 4];
        let mut below = [u16::MAX; 4];
        let mut words = [_mm512_setzero_si512(); 4];
        let mut depth = 0;
        for &stride in &self.strides {
            for q in 0..4 {
                if depth % 32 == 0 {
                    words[q] = word_16(addrs, 16 * q, depth);
                }
                let left = _mm_cvtsi32_si128(i32::from(depth % 32));
                let right = _mm_cvtsi32_si128(32 - i32::from(stride));
                let bits = _mm512_srl_epi32(_mm512_sll_epi32(words[q], left), right);
                let slot = _mm512_add_epi32(_mm512_and_si512(entries[q], index), bits);
                // SAFETY: a child entry is the first of 2^stride slots; the root is at slot 0.
                entries[q] = unsafe { _mm512_mask_i32gather_epi32::<4>(entries[q], below[q], slot, base) };
                below[q] = _mm512_movepi32_mask(entries[q]);
            }
            depth += stride;
            if below == [0; 4] {
                break;
            }
        }
        store(&entries, out);
    }
}

/// Stores groups, [`NO_ROUTE`] for [`NONE`].
#[target_feature(enable = "avx512f")]
fn store(entries: &[__m512i; 4], out: &mut [u32; 64]) {
    for (entry, out) in entries.iter().zip(out.chunks_exact_mut(16)) {
        let missed = _mm512_cmpeq_epi32_mask(*entry, _mm512_set1_epi32(NONE as i32));
        let groups = _mm512_mask_mov_epi32(*entry, missed, _mm512_set1_epi32(NO_ROUTE as i32));
        // SAFETY: `out` has 16 lanes.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), groups) };
    }
}

/// The 32 bits that hold the bits at `depth`, of sixteen addresses from `first` on.
#[target_feature(enable = "avx512f,avx512bw")]
fn word_16<A: Family>(addrs: &[A; 64], first: usize, depth: u8) -> __m512i {
    let words: *const i32 = addrs[first..first + 16].as_ptr().cast();
    // SAFETY: 16 addresses are 16 or 64 words of octets in network order.
    let words = unsafe {
        if A::BITS == 32 {
            _mm512_loadu_si512(words.cast())
        } else {
            let lanes = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
            let lanes = _mm512_add_epi32(lanes, _mm512_set1_epi32(i32::from(depth / 32)));
            let load = |at| _mm512_loadu_si512(words.add(at).cast());
            let low = _mm512_permutex2var_epi32(load(0), lanes, load(16));
            _mm512_mask_mov_epi32(low, 0xff00, _mm512_permutex2var_epi32(load(32), lanes, load(48)))
        }
    };
    let swap = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(swap))
}

impl<A: Family> Candidate<A> for Multibit {
    fn name(&self) -> String {
        format!("multibit {} {}", self.strides[0], self.strides[1])
    }

    fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u32>()
    }

    fn burst(&self, addrs: &[A; 64], out: &mut [u32; 64]) {
        // SAFETY: candidates run only where `can_run`.
        unsafe { self.descend(addrs, out) }
    }
}

/// A trie whose nodes of 64 slots hold a bit map of where the entry changes, and the entries.
pub(crate) struct LeafVectors {
    /// The root's slots, then nodes: two words of bit map, then entries.
    words: Vec<u32>,
    first: u8,
}

impl LeafVectors {
    pub(crate) fn new<A: Family>(routes: &[(Prefix<A>, GroupId)], first: u8) -> Self {
        fn pack(flat: &Multibit, node: usize, level: usize, words: &mut Vec<u32>) -> u32 {
            let slots = &flat.slots[node..node + (1 << flat.strides[level])];
            let mut changes = 0_u64;
            let mut entries = Vec::new();
            for (i, slot) in slots.iter().enumerate() {
                if i == 0 || *slot != slots[i - 1] {
                    changes |= 1 << i;
                    entries.push(*slot);
                }
            }
            let at = words.len();
            words.extend([changes as u32, (changes >> 32) as u32]);
            words.extend(&entries);
            words.resize(words.len().next_multiple_of(2), 0);
            for (i, entry) in entries.into_iter().enumerate().filter(|(_, entry)| entry & CHILD != 0) {
                words[at + 2 + i] = CHILD | pack(flat, (entry & !CHILD) as usize, level + 1, words);
            }
            u32::try_from(at).expect("a small table")
        }
        let flat = Multibit::new(routes, first, 6);
        let mut words = flat.slots[..1 << first].to_vec();
        for slot in 0..1 << first {
            if words[slot] & CHILD != 0 {
                words[slot] = CHILD | pack(&flat, (words[slot] & !CHILD) as usize, 1, &mut words);
            }
        }
        Self { words, first }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,popcnt,bmi2")]
    fn descend<A: Family>(&self, addrs: &[A; 64], out: &mut [u32; 64]) {
        let base: *const i32 = self.words.as_ptr().cast();
        let (index, zero) = (_mm512_set1_epi32(NONE as i32), _mm512_setzero_si512());
        let mut entries = [zero; 4];
        let mut left = [0_u16; 4];
        for q in 0..4 {
            let words = word_16(addrs, 16 * q, 0);
            let slot = _mm512_srl_epi32(words, _mm_cvtsi32_si128(32 - i32::from(self.first)));
            // SAFETY: the root has a slot for each number of `first` bits.
            entries[q] = unsafe { _mm512_i32gather_epi32::<4>(slot, base) };
        }
        for q in 0..4 {
            let below = _mm512_movepi32_mask(entries[q]);
            let words = word_16(addrs, 16 * q, 0);
            let node = _mm512_and_si512(entries[q], index);
            let bits = _mm512_sll_epi32(words, _mm_cvtsi32_si128(i32::from(self.first)));
            let bits = _mm512_srli_epi32::<26>(bits);
            // All bits up to the slot's own.
            let upto = |bits: __m256i| {
                let all = _mm512_set1_epi64(-1);
                _mm512_srlv_epi64(all, _mm512_sub_epi64(_mm512_set1_epi64(63), _mm512_cvtepu32_epi64(bits)))
            };
            let rank = |below: u8, node: __m256i, bits: __m256i| {
                // SAFETY: a node begins with 64 bits of map.
                let map = unsafe { _mm512_mask_i32gather_epi64::<4>(zero, below, node, base.cast()) };
                _mm512_cvtepi64_epi32(_mm512_popcnt_epi64(_mm512_and_si512(map, upto(bits))))
            };
            let low = rank(below as u8, _mm512_castsi512_si256(node), _mm512_castsi512_si256(bits));
            let high = rank(
                (below >> 8) as u8,
                _mm512_extracti64x4_epi64::<1>(node),
                _mm512_extracti64x4_epi64::<1>(bits),
            );
            let rank = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
            let slot = _mm512_add_epi32(_mm512_add_epi32(node, rank), _mm512_set1_epi32(1));
            // SAFETY: a node has an entry for each bit of its map.
            entries[q] = unsafe { _mm512_mask_i32gather_epi32::<4>(entries[q], below, slot, base) };
            left[q] = _mm512_movepi32_mask(entries[q]);
        }
        store(&entries, out);
        for (q, mut left) in left.into_iter().enumerate() {
            while left != 0 {
                let lane = 16 * q + left.trailing_zeros() as usize;
                left &= left - 1;
                out[lane] = self.rest(addrs[lane], out[lane], self.first + 6);
            }
        }
    }

    /// Goes on from `entry` at `depth`.
    #[inline(always)]
    fn rest<A: Family>(&self, addr: A, mut entry: u32, mut depth: u8) -> u32 {
        while entry & CHILD != 0 {
            let stride = 6.min(A::BITS - depth);
            let node = (entry & !CHILD) as usize;
            let map = u64::from(self.words[node]) | u64::from(self.words[node + 1]) << 32;
            let rank = (map & (u64::MAX >> (63 - addr.slice(depth, stride)))).count_ones();
            entry = self.words[node + 1 + rank as usize];
            depth += stride;
        }
        if entry == NONE { NO_ROUTE } else { entry }
    }
}

impl<A: Family> Candidate<A> for LeafVectors {
    fn name(&self) -> String {
        format!("leaf vectors {} 6", self.first)
    }

    fn bytes(&self) -> usize {
        self.words.len() * size_of::<u32>()
    }

    fn burst(&self, addrs: &[A; 64], out: &mut [u32; 64]) {
        // SAFETY: candidates run only where `can_run`.
        unsafe { self.descend(addrs, out) }
    }
}
