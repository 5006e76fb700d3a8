//! The one writer of a forwarding table: insert, remove, and the life of lines.
//!
//! ```text
//!  line:  free -> filled -> linked -> unlinked -> retired -> free -> ...
//!                              ^                     ^         ^
//!                     readers may enter     seal() __|         |__ reclaim(): the caller says
//!                                                                  that all readers moved on
//! ```
//!
//! Beside every line lies a book (`books.rs`) of the prefixes that end in it. The books tell which shorter
//! prefix shows again when one is removed, and whether a line is still needed. Above the lines,
//! where the root takes many bits at once, the books go on in steps of four bits:
//!
//! ```text
//!  readers   [ root, 20 bits                    ] -> line, bits 20..24 -> line, bits 24..28 -> ...
//!  books     0..4  4..8  8..12  12..16  16..20       20..24               24..28
//!            `------------ upper -------------'      `------------ below ----------'
//! ```
//!
//! After the trie, the writer changes what repeats it: the [front](crate::front) or the
//! [ranges](crate::ranges).
//!
//! Invariants: a line exists exactly when a prefix longer than its depth lies inside it; a leaf
//! holds the longest prefix that covers its slot; retired lines are not written.

use crate::arena::{Generation, NIBBLE};
use crate::atomic::Ordering;
use crate::block::AdviseMemory;
use crate::books::{Book, Pool};
use crate::entry::{Entry, GroupId, Taken};
use crate::front::Front;
use crate::table::Fib;
use crate::{Address, Prefix, front};
use path::{Path, position, upper};
use ranges::Room;
use std::collections::VecDeque;
use std::sync::Arc;
use thiserror::Error;

mod grow;
mod overwrite;
mod path;
mod ranges;
#[cfg(test)]
mod tests;
mod walk;

/// The table's memory limit, or the largest table that entries can name, is reached.
/// The table is as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the forwarding table is full: it may take {limit_bytes} bytes")]
pub struct FibFull {
    /// The limit in force.
    pub limit_bytes: usize,
}

/// Why [`FibWriter::load`] stopped. What came before stays in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoadError<A: Address> {
    /// The input is not in strictly ascending order.
    #[error("prefix {0} is out of order: a load takes each prefix once, in ascending order")]
    Order(Prefix<A>),
    /// The table cannot take the rest.
    #[error(transparent)]
    Full(#[from] FibFull),
}

/// All lines that were retired up to a moment; made by [`FibWriter::seal`].
#[derive(Debug)]
#[must_use = "sealed lines are reused only after FibWriter::reclaim"]
pub struct Retired {
    /// How many lines the writer had ever retired.
    up_to: u64,
    /// The same of the nodes of the ranges.
    ranges_up_to: u64,
    /// Address of the table, to tell tables apart.
    table: usize,
}

/// The writing side of a forwarding table. There is exactly one per table.
///
/// Changes are seen by readers at once, each address at the single store that concerns it.
pub struct FibWriter<A: Address> {
    fib: Arc<Fib<A>>,
    /// Books at depths that the root covers.
    upper: Vec<Book>,
    /// Books of the lines, by line, counted from the first behind the root.
    below: Vec<Book>,
    pool: Pool,
    len: usize,
    /// How many prefixes have a group that the front cannot name.
    beyond_front: usize,
    /// The first line that was never used.
    fresh: u32,
    free: Vec<u32>,
    /// Lines that readers may still be in, oldest first.
    retired: VecDeque<u32>,
    /// How many lines were ever retired, the waiting ones included.
    retired_ever: u64,
    room: Room,
    /// Whether so many routes come at once that the ranges are made after them.
    loading: bool,
    max_bytes: usize,
    advise: Option<AdviseMemory>,
}

impl<A: Address> Default for FibWriter<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Address> FibWriter<A> {
    /// An empty table, bounded only by what entries can name (8 GiB).
    pub fn new() -> Self {
        Self::with_memory_limit(usize::MAX)
    }

    /// An empty table that takes at most `max_bytes`, counted as
    /// [`memory_bytes`](FibWriter::memory_bytes) does. An empty table takes a few KiB, even if
    /// the limit is lower.
    pub fn with_memory_limit(max_bytes: usize) -> Self {
        let (root_bits, lines) = grow::FIRST;
        let root_lines = Generation::root_lines(root_bits);
        Self {
            fib: Arc::new(Fib::new(Generation::new(root_bits, lines, None))),
            upper: vec![Book::EMPTY; upper(A::UNSPECIFIED, root_bits)],
            below: vec![Book::EMPTY; lines - root_lines],
            pool: Pool::new(),
            len: 0,
            beyond_front: 0,
            fresh: root_lines as u32,
            free: Vec::new(),
            retired: VecDeque::new(),
            retired_ever: 0,
            room: Room::default(),
            loading: false,
            max_bytes,
            advise: None,
        }
    }

