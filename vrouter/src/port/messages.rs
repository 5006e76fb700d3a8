//! Packets as messages of a descriptor: behind a virtio-net header, in frames.
//!
//! ```text
//!   frame:  | headroom ......... header | Ethernet, IP, ... first bytes |  --> | further bytes .......... |
//! ```
//!
//! Taps and packet sockets carry such messages. The header, which tells whose duty the checksum and the
//! segmentation are, is read into, and written from, the headroom in front of the packet.
//!
//! How long the next packet is, nobody says before it is read. Small ones are read into a buffer that has
//! room for any and copied from there: the kernel takes longer over a second buffer than the copy does.
//! Once one was longer than a frame, `Reading` offers the kernel frames for a packet as long as the
//! longest of late, and the buffer behind them: none is cut short, and only what nobody expected is copied.
//! `bench/tap-io` has measured the ways.

use std::io::{self, IoSliceMut};

use crate::burst::{Burst, Checksum, Gso, TxPacket};
use crate::drop_reason::DropReason;
use crate::frame::chain::{Chain, MAX_PACKET, frames_for};
use crate::frame::{Frame, FrameArea, FramePool, HEADROOM};
use crate::ids::PortId;
use crate::port::{QueueIo, virtio};
use crate::sys::tun::{VIRTIO_HEADER_LEN, VirtioHeader};

/// Where in its first frame a message begins.
const START: usize = HEADROOM - VIRTIO_HEADER_LEN;
/// Frames of the longest packet, of the smallest frames.
pub(crate) const MAX_FRAMES: usize = frames_for(MAX_PACKET, 2048);
/// Bytes of the longest message.
pub(crate) const MAX_MESSAGE: usize = VIRTIO_HEADER_LEN + MAX_PACKET;
/// Reads after which the room that none of them needed is given up.
const MEMORY: u32 = 64;

/// How much room packets are read into.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Frames to offer.
    frames: usize,
    /// Reads since `frames` was chosen, and the most frames that one of them took.
    reads: u32,
    most: usize,
    buffer: Box<[u8]>,
}

impl Reading {
    /// For a port that has read nothing yet.
    pub(crate) fn new() -> Self {
        Reading { frames: 1, reads: 0, most: 1, buffer: vec![0; MAX_MESSAGE].into() }
    }

    /// Whether late packets took more than a frame.
    pub(crate) fn is_long(&self) -> bool {
        self.frames > 1
    }

