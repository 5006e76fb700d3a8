//! The longest-prefix match that packets use: a multibit trie with routes pushed to its leaves.
//!
//! ```text
//!  IPv4 strides 13 11 8              IPv6 strides 13 11 8 8 ... 8
//!
//!   10.100.36.103 = 0000101001100 10000100100 01100111
//!                        |             |          |
//!   root, 2^13 slots     v             |          |
//!   [ leaf | leaf | ... child ... ]    |          |     child: longer prefixes lie below
//!                         |            v          |
//!                         +->[ leaf | child | leaf ]    bits 13..24
//!                                       |         v
//!                                       +->[ leaf ... ] bits 24..32
//! ```
//!
//! A prefix fills every slot that it covers in the node where its length ends, unless a longer
//! prefix fills that slot, and so on in the nodes below. The first leaf on the way down is
//! therefore the answer; nothing has to be remembered. (Controlled prefix expansion with leaf
//! pushing: Srinivasan and Varghese, "Fast Address Lookups Using Controlled Prefix Expansion",
//! 1999.) The strides put nearly every IPv4 route of the Internet within two reads.
//!
//! **Readers and the writer.** A slot is one atomic word. For the one slot that decides about an
//! address, each change of the table is one store: a lookup sees the state before or after it,
//! never a gap between. A node is filled before it is linked, and once unlinked it is left as it
//! is until the writer has been told that every reader moved on
//! ([`FibWriter::reclaim`](crate::FibWriter::reclaim)).

use crate::Address;
use crate::arena::Arena;
use crate::entry::{Block, Entry, GroupId};
use core::fmt;
use core::marker::PhantomData;

/// Bits consumed by each level, from the root down.
pub(crate) struct Strides<A>(PhantomData<A>);

impl<A: Address> Strides<A> {
    pub(crate) const LEVELS: &[u8] = match A::BITS {
        32 => &[13, 11, 8],
        _ => &[13, 11, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8],
    };
    pub(crate) const ROOT: u8 = Self::LEVELS[0];
}

/// The shared side of a forwarding table: lookups, from any number of threads, without locks.
///
/// Made by [`FibWriter::new`](crate::FibWriter::new), obtained by
/// [`FibWriter::reader`](crate::FibWriter::reader). A lookup neither allocates nor waits.
///
/// A thread that looks up must pass a quiescent point (hold no lookup in progress) now and then,
/// and whoever owns the writer must know about it: see [`FibWriter::reclaim`](crate::FibWriter::reclaim).
pub struct Fib<A> {
    pub(crate) arena: Arena,
    family: PhantomData<A>,
}

impl<A: Address> Fib<A> {
    pub(crate) fn new() -> Self {
        Self { arena: Arena::new(Strides::<A>::ROOT), family: PhantomData }
    }

    /// The group of the longest prefix that contains `addr`.
    #[inline]
    pub fn lookup(&self, addr: A) -> Option<GroupId> {
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
        let mut depth = Strides::<A>::ROOT;
        let root = self.arena.slots(Block::ROOT, 1 << depth);
        let mut descending = 0_u64;
        for lane in lanes(mask) {
            let entry = Entry(root[addrs[lane].slice(0, depth)].load(core::sync::atomic::Ordering::Acquire));
            out[lane] = entry.0;
            descending |= u64::from(entry.is_child()) << lane;
        }
        for &stride in &Strides::<A>::LEVELS[1..] {
            if descending == 0 {
                break;
            }
            for lane in lanes(descending) {
                let block = Entry(out[lane]).block();
                let entry = self.arena.load(block, addrs[lane].slice(depth, stride));
                out[lane] = entry.0;
                descending &= !(u64::from(!entry.is_child()) << lane);
            }
            depth += stride;
        }
        for lane in lanes(mask) {
            out[lane] = Entry(out[lane]).raw_group();
        }
    }

    /// The leaf that decides about `addr`.
    #[inline(always)]
    fn leaf(&self, addr: A) -> Entry {
        let mut depth = Strides::<A>::ROOT;
        let mut entry = self.arena.load(Block::ROOT, addr.slice(0, depth));
        for &stride in &Strides::<A>::LEVELS[1..] {
            if !entry.is_child() {
                break;
            }
            entry = self.arena.load(entry.block(), addr.slice(depth, stride));
            depth += stride;
        }
        entry
    }
}

impl<A> fmt::Debug for Fib<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fib").finish_non_exhaustive()
    }
}

/// The positions of the set bits, lowest first.
#[inline(always)]
fn lanes(mut mask: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lane = (mask != 0).then_some(mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(lane)
    })
}
