//! Entries without a flow: a stack through head 1 of the entries.
//!
//! The head holds a tag that grows with every change, so that an entry that was taken and came back in between is not
//! mistaken for one that stayed (ABA). Its 32 bits go round in 4 billion changes, which no thread sleeps through in
//! the middle of a compare-and-swap.

use super::atomic::{Ordering, fence};
use super::table::View;

/// `tag << 32 | entry + 1`; the low half is 0 when the list is empty.
fn head(old: u64, number_and_one: u32) -> u64 {
    ((old >> 32) + 1) << 32 | u64::from(number_and_one)
}

impl View<'_> {
    /// Puts every entry on the list: for a table that nobody else uses.
    pub(super) fn free_all(&self) {
        let count = self.parts.flows();
        for number in 0..count {
            let next = if number + 1 == count { 0 } else { number + 2 };
            if let Some(entry) = self.entry(number) {
                entry.free_link().store(u64::from(next), Ordering::Relaxed);
            }
        }
        self.parts.free_head().store(head(0, 1), Ordering::Release);
    }

    /// Takes an entry, which then belongs to the caller.
    pub(super) fn pop_free(&self) -> Option<u32> {
        let word = self.parts.free_head();
        let mut seen = word.load(Ordering::Acquire);
        loop {
            let number = (seen as u32).checked_sub(1)?;
            // Another thread may take this entry and write its key here; then the exchange fails.
            let next = self.entry(number)?.free_link().load(Ordering::Relaxed) as u32;
            match word.compare_exchange_weak(seen, head(seen, next), Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(number),
                Err(now) => seen = now,
            }
        }
    }

    /// Gives back an entry that belongs to the caller and holds no flow.
    pub(super) fn push_free(&self, number: u32) {
        let Some(entry) = self.entry(number) else { return };
        // Release: who takes the link for a part of the old key sees that the old incarnation is over.
        fence(Ordering::Release);
        let word = self.parts.free_head();
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            entry.free_link().store(seen & 0xffff_ffff, Ordering::Relaxed);
            match word.compare_exchange_weak(
                seen,
                head(seen, number + 1),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}
