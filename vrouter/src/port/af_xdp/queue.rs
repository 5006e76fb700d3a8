//! One AF_XDP queue: fill, receive, transmit, complete.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use encap::wire::{checksum, protocol};

use crate::burst::{Burst, Checksum, Gso, LANES, TxPacket};
use crate::checksum::complete;
use crate::drop_reason::DropReason;
use crate::frame::{FrameArea, FramePool, Lent};
use crate::ids::PortId;
use crate::port::af_xdp::whole::Whole;
use crate::port::{KernelLosses, PortQueue, QueueIo, segments};
use crate::sys::xsk::{Desc, XskSocket};

/// A queue of an AF_XDP device.
#[derive(Debug)]
pub struct Queue {
    socket: XskSocket,
    lent: Lent,
    /// Frames to keep in the fill ring.
    fill_depth: usize,
    /// Packets to receive at a time.
    batch: usize,
    filled: usize,
    sending: usize,
    /// Entries of `descs` that are not in the transmit ring yet.
    staged: usize,
    /// Entries that the kernel has not been told of, or did not take when it was.
    unkicked: usize,
    /// Senders on this device may leave checksums to it (veth).
    partial_checksums: bool,
    /// The way for super-packets, where there is a better one than to cut them up.
    whole: Option<Whole>,
    descs: Box<[Desc; LANES]>,
    addresses: Box<[u64; LANES]>,
}

impl Queue {
    pub(super) fn new(
        socket: XskSocket,
        area: Arc<FrameArea>,
        fill_depth: usize,
        batch: usize,
        partial_checksums: bool,
    ) -> Self {
        Queue {
            socket,
            lent: Lent::new(area),
            fill_depth,
            batch: batch.clamp(1, LANES),
            filled: 0,
            sending: 0,
            staged: 0,
            unkicked: 0,
            partial_checksums,
            whole: None,
            descs: Box::new([Desc::default(); LANES]),
            addresses: Box::new([0; LANES]),
        }
    }

    /// Sends super-packets by `whole` from now on.
    pub(super) fn send_super_packets_by(&mut self, whole: Whole) {
        self.whole = Some(whole);
    }

    pub(super) fn socket(&self) -> &XskSocket {
        &self.socket
    }

    /// Keeps the fill ring at its depth.
    fn fill(&mut self, pool: &mut FramePool) {
        while self.filled < self.fill_depth {
            let want = (self.fill_depth - self.filled).min(LANES);
            let mut got = 0;
            while got < want {
                let Some(frame) = pool.alloc() else { break };
                self.addresses[got] = self.lent.lend(frame);
                got += 1;
            }
            let pushed = self.socket.fill_push(&self.addresses[..got]);
            self.filled += pushed;
            for address in &self.addresses[pushed..got] {
                if let Some((frame, _)) = self.lent.take_back(*address) {
                    pool.free(frame);
                }
            }
            if pushed < want {
                break;
            }
        }
        if self.socket.fill_needs_wakeup() {
            // The only failures are those of a device that is gone; the link watch
            // notices that.
            let _ = self.socket.wake_rx();
        }
    }

    /// Takes back the frames that the kernel has sent.
    fn reap(&mut self, pool: &mut FramePool) {
        while self.sending > 0 {
            let done = self.socket.completion_pop(&mut self.addresses[..]);
            for address in &self.addresses[..done] {
                if let Some((frame, _)) = self.lent.take_back(*address) {
                    self.sending -= 1;
                    pool.free(frame);
                }
            }
            if done < LANES {
                break;
            }
        }
    }
}

impl Queue {
    /// Puts a packet into the transmit ring.
    #[inline]
    fn send(&mut self, mut packet: TxPacket, io: &mut QueueIo<'_>, sent: &mut (u64, u64)) {
        if io.pool.area().is_chain(&packet.frame) {
            io.drop_tx(packet, DropReason::TooBigForPort);
            return;
        }
        if !self.has_room(1, io.pool) {
            io.drop_tx(packet, DropReason::TxFull);
            return;
        }
        let end = packet.offset + packet.len;
        complete(io.pool.area(), &mut packet.frame, end, packet.checksum);
        sent.0 += 1;
        sent.1 += u64::from(packet.len);
        let addr = self.lent.lend(packet.frame) + u64::from(packet.offset);
        self.stage(Desc { addr, len: u32::from(packet.len), options: 0 });
    }

    /// Sends a super-packet as it is, behind what is in the ring; whether that was possible.
    #[inline]
    fn send_whole(&mut self, packet: &TxPacket, pool: &mut FramePool, sent: &mut (u64, u64)) -> bool {
        if self.whole.is_none() {
            return false;
        }
        if self.unkicked > 0 {
            self.kick(pool);
        }
        let area = pool.area();
        let taken = self.unkicked == 0 && self.whole.as_ref().is_some_and(|whole| whole.send(area, packet));
        if taken {
            sent.0 += 1;
            sent.1 += u64::from(packet.len) + area.chained_bytes(&packet.frame) as u64;
        }
        taken
    }

    /// Makes room for so many more entries in the transmit ring and in front of it, if it can.
    #[inline]
    fn has_room(&mut self, entries: usize, pool: &mut FramePool) -> bool {
        if self.staged + entries > LANES {
            self.push_staged();
        }
        if self.socket.tx_free() >= self.staged + entries {
            return true;
        }
        self.kick(pool);
        self.socket.tx_free() >= entries
    }

    #[inline]
    fn stage(&mut self, desc: Desc) {
        self.descs[self.staged] = desc;
        self.staged += 1;
        self.sending += 1;
        self.unkicked += 1;
    }

    #[inline]
    fn push_staged(&mut self) {
        if self.staged > 0 {
            self.socket.tx_push(&self.descs[..self.staged]);
            self.staged = 0;
        }
    }