    /// Has `advise` called for memory that lookups will read, as far as it is whole aligned
    /// blocks of 2 MiB, between its allocation and the first write to it. Tables of tens of
    /// thousands of routes have such.
    ///
    /// On Linux, `madvise` with `MADV_HUGEPAGE` makes that memory huge pages, with which lookups
    /// in large tables find what they read sooner. Call this before the table grows; memory that
    /// it has is left alone.
    pub fn advise_memory(&mut self, advise: AdviseMemory) {
        self.advise = Some(advise);
    }

    /// The table, for readers.
    pub fn reader(&self) -> Arc<Fib<A>> {
        Arc::clone(&self.fib)
    }

    /// Puts `prefix` into the table or gives it another group; returns the former group.
    ///
    /// # Errors
    /// [`FibFull`] if memory is needed and the limit is reached. Nothing has changed then.
    pub fn insert(&mut self, prefix: Prefix<A>, group: GroupId) -> Result<Option<GroupId>, FibFull> {
        let mut path = self.path(prefix.addr(), prefix.len());
        let missing = self.missing(&prefix, &path);
        if missing > 0 && self.reserve(missing)? {
            path = self.path(prefix.addr(), prefix.len());
        }
        let position = position(prefix.addr(), prefix.len());
        let book = if missing > 0 { Book::EMPTY } else { *self.book(&prefix, &path) };
        if !book.has(position) {
            self.fits(self.pool.growth(&book))?;
        }
        self.lengthen(&prefix, &mut path);
        let (pool, book) = self.pool_and_book(&prefix, &path);
        let former = pool.insert(book, position, group);
        if former != Some(group) {
            let (new, taken) = (Entry::leaf(prefix.len(), group), Taken::UpTo(prefix.len()));
            self.overwrite_prefix(&prefix, &path, new, taken);
            self.repeat_in_ranges(&prefix, taken, new);
        }
        self.len += usize::from(former.is_none());
        self.count_beyond_front(former, Some(group));
        Ok(former)
    }

    /// Takes `prefix` out of the table and returns its group, `None` if it was not there.
    /// Addresses inside fall back to the next shorter prefix in one step.
    pub fn remove(&mut self, prefix: &Prefix<A>) -> Option<GroupId> {
        let path = self.path(prefix.addr(), prefix.len());
        if self.missing(prefix, &path) > 0 {
            return None;
        }
        let position = position(prefix.addr(), prefix.len());
        let (pool, book) = self.pool_and_book(prefix, &path);
        let group = pool.remove(book, position)?;
        self.len -= 1;
        let cover = self
            .cover(prefix.addr(), prefix.len(), &path)
            .map_or(Entry::NONE, |(len, group)| Entry::leaf(len, group));
        let taken = Taken::Of(prefix.len());
        self.overwrite_prefix(prefix, &path, cover, taken);
        self.prune(prefix.addr(), &path);
        self.repeat_in_ranges(prefix, taken, cover);
        self.count_beyond_front(Some(group), None);
        Some(group)
    }

    /// The group that `prefix` itself has.
    pub fn get(&self, prefix: &Prefix<A>) -> Option<GroupId> {
        let path = self.path(prefix.addr(), prefix.len());
        if self.missing(prefix, &path) > 0 {
            return None;
        }
        let position = position(prefix.addr(), prefix.len());
        let book = self.book(prefix, &path);
        book.has(position).then(|| self.pool.get(book, position))
    }

    /// The longest prefix that contains `addr`, with its group.
    pub fn longest_match(&self, addr: A) -> Option<(Prefix<A>, GroupId)> {
        let path = self.path(addr, A::BITS);
        let (len, group) = self.cover(addr, A::BITS, &path)?;
        Some((Prefix::host(addr).shortened(len), group))
    }

    /// The number of prefixes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no prefixes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Inserts many prefixes given in strictly ascending order, in one pass.
    ///
    /// The order puts covering prefixes first, so that no slot is searched for longer prefixes
    /// again and again. Prefixes already in the table stay, or get the group given here.
    /// Returns how many were taken.
    ///
    /// # Errors
    /// [`LoadError::Order`] at the first prefix that is not above the one before,
    /// [`LoadError::Full`] at the first that finds no room; all before it are in the table.
    pub fn load(
        &mut self,
        routes: impl IntoIterator<Item = (Prefix<A>, GroupId)>,
    ) -> Result<usize, LoadError<A>> {
        let mut count = 0;
        let mut previous = None;
        let mut routes = routes.into_iter();
        self.begin_load(routes.size_hint().0);
        let end = routes.try_for_each(|(prefix, group)| {
            if previous >= Some(prefix) {
                return Err(LoadError::Order(prefix));
            }
            self.insert(prefix, group)?;
            previous = Some(prefix);
            count += 1;
            Ok(())
        });
        self.end_load();
        end.map(|()| count)
    }

    /// How many unlinked lines and nodes wait for [`reclaim`](FibWriter::reclaim).
    pub fn retired(&self) -> usize {
        self.retired.len() + self.room.retired()
    }

