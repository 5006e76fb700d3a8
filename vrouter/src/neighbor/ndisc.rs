//! Neighbour discovery frames, both ways.
//!
//! | message | is heard as |
//! |---|---|
//! | neighbour advertisement | advertisement with its flags |
//! | neighbour solicitation | the sender names its MAC (if it does), and asks |
//! | the same from `::` (duplicate address detection) | asks |
//! | router solicitation or advertisement | the sender names its MAC (RFC 4861 §6.2.6, §6.3.4) |
//!
//! As with ARP, a solicitation updates an entry but makes none: RFC 4861 §7.2.3 would
//! have it made (SHOULD), at the price that any station could fill the cache.
//!
//! What we send says that we are a router, as other nodes must not take that back.

use std::net::{IpAddr, Ipv6Addr};

use encap::wire::ethernet::{self, EtherType, MacAddr};
use encap::wire::ipv6::Ipv6;
use encap::wire::ndisc::{self, Message, NeighborAdvert};

use super::config::is_station;
use super::message::{Answer, Heard, Ignored, Kind, MAX_FRAME_LEN};

/// Reads the neighbour discovery packet in a frame from `sender`.
pub(super) fn hear(sender: MacAddr, packet: &[u8]) -> Result<Heard, Ignored> {
    let message = ndisc::parse(packet)?;
    let src = IpAddr::V6(Ipv6::new_checked(packet)?.src());
    let speaker = match src {
        src if is_station(src) => Some(src),
        src if src.is_unspecified() => None,
        _ => return Err(Ignored::BadSender),
    };
    let named =
        |offered: Option<MacAddr>, asks| Heard { about: speaker, offered, sender, kind: Kind::Claim, asks };
    match message {
        Message::NeighborSolicit(solicit) => Ok(named(solicit.source_ll, Some(IpAddr::V6(solicit.target)))),
        Message::RouterSolicit(solicit) if solicit.source_ll.is_some() => Ok(named(solicit.source_ll, None)),
        Message::RouterAdvert(advert) if advert.source_ll.is_some() => Ok(named(advert.source_ll, None)),
        Message::NeighborAdvert(advert) => {
            let target = IpAddr::V6(advert.target);
            if speaker.is_none() || !is_station(target) {
                return Err(Ignored::BadSender);
            }
            Ok(Heard {
                about: Some(target),
                offered: advert.target_ll,
                sender,
                kind: Kind::Advert { solicited: advert.solicited, override_: advert.override_ },
                asks: None,
            })
        }
        _ => Err(Ignored::Meaningless),
    }
}

/// Asks for `target`: by multicast, or only the station at `to`.
pub(super) fn question(
    out: &mut [u8; MAX_FRAME_LEN],
    mac: MacAddr,
    own: Ipv6Addr,
    target: Ipv6Addr,
    to: Option<MacAddr>,
) -> usize {
    let (dst, dst_mac) = match to {
        Some(to) => (target, to),
        None => multicast(ndisc::solicited_node(target)),
    };
    let (header, packet) = split(out);
    ethernet::write_header(header, dst_mac, mac, EtherType::IPV6);
    ethernet::HEADER_LEN + ndisc::emit_neighbor_solicit(packet, own, dst, target, Some(mac))
}

/// Tells the asker our MAC address; all nodes, if the asker has no address yet
/// (RFC 4861 §7.2.4).
pub(super) fn answer(out: &mut [u8; MAX_FRAME_LEN], mac: MacAddr, own: Ipv6Addr, answer: &Answer) -> usize {
    match answer.asker {
        Some(IpAddr::V6(asker)) => advert(out, mac, own, asker, answer.asker_mac, true),
        _ => announcement(out, mac, own),
    }
}

/// Tells all nodes our MAC address (RFC 4861 §7.2.6).
pub(super) fn announcement(out: &mut [u8; MAX_FRAME_LEN], mac: MacAddr, own: Ipv6Addr) -> usize {
    let (dst, dst_mac) = multicast(ndisc::ALL_NODES);
    advert(out, mac, own, dst, dst_mac, false)
}

