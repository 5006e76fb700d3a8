//! Which queues have packets, and blocking until one has.
//!
//! Rings shared with the kernel are looked at without a system call, so they are waited
//! for only to end a block. Queues whose receive costs a system call (taps) are
//! read when epoll says so: one call a turn for all of them together.

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

/// How a queue is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waited {
    Not,
    /// It is in the epoll set all the time.
    Always,
    /// Only while the worker blocks: it need not be read, and the set of these has room.
    WhileBlocked,
}

/// The wait set of one worker.
pub struct ReadySet {
    set: WaitSet,
    events: Vec<u64>,
    /// By queue: ready to be read.
    ready: Vec<bool>,
    /// By queue: how it is waited for.
    waited: Vec<Waited>,
    /// Queues that are read on readiness.
    on_readiness: usize,
    /// Queues that cannot be waited on.
    unwaitable: usize,
    /// What ended a block has not been looked at.
    woken: bool,
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
            waited: vec![Waited::Not; super::Worker::MAX_QUEUES],
            on_readiness: 0,
            unwaitable: 0,
            woken: false,
        })
    }

    /// Takes a queue in. `on_readiness`: it is to be read only when ready.
    pub fn add(&mut self, queue: usize, fd: Option<BorrowedFd<'_>>, on_readiness: bool) {
        self.ready[queue] = on_readiness;
        self.on_readiness += usize::from(on_readiness);
        // A descriptor that epoll refuses is treated as one that cannot be waited on.
        self.waited[queue] = match fd {
            Some(fd) if !on_readiness && self.set.add_polled(fd) => Waited::WhileBlocked,
            Some(fd) if self.set.add(fd, queue as u64).is_ok() => Waited::Always,
            _ => Waited::Not,
        };
        self.unwaitable += usize::from(self.waited[queue] == Waited::Not);
    }

    /// Stops waiting for a queue that will never receive again, so that it does not
    /// end every block at once.
    pub fn silence(&mut self, queue: usize, fd: Option<BorrowedFd<'_>>) {
        match (fd, self.waited[queue]) {
            (Some(fd), Waited::WhileBlocked) => self.set.remove_polled(fd),
            (Some(fd), Waited::Always) => {
                // The only failure is that it is out already.
                let _ = self.set.remove(fd);
            }
            _ => {}
        }
    }

    /// Lets a queue go.
    pub fn remove(&mut self, queue: usize, fd: Option<BorrowedFd<'_>>, on_readiness: bool) {
        self.ready[queue] = false;
        self.on_readiness -= usize::from(on_readiness);
        self.unwaitable -= usize::from(self.waited[queue] == Waited::Not);
        self.silence(queue, fd);
        self.waited[queue] = Waited::Not;
        // What was collected under the old number is void.
        self.events.clear();
    }

    /// Looks which queues are ready, without blocking. What has just ended a block is known already.
    #[inline]
    pub fn collect(&mut self) {
        if !core::mem::take(&mut self.woken) && self.on_readiness > 0 {
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

    /// Blocks until something is ready or the time is over.
    pub fn block(&mut self, timeout: Duration) {
        self.wait(timeout);
        self.woken = true;
    }

    fn wait(&mut self, timeout: Duration) {
        // An error here can only be a programming error of the set itself; the
        // queues are then polled, because nothing is marked unready.
        if self.set.wait(Some(timeout), &mut self.events).is_err() {
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
