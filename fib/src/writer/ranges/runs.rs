//! The ranges of a block of addresses, while they are counted.

use crate::arena::{Generation, NIBBLE};
use crate::atomic::Ordering;
use crate::entry::Entry;
use crate::ranges::{ANSWERS, END, RANGES, down};

/// At most so many ranges as a line has room for, in ascending order.
pub(super) struct Runs {
    /// The last number of each; unused ones, and that of the last, are the highest.
    last: [u16; RANGES],
    /// The answer of each.
    pub(super) answers: [Entry; RANGES],
    /// How many there are.
    pub(super) count: usize,
    limit: usize,
}

impl Runs {
    /// None yet, and at most `limit`.
    pub(super) const fn new(limit: usize) -> Self {
        Self { last: [u16::MAX; RANGES], answers: [Entry::NONE; RANGES], count: 0, limit }
    }

    /// Appends a range that begins at `first`; `false` if that is one too many.
    pub(super) fn push(&mut self, first: usize, answer: Entry) -> bool {
        match self.count.checked_sub(1) {
            Some(last) if self.answers[last] == answer => return true,
            _ if self.count == self.limit => return false,
            Some(last) => self.last[last] = (first - 1) as u16,
            None => {}
        }
        self.answers[self.count] = answer;
        self.count += 1;
        true
    }

    /// Appends what `entry` of the trie at `depth` says about the numbers from `first` on.
    pub(super) fn collect(&mut self, trie: &Generation, entry: Entry, depth: u8, first: usize) -> bool {
        if depth == END || !entry.is_child() {
            return self.push(first, if entry.is_child() { down(trie, entry) } else { entry });
        }
        let slots = trie.lines()[entry.line() as usize].slots();
        slots.iter().enumerate().all(|(i, slot)| {
            let below = first + (i << (END - NIBBLE - depth));
            self.collect(trie, Entry(slot.load(Ordering::Relaxed)), depth + NIBBLE, below)
        })
    }

    /// The words of the bounds.
    pub(super) fn bounds(&self) -> [u32; ANSWERS] {
        core::array::from_fn(|i| u32::from(self.last[2 * i]) | u32::from(self.last[2 * i + 1]) << 16)
    }
}
