//! Side exit: what the packet path asks of the slow path.

use core::net::IpAddr;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::burst::Burst;
use crate::drop_reason::DropReason;
use crate::frame::Frame;
use crate::ids::PortId;
use crate::pipeline::path_mtu::Report;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Outcome;

/// A message to the slow path.
#[derive(Debug)]
pub enum Punt {
    /// Packets wait for this neighbour.
    Resolve {
        /// Where it would be.
        port: PortId,
        /// Its address.
        address: IpAddr,
        /// Only a connected prefix leads to it so far.
        glean: bool,
    },
    /// A router on a tunnel's path takes no packets as long as ours.
    PathMtu(Report),
    /// An ARP or neighbour discovery frame of a port that is ours alone. Whoever
    /// takes it gives the frame back to the store.
    Frame {
        /// Where it came in.
        port: PortId,
        /// The frame.
        frame: Frame,
        /// First byte of its Ethernet header.
        offset: u16,
        /// Its length in bytes.
        len: u16,
    },
}

/// The queue from all workers to the slow path.
pub type PuntQueue = Arc<ArrayQueue<Punt>>;

/// A worker's end of the queue.
#[derive(Debug)]
pub struct PuntSender {
    queue: PuntQueue,
    last: Option<(PortId, IpAddr, bool)>,
    last_report: Option<Report>,
    pending: bool,
}

impl PuntSender {
    /// A sender into `queue`.
    pub fn new(queue: PuntQueue) -> Self {
        PuntSender { queue, last: None, last_report: None, pending: false }
    }

    /// Asks for a neighbour. Repeating the latest question before
    /// [`take_pending`](Self::take_pending) costs nothing; a lost one is asked again
    /// by the next packet.
    pub fn resolve(&mut self, port: PortId, address: IpAddr, glean: bool) {
        if self.last == Some((port, address, glean)) {
            return;
        }
        if self.queue.push(Punt::Resolve { port, address, glean }).is_ok() {
            self.last = Some((port, address, glean));
            self.pending = true;
        }
    }

    /// Passes a report on. One that is lost comes again with the next packet that is too long.
    pub fn path_mtu(&mut self, report: Report) {
        if self.last_report != Some(report) && self.queue.push(Punt::PathMtu(report)).is_ok() {
            self.last_report = Some(report);
            self.pending = true;
        }
    }

    /// Whether something was sent since the last call: the slow path is then to be woken.
    #[inline]
    pub fn take_pending(&mut self) -> bool {
        if !self.pending {
            return false;
        }
        (self.last, self.last_report) = (None, None);
        core::mem::take(&mut self.pending)
    }
}

/// Sends a packet to the slow path.
pub fn packet(burst: &mut Burst, lane: usize, state: &mut WorkerState) {
    let port = burst.meta.in_port[lane];
    let (offset, len) = (burst.meta.offset[lane], burst.meta.len[lane]);
    if state.punt.queue.is_full() {
        state.drop_packet(burst, lane, DropReason::PuntFull);
        return;
    }
    if burst.traced >> lane & 1 == 1 {
        state.tracer.finish(burst, lane, Outcome::Punted, state.now);
    }
    let frame = burst.take(lane);
    match state.punt.queue.push(Punt::Frame { port, frame, offset, len }) {
        Ok(()) => {
            state.counters.port(port).punts.add(1);
            state.punt.pending = true;
        }
        Err(Punt::Frame { frame, .. }) => {
            state.counters.drops(port, DropReason::PuntFull).add(1);
            state.pool.free(frame);
        }
        Err(Punt::Resolve { .. } | Punt::PathMtu(_)) => {}
    }
}
