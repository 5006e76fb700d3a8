//! Keeps the [ranges](crate::ranges) as the trie is.
//!
//! ```text
//!  insert, remove --> trie --> repeat_in_ranges(change)
//!                                 |  from the root down to what the prefix covers
//!     covers whole slots          |  leaves and answers below them are stored in place
//!     lies in a range line        |  edited: other answers in place, other bounds in a new line
//!     lies in a slot with a leaf  |  a new line
//!     makes twelve ranges         |  a new dense node, from the trie
//! ```
//!
//! A change costs what it visits in the trie at most: a prefix inside a block costs a line. A
//! dense node becomes a line again when a withdrawal leaves at most five ranges, so that one route
//! that comes and goes does not make it both again and again. What is linked anew is filled before
//! and what is unlinked stays as it is until readers have moved on, as in the trie.
//!
//! The memory has a fixed size. When it is used up, by more routes or by nodes that wait for
//! readers, the writer makes a larger one from the trie, if the memory limit allows it; else
//! readers go down the trie, as in small tables, and another attempt comes after 65,536 changes.

use super::{FibWriter, grow};
use crate::arena::{Generation, Line, NIBBLE, SLOTS};
use crate::atomic::Ordering;
use crate::entry::{Entry, Taken};
use crate::ranges::{
    ANSWERS, END, INDEX, MIDDLE, OCTET, RANGE, RANGES, ROOT, Ranges, down, is_dense, is_down, is_range,
};
use crate::{Address, Prefix};
use core::ops::Range;

mod room;
mod runs;
#[cfg(test)]
mod tests;

pub(super) use room::Room;
use room::{Class, Exhausted};
use runs::Runs;

/// Lines of the smallest memory: a full Internet table takes 310,000.
pub(super) const FIRST: usize = 360_448;
/// Changes between two attempts to keep up.
const PATIENCE: u32 = 1 << 16;
/// Ranges at which a dense node becomes a line again.
const FEW: usize = 5;

/// One change of the trie.
#[derive(Clone, Copy)]
pub(super) struct Change<A> {
    /// Where it is. At most [`END`] bits.
    prefix: Prefix<A>,
    /// `None`: all there is.
    taken: Option<Taken>,
    /// What is there now.
    now: Entry,
}

impl<A: Address> Change<A> {
    fn takes(&self, entry: Entry) -> bool {
        self.taken.is_none_or(|taken| !is_down(entry) && taken.takes(entry))
    }

    /// The slots that it covers of a node between two depths; it is no longer than to the second.
    fn slots(&self, from: u8, to: u8) -> Range<usize> {
        if self.prefix.len() <= from {
            return 0..1 << (to - from);
        }
        let first = self.prefix.addr().slice(from, to - from);
        first..first + (1 << (to - self.prefix.len()))
    }

    /// The first and the last number of bits 32 to 48 that it is about, in a block that begins
    /// with the number `high` at `depth`.
    fn numbers(&self, depth: u8, high: usize) -> (usize, usize) {
        if self.prefix.len() <= depth {
            (high, high | usize::from(u16::MAX) >> (depth - MIDDLE))
        } else {
            let first = self.prefix.addr().slice(MIDDLE, END - MIDDLE);
            (first, first | usize::from(u16::MAX) >> (self.prefix.len() - MIDDLE))
        }
    }
}

/// A node of the ranges and the depths at which it begins and ends.
#[derive(Clone, Copy)]
struct Node {
    word: usize,
    from: u8,
    to: u8,
}

/// One pass over what changed.
struct Pass<'a> {
    trie: &'a Generation,
    ranges: &'a Ranges,
    room: &'a mut Room,
}

