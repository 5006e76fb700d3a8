//! The lookup of [`RuleList`] with AVX-512. The scalar twin is `RuleList::lookup_scalar`; tests hold
//! the two together.
#![allow(unsafe_code)] // Intrinsics: a block of sixteen rules is compared in about ten instructions.

use core::arch::x86_64::{
    __m128i, __m512i, __mmask8, _mm_and_si128, _mm_cvtsi128_si64, _mm_load_si128, _mm_set1_epi8,
    _mm_testn_epi8_mask, _mm_xor_si128, _mm256_set1_epi16, _mm512_and_si512, _mm512_castsi256_si512,
    _mm512_castsi512_si128, _mm512_cmple_epu16_mask, _mm512_inserti64x4, _mm512_load_si512,
    _mm512_loadu_si512, _mm512_mask_blend_epi64, _mm512_mask_cmple_epu16_mask, _mm512_mask_testn_epi32_mask,
    _mm512_maskz_compress_epi64, _mm512_set1_epi32, _mm512_ternarylogic_epi64, _mm512_test_epi64_mask,
    _mm512_testn_epi32_mask, _mm512_xor_si512,
};

use super::block::Block;
use super::vectors::{FIELDS, NOTHING, Row, Rows, Vectors};
use super::{
    BURST, DESTINATION, DESTINATION_PORT, ListKeys, NO_RULE, Node, PROTOCOL, RuleList, SOURCE, SOURCE_PORT,
};
use crate::bits::{BLOCK, BlockRows};

/// Proof that the processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Available(());

impl Available {
    pub(super) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("bmi1");
        all.then_some(Available(()))
    }
}

