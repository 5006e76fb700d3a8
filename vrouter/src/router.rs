//! The router as a library: a builder, ports, events, and workers to run.
//!
//! ```no_run
//! use vrouter::{Event, IdleMode, MemoryPort, PortSpec, Router};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut router = Router::builder().workers(1).frames(4096).idle(IdleMode::Adaptive).build()?;
//! let (wire, host) = MemoryPort::with_host(256);
//! let pod = PortSpec::pod("pod1", "02:00:00:00:00:01".parse()?, ["10.0.0.1".parse()?]);
//! router.add_port(pod, vec![Box::new(wire)])?;
//! router.commit()?;
//! let threads = router.start()?; // or call `router.poll(now)` with a clock of one's own
//! # drop((host, threads));
//! # Ok(())
//! # }
//! ```
//!
//! The daemon, the simulations and the packet generator are built on nothing else.

mod builder;
mod error;
mod placement;
mod totals;
mod workforce;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use core::net::IpAddr;
use std::collections::BTreeMap;

use acl::conntrack::{LayoutError, TakenOver};
use crossbeam_queue::ArrayQueue;

use crate::control::{Engine, EngineError, Event, NeighborRequest, PortSpec};
use crate::counters::{RuleTotals, WorkerCounters};
use crate::frame::{FramePool, FrameStore};
use crate::ids::{AdjacencyId, PortId, Timestamp, TunnelId, WorkerId};
use crate::neighbor_ports::NeighborPorts;
use crate::pipeline::flow_log;
use crate::pipeline::path_mtu::Report;
use crate::pipeline::punt::{Punt, PuntQueue};
use crate::pipeline::trace::{Record, Tracer};
use crate::port::PortQueue;
use crate::tables::{FlowMemory, NeighborState};
use crate::totals::{AdjacencyTotals, PortTotals, TunnelTotals};
use crate::worker::handoff::{Doorbell, Owners};
use crate::worker::idle::IdleMode;
use crate::worker::{Command, Injected, Worker};
use workforce::{Threads, WorkerFactory, locked};

pub use builder::RouterBuilder;
pub use error::RouterError;

/// How long a worker may take to give a queue back.
const HANDBACK_TIMEOUT: Duration = Duration::from_secs(2);

/// Control's side of a worker.
pub struct WorkerHandle {
    /// What it counted.
    pub counters: Arc<WorkerCounters>,
    /// The core it is pinned to.
    pub core: Option<usize>,
    commands: Arc<ArrayQueue<Command>>,
    bell: Arc<Doorbell>,
    returned: Arc<ArrayQueue<Box<Record>>>,
}

impl WorkerHandle {
    fn send(&self, id: WorkerId, command: Command) -> Result<(), RouterError> {
        let mut command = command;
        for _ in 0..1000 {
            match self.commands.push(command) {
                Ok(()) => {
                    self.bell.ring();
                    return Ok(());
                }
                Err(back) => command = back,
            }
            self.bell.ring();
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(RouterError::WorkerStuck(id))
    }

    /// Whether it is blocked for want of work.
    pub fn is_asleep(&self) -> bool {
        self.bell.is_asleep()
    }
}

/// Where the queues of a port are.
#[derive(Clone, Debug)]
pub struct PortPlacement {
    /// The port.
    pub port: PortId,
    /// Its name.
    pub name: String,
    /// The worker that owns each queue.
    pub queues: Vec<WorkerId>,
    /// What the port's number had counted before it was this port's.
    start: PortTotals,
}

/// A router: the engine, the workers until they run, and what connects them.
pub struct Router {
    engine: Engine,
    store: Arc<FrameStore>,
    handles: Vec<WorkerHandle>,
    workers: Vec<Worker>,
    /// Threads of workers, once they run.
    threads: Option<Threads>,
    factory: WorkerFactory,
    /// Workers that share the queues: the first so many.
    active: usize,
    owners: Arc<Owners>,
    punts: PuntQueue,
    slow_path: Arc<Doorbell>,
    records: Arc<ArrayQueue<Box<Record>>>,
    flow_log: flow_log::Ring,
    ports: Vec<PortPlacement>,
    neighbors: NeighborPorts,
    idle: IdleMode,
    /// Whether the workers have records to trace with.
    equipped: bool,
    /// What a tunnel's number had counted before it was this tunnel's.
    tunnel_starts: BTreeMap<TunnelId, TunnelTotals>,
    /// The same of adjacencies.
    adjacency_starts: BTreeMap<AdjacencyId, AdjacencyTotals>,
    /// The time of the latest call that brought one.
    now: Timestamp,
}

impl Router {
    /// Starts to describe a router.
    pub fn builder() -> RouterBuilder {
        RouterBuilder::default()
    }

