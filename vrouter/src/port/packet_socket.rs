//! Packet sockets on a device: super-packets to and from the network, on any driver.
//!
//! ```text
//!   device --> GRO --> [sys::tc_program] --> socket of the program's choice --> burst
//!      ^                '--> the kernel's own stack
//!      '---- segmentation by the device, or the kernel ---- socket <-- burst
//! ```
//!
//! AF_XDP in copy mode carries frames of the device's MTU, one by one. A packet socket with virtio-net
//! headers carries what the kernel's own stack gives and takes: up to 64 KiB in one piece, checksums left
//! to the device. Each packet costs more, so that this pays where streams are what is carried. What is in
//! a tunnel is cut up here all the same, and its checksums finished: the header has no words for it.
//!
//! Packets are copied by the kernel into and from the router's frames, many by one system call.

use std::cell::Cell;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::burst::{Burst, Checksum, Gso, TxPacket};
use crate::checksum::complete;
use crate::drop_reason::DropReason;
use crate::frame::FramePool;
use crate::ids::PortId;
use crate::port::messages::{self, MAX_MESSAGE, Reading};
use crate::port::{KernelLosses, PortQueue, QueueIo, segments, virtio};
use crate::sys::OsError;
use crate::sys::packet_socket::{MESSAGES, PacketSocket, Receives};
use crate::sys::tun::VIRTIO_HEADER_LEN;

/// Packets received by one call, while all are of one frame.
const BATCH: usize = 32;
/// Pieces of packets that one call sends.
const PIECES: usize = 256;
/// Bytes received before the burst goes on its way: they should still be in the cache when sent.
const BURST_BYTES: usize = 256 << 10;

/// One queue of a device: what one worker owns.
#[derive(Debug)]
pub struct Queue {
    socket: PacketSocket,
    reading: Reading,
    /// A buffer for each message of a call, while all are short; most of each is never touched.
    buffers: Box<[u8]>,
    /// What the next call sends.
    pending: Vec<TxPacket>,
    fates: Vec<Result<(), DropReason>>,
    lost: Cell<u64>,
}

/// The queues of a device; `marked`: only what `tc_program` has marked.
pub(crate) fn queues(ifindex: u32, marked: bool) -> Result<Vec<Box<dyn PortQueue>>, OsError> {
    let receives: &[Receives] =
        if marked { &[Receives::MarkedV4, Receives::MarkedV6] } else { &[Receives::All] };
    let queue = |receives: &Receives| {
        let queue = Queue {
            socket: PacketSocket::open(ifindex, *receives)?,
            reading: Reading::new(),
            buffers: vec![0; BATCH * MAX_MESSAGE].into(),
            pending: Vec::with_capacity(MESSAGES),
            fates: Vec::with_capacity(MESSAGES),
            lost: Cell::new(0),
        };
        Ok(Box::new(queue) as Box<dyn PortQueue>)
    };
    receives.iter().map(queue).collect()
}

