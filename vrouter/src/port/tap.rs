//! Tap: a device of the kernel whose other end is a file descriptor.
//!
//! Each read and write carries one frame behind a virtio-net header, which tells
//! whose duty the checksum is: a partial checksum travels through the router as it
//! is and is finished by whoever has to (RFC 1071 sums are additive). The frame is
//! read into, and written from, the router's own memory.

use std::os::fd::{AsFd, BorrowedFd};

use crate::burst::{Burst, Checksum, Gso, TxPacket};
use crate::drop_reason::DropReason;
use crate::frame::{FramePool, HEADROOM};
use crate::ids::PortId;
use crate::port::{PortQueue, QueueIo};
use crate::sys::tun::{Tap, TapOffload, VIRTIO_HEADER_LEN, VirtioHeader};

/// One queue of a tap.
#[derive(Debug)]
pub struct Queue {
    tap: Tap,
    broken: bool,
}

/// The queues of open taps, which may leave checksums to us from now on.
pub(crate) fn queues(taps: Vec<Tap>) -> Vec<Box<dyn PortQueue>> {
    if let [first, _, ..] = taps.as_slice()
        && let Err(error) = first.steer_by_flow()
    {
        // Packets pass without it; those of a flow may overtake each other.
        tracing::warn!("{error}");
    }
    taps.into_iter()
        .map(|tap| {
            // Without the offload the stack completes every checksum: correct, slower.
            let _ = tap.set_offload(TapOffload::CSUM);
            Box::new(Queue { tap, broken: false }) as Box<dyn PortQueue>
        })
        .collect()
}

impl PortQueue for Queue {
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        let mut received = 0;
        while burst.room() > 0 {
            let Some(mut frame) = io.pool.alloc() else { break };
            let buffer = &mut io.pool.area().chunk_mut(&mut frame)[HEADROOM - VIRTIO_HEADER_LEN..];
            let read = match self.tap.read(buffer) {
                Ok(read) if read > VIRTIO_HEADER_LEN => read - VIRTIO_HEADER_LEN,
                outcome => {
                    io.pool.free(frame);
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
            let header = buffer.first_chunk().map(VirtioHeader::from_bytes);
            let Ok(lane) = burst.push(frame, HEADROOM as u16, read as u16, port) else { break };
            if let Some(header) = header
                && header.flags & VirtioHeader::NEEDS_CHECKSUM != 0
            {
                let partial = Checksum::Partial {
                    start: (HEADROOM as u16).saturating_add(header.csum_start),
                    field: header.csum_offset,
                };
                burst.set_offload(lane, partial, Gso::default());
            }
            received += 1;
        }
        received
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        let (mut packets, mut bytes) = (0, 0);
        for mut packet in batch.drain(..) {
            if packet.gso != Gso::default() || io.pool.area().is_chain(&packet.frame) {
                io.drop_tx(packet, DropReason::TooBigForPort);
                continue;
            }
            let header = match packet.checksum {
                Checksum::Complete => VirtioHeader::default(),
                Checksum::Partial { start, field } => VirtioHeader {
                    flags: VirtioHeader::NEEDS_CHECKSUM,
                    csum_start: start - packet.offset,
                    csum_offset: field,
                    ..VirtioHeader::default()
                },
            };
            let (offset, len) = (packet.offset as usize, packet.len as usize);
            let chunk = io.pool.area().chunk_mut(&mut packet.frame);
            let Some(message) =
                offset.checked_sub(VIRTIO_HEADER_LEN).and_then(|at| chunk.get_mut(at..offset + len))
            else {
                io.drop_tx(packet, DropReason::NoHeadroom);
                continue;
            };
            message[..VIRTIO_HEADER_LEN].copy_from_slice(&header.to_bytes());
            match self.tap.write(message) {
                Ok(_) => {
                    packets += 1;
                    bytes += len as u64;
                    io.pool.free(packet.frame);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    io.drop_tx(packet, DropReason::TxFull);
                }
                Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                    io.drop_tx(packet, DropReason::TooBigForPort);
                }
                // The device is down (EIO) or deleted (EBADFD).
                Err(_) => io.drop_tx(packet, DropReason::PortDown),
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
