//! What one slot of a trie node holds.
//!
//! ```text
//!  bit 31 | 30 ........ 23 | 22 ............ 0
//!    0    | prefix length  | next-hop group id     leaf: this route decides
//!    0    |      255       | all ones              leaf: no route (NONE)
//!    1    | 30 ... chunk ... 21 | 20 .. offset ..  0   child: the block of slots below
//! ```
//!
//! A leaf carries the length of the prefix that put it there. The writer thereby sees at each
//! slot whether a change concerns it, and a lookup can tell the length without further reads.

use core::fmt;

/// What [`Fib::lookup_burst`](crate::Fib::lookup_burst) writes for an address without a route.
pub const NO_ROUTE: u32 = u32::MAX;

/// The id of a next-hop group: what a lookup yields. 23 bits; see [`GroupId::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct GroupId(u32);

impl GroupId {
    /// The highest id, 8,388,606.
    pub const MAX: Self = Self(Entry::GROUP_MASK - 1);

    /// The group with this number, or `None` above [`GroupId::MAX`].
    #[inline]
    pub const fn new(raw: u32) -> Option<Self> {
        if raw <= Self::MAX.0 { Some(Self(raw)) } else { None }
    }

    /// The id as a position in an array of groups.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The id as [`Fib::lookup_burst`](crate::Fib::lookup_burst) writes it.
    #[inline]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}", self.0)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a node's slots begin in the arena: a chunk, and an offset counted in slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block(u32);

impl Block {
    /// Bits of the offset inside a chunk, hence the largest chunk (2^21 slots, 8 MiB).
    pub(crate) const OFFSET_BITS: u32 = 21;
    /// How many chunks a block can name.
    pub(crate) const CHUNKS: usize = 1 << (31 - Self::OFFSET_BITS);
    /// The root node: the first slots of the first chunk.
    pub(crate) const ROOT: Self = Self(0);

    pub(crate) const fn new(chunk: usize, offset: usize) -> Self {
        debug_assert!(chunk < Self::CHUNKS && offset < 1 << Self::OFFSET_BITS);
        Self((chunk << Self::OFFSET_BITS | offset) as u32)
    }

    #[inline(always)]
    pub(crate) const fn chunk(self) -> usize {
        (self.0 >> Self::OFFSET_BITS) as usize
    }

    #[inline(always)]
    pub(crate) const fn offset(self) -> usize {
        (self.0 & ((1 << Self::OFFSET_BITS) - 1)) as usize
    }
}

/// The content of one slot; the layout is drawn above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Entry(pub(crate) u32);

impl Entry {
    const CHILD: u32 = 1 << 31;
    const LEN_SHIFT: u32 = 23;
    const GROUP_MASK: u32 = (1 << Self::LEN_SHIFT) - 1;

    /// A leaf that says "no route".
    pub(crate) const NONE: Self = Self(!Self::CHILD);

    /// A leaf for a prefix of length `len`.
    pub(crate) const fn leaf(len: u8, group: GroupId) -> Self {
        debug_assert!(len <= 128);
        Self((len as u32) << Self::LEN_SHIFT | group.0)
    }

    /// A pointer to the node below.
    pub(crate) const fn child(block: Block) -> Self {
        Self(Self::CHILD | block.0)
    }

    #[inline(always)]
    pub(crate) const fn is_child(self) -> bool {
        self.0 & Self::CHILD != 0
    }

    /// The block that a child entry points to; meaningless for a leaf.
    #[inline(always)]
    pub(crate) const fn block(self) -> Block {
        Block(self.0 & !Self::CHILD)
    }

    /// The length of the prefix behind a leaf, or `None` where there is no route.
    #[inline]
    pub(crate) const fn prefix_len(self) -> Option<u8> {
        if self.0 == Self::NONE.0 { None } else { Some((self.0 >> Self::LEN_SHIFT) as u8) }
    }

    /// The group of a leaf, or `None` where there is no route.
    #[inline(always)]
    pub(crate) const fn group(self) -> Option<GroupId> {
        if self.0 == Self::NONE.0 { None } else { Some(GroupId(self.0 & Self::GROUP_MASK)) }
    }

    /// The group of a leaf as a number, [`NO_ROUTE`] where there is none.
    #[inline(always)]
    pub(crate) const fn raw_group(self) -> u32 {
        match self.group() {
            Some(group) => group.0,
            None => NO_ROUTE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_ids_end_below_the_none_pattern() {
        assert_eq!(GroupId::MAX.raw(), 8_388_606);
        assert_eq!(GroupId::new(8_388_606), Some(GroupId::MAX));
        assert_eq!(GroupId::new(8_388_607), None);
        assert_eq!(GroupId::new(NO_ROUTE), None);
    }

    #[test]
    fn extremes_of_a_leaf_survive() {
        for len in [0, 1, 32, 128] {
            for group in [GroupId(0), GroupId::MAX] {
                let entry = Entry::leaf(len, group);
                assert!(!entry.is_child());
                assert_ne!(entry, Entry::NONE);
                assert_eq!(entry.prefix_len(), Some(len));
                assert_eq!(entry.group(), Some(group));
                assert_eq!(entry.raw_group(), group.raw());
            }
        }
        assert!(!Entry::NONE.is_child());
        assert_eq!(Entry::NONE.prefix_len(), None);
        assert_eq!(Entry::NONE.group(), None);
        assert_eq!(Entry::NONE.raw_group(), NO_ROUTE);
    }

    #[test]
    fn extremes_of_a_child_survive() {
        for (chunk, offset) in [(0, 0), (1, 256), (Block::CHUNKS - 1, (1 << 21) - 256)] {
            let entry = Entry::child(Block::new(chunk, offset));
            assert!(entry.is_child());
            assert_eq!(entry.block().chunk(), chunk);
            assert_eq!(entry.block().offset(), offset);
        }
    }
}
