//! All prefixes of a table in ascending order.

use super::FibWriter;
use super::path::upper;
use crate::arena::NIBBLE;
use crate::atomic::Ordering;
use crate::books::Book;
use crate::entry::{Entry, GroupId};
use crate::{Address, Prefix};

impl<A: Address> FibWriter<A> {
    /// All prefixes with their groups, in ascending order. They are collected first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Prefix<A>, GroupId)> + '_ {
        let mut routes = Vec::with_capacity(self.len());
        self.collect(A::UNSPECIFIED, 0, None, 1, &mut routes);
        routes.into_iter()
    }

    /// Appends what lies in the book at `depth` on the way to `addr` at or below `position`, and
    /// in the books below that. `line` is the line of the book, if it has one.
    fn collect(
        &self,
        addr: A,
        depth: u8,
        line: Option<u32>,
        position: u32,
        routes: &mut Vec<(Prefix<A>, GroupId)>,
    ) {
        let book: &Book = match line {
            None => &self.upper[upper(addr, depth)],
            Some(line) => &self.below[self.below_index(line)],
        };
        let bits = position.ilog2() as u8;
        if book.has(position) {
            let prefix = Prefix::host(addr).shortened(depth + bits);
            routes.push((prefix, self.pool.get(book, position)));
        }
        if bits < NIBBLE {
            for half in [2 * position, 2 * position + 1] {
                let addr = addr.with_bit(depth + bits, half & 1 == 1);
                self.collect(addr, depth, line, half, routes);
            }
            return;
        }
        let generation = self.generation();
        let (below, root_bits) = (depth + NIBBLE, generation.root_bits());
        if below < root_bits {
            self.collect(addr, below, None, 1, routes);
        } else if below < A::BITS {
            let slot = match line {
                None => generation.slot(addr.slice(0, root_bits)),
                Some(line) => &generation.lines()[line as usize].slots()[addr.nibble(depth)],
            };
            let entry = Entry(slot.load(Ordering::Relaxed));
            if entry.is_child() {
                self.collect(addr, below, Some(entry.line()), 1, routes);
            }
        }
    }
}
