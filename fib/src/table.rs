//! The longest-prefix match that packets use: a multibit trie with routes pushed to its leaves.
//!
//! ```text
//!   10.100.36.103 = 00001010011001000010 0100 0110 0111
//!                   |                    |    |
//!   root, 2^20      v                    |    |
//!   [ leaf | leaf | ... child ... ]      v    |           child: longer prefixes lie below
//!                         |                   |
//!                         +-> [leaf|child|leaf|..16..]    one cache line, bits 20..24
//!                                    |        v
//!                                    +-> [leaf|..16..]    one cache line, bits 24..28
//! ```
//!
//! A prefix fills every slot that it covers in the line where its length ends, unless a longer
//! prefix fills that slot, and so on in the lines below. The first leaf on the way down is
//! therefore the answer; nothing has to be remembered. (Controlled prefix expansion with leaf
//! pushing: Srinivasan and Varghese, "Fast Address Lookups Using Controlled Prefix Expansion",
//! 1999.) Steps of four bits, one cache line each, make a full IPv4 table of 13 MB and an IPv6
//! table of 11 MB, which caches and the TLB hold, where steps of eight take 27 MB and 39 MB. A
//! small table has a root of 8, 12 or 16 bits and more lines instead ([`crate::writer`]).
//!
//! Large IPv4 tables get a [front](crate::front) of 24 bits besides: one read of two bytes in
//! place of two reads of four. It wins where few destinations get most of the traffic, as in real
//! networks, and for single lookups; addresses drawn evenly from all are the lines' strength, the
//! front being 32 MB. `benches/real_table` has the candidates and the figures.
//!
//! Large IPv6 tables get [ranges](crate::ranges) of the first 48 bits besides: three or four reads
//! in place of eight.
//!
//! **Readers and the writer.** A slot is one atomic word. For the one slot that decides about an
//! address, each change of the table is one store: a lookup sees the state before or after it,
//! never a gap between. A line is filled before it is linked, and once unlinked it is left as it
//! is until the writer has been told that every reader moved on
//! ([`FibWriter::reclaim`](crate::FibWriter::reclaim)).

use crate::Address;
use crate::arena::{Arena, Generation};
use crate::atomic::{AtomicBool, Ordering};
use crate::entry::{Entry, GroupId};
use crate::front::{Answer, Front};
use crate::kernel::{self, Chosen, Kernel, lanes};
use crate::ranges::{self, Memories, Ranges};
use core::fmt;
use core::marker::PhantomData;
use std::sync::OnceLock;

/// So many lanes are looked up one by one: a kernel takes no less for any number up to 16.
const FEW: u32 = 4;
/// A root of so many address bits takes 4 MiB.
const LARGE_ROOT: u8 = 20;

/// The shared side of a forwarding table: lookups, from any number of threads, without locks.
///
/// Made by [`FibWriter::new`](crate::FibWriter::new), obtained by
/// [`FibWriter::reader`](crate::FibWriter::reader). A lookup neither allocates nor waits.
///
/// A thread that looks up must pass a quiescent point (hold no lookup in progress) now and then,
/// and whoever owns the writer must know about it: see [`FibWriter::reclaim`](crate::FibWriter::reclaim).
pub struct Fib<A> {
    pub(crate) arena: Arena,
    /// Set when the table has become large, for IPv4 alone.
    pub(crate) front: OnceLock<Front>,
    /// Whether to ask the front first.
    pub(crate) front_pays: AtomicBool,
    /// For IPv6 alone, when the table has become large.
    pub(crate) ranges: Memories,
    /// For the front or the ranges.
    pub(crate) first: Chosen,
    /// For the trie.
    kernel: Chosen,
    family: PhantomData<A>,
}

impl<A: Address> Fib<A> {
    pub(crate) fn new(first: Generation) -> Self {
        Self {
            arena: Arena::new(first),
            front: OnceLock::new(),
            front_pays: AtomicBool::new(false),
            ranges: Memories::new(),
            first: Chosen::new(Kernel::best::<A>()),
            kernel: Chosen::new(Kernel::best_in_trie::<A>()),
            family: PhantomData,
        }
    }

