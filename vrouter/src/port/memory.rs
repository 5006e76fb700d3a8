//! Memory port: a wire inside the process, for simulations, benches and embedders.
//!
//! ```text
//!   router A  --[ring]-->  router B            MemoryPort::pair
//!   router    --[ring]-->  test program        MemoryPort::with_host
//!             <--[ring]--
//! ```
//!
//! Each packet is copied into a fresh frame of the receiving side's area, as a
//! device would do; the sender's frame goes back to its own pool.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::burst::{Burst, Checksum, Gso, TxPacket};
use crate::checksum::complete;
use crate::drop_reason::DropReason;
use crate::frame::FramePool;
use crate::ids::PortId;
use crate::port::{KernelLosses, PortQueue, QueueIo};

/// A packet on the wire: bytes from the Ethernet header on, with offload state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WirePacket {
    /// The frame's bytes.
    pub bytes: Vec<u8>,
    /// Checksum still to be finished: (start, field), counted from the first byte.
    pub partial_checksum: Option<(u16, u16)>,
}

type Ring = Arc<ArrayQueue<WirePacket>>;

/// The router's end of a wire.
#[derive(Debug)]
pub struct MemoryPort {
    rx: Ring,
    tx: Ring,
    /// Buffers that were received from, kept for sending: the steady state allocates nothing.
    spare: Arc<ArrayQueue<Vec<u8>>>,
    finishes_checksums: bool,
    lost_no_frame: u64,
}

/// The test program's end of a wire.
#[derive(Clone, Debug)]
pub struct MemoryHost {
    to_router: Ring,
    from_router: Ring,
    spare: Arc<ArrayQueue<Vec<u8>>>,
}

impl MemoryPort {
    /// A wire whose other end the calling program holds; `depth` packets each way.
    pub fn with_host(depth: usize) -> (MemoryPort, MemoryHost) {
        let (a, b) = Self::pair(depth);
        (a, MemoryHost { to_router: b.tx, from_router: b.rx, spare: b.spare })
    }

    /// A wire between two routers; `depth` packets each way.
    pub fn pair(depth: usize) -> (MemoryPort, MemoryPort) {
        let (a, b) = (Arc::new(ArrayQueue::new(depth)), Arc::new(ArrayQueue::new(depth)));
        let spare = Arc::new(ArrayQueue::new(2 * depth));
        let port = |rx: &Ring, tx: &Ring| MemoryPort {
            rx: rx.clone(),
            tx: tx.clone(),
            spare: spare.clone(),
            finishes_checksums: false,
            lost_no_frame: 0,
        };
        (port(&a, &b), port(&b, &a))
    }

    /// Makes the port carry partial checksums to the other end, as a tap does,
    /// instead of having them completed.
    pub fn carrying_partial_checksums(mut self) -> Self {
        self.finishes_checksums = true;
        self
    }
}

impl MemoryHost {
    /// Sends a frame into the router; `false` when the wire is full.
    pub fn send(&self, bytes: &[u8]) -> bool {
        self.send_packet(WirePacket { bytes: bytes.to_vec(), partial_checksum: None })
    }

    /// Sends a frame with offload state into the router; `false` when the wire is full.
    pub fn send_packet(&self, packet: WirePacket) -> bool {
        self.to_router.push(packet).is_ok()
    }

    /// Takes the next frame that the router sent.
    pub fn receive(&self) -> Option<WirePacket> {
        self.from_router.pop()
    }

    /// Gives a received buffer back for reuse.
    pub fn recycle(&self, packet: WirePacket) {
        let _ = self.spare.push(packet.bytes);
    }
}

impl PortQueue for MemoryPort {
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        let mut received = 0;
        while burst.room() > 0 {
            let Some(packet) = self.rx.pop() else { break };
            let Some(mut frame) = io.pool.alloc() else {
                self.lost_no_frame += 1;
                continue;
            };
            let area = io.pool.area();
            let len = packet.bytes.len().min(area.capacity());
            let at = area.landing(&frame, len);
            area.bytes_mut(&mut frame, at, len as u16).copy_from_slice(&packet.bytes[..len]);
            match burst.push(frame, at, len as u16, port) {
                Ok(lane) => {
                    if let Some((start, field)) = packet.partial_checksum {
                        let start = at.saturating_add(start);
                        burst.set_offload(lane, Checksum::Partial { start, field }, Gso::default());
                    }
                    received += 1;
                }
                Err(frame) => io.pool.free(frame),
            }
            let _ = self.spare.push(packet.bytes);
        }
        received
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        let (mut packets, mut bytes) = (0, 0);
        for mut packet in batch.drain(..) {
            if io.pool.area().is_chain(&packet.frame) || packet.gso != Gso::default() {
                io.drop_tx(packet, DropReason::TooBigForPort);
                continue;
            }
            let mut partial = None;
            if let Checksum::Partial { start, field } = packet.checksum {
                if self.finishes_checksums {
                    partial = Some((start - packet.offset, field));
                } else {
                    let end = packet.offset + packet.len;
                    complete(io.pool.area(), &mut packet.frame, end, packet.checksum);
                }
            }
            let mut buffer = self.spare.pop().unwrap_or_default();
            buffer.clear();
            buffer.extend_from_slice(io.pool.area().bytes(&packet.frame, packet.offset, packet.len));
            match self.tx.push(WirePacket { bytes: buffer, partial_checksum: partial }) {
                Ok(()) => {
                    packets += 1;
                    bytes += u64::from(packet.len);
                    io.pool.free(packet.frame);
                }
                Err(refused) => {
                    let _ = self.spare.push(refused.bytes);
                    io.drop_tx(packet, DropReason::TxFull);
                }
            }
        }
        (packets, bytes)
    }

    fn kernel_losses(&self) -> KernelLosses {
        KernelLosses { rx_fill_empty: self.lost_no_frame, ..KernelLosses::default() }
    }

    fn close(self: Box<Self>, _pool: &mut FramePool) {}
}
