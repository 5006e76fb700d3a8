//! How busy the workers were lately.

use crate::clock;
use crate::daemon::node::Node;
use crate::worker::load::{LoadMeter, WorkerLoad};

impl Node {
    pub(super) fn watch_load(&mut self) {
        let now = clock::now();
        let workers = self.router.workers();
        self.loads.resize_with(workers.len(), LoadMeter::default);
        for (meter, worker) in self.loads.iter_mut().zip(workers) {
            meter.look(now, &worker.counters.run);
        }
    }

    /// What a worker did in the last second or so, and can do.
    pub fn worker_load(&self, worker: usize) -> WorkerLoad {
        self.loads.get(worker).map(|meter| meter.load().clone()).unwrap_or_default()
    }
}
