//! The memory of a trie: slots in chunks that never move, and the allocator that hands them out.
//!
//! ```text
//!  Arena (shared)                        Allocator (the writer's)
//!  chunk 0  [root            ]           fresh: the unused rest of the newest chunk
//!  chunk 1  [node|node|..    ]  64 KiB   free:  blocks given back, by size
//!  chunk 2  [node  |node|..  ] 128 KiB
//!   ...      doubling up to      8 MiB
//! ```
//!
//! Readers reach a chunk through a fixed directory, so growth never moves what they read.
//! Invariants: a chunk is set once and stays until the table goes; the allocator never hands out
//! a block twice without a [`release`](Allocator::release) in between.

use crate::entry::{Block, Entry};
use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::OnceLock;

/// Slots of the first chunk behind the root (64 KiB).
const FIRST_CHUNK_SLOTS: usize = 1 << 14;
/// Slots of the largest chunk (8 MiB).
const LARGEST_CHUNK_SLOTS: usize = 1 << Block::OFFSET_BITS;
/// Bytes of a slot.
const SLOT_BYTES: usize = size_of::<AtomicU32>();

/// All slots of one trie, for readers and the writer.
pub(crate) struct Arena {
    chunks: Box<[OnceLock<Box<[AtomicU32]>>]>,
}

impl Arena {
    /// An arena that holds a root of `2^root_stride` slots without routes.
    pub(crate) fn new(root_stride: u8) -> Self {
        let chunks: Box<[OnceLock<_>]> = (0..Block::CHUNKS).map(|_| OnceLock::new()).collect();
        chunks[Block::ROOT.chunk()].get_or_init(|| empty_slots(1 << root_stride));
        Self { chunks }
    }

    /// Reads slot `index` of the node at `block`.
    #[inline(always)]
    pub(crate) fn load(&self, block: Block, index: usize) -> Entry {
        let chunk = self.chunk(block);
        // Acquire: the slots of a child are filled before its entry is stored with Release.
        Entry(chunk[block.offset() + index].load(Ordering::Acquire))
    }

    /// The `count` slots of the node at `block`.
    #[inline(always)]
    pub(crate) fn slots(&self, block: Block, count: usize) -> &[AtomicU32] {
        &self.chunk(block)[block.offset()..][..count]
    }

    #[inline(always)]
    fn chunk(&self, block: Block) -> &[AtomicU32] {
        self.chunks[block.chunk()].get().expect("a block is handed out only after its chunk is set")
    }

    /// Bytes held by the directory.
    pub(crate) fn directory_bytes(&self) -> usize {
        size_of_val(&*self.chunks)
    }
}

fn empty_slots(count: usize) -> Box<[AtomicU32]> {
    (0..count).map(|_| AtomicU32::new(Entry::NONE.0)).collect()
}

/// Hands out the blocks of one [`Arena`]. Blocks hold `2^stride` slots.
pub(crate) struct Allocator {
    /// Number of the next chunk to make.
    next_chunk: usize,
    /// Slots of the next chunk to make.
    next_slots: usize,
    /// The unused rest of the newest chunk.
    fresh: Block,
    fresh_slots: usize,
    /// Free blocks by stride.
    free: Vec<Vec<Block>>,
    /// The smallest stride: what is left of a chunk is cut into blocks of this size.
    min_stride: u8,
    /// Slots in all chunks, the root's included.
    slots: usize,
    max_slots: usize,
}

impl Allocator {
    /// An allocator for blocks of the given strides, in an arena whose root has the first of
    /// them, that lets chunks grow to at most `max_bytes` in all.
    pub(crate) fn new(strides: &[u8], max_bytes: usize) -> Self {
        let largest = strides.iter().copied().max().unwrap_or(0);
        Self {
            next_chunk: Block::ROOT.chunk() + 1,
            next_slots: FIRST_CHUNK_SLOTS,
            fresh: Block::ROOT,
            fresh_slots: 0,
            free: vec![Vec::new(); usize::from(largest) + 1],
            min_stride: strides.iter().copied().min().unwrap_or(0),
            slots: 1 << strides[0],
            max_slots: max_bytes / SLOT_BYTES,
        }
    }

    /// A block of `2^stride` slots with arbitrary content, or `None` at the memory limit.
    pub(crate) fn allocate(&mut self, arena: &Arena, stride: u8) -> Option<Block> {
        if let Some(block) = self.free[usize::from(stride)].pop() {
            return Some(block);
        }
        let wanted = 1 << stride;
        if self.fresh_slots < wanted {
            self.grow(arena, wanted)?;
        }
        Some(self.cut(wanted))
    }

    /// Takes a block back for reuse. No reader may still see it.
    pub(crate) fn release(&mut self, block: Block, stride: u8) {
        self.free[usize::from(stride)].push(block);
    }

    /// Bytes of all chunks and of the free lists.
    pub(crate) fn bytes(&self) -> usize {
        let listed: usize = self.free.iter().map(Vec::capacity).sum();
        self.slots * SLOT_BYTES + listed * size_of::<Block>()
    }

    /// The limit that was given, in bytes.
    pub(crate) fn max_bytes(&self) -> usize {
        self.max_slots * SLOT_BYTES
    }

    fn cut(&mut self, slots: usize) -> Block {
        let block = self.fresh;
        self.fresh_slots -= slots;
        if self.fresh_slots > 0 {
            self.fresh = Block::new(block.chunk(), block.offset() + slots);
        }
        block
    }

    /// Makes the next chunk, with at least `wanted` slots.
    fn grow(&mut self, arena: &Arena, wanted: usize) -> Option<()> {
        // Near the limit a chunk may be smaller than its turn, but not than what is wanted.
        let room = self.max_slots.saturating_sub(self.slots);
        let slots = self.next_slots.min(room);
        if self.next_chunk == Block::CHUNKS || slots < wanted {
            return None;
        }
        let smallest = 1 << self.min_stride;
        while self.fresh_slots >= smallest {
            let block = self.cut(smallest);
            self.release(block, self.min_stride);
        }
        arena.chunks[self.next_chunk].get_or_init(|| empty_slots(slots));
        self.fresh = Block::new(self.next_chunk, 0);
        self.fresh_slots = slots;
        self.slots += slots;
        self.next_chunk += 1;
        self.next_slots = (self.next_slots * 2).min(LARGEST_CHUNK_SLOTS);
        Some(())
    }
}
