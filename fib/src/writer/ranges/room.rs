//! What is used of the memory of the ranges, and what waits for readers to leave it.
//!
//! ```text
//!  place:  fresh -> linked -> retired -> free -> linked -> ...      each class of node for itself
//! ```
//!
//! A place stays of the class that it was first used for: see the invariants of
//! [`crate::ranges`].

use crate::arena::{NIBBLE, SLOTS};
use crate::ranges::{MIDDLE, OCTET, ROOT, Ranges};
use std::collections::VecDeque;

/// Sizes of what is allocated, in lines.
#[derive(Clone, Copy)]
pub(super) enum Class {
    /// A range line.
    Line,
    /// A dense node of eight bits.
    Octet,
    /// A dense node of twelve bits.
    Middle,
}

impl Class {
    pub(super) const fn lines(self) -> u32 {
        match self {
            Self::Line => 1,
            Self::Octet => 1 << (OCTET - NIBBLE),
            Self::Middle => 1 << (MIDDLE - ROOT - NIBBLE),
        }
    }
}

/// There is no memory left.
pub(super) struct Exhausted;

/// What is used of the memory. Places are line numbers.
#[derive(Default)]
pub(in crate::writer) struct Room {
    pub(super) fresh: u32,
    pub(super) free: [Vec<u32>; 3],
    pub(super) retired: VecDeque<(Class, u32)>,
    /// How many were ever retired, the waiting ones included.
    pub(super) retired_ever: u64,
    /// So many changes until the next attempt, where the memory was too small for the table.
    pub(super) patience: Option<u32>,
}

impl Room {
    /// All of a memory of so many lines but the root. What was ever retired counts on from `self`. The lists of
    /// what is free have room for all there is: no change of the table makes them longer.
    pub(super) fn anew(&self, lines: usize) -> Self {
        let below = lines - Ranges::ROOT_LINES;
        let room = |class: Class| Vec::with_capacity(below / class.lines() as usize);
        Self {
            fresh: Ranges::ROOT_LINES as u32,
            free: [Class::Line, Class::Octet, Class::Middle].map(room),
            retired_ever: self.retired_ever,
            patience: self.patience,
            ..Self::default()
        }
    }

    pub(in crate::writer) fn retired(&self) -> usize {
        self.retired.len()
    }

    pub(in crate::writer) fn retired_ever(&self) -> u64 {
        self.retired_ever
    }

    /// Frees what was retired as one of the first `up_to`; returns how many.
    pub(in crate::writer) fn reclaim(&mut self, up_to: u64) -> usize {
        let before = self.retired_ever - self.retired.len() as u64;
        let count = up_to.saturating_sub(before) as usize;
        for (class, place) in self.retired.drain(..count) {
            self.free[class as usize].push(place);
        }
        count
    }

    pub(in crate::writer) fn bytes(&self) -> usize {
        let free: usize = self.free.iter().map(Vec::capacity).sum();
        free * size_of::<u32>() + self.retired.capacity() * size_of::<(Class, u32)>()
    }

    /// The first word of a place for a node.
    pub(super) fn allocate(&mut self, class: Class, lines: usize) -> Result<usize, Exhausted> {
        let place = self.free[class as usize].pop().or_else(|| {
            let place = self.fresh;
            (place as usize + class.lines() as usize <= lines).then(|| {
                self.fresh += class.lines();
                place
            })
        });
        place.map(|place| place as usize * SLOTS).ok_or(Exhausted)
    }

    /// Takes note that the node at `word` is unlinked.
    pub(super) fn retire(&mut self, class: Class, word: usize) {
        self.retired.push_back((class, (word / SLOTS) as u32));
        self.retired_ever += 1;
    }
}