    /// A token for the lines that wait at this moment. Take it, wait until every reader has
    /// passed a quiescent point, then hand it to [`reclaim`](FibWriter::reclaim).
    pub fn seal(&mut self) -> Retired {
        Retired { up_to: self.retired_ever, ranges_up_to: self.room.retired_ever(), table: self.table() }
    }

    /// Frees the sealed lines for reuse and returns how many they were.
    ///
    /// By calling this, the caller promises that no lookup which began before the
    /// [`seal`](FibWriter::seal) is still in progress; a lookup that is may yield the group of
    /// another prefix. A token of another table frees nothing.
    pub fn reclaim(&mut self, sealed: Retired) -> usize {
        if sealed.table != self.table() {
            return 0;
        }
        let reclaimed_before = self.retired_ever - self.retired.len() as u64;
        let count = sealed.up_to.saturating_sub(reclaimed_before) as usize;
        self.free.extend(self.retired.drain(..count));
        count + self.room.reclaim(sealed.ranges_up_to)
    }

    /// Bytes held: lines, free and retired ones and those of earlier generations included, and
    /// the record of prefixes.
    pub fn memory_bytes(&self) -> usize {
        let listed = self.free.capacity() + self.retired.capacity();
        let books = self.upper.len() + self.below.len();
        let front = self.fib.front.get().map_or(0, |_| Front::BYTES);
        self.fib.arena.bytes()
            + front
            + self.ranges_bytes()
            + books * size_of::<Book>()
            + self.pool.bytes()
            + listed * size_of::<u32>()
            + size_of::<Self>()
    }

    fn table(&self) -> usize {
        Arc::as_ptr(&self.fib).addr()
    }

    fn generation(&self) -> &Generation {
        self.fib.arena.current()
    }

    fn full(&self) -> FibFull {
        FibFull { limit_bytes: self.max_bytes }
    }

    /// Whether so many more bytes are within the limit.
    fn fits(&self, bytes: usize) -> Result<(), FibFull> {
        let fits = bytes == 0 || self.memory_bytes().saturating_add(bytes) <= self.max_bytes;
        if fits { Ok(()) } else { Err(self.full()) }
    }

    /// Links the lines that `prefix` needs beyond its `path`; they must have been reserved.
    fn lengthen(&mut self, prefix: &Prefix<A>, path: &mut Path) {
        for _ in 0..self.missing(prefix, path) {
            let line = self.free.pop().unwrap_or_else(|| {
                self.fresh += 1;
                self.fresh - 1
            });
            let generation = self.fib.arena.current();
            let parent = generation.slot(self.parent_slot(prefix.addr(), path, path.count));
            let leaf = parent.load(Ordering::Relaxed);
            for slot in generation.lines()[line as usize].slots() {
                slot.store(leaf, Ordering::Relaxed);
            }
            // Release: whoever sees the child sees it filled.
            parent.store(Entry::child(line).0, Ordering::Release);
            let depth = generation.root_bits() + NIBBLE * path.count as u8;
            if depth == front::BITS {
                self.repeat_in_front(depth, prefix.addr().slice(0, depth), Entry::child(line));
            }
            path.lines[path.count] = line;
            path.count += 1;
        }
    }

    /// Keeps the front out of use while more than one prefix in 64 has a group that it cannot
    /// name: for those it costs a step and saves none.
    fn count_beyond_front(&mut self, former: Option<GroupId>, new: Option<GroupId>) {
        self.beyond_front += usize::from(new.is_some_and(|group| !Front::names(group)));
        self.beyond_front -= usize::from(former.is_some_and(|group| !Front::names(group)));
        let pays = self.fib.front.get().is_some() && self.beyond_front <= self.len / 64;
        if self.fib.front_pays.load(Ordering::Relaxed) != pays {
            // Release: whoever turns to the front sees it as it is.
            self.fib.front_pays.store(pays, Ordering::Release);
        }
    }

    /// Unlinks and retires those lines on the `path` to `addr` that hold no prefix any more.
    fn prune(&mut self, addr: A, path: &Path) {
        for (i, &line) in path.lines().iter().enumerate().rev() {
            let slots = &self.generation().lines()[line as usize];
            if !self.below[self.below_index(line)].is_empty() || slots.has_child() {
                break;
            }
            let leaf = slots.slots()[0].load(Ordering::Relaxed);
            debug_assert!(
                slots.slots().iter().all(|slot| slot.load(Ordering::Relaxed) == leaf),
                "without a longer prefix inside, every slot holds the same leaf"
            );
            let parent = self.parent_slot(addr, path, i);
            self.generation().slot(parent).store(leaf, Ordering::Release);
            let depth = self.generation().root_bits() + NIBBLE * i as u8;
            if depth == front::BITS {
                self.repeat_in_front(depth, addr.slice(0, depth), Entry(leaf));
            }
            self.retired.push_back(line);
            self.retired_ever += 1;
        }
    }
}
