//! Ports in memory for measurements: a source that never runs dry and a sink.
//!
//! ```text
//!   Source: copies 64 bytes into a fresh frame, the next packet each time; the frames were posted
//!           a burst ahead, as they are to a device, and are fetched into the cache meanwhile
//!      ->  what is measured  ->  Sink: keeps the frame for a while, then frees it
//! ```
//!
//! What the sink keeps decides how cold a frame's memory is when it is used again: with
//! [`ROTATION`] frames in rotation, as cold as behind a device; with none, still in the
//! first cache, as DPDK's are behind its memory ports.

use crate::burst::{Burst, LANES, TxPacket};
use crate::frame::{Frame, FramePool};
use crate::ids::PortId;
use crate::port::{PortQueue, QueueIo};

/// Frames that a sink keeps, to be as cold as a device's.
pub const ROTATION: usize = 16_384;

/// Bytes that a source copies for each packet, whatever its length.
pub const COPIED: usize = 64;

/// Frames up to which one by one is the faster way to pass them on.
const FEW: usize = 8;

/// A packet of at most [`COPIED`] bytes, from the Ethernet header on, without FCS.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Packet {
    bytes: [u8; COPIED],
    len: u16,
}

impl Packet {
    /// A packet of these bytes.
    ///
    /// # Panics
    /// Where there are more than [`COPIED`].
    pub fn new(packet: &[u8]) -> Self {
        let mut bytes = [0; COPIED];
        bytes[..packet.len()].copy_from_slice(packet);
        Packet { bytes, len: packet.len() as u16 }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Receives its packets in turn, a burst at a time, for ever.
pub struct Source {
    packets: Vec<Packet>,
    next: usize,
    burst: usize,
    /// Frames for the packets to come.
    posted: Vec<Frame>,
}

impl Source {
    /// A source of these packets, `burst` of them (1 to 64) at a time.
    ///
    /// # Panics
    /// Without packets, or where a burst cannot hold that many.
    pub fn new(packets: Vec<Packet>, burst: usize) -> Self {
        assert!(!packets.is_empty() && (1..=LANES).contains(&burst), "packets in bursts of 1 to {LANES}");
        Source { packets, next: 0, burst, posted: Vec::with_capacity(LANES) }
    }
}

impl Source {
    /// Receives up to `wanted` packets, as far as there is room; how many it were.
    pub fn receive(&mut self, wanted: usize, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        let wanted = wanted.min(burst.room());
        self.post(wanted, io.pool);
        let area = io.pool.area();
        let (packets, next) = (&self.packets[..], &mut self.next);
        let mut posted = core::mem::take(&mut self.posted);
        let first = posted.len().saturating_sub(wanted);
        let received = burst.push_each(port, || {
            let mut frame = if posted.len() > first { posted.pop()? } else { return None };
            let packet = packets.get(*next)?;
            *next = if *next + 1 == packets.len() { 0 } else { *next + 1 };
            let at = area.landing(&frame, COPIED);
            if let Some(bytes) = area.header_mut(&mut frame, at) {
                *bytes = packet.bytes;
            }
            Some((frame, at, packet.len))
        });
        self.posted = posted;
        self.post(wanted, io.pool);
        received
    }

    /// Sees to it that `count` frames are posted, if the router has as many.
    fn post(&mut self, count: usize, pool: &mut FramePool) {
        let missing = count.saturating_sub(self.posted.len());
        pool.warm(missing, COPIED);
        if missing > FEW {
            self.posted.extend(pool.alloc_burst(missing).1);
        } else {
            for _ in 0..missing {
                let Some(frame) = pool.alloc() else { break };
                self.posted.push(frame);
            }
        }
    }
}

impl PortQueue for Source {
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        self.receive(self.burst, port, burst, io)
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        let count = batch.len() as u64;
        batch.drain(..).for_each(|packet| io.pool.free(packet.frame));
        (count, 0)
    }

    fn close(self: Box<Self>, pool: &mut FramePool) {
        self.posted.into_iter().for_each(|frame| pool.free(frame));
    }
}

/// Keeps packets as a device would, and frees the oldest.
pub struct Sink {
    /// As a ring: `next` is the oldest once it is full.
    kept: Vec<Frame>,
    next: usize,
    rotation: usize,
}

impl Sink {
    /// A sink that keeps `rotation` packets.
    pub fn new(rotation: usize) -> Self {
        Sink { kept: Vec::with_capacity(rotation), next: 0, rotation }
    }

    /// Keeps a frame in the place of the oldest, once there are enough.
    #[inline]
    fn keep(&mut self, frame: Frame, pool: &mut FramePool) {
        let oldest = if self.kept.len() < self.rotation {
            self.kept.push(frame);
            return;
        } else if let Some(oldest) = self.kept.get_mut(self.next) {
            core::mem::replace(oldest, frame)
        } else {
            // Nothing is kept.
            frame
        };
        pool.free(oldest);
        self.next = if self.next + 1 < self.rotation { self.next + 1 } else { 0 };
    }
}

impl PortQueue for Sink {
    fn rx_burst(&mut self, _port: PortId, _burst: &mut Burst, _io: &mut QueueIo<'_>) -> usize {
        0
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        let packets = batch.len() as u64;
        let bytes = batch.iter().map(|packet| u64::from(packet.len)).sum();
        if batch.len() <= FEW {
            while let Some(packet) = batch.pop() {
                self.keep(packet.frame, io.pool);
            }
            return (packets, bytes);
        }
        let mut batch = batch.drain(..);
        while self.kept.len() == self.rotation && batch.len() > 0 && self.rotation > 0 {
            let oldest = self.kept[self.next..].iter_mut();
            let replaced = oldest.len().min(batch.len());
            for (kept, packet) in oldest.zip(batch.by_ref().take(replaced)) {
                io.pool.free(core::mem::replace(kept, packet.frame));
            }
            self.next = if self.next + replaced == self.rotation { 0 } else { self.next + replaced };
        }
        batch.for_each(|packet| self.keep(packet.frame, io.pool));
        (packets, bytes)
    }

    fn close(self: Box<Self>, pool: &mut FramePool) {
        self.kept.into_iter().for_each(|frame| pool.free(frame));
    }
}
