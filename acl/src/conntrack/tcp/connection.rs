//! The words of a connection in the table, and their lock, which is a bit of word 3.
//!
//! ```text
//!   in the common case   lock the words -> the flow still lives, is established, seen in this tick, not locked?
//!                        -> judge -> side's word, counters -> unlock: store word 3          the head is only read
//!   eight such at once   lock all words -> those that are of this case advance; the others are unlocked, then go alone
//!   else                 lock the flow -> lock the words -> Tcp::segment -> unlock the words, the flow
//!   opening              lock the words -> write them -> unlock
//! ```
//!
//! So a packet that advances a connection writes one line, its body, and what holds of an entry's words holds of those
//! of a connection too: whoever reads or writes them has them alone. The flow's own lock is taken before that of its
//! words. Who has the words locked and finds that the flow is gone gives them back as they were: opening another flow in
//! the entry waits for that.

use super::super::atomic::{AtomicU64, Ordering, relax};
use super::super::headers::TcpSegment;
use super::established::{Known, acknowledgment};

/// The bit of word 3.
pub(in super::super) const LOCK: u64 = 1 << 32;
const LAST: usize = 3;

/// The first four words of a body.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Connection<'v>(pub(in super::super) &'v [AtomicU64; 4]);

impl<'v> Connection<'v> {
    /// Locks the words, if they are not locked.
    #[inline(always)]
    pub(in super::super) fn try_lock(self) -> Option<LockedConnection<'v>> {
        let last = self.0[LAST].load(Ordering::Relaxed);
        let free = last & LOCK == 0
            && self.0[LAST].compare_exchange(last, last | LOCK, Ordering::Acquire, Ordering::Relaxed).is_ok();
        free.then_some(LockedConnection { words: self.0, last })
    }

    /// Unlocks words that the vector kernel has locked and leaves as they were.
    #[cfg(all(target_arch = "x86_64", not(any(feature = "loom", miri))))]
    pub(in super::super) fn give_back(self) {
        self.0[LAST].fetch_and(!LOCK, Ordering::Release);
    }

    /// Locks the words.
    #[inline]
    pub(in super::super) fn lock(self, contention: &AtomicU64) -> LockedConnection<'v> {
        let mut waited = false;
        loop {
            if let Some(locked) = self.try_lock() {
                return locked;
            }
            if !waited {
                waited = true;
                contention.fetch_add(1, Ordering::Relaxed);
            }
            relax();
        }
    }
}

/// Words that are locked. They must be given back by [`write`](Self::write) or [`unlock`](Self::unlock).
#[must_use]
pub(in super::super) struct LockedConnection<'v> {
    words: &'v [AtomicU64; 4],
    last: u64,
}

impl LockedConnection<'_> {
    /// The words.
    #[inline(always)]
    pub(in super::super) fn read(&self) -> [u64; 4] {
        let word = |at: usize| self.words[at].load(Ordering::Relaxed);
        [word(0), word(1), word(2), self.last]
    }

    /// What the common case makes of the words; `None`: it is not this case, and nothing has changed.
    #[inline(always)]
    pub(in super::super) fn advance(&self, reply: bool, segment: &TcpSegment) -> Option<Known> {
        let from = usize::from(reply);
        let word = |at: usize| self.words[at].load(Ordering::Relaxed);
        let known = Known { sender: word(from), receiver: word(1 - from), windows: word(2), last: self.last };
        let after = acknowledgment(known, reply, segment)?;
        self.words[from].store(after.sender, Ordering::Relaxed);
        if after.windows != known.windows {
            self.words[2].store(after.windows, Ordering::Relaxed);
        }
        Some(after)
    }

    /// Writes all words and unlocks them.
    #[inline]
    pub(in super::super) fn write(self, words: [u64; 4]) {
        for (word, value) in self.words[..LAST].iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.unlock_with(words[LAST]);
    }

    /// Unlocks with a new word 3.
    #[inline(always)]
    pub(in super::super) fn unlock_with(self, last: u64) {
        self.words[LAST].store(last & !LOCK, Ordering::Release);
    }

    /// Unlocks without a change of word 3.
    #[inline(always)]
    pub(in super::super) fn unlock(self) {
        let last = self.last;
        self.unlock_with(last);
    }
}
