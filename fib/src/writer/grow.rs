//! Growth: the table is copied into a larger generation with a wider root.
//!
//! ```text
//!  lines, the root's included     root     bytes
//!                 64, 384         8 bits   4 KiB, 24 KiB
//!          1024 to   4096        12 bits   64 KiB to 256 KiB
//!          8192 to  65536        16 bits   512 KiB to 4 MiB
//!            131072 and up       20 bits   8 MiB and up
//! ```
//!
//! A small table pays for few lines; a large one saves its readers two or three steps. The copy
//! visits lines in the order of addresses, so that neighbours share pages. It never changes what
//! is found for any address, hence readers may change over at any moment. Lines that were free
//! or retired stay behind in the old generation.

use super::path::upper;
use super::{FibFull, FibWriter};
use crate::Address;
use crate::arena::{Generation, Line, NIBBLE, SLOTS};
use crate::atomic::Ordering;
use crate::books::Book;
use crate::entry::Entry;
use crate::front::{self, Front};

/// Root bits and lines of an empty table.
pub(super) const FIRST: (u8, usize) = (8, 64);
/// Entries name slots with 31 bits.
const MOST_LINES: usize = 1 << 27;

/// The root of a generation with so many lines.
const fn root_bits(lines: usize) -> u8 {
    match lines {
        ..1024 => 8,
        1024..8192 => 12,
        8192..131_072 => 16,
        _ => 20,
    }
}

/// The lines of the generation after one with so many.
pub(super) const fn next(lines: usize) -> usize {
    match lines {
        ..384 => 384,
        384..1024 => 1024,
        _ => (lines + 1).next_power_of_two(),
    }
}

/// Bytes of a generation and its books.
pub(super) fn bytes(lines: usize) -> usize {
    let root_bits = root_bits(lines);
    let books =
        upper(core::net::Ipv4Addr::UNSPECIFIED, root_bits) + lines - Generation::root_lines(root_bits);
    lines * size_of::<Line>() + books * size_of::<Book>()
}

impl<A: Address> FibWriter<A> {
    /// Sees to it that `count` lines can be linked without fail. Returns whether the table had
    /// to move to another generation for it.
    pub(super) fn reserve(&mut self, count: usize) -> Result<bool, FibFull> {
        let lines = self.generation().lines().len();
        if self.free.len() + lines - self.fresh as usize >= count {
            return Ok(false);
        }
        let root_lines = Generation::root_lines(self.generation().root_bits());
        let live = self.fresh as usize - root_lines - self.free.len() - self.retired.len();
        let enough = |lines: usize| lines - Generation::root_lines(root_bits(lines)) >= live + count;
        let mut larger = next(lines);
        while !enough(larger) {
            larger = next(larger);
        }
        if larger > MOST_LINES || !self.fib.arena.can_grow() {
            return Err(self.full());
        }
        if self.fits(bytes(larger)).is_err() {
            // The last generation takes what room there is, if that is worth the copy.
            let room = self.max_bytes.saturating_sub(self.memory_bytes());
            larger = room / (size_of::<Line>() + size_of::<Book>());
            if larger < lines + lines / 4 || !enough(larger) || self.fits(bytes(larger)).is_err() {
                return Err(self.full());
            }
        }
        self.move_to(larger);
        Ok(true)
    }

    fn move_to(&mut self, lines: usize) {
        let root_bits = root_bits(lines);
        let root_lines = Generation::root_lines(root_bits);
        let old = self.fib.arena.current();
        let mut copy = Copy {
            old,
            old_below: &self.below,
            new: Generation::new(root_bits, lines, self.advise),
            upper: vec![Book::EMPTY; upper(A::UNSPECIFIED, root_bits)],
            below: vec![Book::EMPTY; lines - root_lines],
            fresh: root_lines as u32,
        };
        copy.upper[..self.upper.len()].copy_from_slice(&self.upper);
        for index in 0..1 << old.root_bits() {
            copy.root(Entry(old.slot(index).load(Ordering::Relaxed)), old.root_bits(), index);
        }
        let Copy { new, upper, below, fresh, .. } = copy;
        self.fib.arena.supersede(new);
        (self.upper, self.below, self.fresh) = (upper, below, fresh);
        self.free = Vec::new();
        self.retired.clear();
        if A::BITS == 32 && root_bits == 20 && self.fib.front.get().is_none() {
            self.make_front();
        }
        self.ranges_of_generation();
    }

    /// Gives the table its front, unless the memory limit leaves no room for it beside the next
    /// generation: routes come first.
    fn make_front(&self) {
        let lines = self.generation().lines().len();
        if self.fits(Front::BYTES + bytes(next(lines))).is_err() {
            return;
        }
        let front = Front::new(self.advise);
        let generation = self.generation();
        let kernel = self.fib.first;
        // A slot of the root is about sixteen of the front's words.
        debug_assert_eq!(generation.root_bits() + NIBBLE, front::BITS);
        for index in 0..1 << generation.root_bits() {
            let entry = Entry(generation.slot(index).load(Ordering::Relaxed));
            if entry.is_child() {
                let line = &generation.lines()[entry.line() as usize];
                for (i, slot) in line.slots().iter().enumerate() {
                    front.set(kernel, index, 1 << i, Entry(slot.load(Ordering::Relaxed)));
                }
            } else {
                front.set(kernel, index, u16::MAX, entry);
            }
        }
        self.fib.front.get_or_init(|| front);
    }
}

/// A copy under way.
struct Copy<'a> {
    old: &'a Generation,
    old_below: &'a [Book],
    new: Generation,
    upper: Vec<Book>,
    below: Vec<Book>,
    /// The next line of the new generation to fill.
    fresh: u32,
}

impl Copy<'_> {
    fn old_book(&self, line: u32) -> Book {
        self.old_below[line as usize - Generation::root_lines(self.old.root_bits())]
    }

    /// Copies what `entry`, found behind the first `depth` bits `index`, says into the new root.
    fn root(&mut self, entry: Entry, depth: u8, index: usize) {
        let root_bits = self.new.root_bits();
        if !entry.is_child() {
            let width = 1 << (root_bits - depth);
            for slot in index * width..(index + 1) * width {
                self.new.slot(slot).store(entry.0, Ordering::Relaxed);
            }
        } else if depth == root_bits {
            let line = self.line(entry.line());
            self.new.slot(index).store(Entry::child(line).0, Ordering::Relaxed);
        } else {
            let above = ((1 << depth) - 1) / (SLOTS - 1);
            self.upper[above + index] = self.old_book(entry.line());
            let old = self.old;
            for (i, slot) in old.lines()[entry.line() as usize].slots().iter().enumerate() {
                self.root(Entry(slot.load(Ordering::Relaxed)), depth + NIBBLE, index * SLOTS + i);
            }
        }
    }

    /// Copies a line and all below it; returns the new line.
    fn line(&mut self, line: u32) -> u32 {
        let new = self.fresh;
        self.fresh += 1;
        let index = new as usize - Generation::root_lines(self.new.root_bits());
        self.below[index] = self.old_book(line);
        let old = self.old;
        for (i, slot) in old.lines()[line as usize].slots().iter().enumerate() {
            let mut entry = Entry(slot.load(Ordering::Relaxed));
            if entry.is_child() {
                entry = Entry::child(self.line(entry.line()));
            }
            self.new.lines()[new as usize].slots()[i].store(entry.0, Ordering::Relaxed);
        }
        new
    }
}
