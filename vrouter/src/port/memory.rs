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
use encap::wire::ethernet;

use crate::burst::{Burst, Checksum, Gso, TxPacket};
use crate::checksum::complete;
use crate::drop_reason::DropReason;
use crate::frame::chain::{Chain, MAX_PACKET};
use crate::frame::{Frame, FrameArea, FramePool, HEADROOM};
use crate::ids::PortId;
use crate::port::gather::{Gathering, WINDOW};
use crate::port::{KernelLosses, PortQueue, QueueIo, segments};

/// A packet on the wire: bytes from the Ethernet header on, with offload state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WirePacket {
    /// The frame's bytes.
    pub bytes: Vec<u8>,
    /// Checksum still to be finished: (start, field), counted from the first byte.
    pub partial_checksum: Option<(u16, u16)>,
    /// Segmentation still to be done.
    pub gso: Gso,
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
    single_frames: bool,
    /// Present where the other end takes super-packets.
    gathering: Option<Gathering>,
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
            single_frames: false,
            gathering: None,
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

    /// Makes the port refuse packets of several frames, as an AF_XDP device without multi-buffer does.
    pub fn of_single_frames(mut self) -> Self {
        self.single_frames = true;
        self
    }

    /// Makes the port carry super-packets to the other end, as a tap does, instead of having
    /// them cut up; also those that several packets make together.
    pub fn carrying_super_packets(mut self) -> Self {
        self.finishes_checksums = true;
        self.gathering = Some(Gathering::new(true));
        self
    }
}

