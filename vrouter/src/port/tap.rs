//! Tap: a device of the kernel whose other end is a file descriptor.
//!
//! Each read and write carries one frame behind a virtio-net header, which tells
//! whose duty the checksum is: a partial checksum travels through the router as it
//! is and is finished by whoever has to (RFC 1071 sums are additive). The frame is
//! read into, and written from, the router's own memory.
//!
//! The header also tells of segmentation that is still to be done, so that a stack hands
//! over up to 64 KiB at a time: such a super-packet is read into a chain of frames, and
//! written from one. Packets that arrive one by one are gathered into super-packets for
//! the stack behind the tap. What the kernel knows of this is asked for, most first:
//!
//! | offloads | Linux | super-packets |
//! |---|---|---|
//! | TSO, USO | 6.2 | TCP and UDP |
//! | TSO | | TCP; UDP is cut up here |
//! | checksum | | none: all are cut up here |

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use encap::wire::ethernet;

use crate::burst::{Burst, Gso, GsoKind, TxPacket, lanes};
use crate::drop_reason::DropReason;
use crate::frame::{FrameArea, FramePool};
use crate::ids::PortId;
use crate::port::gather::{Gathering, WINDOW};
use crate::port::messages::{self, MAX_FRAMES, Reading};
use crate::port::{PortQueue, QueueIo, segments, virtio};
use crate::sys::tun::{Tap, TapOffload, VIRTIO_HEADER_LEN};
use crate::sys::uring::Writes;

/// Pieces of the longest packet written: those of as many packets as are gathered at most, and
/// as a packet has frames.
const MAX_PIECES: usize = WINDOW + MAX_FRAMES;
/// Bytes received before the burst goes on its way: what was read should still be in the
/// second-level cache when it is written.
const BURST_BYTES: usize = 256 << 10;

/// What the kernel behind a tap takes and gives whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Whole {
    Packets,
    Tcp,
    TcpAndUdp,
}

/// One queue of a tap.
#[derive(Debug)]
pub struct Queue {
    tap: Tap,
    whole: Whole,
    gathering: Gathering,
    reading: Reading,
    /// For several packets of one frame that follow each other.
    writes: Option<Writes>,
    broken: bool,
}

/// The queues of open taps, whose stack may leave checksums and segmentation to us from now on.
pub(crate) fn queues(taps: Vec<Tap>) -> Vec<Box<dyn PortQueue>> {
    if let [first, _, ..] = taps.as_slice()
        && let Err(error) = first.steer_by_flow()
    {
        // Packets pass without it; those of a flow may overtake each other.
        tracing::warn!("{error}");
    }
    taps.into_iter()
        .map(|tap| {
            let offloads = [
                (TapOffload::TSO_USO, Whole::TcpAndUdp),
                (TapOffload::TSO, Whole::Tcp),
                (TapOffload::CSUM, Whole::Packets),
            ];
            // Without any the stack completes every checksum: correct, slower.
            let taken = offloads.into_iter().find(|(offload, _)| tap.set_offload(*offload).is_ok());
            let whole = taken.map_or(Whole::Packets, |(_, whole)| whole);
            let gathering = Gathering::new(whole == Whole::TcpAndUdp);
            Box::new(Queue {
                tap,
                whole,
                gathering,
                reading: Reading::new(),
                writes: Writes::new(),
                broken: false,
            }) as Box<dyn PortQueue>
        })
        .collect()
}

impl Queue {
    /// Whether a super-packet can be written as it is.
    fn takes(&self, packet: &TxPacket, area: &FrameArea) -> bool {
        let least = match packet.gso.kind {
            GsoKind::None => return true,
            GsoKind::Tcp4 | GsoKind::Tcp6 => Whole::Tcp,
            GsoKind::Udp => Whole::TcpAndUdp,
        };
        self.whole >= least && !virtio::is_tunnelled(packet, area)
    }

    /// Writes one packet, with its members if it leads some.
    fn write(
        &self,
        area: &FrameArea,
        window: &mut [TxPacket],
        slot: usize,
        gathered: bool,
    ) -> Result<(), DropReason> {
        let packet = &mut window[slot];
        let start = messages::put_header(packet, area)?;
        let len = packet.len + VIRTIO_HEADER_LEN as u16;
        let packet = &window[slot];
        if !area.is_chain(&packet.frame) && (!gathered || packet.gso == Gso::default()) {
            let message = area.bytes(&packet.frame, start, len);
            return self.tap.write(message).map(drop).map_err(reason);
        }
        let mut slices = [IoSlice::new(&[]); MAX_PIECES];
        let own = area.runs(&packet.frame, start, len);
        let members = self.gathering.members(slot).take(if gathered { WINDOW } else { 0 });
        let theirs = members.flat_map(|(slot, data)| {
            let member = &window[slot];
            let skip = ethernet::HEADER_LEN as u16 + data;
            area.pieces(&member.frame, member.offset + skip, member.len.saturating_sub(skip))
        });
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(own.chain(theirs)) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        self.tap.writev(&slices[..count]).map(drop).map_err(reason)
    }
}

