//! Whether a worker sleeps, told without a lock and without a lost wake-up.
//!
//! ```text
//!   sleeper   asleep = true; fence; look for work; block if there is none
//!   others    make work visible; fence; wake if asleep
//! ```
//!
//! The fences make it one or the other: the sleeper sees the work, or is seen asleep.

use super::atomic::{AtomicBool, Ordering, fence};

/// The flag of one sleeper.
#[derive(Debug)]
pub(super) struct SleepFlag(AtomicBool);

impl SleepFlag {
    /// Awake.
    pub(super) fn new() -> Self {
        SleepFlag(AtomicBool::new(false))
    }

    /// It is about to block: it must look for work once more before.
    pub(super) fn announce_sleep(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// It is awake.
    pub(super) fn announce_awake(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it must be woken for work that was made visible before.
    pub(super) fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed)
    }

    /// Whether it sleeps now.
    pub(super) fn is_asleep(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
