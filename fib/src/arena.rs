//! The memory that readers and the writer share: lines of 16 slots, in one piece.
//!
//! ```text
//!  Arena                       Generation: one piece of memory, never moved, never given back
//!  [0] root of  8 bits ------> [ root: 2^bits slots in lines | line | line | line | .. free .. ]
//!  [1] root of 12 bits ------> [ root                        | line | line | ...               ]
//!  [2] root of 20 bits ------> [ root                                      | line | ...        ]
//!       ^ current
//! ```
//!
//! A table that outgrows its generation is copied into one at least twice as large, whose root
//! takes more bits of the address at once. Readers pick up the newest generation when they begin
//! a lookup; the old one stays as it was when it was superseded, so that a lookup in progress
//! ends well. All old generations together are smaller than the newest.
//!
//! Invariants: a child entry names a line inside its own generation, and what it names is filled
//! before the entry is stored; superseded generations are not written.

use crate::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::block::{self, AdviseMemory};
use crate::entry::Entry;
use std::sync::OnceLock;

/// Address bits that one line resolves.
pub(crate) const NIBBLE: u8 = 4;
/// Slots of a line.
pub(crate) const SLOTS: usize = 1 << NIBBLE;
/// Generations that a table can have: each at least doubles the one before.
const GENERATIONS: usize = 28;

/// Sixteen slots that lie in one cache line.
#[repr(C, align(64))]
pub(crate) struct Line([AtomicU32; SLOTS]);

impl Line {
    pub(crate) fn empty() -> Self {
        Self(core::array::from_fn(|_| AtomicU32::new(Entry::NONE.0)))
    }

    #[inline(always)]
    pub(crate) fn slots(&self) -> &[AtomicU32; SLOTS] {
        &self.0
    }

    /// Whether a line hangs below one of the slots. Meaningful for the writer only.
    pub(crate) fn has_child(&self) -> bool {
        let and = self.0.iter().fold(u32::MAX, |and, slot| and & slot.load(Ordering::Relaxed));
        and & Entry::LEAF == 0
    }
}

/// A table's root and lines.
pub(crate) struct Generation {
    root_bits: u8,
    /// How many generations there were before.
    number: usize,
    lines: Box<[Line]>,
}

impl Generation {
    /// A generation of `lines` lines, the root's included, without routes.
    pub(crate) fn new(root_bits: u8, lines: usize, advise: Option<AdviseMemory>) -> Self {
        assert!(
            root_bits >= NIBBLE && root_bits.is_multiple_of(NIBBLE) && lines >= Self::root_lines(root_bits)
        );
        Self { root_bits, number: 0, lines: block::allocate(lines, advise, Line::empty) }
    }

    /// How many lines a root takes.
    pub(crate) const fn root_lines(root_bits: u8) -> usize {
        1 << (root_bits - NIBBLE)
    }

    /// Address bits that the root resolves.
    #[inline(always)]
    pub(crate) fn root_bits(&self) -> u8 {
        self.root_bits
    }

    /// How many generations of the table came before.
    #[inline(always)]
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    #[inline(always)]
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    #[inline(always)]
    pub(crate) fn slot(&self, slot: usize) -> &AtomicU32 {
        &self.lines[slot / SLOTS].0[slot % SLOTS]
    }

    /// The first of all slots.
    #[cfg(not(feature = "loom"))]
    #[inline(always)]
    pub(crate) fn base(&self) -> *const AtomicU32 {
        self.lines.as_ptr().cast()
    }

    /// Reads a slot.
    #[inline(always)]
    pub(crate) fn load(&self, slot: usize) -> Entry {
        // Acquire: a line is filled before the entry that names it is stored with Release.
        Entry(self.slot(slot).load(Ordering::Acquire))
    }
}

/// All generations of one table.
pub(crate) struct Arena {
    current: AtomicUsize,
    generations: [OnceLock<Generation>; GENERATIONS],
}

impl Arena {
    pub(crate) fn new(first: Generation) -> Self {
        let arena =
            Self { current: AtomicUsize::new(0), generations: [const { OnceLock::new() }; GENERATIONS] };
        arena.generations[0].get_or_init(|| first);
        arena
    }

    /// The newest generation.
    #[inline(always)]
    pub(crate) fn current(&self) -> &Generation {
        self.generations[self.current.load(Ordering::Acquire)].get().expect("set before it is current")
    }

    /// Whether there may be another generation.
    pub(crate) fn can_grow(&self) -> bool {
        self.current.load(Ordering::Relaxed) + 1 < GENERATIONS
    }

    /// Makes `next` the newest generation. Only the writer calls this.
    pub(crate) fn supersede(&self, mut next: Generation) {
        let number = self.current.load(Ordering::Relaxed) + 1;
        next.number = number;
        self.generations[number].get_or_init(|| next);
        self.current.store(number, Ordering::Release);
    }

    /// Bytes of all generations and of the directory.
    pub(crate) fn bytes(&self) -> usize {
        let lines: usize = self.generations.iter().filter_map(OnceLock::get).map(|g| g.lines.len()).sum();
        lines * size_of::<Line>() + size_of::<Self>()
    }
}