    /// Adds a port with its queues, which are dealt out to the workers in turn. The
    /// port carries packets once [`commit`](Self::commit) has returned.
    ///
    /// # Errors
    /// Where the port is refused; its queues are closed then.
    pub fn add_port(
        &mut self,
        spec: PortSpec,
        queues: Vec<Box<dyn PortQueue>>,
    ) -> Result<PortId, RouterError> {
        let name = spec.name.clone();
        if queues.is_empty() {
            return Err(RouterError::NoQueues(name));
        }
        let present: usize = self.ports.iter().map(|placement| placement.queues.len()).sum();
        if present + queues.len() > Worker::MAX_QUEUES {
            let mut pool = FramePool::new(self.store.clone());
            queues.into_iter().for_each(|queue| queue.close(&mut pool));
            return Err(RouterError::TooManyQueues(Worker::MAX_QUEUES));
        }
        if let Err(error) = self.engine.apply(Event::PutPort(spec)) {
            let mut pool = FramePool::new(self.store.clone());
            queues.into_iter().for_each(|queue| queue.close(&mut pool));
            return Err(error.into());
        }
        let port = self.engine.port_id(&name).ok_or(RouterError::NotHere)?;
        for (index, handle) in self.handles.iter().enumerate() {
            handle.send(WorkerId(index as u16), Command::PortAppears(port))?;
        }
        let counters = self.handles.iter().map(|handle| &*handle.counters);
        let start_totals = PortTotals::sum(port, counters);
        let fresh = (port, vec![None; queues.len()]);
        let others = self.ports.iter().map(|placement| {
            (placement.port, placement.queues.iter().copied().map(Some).collect::<Vec<_>>())
        });
        let owners = placement::place(&others.chain([fresh]).collect::<Vec<_>>(), self.active)
            .pop()
            .map(|(_, owners)| owners)
            .unwrap_or_default();
        for ((number, queue), worker) in (0..).zip(queues).zip(&owners) {
            self.handles[worker.index()].send(*worker, Command::AddQueue(port, number, queue))?;
        }
        let placement = PortPlacement { port, name, queues: owners, start: start_totals };
        self.owners.set(port, placement.queues.first().copied());
        self.ports.push(placement);
        Ok(port)
    }

    /// Removes a port: packets stop, every frame that its queues hold comes back.
    ///
    /// # Errors
    /// Where there is no such port, or a worker does not answer.
    pub fn remove_port(&mut self, name: &str) -> Result<(), RouterError> {
        self.engine.apply(Event::RemovePort(name.to_owned()))?;
        let committed = self.engine.commit();
        let Some(at) = self.ports.iter().position(|port| port.name == name) else {
            return committed.map(drop).map_err(Into::into);
        };
        let placement = self.ports.swap_remove(at);
        self.owners.set(placement.port, None);
        let (back, queues) = mpsc::channel();
        for (index, handle) in self.handles.iter().enumerate() {
            if placement.queues.contains(&WorkerId(index as u16)) {
                handle.send(WorkerId(index as u16), Command::RemoveQueues(placement.port, back.clone()))?;
            }
        }
        drop(back);
        // Where the caller owns the clock, the workers take the command now.
        self.workers.iter_mut().for_each(Worker::take_commands);
        let mut pool = FramePool::new(self.store.clone());
        for _ in &placement.queues {
            match queues.recv_timeout(HANDBACK_TIMEOUT) {
                Ok(queue) => queue.close(&mut pool),
                Err(_) => return Err(RouterError::WorkerStuck(placement.queues[0])),
            }
        }
        committed.map(drop).map_err(Into::into)
    }

