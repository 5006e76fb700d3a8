//! Publication of tables and the grace periods that make reclaiming safe.
//!
//! ```text
//!   control:  publish(new)  ->  epoch 8  ...  passed(8)?  -> drop old tables, reuse FIB nodes
//!   worker A: [burst] quiescent(7) [burst] refresh, quiescent(8) [burst]
//!   worker B: [burst] offline ........ sleeps ........ online: refresh, 8
//! ```
//!
//! A worker holds no reference into the tables between bursts. There it calls
//! [`Subscriber::refresh`], which adopts what is newest and then reports the epoch
//! it has seen. When every worker that is online has reported an epoch, nobody can
//! still see what was unlinked before it. A worker marks itself offline before it
//! blocks, so that a sleeper never holds a grace period up.
//!
//! Old tables are dropped on the publisher's thread: adopting frees no memory.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::atomic::{self, ArcSwap};
use grace::Grace;

#[path = "publish/grace.rs"]
mod grace;

/// A point in time of the publisher; later ones compare greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Epoch(u64);

#[derive(Debug)]
struct Shared<T> {
    current: ArcSwap<T>,
    grace: Grace,
}

/// The single writer.
#[derive(Debug)]
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
    retired: VecDeque<(Epoch, Arc<T>)>,
}

/// One worker's view.
#[derive(Debug)]
pub struct Subscriber<T> {
    shared: Arc<Shared<T>>,
    slot: usize,
    seen: u64,
    current: Arc<T>,
}

/// Starts publication of `first` to `subscribers` workers, all of them offline.
pub fn channel<T>(first: Arc<T>, subscribers: usize) -> (Publisher<T>, Vec<Subscriber<T>>) {
    let shared = Arc::new(Shared { current: ArcSwap::new(first.clone()), grace: Grace::new(subscribers) });
    let subscribers = (0..subscribers)
        .map(|slot| Subscriber { shared: shared.clone(), slot, seen: 0, current: first.clone() })
        .collect();
    (Publisher { shared, retired: VecDeque::new() }, subscribers)
}

impl<T> Publisher<T> {
    /// Replaces the tables. The old ones live until [`collect`](Self::collect)
    /// finds that every worker has passed the returned epoch.
    pub fn publish(&mut self, next: Arc<T>) -> Epoch {
        let old = self.shared.current.swap(next);
        let epoch = self.advance();
        self.retired.push_back((epoch, old));
        epoch
    }

    /// Begins a new epoch without new tables: what was unlinked before this call
    /// may be reused once the epoch has [`passed`](Self::passed).
    pub fn advance(&mut self) -> Epoch {
        Epoch(self.shared.grace.advance())
    }

    /// Whether every worker is asleep or has reported `epoch` or a later one.
    pub fn passed(&self, epoch: Epoch) -> bool {
        self.shared.grace.passed(epoch.0)
    }

    /// Drops old tables that nobody holds any more; returns how many some worker may
    /// still look at. A sleeping worker looks at none, but holds those that it will
    /// let go of when it wakes: they are kept, so that it never drops the last handle.
    pub fn collect(&mut self) -> usize {
        let grace = &self.shared.grace;
        self.retired.retain(|(epoch, old)| !grace.passed(epoch.0) || Arc::strong_count(old) > 1);
        self.retired.iter().filter(|(epoch, _)| !grace.passed(epoch.0)).count()
    }

    /// The tables in force.
    pub fn current(&self) -> Arc<T> {
        self.shared.current.load_full()
    }
}

impl<T> Subscriber<T> {
    /// Adopts the newest tables and reports a quiescent point. To be called where
    /// no reference into the tables is held. Returns whether the tables changed.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        let epoch = self.shared.grace.epoch();
        if epoch == self.seen {
            return false;
        }
        self.adopt(epoch)
    }

    #[cold]
    fn adopt(&mut self, epoch: u64) -> bool {
        let newest = self.shared.current.load_full();
        let changed = !Arc::ptr_eq(&newest, &self.current);
        self.current = newest;
        self.seen = epoch;
        self.shared.grace.report(self.slot, epoch);
        changed
    }

    /// Declares that no table is looked at until [`online`](Self::online).
    pub fn offline(&mut self) {
        self.shared.grace.offline(self.slot);
    }

    /// Ends [`offline`](Self::offline); returns whether the tables changed meanwhile.
    pub fn online(&mut self) -> bool {
        let epoch = self.shared.grace.online(self.slot);
        self.adopt(epoch)
    }

    /// The tables of this burst.
    #[inline]
    pub fn tables(&self) -> &Arc<T> {
        &self.current
    }
}

impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        self.offline();
    }
}