    /// Has the kernel send what is in the ring, and takes back what it has sent.
    fn kick(&mut self, pool: &mut FramePool) {
        self.push_staged();
        if self.unkicked > 0 && self.socket.tx_needs_wakeup() {
            // What the kernel could not send now stays in the ring and is kicked
            // again by the next batch or by `tend`.
            let _ = self.socket.kick_tx();
        }
        self.unkicked = self.socket.tx_pending();
        self.reap(pool);
    }

    /// Sees to what is on its way when nothing else does: takes back what was sent, and kicks again
    /// what the kernel could not take (its budget, a full socket buffer). Without this the end of a
    /// burst would wait for the next one, for ever where all frames are in the ring.
    #[cold]
    fn tend(&mut self, pool: &mut FramePool) {
        self.reap(pool);
        // A device that uses the frames itself may want to be woken for completions too.
        let waits = self.sending > 0 && (self.socket.zero_copy() || self.socket.tx_pending() > 0);
        if waits && self.socket.tx_needs_wakeup() {
            // A device that is gone takes nothing: its port says so elsewhere.
            let _ = self.socket.kick_tx();
            self.reap(pool);
        }
    }
}

impl PortQueue for Queue {
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        if self.filled < self.fill_depth {
            self.fill(io.pool);
        }
        let room = burst.room().min(self.batch);
        let received = self.socket.rx_peek(&mut self.descs[..room]);
        self.filled -= received.min(self.filled);
        if received == 0 && self.sending > 0 {
            self.tend(io.pool);
        }
        let mut pushed = 0;
        for desc in &self.descs[..received] {
            let Some((frame, offset)) = self.lent.take_back(desc.addr) else { continue };
            let len = desc.len.min(u32::from(u16::MAX)) as u16;
            match burst.push(frame, offset, len, port) {
                Ok(lane) => {
                    pushed += 1;
                    if self.partial_checksums {
                        let bytes = burst.bytes(lane, io.pool.area());
                        if let Some((start, field)) = partial_checksum(bytes) {
                            let partial = Checksum::Partial { start: offset + start, field };
                            burst.set_offload(lane, partial, Gso::default());
                        }
                    }
                }
                Err(frame) => io.pool.free(frame),
            }
        }
        pushed
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        self.reap(io.pool);
        let mut sent = (0, 0);
        for packet in batch.drain(..) {
            if packet.gso == Gso::default() {
                self.send(packet, io, &mut sent);
            } else if self.send_whole(&packet, io.pool, &mut sent) {
                io.pool.free(packet.frame);
            } else {
                segments::cut(packet, io, |packet, io| {
                    self.send(packet, io, &mut sent);
                    // In copy mode the kernel sends no more than this at a time: what is left in
                    // the ring would wait for the next burst.
                    if self.unkicked >= self.socket.tx_budget() as usize {
                        self.kick(io.pool);
                    }
                });
            }
        }
        self.kick(io.pool);
        sent
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn before_wait(&mut self, io: &mut QueueIo<'_>) -> bool {
        self.fill(io.pool);
        self.tend(io.pool);
        false
    }

    fn drain(&mut self, io: &mut QueueIo<'_>) -> bool {
        self.tend(io.pool);
        self.sending == 0
    }

    fn outstanding(&self) -> usize {
        self.lent.count()
    }

    fn kernel_losses(&self) -> KernelLosses {
        let Ok(statistics) = self.socket.statistics() else { return KernelLosses::default() };
        KernelLosses {
            rx_ring_full: statistics.rx_ring_full,
            rx_fill_empty: statistics.fill_empty,
            rx_dropped: statistics.rx_dropped,
            rx_invalid: statistics.rx_invalid,
            tx_invalid: statistics.tx_invalid,
            tx_empty: statistics.tx_empty,
        }
    }

    fn close(self: Box<Self>, pool: &mut FramePool) {
        let Queue { socket, mut lent, .. } = *self;
        drop(socket);
        lent.take_back_all().for_each(|frame| pool.free(frame));
    }
}

/// Whether a frame's TCP or UDP checksum is still to be finished: the field holds
/// the folded pseudo-header sum. Returns (where summing starts, where the checksum
/// lies from there), from the first byte of the frame. A complete checksum that
/// happens to equal that sum is finished to the same value, so a false positive is
/// harmless.
fn partial_checksum(frame: &[u8]) -> Option<(u16, u16)> {
    let ip = frame.get(14..)?;
    let (header_len, transport, pseudo, total) = match (frame[12], frame[13], ip.first()? >> 4) {
        (0x08, 0x00, 4) => {
            let header = ip.first_chunk::<20>()?;
            let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
            let header_len = usize::from(header[0] & 0xf) * 4;
            let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
            if is_fragment || header_len < 20 || total < header_len {
                return None;
            }
            let at = |at: usize| {
                core::net::Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
            };
            let pseudo = checksum::pseudo_v4(at(12), at(16), header[9], (total - header_len) as u16);
            (header_len, header[9], pseudo, total)
        }
        (0x86, 0xdd, 6) => {
            let header = ip.first_chunk::<40>()?;
            let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
            let at = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&header[at..at + 16]);
                core::net::Ipv6Addr::from(octets)
            };
            (40, header[6], checksum::pseudo_v6(at(8), at(24), header[6], len as u32), 40 + len)
        }
        _ => return None,
    };
    if !matches!(transport, protocol::TCP | protocol::UDP) {
        return None;
    }
    let segment = ip.get(header_len..total)?;
    let field = checksum::l4_checksum_offset(transport)?;
    checksum::is_partial(pseudo, transport, segment).then_some(((14 + header_len) as u16, field as u16))
}
