//! ARP for IPv4 over Ethernet (RFC 826; address conflict detection: RFC 5227).
//!
//! ```text
//!    0      2      4    5    6      8            14         18           24         28
//!   +------+------+----+----+------+------------+----------+------------+----------+
//!   |htype | ptype|hlen|plen|  op  |    sha     |   spa    |    tha     |   tpa    |
//!   |  1   |0x800 | 6  | 4  | 1, 2 | sender MAC | sender IP| target MAC | target IP|
//!   +------+------+----+----+------+------------+----------+------------+----------+
//! ```

use core::net::Ipv4Addr;

use super::MacAddr;
use super::field::{array, get16, put, put16};
use crate::ParseError;

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const PACKET_LEN: usize = 28;

mod field {
    pub(super) const HTYPE: usize = 0;
    pub(super) const PTYPE: usize = 2;
    pub(super) const HLEN: usize = 4;
    pub(super) const PLEN: usize = 5;
    pub(super) const OPERATION: usize = 6;
    pub(super) const SHA: usize = 8;
    pub(super) const SPA: usize = 14;
    pub(super) const THA: usize = 18;
    pub(super) const TPA: usize = 24;
}

const ETHERNET: u16 = 1;
const IPV4: u16 = 0x0800;

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug)]
pub struct ArpPacket<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> ArpPacket<T> {
    /// A view of `buffer`; link padding behind the packet is allowed.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 28 bytes, [`ParseError::Malformed`] for other hardware or protocol types or
    /// address lengths.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let bytes = buffer.as_ref();
        if bytes.len() < PACKET_LEN {
            return Err(ParseError::Truncated);
        }
        if get16(bytes, field::HTYPE) != ETHERNET
            || get16(bytes, field::PTYPE) != IPV4
            || bytes[field::HLEN] != 6
            || bytes[field::PLEN] != 4
        {
            return Err(ParseError::Malformed);
        }
        Ok(ArpPacket { buffer })
    }

    /// The operation code: 1 request, 2 reply, others exist (RARP, InARP).
    #[inline]
    pub fn operation(&self) -> u16 {
        get16(self.buffer.as_ref(), field::OPERATION)
    }

    /// The sender's MAC address.
    #[inline]
    pub fn sha(&self) -> MacAddr {
        MacAddr(array(self.buffer.as_ref(), field::SHA))
    }

    /// The sender's IPv4 address; unspecified in a probe (RFC 5227 §1.1).
    #[inline]
    pub fn spa(&self) -> Ipv4Addr {
        Ipv4Addr::from(array(self.buffer.as_ref(), field::SPA))
    }

    /// The target's MAC address; meaningless in a request.
    #[inline]
    pub fn tha(&self) -> MacAddr {
        MacAddr(array(self.buffer.as_ref(), field::THA))
    }

    /// The target's IPv4 address: what a request asks for.
    #[inline]
    pub fn tpa(&self) -> Ipv4Addr {
        Ipv4Addr::from(array(self.buffer.as_ref(), field::TPA))
    }
}

/// The two ARP operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ArpOperation {
    /// Who has `tpa`? Tell `spa`.
    Request = 1,
    /// `spa` is at `sha`.
    Reply = 2,
}

/// An ARP request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArpRepr {
    /// Request or reply.
    pub operation: ArpOperation,
    /// The sender's MAC address.
    pub sha: MacAddr,
    /// The sender's IPv4 address.
    pub spa: Ipv4Addr,
    /// The target's MAC address; [`MacAddr::ZERO`] in a request.
    pub tha: MacAddr,
    /// The target's IPv4 address.
    pub tpa: Ipv4Addr,
}

impl ArpRepr {
    /// Reads a packet.
    ///
    /// # Errors
    /// As [`ArpPacket::new_checked`]; also [`ParseError::Malformed`] for an operation that is neither request nor reply,
    /// and for a sender whose MAC address is not one station's: no cache may learn it (RFC 1812 §3.3.2).
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<ArpRepr, ParseError> {
        let packet = ArpPacket::new_checked(bytes)?;
        let operation = match packet.operation() {
            1 => ArpOperation::Request,
            2 => ArpOperation::Reply,
            _ => return Err(ParseError::Malformed),
        };
        if !packet.sha().is_unicast() {
            return Err(ParseError::Malformed);
        }
        Ok(ArpRepr { operation, sha: packet.sha(), spa: packet.spa(), tha: packet.tha(), tpa: packet.tpa() })
    }

