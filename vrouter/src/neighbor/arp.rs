//! ARP in the terms of neighbour discovery.
//!
//! | ARP | is heard as |
//! |---|---|
//! | reply, sent to us alone, for our address | advertisement, solicited, override |
//! | reply otherwise; gratuitous ARP of either kind | the sender names its MAC |
//! | request for our address | the sender names its MAC, and asks |
//! | request for another address | the sender names its MAC (RFC 826: merge) |
//! | probe (sender 0.0.0.0, RFC 5227 §2.1.1) for our address | asks |
//!
//! RFC 826 also adds the sender of a request for our address to the table. We only
//! update: an entry exists because traffic or a route wants the neighbour, so that no
//! station can fill the cache.
//!
//! Frames are padded to 60 bytes, the least that Ethernet carries.

use std::net::{IpAddr, Ipv4Addr};

use encap::wire::arp::{ArpOperation, ArpRepr};
use encap::wire::ethernet::{self, EtherType, MacAddr};

use super::config::is_station;
use super::message::{Answer, Heard, Ignored, Kind, MAX_FRAME_LEN};
use super::own::OwnAddresses;

/// Ethernet's least frame, without check sequence (IEEE 802.3 §3.2.8).
const MIN_FRAME_LEN: usize = 60;

/// Reads the ARP packet in a frame to `dst`.
pub(super) fn hear(dst: MacAddr, packet: &[u8], own: &OwnAddresses) -> Result<Heard, Ignored> {
    let arp = ArpRepr::parse(packet)?;
    let is_request = arp.operation == ArpOperation::Request;
    let about = (!arp.spa.is_unspecified()).then_some(IpAddr::V4(arp.spa));
    let usable = match about {
        Some(spa) => is_station(spa),
        None => is_request,
    };
    if !usable {
        return Err(Ignored::BadSender);
    }
    let answers = !is_request && !dst.is_multicast() && own.contains(arp.tpa.into());
    Ok(Heard {
        about,
        offered: Some(arp.sha),
        sender: arp.sha,
        kind: if answers { Kind::Advert { solicited: true, override_: true } } else { Kind::Claim },
        asks: (is_request && !arp.is_gratuitous()).then_some(IpAddr::V4(arp.tpa)),
    })
}

/// Asks for `target`: all stations, or only the one at `to`.
pub(super) fn question(
    out: &mut [u8; MAX_FRAME_LEN],
    mac: MacAddr,
    own: Ipv4Addr,
    target: Ipv4Addr,
    to: Option<MacAddr>,
) -> usize {
    let arp = ArpRepr {
        operation: ArpOperation::Request,
        sha: mac,
        spa: own,
        tha: to.unwrap_or(MacAddr::ZERO),
        tpa: target,
    };
    emit(out, to.unwrap_or(MacAddr::BROADCAST), &arp)
}

