//! What one slot of the table holds.
//!
//! ```text
//!  bit 31 | 30 ........ 23 | 22 ............ 0
//!    1    | prefix length  | next-hop group id     leaf: this route decides
//!    1    |      255       | all ones              leaf: no route (NONE)
//!    0    | 30 .............. slot ............ 0  child: the first slot of the line below
//! ```
//!
//! A leaf carries the length of the prefix that put it there. The writer thereby sees at each
//! slot whether a change concerns it, and a lookup can tell the length without further reads.
//! A child is the plain number of a slot, a multiple of 16: a lookup adds four bits of the
//! address to it and reads on.

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

/// The content of one slot; the layout is drawn above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Entry(pub(crate) u32);

impl Entry {
    pub(crate) const LEAF: u32 = 1 << 31;
    pub(crate) const LEN_SHIFT: u32 = 23;
    pub(crate) const GROUP_MASK: u32 = (1 << Self::LEN_SHIFT) - 1;

    /// A leaf that says "no route".
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// A leaf for a prefix of length `len`.
    pub(crate) const fn leaf(len: u8, group: GroupId) -> Self {
        debug_assert!(len <= 128);
        Self(Self::LEAF | (len as u32) << Self::LEN_SHIFT | group.0)
    }

    /// A pointer to the line below.
    pub(crate) const fn child(line: u32) -> Self {
        debug_assert!(line < 1 << 27);
        Self(line << 4)
    }

    #[inline(always)]
    pub(crate) const fn is_child(self) -> bool {
        self.0 & Self::LEAF == 0
    }

    /// The line that a child entry points to; meaningless for a leaf.
    #[inline(always)]
    pub(crate) const fn line(self) -> u32 {
        self.0 >> 4
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

/// Whose leaves a change takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taken {
    /// Those of prefixes of at most this length, and where there is no route.
    UpTo(u8),
    /// Those of the prefix of this length.
    Of(u8),
}

impl Taken {
    /// Whether it takes this leaf.
    #[inline(always)]
    pub(crate) fn takes(self, leaf: Entry) -> bool {
        match self {
            Self::UpTo(len) => leaf.prefix_len().is_none_or(|old| old <= len),
            Self::Of(len) => leaf.prefix_len() == Some(len),
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
        for line in [0, 1, (1 << 27) - 1] {
            let entry = Entry::child(line);
            assert!(entry.is_child());
            assert_eq!(entry.line(), line);
        }
    }
}