    /// Reads a packet by `readv` into the burst. Returns its bytes and whether it is there, which it is
    /// not where frames are missing; `None` where there is not even one.
    ///
    /// # Errors
    /// Those of `readv`.
    #[inline]
    pub(crate) fn one(
        &mut self,
        port: PortId,
        burst: &mut Burst,
        io: &mut QueueIo<'_>,
        readv: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<Option<(usize, bool)>> {
        let offered = io.pool.stage(self.frames).1.len();
        let (len, there) = match offered {
            0 => return Ok(None),
            1 => {
                let read = readv(&mut [IoSliceMut::new(&mut self.buffer)])?;
                let message = self.buffer.get(..read).ok_or(io::ErrorKind::InvalidData)?;
                (packet_len(read)?, copied(port, burst, io, message))
            }
            _ => {
                let mut slices: [_; MAX_FRAMES + 1] = core::array::from_fn(|_| IoSliceMut::new(&mut []));
                let (pieces, _) = io.pool.stage_room(offered, START, &mut slices[..MAX_FRAMES]);
                slices[pieces] = IoSliceMut::new(&mut self.buffer);
                let len = packet_len(readv(&mut slices[..=pieces])?)?;
                let frame = io.pool.alloc().and_then(|head| chain(io.pool, head, len, offered, &self.buffer));
                (len, push(port, burst, io, frame, len))
            }
        };
        self.learn(len, io.pool.area());
        Ok(Some((len, there)))
    }

    /// Takes a packet of so many bytes into account.
    #[inline]
    pub(crate) fn learn(&mut self, len: usize, area: &FrameArea) {
        let used = len.div_ceil(area.capacity());
        if used > self.frames {
            // Longer ones follow, as a stream gains speed.
            (self.frames, self.reads, self.most) = (frames_for(MAX_PACKET, area.frame_size()), 0, 1);
            return;
        }
        if self.frames == 1 {
            return;
        }
        self.most = self.most.max(used);
        self.reads += 1;
        if self.reads == MEMORY {
            (self.frames, self.reads, self.most) = (self.most, 0, 1);
        }
    }
}

/// What the header in front of a packet at [`HEADROOM`] leaves to us.
#[inline]
pub fn offload_of(header: &[u8; VIRTIO_HEADER_LEN]) -> (Checksum, Gso) {
    virtio::offload(&VirtioHeader::from_bytes(header))
}

/// Bytes of the packet in a message.
#[inline]
fn packet_len(message: usize) -> io::Result<usize> {
    message.checked_sub(VIRTIO_HEADER_LEN).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Copies a message into frames and puts its packet into the burst; whether there were frames for it.
#[inline]
pub(crate) fn copied(port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>, message: &[u8]) -> bool {
    let Some(len) = message.len().checked_sub(VIRTIO_HEADER_LEN) else { return false };
    let first = VIRTIO_HEADER_LEN + len.min(io.pool.area().capacity());
    let frame = io.pool.alloc().and_then(|mut head| {
        io.pool.area().bytes_mut(&mut head, START as u16, first as u16).copy_from_slice(&message[..first]);
        chain(io.pool, head, len, 1, &message[first..])
    });
    push(port, burst, io, frame, len)
}

/// The chain of a packet of `len` bytes whose first are in `head`, then in the next frames of the pool,
/// `filled` in all, the rest in a buffer.
#[inline]
fn chain(pool: &mut FramePool, head: Frame, len: usize, filled: usize, mut buffer: &[u8]) -> Option<Frame> {
    let capacity = pool.area().capacity();
    if len <= capacity {
        return Some(head);
    }
    let (mut chain, mut rest) = (Chain::new(head), len - capacity);
    for at in 1.. {
        let Some(mut frame) = pool.alloc() else {
            pool.free(chain.finish());
            return None;
        };
        // Headers are put in front of the head only: the others are used whole.
        let (area, len) = (pool.area(), rest.min(pool.area().frame_size() as usize));
        if at >= filled {
            let (now, later) = buffer.split_at(len.min(buffer.len()));
            area.bytes_mut(&mut frame, 0, now.len() as u16).copy_from_slice(now);
            buffer = later;
        }
        chain.append(area, frame, 0, len as u16);
        rest -= len;
        if rest == 0 {
            break;
        }
    }
    Some(chain.finish())
}

/// Puts a packet of `len` bytes into the burst, or counts it as lost for want of frames.
#[inline]
fn push(port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>, frame: Option<Frame>, len: usize) -> bool {
    let Some(frame) = frame else {
        let counters = io.counters.port(port);
        counters.rx_packets.add(1);
        counters.rx_bytes.add(len as u64);
        io.counters.drops(port, DropReason::NoFrame).add(1);
        return false;
    };
    let header = io.pool.area().header(&frame, START as u16);
    let header = header.copied().unwrap_or_default();
    let first = len.min(io.pool.area().capacity());
    let lane = match burst.push(frame, HEADROOM as u16, first as u16, port) {
        Ok(lane) => lane,
        Err(frame) => {
            io.pool.free(frame);
            return false;
        }
    };
    if len > first {
        burst.set_chained(lane, len - first);
    }
    if header != [0; VIRTIO_HEADER_LEN] {
        let (checksum, gso) = offload_of(&header);
        burst.set_offload(lane, checksum, gso);
    }
    true
}

/// Writes the header in front of a packet; where it begins.
#[inline]
pub(crate) fn put_header(packet: &mut TxPacket, area: &FrameArea) -> Result<u16, DropReason> {
    let header = virtio::header_of(packet, area).to_bytes();
    let start = packet.offset.checked_sub(VIRTIO_HEADER_LEN as u16).ok_or(DropReason::NoHeadroom)?;
    let place = area.header_mut(&mut packet.frame, start).ok_or(DropReason::NoHeadroom)?;
    *place = header;
    Ok(start)
}

#[cfg(test)]
mod tests;
