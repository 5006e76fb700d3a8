//! What is left to be done on a packet for the port that takes it out, and a packet on its way there.

use crate::frame::Frame;
use crate::ids::PortId;

/// What is known of a packet's transport checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksum {
    /// The bytes hold the complete checksum, right or wrong: nobody touches it.
    #[default]
    Complete,
    /// The field holds the folded pseudo-header sum; the sum over everything from
    /// `start` on is still to be added and stored at `start + field`.
    Partial {
        /// Where summing starts, from the first byte of the frame chunk.
        start: u16,
        /// Where the checksum lies, from `start`.
        field: u16,
    },
}

/// Segmentation that is still to be done on a super-packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GsoKind {
    /// An ordinary packet.
    #[default]
    None,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP, one datagram a segment.
    Udp,
}

/// Segmentation state of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gso {
    /// What is to be segmented.
    pub kind: GsoKind,
    /// Payload bytes of each segment.
    pub size: u16,
}

impl Gso {
    /// An ordinary packet.
    pub const NONE: Gso = Gso { kind: GsoKind::None, size: 0 };
}

/// One packet on its way to a port: what transmit needs, and nothing else.
#[derive(Debug)]
pub struct TxPacket {
    /// The frame, head of its chain.
    pub frame: Frame,
    /// First byte of the Ethernet header, from the start of the chunk.
    pub offset: u16,
    /// Bytes in the head frame, from `offset`.
    pub len: u16,
    /// The port where the packet entered, or for which it was made.
    pub in_port: PortId,
    /// Transport checksum still to be finished.
    pub checksum: Checksum,
    /// Segmentation still to be done.
    pub gso: Gso,
}

impl TxPacket {
    /// Takes the packet out, leaving one without a frame.
    #[inline]
    pub(crate) fn take(&mut self) -> TxPacket {
        TxPacket {
            frame: self.frame.take(),
            offset: self.offset,
            len: self.len,
            in_port: self.in_port,
            checksum: self.checksum,
            gso: self.gso,
        }
    }
}
