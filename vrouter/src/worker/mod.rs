//! A worker: receives bursts from the queues it owns, runs the pipeline to
//! completion, transmits, and adopts new tables in between.
//!
//! ```text
//!   +--> adopt tables, take commands ----+
//!   |    for each queue: rx -> pipeline -> tx
//!   |    packets handed over by other workers -> tx
//!   |    held packets whose neighbour changed -> pipeline -> tx
//!   +--- idle: spin, then block ---------+
//! ```
//!
//! A worker shares with others only single-producer rings and atomics. It is a plain
//! value: threads call [`Worker::run`], simulations [`Worker::poll`].

pub mod handoff;
pub mod idle;
pub mod load;
mod moving;
mod ownership;
pub mod probe;
pub mod ready;
pub mod rebalance;
mod turn_clock;
mod turns;

use core::time::Duration;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crossbeam_queue::ArrayQueue;

use crate::burst::{Burst, lanes};
use crate::counters::LoopCounters;
use crate::drop_reason::DropReason;
use crate::frame::Frame;
use crate::ids::{MAX_PORTS, PortId, Timestamp, WorkerId};
use crate::path_stage::PathStage;
use crate::pipeline;
use crate::pipeline::state::WorkerState;
use crate::port::{KernelLosses, PortQueue, QueueIo};
use crate::publish::Subscriber;
use crate::tables::Tables;
use handoff::{Handoffs, Introduction, Owners};
use idle::IdlePolicy;
use moving::Moving;
use probe::Prober;
use ready::ReadySet;
use rebalance::Rebalance;
use turn_clock::TurnClock;
use turns::TurnBook;

/// How often a worker asks its queues for the kernel's counters, two system calls each, and may begin
/// a probe.
const SURVEY: Duration = Duration::from_millis(500);

/// No queue of ours.
const NO_QUEUE: u16 = u16::MAX;

/// What control tells a worker, taken between bursts.
pub enum Command {
    /// Packets may be staged for this port from now on.
    PortAppears(PortId),
    /// Own a queue: the port's, with this number.
    AddQueue(PortId, u16, Box<dyn PortQueue>),
    /// Give all queues of a port back.
    RemoveQueues(PortId, Sender<Box<dyn PortQueue>>),
    /// Get to know another worker.
    Meet(Introduction),
    /// Take part in a rearrangement of queues.
    Rebalance(Arc<Rebalance>),
    /// Send a frame as it is.
    Transmit(PortId, Injected),
    /// End the loop.
    Stop,
}

/// A frame that control sends: whole, from the Ethernet header on.
#[derive(Debug)]
pub struct Injected {
    /// The frame.
    pub frame: Frame,
    /// First byte of its Ethernet header.
    pub offset: u16,
    /// Its length in bytes.
    pub len: u16,
}

struct OwnedQueue {
    port: PortId,
    /// Which of the port's queues it is.
    number: u16,
    queue: Box<dyn PortQueue>,
    /// Whether it is called only when its fd is ready.
    on_readiness: bool,
    /// What the kernel has lost and workers have counted.
    booked: KernelLosses,
}

/// One worker.
pub struct Worker {
    id: WorkerId,
    state: WorkerState,
    subscriber: Subscriber<Tables>,
    burst: Box<Burst>,
    queues: Vec<OwnedQueue>,
    /// By port: the queue of ours to transmit on.
    tx_queue: Box<[u16]>,
    commands: Arc<ArrayQueue<Command>>,
    handoffs: Handoffs,
    owners: Arc<Owners>,
    ready: ReadySet,
    idle: IdlePolicy,
    punt_wake: Arc<dyn Fn() + Send + Sync>,
    stop: bool,
    /// Tables were adopted since the last turn began.
    adopted: bool,
    turns: TurnBook,
    /// Bursts received in this turn.
    bursts: u32,
    /// Whether the worker reads the clock itself: only then may it let time pass.
    in_thread: bool,
    /// The rebalance under way.
    moving: Option<Moving>,
    /// What full bursts cost.
    prober: Prober,
    surveyed: Timestamp,
    /// Scratch of [`Self::survey`]: lent frames by queue.
    survey: Vec<u64>,
}

