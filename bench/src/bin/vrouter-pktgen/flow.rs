//! Flows: which addresses and ports the packets carry, and the frames themselves.
//!
//! ```text
//!   | Ethernet 14 | IPv4 20 or IPv6 40 | UDP 8 | stamp 18 | zeros up to the frame size |
//! ```
//!
//! Packet n belongs to flow n modulo the number of flows; flows count through sources
//! first, then destinations, source ports and destination ports.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use encap::MacAddr;
use encap::wire::ethernet::{self, EtherType};
use encap::wire::{checksum, protocol};

use crate::stamp::{STAMP_LEN, Stamp};

const UDP_LEN: usize = 8;
const TTL: u8 = 64;

/// Consecutive addresses of one family: `ADDRESS` or `FIRST-LAST`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Addresses {
    first: IpAddr,
    count: u64,
}

impl Addresses {
    fn at(&self, index: u64) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) + index as u32).into(),
            IpAddr::V6(first) => Ipv6Addr::from(u128::from(first) + u128::from(index)).into(),
        }
    }
}

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |part: &str| part.parse::<IpAddr>().map_err(|error| format!("{part}: {error}"));
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (parse(first)?, parse(last)?),
            None => (parse(text)?, parse(text)?),
        };
        let distance = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                u32::from(last).checked_sub(u32::from(first)).map(u128::from)
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => u128::from(last).checked_sub(u128::from(first)),
            _ => return Err(format!("{text}: both ends of a range are of one family")),
        };
        let distance = distance.ok_or_else(|| format!("{text}: the range ends before it begins"))?;
        match u64::try_from(distance) {
            Ok(distance) if distance < 1 << 32 => Ok(Addresses { first, count: distance + 1 }),
            _ => Err(format!("{text}: more than 2^32 addresses")),
        }
    }
}

/// Consecutive ports: `PORT` or `FIRST-LAST`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ports {
    first: u16,
    count: u64,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |part: &str| part.parse::<u16>().map_err(|error| format!("{part}: {error}"));
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (parse(first)?, parse(last)?),
            None => (parse(text)?, parse(text)?),
        };
        match last.checked_sub(first) {
            Some(distance) => Ok(Ports { first, count: u64::from(distance) + 1 }),
            None => Err(format!("{text}: the range ends before it begins")),
        }
    }
}

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Flows {
    sources: Addresses,
    destinations: Addresses,
    source_ports: Ports,
    destination_ports: Ports,
    /// Length of the frames without FCS.
    len: usize,
}

impl Flows {
    /// Flows of frames of `size` bytes, FCS included; `None`: the smallest possible.
    ///
    /// # Errors
    /// Families differ, or a frame of that size has no room for the headers and the stamp.
    pub(crate) fn new(
        sources: Addresses,
        destinations: Addresses,
        source_ports: Ports,
        destination_ports: Ports,
        size: Option<usize>,
    ) -> Result<Self, String> {
        if sources.first.is_ipv4() != destinations.first.is_ipv4() {
            return Err("--src and --dst are of one address family".to_owned());
        }
        let headers = if sources.first.is_ipv4() { 20 } else { 40 };
        let least = ethernet::HEADER_LEN + headers + UDP_LEN + STAMP_LEN + 4;
        let size = size.unwrap_or(least.max(64));
        if size < least || size > 1518 {
            return Err(format!("frame size {size}: it is from {least} to 1518 bytes, FCS included"));
        }
        Ok(Flows { sources, destinations, source_ports, destination_ports, len: size - 4 })
    }

    /// Number of different flows.
    pub(crate) fn count(&self) -> u64 {
        [self.destinations.count, self.source_ports.count, self.destination_ports.count]
            .into_iter()
            .fold(self.sources.count, u64::saturating_mul)
    }

