//! A bucket of the index: one cache line that leads from twelve tags to twelve entries.
//!
//! ```text
//!   word 0   lock 1 | 7 | overflow 16 | farthest 8 || tags of slots 0..4
//!   word 1   tags of slots 4..12                                     tag 0: the slot is empty
//!   word 2   entry of slot 0 | entry of slot 1                      the bits above the number: a mark, more of the tag
//!    ..7      ..               entry of slot 11
//! ```
//!
//! Slots never move, and a hit counts only when the key in the entry agrees, so readers take no lock and repeat
//! nothing: a tag that is being written is seen or not, which is the flow being there already or not yet. The lock
//! belongs to writers. Whoever changes anything about a key holds the lock of the key's first bucket, even where the
//! slot is in another one: that is what makes find-or-insert atomic.
//!
//! The tag of a slot is byte `4 + slot` of the line and its entry the four bytes at 4 times that.
//!
//! A key whose first bucket is full goes to one of the next of its [`PROBES`] buckets, and the first one counts it in
//! `overflow`: while that is 0, one line answers. `farthest` is how many buckets on such keys have had to go.

use super::atomic::{AtomicU64, Ordering, relax};
use super::memory::{Line, WORDS};

/// Slots of a bucket.
pub(super) const SLOTS: usize = 12;
/// Buckets that a key may be in.
pub(super) const PROBES: usize = 8;

const LOCK: u64 = 1;
const OVERFLOW_SHIFT: u32 = 8;
const OVERFLOW: u64 = 0xffff << OVERFLOW_SHIFT;
const FARTHEST_SHIFT: u32 = 24;
const FARTHEST: u64 = 0xff << FARTHEST_SHIFT;
const BYTES: u64 = 0x0101_0101_0101_0101;

/// A bucket as readers see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket<'a>(pub(super) &'a Line);

impl<'a> Bucket<'a> {
    /// The words with the tags: slots 4 to 12, then slots 0 to 4 and what else word 0 holds.
    #[inline(always)]
    pub(super) fn tags(self) -> [u64; 2] {
        // Acquire: the entry of a slot is stored before its tag.
        [self.0.0[1].load(Ordering::Acquire), self.0.0[0].load(Ordering::Acquire)]
    }

    /// The entry in a slot, with its mark; arbitrary where the slot is empty.
    #[inline(always)]
    pub(super) fn marked_entry(self, slot: usize) -> u32 {
        (self.0.0[(2 + slot / 2) % WORDS].load(Ordering::Relaxed) >> (32 * (slot & 1))) as u32
    }

    /// Takes the bucket's lock. Critical sections are a few dozen instructions without loops over other threads.
    pub(super) fn lock(self, contention: &AtomicU64) -> Locked<'a> {
        if self.0.0[0].fetch_or(LOCK, Ordering::Acquire) & LOCK != 0 {
            contention.fetch_add(1, Ordering::Relaxed);
            while self.0.0[0].fetch_or(LOCK, Ordering::Acquire) & LOCK != 0 {
                relax();
            }
        }
        Locked(self)
    }
}

/// The slots whose tag may be `tag`. A slot beside a right one may be named wrongly.
#[inline(always)]
pub(super) fn candidates(tags: [u64; 2], tag: u8) -> Slots {
    let wanted = BYTES * u64::from(tag);
    let zero_bytes = |word: u64| word.wrapping_sub(BYTES) & !word & BYTES << 7;
    let (low, high) = (zero_bytes(tags[0] ^ wanted), zero_bytes(tags[1] ^ wanted));
    Slots(low | (high >> 32) >> 1)
}

/// A set of slots: bit `8 n + 6` for slot `n` below 4, bit `8 n + 7` for slot `4 + n`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Slots(u64);

impl Slots {
    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first slot; any slot of an empty set.
    #[inline(always)]
    pub(super) fn first(self) -> usize {
        let bit = (self.0 | 1 << 63).trailing_zeros() as usize;
        (bit >> 3) + ((bit & 1) << 2)
    }

    #[inline(always)]
    pub(super) fn without_first(self) -> Slots {
        Slots(self.0 & self.0.wrapping_sub(1))
    }
}

/// How many buckets after this one, their first, keys may be in: 0 where none has had to go to another.
#[inline(always)]
pub(super) fn farthest(tags: [u64; 2]) -> usize {
    ((tags[1] & FARTHEST) >> FARTHEST_SHIFT) as usize
}

/// A bucket whose lock is held; dropping it unlocks.
pub(super) struct Locked<'a>(Bucket<'a>);

