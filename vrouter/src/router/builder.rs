//! What a router is to be like, and its making.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::{Router, RouterError, WorkerHandle};
use crate::control::Engine;
use crate::counters::WorkerCounters;
use crate::frame::{FrameArea, FramePool, FrameStore};
use crate::ids::{Timestamp, WorkerId};
use crate::neighbor_ports::NeighborPorts;
use crate::pipeline::flow_log::{self, FlowLog};
use crate::pipeline::hook::{Hook, HookPoint, Stage};
use crate::pipeline::punt::{PuntQueue, PuntSender};
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace;
use crate::publish;
use crate::tables::flow_table;
use crate::worker::handoff::{Doorbell, Handoffs, Owners};
use crate::worker::idle::{IdleMode, IdlePolicy};
use crate::worker::ready::ReadySet;
use crate::worker::{Worker, WorkerParts};

/// Commands that wait for a worker.
const COMMAND_DEPTH: usize = 1024;
/// Messages that wait for the slow path.
const PUNT_DEPTH: usize = 1024;

type StageFactory = Box<dyn Fn(WorkerId) -> Box<dyn Stage> + Send + Sync>;

/// What a router is to be like.
pub struct RouterBuilder {
    workers: u16,
    cores: Vec<usize>,
    frames: u32,
    frame_size: u32,
    idle: IdleMode,
    seed: u64,
    flows: u32,
    stages: Vec<(HookPoint, StageFactory)>,
}

impl Default for RouterBuilder {
    fn default() -> Self {
        RouterBuilder {
            workers: 1,
            cores: Vec::new(),
            frames: 16_384,
            frame_size: 2048,
            idle: IdleMode::default(),
            seed: 0x5eed,
            flows: 65_536,
            stages: Vec::new(),
        }
    }
}

impl RouterBuilder {
    /// Number of workers; 1 by default.
    pub fn workers(mut self, workers: u16) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// One worker for each of these cores, pinned to it.
    pub fn cores(mut self, cores: &[usize]) -> Self {
        self.workers = u16::try_from(cores.len().max(1)).unwrap_or(u16::MAX);
        self.cores = cores.to_vec();
        self
    }

    /// Packet frames in all; 16,384 by default.
    pub fn frames(mut self, frames: u32) -> Self {
        self.frames = frames;
        self
    }

    /// Bytes of a frame: 2048 (the default) or 4096.
    pub fn frame_size(mut self, bytes: u32) -> Self {
        self.frame_size = bytes;
        self
    }

    /// What workers do without work; adaptive by default.
    pub fn idle(mut self, mode: IdleMode) -> Self {
        self.idle = mode;
        self
    }

    /// Flows that are tracked at a time; 65,536 by default. The table never grows; it takes 127.2 bytes a
    /// flow, 8 MiB by default.
    pub fn flows(mut self, flows: u32) -> Self {
        self.flows = flows;
        self
    }

    /// Seed of everything random, for repeatable runs; but for the flow table's, which nobody may know.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Adds a stage of the embedding program; `make` is called once per worker.
    pub fn stage<S: Stage + 'static>(
        mut self,
        point: HookPoint,
        make: impl Fn(WorkerId) -> S + Send + Sync + 'static,
    ) -> Self {
        self.stages.push((point, Box::new(move |worker| Box::new(make(worker)))));
        self
    }

    /// Builds the router. No port exists yet and no thread runs.
    ///
    /// # Errors
    /// Where memory or descriptors cannot be had.
    pub fn build(self) -> Result<Router, RouterError> {
        let area = FrameArea::new(self.frames, self.frame_size)
            .map_err(|error| RouterError::Os("packet frames", error))?;
        let store = FrameStore::new(area);
        let count = self.workers as usize;
        let punts: PuntQueue = Arc::new(ArrayQueue::new(PUNT_DEPTH));
        let records = Arc::new(ArrayQueue::new(trace::RECORDS * count));
        let flow_log: flow_log::Ring = Arc::new(ArrayQueue::new(flow_log::DEPTH));
        let bells = (0..count)
            .map(|_| Doorbell::new())
            .collect::<io::Result<Vec<_>>>()
            .map_err(|error| RouterError::Os("eventfd", error))?;
        let slow_path = Doorbell::new().map_err(|error| RouterError::Os("eventfd", error))?;
        let owners = Arc::new(Owners::new());
        let mut subscribers = Vec::new();
        let flows = Arc::new(flow_table(self.flows).map_err(RouterError::Flows)?);
        let mut engine = Engine::new(flows, |first| {
            let (publisher, all) = publish::channel(first, count);
            subscribers = all;
            publisher
        });
        let mut handles = Vec::with_capacity(count);
        let mut workers = Vec::with_capacity(count);
        for (index, (subscriber, handoffs)) in subscribers.into_iter().zip(Handoffs::mesh(&bells)).enumerate()
        {
            let id = WorkerId(index as u16);
            let counters = Arc::new(WorkerCounters::default());
            let hooks =
                self.stages.iter().map(|(point, make)| Hook { point: *point, stage: make(id) }).collect();
            let seed = self.seed.wrapping_add(index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let state = WorkerState::new(
                FramePool::new(store.clone()),
                counters.clone(),
                PuntSender::new(punts.clone()),
                records.clone(),
                FlowLog::new(flow_log.clone()),
                hooks,
                seed,
            );
            let commands = Arc::new(ArrayQueue::new(COMMAND_DEPTH));
            handles.push(WorkerHandle {
                counters,
                commands: commands.clone(),
                bell: bells[index].clone(),
                returned: state.tracer.returned(),
                core: self.cores.get(index).copied(),
            });
            let ready = ReadySet::new(&bells[index]).map_err(|error| RouterError::Os("epoll", error))?;
            let wake = slow_path.clone();
            workers.push(Worker::new(WorkerParts {
                id,
                state,
                subscriber,
                commands,
                handoffs,
                owners: owners.clone(),
                ready,
                idle: IdlePolicy::new(self.idle),
                punt_wake: Arc::new(move || wake.ring()),
            }));
        }
        engine.count_rules_in(handles.iter().map(|handle| handle.counters.clone()).collect());
        Ok(Router {
            engine,
            store,
            handles,
            workers,
            owners,
            punts,
            slow_path,
            records,
            flow_log,
            ports: Vec::new(),
            neighbors: NeighborPorts::new(self.seed),
            idle: self.idle,
            equipped: false,
            tunnel_starts: BTreeMap::new(),
            adjacency_starts: BTreeMap::new(),
            now: Timestamp::default(),
        })
    }
}
