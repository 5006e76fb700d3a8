//! What a worker carries from burst to burst.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::burst::{Burst, TxPacket};
use crate::counters::WorkerCounters;
use crate::drop_reason::DropReason;
use crate::frame::chain::MAX_PACKET;
use crate::frame::columns::Columns;
use crate::frame::{Frame, FramePool};
use crate::ids::{MAX_PORTS, PortId, Timestamp};
use crate::path_stage::PathStage;
use crate::pipeline::conntrack::FlowState;
use crate::pipeline::flow_log::FlowLog;
use crate::pipeline::hold::HoldQueue;
use crate::pipeline::hook::Hook;
use crate::pipeline::icmp_error::TokenBucket;
use crate::pipeline::lookup::Ways;
use crate::pipeline::punt::PuntSender;
use crate::pipeline::spread::Spread;
use crate::pipeline::stopwatch::Stopwatch;
use crate::pipeline::trace::{Outcome, Record, Tracer};

/// Held packets, what they originate, and the fragments of that run within one another.
const SPARE_BURSTS: usize = 4;

/// Packets on their way out, by port, until the burst ends.
#[derive(Debug)]
pub struct TxStage {
    by_port: Box<[Vec<TxPacket>]>,
    dirty: Vec<PortId>,
}

impl TxStage {
    fn new() -> Self {
        TxStage {
            by_port: (0..MAX_PORTS).map(|_| Vec::new()).collect(),
            dirty: Vec::with_capacity(MAX_PORTS),
        }
    }

    /// Makes room for bursts toward a port. Called when a port appears, so that
    /// [`push`](Self::push) never allocates.
    pub fn reserve(&mut self, port: PortId) {
        // One received burst plus one originated burst can meet on one port,
        // twice within one turn where held packets are released.
        self.by_port[port.index()].reserve(4 * crate::burst::LANES);
    }

    /// Adds a packet for a port.
    #[inline]
    pub fn push(&mut self, port: PortId, packet: TxPacket) {
        let queue = &mut self.by_port[port.index()];
        if queue.is_empty() {
            self.dirty.push(port);
        }
        queue.push(packet);
    }

    /// The batch of a port, to add packets to.
    #[inline]
    pub fn batch(&mut self, port: PortId) -> &mut Vec<TxPacket> {
        let queue = &mut self.by_port[port.index()];
        if queue.is_empty() {
            self.dirty.push(port);
        }
        queue
    }

    /// Takes a port with packets; its batch, which is to be emptied, by [`batch_of`](Self::batch_of).
    #[inline]
    pub fn next_port(&mut self) -> Option<PortId> {
        self.dirty.pop()
    }

    /// The batch of a port that [`next_port`](Self::next_port) has named.
    #[inline]
    pub fn batch_of(&mut self, port: PortId) -> &mut Vec<TxPacket> {
        &mut self.by_port[port.index()]
    }
}

/// The state of one worker that stages read and write.
pub struct WorkerState {
    /// The clock, read once a burst.
    pub now: Timestamp,
    /// Free frames.
    pub pool: FramePool,
    /// Counters.
    pub counters: Arc<WorkerCounters>,
    /// Output, by port.
    pub tx: TxStage,
    /// Packets that the router made and that still have to be looked up.
    pub originated: Box<Burst>,
    /// Empty bursts for runs within a run.
    spare: Vec<Box<Burst>>,
    /// What the flow and policy stages know of the burst.
    pub flows: Box<FlowState>,
    /// Where stages read headers to; of no meaning between them, but for the second one of lanes in
    /// [`Burst::in_columns`], up to `ttl_mtu`.
    pub(super) columns: Box<[Columns; 3]>,
    /// Ways that `lookup` found and that are as they were.
    pub ways: Box<Ways>,
    /// Packets that wait for a neighbour.
    pub hold: HoldQueue,
    /// The way to the slow path.
    pub punt: PuntSender,
    /// Limits ICMP errors.
    pub icmp_limit: TokenBucket,
    /// Identification of the next IPv4 header that we make.
    pub ip_id: u16,
    /// Stages that the embedding program added.
    pub hooks: Vec<Hook>,
    /// Follows packets through the stages when asked to.
    pub tracer: Tracer,
    /// Where packets go that policy has denied or was told to log.
    pub flow_log: FlowLog,
    /// How flows are spread over the ways of a group.
    pub spread: Spread,
    /// Room to lay the longest packet out in one piece; `None` while in use.
    scratch: Option<Box<[u8]>>,
    /// Counts cycles by stage.
    pub stopwatch: Stopwatch,
}

