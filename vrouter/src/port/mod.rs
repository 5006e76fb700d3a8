//! Ports: where packets enter and leave.
//!
//! | kind            | rx                          | tx                          | waits on   |
//! |-----------------|-----------------------------|-----------------------------|------------|
//! | [`af_xdp`]      | ring shared with the kernel | ring + one `sendto` a batch; super-packets of a veth: `writev` | the socket |
//! | [`packet_socket`] | `recvmmsg` into frames    | `sendmmsg` from frames      | the socket |
//! | [`tap`]         | `read` into frames          | `write` from frames         | the fd     |
//! | [`memory`]      | in-process queue            | in-process queue            | nothing    |
//! | [`synthetic`]   | makes packets               | frees packets               | nothing    |
//!
//! The unit of ownership is the queue: one worker owns it and calls it once per
//! burst. Nothing in a queue is shared with another worker, and moving a queue to
//! another worker moves the value.
//!
//! Super-packets stay whole up to the port: `segments` cuts them up for those that cannot
//! take them, `gather` makes some for those that can, `virtio` tells the kernel of them.
//!
//! `crate::sys` is the operating system's side and the only part with `unsafe` code.

pub mod af_xdp;
mod gather;
pub mod memory;
pub mod messages;
pub mod packet_socket;
mod segments;
pub mod synthetic;
pub mod tap;
mod virtio;

use std::os::fd::BorrowedFd;

use crate::burst::{Burst, TxPacket};
use crate::counters::WorkerCounters;
use crate::drop_reason::DropReason;
use crate::frame::FramePool;
use crate::ids::PortId;

/// What a queue may use while it is called.
pub struct QueueIo<'a> {
    /// The calling worker's free frames.
    pub pool: &'a mut FramePool,
    /// The calling worker's counters.
    pub counters: &'a WorkerCounters,
}

impl QueueIo<'_> {
    /// Counts a packet that the port could not send and frees its frame.
    pub fn drop_tx(&mut self, packet: TxPacket, reason: DropReason) {
        self.counters.drops(packet.in_port, reason).add(1);
        self.pool.free(packet.frame);
    }
}

/// Losses that the kernel counted on its side of a queue, in packets since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KernelLosses {
    /// The receive ring was full.
    pub rx_ring_full: u64,
    /// No frame was waiting in the fill ring.
    pub rx_fill_empty: u64,
    /// Dropped on receive for other reasons.
    pub rx_dropped: u64,
    /// Addresses in the fill ring that the kernel refused.
    pub rx_invalid: u64,
    /// Descriptors that the kernel refused to send.
    pub tx_invalid: u64,
    /// Times that the kernel found nothing to send: no loss.
    pub tx_empty: u64,
}

impl core::ops::Sub for KernelLosses {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        KernelLosses {
            rx_ring_full: self.rx_ring_full.saturating_sub(before.rx_ring_full),
            rx_fill_empty: self.rx_fill_empty.saturating_sub(before.rx_fill_empty),
            rx_dropped: self.rx_dropped.saturating_sub(before.rx_dropped),
            rx_invalid: self.rx_invalid.saturating_sub(before.rx_invalid),
            tx_invalid: self.tx_invalid.saturating_sub(before.tx_invalid),
            tx_empty: self.tx_empty.saturating_sub(before.tx_empty),
        }
    }
}

impl core::ops::AddAssign for KernelLosses {
    fn add_assign(&mut self, other: Self) {
        self.rx_ring_full += other.rx_ring_full;
        self.rx_fill_empty += other.rx_fill_empty;
        self.rx_dropped += other.rx_dropped;
        self.rx_invalid += other.rx_invalid;
        self.tx_invalid += other.tx_invalid;
        self.tx_empty += other.tx_empty;
    }
}

/// One queue of a port, owned by one worker.
pub trait PortQueue: Send {
    /// Receives up to `burst.room()` packets into the burst; returns how many.
    /// Frames start at the Ethernet header.
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize;

    /// Sends the batch, in order, and empties it: what the port does not take is
    /// dropped with its reason by [`QueueIo::drop_tx`]. Returns (packets, bytes) sent.
    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64);

    /// Whether half of the room for packets that wait to be received is taken, as far as that can be
    /// told without a system call.
    fn is_half_full(&mut self) -> bool {
        false
    }

    /// What to wait on for packets. `None` where the queue must be polled.
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether receiving costs a system call even when nothing is there: such
    /// queues are called only when their descriptor is ready.
    fn rx_needs_readiness(&self) -> bool {
        false
    }

    /// Called when the worker is about to block: last chance to arm wake-ups.
    /// Returns true if packets are there after all.
    fn before_wait(&mut self, io: &mut QueueIo<'_>) -> bool {
        let _ = io;
        false
    }

    /// Hands over to the other side what still waits to be sent, and gives it frames to go on
    /// receiving into. Returns whether nothing is left to be sent. Called again and again while
    /// nothing is received or sent for now.
    fn drain(&mut self, io: &mut QueueIo<'_>) -> bool {
        let _ = io;
        true
    }

    /// Whether the other side is gone for good: nothing will ever be received.
    fn is_broken(&self) -> bool {
        false
    }

    /// Frames given to the kernel or to a peer and not back yet.
    fn outstanding(&self) -> usize {
        0
    }

    /// Losses on the kernel's side.
    fn kernel_losses(&self) -> KernelLosses {
        KernelLosses::default()
    }

    /// Ends the queue: every frame it holds goes back to the pool.
    fn close(self: Box<Self>, pool: &mut FramePool);
}
