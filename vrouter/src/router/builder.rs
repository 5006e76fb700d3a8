//! What a router is to be like, and its making.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::workforce::WorkerFactory;
use super::{Router, RouterError};
use crate::control::Engine;
use crate::frame::{FrameArea, FrameStore};
use crate::ids::{Timestamp, WorkerId};
use crate::neighbor_ports::NeighborPorts;
use crate::pipeline::flow_log;
use crate::pipeline::hook::{HookPoint, Stage};
use crate::pipeline::punt::PuntQueue;
use crate::pipeline::spread::Spread;
use crate::pipeline::trace;
use crate::publish;
use crate::tables::{FlowMemory, flow_capacity, flow_table_in};
use crate::worker::Worker;
use crate::worker::handoff::{Doorbell, Owners};
use crate::worker::idle::IdleMode;

/// Messages that wait for the slow path.
const PUNT_DEPTH: usize = 1024;

pub(super) type StageFactory = Box<dyn Fn(WorkerId) -> Box<dyn Stage> + Send + Sync>;

/// What a router is to be like.
pub struct RouterBuilder {
    workers: u16,
    cores: Vec<usize>,
    frames: u32,
    frame_size: u32,
    idle: IdleMode,
    seed: u64,
    spread: Spread,
    flows: u32,
    flow_memory: Option<FlowMemory>,
    stages: Vec<(HookPoint, StageFactory)>,
    most_workers: Option<u16>,
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
            spread: Spread::default(),
            flows: 65_536,
            flow_memory: None,
            stages: Vec::new(),
            most_workers: None,
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

    /// Cores for workers that are added later ([`Router::set_workers`]), one for each.
    pub fn spare_cores(mut self, cores: &[usize]) -> Self {
        self.cores.extend_from_slice(cores);
        self
    }

    /// Workers that there may be later; by default as many as there are cores given, and
    /// at least those that there are at first.
    pub fn most_workers(mut self, workers: u16) -> Self {
        self.most_workers = Some(workers);
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

    /// Flows that are tracked at a time; 65,536 by default. The table never grows; it takes 128 bytes a
    /// flow, 8 MiB by default.
    pub fn flows(mut self, flows: u32) -> Self {
        self.flows = flows;
        self
    }

    /// Memory for the flow table, of [`flow_capacity`](crate::tables::flow_capacity)'s lines or more; anonymous by
    /// default. With a file's, a later process can [take the flows over](Router::take_over_flows).
    pub fn flow_memory(mut self, memory: FlowMemory) -> Self {
        self.flow_memory = Some(memory);
        self
    }

    /// Seed of everything random, for repeatable runs; but for the flow table's, which nobody may know.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How flows are spread over several next hops; by default by a fixed seed, without a look into
    /// tunnels.
    pub fn spread(mut self, spread: Spread) -> Self {
        self.spread = spread;
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
        let most = count.max(self.cores.len()).max(self.most_workers.unwrap_or(0).into());
        let punts: PuntQueue = Arc::new(ArrayQueue::new(PUNT_DEPTH));
        let records = Arc::new(ArrayQueue::new(trace::RECORDS * most));
        let flow_log: flow_log::Ring = Arc::new(ArrayQueue::new(flow_log::DEPTH));
        let slow_path = Doorbell::new().map_err(|error| RouterError::Os("eventfd", error))?;
        let owners = Arc::new(Owners::new());
        let mut subscribers = Vec::new();
        let memory = match self.flow_memory {
            Some(memory) => memory,
            None => {
                let lines = flow_capacity(self.flows).lines().map_err(RouterError::Flows)?;
                FlowMemory::anonymous(lines).map_err(|error| RouterError::Os("flow table", error))?
            }
        };
        let flows = Arc::new(flow_table_in(self.flows, memory).map_err(RouterError::Flows)?);
        let engine = Engine::new(flows, |first| {
            let (publisher, all) = publish::channel(first, most);
            subscribers = all;
            publisher
        });
        let factory = WorkerFactory {
            store: store.clone(),
            punts: punts.clone(),
            records: records.clone(),
            flow_log: flow_log.clone(),
            stages: self.stages,
            seed: self.seed,
            spread: self.spread,
            owners: owners.clone(),
            slow_path: slow_path.clone(),
            idle: self.idle,
            cores: self.cores,
            subscribers: subscribers.into(),
        };
        let mut router = Router {
            engine,
            store,
            handles: Vec::with_capacity(most),
            workers: Vec::with_capacity(count),
            threads: None,
            factory,
            active: count,
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
        };
        for _ in 0..count {
            router.add_worker()?;
        }
        // They get to know each other before any of them runs.
        router.workers.iter_mut().for_each(Worker::take_commands);
        Ok(router)
    }
}