    /// Applies an event; it is in force after [`commit`](Self::commit).
    ///
    /// # Errors
    /// The event is refused whole.
    pub fn apply(&mut self, event: Event) -> Result<(), EngineError> {
        if let Event::SetTrace(filters) = &event
            && !filters.is_empty()
            && !self.equipped
        {
            self.equipped = true;
            self.handles.iter().for_each(|handle| Tracer::equip(&handle.returned));
        }
        self.engine.apply(event)
    }

    /// Puts everything applied into force, and returns the generation when every
    /// worker has adopted it.
    ///
    /// # Errors
    /// Where the FIB is full.
    pub fn commit(&mut self) -> Result<u64, EngineError> {
        let generation = self.engine.commit()?;
        self.note_starts();
        let now = self.now;
        let changed = self.neighbors.configure(self.engine.desired(), |name| self.engine.port_id(name), now);
        changed.into_iter().for_each(|port| self.engine.ask_again(port));
        Ok(generation)
    }

    /// Opens the flows that the process before has left in `left`, and keeps this router's own where its successor looks
    /// for them. To be called when the pods are attached and the policies known. Without `left` it only keeps.
    ///
    /// # Errors
    /// Where the file cannot be put in place.
    pub fn take_over_flows(
        &self,
        left: Option<&FlowMemory>,
        now: Timestamp,
    ) -> Result<Option<Result<TakenOver, LayoutError>>, RouterError> {
        let done = left.map(|left| self.engine.take_over_flows(left, now));
        self.engine.flows().memory().keep().map_err(|error| RouterError::Os("flow table", error))?;
        Ok(done)
    }

    /// Forgets gleaned neighbours that did not answer. To be called about once a second.
    pub fn expire_gleaned(&mut self) {
        self.engine.expire_gleaned();
    }

    /// Runs every worker and the slow path once, at time `now` of the caller's clock.
    /// Returns the number of packets moved; 0 means that nothing is left to do now.
    ///
    /// # Errors
    /// Where the workers run in threads.
    pub fn poll(&mut self, now: Timestamp) -> Result<usize, RouterError> {
        Ok(self.poll_workers(now)? + self.poll_slow_path(now))
    }

    /// One turn of each worker and nothing else, for callers that measure them. Returns the number
    /// of packets received.
    ///
    /// # Errors
    /// Where the workers run in threads of their own.
    pub fn poll_workers(&mut self, now: Timestamp) -> Result<usize, RouterError> {
        if self.workers.is_empty() {
            return Err(RouterError::NotHere);
        }
        Ok(self.workers.iter_mut().map(|worker| worker.poll(now)).sum())
    }

    /// Does what the workers asked of the slow path, and what time asks of the
    /// neighbour machines. Returns the number of messages and frames handled.
    pub fn poll_slow_path(&mut self, now: Timestamp) -> usize {
        self.now = now;
        let mut handled = 0;
        while let Some(punt) = self.punts.pop() {
            handled += 1;
            match punt {
                Punt::Resolve { port, address, glean: true } => self.engine.glean(port, address),
                Punt::Resolve { port, address, glean: false } => self.engine.resolve(port, address),
                Punt::PathMtu(Report { local, remote, mtu }) => {
                    self.engine.path_mtu((local, remote), mtu.into(), now);
                }
                Punt::Frame { port, frame, offset, len } => {
                    self.neighbors.frame(port, self.store.area().bytes(&frame, offset, len), now);
                    self.store.free(frame);
                }
            }
        }
        handled += self.settle(now);
        handled
    }

    /// Commits, and moves requests and answers between engine and neighbour machines.
    fn settle(&mut self, now: Timestamp) -> usize {
        let mut handled = self.engine.expire(now);
        self.neighbors.timeout(now);
        for (port, address, state) in self.neighbors.take_news() {
            handled += 1;
            self.engine.neighbor(port, address, state);
        }
        if let Err(error) = self.engine.commit() {
            tracing::error!("{error}");
        }
        self.note_starts();
        while let Some(request) = self.engine.next_neighbor_request() {
            self.neighbors.request(request, now);
        }
        for (port, address, state) in self.neighbors.take_news() {
            self.engine.neighbor(port, address, state);
        }
        let store = self.store.clone();
        while let Some((port, frame)) = self.neighbors.transmit(&store) {
            handled += 1;
            self.inject(port, frame);
        }
        self.wake_holders();
        handled
    }