impl Queue {
    /// Writes packets of one frame, by one call where that works. `alone` are their slots.
    fn write_alone(
        &mut self,
        area: &FrameArea,
        window: &mut [TxPacket],
        alone: u64,
        fates: &mut [Result<(), DropReason>; WINDOW],
    ) {
        let Some(writes) = self.writes.as_mut().filter(|_| alone.count_ones() > 1) else {
            lanes(alone).for_each(|slot| fates[slot] = self.write(area, window, slot, false));
            return;
        };
        let mut starts = [0; WINDOW];
        for slot in lanes(alone) {
            match messages::put_header(&mut window[slot], area) {
                Ok(start) => starts[slot] = start,
                Err(reason) => fates[slot] = Err(reason),
            }
        }
        let ready = lanes(alone).filter(|slot| fates[*slot].is_ok());
        let (mut slots, mut messages, mut count) = ([0; WINDOW], [&[][..]; WINDOW], 0);
        for slot in ready {
            let packet = &window[slot];
            messages[count] = area.bytes(&packet.frame, starts[slot], packet.len + VIRTIO_HEADER_LEN as u16);
            (slots[count], count) = (slot, count + 1);
        }
        let mut results = [None; WINDOW];
        let outcome = writes.write(self.tap.as_fd(), &messages[..count], &mut results[..count]);
        for (slot, result) in slots[..count].iter().zip(&results) {
            fates[*slot] = match result {
                Some(Ok(())) => Ok(()),
                Some(Err(errno)) => Err(reason((*errno).into())),
                None => Err(DropReason::PortDown),
            };
        }
        if outcome.is_err() {
            self.writes = None;
        }
    }
}

impl PortQueue for Queue {
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        let (mut received, mut bytes) = (0, 0);
        while burst.room() > 0 && bytes < BURST_BYTES {
            match self.reading.one(port, burst, io, |buffers| self.tap.readv(buffers)) {
                Ok(Some((len, there))) => {
                    bytes += len;
                    received += usize::from(there);
                }
                Ok(None) => break,
                Err(error) => {
                    // EBADFD: the device was deleted. It stays readable for ever, so
                    // the worker must stop waiting for it.
                    let waits =
                        matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
                    self.broken = !waits;
                    break;
                }
            }
        }
        received
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        let area = io.pool.store().area().clone();
        let (mut packets, mut bytes) = (0, 0);
        while !batch.is_empty() {
            let count = batch.len().min(WINDOW);
            let window = &mut batch[..count];
            let gathered = count > 1 && self.whole > Whole::Packets;
            if gathered {
                self.gathering.run(&area, window);
            }
            let mut fates = [Ok(()); WINDOW];
            // Slots before this one that are not written yet.
            let mut alone = 0;
            for slot in 0..count {
                if gathered && self.gathering.is_member(slot) {
                    continue;
                }
                let packet = &window[slot];
                if !area.is_chain(&packet.frame) && packet.gso == Gso::default() {
                    alone |= 1 << slot;
                    continue;
                }
                if alone != 0 {
                    self.write_alone(&area, window, core::mem::take(&mut alone), &mut fates);
                }
                if !self.takes(&window[slot], &area) {
                    let packet = window[slot].take();
                    segments::cut(packet, io, |packet, io| {
                        let mut one = [packet];
                        let written = self.write(&area, &mut one, 0, false);
                        let [packet] = one;
                        match written {
                            Ok(()) => {
                                packets += 1;
                                bytes += u64::from(packet.len) + area.chained_bytes(&packet.frame) as u64;
                                io.pool.free(packet.frame);
                            }
                            Err(reason) => io.drop_tx(packet, reason),
                        }
                    });
                    continue;
                }
                let fate = self.write(&area, window, slot, gathered);
                fates[slot] = fate;
                if gathered {
                    self.gathering.members(slot).for_each(|(member, _)| fates[member] = fate);
                }
            }
            if alone != 0 {
                self.write_alone(&area, window, alone, &mut fates);
            }
            for (packet, fate) in batch.drain(..count).zip(fates) {
                match fate {
                    // It was cut up.
                    _ if packet.frame.is_none() => {}
                    Ok(()) => {
                        packets += 1;
                        bytes += u64::from(packet.len);
                        if area.is_chain(&packet.frame) {
                            bytes += area.chained_bytes(&packet.frame) as u64;
                        }
                        io.pool.free(packet.frame);
                    }
                    Err(reason) => io.drop_tx(packet, reason),
                }
            }
        }
        (packets, bytes)
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.tap.as_fd())
    }

    fn rx_needs_readiness(&self) -> bool {
        true
    }

    fn is_broken(&self) -> bool {
        self.broken
    }

    fn close(self: Box<Self>, _pool: &mut FramePool) {}
}

/// Why a frame could not be written.
#[cold]
fn reason(error: io::Error) -> DropReason {
    match error.kind() {
        io::ErrorKind::WouldBlock => DropReason::TxFull,
        io::ErrorKind::InvalidInput => DropReason::TooBigForPort,
        // The device is down (EIO) or deleted (EBADFD).
        _ => DropReason::PortDown,
    }
}
