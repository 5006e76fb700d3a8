//! Which queues have packets, and blocking until one has.
//!
//! Queues whose receive costs a system call (taps) are read when epoll says so: one call a
//! turn for all of them together. Rings shared with the kernel are looked at without a system
//! call and only end a block. They are not in the set: to a member the kernel tells every
//! arrival, one by one, which cost a tenth of what passing a TCP stream on does.

use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::sys::wait::WaitSet;
use crate::worker::handoff::Doorbell;

/// Token of the doorbell.
const BELL: u64 = u64::MAX;
/// Readiness events taken at a time; more of them come with the next call.
const EVENTS: usize = 256;

/// The wait set of one worker.
pub struct ReadySet {
    set: WaitSet,
    events: Vec<u64>,
    /// By queue: ready to be read.
    ready: Vec<bool>,
    /// By queue: its descriptor can be waited on.
    waited: Vec<bool>,
    /// By queue: its descriptor ends a block without being in the set.
    aside: Vec<bool>,
    /// Queues that are read on readiness.
    on_readiness: usize,
    /// Queues that cannot be waited on.
    unwaitable: usize,
}

impl ReadySet {
    /// A set that `bell` wakes.
    ///
    /// # Errors
    /// What epoll says.
    pub fn new(bell: &Arc<Doorbell>) -> io::Result<Self> {
        let set = WaitSet::new(EVENTS)?;
        set.add(bell.event().as_fd(), BELL)?;
        Ok(ReadySet {
            set,
            events: Vec::with_capacity(EVENTS),
            ready: vec![false; super::Worker::MAX_QUEUES],
            waited: vec![false; super::Worker::MAX_QUEUES],
            aside: vec![false; super::Worker::MAX_QUEUES],
            on_readiness: 0,
            unwaitable: 0,
        })
    }

    /// Takes a queue in. `on_readiness`: it is to be read only when ready.
    pub fn add(&mut self, queue: usize, fd: Option<BorrowedFd<'_>>, on_readiness: bool) {
        self.ready[queue] = on_readiness;
        self.on_readiness += usize::from(on_readiness);
        self.aside[queue] = !on_readiness && fd.is_some();
        // A descriptor that epoll refuses is treated as one that cannot be waited on.
        self.waited[queue] = fd.is_some_and(|fd| !on_readiness || self.set.add(fd, queue as u64).is_ok());
        self.unwaitable += usize::from(!self.waited[queue]);
    }

    /// Stops waiting for a queue that will never receive again, so that it does not
    /// end every block at once.
    pub fn silence(&mut self, queue: usize, fd: Option<BorrowedFd<'_>>) {
        let aside = core::mem::take(&mut self.aside[queue]);
        if let Some(fd) = fd.filter(|_| self.waited[queue] && !aside) {
            // The only failure is that it is out already.
            let _ = self.set.remove(fd);
        }
    }

    /// Lets a queue go.
    pub fn remove(&mut self, queue: usize, fd: Option<BorrowedFd<'_>>, on_readiness: bool) {
        self.ready[queue] = false;
        self.on_readiness -= usize::from(on_readiness);
        self.unwaitable -= usize::from(!self.waited[queue]);
        self.silence(queue, fd);
        self.waited[queue] = false;
        // What was collected under the old number is void.
        self.events.clear();
    }

    /// Looks which queues are ready, without blocking.
    #[inline]
    pub fn collect(&mut self) {
        if self.on_readiness > 0 {
            self.wait(Duration::ZERO);
        }
    }

    /// Whether the queue was ready; it has to become ready anew.
    #[inline]
    pub fn take(&mut self, queue: usize) -> bool {
        core::mem::take(&mut self.ready[queue])
    }

    /// Whether blocking ends by everything that can happen.
    pub fn can_block(&self) -> bool {
        self.unwaitable == 0
    }

    /// Blocks until something is ready or the time is over. `fds` are those of all queues, in order.
    pub fn block<'a>(&mut self, timeout: Duration, fds: impl Iterator<Item = Option<BorrowedFd<'a>>>) {
        let aside = fds.zip(&self.aside).filter_map(|(fd, aside)| fd.filter(|_| *aside));
        let outcome = self.set.wait_with(Some(timeout), aside, &mut self.events);
        self.mark(outcome);
    }

    fn wait(&mut self, timeout: Duration) {
        let outcome = self.set.wait(Some(timeout), &mut self.events);
        self.mark(outcome);
    }

    fn mark(&mut self, outcome: io::Result<()>) {
        // An error here can only be a programming error of the set itself; the
        // queues are then polled, because nothing is marked unready.
        if outcome.is_err() {
            self.ready.fill(true);
            return;
        }
        for &token in &self.events {
            if let Some(ready) = usize::try_from(token).ok().and_then(|queue| self.ready.get_mut(queue)) {
                *ready = true;
            }
        }
    }
}
