//! One AF_XDP queue: fill, receive, transmit, complete.
//!
//! ```text
//!   ring entries:  | 1792 B, more | 1792 B, more | 900 B |  60 B  |
//!   packets:       |_______ a chain of three frames _____|_ one __|
//! ```
//!
//! A packet longer than a frame is several entries that follow each other, each but the last marked
//! (`XDP_PKT_CONTD`). The kernel may show them to us in parts, so a chain that is not complete waits
//! for the next call; we show it all entries of a packet or none.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use encap::wire::{checksum, ethernet, protocol};

use crate::burst::{Burst, Checksum, Gso, LANES, TxPacket};
use crate::checksum::complete;
use crate::drop_reason::DropReason;
use crate::frame::chain::Chain;
use crate::frame::{Frame, FrameArea, FramePool, Lent};
use crate::ids::PortId;
use crate::port::af_xdp::whole::Whole;
use crate::port::{KernelLosses, PortQueue, QueueIo, segments};
use crate::sys::xsk::{Desc, XskSocket};

/// Entries that a packet can have: what the kernel makes of them in copy mode is a socket buffer of
/// a head and 17 pages (`MAX_SKB_FRAGS`, as most kernels are built).
pub(super) const MAX_ENTRIES: usize = 18;

/// A packet of which not all entries have been received.
#[derive(Debug)]
struct Unfinished {
    chain: Chain,
    /// Where the packet begins in its head frame, and the bytes there.
    offset: u16,
    first: u16,
    /// Bytes in the frames behind.
    behind: usize,
}

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
    /// Entries at the begin of the receive ring whose headers were fetched when they were last looked at.
    fetched: usize,
    /// Entries of `descs` that are not in the transmit ring yet.
    staged: usize,
    /// Entries that the kernel has not been told of, or did not take when it was.
    unkicked: usize,
    unfinished: Option<Unfinished>,
    /// Packets may have several entries.
    multi_buffer: bool,
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
        multi_buffer: bool,
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
            unfinished: None,
            multi_buffer,
            partial_checksums,
            whole: None,
            fetched: 0,
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
            self.send_chain(packet, io, sent);
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

    /// Puts a packet of several frames into the transmit ring.
    fn send_chain(&mut self, mut packet: TxPacket, io: &mut QueueIo<'_>, sent: &mut (u64, u64)) {
        let area = io.pool.area();
        let (mut entries, mut bytes) = (0, 0);
        for piece in area.pieces(&packet.frame, packet.offset, packet.len) {
            entries += 1;
            bytes += piece.len() as u64;
        }
        if !self.multi_buffer || entries > MAX_ENTRIES {
            io.drop_tx(packet, DropReason::TooBigForPort);
            return;
        }
        if !self.has_room(entries, io.pool) {
            io.drop_tx(packet, DropReason::TxFull);
            return;
        }
        let area = io.pool.area();
        complete(area, &mut packet.frame, packet.offset + packet.len, packet.checksum);
        sent.0 += 1;
        sent.1 += bytes;
        let (mut frame, mut offset, mut len) = (packet.frame, packet.offset, packet.len);
        loop {
            let behind = area.unlink_span(&mut frame);
            let options = if behind.is_some() { Desc::MORE } else { 0 };
            let addr = self.lent.lend(frame) + u64::from(offset);
            self.stage(Desc { addr, len: u32::from(len), options });
            let Some(next) = behind else { break };
            (frame, offset, len) = next;
        }
    }

    /// Sends a super-packet as it is, behind what is in the ring; whether that was possible.
    #[inline]
    fn send_whole(&mut self, packet: &mut TxPacket, pool: &mut FramePool, sent: &mut (u64, u64)) -> bool {
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

    /// Has the headers fetched that the next burst will begin with, while this one is handled.
    #[inline]
    fn fetch_ahead(&mut self) {
        self.fetched = self.socket.rx_look(&mut self.descs[..self.batch]);
        self.descs[..self.fetched].iter().for_each(|desc| self.lent.prefetch(desc.addr));
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
        // The kernel has written them on another core, as a rule: one wait for all of them that were not
        // fetched ahead, not one after another.
        let fetched = self.fetched.min(received);
        self.descs[fetched..received].iter().for_each(|desc| self.lent.prefetch(desc.addr));
        let mut pushed = 0;
        for desc in &self.descs[..received] {
            let Some((frame, offset)) = self.lent.take_back(desc.addr) else { continue };
            let len = desc.len.min(u32::from(u16::MAX)) as u16;
            let (frame, offset, len, behind) = if desc.more() || self.unfinished.is_some() {
                match joined(&mut self.unfinished, io.pool.area(), frame, (offset, len), desc.more()) {
                    Some(whole) => whole,
                    None => continue,
                }
            } else {
                (frame, offset, len, 0)
            };
            match burst.push(frame, offset, len, port) {
                Ok(lane) => {
                    pushed += 1;
                    if behind > 0 {
                        burst.set_chained(lane, behind);
                    }
                    if self.partial_checksums {
                        let bytes = burst.bytes(lane, io.pool.area());
                        if let Some((start, field)) = partial_checksum(bytes, bytes.len() + behind) {
                            let partial = Checksum::Partial { start: offset + start, field };
                            burst.set_offload(lane, partial, Gso::default());
                        }
                    }
                }
                Err(frame) => io.pool.free(frame),
            }
        }
        self.fetched = 0;
        if received == self.batch {
            self.fetch_ahead();
        }
        pushed
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        self.reap(io.pool);
        let mut sent = (0, 0);
        for mut packet in batch.drain(..) {
            if packet.gso == Gso::default() {
                self.send(packet, io, &mut sent);
            } else if self.send_whole(&mut packet, io.pool, &mut sent) {
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

    fn is_half_full(&mut self) -> bool {
        // What has been received has taken its frame out of the fill ring.
        2 * self.socket.rx_waiting() >= self.fill_depth
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
        self.fill(io.pool);
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
        let Queue { socket, mut lent, unfinished, .. } = *self;
        drop(socket);
        if let Some(unfinished) = unfinished {
            pool.free(unfinished.chain.finish());
        }
        lent.take_back_all().for_each(|frame| pool.free(frame));
    }
}

/// Adds a received entry's frame to the packet that is being put together; the packet, where that was
/// its last entry: its frames, where it begins, bytes in its head frame, bytes behind.
#[cold]
fn joined(
    unfinished: &mut Option<Unfinished>,
    area: &FrameArea,
    frame: Frame,
    (offset, len): (u16, u16),
    more: bool,
) -> Option<(Frame, u16, u16, usize)> {
    let packet = match unfinished.take() {
        None => Unfinished { chain: Chain::new(frame), offset, first: len, behind: 0 },
        Some(mut packet) => {
            packet.chain.append(area, frame, offset, len);
            packet.behind += usize::from(len);
            packet
        }
    };
    if more {
        *unfinished = Some(packet);
        return None;
    }
    Some((packet.chain.finish(), packet.offset, packet.first, packet.behind))
}

/// Whether a frame's TCP or UDP checksum is still to be finished: the field holds
/// the folded pseudo-header sum. Returns (where summing starts, where the checksum
/// lies from there), from the first byte of the frame, of which `frame` are the first and `whole` all
/// bytes. A complete checksum that happens to equal that sum is finished to the same value, so a
/// false positive is harmless.
fn partial_checksum(frame: &[u8], whole: usize) -> Option<(u16, u16)> {
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
    if ethernet::HEADER_LEN + total > whole {
        return None;
    }
    let segment = ip.get(header_len..total.min(ip.len()))?;
    let field = checksum::l4_checksum_offset(transport)?;
    checksum::is_partial(pseudo, transport, segment).then_some(((14 + header_len) as u16, field as u16))
}
