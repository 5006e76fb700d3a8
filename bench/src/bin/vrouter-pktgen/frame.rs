//! The frames that are sent: their sizes and their bytes.
//!
//! ```text
//!   | Ethernet 14 | IPv4 20 or IPv6 40 | UDP 8 | stamp 18 | zeros up to the frame size |
//! ```

use core::net::IpAddr;
use core::str::FromStr;

use encap::MacAddr;
use encap::wire::ethernet::{self, EtherType};
use encap::wire::{checksum, protocol};

use crate::flow::{Flow, Flows};
use crate::stamp::{STAMP_LEN, Stamp};

/// Bytes of the frame check sequence, which counts but which no port shows.
pub(crate) const FCS: usize = 4;
const UDP_LEN: usize = 8;
const TTL: u8 = 64;
const LARGEST: usize = 1518;

/// Frame sizes in bytes, FCS included, that packets take in turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sizes(Vec<usize>);

impl Sizes {
    /// 7 of 64, 4 of 570, 1 of 1518 bytes, mixed: the simple IMIX that routers are commonly measured with.
    const IMIX: [usize; 12] = [64, 570, 64, 64, 570, 64, 1518, 64, 570, 64, 570, 64];
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("imix") {
            return Ok(Sizes(Self::IMIX.to_vec()));
        }
        let size = |part: &str| {
            part.trim().parse().map_err(|_| {
                format!("{part:?} is no frame size: expected bytes, such as 64 or 64,1518, or imix")
            })
        };
        text.split(',').map(size).collect::<Result<_, _>>().map(Sizes)
    }
}

/// What is sent: flows, in frames of these sizes.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    /// The flows.
    pub(crate) flows: Flows,
    sizes: Vec<usize>,
}

impl Frames {
    /// Frames of `sizes`; `None`: the least that has room for headers and stamp.
    ///
    /// # Errors
    /// A size is too small, or larger than an untagged Ethernet frame.
    pub(crate) fn new(flows: Flows, sizes: Option<Sizes>) -> Result<Self, String> {
        let headers = if flows.is_ipv4() { 20 } else { 40 };
        let least = ethernet::HEADER_LEN + headers + UDP_LEN + STAMP_LEN + FCS;
        let mut sizes = sizes.map_or(vec![least.max(64)], |sizes| sizes.0);
        if sizes == Sizes::IMIX {
            // The smallest of the mix is what the family allows.
            sizes.iter_mut().for_each(|size| *size = least.max(*size));
        }
        if let Some(size) = sizes.iter().find(|size| !(least..=LARGEST).contains(size)) {
            return Err(format!("frame size {size}: it is from {least} to {LARGEST} bytes, FCS included"));
        }
        Ok(Frames { flows, sizes })
    }

    /// Mean frame size in bytes, FCS included.
    pub(crate) fn mean_size(&self) -> f64 {
        self.sizes.iter().sum::<usize>() as f64 / self.sizes.len() as f64
    }

    /// The size of packet `sequence`. A flow does not keep one size: each pass over the flows is shifted.
    fn len(&self, sequence: u64) -> usize {
        let shifted = sequence.wrapping_add(sequence / self.flows.count());
        self.sizes[(shifted % self.sizes.len() as u64) as usize] - FCS
    }

    /// Writes packet number `stamp.sequence` into `out`; returns its length without FCS.
    #[inline]
    pub(crate) fn write(&self, out: &mut [u8], macs: (MacAddr, MacAddr), stamp: &Stamp) -> usize {
        let len = self.len(stamp.sequence);
        let Flow { source, destination, source_port, destination_port } =
            self.flows.of_packet(stamp.sequence);
        let frame = &mut out[..len];
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
            _ => unreachable!("`Flows` compared the families"),
        }
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use encap::wire::{ipv4, ipv6};

    fn frames(src: &str, dst: &str, sizes: Option<&str>) -> Result<Frames, String> {
        let ports = |text: &str| text.parse().unwrap();
        let flows =
            Flows::of_ranges(src.parse().unwrap(), dst.parse().unwrap(), ports("1-3"), ports("9")).unwrap();
        Frames::new(flows, sizes.map(|sizes| sizes.parse().unwrap()))
    }

    #[test]
    fn every_flow_is_sent_and_every_frame_is_sound() {
        for (src, dst, least) in
            [("10.0.0.1-10.0.0.2", "10.1.0.1-10.1.0.2", 64), ("fd00::1-fd00::2", "fd01::1-fd01::2", 84)]
        {
            let frames = frames(src, dst, None).unwrap();
            assert_eq!(frames.flows.count(), 12);
            let mut seen = std::collections::BTreeSet::new();
            for sequence in 0..12 {
                let mut out = [0xff; 128];
                let stamp = Stamp { sequence, sent_ns: 5 };
                let len = frames.write(&mut out, (MacAddr([2; 6]), MacAddr([4; 6])), &stamp);
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
                let (found, flow) = Stamp::find(&out[..len]).unwrap();
                assert_eq!(found, stamp);
                seen.insert(flow);
            }
            assert_eq!(seen.len(), 12);
        }
    }

    #[test]
    fn imix_has_its_shares_in_every_flow() {
        let frames = frames("10.0.0.1-10.0.0.2", "10.1.0.1-10.1.0.2", Some("imix")).unwrap();
        assert!((frames.mean_size() - (7.0 * 64.0 + 4.0 * 570.0 + 1518.0) / 12.0).abs() < 1e-9);
        let sizes = |flow: u64| (0..12).map(move |pass| flow + 12 * pass);
        for flow in 0..12 {
            let small = sizes(flow).filter(|packet| frames.len(*packet) == 60).count();
            let large = sizes(flow).filter(|packet| frames.len(*packet) == 1514).count();
            assert_eq!((small, large), (7, 1), "flow {flow}");
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused_by_name() {
        assert!(frames("::1", "::2", Some("64")).unwrap_err().contains("frame size 64: it is from 84"));
        assert!(frames("10.0.0.1", "10.0.0.2", Some("64,1519")).unwrap_err().contains("1519"));
        assert!(frames("::1", "::2", Some("imix")).is_ok());
        assert!("64,x".parse::<Sizes>().unwrap_err().contains("\"x\" is no frame size"));
    }
}
