//! A queue moves from one worker to another, with a packet of its on the way through a third ring.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};
}
#[path = "../../../vrouter/src/worker/rebalance/gates.rs"]
mod gates;

use gates::{Gates, Passage};

const NOBODY: usize = 0;
const FRAME: usize = 1;

/// Worker 0 owns the queue and is to give it to worker 1, to which it has handed a frame over.
struct World {
    gates: Gates,
    /// Touched by its owner alone.
    queue: UnsafeCell<Vec<usize>>,
    /// The frame's bytes; whoever has its handle touches them.
    frame: UnsafeCell<u32>,
    /// The ring from worker 0 to worker 1: one place.
    ring: AtomicUsize,
    /// Who may touch the queue next, for the check at the end.
    mailbox: AtomicUsize,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(World {
            gates: Gates::new(2),
            queue: UnsafeCell::new(Vec::new()),
            frame: UnsafeCell::new(0),
            ring: AtomicUsize::new(NOBODY),
            mailbox: AtomicUsize::new(NOBODY),
        })
    }

    fn use_queue(&self, by: usize) {
        // SAFETY: loom checks that nobody else touches it: that is what the model is for.
        self.queue.with_mut(|queue| unsafe { (*queue).push(by) });
    }

    fn use_frame(&self) {
        // SAFETY: as above.
        self.frame.with_mut(|frame| unsafe { *frame += 1 });
    }

    /// Worker 0: receives, hands the frame over, and takes part. Returns whether it gave the queue away.
    fn give(&self) -> bool {
        self.use_queue(0);
        self.use_frame();
        self.ring.store(FRAME, Release);
        self.gates.arrive();
        if !self.wait_for_arrival() {
            self.use_queue(0);
            return false;
        }
        self.gates.drain();
        while !self.gates.is_drained() {
            thread::yield_now();
        }
        assert_eq!(self.ring.load(Acquire), NOBODY, "a frame is on its way when queues move");
        self.mailbox.store(1, Release);
        self.gates.deliver();
        true
    }

    /// Worker 1: takes over what is handed over and takes part. Returns whether it got the queue.
    fn take(&self) -> bool {
        self.gates.arrive();
        if !self.wait_for_arrival() {
            self.take_over();
            return false;
        }
        // Nobody hands over any more: what is in the ring now is all.
        self.take_over();
        self.gates.drain();
        while !self.gates.is_drained() {
            thread::yield_now();
        }
        self.gates.deliver();
        while !self.gates.is_delivered() {
            thread::yield_now();
        }
        assert_eq!(self.mailbox.load(Acquire), 1);
        self.use_queue(1);
        true
    }

    fn take_over(&self) {
        if self.ring.load(Acquire) == FRAME {
            self.use_frame();
            self.ring.store(NOBODY, Release);
        }
    }

    fn wait_for_arrival(&self) -> bool {
        loop {
            match self.gates.arrival() {
                Passage::Open => return true,
                Passage::Abandoned => return false,
                Passage::Closed => thread::yield_now(),
            }
        }
    }
}

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 100_000;
    builder.check(model);
}

#[test]
fn a_queue_has_one_owner_at_any_time() {
    explore(|| {
        let world = World::new();
        let other = thread::spawn({
            let world = world.clone();
            move || world.take()
        });
        assert!(world.give());
        assert!(other.join().unwrap());
    });
}

#[test]
fn an_attempt_that_is_called_off_moves_nothing() {
    explore(|| {
        let world = World::new();
        let [giver, taker] = [0, 1].map(|worker| {
            let world = world.clone();
            thread::spawn(move || if worker == 0 { world.give() } else { world.take() })
        });
        let called_off = world.gates.abandon();
        let outcomes = [giver.join().unwrap(), taker.join().unwrap()];
        assert_eq!(outcomes, [!called_off; 2], "all of them take part, or none");
    });
}
