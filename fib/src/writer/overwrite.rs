//! Storing what a prefix says in all that it covers.
//!
//! ```text
//!   10.0.0.0/8    16 slots of the root        which are taken: stored at once, with the front's words
//!                 | leaf | line | leaf ...    which are lines: each the same, a level below
//! ```
//!
//! A short prefix covers tens of thousands of slots and of the front's words, so sixteen are compared and
//! stored at a time where the CPU can. Each slot is changed by one store, before the front's words that
//! repeat it.

use super::FibWriter;
use super::path::{Path, depth_of};
use crate::arena::{NIBBLE, SLOTS};
use crate::atomic::Ordering;
use crate::entry::{Entry, Taken};
#[cfg(not(feature = "loom"))]
use crate::kernel;
use crate::kernel::lanes;
use crate::{Address, Prefix, front};

impl<A: Address> FibWriter<A> {
    /// Stores `new` in each leaf that `prefix` covers and that is `taken`. The `path` must be complete.
    pub(super) fn overwrite_prefix(&self, prefix: &Prefix<A>, path: &Path, new: Entry, taken: Taken) {
        let root_bits = self.generation().root_bits();
        let (line, above, depth) = match path.lines().last() {
            None => (0, 0, root_bits),
            Some(&line) => (line as usize, depth_of(prefix.len()), depth_of(prefix.len()) + NIBBLE),
        };
        let mut slot = line * SLOTS + prefix.addr().slice(above, depth - above);
        let end = slot + (1 << (depth - prefix.len()));
        // Below the front the number means nothing.
        let mut number = if depth <= front::BITS { prefix.addr().slice(0, depth) } else { 0 };
        while slot < end {
            let first = slot % SLOTS;
            let count = (SLOTS - first).min(end - slot);
            let within = (((1_u32 << count) - 1) << first) as u16;
            self.overwrite_line(slot / SLOTS, within, depth, number.wrapping_sub(first), new, taken);
            (slot, number) = (slot + count, number + count);
        }
    }

    /// Stores `new` in those slots of a line that are `within`, and in all of the lines below them. The
    /// slots end at `depth`; the first `depth` address bits of the line's first slot are `number`.
    fn overwrite_line(&self, line: usize, within: u16, depth: u8, number: usize, new: Entry, taken: Taken) {
        let lines = self.generation().lines();
        let slots = lines[line].slots();
        let (stored, children) = self.fib.first.overwrite(slots, within, new, taken);
        if stored != 0 {
            self.repeat_all_in_front(depth, number, stored, new);
        }
        let below = |lane: usize| Entry(slots[lane].load(Ordering::Relaxed)).line() as usize;
        #[cfg(not(feature = "loom"))]
        lanes(children.into()).for_each(|lane| kernel::prefetch(&raw const lines[below(lane)]));
        for lane in lanes(children.into()) {
            let number = number.wrapping_add(lane).wrapping_mul(SLOTS);
            self.overwrite_line(below(lane), u16::MAX, depth + NIBBLE, number, new, taken);
        }
    }

    /// Tells the front, if there is one, that the slot for these `depth` bits holds `entry`.
    pub(super) fn repeat_in_front(&self, depth: u8, number: usize, entry: Entry) {
        let lane = number % SLOTS;
        self.repeat_all_in_front(depth, number - lane, 1 << lane, entry);
    }

    /// Tells the front, if there is one, that those slots of sixteen hold `entry` that `stored` has. The
    /// first `depth` address bits of the first of the sixteen are `number`.
    fn repeat_all_in_front(&self, depth: u8, number: usize, stored: u16, entry: Entry) {
        let Some(front) = self.fib.front.get() else { return };
        if depth == front::BITS {
            front.set(self.fib.first, number / SLOTS, stored, entry);
        } else if depth < front::BITS {
            // Depths are multiples of four: a slot above is about sixteen words or a multiple of that.
            let groups = 1 << (front::BITS - depth - NIBBLE);
            for lane in lanes(stored.into()) {
                let first = (number + lane) * groups;
                (first..first + groups).for_each(|group| front.set(self.fib.first, group, u16::MAX, entry));
            }
        }
    }
}
