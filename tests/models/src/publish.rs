//! Tables are published, adopted and reclaimed while workers sleep and wake.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};
}
#[path = "../../../vrouter/src/publish/grace.rs"]
mod grace;

use grace::Grace;

/// Two generations of tables; a write to one is its reclamation. loom reports a write that a
/// reader's look may overlap.
struct World {
    grace: Grace,
    current: AtomicUsize,
    tables: [UnsafeCell<u32>; 2],
}

impl World {
    fn new(workers: usize) -> Arc<Self> {
        Arc::new(World {
            grace: Grace::new(workers),
            current: AtomicUsize::new(0),
            tables: [UnsafeCell::new(10), UnsafeCell::new(20)],
        })
    }

    fn look(&self) {
        let at = self.current.load(Acquire);
        self.tables[at].with(|table| {
            // SAFETY: loom checks that nobody writes meanwhile: that is what the model is for.
            let value = unsafe { *table };
            assert_ne!(value, 0, "reclaimed under a reader");
        });
    }

    /// Publishes the second tables, and reclaims the first if the grace period is over.
    fn publish_and_reclaim(&self) -> bool {
        self.current.store(1, Release);
        let epoch = self.grace.advance();
        let passed = self.grace.passed(epoch);
        if passed {
            self.tables[0].with_mut(|table| {
                // SAFETY: as above.
                unsafe { *table = 0 };
            });
        }
        passed
    }
}

/// A worker that wakes, looks, adopts at a burst boundary, looks, and sleeps again.
fn worker(world: &World, slot: usize) {
    let epoch = world.grace.online(slot);
    world.grace.report(slot, epoch);
    world.look();
    let epoch = world.grace.epoch();
    world.grace.report(slot, epoch);
    world.look();
    world.grace.offline(slot);
}

#[test]
fn nobody_looks_at_what_was_reclaimed() {
    loom::model(|| {
        let world = World::new(1);
        let other = thread::spawn({
            let world = world.clone();
            move || worker(&world, 0)
        });
        world.publish_and_reclaim();
        other.join().unwrap();
    });
}

#[test]
fn two_workers_of_which_each_may_sleep() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let world = World::new(2);
        let workers = [0, 1].map(|slot| {
            let world = world.clone();
            thread::spawn(move || {
                let epoch = world.grace.online(slot);
                world.grace.report(slot, epoch);
                world.look();
                world.grace.offline(slot);
            })
        });
        world.publish_and_reclaim();
        for worker in workers {
            worker.join().unwrap();
        }
        assert!(world.publish_and_reclaim(), "sleepers hold no grace period up");
    });
}