impl Queue {
    /// Receives packets of which most have one frame.
    fn receive_short(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        let offered = io.pool.stage(burst.room().min(BATCH)).1.len();
        let mut buffers = self.buffers.chunks_exact_mut(MAX_MESSAGE);
        let mut buffers: [_; BATCH] =
            core::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or(&mut [])));
        let mut lens = [0; BATCH];
        let received = match self.socket.receive(&mut buffers[..offered], 1, &mut lens[..offered]) {
            Ok(received) => received,
            Err(error) => {
                refused(port, io, &error);
                return 0;
            }
        };
        let mut there = 0;
        for (len, buffer) in lens[..received].iter().zip(self.buffers.chunks_exact(MAX_MESSAGE)) {
            let len = *len as usize;
            let Some(message) = buffer.get(..len) else { continue };
            there += usize::from(messages::copied(port, burst, io, message));
            self.reading.learn(len.saturating_sub(VIRTIO_HEADER_LEN), io.pool.area());
        }
        there
    }

    /// Receives packets of several frames.
    fn receive_long(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        let (mut received, mut bytes) = (0, 0);
        while burst.room() > 0 && bytes < BURST_BYTES {
            match self.reading.one(port, burst, io, |buffers| self.socket.receive_one(buffers)) {
                Ok(Some((len, there))) => {
                    bytes += len;
                    received += usize::from(there);
                }
                Ok(None) => break,
                Err(error) => {
                    refused(port, io, &error);
                    break;
                }
            }
        }
        received
    }

    /// Puts a packet, whose header can be written, among those that the next call sends.
    #[inline]
    fn stage(&mut self, mut packet: TxPacket, io: &mut QueueIo<'_>, sent: &mut (u64, u64)) {
        if let Err(reason) = messages::put_header(&mut packet, io.pool.area()) {
            io.drop_tx(packet, reason);
            return;
        }
        self.pending.push(packet);
        if self.pending.len() == MESSAGES {
            self.flush(io, sent);
        }
    }

    /// Sends what is staged.
    fn flush(&mut self, io: &mut QueueIo<'_>, sent: &mut (u64, u64)) {
        let area = io.pool.area();
        self.fates.clear();
        while let Some(rest) = self.pending.get(self.fates.len()..).filter(|rest| !rest.is_empty()) {
            let mut buffers = [IoSlice::new(&[]); PIECES];
            let mut ends = [0; MESSAGES];
            let (mut count, mut messages) = (0, 0);
            'packets: for packet in rest {
                let start = packet.offset - VIRTIO_HEADER_LEN as u16;
                let mut end = count;
                for piece in area.runs(&packet.frame, start, packet.len + VIRTIO_HEADER_LEN as u16) {
                    let Some(buffer) = buffers.get_mut(end) else { break 'packets };
                    *buffer = IoSlice::new(piece);
                    end += 1;
                }
                ends[messages] = end as u16;
                (count, messages) = (end, messages + 1);
            }
            if messages == 0 {
                self.fates.push(Err(DropReason::TooBigForPort));
                continue;
            }
            match self.socket.send(&buffers[..count], &ends[..messages]) {
                Ok(taken) => self.fates.extend((0..taken).map(|_| Ok(()))),
                // The socket's buffer is full: so it is for those that follow.
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    let rest = rest.len();
                    self.fates.extend((0..rest).map(|_| Err(DropReason::TxFull)));
                }
                Err(errno) => self.fates.push(Err(reason(errno))),
            }
        }
        for (packet, fate) in self.pending.drain(..).zip(self.fates.drain(..)) {
            match fate {
                Ok(()) => {
                    sent.0 += 1;
                    sent.1 += u64::from(packet.len);
                    if io.pool.area().is_chain(&packet.frame) {
                        sent.1 += io.pool.area().chained_bytes(&packet.frame) as u64;
                    }
                    io.pool.free(packet.frame);
                }
                Err(reason) => io.drop_tx(packet, reason),
            }
        }
    }
}

impl PortQueue for Queue {
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        if self.reading.is_long() {
            self.receive_long(port, burst, io)
        } else {
            self.receive_short(port, burst, io)
        }
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        let mut sent = (0, 0);
        for mut packet in batch.drain(..) {
            let area = io.pool.area();
            let plain = (packet.checksum, packet.gso) == (Checksum::Complete, Gso::default());
            if plain || !virtio::is_tunnelled(&packet, area) {
                self.stage(packet, io, &mut sent);
            } else if packet.gso == Gso::default() {
                // A device may pass it on as it is, and who receives it looks for no checksum to be
                // finished inside a tunnel.
                complete(area, &mut packet.frame, packet.offset + packet.len, packet.checksum);
                packet.checksum = Checksum::Complete;
                self.stage(packet, io, &mut sent);
            } else {
                segments::cut(packet, io, |packet, io| self.stage(packet, io, &mut sent));
            }
        }
        self.flush(io, &mut sent);
        sent
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn rx_needs_readiness(&self) -> bool {
        true
    }

    fn kernel_losses(&self) -> KernelLosses {
        self.lost.set(self.lost.get() + self.socket.take_losses());
        KernelLosses { rx_ring_full: self.lost.get(), ..KernelLosses::default() }
    }

    fn close(self: Box<Self>, _pool: &mut FramePool) {}
}

/// Counts a packet that the kernel could not describe. Other errors lose none: nothing waits, or the
/// device is down, which its port shows.
#[cold]
fn refused(port: PortId, io: &mut QueueIo<'_>, error: &std::io::Error) {
    if error.kind() == std::io::ErrorKind::InvalidInput {
        io.counters.port(port).rx_packets.add(1);
        io.counters.drops(port, DropReason::BadSegmentationOffload).add(1);
    }
}

/// Why a packet could not be sent.
#[cold]
fn reason(errno: Errno) -> DropReason {
    match errno {
        Errno::MSGSIZE | Errno::INVAL => DropReason::TooBigForPort,
        // The device is down or gone.
        _ => DropReason::PortDown,
    }
}

#[cfg(test)]
mod tests;