    /// Wakes the workers in which packets wait for a neighbour: it may be known now.
    fn wake_holders(&self) {
        for handle in self.handles.iter().filter(|handle| handle.counters.run.held.get() > 0) {
            handle.bell.ring();
        }
    }

    /// Sends a frame on a port, from its owner's thread.
    fn inject(&self, port: PortId, injected: Injected) {
        let unsent = match self.owners.of(port) {
            Some(owner) => {
                let handle = &self.handles[owner.index()];
                match handle.commands.push(Command::Transmit(port, injected)) {
                    Ok(()) => {
                        handle.bell.ring();
                        return;
                    }
                    Err(command) => command,
                }
            }
            None => Command::Transmit(port, injected),
        };
        if let Command::Transmit(_, injected) = unsent {
            self.store.free(injected.frame);
        }
    }

    /// Requests about neighbours on ports that the kernel shares, for the caller to
    /// pass on; answers come by [`neighbor`](Self::neighbor).
    pub fn next_kernel_request(&mut self) -> Option<NeighborRequest> {
        self.neighbors.next_kernel_request()
    }

    /// Takes news of a neighbour on a port that the kernel shares.
    pub fn neighbor(&mut self, port: PortId, address: IpAddr, state: NeighborState) {
        self.engine.neighbor(port, address, state);
    }

    /// When the slow path has something to do of itself.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.neighbors.next_timeout().into_iter().chain(self.engine.next_deadline()).min()
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The frames.
    pub fn frames(&self) -> &Arc<FrameStore> {
        &self.store
    }

    /// Control's side of the workers.
    pub fn workers(&self) -> &[WorkerHandle] {
        &self.handles
    }

    /// Where the queues of each port are.
    pub fn placements(&self) -> &[PortPlacement] {
        &self.ports
    }

    /// What workers do without work.
    pub fn idle_mode(&self) -> IdleMode {
        self.idle
    }

    /// What wakes the slow path.
    pub fn slow_path_bell(&self) -> &Arc<Doorbell> {
        &self.slow_path
    }

    /// The next packet that a trace or capture followed. Give it back by
    /// [`recycle`](Self::recycle).
    pub fn next_record(&self) -> Option<Box<Record>> {
        self.records.pop()
    }

    /// Gives a record back to its worker for reuse.
    pub fn recycle(&self, record: Box<Record>) {
        if let Some(handle) = self.handles.get(record.worker.index()) {
            // There is room for every record of a worker.
            let _ = handle.returned.push(record);
        }
    }

    /// The next packet that policy has denied or was told to log.
    pub fn next_flow_log_entry(&self) -> Option<flow_log::Entry> {
        self.flow_log.pop()
    }

    /// Packets that would have been logged but for a port's budget or a full ring.
    pub fn flow_log_lost(&self) -> u64 {
        self.handles.iter().map(|handle| handle.counters.run.flow_log_lost.get()).sum()
    }

    /// What a policy rule counted, over all workers.
    pub fn rule_totals(&self, rule: acl::RuleId) -> RuleTotals {
        let mut sum = RuleTotals::default();
        self.handles.iter().for_each(|handle| sum += handle.counters.rules.get(rule.0));
        sum
    }

    /// The time of the latest call that brought one.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The neighbour machines of exclusive uplinks.
    pub fn neighbor_ports(&self) -> &NeighborPorts {
        &self.neighbors
    }
}

/// A worker in its thread: how it is told something, how it is woken, how it ends.
type WorkerThread = (Arc<ArrayQueue<Command>>, Arc<Doorbell>, JoinHandle<Worker>);

/// Workers in threads. They stop when this is dropped.
pub struct Workers {
    threads: Threads,
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut threads = core::mem::take(&mut *locked(&self.threads));
        for (commands, bell, _) in &threads {
            while commands.push(Command::Stop).is_err() {
                bell.ring();
                std::thread::sleep(Duration::from_millis(1));
            }
            bell.ring();
        }
        // Frames are given back only when nobody can hand one over any more.
        let joined: Vec<_> = threads.drain(..).map(|(_, _, thread)| thread.join()).collect();
        for worker in joined {
            match worker {
                Ok(worker) => worker.finish(),
                Err(_) => tracing::error!("a worker panicked"),
            }
        }
    }
}
