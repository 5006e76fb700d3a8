//! Notices workers that stopped turning.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::daemon::node::Node;

/// A worker that neither sleeps nor turns for this long is stuck.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was last seen of each worker: turns of its loop, and when they last changed.
#[derive(Debug, Default)]
pub struct Watchdog(BTreeMap<usize, (u64, Instant)>);

impl Watchdog {
    /// Takes a look at a worker at `now`; returns whether it is stuck.
    pub fn look(&mut self, worker: usize, loops: u64, asleep: bool, now: Instant) -> bool {
        let seen = self.0.entry(worker).or_insert((loops, now));
        if seen.0 != loops || asleep {
            *seen = (loops, now);
        }
        now.duration_since(seen.1) >= PATIENCE
    }
}

impl Node {
    pub(super) fn watch_workers(&mut self) {
        let now = Instant::now();
        let looks: Vec<(usize, u64, bool)> = self
            .router
            .workers()
            .iter()
            .enumerate()
            .map(|(index, worker)| (index, worker.counters.run.loops.get(), worker.is_asleep()))
            .collect();
        for (index, loops, asleep) in looks {
            let stuck = self.watchdog.look(index, loops, asleep, now);
            let problem = stuck.then(|| "no sign of life for 2 seconds".to_owned());
            self.note_problem(&format!("worker {index}"), problem);
        }
    }

    /// Whether the watchdog holds a worker to be stuck.
    pub fn is_stuck(&self, worker: usize) -> bool {
        self.problems.contains_key(&format!("worker {worker}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_stuck_when_it_neither_turns_nor_sleeps() {
        let mut dog = Watchdog::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!dog.look(0, 5, false, at(0)));
        assert!(!dog.look(0, 5, false, at(1)));
        assert!(dog.look(0, 5, false, at(2)));
        assert!(!dog.look(0, 6, false, at(3)));
        assert!(!dog.look(0, 6, true, at(9)));
    }
}
