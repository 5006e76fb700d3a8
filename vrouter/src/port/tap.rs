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

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};

use encap::wire::ethernet;

use crate::burst::{Burst, Gso, GsoKind, TxPacket};
use crate::drop_reason::DropReason;
use crate::frame::chain::{Chain, MAX_PACKET, frames_for};
use crate::frame::{FrameArea, FramePool, HEADROOM};
use crate::ids::PortId;
use crate::port::gather::{Gathering, WINDOW};
use crate::port::{PortQueue, QueueIo, segments, virtio};
use crate::sys::tun::{Tap, TapOffload, VIRTIO_HEADER_LEN, VirtioHeader};

/// Frames of the longest packet, of the smallest frames.
const MAX_FRAMES: usize = frames_for(MAX_PACKET, 2048);
/// Pieces of the longest packet written: those of as many packets as are gathered at most, and
/// as a packet has frames.
const MAX_PIECES: usize = WINDOW + MAX_FRAMES;
/// Where in its first frame a packet is read to, header first.
const START: usize = HEADROOM - VIRTIO_HEADER_LEN;
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
            Box::new(Queue { tap, whole, gathering, broken: false }) as Box<dyn PortQueue>
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
        let header = virtio::header_of(packet, area).to_bytes();
        let (offset, len) = (packet.offset as usize, packet.len as usize);
        let chunk = area.chunk_mut(&mut packet.frame);
        let message = offset.checked_sub(VIRTIO_HEADER_LEN).and_then(|at| chunk.get_mut(at..offset + len));
        let message = message.ok_or(DropReason::NoHeadroom)?;
        message[..VIRTIO_HEADER_LEN].copy_from_slice(&header);
        let packet = &window[slot];
        if !area.is_chain(&packet.frame) && (!gathered || packet.gso == Gso::default()) {
            let chunk = area.chunk(&packet.frame);
            return self
                .tap
                .write(&chunk[offset - VIRTIO_HEADER_LEN..offset + len])
                .map(drop)
                .map_err(reason);
        }
        let mut slices = [IoSlice::new(&[]); MAX_PIECES];
        let start = (offset - VIRTIO_HEADER_LEN) as u16;
        let own = area.runs(&packet.frame, start, packet.len + VIRTIO_HEADER_LEN as u16);
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

impl PortQueue for Queue {
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        let frame_size = io.pool.area().frame_size();
        let frames = match self.whole {
            Whole::Packets => 1,
            _ => frames_for(MAX_PACKET, frame_size),
        };
        let frame_size = frame_size as usize;
        let (mut received, mut bytes) = (0, 0);
        while burst.room() > 0 && bytes < BURST_BYTES {
            let mut slices: [IoSliceMut<'_>; MAX_FRAMES] = core::array::from_fn(|_| IoSliceMut::new(&mut []));
            let (count, room) = io.pool.stage_room(frames, START, &mut slices);
            let short = START + room < frames * frame_size;
            if count == 0 {
                break;
            }
            let read = match self.tap.readv(&mut slices[..count]) {
                Ok(read) if read > VIRTIO_HEADER_LEN => read - VIRTIO_HEADER_LEN,
                outcome => {
                    // EBADFD: the device was deleted. It stays readable for ever, so
                    // the worker must stop waiting for it.
                    let waits = |error: &std::io::Error| {
                        matches!(
                            error.kind(),
                            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                        )
                    };
                    self.broken = outcome.is_err_and(|error| !waits(&error));
                    break;
                }
            };
            bytes += read;
            if short && read + VIRTIO_HEADER_LEN == room {
                // The router is out of frames, and the packet's end is lost.
                let counters = io.counters.port(port);
                counters.rx_packets.add(1);
                counters.rx_bytes.add(read as u64);
                io.counters.drops(port, DropReason::NoFrame).add(1);
                break;
            }
            push(burst, io.pool, read, port);
            received += 1;
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
            for slot in 0..count {
                if gathered && self.gathering.is_member(slot) {
                    continue;
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

/// Puts the packet of `read` bytes that was read into the next frames of the pool into the burst.
#[inline]
fn push(burst: &mut Burst, pool: &mut FramePool, read: usize, port: PortId) {
    let Some(head) = pool.alloc() else { return };
    let header = pool.area().header(&head, START as u16);
    let header = header.map(VirtioHeader::from_bytes).unwrap_or_default();
    let first = read.min(pool.area().capacity());
    let mut chain = Chain::new(head);
    let mut rest = read - first;
    while rest > 0 {
        let Some(frame) = pool.alloc() else { break };
        let len = rest.min(pool.area().frame_size() as usize);
        // Headers are put in front of the head only: the others are used whole.
        chain.append(pool.area(), frame, 0, len as u16);
        rest -= len;
    }
    let Ok(lane) = burst.push(chain.finish(), HEADROOM as u16, first as u16, port) else { return };
    if read > first {
        burst.set_chained(lane, read - first);
    }
    if header != VirtioHeader::default() {
        let (checksum, gso) = virtio::offload(&header);
        burst.set_offload(lane, checksum, gso);
    }
}

/// Why a frame could not be written.
#[cold]
fn reason(error: std::io::Error) -> DropReason {
    match error.kind() {
        std::io::ErrorKind::WouldBlock => DropReason::TxFull,
        std::io::ErrorKind::InvalidInput => DropReason::TooBigForPort,
        // The device is down (EIO) or deleted (EBADFD).
        _ => DropReason::PortDown,
    }
}