impl Pass<'_> {
    /// Repeats what `entry` of the trie at `depth` says, in all slots of a new `node` that it is
    /// about. `number` is the address bits from the node's first bit to `depth`.
    fn fill<A: Address>(
        &mut self,
        node: Node,
        entry: Entry,
        depth: u8,
        number: usize,
    ) -> Result<(), Exhausted> {
        let width = node.to - depth;
        if entry.is_child() && width > 0 {
            let trie = self.trie;
            for (i, slot) in trie.lines()[entry.line() as usize].slots().iter().enumerate() {
                let below = Entry(slot.load(Ordering::Relaxed));
                self.fill::<A>(node, below, depth + NIBBLE, number * SLOTS + i)?;
            }
            return Ok(());
        }
        for slot in number << width..(number + 1) << width {
            self.repeat::<A>(node, slot, None, entry)?;
        }
        Ok(())
    }

    /// Makes the change in what lies below `node`; `entry` is what the trie says at `depth`.
    fn change<A: Address>(
        &mut self,
        node: Node,
        change: Change<A>,
        mut entry: Entry,
        mut depth: u8,
    ) -> Result<(), Exhausted> {
        let prefix = change.prefix;
        if prefix.len() <= node.to {
            for slot in change.slots(node.from, node.to) {
                self.overwrite(node.word + slot, node.to, change);
            }
            return Ok(());
        }
        while entry.is_child() && depth < node.to {
            let slot = entry.line() as usize * SLOTS + prefix.addr().nibble(depth);
            entry = Entry(self.trie.slot(slot).load(Ordering::Relaxed));
            depth += NIBBLE;
        }
        self.repeat(node, prefix.addr().slice(node.from, node.to - node.from), Some(change), entry)
    }

    /// Makes a change that covers all that the entry at `word`, at `depth`, is about: whether longer
    /// prefixes lie below is as it was.
    fn overwrite<A: Address>(&self, word: usize, depth: u8, change: Change<A>) {
        let take = |word: usize, old: Entry| {
            if change.takes(old) && old != change.now {
                self.ranges.word(word).store(change.now.0, Ordering::Release);
            }
        };
        let old = self.ranges.load(word);
        if is_range(old) {
            let answers = (old.0 & INDEX) as usize + ANSWERS;
            (answers..answers + RANGES).for_each(|word| take(word, self.ranges.load(word)));
        } else if is_dense(old) {
            let node = Self::below(depth, old.0 as usize);
            (0..1 << (node.to - node.from))
                .for_each(|slot| self.overwrite(node.word + slot, node.to, change));
        } else {
            take(word, old);
        }
    }

    /// Makes one slot of a node say what `entry`, the trie's at the node's end, does: after a change
    /// that lies inside of it, or all of it.
    fn repeat<A: Address>(
        &mut self,
        node: Node,
        slot: usize,
        changed: Option<Change<A>>,
        entry: Entry,
    ) -> Result<(), Exhausted> {
        let word = node.word + slot;
        let old = self.ranges.load(word);
        if !entry.is_child() || node.to == END {
            let new = if entry.is_child() { down(self.trie, entry) } else { entry };
            if old != new {
                self.ranges.word(word).store(new.0, Ordering::Release);
                self.retire(old, node.to);
            }
            return Ok(());
        }
        let high = if node.to == MIDDLE + OCTET { slot << OCTET } else { 0 };
        if is_dense(old) {
            let fewer = |change: Change<A>| !matches!(change.taken, Some(Taken::UpTo(_)));
            if node.to >= MIDDLE && changed.is_some_and(fewer) {
                let mut runs = Runs::new(FEW);
                if runs.collect(self.trie, entry, node.to, high) {
                    return self.replace(word, old, node.to, &runs);
                }
            }
            let below = Self::below(node.to, old.0 as usize);
            return match changed {
                Some(change) => self.change(below, change, entry, below.from),
                None => self.fill::<A>(below, entry, below.from, 0),
            };
        }
        if node.to >= MIDDLE {
            let mut runs = Runs::new(RANGES);
            let fit = match changed {
                Some(change) if is_range(old) => self.edit(&mut runs, old, change, node.to, high),
                _ => runs.collect(self.trie, entry, node.to, high),
            };
            if fit {
                return self.answer(word, old, node.to, &runs);
            }
        }
        let class = if node.to == ROOT { Class::Middle } else { Class::Octet };
        let at = self.room.allocate(class, self.ranges.lines())?;
        let below = Self::below(node.to, at);
        for slot in 0..1 << (below.to - below.from) {
            self.ranges.word(at + slot).store(Entry::NONE.0, Ordering::Relaxed);
        }
        self.fill::<A>(below, entry, below.from, 0)?;
        // Release: whoever sees the name sees the node filled.
        self.ranges.word(word).store(at as u32, Ordering::Release);
        self.retire(old, node.to);
        Ok(())
    }

    /// The dense node at `word` that begins at depth `from`.
    fn below(from: u8, word: usize) -> Node {
        Node { word, from, to: if from == ROOT { MIDDLE } else { from + OCTET } }
    }

    /// Appends the ranges of the line `old` with the change made; `false` if they are too many.
    fn edit<A: Address>(
        &self,
        runs: &mut Runs,
        old: Entry,
        change: Change<A>,
        depth: u8,
        high: usize,
    ) -> bool {
        let line = (old.0 & INDEX) as usize;
        let word = |i: usize| self.ranges.word(line + i).load(Ordering::Relaxed);
        let end = high | usize::from(u16::MAX) >> (depth - MIDDLE);
        let (from, to) = change.numbers(depth, high);
        let mut first = high;
        for i in 0..RANGES {
            let last = if i < RANGES - 1 { (word(i / 2) >> (16 * (i % 2)) & 0xffff) as usize } else { end };
            let last = last.min(end);
            let answer = Entry(word(ANSWERS + i));
            let within = if change.takes(answer) { change.now } else { answer };
            let parts = [
                (first, last.min(from.wrapping_sub(1)), answer),
                (first.max(from), last.min(to), within),
                (first.max(to + 1), last, answer),
            ];
            let from_zero = from == 0;
            for (part, (first, last, answer)) in parts.into_iter().enumerate() {
                let none = first > last || (part == 0 && from_zero);
                if !none && !runs.push(first, answer) {
                    return false;
                }
            }
            if last == end {
                break;
            }
            first = last + 1;
        }
        true
    }

    /// Stores answers where the bounds are the same, else links another line.
    fn answer(&mut self, word: usize, old: Entry, depth: u8, runs: &Runs) -> Result<(), Exhausted> {
        if is_range(old) {
            let line = (old.0 & INDEX) as usize;
            let same =
                |(i, bound): (usize, &u32)| self.ranges.word(line + i).load(Ordering::Relaxed) == *bound;
            if runs.bounds().iter().enumerate().all(same) {
                for (i, answer) in runs.answers.iter().enumerate().take(runs.count) {
                    let slot = self.ranges.word(line + ANSWERS + i);
                    if slot.load(Ordering::Relaxed) != answer.0 {
                        slot.store(answer.0, Ordering::Release);
                    }
                }
                return Ok(());
            }
        }
        self.replace(word, old, depth, runs)
    }

    /// Links a new line in place of `old`.
    fn replace(&mut self, word: usize, old: Entry, depth: u8, runs: &Runs) -> Result<(), Exhausted> {
        let line = self.room.allocate(Class::Line, self.ranges.lines())?;
        for (i, bound) in runs.bounds().iter().enumerate() {
            self.ranges.word(line + i).store(*bound, Ordering::Relaxed);
        }
        for (i, answer) in runs.answers.iter().enumerate() {
            self.ranges.word(line + ANSWERS + i).store(answer.0, Ordering::Relaxed);
        }
        // Release: whoever sees the name sees the line filled.
        self.ranges.word(word).store(RANGE | line as u32, Ordering::Release);
        self.retire(old, depth);
        Ok(())
    }

    /// Retires what an unlinked entry at `depth` names, and all below.
    fn retire(&mut self, entry: Entry, depth: u8) {
        if is_range(entry) {
            self.room.retire(Class::Line, (entry.0 & INDEX) as usize);
        } else if is_dense(entry) {
            let node = Self::below(depth, entry.0 as usize);
            for slot in 0..1 << (node.to - node.from) {
                self.retire(self.ranges.load(node.word + slot), node.to);
            }
            let class = if depth == ROOT { Class::Middle } else { Class::Octet };
            self.room.retire(class, node.word);
        }
    }
}

