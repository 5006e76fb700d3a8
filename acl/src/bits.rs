//! Sets of small numbers as bits: rows while compiling, shared blocks for readers.
//!
//! ```text
//!  row of a class:   block 0      block 1      block 2          a block is 512 bits, one cache line
//!                    #4 ......... #0 (zeros) . #4               equal blocks are stored once
//!  summary:          1            0            1                bit n: block n is not zero
//! ```
//!
//! A packet has one class in each of several fields; the rules that match it are the intersection of
//! the classes' rows. The summaries are intersected first and tell which blocks are worth reading.
//! Rows of one field differ in few places, so with shared blocks the rows of thousands of rules fit
//! the cache.
//!
//! Source: Lakshman, Stiliadis, High-Speed Policy-based Packet Forwarding, SIGCOMM 1998 (bit vectors);
//! Baboescu, Varghese, Scalable Packet Classification, SIGCOMM 2001 (summaries).

use std::collections::HashMap;

/// Words of a block.
pub(crate) const BLOCK: usize = 8;

/// A row of `count` bits.
pub(crate) fn ones(count: usize, bits: impl IntoIterator<Item = bool>) -> Vec<u64> {
    let mut row = vec![0; count.div_ceil(64)];
    for (at, _) in bits.into_iter().enumerate().filter(|(_, bit)| *bit) {
        row[at / 64] |= 1 << (at % 64);
    }
    row
}

/// Rows of equally many bits.
#[derive(Clone, Debug)]
pub(crate) struct BitRows {
    bits: usize,
    words: usize,
    rows: Vec<u64>,
    len: usize,
}

impl BitRows {
    pub(crate) fn new(bits: usize) -> Self {
        BitRows { bits, words: bits.div_ceil(64), rows: Vec::new(), len: 0 }
    }

    pub(crate) fn bits(&self) -> usize {
        self.bits
    }

    pub(crate) fn words(&self) -> usize {
        self.words
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, row: &[u64]) {
        debug_assert_eq!(row.len(), self.words);
        self.rows.extend_from_slice(row);
        self.len += 1;
    }

    pub(crate) fn push_and(&mut self, one: &[u64], other: &[u64]) {
        self.rows.extend(one.iter().zip(other).map(|(one, other)| one & other));
        self.len += 1;
    }

    pub(crate) fn row(&self, at: usize) -> &[u64] {
        &self.rows[at * self.words..(at + 1) * self.words]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u64]> {
        (0..self.len).map(|at| self.row(at))
    }
}

/// The bits that are set, in rising order.
pub(crate) fn set_bits(words: impl IntoIterator<Item = u64>) -> impl Iterator<Item = usize> {
    words.into_iter().enumerate().flat_map(|(at, mut word)| {
        core::iter::from_fn(move || {
            let bit = word.trailing_zeros() as usize;
            word &= word.wrapping_sub(1);
            (bit < 64).then_some(at * 64 + bit)
        })
    })
}

/// Rows of one field in shared blocks.
#[derive(Debug)]
pub(crate) struct BlockRows {
    /// Blocks of a row.
    blocks: usize,
    /// Words of a row's summary.
    summary_words: usize,
    summaries: Box<[u64]>,
    block_of: Box<[u32]>,
    pool: Box<[Block]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(align(64))]
struct Block([u64; BLOCK]);

/// Collects rows of one field.
#[derive(Debug)]
pub(crate) struct BlockRowsBuilder {
    blocks: usize,
    summaries: Vec<u64>,
    block_of: Vec<u32>,
    pool: Vec<Block>,
    known: HashMap<Block, u32>,
}

impl BlockRowsBuilder {
    pub(crate) fn new(bits: usize) -> Self {
        BlockRowsBuilder {
            blocks: bits.div_ceil(64 * BLOCK),
            summaries: Vec::new(),
            block_of: Vec::new(),
            pool: Vec::new(),
            known: HashMap::new(),
        }
    }

    pub(crate) fn push(&mut self, row: &[u64]) {
        let first = self.summaries.len();
        self.summaries.resize(first + self.blocks.div_ceil(64), 0);
        for at in 0..self.blocks {
            let mut block = Block([0; BLOCK]);
            let words = &row[at * BLOCK..row.len().min((at + 1) * BLOCK)];
            block.0[..words.len()].copy_from_slice(words);
            if block.0.iter().any(|word| *word != 0) {
                self.summaries[first + at / 64] |= 1 << (at % 64);
            }
            let next = self.pool.len() as u32;
            let id = *self.known.entry(block).or_insert(next);
            if id == next {
                self.pool.push(block);
            }
            self.block_of.push(id);
        }
    }

    pub(crate) fn finish(self) -> BlockRows {
        BlockRows {
            blocks: self.blocks,
            summary_words: self.blocks.div_ceil(64),
            summaries: self.summaries.into(),
            block_of: self.block_of.into(),
            pool: self.pool.into(),
        }
    }
}

impl BlockRows {
    /// Words of a summary.
    #[inline(always)]
    pub(crate) fn summary_words(&self) -> usize {
        self.summary_words
    }

    /// A word of a row's summary.
    #[inline(always)]
    pub(crate) fn summary(&self, row: usize, word: usize) -> u64 {
        self.summaries[row * self.summary_words + word]
    }

    /// A block of a row.
    #[inline(always)]
    pub(crate) fn block(&self, row: usize, at: usize) -> &[u64; BLOCK] {
        &self.pool[self.block_of[row * self.blocks + at] as usize].0
    }

    pub(crate) fn memory(&self) -> usize {
        size_of_val(&*self.summaries) + size_of_val(&*self.block_of) + size_of_val(&*self.pool)
    }
}

/// The numbers that the given rows of all fields share, in rising order.
pub(crate) fn intersection<'a, const N: usize>(
    fields: [&'a BlockRows; N],
    rows: [usize; N],
) -> impl Iterator<Item = usize> + 'a {
    let words = fields[0].summary_words;
    (0..words).flat_map(move |word| {
        let mut summary = u64::MAX;
        for (field, row) in fields.iter().zip(rows) {
            summary &= field.summary(row, word);
        }
        set_bits([summary]).flat_map(move |bit| {
            let at = word * 64 + bit;
            let mut block = [u64::MAX; BLOCK];
            for (field, row) in fields.iter().zip(rows) {
                for (word, other) in block.iter_mut().zip(field.block(row, at)) {
                    *word &= other;
                }
            }
            set_bits(block).map(move |bit| at * 64 * BLOCK + bit)
        })
    })
}