/// Tells the asker our MAC address.
pub(super) fn answer(out: &mut [u8; MAX_FRAME_LEN], mac: MacAddr, own: Ipv4Addr, answer: &Answer) -> usize {
    let tpa = match answer.asker {
        Some(IpAddr::V4(asker)) => asker,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let arp = ArpRepr { operation: ArpOperation::Reply, sha: mac, spa: own, tha: answer.asker_mac, tpa };
    emit(out, answer.asker_mac, &arp)
}

/// Tells everybody our MAC address: an ARP announcement (RFC 5227 §2.3).
pub(super) fn announcement(out: &mut [u8; MAX_FRAME_LEN], mac: MacAddr, own: Ipv4Addr) -> usize {
    question(out, mac, own, own, None)
}

fn emit(out: &mut [u8; MAX_FRAME_LEN], dst: MacAddr, arp: &ArpRepr) -> usize {
    let (header, rest) = out.split_first_chunk_mut().expect("the buffer is longer than an Ethernet header");
    ethernet::write_header(header, dst, arp.sha, EtherType::ARP);
    rest[..MIN_FRAME_LEN - ethernet::HEADER_LEN].fill(0);
    arp.emit(rest).expect("the buffer is longer than an ARP packet");
    MIN_FRAME_LEN
}

#[cfg(test)]
mod tests {
    use encap::wire::ethernet::Ethernet;

    use super::*;
    use crate::neighbor::Config;

    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const C: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

    fn parts(frame: &[u8]) -> (MacAddr, MacAddr, ArpRepr) {
        let ethernet = Ethernet::new_checked(frame).unwrap();
        assert_eq!(ethernet.ethertype(), EtherType::ARP);
        let arp = ArpRepr::parse(ethernet.payload()).unwrap();
        (ethernet.dst(), ethernet.src(), arp)
    }

    fn packet(operation: ArpOperation, spa: Ipv4Addr, tpa: Ipv4Addr) -> [u8; 28] {
        let mut out = [0; 28];
        let arp = ArpRepr { operation, sha: PEER, spa, tha: OWN, tpa };
        arp.emit(&mut out).unwrap();
        out
    }

    fn own() -> OwnAddresses {
        OwnAddresses::new(&Config { addresses4: vec![(A, 24)], ..Config::new(OWN) })
    }

    #[test]
    fn questions_go_to_all_or_to_one() {
        let mut out = [0xff; MAX_FRAME_LEN];
        let len = question(&mut out, OWN, A, B, None);
        assert_eq!(len, 60);
        let (dst, src, arp) = parts(&out[..len]);
        assert_eq!((dst, src), (MacAddr::BROADCAST, OWN));
        assert_eq!((arp.spa, arp.tpa, arp.tha), (A, B, MacAddr::ZERO));
        assert_eq!(out[42..60], [0; 18], "padding leaks no old bytes");
        let len = question(&mut out, OWN, A, B, Some(PEER));
        let (dst, _, arp) = parts(&out[..len]);
        assert_eq!((dst, arp.tha), (PEER, PEER));
    }

    #[test]
    fn an_announcement_is_gratuitous_and_goes_to_all() {
        let mut out = [0; MAX_FRAME_LEN];
        let len = announcement(&mut out, OWN, A);
        let (dst, _, arp) = parts(&out[..len]);
        assert_eq!(dst, MacAddr::BROADCAST);
        assert!(arp.is_gratuitous());
        assert_eq!((arp.operation, arp.sha), (ArpOperation::Request, OWN));
    }

    #[test]
    fn only_a_reply_to_us_alone_counts_as_an_answer() {
        let solicited = Kind::Advert { solicited: true, override_: true };
        for (dst, operation, spa, tpa, kind, asks) in [
            (OWN, ArpOperation::Reply, B, A, solicited, None),
            (MacAddr::BROADCAST, ArpOperation::Reply, B, A, Kind::Claim, None),
            (OWN, ArpOperation::Reply, B, B, Kind::Claim, None),
            (OWN, ArpOperation::Reply, B, C, Kind::Claim, None),
            (MacAddr::BROADCAST, ArpOperation::Request, B, B, Kind::Claim, None),
            (OWN, ArpOperation::Request, B, A, Kind::Claim, Some(A)),
        ] {
            let heard = hear(dst, &packet(operation, spa, tpa), &own()).unwrap();
            assert_eq!(heard.kind, kind, "{operation:?} to {dst}");
            assert_eq!(heard.about, Some(IpAddr::V4(spa)));
            assert_eq!(heard.asks, asks.map(IpAddr::V4));
        }
    }

    #[test]
    fn a_probe_speaks_of_nobody_and_asks() {
        let probe = packet(ArpOperation::Request, Ipv4Addr::UNSPECIFIED, A);
        let heard = hear(MacAddr::BROADCAST, &probe, &own()).unwrap();
        assert_eq!((heard.about, heard.asks), (None, Some(IpAddr::V4(A))));
    }

    #[test]
    fn impossible_senders_are_refused() {
        for spa in [Ipv4Addr::BROADCAST, Ipv4Addr::LOCALHOST, Ipv4Addr::new(224, 0, 0, 1)] {
            let request = packet(ArpOperation::Request, spa, A);
            assert_eq!(hear(OWN, &request, &own()), Err(Ignored::BadSender), "{spa}");
        }
        let reply = packet(ArpOperation::Reply, Ipv4Addr::UNSPECIFIED, A);
        assert_eq!(hear(OWN, &reply, &own()), Err(Ignored::BadSender));
    }
}