impl<A: Address> FibWriter<A> {
    /// Makes the ranges, if there are any, say what the trie says about the addresses of `prefix`
    /// since `now` is there in place of the leaves that were `taken`.
    pub(super) fn repeat_in_ranges(&mut self, prefix: &Prefix<A>, taken: Taken, now: Entry) {
        if A::BITS == 32 || self.loading || self.room.patience.is_none() && self.fib.ranges.newest().is_none()
        {
            return;
        }
        let change = if prefix.len() <= END {
            Change { prefix: *prefix, taken: Some(taken), now }
        } else {
            let now = self.entry_at_end(prefix.addr());
            Change { prefix: prefix.shortened(END), taken: None, now }
        };
        let kept_up = match self.room.patience {
            None => self.repeat(Some(change)).is_ok(),
            Some(left) => {
                self.room.patience = Some(left.saturating_sub(1));
                left > 0
            }
        };
        if !kept_up {
            self.make_ranges(FIRST);
        }
    }

    /// Gives a table that has become large its ranges, or has those that it has name the lines of
    /// a new generation.
    pub(super) fn ranges_of_generation(&mut self) {
        let large = A::BITS == 128 && self.generation().root_bits() == ROOT;
        let ready = !self.loading && self.room.patience.is_none();
        if ready && (large || self.fib.ranges.newest().is_some()) {
            self.make_ranges(FIRST);
        }
    }