impl<'a> Locked<'a> {
    /// The word with a slot's tag, and the tag's position in it.
    #[inline]
    fn tag_word(&self, slot: usize) -> (&'a AtomicU64, u32) {
        let words = &self.0.0.0;
        if slot < 4 { (&words[0], 32 + 8 * slot as u32) } else { (&words[1], 8 * (slot as u32 - 4)) }
    }

    /// An empty slot.
    #[inline]
    pub(super) fn vacancy(&self) -> Option<usize> {
        (0..SLOTS).find(|slot| {
            let (word, shift) = self.tag_word(*slot);
            word.load(Ordering::Relaxed) >> shift & 0xff == 0
        })
    }

    /// The slot that leads to an entry, given with its mark.
    #[inline]
    pub(super) fn slot_of(&self, tag: u8, entry: u32) -> Option<usize> {
        (0..SLOTS).find(|slot| {
            let (word, shift) = self.tag_word(*slot);
            (word.load(Ordering::Relaxed) >> shift) as u8 == tag && self.0.marked_entry(*slot) == entry
        })
    }

    /// Fills an empty slot; the entry comes with its mark.
    #[inline]
    pub(super) fn fill(&self, slot: usize, tag: u8, entry: u32) {
        let word = &self.0.0.0[2 + slot / 2];
        let shift = 32 * (slot & 1);
        let other = word.load(Ordering::Relaxed) & !(0xffff_ffff << shift);
        word.store(other | u64::from(entry) << shift, Ordering::Relaxed);
        let (word, shift) = self.tag_word(slot);
        // Release: whoever sees the tag sees the entry's number and the entry. An addition, since others try for the
        // lock in word 0 meanwhile.
        word.fetch_add(u64::from(tag) << shift, Ordering::Release);
    }

    /// Empties a slot.
    #[inline]
    pub(super) fn empty(&self, slot: usize) {
        let (word, shift) = self.tag_word(slot);
        word.fetch_and(!(0xff << shift), Ordering::Release);
    }

    /// Whether a key of this bucket may be in another one.
    #[inline]
    pub(super) fn overflows(&self) -> bool {
        self.0.0.0[0].load(Ordering::Relaxed) & OVERFLOW != 0
    }

    /// Counts one more key of this bucket that is in another one, `probe` buckets on. Never more than the seven others
    /// have slots.
    #[inline]
    pub(super) fn overflow_to(&self, probe: usize) {
        let word = self.0.0.0[0].load(Ordering::Relaxed);
        let farthest = farthest([0, word]).max(probe) as u64;
        self.set_overflow(word + (1 << OVERFLOW_SHIFT), farthest);
    }

    /// Counts one key less of this bucket that is in another one.
    #[inline]
    pub(super) fn overflow_ends(&self) {
        let word = self.0.0.0[0].load(Ordering::Relaxed) - (1 << OVERFLOW_SHIFT);
        let farthest = if word & OVERFLOW == 0 { 0 } else { farthest([0, word]) as u64 };
        self.set_overflow(word, farthest);
    }

    /// A store will do: others only try to set the lock bit, which is set.
    fn set_overflow(&self, word: u64, farthest: u64) {
        self.0.0.0[0].store(word & !FARTHEST | farthest << FARTHEST_SHIFT, Ordering::Release);
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.0.0[0].fetch_and(!LOCK, Ordering::Release);
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_by_tag() {
        let (line, contention) = (Line::default(), AtomicU64::new(0));
        let bucket = Bucket(&line);
        let locked = bucket.lock(&contention);
        for slot in 0..SLOTS {
            assert_eq!(locked.vacancy(), Some(slot));
            locked.fill(slot, 10 + slot as u8, 100 + slot as u32);
        }
        assert_eq!(locked.vacancy(), None);
        locked.overflow_to(3);
        locked.overflow_to(2);
        drop(locked);
        for slot in 0..SLOTS {
            assert_eq!(candidates(bucket.tags(), 10 + slot as u8).first(), slot);
            assert_eq!(bucket.marked_entry(slot), 100 + slot as u32);
        }
        assert!(candidates(bucket.tags(), 99).is_empty());
        // Neither the lock nor the overflow count is a tag.
        assert!(candidates(bucket.tags(), 1).is_empty());
        assert_eq!(farthest(bucket.tags()), 3);
        let locked = bucket.lock(&contention);
        assert_eq!(locked.slot_of(19, 109), Some(9));
        locked.empty(9);
        assert_eq!((locked.slot_of(19, 109), locked.vacancy()), (None, Some(9)));
        locked.overflow_ends();
        assert_eq!(farthest(bucket.tags()), 3);
        locked.overflow_ends();
        assert!(!locked.overflows());
        assert_eq!((farthest(bucket.tags()), bucket.marked_entry(3)), (0, 103));
        assert_eq!(contention.load(Ordering::Relaxed), 0);
    }
}
