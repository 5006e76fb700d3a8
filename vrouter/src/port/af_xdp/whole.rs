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
use crate::port::messages::{self, MAX_FRAMES};
use crate::port::virtio;
use crate::sys::OsError;
use crate::sys::packet_socket::Sender;
use crate::sys::tun::VIRTIO_HEADER_LEN;

/// Sends super-packets as they are.
#[derive(Debug)]
pub(super) struct Whole {
    socket: Sender,
}

impl Whole {
    /// A sender on the device `ifindex`.
    ///
    /// # Errors
    /// What opening a packet socket says.
    pub(super) fn open(ifindex: u32) -> Result<Self, OsError> {
        Ok(Whole { socket: Sender::open(ifindex)? })
    }

    /// Sends a super-packet; whether the kernel took it. If not, it is still to be cut up.
    pub(super) fn send(&self, area: &FrameArea, packet: &mut TxPacket) -> bool {
        if virtio::is_tunnelled(packet, area) {
            return false;
        }
        let Ok(start) = messages::put_header(packet, area) else { return false };
        let mut slices = [IoSlice::new(&[]); MAX_FRAMES];
        let mut count = 0;
        let pieces = area.runs(&packet.frame, start, packet.len + VIRTIO_HEADER_LEN as u16);
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        self.socket.send(&slices[..count], &[count as u16]).is_ok()
    }
}
