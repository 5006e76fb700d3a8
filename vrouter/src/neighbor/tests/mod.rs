//! Stations on a virtual link and a virtual clock.

mod bounds;
mod frames;
mod laws;
mod pair;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use encap::MacAddr;
use encap::wire::arp::{ArpOperation, ArpRepr};
use encap::wire::ethernet::{self, EtherType, Ethernet};
use encap::wire::ipv6::Ipv6;
use encap::wire::ndisc::{self, Message, NeighborAdvert};

use super::{Cache, Config, Event, MAX_FRAME_LEN, State};
use crate::ids::Timestamp;

/// The MAC address of station `n`.
fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn v4(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
}

fn v6(n: u8) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n.into()))
}

/// Station `n` of a link with 10.0.0.0/24 and fe80::/64.
fn config(n: u8) -> Config {
    Config {
        addresses4: vec![(Ipv4Addr::new(10, 0, 0, n), 24)],
        addresses6: vec![(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n.into()), 64)],
        ..Config::new(mac(n))
    }
}

fn cache(n: u8) -> Cache {
    Cache::new(config(n), n.into()).unwrap()
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn frames(cache: &mut Cache) -> Vec<Vec<u8>> {
    let mut out = [0; MAX_FRAME_LEN];
    std::iter::from_fn(|| cache.poll_transmit(&mut out).map(|len| out[..len].to_vec())).collect()
}

fn events(cache: &mut Cache) -> Vec<Event> {
    std::iter::from_fn(|| cache.poll_event()).collect()
}

fn state(cache: &Cache, address: IpAddr) -> Option<State> {
    let mut entries = cache.entries();
    entries.find(|e| e.address == address).map(|e| e.state)
}

fn frame(dst: MacAddr, src: MacAddr, ethertype: EtherType, packet: &[u8]) -> Vec<u8> {
    let mut header = [0; ethernet::HEADER_LEN];
    ethernet::write_header(&mut header, dst, src, ethertype);
    [&header[..], packet].concat()
}

/// Station `from` says that `about` is at `mac`, to station 1: an ARP reply, or an NA.
fn advert(about: IpAddr, mac: MacAddr, solicited: bool, override_: bool) -> Vec<u8> {
    let to = self::mac(1);
    match (about, v6(1)) {
        (IpAddr::V4(spa), _) => {
            let arp = ArpRepr {
                operation: ArpOperation::Reply,
                sha: mac,
                spa,
                tha: to,
                tpa: if solicited { Ipv4Addr::new(10, 0, 0, 1) } else { spa },
            };
            let mut packet = [0; 28];
            arp.emit(&mut packet).unwrap();
            frame(to, mac, EtherType::ARP, &packet)
        }
        (IpAddr::V6(target), IpAddr::V6(dst)) => {
            let advert = NeighborAdvert { target, target_ll: Some(mac), router: false, solicited, override_ };
            let mut packet = [0; 72];
            assert_eq!(ndisc::emit_neighbor_advert(&mut packet, target, dst, &advert), 72);
            frame(to, mac, EtherType::IPV6, &packet)
        }
        _ => unreachable!("v6() makes IPv6 addresses"),
    }
}

/// Station `asker` at `mac` asks all for `target`: an ARP request, or an NS.
fn question(asker: IpAddr, mac: MacAddr, target: IpAddr) -> Vec<u8> {
    match (asker, target) {
        (IpAddr::V4(spa), IpAddr::V4(tpa)) => {
            let arp = ArpRepr { operation: ArpOperation::Request, sha: mac, spa, tha: MacAddr::ZERO, tpa };
            let mut packet = [0; 28];
            arp.emit(&mut packet).unwrap();
            frame(MacAddr::BROADCAST, mac, EtherType::ARP, &packet)
        }
        (IpAddr::V6(src), IpAddr::V6(target)) => {
            let dst = ndisc::solicited_node(target);
            let mut packet = [0; 72];
            let len = ndisc::emit_neighbor_solicit(&mut packet, src, dst, target, Some(mac));
            frame(ndisc::multicast_mac(dst), mac, EtherType::IPV6, &packet[..len])
        }
        _ => panic!("{asker} and {target} are of two families"),
    }
}

/// What a frame is, as far as the tests care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    /// A question to all stations, or to one.
    Asks { target: IpAddr, to: Option<MacAddr> },
    /// An answer to one station.
    Answers { own: IpAddr, asker: IpAddr, to: MacAddr },
    /// An announcement to all stations.
    Announces { own: IpAddr, mac: MacAddr },
}

fn shape(bytes: &[u8]) -> Shape {
    let ethernet = Ethernet::new_checked(bytes).unwrap();
    let to = (!ethernet.dst().is_multicast()).then_some(ethernet.dst());
    if ethernet.ethertype() == EtherType::ARP {
        let arp = ArpRepr::parse(ethernet.payload()).unwrap();
        assert_eq!(arp.sha, ethernet.src());
        return match (arp.operation, to) {
            _ if arp.is_gratuitous() => {
                assert_eq!(to, None);
                let own = arp.spa.into();
                Shape::Announces { own, mac: arp.sha }
            }
            (ArpOperation::Request, to) => Shape::Asks { target: arp.tpa.into(), to },
            (ArpOperation::Reply, Some(to)) => {
                let (own, asker) = (arp.spa.into(), arp.tpa.into());
                Shape::Answers { own, asker, to }
            }
            (ArpOperation::Reply, None) => panic!("a reply to all that announces nothing"),
        };
    }
    let dst = Ipv6::new_checked(ethernet.payload()).unwrap().dst();
    match (ndisc::parse(ethernet.payload()).unwrap(), to) {
        (Message::NeighborSolicit(solicit), to) => {
            assert_eq!(solicit.source_ll, Some(ethernet.src()));
            Shape::Asks { target: solicit.target.into(), to }
        }
        (Message::NeighborAdvert(advert), to) => {
            assert!(advert.router && advert.override_);
            assert_eq!(advert.target_ll, Some(ethernet.src()));
            let own = advert.target.into();
            match to {
                Some(to) => {
                    assert!(advert.solicited);
                    Shape::Answers { own, asker: dst.into(), to }
                }
                None => Shape::Announces { own, mac: ethernet.src() },
            }
        }
        (other, _) => panic!("never sent: {other:?}"),
    }
}

fn shapes(cache: &mut Cache) -> Vec<Shape> {
    frames(cache).iter().map(|bytes| shape(bytes)).collect()
}
