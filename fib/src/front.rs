//! The first 24 bits of IPv4 at a single read, for large tables.
//!
//! ```text
//!  10.100.36.103 = 000010100110010000100100 01100111
//!                  |
//!  front, 2^24     v
//!  [ 7 | 7 | 7 | 12 | DOWN | 12 | NONE | ... ]     two bytes each, 32 MiB
//!                      |
//!                      +--> the trie decides
//! ```
//!
//! The trie is the table; the front repeats what it says about the first 24 bits, where that fits
//! into 16 bits: the group, or that there is no route. [`DOWN`] stands where longer prefixes lie
//! below or where the group's number is too high. Nearly every route of the Internet has at most
//! 24 bits (Gupta, Lin and McKeown, "Routing Lookups in Hardware at Memory Access Speeds", 1998,
//! with the trie in place of their second table).
//!
//! The writer changes the trie first. A reader that meets the former word of the front gives the
//! former answer, one that meets the new word the new answer, and one that is sent down finds
//! what the trie says at that time, which is one of the two.

use crate::Address;
use crate::arena::SLOTS;
use crate::atomic::{AtomicU16, Ordering};
use crate::block::{self, AdviseMemory};
use crate::entry::{Entry, GroupId, NO_ROUTE};
use crate::kernel::{Chosen, lanes};
use core::net::Ipv4Addr;

/// Address bits that the front resolves.
pub(crate) const BITS: u8 = 24;
/// Ask the trie.
pub(crate) const DOWN: u16 = u16::MAX;
/// No route.
const NONE: u16 = u16::MAX - 1;
/// The highest group that the front can name.
pub(crate) const LAST_GROUP: u16 = NONE - 1;

/// What the front says about an address.
pub(crate) enum Answer {
    Group(GroupId),
    NoRoute,
    Down,
}

pub(crate) struct Front {
    words: Box<[AtomicU16; 1 << BITS]>,
}

impl Front {
    pub(crate) const BYTES: usize = size_of::<AtomicU16>() << BITS;

    /// A front that knows no route.
    pub(crate) fn new(advise: Option<AdviseMemory>) -> Self {
        let words = block::allocate(1 << BITS, advise, || AtomicU16::new(NONE));
        Self { words: words.try_into().unwrap_or_else(|_| unreachable!("as many words as were asked for")) }
    }

    /// Whether the front can name this group.
    pub(crate) fn names(group: GroupId) -> bool {
        group.raw() <= LAST_GROUP.into()
    }

    /// What an entry of the trie means at this depth.
    fn meaning(entry: Entry) -> u16 {
        match entry.group() {
            _ if entry.is_child() => DOWN,
            None => NONE,
            Some(group) if Self::names(group) => group.raw() as u16,
            Some(_) => DOWN,
        }
    }

    /// Repeats `entry` for those numbers of [`BITS`] bits of the sixteen in `group` that `lanes` has.
    pub(crate) fn set(&self, kernel: Chosen, group: usize, lanes: u16, entry: Entry) {
        let (groups, _) = self.words.as_chunks::<SLOTS>();
        kernel.store_words(&groups[group], lanes, Self::meaning(entry));
    }

    /// The word for the first bits of an address.
    #[inline(always)]
    pub(crate) fn word(&self, addr: Ipv4Addr) -> &AtomicU16 {
        &self.words[addr.slice(0, BITS)]
    }

    #[inline(always)]
    fn load(&self, addr: Ipv4Addr) -> u16 {
        self.word(addr).load(Ordering::Acquire)
    }

    #[inline(always)]
    pub(crate) fn get(&self, addr: Ipv4Addr) -> Answer {
        match self.load(addr) {
            DOWN => Answer::Down,
            NONE => Answer::NoRoute,
            word => GroupId::new(word.into()).map_or(Answer::NoRoute, Answer::Group),
        }
    }

    /// The first of the 2^24 words.
    #[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
    #[inline(always)]
    pub(crate) fn base(&self) -> *const AtomicU16 {
        self.words.as_ptr()
    }

    /// Answers the lanes in `mask` as [`Fib::lookup_burst`](crate::Fib::lookup_burst) does, but
    /// for those it returns, which the trie has to answer.
    pub(crate) fn burst(&self, addrs: &[Ipv4Addr; 64], mask: u64, out: &mut [u32; 64]) -> u64 {
        let mut down = 0;
        for lane in lanes(mask) {
            let word = self.load(addrs[lane]);
            down |= u64::from(word == DOWN) << lane;
            out[lane] = if word > LAST_GROUP { NO_ROUTE } else { word.into() };
        }
        down
    }
}
