//! A packet is handed over to a worker that is about to sleep.

use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}
#[path = "../../../vrouter/src/worker/handoff/sleep.rs"]
mod flag;

use flag::SleepFlag;

struct World {
    flag: SleepFlag,
    /// Packets in the ring.
    ring: AtomicUsize,
    /// The eventfd.
    signalled: AtomicBool,
}

#[test]
fn work_is_never_slept_through() {
    loom::model(|| {
        let world = Arc::new(World {
            flag: SleepFlag::new(),
            ring: AtomicUsize::new(0),
            signalled: AtomicBool::new(false),
        });
        let sender = thread::spawn({
            let world = world.clone();
            move || {
                world.ring.store(1, Release);
                if world.flag.must_wake() {
                    world.signalled.store(true, Release);
                }
            }
        });
        world.flag.announce_sleep();
        let blocks = world.ring.load(Acquire) == 0;
        sender.join().unwrap();
        if blocks {
            assert!(world.signalled.load(Relaxed), "it blocks beside a packet, and nobody wakes it");
        }
        world.flag.announce_awake();
    });
}
