//! Deadlines in order, at most one for each key.
//!
//! ```text
//!   arm(B, 3)  arm(A, 1)  arm(B, 2)      next() = 1
//!   expire(2) = A, expire(2) = B, expire(2) = none
//! ```
//!
//! Arming again replaces the deadline, so the queue never holds more than one
//! element for each key. Every operation is O(log n).

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::Timestamp;

/// Deadlines by key.
#[derive(Debug)]
pub(super) struct TimerQueue<K> {
    order: BTreeSet<(Timestamp, K)>,
    deadlines: BTreeMap<K, Timestamp>,
}

impl<K: Copy + Ord> TimerQueue<K> {
    pub(super) const fn new() -> Self {
        TimerQueue { order: BTreeSet::new(), deadlines: BTreeMap::new() }
    }

    /// Sets the deadline of `key`; an earlier one is forgotten.
    pub(super) fn arm(&mut self, key: K, deadline: Timestamp) {
        if let Some(old) = self.deadlines.insert(key, deadline) {
            self.order.remove(&(old, key));
        }
        self.order.insert((deadline, key));
    }

    /// Takes the deadline of `key` away.
    pub(super) fn cancel(&mut self, key: K) {
        if let Some(old) = self.deadlines.remove(&key) {
            self.order.remove(&(old, key));
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|&(deadline, _)| deadline)
    }

    /// Takes out the key with the earliest deadline, if that is not after `now`.
    pub(super) fn expire(&mut self, now: Timestamp) -> Option<K> {
        let &(deadline, key) = self.order.first()?;
        if deadline > now {
            return None;
        }
        self.cancel(key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_expire_in_order_and_only_when_due() {
        let mut timers = TimerQueue::new();
        timers.arm('b', Timestamp(3));
        timers.arm('a', Timestamp(1));
        timers.arm('c', Timestamp(2));
        assert_eq!(timers.next(), Some(Timestamp(1)));
        assert_eq!(timers.expire(Timestamp(0)), None);
        assert_eq!(timers.expire(Timestamp(2)), Some('a'));
        assert_eq!(timers.expire(Timestamp(2)), Some('c'));
        assert_eq!(timers.expire(Timestamp(2)), None);
        assert_eq!(timers.next(), Some(Timestamp(3)));
    }

    #[test]
    fn arming_again_replaces_and_cancelling_removes() {
        let mut timers = TimerQueue::new();
        timers.arm('a', Timestamp(1));
        timers.arm('a', Timestamp(5));
        assert_eq!(timers.expire(Timestamp(4)), None);
        timers.arm('b', Timestamp(2));
        timers.cancel('b');
        timers.cancel('b');
        assert_eq!(timers.expire(Timestamp(9)), Some('a'));
        assert_eq!(timers.next(), None);
    }
}
