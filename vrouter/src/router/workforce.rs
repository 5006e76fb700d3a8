//! Making workers, at first and later, and moving queues between them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use super::builder::StageFactory;
use super::placement::place;
use super::{Router, RouterError, WorkerHandle, WorkerThread, Workers};
use crate::counters::WorkerCounters;
use crate::frame::{FramePool, FrameStore};
use crate::ids::WorkerId;
use crate::pipeline::flow_log::{self, FlowLog};
use crate::pipeline::hook::{Hook, HookPoint};
use crate::pipeline::punt::{PuntQueue, PuntSender};
use crate::pipeline::spread::Spread;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::{Record, Tracer};
use crate::publish::Subscriber;
use crate::tables::Tables;
use crate::worker::handoff::{Doorbell, Handoffs, Owners, introduce};
use crate::worker::idle::{IdleMode, IdlePolicy};
use crate::worker::ready::ReadySet;
use crate::worker::rebalance::Rebalance;
use crate::worker::{Command, Worker, WorkerParts};

/// Commands that wait for a worker.
const COMMAND_DEPTH: usize = 1024;
/// How long workers may take to come to a stop together.
const ARRIVAL: Duration = Duration::from_millis(200);
/// How long the rest may take, which is bounded.
const COMPLETION: Duration = Duration::from_secs(2);
/// Turns of a worker that a rebalance takes, with plenty to spare.
const TURNS: usize = 100;

/// What every worker is made of.
pub(super) struct WorkerFactory {
    pub(super) store: Arc<FrameStore>,
    pub(super) punts: PuntQueue,
    pub(super) records: Arc<ArrayQueue<Box<Record>>>,
    pub(super) flow_log: flow_log::Ring,
    pub(super) stages: Vec<(HookPoint, StageFactory)>,
    pub(super) seed: u64,
    pub(super) spread: Spread,
    pub(super) owners: Arc<Owners>,
    pub(super) slow_path: Arc<Doorbell>,
    pub(super) idle: IdleMode,
    /// Cores by worker; those beyond run where the scheduler lets them.
    pub(super) cores: Vec<usize>,
    /// One for each worker that may still be made.
    pub(super) subscribers: VecDeque<Subscriber<Tables>>,
}