/// See [`RuleList::lookup`].
pub(super) fn lookup(_: Available, list: &RuleList, keys: &ListKeys, count: usize, first: &mut [u32; BURST]) {
    // SAFETY: an `Available` exists only if the processor has every feature that `lookup_wide` enables.
    unsafe { lookup_wide(list, keys, count, first) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1")]
fn lookup_wide(list: &RuleList, keys: &ListKeys, count: usize, first: &mut [u32; BURST]) {
    first[..count].fill(NO_RULE);
    let mut at = [Node(0); BURST];
    for root in &list.roots {
        at[..count].fill(*root);
        // Level by level: the reads of one level do not depend on each other. A leaf stays what it is,
        // by selection and not by a branch, which would be guessed wrong too often.
        let mut inner = !root.is_leaf();
        while inner {
            inner = false;
            for (lane, node) in at[..count].iter_mut().enumerate() {
                let child = node.child(keys.fields[node.field()][lane]);
                let next = list.nodes[if node.is_leaf() { 0 } else { child }];
                *node = if node.is_leaf() { *node } else { next };
                inner |= !node.is_leaf();
            }
        }
        for (lane, node) in at[..count].iter().enumerate() {
            let blocks = &list.blocks[node.blocks()];
            let Some((block, rest)) = blocks.split_first() else { continue };
            let mut found = rule(block, matching(block, keys, lane));
            for block in rest {
                if found != NO_RULE {
                    break;
                }
                found = rule(block, matching(block, keys, lane));
            }
            first[lane] = first[lane].min(found);
        }
    }
}

/// See [`Vectors::lookup`].
pub(super) fn lookup_vectors(
    _: Available,
    vectors: &Vectors,
    keys: &ListKeys,
    count: usize,
    first: &mut [u32; BURST],
) {
    // SAFETY: as in `lookup`.
    unsafe { lookup_vectors_wide(vectors, keys, count, first) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1")]
fn lookup_vectors_wide(vectors: &Vectors, keys: &ListKeys, count: usize, first: &mut [u32; BURST]) {
    let mut rows = [[0; FIELDS]; BURST];
    vectors.rows_of(keys, count, &mut rows);
    let lanes = first[..count].iter_mut().zip(&rows);
    match &vectors.rows {
        Rows::Short(fields) => lanes.for_each(|(first, rows)| *first = first_of_two(fields, rows)),
        Rows::Long(fields) => lanes.for_each(|(first, rows)| *first = first_of_many(fields, rows)),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1")]
fn first_of_two(fields: &[Box<[Row]>; FIELDS], rows: &[u32; FIELDS]) -> u32 {
    let row = |field: usize| fields[field].get(rows[field] as usize).unwrap_or(&NOTHING);
    let rows = core::array::from_fn(row);
    let [one, other] = [0, 1].map(|at| common(rows.map(|row: &Row| &row.0[at])));
    let (in_one, in_other) = (_mm512_test_epi64_mask(one, one), _mm512_test_epi64_mask(other, other));
    // Which of the two it is is chosen, not branched on, since it is anyone's guess.
    let behind = in_one == 0;
    let some = if behind { in_other } else { in_one };
    let words = _mm512_mask_blend_epi64((behind as u8).wrapping_neg(), one, other);
    let rule = u32::from(behind) * 64 * BLOCK as u32 + lowest(words, some);
    if some == 0 { NO_RULE } else { rule }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1")]
fn first_of_many(fields: &[BlockRows; FIELDS], rows: &[u32; FIELDS]) -> u32 {
    for word in 0..fields[0].summary_words() {
        let mut summary = u64::MAX;
        for (field, row) in fields.iter().zip(rows) {
            summary &= field.summary(*row as usize, word);
        }
        while summary != 0 {
            let at = word * 64 + summary.trailing_zeros() as usize;
            let words = common(core::array::from_fn(|field| fields[field].block(rows[field] as usize, at)));
            let some = _mm512_test_epi64_mask(words, words);
            if some != 0 {
                return (at * 64 * BLOCK) as u32 + lowest(words, some);
            }
            summary &= summary - 1;
        }
    }
    NO_RULE
}

/// What blocks have in common.
#[inline]
#[target_feature(enable = "avx512f")]
fn common(blocks: [&[u64; BLOCK]; FIELDS]) -> __m512i {
    let [a, b, c, d] = blocks.map(|words| block(words));
    // 0x80: all three.
    _mm512_and_si512(_mm512_ternarylogic_epi64::<0x80>(a, b, c), d)
}

/// The lowest bit of the lowest word in `some`, of which there is one.
#[inline]
#[target_feature(enable = "avx512f,bmi1")]
fn lowest(words: __m512i, some: __mmask8) -> u32 {
    let word = _mm_cvtsi128_si64(_mm512_castsi512_si128(_mm512_maskz_compress_epi64(some, words))) as u64;
    some.trailing_zeros() * 64 + word.trailing_zeros()
}

#[inline]
#[target_feature(enable = "avx512f")]
fn block(words: &[u64; BLOCK]) -> __m512i {
    // SAFETY: eight words are 64 readable bytes.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// The first rule of a block that is set in `matching`, without a branch.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1")]
fn rule(block: &Block, matching: u32) -> u32 {
    let rule = block.rules[matching.trailing_zeros() as usize & 15];
    if matching == 0 { NO_RULE } else { rule }
}

/// One bit for each rule of the block that matches the packet.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1")]
fn matching(block: &Block, keys: &ListKeys, lane: usize) -> u32 {
    let masked = |value: u32, mask: &[u32; 16], wanted: &[u32; 16]| {
        _mm512_xor_si512(_mm512_and_si512(_mm512_set1_epi32(value as i32), words(mask)), words(wanted))
    };
    let source = _mm512_testn_epi32_mask(
        masked(keys.fields[SOURCE][lane], &block.source_mask, &block.source),
        _mm512_set1_epi32(-1),
    );
    let both = _mm512_mask_testn_epi32_mask(
        source,
        masked(keys.fields[DESTINATION][lane], &block.destination_mask, &block.destination),
        _mm512_set1_epi32(-1),
    );
    let ports = _mm512_inserti64x4::<1>(
        _mm512_castsi256_si512(_mm256_set1_epi16(keys.fields[SOURCE_PORT][lane] as i16)),
        _mm256_set1_epi16(keys.fields[DESTINATION_PORT][lane] as i16),
    );
    let above = _mm512_cmple_epu16_mask(halves(&block.low), ports);
    let within = _mm512_mask_cmple_epu16_mask(above, ports, halves(&block.high));
    let protocol =
        _mm_and_si128(_mm_set1_epi8(keys.fields[PROTOCOL][lane] as i8), octets(&block.protocol_mask));
    let protocol = _mm_xor_si128(protocol, octets(&block.protocol));
    let protocol = _mm_testn_epi8_mask(protocol, _mm_set1_epi8(-1));
    u32::from(both) & within & within >> 16 & u32::from(protocol)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn words(array: &[u32; 16]) -> __m512i {
    // SAFETY: the array is 64 bytes, readable, and aligned: it begins at a multiple of 64 in a `Block`,
    // which is aligned to 64.
    unsafe { _mm512_load_si512(array.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn halves(array: &[u16; 32]) -> __m512i {
    // SAFETY: as in `words`.
    unsafe { _mm512_load_si512(array.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn octets(array: &[u8; 16]) -> __m128i {
    // SAFETY: the array is 16 bytes, readable, and begins at a multiple of 16 in a `Block`, which is
    // aligned to 64.
    unsafe { _mm_load_si128(array.as_ptr().cast()) }
}
