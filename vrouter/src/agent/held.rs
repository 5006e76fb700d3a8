//! Waiting for what a former holder is about to let go.
//!
//! The kernel tears some objects down after the process that held them has ended, and
//! a child between fork(2) and execve(2) holds copies of all descriptors. A router that
//! starts again must not take that for another router.

use std::time::{Duration, Instant};

/// How long something may be held by somebody who is about to let go.
const LIMIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Why an attempt failed.
pub(super) enum Attempt<E> {
    /// Somebody holds it.
    Held(E),
    /// For good.
    Failed(E),
}

impl<E> From<E> for Attempt<E> {
    fn from(error: E) -> Self {
        Self::Failed(error)
    }
}

/// The time left for a holder to let go, from the first attempt on.
pub(super) struct Patience {
    deadline: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { deadline: Instant::now() + LIMIT }
    }

    /// The pause before another attempt, or the error if there is to be none.
    pub(super) fn pause<E>(&self, failure: Attempt<E>) -> Result<Duration, E> {
        match failure {
            Attempt::Held(_) if Instant::now() < self.deadline => Ok(PAUSE),
            Attempt::Held(error) | Attempt::Failed(error) => Err(error),
        }
    }
}