    /// Writes the packet into the first 28 bytes of `out`.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when `out` is shorter.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> Result<(), ParseError> {
        let out = out.first_chunk_mut::<PACKET_LEN>().ok_or(ParseError::Truncated)?;
        put16(out, field::HTYPE, ETHERNET);
        put16(out, field::PTYPE, IPV4);
        out[field::HLEN] = 6;
        out[field::PLEN] = 4;
        put16(out, field::OPERATION, self.operation as u16);
        put(out, field::SHA, &self.sha.0);
        put(out, field::SPA, &self.spa.octets());
        put(out, field::THA, &self.tha.0);
        put(out, field::TPA, &self.tpa.octets());
        Ok(())
    }

    /// The reply to this request: `mac` has the address asked for.
    #[inline]
    pub fn answer(&self, mac: MacAddr) -> ArpRepr {
        ArpRepr { operation: ArpOperation::Reply, sha: mac, spa: self.tpa, tha: self.sha, tpa: self.spa }
    }

    /// The sender asks whether anybody has the address before taking it (RFC 5227 §2.1.1).
    #[inline]
    pub fn is_probe(&self) -> bool {
        self.operation == ArpOperation::Request && self.spa.is_unspecified()
    }

    /// The sender announces its own address (RFC 5227 §2.3): gratuitous ARP, as request or reply.
    #[inline]
    pub fn is_gratuitous(&self) -> bool {
        self.spa == self.tpa
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ArpRepr {
        ArpRepr {
            operation: ArpOperation::Request,
            sha: MacAddr([2, 0, 0, 0, 0, 1]),
            spa: Ipv4Addr::new(10, 100, 36, 103),
            tha: MacAddr::ZERO,
            tpa: Ipv4Addr::new(169, 254, 1, 1),
        }
    }

    fn bytes(repr: &ArpRepr) -> [u8; PACKET_LEN] {
        let mut out = [0; PACKET_LEN];
        repr.emit(&mut out).unwrap();
        out
    }

    #[test]
    fn emitted_packets_parse_back_with_and_without_padding() {
        let repr = request();
        assert_eq!(ArpRepr::parse(&bytes(&repr)), Ok(repr));
        let mut padded = [0xaa; 46];
        repr.emit(&mut padded).unwrap();
        assert_eq!(ArpRepr::parse(&padded), Ok(repr));
        assert_eq!(repr.emit(&mut [0; 27]), Err(ParseError::Truncated));
    }

    #[test]
    fn answer_swaps_the_sides() {
        let gateway = MacAddr([0xee; 6]);
        let reply = request().answer(gateway);
        assert_eq!(reply.operation, ArpOperation::Reply);
        assert_eq!((reply.sha, reply.spa), (gateway, request().tpa));
        assert_eq!((reply.tha, reply.tpa), (request().sha, request().spa));
    }

    #[test]
    fn only_ipv4_over_ethernet_is_taken() {
        for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3), (7, 0), (6, 1)] {
            let mut packet = bytes(&request());
            packet[at] = value;
            assert_eq!(ArpRepr::parse(&packet), Err(ParseError::Malformed), "byte {at}");
        }
        assert_eq!(ArpRepr::parse(&bytes(&request())[..27]), Err(ParseError::Truncated));
    }

    #[test]
    fn a_group_address_as_sender_is_refused() {
        for mac in [MacAddr::BROADCAST, MacAddr::ZERO, MacAddr([1, 0, 0x5e, 0, 0, 1])] {
            let repr = ArpRepr { sha: mac, ..request() };
            assert_eq!(ArpRepr::parse(&bytes(&repr)), Err(ParseError::Malformed));
        }
    }

    #[test]
    fn probes_and_announcements_are_told_apart() {
        let probe = ArpRepr { spa: Ipv4Addr::UNSPECIFIED, ..request() };
        let announcement = ArpRepr { tpa: request().spa, ..request() };
        assert!(probe.is_probe() && !probe.is_gratuitous());
        assert!(announcement.is_gratuitous() && !announcement.is_probe());
        assert!(!request().is_probe() && !request().is_gratuitous());
    }
}
