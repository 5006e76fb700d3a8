//! Super-packets past the AF_XDP socket: by a packet socket, which leaves segmentation to the kernel.
//!
//! ```text
//!   super-packet --> packet socket --> one segmentation, one receive interrupt  --+--> device
//!   packet ------> transmit ring --> one allocation, one interrupt for each     --+
//! ```
//!
//! In copy mode the kernel makes a socket buffer of each packet in the ring and, on a veth, ends each
//! with a pass of the receiver's interrupt. A super-packet costs that once; a receiver without XDP even
//! gets it whole. Both ways lead through the device's only queue, and the ring is emptied first, so
//! that no packet passes another.

use std::io::IoSlice;

use crate::burst::TxPacket;
use crate::frame::FrameArea;
use crate::frame::chain::{MAX_PACKET, frames_for};
use crate::port::virtio;
use crate::sys::OsError;
use crate::sys::packet_sender::PacketSender;

/// Bytes of the header in front: without its last field, which packet sockets do not have by default.
const HEADER_LEN: usize = 10;
/// The header, and the frames of the longest packet.
const MAX_PIECES: usize = 1 + frames_for(MAX_PACKET, 2048);

/// Sends super-packets as they are.
#[derive(Debug)]
pub(super) struct Whole {
    socket: PacketSender,
}

impl Whole {
    /// A sender on the device `ifindex`.
    ///
    /// # Errors
    /// What opening a packet socket says.
    pub(super) fn open(ifindex: u32) -> Result<Self, OsError> {
        Ok(Whole { socket: PacketSender::open(ifindex)? })
    }

    /// Sends a super-packet; whether the kernel took it. If not, it is still to be cut up.
    pub(super) fn send(&self, area: &FrameArea, packet: &TxPacket) -> bool {
        if virtio::is_tunnelled(packet, area) {
            return false;
        }
        let header = virtio::header_of(packet, area).to_bytes();
        let mut slices = [IoSlice::new(&[]); MAX_PIECES];
        slices[0] = IoSlice::new(&header[..HEADER_LEN]);
        let mut count = 1;
        for (slice, piece) in slices[1..].iter_mut().zip(area.runs(&packet.frame, packet.offset, packet.len))
        {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        self.socket.send(&slices[..count]).is_ok()
    }
}