/// The parts a worker is made of.
pub struct WorkerParts {
    /// Its number.
    pub id: WorkerId,
    /// Pipeline state.
    pub state: WorkerState,
    /// Its view of the tables.
    pub subscriber: Subscriber<Tables>,
    /// Where commands come from.
    pub commands: Arc<ArrayQueue<Command>>,
    /// Rings from and to the other workers.
    pub handoffs: Handoffs,
    /// Which worker transmits on which port.
    pub owners: Arc<Owners>,
    /// What wakes the worker.
    pub ready: ReadySet,
    /// What to do without work.
    pub idle: IdlePolicy,
    /// Called after something was sent to the slow path.
    pub punt_wake: Arc<dyn Fn() + Send + Sync>,
}

impl Worker {
    /// Most queues one worker owns.
    pub const MAX_QUEUES: usize = 4 * MAX_PORTS;

    /// A worker without queues.
    pub fn new(mut parts: WorkerParts) -> Self {
        parts.state.tracer.set_worker(parts.id);
        Worker {
            id: parts.id,
            state: parts.state,
            subscriber: parts.subscriber,
            burst: Box::default(),
            queues: Vec::with_capacity(Self::MAX_QUEUES),
            tx_queue: vec![NO_QUEUE; MAX_PORTS].into(),
            commands: parts.commands,
            handoffs: parts.handoffs,
            owners: parts.owners,
            ready: parts.ready,
            idle: parts.idle,
            punt_wake: parts.punt_wake,
            stop: false,
            adopted: false,
            turns: TurnBook::default(),
            bursts: 0,
            in_thread: false,
            moving: None,
            prober: Prober::new(),
            surveyed: Timestamp::default(),
            survey: Vec::with_capacity(Self::MAX_QUEUES),
        }
    }

    /// The worker's number.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Runs until told to stop. The calling thread is the worker. Frames are given
    /// back by [`finish`](Self::finish).
    pub fn run(&mut self) {
        self.in_thread = true;
        self.come_online();
        let mut clock = TurnClock::new();
        while !self.stop {
            if self.turns.shared().is_none() {
                self.begin(clock.now());
            }
            let moved = self.turn();
            if moved > 0 {
                self.idle.worked();
            } else if !self.stop && !self.prober.is_growing() && self.moving.is_none() {
                self.rest();
            }
        }
        self.subscriber.offline();
    }

    /// One turn of the loop at time `now`, for callers that own the clock.
    /// Returns the number of packets received or taken over.
    pub fn poll(&mut self, now: Timestamp) -> usize {
        self.come_online();
        self.begin(now);
        let moved = self.turn();
        self.subscriber.offline();
        moved
    }

    /// A turn begins at a reading of the clock: books the time since the last one.
    fn begin(&mut self, now: Timestamp) {
        if let Some(turn) = self.turns.begin(now) {
            book(&self.state.counters.run, &mut self.prober, turn);
        }
        self.state.now = now;
    }

    fn turn(&mut self) -> usize {
        let now = self.state.now;
        self.state.counters.run.loops.add(1);
        self.adopted |= self.subscriber.refresh();
        let changed = core::mem::take(&mut self.adopted);
        if changed {
            self.state.counters.run.adoptions.add(1);
            self.state.ways.forget();
        }
        self.take_commands();
        if self.moving.is_some() {
            // What waits may wait a little longer; tables that changed are looked at then.
            self.adopted |= changed;
            self.turns.forget();
            return self.rebalance();
        }
        let mut moved = self.release_held(changed);
        if !self.prober.is_growing() || !self.lets_grow(now) {
            moved += self.receive_all();
        }
        moved += self.take_over();
        if self.state.punt.take_pending() {
            (self.punt_wake)();
        }
        if now.since(self.surveyed) >= SURVEY {
            if self.in_thread {
                self.prober.survey(now, now.since(self.surveyed), &self.state.counters.run);
            }
            self.survey(now);
        }
        self.turns.end(moved as u32, core::mem::take(&mut self.bursts));
        self.state.counters.run.free_frames.set(self.state.pool.local_frames() as u64);
        moved
    }