impl WorkerState {
    /// State for a worker with these shared parts.
    pub fn new(
        pool: FramePool,
        counters: Arc<WorkerCounters>,
        punt: PuntSender,
        records: Arc<ArrayQueue<Box<Record>>>,
        flow_log: FlowLog,
        hooks: Vec<Hook>,
        seed: u64,
    ) -> Self {
        WorkerState {
            now: Timestamp::default(),
            pool,
            counters,
            tx: TxStage::new(),
            originated: Box::default(),
            spare: (0..SPARE_BURSTS).map(|_| Box::default()).collect(),
            flows: Box::new(FlowState::new(seed)),
            columns: Box::default(),
            ways: Box::default(),
            hold: HoldQueue::new(),
            punt,
            icmp_limit: TokenBucket::default(),
            ip_id: seed as u16,
            hooks,
            tracer: Tracer::new(records),
            flow_log,
            spread: Spread::default(),
            scratch: Some(vec![0; MAX_PACKET].into()),
            stopwatch: Stopwatch::new(seed),
        }
    }

    /// A stage has run over the burst.
    #[inline]
    pub fn lap(&mut self, stage: PathStage) {
        self.stopwatch.lap(stage, &self.counters.run);
    }

    /// Drops a packet of a burst: counts it, frees its frame, ends its trace.
    #[inline]
    pub fn drop_packet(&mut self, burst: &mut Burst, lane: usize, reason: DropReason) {
        self.counters.drops(burst.meta.in_port[lane], reason).add(1);
        if burst.traced >> lane & 1 == 1 {
            self.tracer.finish(burst, lane, Outcome::Dropped(reason), self.now);
        }
        let frame = burst.take(lane);
        self.pool.free(frame);
    }

    /// Frees a packet that ended here on purpose.
    #[inline]
    pub fn consume(&mut self, burst: &mut Burst, lane: usize) {
        self.counters.port(burst.meta.in_port[lane]).consumed.add(1);
        if burst.traced >> lane & 1 == 1 {
            self.tracer.finish(burst, lane, Outcome::Consumed, self.now);
        }
        let frame = burst.take(lane);
        self.pool.free(frame);
    }

    /// An empty burst; give it back by [`put_spare`](Self::put_spare).
    pub(super) fn take_spare(&mut self) -> Box<Burst> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes an emptied burst back.
    pub(super) fn put_spare(&mut self, burst: Box<Burst>) {
        debug_assert!(burst.is_empty());
        self.spare.push(burst);
    }

    /// A packet of several frames laid out in one piece, from its network header on and as far as its
    /// first `most` bytes, and the length of that.
    /// Give the piece back by [`put_scratch`](Self::put_scratch); until then there is no other.
    #[cold]
    pub(super) fn gather(&mut self, burst: &Burst, lane: usize, most: usize) -> Option<(Box<[u8]>, usize)> {
        let mut out = self.scratch.take()?;
        let mut len = 0;
        let (l3, link) = (burst.meta.l3[lane], burst.meta.l3[lane] - burst.meta.offset[lane]);
        for piece in self.pool.area().pieces(burst.frame(lane), l3, burst.meta.len[lane] - link) {
            let piece = &piece[..piece.len().min(most - len)];
            // No chain is longer than a packet can be.
            let Some(place) = out.get_mut(len..len + piece.len()) else { break };
            place.copy_from_slice(piece);
            len += piece.len();
            if len == most {
                break;
            }
        }
        Some((out, len))
    }

    /// Takes back what [`gather`](Self::gather) gave.
    pub(super) fn put_scratch(&mut self, scratch: Box<[u8]>) {
        self.scratch = Some(scratch);
    }

    /// A fresh frame for a packet that the router makes.
    #[inline]
    pub fn fresh_frame(&mut self) -> Option<Frame> {
        self.pool.alloc()
    }

    /// The next IPv4 identification.
    #[inline]
    pub fn next_ip_id(&mut self) -> u16 {
        self.ip_id = self.ip_id.wrapping_add(1);
        self.ip_id
    }
}
