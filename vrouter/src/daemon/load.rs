//! How busy the workers were lately.

use std::time::Instant;

use crate::daemon::node::Node;

/// The busy time of each worker at the last two looks, about a second apart.
#[derive(Debug, Default)]
pub struct Loads {
    looks: Vec<(Instant, Vec<u64>)>,
}

impl Loads {
    /// Takes a look at the busy nanoseconds of every worker.
    pub fn look(&mut self, now: Instant, busy_ns: Vec<u64>) {
        if self.looks.len() == 2 {
            self.looks.remove(0);
        }
        self.looks.push((now, busy_ns));
    }

    /// The share of time that a worker spent on packets between the last two looks,
    /// 0 to 1; 0 before there are two.
    pub fn share(&self, worker: usize) -> f64 {
        let [(then, before), (now, after)] = self.looks.as_slice() else { return 0.0 };
        let passed = now.duration_since(*then).as_nanos() as f64;
        match (before.get(worker), after.get(worker)) {
            (Some(before), Some(after)) if passed > 0.0 => {
                (after.saturating_sub(*before) as f64 / passed).min(1.0)
            }
            _ => 0.0,
        }
    }
}

impl Node {
    pub(super) fn watch_load(&mut self) {
        let busy = self.router.workers().iter().map(|worker| worker.counters.run.busy_ns.get());
        self.loads.look(Instant::now(), busy.collect());
    }

    /// The share of the last second or so that a worker spent on packets, 0 to 1.
    pub fn busy_share(&self, worker: usize) -> f64 {
        self.loads.share(worker)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_share_is_of_the_time_between_two_looks() {
        let mut loads = Loads::default();
        let start = Instant::now();
        loads.look(start, vec![0, 5]);
        assert_eq!(loads.share(0), 0.0);
        loads.look(start + Duration::from_secs(1), vec![250_000_000, 5]);
        assert_eq!((loads.share(0), loads.share(1)), (0.25, 0.0));
        loads.look(start + Duration::from_secs(2), vec![3_000_000_000, 5]);
        assert_eq!((loads.share(0), loads.share(7)), (1.0, 0.0));
    }
}
