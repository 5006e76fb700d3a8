//! The stamp in each packet: a mark, a sequence number, the time of sending.
//!
//! ```text
//!   | mark 2 | sequence 8 | nanoseconds of the monotonic clock 8 |     big endian
//! ```
//!
//! It fits the smallest IPv4 frame. The time is that of the sender's machine: latency is
//! right where sender and receiver run on one machine.

use encap::wire::{ipv4, ipv6, protocol};

/// Bytes of a stamp.
pub(crate) const STAMP_LEN: usize = 18;
const MARK: [u8; 2] = *b"vR";
/// FNV-1a of addresses and ports tells flows apart.
const FLOW_SEED: u64 = 0xcbf2_9ce4_8422_2325;
const FLOW_FACTOR: u64 = 0x100_0000_01b3;

/// What a packet says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// Number of the packet, from 0.
    pub(crate) sequence: u64,
    /// When it was sent.
    pub(crate) sent_ns: u64,
}

impl Stamp {
    /// Writes the stamp to the start of a UDP payload.
    pub(crate) fn write(&self, out: &mut [u8]) {
        out[..2].copy_from_slice(&MARK);
        out[2..10].copy_from_slice(&self.sequence.to_be_bytes());
        out[10..18].copy_from_slice(&self.sent_ns.to_be_bytes());
    }

    /// The stamp of a received frame and a number that tells its flow from others; `None` where it is
    /// not one of ours.
    pub(crate) fn find(frame: &[u8]) -> Option<(Stamp, u64)> {
        let packet = frame.get(14..)?;
        let udp = match frame.get(12..14)? {
            [8, 0] => {
                let ip = ipv4::Ipv4::new_checked(packet).ok()?;
                (ip.protocol() == protocol::UDP).then_some(())?;
                packet.get(ip.header_len()..)?
            }
            [0x86, 0xdd] => {
                let ip = ipv6::Ipv6::new_checked(packet).ok()?;
                (ip.next_header() == protocol::UDP).then_some(())?;
                packet.get(40..)?
            }
            _ => return None,
        };
        let stamp = udp.get(8..)?.first_chunk::<STAMP_LEN>()?;
        let number = |at: usize| stamp[at..at + 8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let addresses = if frame[12] == 8 { &packet[12..20] } else { &packet[8..40] };
        let flow = [addresses, &udp[..4]]
            .into_iter()
            .flatten()
            .fold(FLOW_SEED, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(FLOW_FACTOR));
        (stamp[..2] == MARK).then(|| (Stamp { sequence: number(2), sent_ns: number(10) }, flow))
    }
}