    /// The group of the longest prefix that contains `addr`.
    #[inline]
    pub fn lookup(&self, addr: A) -> Option<GroupId> {
        if let Some(addr) = addr.v4()
            && let Some(front) = self.front()
        {
            match front.get(addr) {
                Answer::Group(group) => return Some(group),
                Answer::NoRoute => return None,
                Answer::Down => {}
            }
        }
        if let Some(ranges) = self.ranges() {
            return ranges::decide(ranges.get(addr), self.arena.current(), addr).group();
        }
        self.leaf(addr).group()
    }

    /// As [`lookup`](Fib::lookup), with the length of the prefix that matched.
    #[inline]
    pub fn lookup_prefix(&self, addr: A) -> Option<(u8, GroupId)> {
        let leaf = self.leaf(addr);
        Some((leaf.prefix_len()?, leaf.group()?))
    }

    /// Looks up `addrs[i]` for every bit `i` of `mask` and writes the group's number to
    /// `out[i]`, [`NO_ROUTE`](crate::NO_ROUTE) where nothing matches. Other lanes of `out` keep
    /// what they hold.
    ///
    /// The lanes go down the trie together, level by level, so that their reads from memory
    /// overlap.
    pub fn lookup_burst(&self, addrs: &[A; 64], mask: u64, out: &mut [u32; 64]) {
        self.burst([self.first, self.kernel], addrs, mask, out);
    }

    /// Has the first word that a lookup of each address reads brought nearer, if the table is so
    /// large that the word is probably far. Finds nothing and waits for nothing.
    ///
    /// For callers that know the addresses of a burst a while before they need the groups.
    #[inline]
    pub fn prefetch(&self, addrs: impl IntoIterator<Item = A>) {
        #[cfg(not(feature = "loom"))]
        {
            let table = self.arena.current();
            if table.root_bits() < LARGE_ROOT {
                return;
            }
            let (front, ranges) = (self.front(), self.ranges());
            for addr in addrs {
                match (addr.v4().zip(front), ranges) {
                    (Some((addr, front)), _) => kernel::prefetch(front.word(addr)),
                    (None, Some(ranges)) => kernel::prefetch(ranges.word(addr.slice(0, LARGE_ROOT))),
                    (None, None) => kernel::prefetch(table.slot(addr.slice(0, LARGE_ROOT))),
                }
            }
        }
        #[cfg(feature = "loom")]
        let _ = addrs;
    }

    /// As [`lookup_burst`](Fib::lookup_burst), by a kernel of the caller's choice: for tests and
    /// measurements. One that this CPU cannot run is replaced by [`Kernel::Scalar`].
    pub fn lookup_burst_with(&self, kernel: Kernel, addrs: &[A; 64], mask: u64, out: &mut [u32; 64]) {
        self.burst([Chosen::new(kernel); 2], addrs, mask, out);
    }

    #[inline(always)]
    fn burst(&self, [first, kernel]: [Chosen; 2], addrs: &[A; 64], mask: u64, out: &mut [u32; 64]) {
        let mut left = mask;
        if let Some(addrs) = A::all_v4(addrs)
            && let Some(front) = self.front()
        {
            left = first.front(front, addrs, mask, out);
        }
        if let Some(ranges) = self.ranges() {
            if mask.count_ones() > FEW {
                left = first.ranges(ranges, addrs, mask, out);
            } else {
                lanes(mask).for_each(|lane| out[lane] = ranges.get(addrs[lane]).0);
            }
            if left.count_ones() <= FEW {
                let trie = self.arena.current();
                for lane in lanes(left) {
                    out[lane] = ranges::decide(Entry(out[lane]), trie, addrs[lane]).raw_group();
                }
                return;
            }
        }
        if left.count_ones() > FEW {
            kernel.burst(self.arena.current(), addrs, left, out);
        } else {
            for lane in lanes(left) {
                out[lane] = self.leaf(addrs[lane]).raw_group();
            }
        }
    }

    #[inline(always)]
    fn front(&self) -> Option<&Front> {
        if self.front_pays.load(Ordering::Acquire) { self.front.get() } else { None }
    }

    #[inline(always)]
    fn ranges(&self) -> Option<&Ranges> {
        if A::BITS == 128 { self.ranges.shown() } else { None }
    }

    /// The leaf that decides about `addr`.
    #[inline(always)]
    fn leaf(&self, addr: A) -> Entry {
        kernel::leaf(self.arena.current(), addr)
    }
}

impl<A> fmt::Debug for Fib<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fib").finish_non_exhaustive()
    }
}