    /// Writes packet number `stamp.sequence` into `out`; returns its length.
    pub(crate) fn write(&self, out: &mut [u8], macs: (MacAddr, MacAddr), stamp: &Stamp) -> usize {
        let mut at = stamp.sequence;
        let mut next = |count: u64| {
            let index = at % count;
            at /= count;
            index
        };
        let source = self.sources.at(next(self.sources.count));
        let destination = self.destinations.at(next(self.destinations.count));
        let source_port = self.source_ports.first + next(self.source_ports.count) as u16;
        let destination_port = self.destination_ports.first + next(self.destination_ports.count) as u16;

        let frame = &mut out[..self.len];
        frame.fill(0);
        let (header, packet) = frame.split_at_mut(ethernet::HEADER_LEN);
        let v4 = source.is_ipv4();
        let ethertype = if v4 { EtherType::IPV4 } else { EtherType::IPV6 };
        if let Some(header) = header.first_chunk_mut() {
            ethernet::write_header(header, macs.0, macs.1, ethertype);
        }
        let (ip, udp) = packet.split_at_mut(if v4 { 20 } else { 40 });
        let (udp_len, total) = (udp.len() as u16, (ip.len() + udp.len()) as u16);
        udp[..2].copy_from_slice(&source_port.to_be_bytes());
        udp[2..4].copy_from_slice(&destination_port.to_be_bytes());
        udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
        stamp.write(&mut udp[UDP_LEN..]);
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ip[0] = 0x45;
                ip[2..4].copy_from_slice(&total.to_be_bytes());
                ip[8] = TTL;
                ip[9] = protocol::UDP;
                ip[12..16].copy_from_slice(&source.octets());
                ip[16..20].copy_from_slice(&destination.octets());
                let sum = checksum::checksum(ip);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                // A UDP checksum of zero means none (RFC 768); over IPv6 it is mandatory.
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ip[0] = 0x60;
                ip[4..6].copy_from_slice(&udp_len.to_be_bytes());
                ip[6] = protocol::UDP;
                ip[7] = TTL;
                ip[8..24].copy_from_slice(&source.octets());
                ip[24..40].copy_from_slice(&destination.octets());
                let pseudo = checksum::pseudo_v6(source, destination, protocol::UDP, u32::from(udp_len));
                let sum = match !checksum::fold(pseudo + checksum::sum(udp)) {
                    0 => 0xffff,
                    sum => sum,
                };
                udp[6..8].copy_from_slice(&sum.to_be_bytes());
            }
            _ => unreachable!("`new` compared the families"),
        }
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use encap::wire::{ipv4, ipv6};

    fn flows(src: &str, dst: &str, size: usize) -> Flows {
        let ports = |text: &str| text.parse().unwrap();
        Flows::new(src.parse().unwrap(), dst.parse().unwrap(), ports("1-3"), ports("9"), Some(size)).unwrap()
    }

    #[test]
    fn ranges_say_what_is_wrong_with_them() {
        assert_eq!("10.0.0.1-10.0.0.4".parse::<Addresses>().unwrap().count, 4);
        for (text, part) in
            [("10.0.0.2-10.0.0.1", "ends before"), ("10.0.0.1-::1", "one family"), ("x", "invalid")]
        {
            assert!(text.parse::<Addresses>().unwrap_err().contains(part), "{text}");
        }
        assert!("5-4".parse::<Ports>().is_err());
    }

    #[test]
    fn every_flow_is_sent_and_every_frame_is_sound() {
        for (src, dst, least) in
            [("10.0.0.1-10.0.0.2", "10.1.0.1-10.1.0.2", 64), ("fd00::1-fd00::2", "fd01::1-fd01::2", 84)]
        {
            let flows = flows(src, dst, least);
            assert_eq!(flows.count(), 12);
            let mut seen = std::collections::BTreeSet::new();
            for sequence in 0..12 {
                let mut out = [0xff; 128];
                let stamp = Stamp { sequence, sent_ns: 5 };
                let len = flows.write(&mut out, (MacAddr([2; 6]), MacAddr([4; 6])), &stamp);
                assert_eq!(len, least - 4);
                let packet = &out[14..len];
                if src.contains('.') {
                    let ip = ipv4::Ipv4::new_checked(packet).unwrap();
                    assert!(ip.verify_checksum());
                } else {
                    let ip = ipv6::Ipv6::new_checked(packet).unwrap();
                    let pseudo = ip.pseudo_sum(protocol::UDP, u32::from(ip.payload_len()));
                    assert_eq!(checksum::fold(pseudo + checksum::sum(ip.payload())), 0xffff);
                }
                assert_eq!(Stamp::find(&out[..len]), Some(stamp));
                seen.insert(packet[..len - 14 - STAMP_LEN].to_vec());
            }
            assert_eq!(seen.len(), 12);
        }
        assert!(
            Flows::new(
                "::1".parse().unwrap(),
                "::2".parse().unwrap(),
                "1".parse().unwrap(),
                "1".parse().unwrap(),
                Some(64)
            )
            .is_err()
        );
    }
}