    /// Tables that are adopted on waking count like those adopted while awake.
    fn come_online(&mut self) {
        self.adopted |= self.subscriber.online();
    }

    /// Tries again what waits for a neighbour, if there is a reason to.
    #[inline]
    fn release_held(&mut self, changed: bool) -> usize {
        if !self.state.hold.is_due(self.subscriber.tables(), changed, self.state.now) {
            return 0;
        }
        let tried = pipeline::release_held(self.subscriber.tables(), &mut self.state);
        self.flush();
        tried
    }

    /// Obeys the commands that wait.
    #[inline]
    pub fn take_commands(&mut self) {
        // Asking first costs a load or two; finding nothing to take is a full fence.
        if !self.commands.is_empty() {
            self.obey_all();
        }
    }

    #[cold]
    fn obey_all(&mut self) {
        while let Some(command) = self.commands.pop() {
            self.obey(command);
        }
    }

    /// Obeys a command before the worker runs.
    pub fn obey_now(&mut self, command: Command) {
        self.obey(command);
    }

    fn receive_all(&mut self) -> usize {
        let mut moved = 0;
        self.ready.collect();
        for index in 0..self.queues.len() {
            if self.queues[index].on_readiness && !self.ready.take(index) {
                continue;
            }
            moved += self.receive(index);
        }
        moved
    }

    fn receive(&mut self, index: usize) -> usize {
        let owned = &mut self.queues[index];
        self.state.stopwatch.start();
        let mut io = QueueIo { pool: &mut self.state.pool, counters: &self.state.counters };
        let received = owned.queue.rx_burst(owned.port, &mut self.burst, &mut io);
        if received == 0 {
            self.state.stopwatch.stop();
            if owned.queue.is_broken() {
                self.silence(index);
            }
            return 0;
        }
        let mut bytes: u64 = self.burst.meta.len[..received].iter().map(|len| u64::from(*len)).sum();
        for lane in lanes(self.burst.chained) {
            let meta = &self.burst.meta;
            bytes += u64::from(meta.ip_len[lane]) - u64::from(meta.len[lane]);
        }
        let counters = self.state.counters.port(owned.port);
        counters.rx_packets.add(received as u64);
        counters.rx_bytes.add(bytes);
        self.state.counters.run.bursts.add(1);
        self.bursts += 1;
        self.state.lap(PathStage::Receive);
        // Those that waited go first.
        self.release_held(false);
        pipeline::run(&mut self.burst, self.subscriber.tables(), &mut self.state);
        self.flush();
        self.state.lap(PathStage::Transmit);
        self.state.stopwatch.finish(received, &self.state.counters.run);
        received
    }

    /// Stops waiting for a queue whose other side is gone; control removes it later.
    #[cold]
    fn silence(&mut self, index: usize) {
        let owned = &self.queues[index];
        self.state.counters.port(owned.port).broken.set(1);
        self.ready.silence(index, owned.queue.wait_fd());
    }

    /// Transmits what the stages queued.
    fn flush(&mut self) {
        while let Some(port) = self.state.tx.next_port() {
            match self.tx_queue[port.index()] {
                NO_QUEUE => self.hand_over(port),
                index => {
                    let WorkerState { tx, pool, counters, .. } = &mut self.state;
                    let batch = tx.batch_of(port);
                    let queue = &mut self.queues[index as usize].queue;
                    let (packets, bytes) = queue.tx_burst(batch, &mut QueueIo { pool, counters });
                    debug_assert!(batch.is_empty(), "packets stay with the port");
                    let counters = counters.port(port);
                    counters.tx_packets.add(packets);
                    counters.tx_bytes.add(bytes);
                }
            }
        }
    }

