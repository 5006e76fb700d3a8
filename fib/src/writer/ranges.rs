//! Keeps the [ranges](crate::ranges) as the trie is.
//!
//! ```text
//!  insert, remove --> trie --> repeat_in_ranges(prefix): what lies under the prefix, again
//!                                 |
//!            leaf                 | the word becomes that leaf
//!            <= 11 ranges         | a line: its answers are stored; if the bounds differ, a new line
//!            more                 | a dense node: the slots that the prefix covers, one by one
//! ```
//!
//! A change is bounded by what the trie's own change visits, and by a line or two to be counted
//! anew. A line becomes dense with its twelfth range, a dense node a line again when a withdrawal
//! leaves at most five.
//!
//! The memory has a fixed size. When it is used up, by more routes or by nodes that wait for
//! readers, the writer makes a larger one from the trie, if the memory limit allows it; else
//! readers go down the trie, as in small tables, and another attempt comes after 65,536 changes.

use super::{FibWriter, grow};
use crate::arena::{Generation, Line, NIBBLE, SLOTS};
use crate::atomic::Ordering;
use crate::entry::Entry;
use crate::ranges::{
    ANSWERS, DOWN, END, INDEX, MIDDLE, OCTET, RANGE, RANGES, ROOT, Ranges, is_dense, is_range,
};
use crate::{Address, Prefix};
use core::ops::Range;
use std::collections::VecDeque;

#[cfg(test)]
mod tests;

/// Lines of the smallest memory: a full Internet table takes 310,000.
pub(super) const FIRST: usize = 360_448;
/// Changes between two attempts to keep up.
const PATIENCE: u32 = 1 << 16;
/// Ranges at which a dense node becomes a line again.
const FEW: usize = 5;

/// Sizes of what is allocated, in lines.
#[derive(Clone, Copy)]
enum Class {
    /// A range line.
    Line,
    /// A dense node of eight bits.
    Octet,
    /// A dense node of twelve bits.
    Middle,
}

impl Class {
    const fn lines(self) -> u32 {
        match self {
            Self::Line => 1,
            Self::Octet => 1 << (OCTET - NIBBLE),
            Self::Middle => 1 << (MIDDLE - ROOT - NIBBLE),
        }
    }
}

/// There is no memory left.
struct Exhausted;

/// What is used of the memory. Places are line numbers.
#[derive(Default)]
pub(super) struct Room {
    fresh: u32,
    free: [Vec<u32>; 3],
    retired: VecDeque<(Class, u32)>,
    /// How many were ever retired, the waiting ones included.
    retired_ever: u64,
    /// So many changes until the next attempt, where the memory was too small for the table.
    patience: Option<u32>,
}

impl Room {
    pub(super) fn retired(&self) -> usize {
        self.retired.len()
    }

    pub(super) fn retired_ever(&self) -> u64 {
        self.retired_ever
    }

    /// Frees what was retired as one of the first `up_to`; returns how many.
    pub(super) fn reclaim(&mut self, up_to: u64) -> usize {
        let before = self.retired_ever - self.retired.len() as u64;
        let count = up_to.saturating_sub(before) as usize;
        for (class, place) in self.retired.drain(..count) {
            self.free[class as usize].push(place);
        }
        count
    }

    pub(super) fn bytes(&self) -> usize {
        let free: usize = self.free.iter().map(Vec::capacity).sum();
        free * size_of::<u32>() + self.retired.capacity() * size_of::<(Class, u32)>()
    }

    fn allocate(&mut self, class: Class, lines: usize) -> Result<usize, Exhausted> {
        let place = self.free[class as usize].pop().or_else(|| {
            let place = self.fresh;
            (place as usize + class.lines() as usize <= lines).then(|| {
                self.fresh += class.lines();
                place
            })
        });
        place.map(|place| place as usize * SLOTS).ok_or(Exhausted)
    }

    fn retire(&mut self, class: Class, word: usize) {
        self.retired.push_back((class, (word / SLOTS) as u32));
        self.retired_ever += 1;
    }
}

/// The ranges of a block, while they are counted.
struct Runs {
    last: [u16; RANGES],
    answers: [Entry; RANGES],
    count: usize,
    limit: usize,
}

impl Runs {
    const fn new(limit: usize) -> Self {
        Self { last: [u16::MAX; RANGES], answers: [Entry::NONE; RANGES], count: 0, limit }
    }

    /// Appends a range that begins at `first`; `false` if that is one too many.
    fn push(&mut self, first: usize, answer: Entry) -> bool {
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
    fn collect(&mut self, trie: &Generation, entry: Entry, depth: u8, first: usize) -> bool {
        if depth == END || !entry.is_child() {
            return self.push(first, if entry.is_child() { DOWN } else { entry });
        }
        let slots = trie.lines()[entry.line() as usize].slots();
        slots.iter().enumerate().all(|(i, slot)| {
            let below = first + (i << (END - NIBBLE - depth));
            self.collect(trie, Entry(slot.load(Ordering::Relaxed)), depth + NIBBLE, below)
        })
    }

    /// The words of the bounds.
    fn bounds(&self) -> [u32; ANSWERS] {
        core::array::from_fn(|i| u32::from(self.last[2 * i]) | u32::from(self.last[2 * i + 1]) << 16)
    }
}

/// Whose leaves a change takes.
#[derive(Clone, Copy)]
pub(super) enum Taken {
    /// Those of prefixes of at most this length, and where there is no route.
    UpTo(u8),
    /// Those of the prefix of this length.
    Of(u8),
    /// All there is.
    All,
}

/// One change of the trie.
#[derive(Clone, Copy)]
pub(super) struct Change<A> {
    /// Where it is. At most [`END`] bits.
    prefix: Prefix<A>,
    taken: Taken,
    /// What is there now.
    now: Entry,
}

impl<A: Address> Change<A> {
    fn takes(&self, entry: Entry) -> bool {
        match self.taken {
            Taken::UpTo(len) => entry != DOWN && entry.prefix_len().is_none_or(|old| old <= len),
            Taken::Of(len) => entry != DOWN && entry.prefix_len() == Some(len),
            Taken::All => true,
        }
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
            let new = if entry.is_child() { DOWN } else { entry };
            if old != new {
                self.ranges.word(word).store(new.0, Ordering::Release);
                self.retire(old, node.to);
            }
            return Ok(());
        }
        let high = if node.to == MIDDLE + OCTET { slot << OCTET } else { 0 };
        if is_dense(old) {
            let fewer = |change: Change<A>| !matches!(change.taken, Taken::UpTo(_));
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
        if A::BITS == 32 || self.room.patience.is_none() && self.fib.ranges.newest().is_none() {
            return;
        }
        let change = if prefix.len() <= END {
            Change { prefix: *prefix, taken, now }
        } else {
            let now = self.entry_at_end(prefix.addr());
            Change { prefix: prefix.shortened(END), taken: Taken::All, now }
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

    /// What the trie says about the first [`END`] bits of an address.
    fn entry_at_end(&self, addr: A) -> Entry {
        let trie = self.generation();
        let mut depth = trie.root_bits();
        let mut entry = trie.load(addr.slice(0, depth));
        while entry.is_child() && depth < END {
            entry = trie.load(entry.line() as usize * SLOTS + addr.nibble(depth));
            depth += NIBBLE;
        }
        if entry.is_child() { DOWN } else { entry }
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
            let (fresh, retired_ever) = (Ranges::ROOT_LINES as u32, self.room.retired_ever);
            self.room = Room { fresh, retired_ever, ..Room::default() };
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