impl MemoryHost {
    /// Sends a frame into the router; `false` when the wire is full.
    pub fn send(&self, bytes: &[u8]) -> bool {
        self.send_packet(WirePacket { bytes: bytes.to_vec(), ..WirePacket::default() })
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

impl MemoryPort {
    /// Sends a packet that is on its own.
    fn tx_one(&self, mut packet: TxPacket, io: &mut QueueIo<'_>, sent: &mut (u64, u64)) {
        let area = io.pool.area();
        let chain = area.is_chain(&packet.frame);
        let fate = if chain && self.single_frames {
            Err(DropReason::TooBigForPort)
        } else {
            self.put(area, core::slice::from_mut(&mut packet), 0, None)
        };
        match fate {
            Ok(()) => {
                sent.0 += 1;
                sent.1 += u64::from(packet.len);
                if chain {
                    sent.1 += area.chained_bytes(&packet.frame) as u64;
                }
                io.pool.free(packet.frame);
            }
            Err(reason) => io.drop_tx(packet, reason),
        }
    }

    /// Sends a batch to an end that takes super-packets.
    fn tx_gathered(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>, sent: &mut (u64, u64)) {
        let Some(mut gathering) = self.gathering.take() else { return };
        let area = io.pool.store().area().clone();
        while !batch.is_empty() {
            let count = batch.len().min(WINDOW);
            let window = &mut batch[..count];
            gathering.run(&area, window);
            let mut fates = [Ok(()); WINDOW];
            for slot in (0..count).filter(|slot| !gathering.is_member(*slot)) {
                fates[slot] = self.put(&area, window, slot, Some(&gathering));
                gathering.members(slot).for_each(|(member, _)| fates[member] = fates[slot]);
            }
            for (packet, fate) in batch.drain(..count).zip(fates) {
                match fate {
                    Ok(()) => {
                        sent.0 += 1;
                        sent.1 += (usize::from(packet.len) + area.chained_bytes(&packet.frame)) as u64;
                        io.pool.free(packet.frame);
                    }
                    Err(reason) => io.drop_tx(packet, reason),
                }
            }
        }
        self.gathering = Some(gathering);
    }

    /// Puts one packet on the wire, with its members if it leads some.
    fn put(
        &self,
        area: &FrameArea,
        window: &mut [TxPacket],
        slot: usize,
        gathering: Option<&Gathering>,
    ) -> Result<(), DropReason> {
        let packet = &mut window[slot];
        let mut partial = None;
        if let Checksum::Partial { start, field } = packet.checksum {
            if self.finishes_checksums {
                partial = Some((start - packet.offset, field));
            } else {
                let end = packet.offset + packet.len;
                complete(area, &mut packet.frame, end, packet.checksum);
            }
        }
        let packet = &window[slot];
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        for piece in area.pieces(&packet.frame, packet.offset, packet.len) {
            buffer.extend_from_slice(piece);
        }
        for (member, data) in gathering.into_iter().flat_map(|gathering| gathering.members(slot)) {
            let skip = ethernet::HEADER_LEN as u16 + data;
            let member = &window[member];
            let len = member.len.saturating_sub(skip);
            area.pieces(&member.frame, member.offset + skip, len)
                .for_each(|piece| buffer.extend_from_slice(piece));
        }
        let wire = WirePacket { bytes: buffer, partial_checksum: partial, gso: packet.gso };
        self.tx.push(wire).map_err(|refused| {
            let _ = self.spare.push(refused.bytes);
            DropReason::TxFull
        })
    }
}

impl PortQueue for MemoryPort {
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        let mut received = 0;
        while burst.room() > 0 {
            let Some(packet) = self.rx.pop() else { break };
            let len = packet.bytes.len().min(MAX_PACKET);
            let Some((frame, at, first)) = frames_of(&packet.bytes[..len], io.pool) else {
                self.lost_no_frame += 1;
                continue;
            };
            match burst.push(frame, at, first, port) {
                Ok(lane) => {
                    if len > usize::from(first) {
                        burst.set_chained(lane, len - usize::from(first));
                    }
                    let checksum = packet.partial_checksum.map_or(Checksum::Complete, |(start, field)| {
                        Checksum::Partial { start: at.saturating_add(start), field }
                    });
                    burst.set_offload(lane, checksum, packet.gso);
                    received += 1;
                }
                Err(frame) => io.pool.free(frame),
            }
            let _ = self.spare.push(packet.bytes);
        }
        received
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        let mut sent = (0, 0);
        if self.gathering.is_some() {
            self.tx_gathered(batch, io, &mut sent);
            return sent;
        }
        for packet in batch.drain(..) {
            if packet.gso == Gso::default() {
                self.tx_one(packet, io, &mut sent);
            } else {
                segments::cut(packet, io, |packet, io| self.tx_one(packet, io, &mut sent));
            }
        }
        sent
    }

    fn is_half_full(&mut self) -> bool {
        2 * self.rx.len() >= self.rx.capacity()
    }

    fn kernel_losses(&self) -> KernelLosses {
        KernelLosses { rx_fill_empty: self.lost_no_frame, ..KernelLosses::default() }
    }

    fn close(self: Box<Self>, _pool: &mut FramePool) {}
}

/// A packet copied into fresh frames, where it begins and its bytes in the first; `None` without frames.
#[inline]
fn frames_of(bytes: &[u8], pool: &mut FramePool) -> Option<(Frame, u16, u16)> {
    let capacity = pool.area().capacity();
    let (first, rest) = bytes.split_at(bytes.len().min(capacity));
    let wanted = 1 + rest.len().div_ceil(capacity);
    if wanted > 1 && pool.stage(wanted).1.len() < wanted {
        return None;
    }
    let mut head = pool.alloc()?;
    let at = pool.area().landing(&head, first.len());
    pool.area().bytes_mut(&mut head, at, first.len() as u16).copy_from_slice(first);
    if rest.is_empty() {
        return Some((head, at, first.len() as u16));
    }
    let mut chain = Chain::new(head);
    for piece in rest.chunks(capacity) {
        let mut frame = pool.alloc()?;
        pool.area().chunk_mut(&mut frame)[HEADROOM..][..piece.len()].copy_from_slice(piece);
        chain.append(pool.area(), frame, HEADROOM as u16, piece.len() as u16);
    }
    Some((chain.finish(), at, first.len() as u16))
}