fn advert(
    out: &mut [u8; MAX_FRAME_LEN],
    mac: MacAddr,
    own: Ipv6Addr,
    dst: Ipv6Addr,
    dst_mac: MacAddr,
    solicited: bool,
) -> usize {
    let advert =
        NeighborAdvert { target: own, target_ll: Some(mac), router: true, solicited, override_: true };
    let (header, packet) = split(out);
    ethernet::write_header(header, dst_mac, mac, EtherType::IPV6);
    ethernet::HEADER_LEN + ndisc::emit_neighbor_advert(packet, own, dst, &advert)
}

const fn multicast(address: Ipv6Addr) -> (Ipv6Addr, MacAddr) {
    (address, ndisc::multicast_mac(address))
}

fn split(out: &mut [u8; MAX_FRAME_LEN]) -> (&mut [u8; ethernet::HEADER_LEN], &mut [u8]) {
    out.split_first_chunk_mut().expect("the buffer is longer than an Ethernet header")
}

#[cfg(test)]
mod tests {
    use encap::wire::ethernet::Ethernet;

    use super::*;

    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const A: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x3456);

    fn heard(frame: &[u8]) -> (MacAddr, Result<Heard, Ignored>) {
        let ethernet = Ethernet::new_checked(frame).unwrap();
        assert_eq!(ethernet.ethertype(), EtherType::IPV6);
        (ethernet.dst(), hear(ethernet.src(), ethernet.payload()))
    }

    #[test]
    fn a_question_goes_to_the_solicited_node_group_or_to_one() {
        let mut out = [0; MAX_FRAME_LEN];
        let len = question(&mut out, OWN, A, B, None);
        assert_eq!(len, MAX_FRAME_LEN);
        let (dst, heard_as) = heard(&out);
        assert_eq!(dst, MacAddr([0x33, 0x33, 0xff, 0, 0x34, 0x56]));
        let expected = Heard {
            about: Some(A.into()),
            offered: Some(OWN),
            sender: OWN,
            kind: Kind::Claim,
            asks: Some(B.into()),
        };
        assert_eq!(heard_as, Ok(expected));
        question(&mut out, OWN, A, B, Some(PEER));
        assert_eq!(heard(&out), (PEER, Ok(expected)));
    }

    #[test]
    fn answers_are_solicited_and_announcements_are_not() {
        let mut out = [0; MAX_FRAME_LEN];
        let asked = |asker| Answer { own: A.into(), asker, asker_mac: PEER };
        let all_nodes = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
        for (asker, to, solicited) in [(Some(B.into()), PEER, true), (None, all_nodes, false)] {
            assert_eq!(answer(&mut out, OWN, A, &asked(asker)), MAX_FRAME_LEN);
            let (dst, heard_as) = heard(&out);
            assert_eq!(dst, to);
            let heard_as = heard_as.unwrap();
            assert_eq!((heard_as.about, heard_as.offered), (Some(A.into()), Some(OWN)));
            let override_ = true;
            assert_eq!(heard_as.kind, Kind::Advert { solicited, override_ });
        }
    }

    #[test]
    fn duplicate_address_detection_speaks_of_nobody_and_asks() {
        let mut out = [0; 128];
        let group = ndisc::solicited_node(A);
        let len = ndisc::emit_neighbor_solicit(&mut out, Ipv6Addr::UNSPECIFIED, group, A, None);
        let heard_as = hear(PEER, &out[..len]).unwrap();
        assert_eq!((heard_as.about, heard_as.asks), (None, Some(A.into())));
    }

    #[test]
    fn other_messages_and_senders_are_refused() {
        let mut out = [0; 128];
        let len = ndisc::emit_neighbor_solicit(&mut out, ndisc::ALL_NODES, A, A, Some(PEER));
        assert_eq!(hear(PEER, &out[..len]), Err(Ignored::BadSender));
        let len = ndisc::emit_neighbor_solicit(&mut out, B, A, A, Some(PEER));
        out[7] = 254;
        assert!(matches!(hear(PEER, &out[..len]), Err(Ignored::Malformed(_))));
    }
}
