//! The way to a prefix: the lines and books that it passes, and what covers it.

use super::FibWriter;
use crate::arena::{Generation, NIBBLE, SLOTS};
use crate::atomic::Ordering;
use crate::books::{Book, Pool};
use crate::entry::{Entry, GroupId};
use crate::{Address, Prefix};

/// The lines on the way down to a prefix, as far as there are any.
pub(super) struct Path {
    /// `lines[i]` begins at depth `root_bits + 4 * i`.
    pub(super) lines: [u32; 32],
    pub(super) count: usize,
}

impl Path {
    pub(super) fn lines(&self) -> &[u32] {
        &self.lines[..self.count]
    }
}

/// The depth of the book in which prefixes of this length end.
pub(super) fn depth_of(len: u8) -> u8 {
    len.saturating_sub(1) / NIBBLE * NIBBLE
}

/// The position of the prefix `addr/len` in its book.
pub(super) fn position<A: Address>(addr: A, len: u8) -> u32 {
    let depth = depth_of(len);
    if len == 0 { 1 } else { 1 << (len - depth) | addr.slice(depth, len - depth) as u32 }
}

/// Where the book of `addr` at `depth` lies among those above the lines; with the number of
/// address bits of the root, how many there are.
pub(super) fn upper<A: Address>(addr: A, depth: u8) -> usize {
    let above = ((1_usize << depth) - 1) / (SLOTS - 1);
    if depth == 0 { 0 } else { above + addr.slice(0, depth) }
}

impl<A: Address> FibWriter<A> {
    /// The lines from the root towards `addr/len`, down to the one in which it ends, or to the
    /// deepest there is.
    pub(super) fn path(&self, addr: A, len: u8) -> Path {
        let generation = self.generation();
        let mut path = Path { lines: [0; 32], count: 0 };
        let mut depth = generation.root_bits();
        if len <= depth {
            return path;
        }
        let mut entry = Entry(generation.slot(addr.slice(0, depth)).load(Ordering::Relaxed));
        while entry.is_child() {
            path.lines[path.count] = entry.line();
            path.count += 1;
            if len <= depth + NIBBLE {
                break;
            }
            let line = &generation.lines()[entry.line() as usize];
            entry = Entry(line.slots()[addr.nibble(depth)].load(Ordering::Relaxed));
            depth += NIBBLE;
        }
        path
    }

    /// How many lines `prefix` needs beyond those of its `path`.
    pub(super) fn missing(&self, prefix: &Prefix<A>, path: &Path) -> usize {
        let below = prefix.len().saturating_sub(self.generation().root_bits());
        usize::from(below.div_ceil(NIBBLE)) - path.count
    }

    /// The slot that the `i`-th line on the way to `addr` hangs from.
    pub(super) fn parent_slot(&self, addr: A, path: &Path, i: usize) -> usize {
        let root_bits = self.generation().root_bits();
        match i.checked_sub(1) {
            None => addr.slice(0, root_bits),
            Some(above) => {
                let depth = root_bits + NIBBLE * above as u8;
                path.lines[above] as usize * SLOTS + addr.nibble(depth)
            }
        }
    }

    pub(super) fn book(&self, prefix: &Prefix<A>, path: &Path) -> &Book {
        match path.lines().last() {
            None => &self.upper[upper(prefix.addr(), depth_of(prefix.len()))],
            Some(&line) => &self.below[self.below_index(line)],
        }
    }

    pub(super) fn pool_and_book(&mut self, prefix: &Prefix<A>, path: &Path) -> (&mut Pool, &mut Book) {
        let book = match path.lines().last() {
            None => &mut self.upper[upper(prefix.addr(), depth_of(prefix.len()))],
            Some(&line) => {
                let index = self.below_index(line);
                &mut self.below[index]
            }
        };
        (&mut self.pool, book)
    }

    pub(super) fn below_index(&self, line: u32) -> usize {
        line as usize - Generation::root_lines(self.generation().root_bits())
    }

    /// The length and group of the longest prefix, of at most `len` bits, that covers `addr`.
    /// The `path` is that of `addr/len`.
    pub(super) fn cover(&self, addr: A, len: u8, path: &Path) -> Option<(u8, GroupId)> {
        let root_bits = self.generation().root_bits();
        let mut depth = depth_of(len);
        let mut position = position(addr, len);
        loop {
            let book = if depth < root_bits {
                Some(&self.upper[upper(addr, depth)])
            } else {
                let line = path.lines().get(usize::from((depth - root_bits) / NIBBLE));
                line.map(|&line| &self.below[self.below_index(line)])
            };
            if let Some((book, position)) = book.and_then(|book| Some((book, book.cover(position)?))) {
                return Some((depth + position.ilog2() as u8, self.pool.get(book, position)));
            }
            depth = depth.checked_sub(NIBBLE)?;
            position = 1 << NIBBLE | addr.nibble(depth) as u32;
        }
    }
}
