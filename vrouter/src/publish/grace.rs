//! Epochs and who has seen them: what a grace period is made of.
//!
//! ```text
//!   publisher   unlink old; epoch += 1; fence; look at every slot
//!   worker      slot = epoch; fence; look at the newest        (online, and again on news)
//!               slot = OFFLINE                                  (before it sleeps)
//! ```
//!
//! The two fences make it one or the other: the publisher sees the worker online, or the
//! worker sees what the publisher did before it looked. Small enough for a model checker.

use super::atomic::{AtomicU64, Ordering, fence};

/// The value of a slot whose worker is asleep or has ended.
const OFFLINE: u64 = u64::MAX;

#[derive(Debug)]
#[repr(align(64))]
struct Slot(AtomicU64);

/// The epoch, and a slot for each worker.
#[derive(Debug)]
pub(super) struct Grace {
    epoch: AtomicU64,
    slots: Box<[Slot]>,
}

impl Grace {
    /// Slots for `workers`, all of them offline.
    pub(super) fn new(workers: usize) -> Self {
        Grace {
            epoch: AtomicU64::new(1),
            slots: (0..workers).map(|_| Slot(AtomicU64::new(OFFLINE))).collect(),
        }
    }

    /// Begins a new epoch and returns it. What was unlinked before belongs to the last one.
    pub(super) fn advance(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The epoch now.
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether every worker is offline or has reported `epoch` or a later one.
    pub(super) fn passed(&self, epoch: u64) -> bool {
        fence(Ordering::SeqCst);
        self.slots.iter().all(|slot| slot.0.load(Ordering::Acquire) >= epoch)
    }

    /// A worker has seen `epoch` and holds nothing that is older.
    pub(super) fn report(&self, slot: usize, epoch: u64) {
        self.slots[slot].0.store(epoch, Ordering::Release);
    }

    /// A worker looks at nothing until it is online again.
    pub(super) fn offline(&self, slot: usize) {
        self.slots[slot].0.store(OFFLINE, Ordering::Release);
    }

    /// A worker will look at things: to be called before it does. Returns the epoch to
    /// report once it has adopted what is newest.
    pub(super) fn online(&self, slot: usize) -> u64 {
        let epoch = self.epoch.load(Ordering::Acquire);
        self.slots[slot].0.store(epoch, Ordering::Release);
        fence(Ordering::SeqCst);
        self.epoch.load(Ordering::Acquire)
    }
}