    /// Has the ranges stand aside while at least `routes` are added, if those are most of the table
    /// then: to make them once afterwards takes less time, and no room for what would be unlinked.
    pub(super) fn begin_load(&mut self, routes: usize) {
        self.loading = A::BITS == 128 && (routes >= self.len || self.fib.ranges.newest().is_none());
        if self.loading {
            self.fib.ranges.hide();
        }
    }

    /// Makes the ranges that stood aside.
    pub(super) fn end_load(&mut self) {
        let waited = core::mem::take(&mut self.loading);
        if waited && self.fib.ranges.newest().is_some() {
            self.make_ranges(FIRST);
        } else if waited {
            self.ranges_of_generation();
        }
    }

    /// What the trie says about the first [`END`] bits of an address.
    fn entry_at_end(&self, addr: A) -> Entry {
        let trie = self.generation();
        let mut depth = trie.root_bits();
        let mut entry = trie.load(addr.slice(0, depth));
        while entry.is_child() && depth < END {
            entry = trie.load(entry.line() as usize * SLOTS + addr.nibble(depth));
            depth += NIBBLE;
        }
        if entry.is_child() { down(trie, entry) } else { entry }
    }

    /// Gives the table ranges that say what the trie does, in the memory that they have or in
    /// larger memory, of at least `first` lines, unless the memory limit leaves no room for it
    /// beside the next generation: routes come first.
    pub(super) fn make_ranges(&mut self, first: usize) {
        self.fib.ranges.hide();
        loop {
            if self.fib.ranges.newest().is_some() && self.repeat(None).is_ok() {
                self.room.patience = None;
                self.fib.ranges.show();
                return;
            }
            self.room.patience = Some(PATIENCE);
            let lines = self.fib.ranges.newest().map_or(first, |ranges| 2 * ranges.lines());
            let next = grow::bytes(grow::next(self.generation().lines().len()));
            if !self.fib.ranges.can_grow() || self.fits(lines * size_of::<Line>() + next).is_err() {
                return;
            }
            self.fib.ranges.add(Ranges::new(lines, self.advise));
            self.room = self.room.anew(lines);
        }
    }

    /// Makes a change, or, where there is none, all of the ranges anew.
    fn repeat(&mut self, changed: Option<Change<A>>) -> Result<(), Exhausted> {
        let Some(ranges) = self.fib.ranges.newest() else { return Ok(()) };
        let trie = self.fib.arena.current();
        let depth = trie.root_bits();
        let root = Node { word: 0, from: 0, to: ROOT };
        let mut pass = Pass { trie, ranges, room: &mut self.room };
        let entry = |number| Entry(trie.slot(number).load(Ordering::Relaxed));
        match changed {
            Some(change) => pass.change(root, change, entry(change.prefix.addr().slice(0, depth)), depth),
            None => (0..1 << depth).try_for_each(|number| pass.fill::<A>(root, entry(number), depth, number)),
        }
    }

    /// Bytes of the ranges and the lists about them.
    pub(super) fn ranges_bytes(&self) -> usize {
        self.fib.ranges.bytes() + self.room.bytes()
    }
}