impl WorkerFactory {
    /// Makes the worker behind `handles`, and a ring to and from each of them.
    fn make(&mut self, handles: &[WorkerHandle]) -> Result<(Worker, WorkerHandle), RouterError> {
        let index = handles.len();
        let id = WorkerId(index as u16);
        let os = |what| move |error: io::Error| RouterError::Os(what, error);
        let bell = Doorbell::new().map_err(os("eventfd"))?;
        let ready = ReadySet::new(&bell).map_err(os("epoll"))?;
        let subscriber = self.subscribers.pop_front().ok_or(RouterError::TooManyWorkers(index))?;
        let mut handoffs = Handoffs::new(bell.clone());
        for (other, handle) in handles.iter().enumerate() {
            let other = WorkerId(other as u16);
            let [ours, theirs] = introduce((id, &bell), (other, &handle.bell));
            handoffs.meet(ours);
            handle.send(other, Command::Meet(theirs))?;
        }
        let counters = Arc::new(WorkerCounters::default());
        let hooks = self.stages.iter().map(|(point, make)| Hook { point: *point, stage: make(id) }).collect();
        let mut state = WorkerState::new(
            FramePool::new(self.store.clone()),
            counters.clone(),
            PuntSender::new(self.punts.clone()),
            self.records.clone(),
            FlowLog::new(self.flow_log.clone()),
            hooks,
            self.seed.wrapping_add(index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        );
        state.spread = self.spread;
        let commands = Arc::new(ArrayQueue::new(COMMAND_DEPTH));
        let handle = WorkerHandle {
            counters,
            commands: commands.clone(),
            bell,
            returned: state.tracer.returned(),
            core: self.cores.get(index).copied(),
        };
        let wake = self.slow_path.clone();
        let worker = Worker::new(WorkerParts {
            id,
            state,
            subscriber,
            commands,
            handoffs,
            owners: self.owners.clone(),
            ready,
            idle: IdlePolicy::new(self.idle),
            punt_wake: Arc::new(move || wake.ring()),
        });
        Ok((worker, handle))
    }
}

/// The threads of workers, shared by who made them and who ends them.
pub(super) type Threads = Arc<Mutex<Vec<WorkerThread>>>;

/// The list of threads; a panic elsewhere does not make it wrong.
pub(super) fn locked(threads: &Threads) -> std::sync::MutexGuard<'_, Vec<WorkerThread>> {
    threads.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Router {
    /// Starts every worker in a thread of its own.
    ///
    /// # Errors
    /// Where they run already or a thread cannot be made.
    pub fn start(&mut self) -> Result<Workers, RouterError> {
        if self.workers.is_empty() {
            return Err(RouterError::NotHere);
        }
        let threads = Threads::default();
        self.threads = Some(threads.clone());
        let workers = Workers { threads };
        for worker in core::mem::take(&mut self.workers) {
            self.launch(worker)?;
        }
        Ok(workers)
    }

    /// Starts a worker's thread.
    fn launch(&self, mut worker: Worker) -> Result<(), RouterError> {
        let Some(threads) = &self.threads else { return Err(RouterError::NotHere) };
        let handle = &self.handles[worker.id().index()];
        let core = handle.core;
        let thread = std::thread::Builder::new()
            .name(format!("worker-{}", worker.id()))
            .spawn(move || {
                if let Some(core) = core
                    && let Err(error) = crate::sys::affinity::pin_current_thread(core)
                {
                    tracing::warn!("worker is not pinned to core {core}: {error}");
                }
                worker.run();
                worker
            })
            .map_err(|error| RouterError::Os("worker thread", error))?;
        locked(threads).push((handle.commands.clone(), handle.bell.clone(), thread));
        Ok(())
    }

    /// Makes one more worker, without queues.
    pub(super) fn add_worker(&mut self) -> Result<(), RouterError> {
        let (mut worker, handle) = self.factory.make(&self.handles)?;
        for placement in &self.ports {
            worker.obey_now(Command::PortAppears(placement.port));
        }
        if self.equipped {
            Tracer::equip(&handle.returned);
        }
        self.engine.count_rules_in(handle.counters.clone());
        self.handles.push(handle);
        match self.threads {
            Some(_) => self.launch(worker),
            None => {
                self.workers.push(worker);
                Ok(())
            }
        }
    }

    /// Workers among which the queues are shared.
    pub fn active_workers(&self) -> usize {
        self.active
    }

    /// The most workers there can be.
    pub fn most_workers(&self) -> usize {
        self.handles.len() + self.factory.subscribers.len()
    }

    /// Shares the queues among the first `count` workers, which are made where they are
    /// not there yet; those beyond keep nothing and sleep. Queues move as they are, at a
    /// burst boundary, and no packet overtakes another of its flow. Returns the number of
    /// queues that moved.
    ///
    /// # Errors
    /// For zero or more than [`most_workers`](Self::most_workers), and where a worker does
    /// not answer: nothing has moved then.
    pub fn set_workers(&mut self, count: usize) -> Result<usize, RouterError> {
        if count == 0 || count > self.most_workers() {
            return Err(RouterError::TooManyWorkers(self.most_workers()));
        }
        while self.handles.len() < count {
            self.add_worker()?;
        }
        let current: Vec<_> = self
            .ports
            .iter()
            .map(|placement| (placement.port, placement.queues.iter().copied().map(Some).collect()))
            .collect();
        let plan = place(&current, count);
        let moves = |(placement, (_, owners)): (&super::PortPlacement, &(_, Vec<WorkerId>))| {
            placement.queues.iter().zip(owners).filter(|(from, to)| from != to).count()
        };
        let moved: usize = self.ports.iter().zip(&plan).map(moves).sum();
        if moved > 0 {
            self.rebalance(plan.clone())?;
            for (placement, (_, owners)) in self.ports.iter_mut().zip(plan) {
                placement.queues = owners;
            }
        }
        self.active = count;
        Ok(moved)
    }

    fn rebalance(&mut self, plan: Vec<(crate::ids::PortId, Vec<WorkerId>)>) -> Result<(), RouterError> {
        let rebalance = Arc::new(Rebalance::new(self.handles.len(), plan));
        for (index, handle) in self.handles.iter().enumerate() {
            if let Err(error) = handle.send(WorkerId(index as u16), Command::Rebalance(rebalance.clone())) {
                rebalance.abandon();
                return Err(error);
            }
        }
        let gates = rebalance.gates();
        if !self.workers.is_empty() {
            for _ in 0..TURNS {
                let now = self.now;
                self.workers.iter_mut().for_each(|worker| {
                    worker.poll(now);
                });
                if gates.is_finished() {
                    return Ok(());
                }
            }
            rebalance.abandon();
            return Err(RouterError::WorkersStuck);
        }
        let start = Instant::now();
        while !gates.is_finished() {
            if start.elapsed() > ARRIVAL && rebalance.abandon() || start.elapsed() > COMPLETION {
                return Err(RouterError::WorkersStuck);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }
}
