//! Three places where workers wait for each other; before the first, control may call it off.

use super::atomic::{AtomicUsize, Ordering};

/// Set in the count of the first gate once it is called off.
const ABANDONED: usize = 1 << (usize::BITS - 1);

/// Whether a gate lets a worker through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passage {
    /// Others are still to come.
    Closed,
    /// All are there.
    Open,
    /// It has been called off.
    Abandoned,
}

/// The gates of one attempt. Counting in releases what was done before; a gate found open
/// acquires what everybody did before.
#[derive(Debug)]
pub struct Gates {
    workers: usize,
    arrived: AtomicUsize,
    drained: AtomicUsize,
    delivered: AtomicUsize,
    finished: AtomicUsize,
}

impl Gates {
    /// Gates for so many workers.
    pub fn new(workers: usize) -> Self {
        let none = || AtomicUsize::new(0);
        Gates { workers, arrived: none(), drained: none(), delivered: none(), finished: none() }
    }

    /// This worker receives no more. To be called once.
    pub fn arrive(&self) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether nobody receives any more.
    pub fn arrival(&self) -> Passage {
        let arrived = self.arrived.load(Ordering::Acquire);
        match arrived {
            _ if arrived & ABANDONED != 0 => Passage::Abandoned,
            _ if arrived == self.workers => Passage::Open,
            _ => Passage::Closed,
        }
    }

    /// Nothing is left on its way through this worker. To be called once.
    pub fn drain(&self) {
        self.drained.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether nothing is left anywhere.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire) == self.workers
    }

    /// What leaves this worker is in the mailboxes. To be called once.
    pub fn deliver(&self) {
        self.delivered.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether all mail is there.
    pub fn is_delivered(&self) -> bool {
        self.delivered.load(Ordering::Acquire) == self.workers
    }

    /// This worker has taken its mail. To be called once.
    pub fn finish(&self) {
        self.finished.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether every worker receives again.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire) == self.workers
    }

    /// Calls it off unless every worker has arrived: either all of them see that, or none.
    pub fn abandon(&self) -> bool {
        let mut arrived = self.arrived.load(Ordering::Acquire);
        while arrived != self.workers {
            let off = arrived | ABANDONED;
            match self.arrived.compare_exchange(arrived, off, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => arrived = now,
            }
        }
        false
    }
}