    /// Gives packets to the worker that owns a transmit queue of the port.
    fn hand_over(&mut self, port: PortId) {
        let owner = self.owners.of(port);
        let WorkerState { tx, pool, counters, .. } = &mut self.state;
        for packet in tx.batch_of(port).drain(..) {
            let refused = match owner {
                Some(owner) if owner != self.id => match self.handoffs.send(owner, port, packet) {
                    Ok(()) => {
                        counters.run.handoffs.add(1);
                        continue;
                    }
                    Err(packet) => (packet, DropReason::HandoffFull),
                },
                _ => (packet, DropReason::PortDown),
            };
            let (packet, reason) = refused;
            counters.drops(packet.in_port, reason).add(1);
            pool.free(packet.frame);
        }
        self.handoffs.wake_receivers();
    }

    /// Transmits what other workers handed over.
    #[inline]
    fn take_over(&mut self) -> usize {
        if self.handoffs.has_work() { self.transmit_handed() } else { 0 }
    }

    fn transmit_handed(&mut self) -> usize {
        let mut taken = 0;
        while taken < 4 * crate::burst::LANES {
            let Some((port, packet)) = self.handoffs.receive() else { break };
            taken += 1;
            if self.tx_queue[port.index()] == NO_QUEUE {
                self.state.counters.drops(packet.in_port, DropReason::PortDown).add(1);
                self.state.pool.free(packet.frame);
                continue;
            }
            self.state.tx.push(port, packet);
        }
        if taken > 0 {
            self.flush();
        }
        taken
    }

    /// Blocks, or spins a little longer, as the idle policy says.
    fn rest(&mut self) {
        // Without a queue there is nothing to spin for, in whatever mode.
        let idle = self.queues.is_empty().then_some(idle::LONGEST);
        let Some(timeout) = idle.or_else(|| self.idle.next(self.state.now, self.ready.can_block())) else {
            core::hint::spin_loop();
            return;
        };
        if self.turns.holds_packets() {
            self.begin(crate::clock::now());
        }
        self.state.counters.run.sleeps.add(1);
        // Not behind it, when a packet waits.
        pipeline::conntrack::sweep(self.subscriber.tables(), self.state.now);
        self.handoffs.bell().announce_sleep();
        let mut io = QueueIo { pool: &mut self.state.pool, counters: &self.state.counters };
        let work = self.queues.iter_mut().any(|owned| owned.queue.before_wait(&mut io))
            || !self.commands.is_empty()
            || self.handoffs.has_work();
        if !work {
            self.subscriber.offline();
            let timeout = if self.state.hold.is_empty() { timeout } else { timeout.min(idle::HOLD_TICK) };
            self.ready.block(timeout);
            self.come_online();
        }
        self.handoffs.bell().announce_awake();
    }

    /// Gives every frame back. To be called when all workers have stopped: until then
    /// others may hand packets over.
    pub fn finish(mut self) {
        self.take_commands();
        self.end_rebalance();
        for owned in self.queues.drain(..) {
            self.owners.set(owned.port, None);
            owned.queue.close(&mut self.state.pool);
        }
        while let Some((_, packet)) = self.handoffs.receive() {
            self.state.pool.free(packet.frame);
        }
        self.state.hold.clear(&mut self.state.pool);
    }
}

/// Counts a turn, and what a probe has found if it was the last of one.
#[inline]
fn book(run: &LoopCounters, prober: &mut Prober, turn: probe::Turn) {
    if let Some(found) = prober.turn_ended(turn) {
        let at = run.probe_count.get();
        run.probes[at as usize % LoopCounters::PROBES].set(found.packets, found.bursts, found.ns);
        run.probe_count.add(1);
    }
    let probe::Turn { packets, bursts, ns } = turn;
    run.total_ns.add(ns);
    if packets > 0 {
        run.busy_loops.add(1);
        run.busy_ns.add(ns);
        let turns = run.turns(packets, bursts);
        turns.bursts.add(bursts.into());
        turns.packets.add(packets.into());
        turns.ns.add(ns);
    }
}
