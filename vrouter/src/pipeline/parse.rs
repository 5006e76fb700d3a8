//! Stage 1: from bytes to offsets, masks and addresses, with the checks that every
//! packet must pass.
//!
//! Ethernet: our MAC (pods: also their own source MAC). IPv4: RFC 1812 5.2.2 (1) to
//! (5) and the martians of 5.3.7. IPv6: RFC 8200 3 and 4, addresses by RFC 4291
//! 2.5. Ethernet padding is cut off by the IP length.
//!
//! Ordinary packets (IPv4 without options, IPv6 without extension headers, whole, from
//! and to ordinary addresses) pass all checks in one straight piece of code, `plain`;
//! whatever does not goes through the checks one by one, which also name what is wrong.
//!
//! ARP and neighbour discovery leave the burst's `v4` and `v6` masks and are
//! returned in [`Asked`], for the next stage.

use core::net::{Ipv4Addr, Ipv6Addr};

pub(super) mod offload;
pub(super) mod plain;
#[cfg(test)]
mod tests;

use encap::wire::ethernet::{self, EtherType};
use encap::wire::{checksum, icmpv6, ipv4, ipv6, ipv6_ext, protocol};

use self::plain::Gate;
use crate::burst::{Burst, Checksum, Gso, are_few, lanes};
use crate::drop_reason::DropReason;
use crate::frame::FrameArea;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::{GATEWAY_V4, GATEWAY_V6, Port, Role, Tables};

/// Lanes that carry address resolution.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// ARP.
    pub arp: u64,
    /// IPv6 neighbour discovery.
    pub nd: u64,
}

impl Asked {
    /// Whether there is any.
    #[inline]
    pub fn any(self) -> bool {
        self.arp | self.nd != 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    V4,
    V6,
    Arp,
    NeighborDiscovery,
}

/// Parses every packet of the burst.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) -> Asked {
    let mut asked = Asked::default();
    let mut rest = burst.alive;
    while let Some(first) = lanes(rest).next() {
        // A burst comes from one port, unless the embedding program made it.
        let in_port = burst.meta.in_port[first];
        let mask = burst.came_from(in_port, rest);
        rest &= !mask;
        match tables.port(in_port) {
            Some(port) => from_port(burst, mask, port, tables, &mut asked, state),
            None => lanes(mask).for_each(|lane| state.drop_packet(burst, lane, DropReason::PortDown)),
        }
    }
    for lane in lanes(burst.traced) {
        note(burst, lane, state);
    }
    asked
}

fn from_port(
    burst: &mut Burst,
    mask: u64,
    port: &Port,
    tables: &Tables,
    asked: &mut Asked,
    state: &mut WorkerState,
) {
    let (whole, gate) = (mask & !burst.offloaded() & !burst.chained, Gate::of(port));
    let ordinary = if are_few(whole) {
        plain::few(burst, whole, &gate, state.pool.area())
    } else {
        let routes = tables.vrf(port.vrf).map_or(&tables.fib4, |vrf| &vrf.fib4);
        plain::packets(burst, whole, &gate, routes, state.pool.area(), &mut state.columns)
    };
    let (mut v4, mut v6, mut ip_in_ip) = (ordinary.v4, ordinary.v6, ordinary.ip_in_ip);
    for lane in lanes(mask & !(v4 | v6)) {
        let bit = 1 << lane;
        match packet(burst, lane, port, state.pool.area()) {
            Ok(Kind::V4) => {
                v4 |= bit;
                let nested = matches!(burst.meta.protocol[lane], protocol::IPIP | protocol::IPV6);
                ip_in_ip |= u64::from(nested) << lane;
            }
            Ok(Kind::V6) => v6 |= bit,
            Ok(Kind::Arp) => asked.arp |= bit,
            Ok(Kind::NeighborDiscovery) => asked.nd |= bit,
            Err(reason) => state.drop_packet(burst, lane, reason),
        }
    }
    burst.v4 |= v4;
    burst.v6 |= v6;
    burst.ip_in_ip |= ip_in_ip;
    match port.role {
        Role::Pod => burst.from_pod |= v4 | v6,
        Role::Host => burst.from_host |= v4 | v6,
        Role::Uplink { .. } => {}
    }
}

#[cold]
fn note(burst: &Burst, lane: usize, state: &mut WorkerState) {
    let header = burst.bytes(lane, state.pool.area());
    let ethertype = header.get(12..14).map_or(0, |octets| u32::from(octets[0]) << 8 | u32::from(octets[1]));
    let is_ip = (burst.v4 | burst.v6) >> lane & 1 == 1;
    let protocol = if is_ip { u32::from(burst.meta.protocol[lane]) } else { u32::MAX };
    state.tracer.note(burst, lane, Stage::Parse, ethertype, protocol);
}

#[inline]
fn packet(burst: &mut Burst, lane: usize, port: &Port, area: &FrameArea) -> Result<Kind, DropReason> {
    let bytes = burst.bytes(lane, area);
    let Some((header, _)) = bytes.split_first_chunk::<{ ethernet::HEADER_LEN }>() else {
        return Err(DropReason::FrameTooShort);
    };
    let group = header[0] & 1 != 0;
    if !group && header[..6] != port.mac.0 {
        return Err(DropReason::NotOurMac);
    }
    if port.role == Role::Pod && header[6..12] != port.peer_mac.0 {
        return Err(DropReason::SpoofedMac);
    }
    let ethertype = EtherType(u16::from_be_bytes([header[12], header[13]]));
    burst.meta.l3[lane] = burst.meta.offset[lane] + ethernet::HEADER_LEN as u16;
    if burst.chained >> lane & 1 == 1 {
        burst.meta.ip_len[lane] -= ethernet::HEADER_LEN as u32;
    }
    match ethertype {
        EtherType::IPV4 => {
            network_v4(burst, lane, area)?;
            offload::check(burst, lane, true, area)?;
            if group {
                return Err(DropReason::Multicast);
            }
            Ok(Kind::V4)
        }
        EtherType::IPV6 => {
            let discovery = network_v6(burst, lane, area)?;
            offload::check(burst, lane, false, area)?;
            if discovery {
                return Ok(Kind::NeighborDiscovery);
            }
            if group {
                return Err(DropReason::Multicast);
            }
            Ok(Kind::V6)
        }
        EtherType::ARP => {
            burst.set_offload(lane, Checksum::Complete, Gso::default());
            Ok(Kind::Arp)
        }
        EtherType::VLAN | EtherType::QINQ => Err(DropReason::VlanTagged),
        _ => Err(DropReason::EthertypeUnknown),
    }
}

/// Bytes from the network header to the packet's end, of which `head` lie in the head frame.
#[inline]
fn whole_len(burst: &Burst, lane: usize, head: usize) -> usize {
    if burst.chained >> lane & 1 == 1 { burst.meta.ip_len[lane] as usize } else { head }
}

/// Checks the IPv4 header at `l3` and notes what later stages need.
#[inline]
pub(super) fn network_v4(burst: &mut Burst, lane: usize, area: &FrameArea) -> Result<(), DropReason> {
    let ip = burst.network(lane, area);
    // (1) The link layer delivered enough for a header.
    let Some(header) = ip.first_chunk::<{ ipv4::MIN_HEADER_LEN }>() else {
        return Err(DropReason::Ipv4Truncated);
    };
    // (3) The version is 4.
    if header[0] >> 4 != 4 {
        return Err(DropReason::Ipv4BadVersion);
    }
    // (4) The header length is at least 20 bytes.
    let header_len = usize::from(header[0] & 0xf) * 4;
    if header_len < ipv4::MIN_HEADER_LEN {
        return Err(DropReason::Ipv4BadHeaderLength);
    }
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_len > ip.len() {
        return Err(DropReason::Ipv4Truncated);
    }
    // (2) The checksum is right. Without options its length is fixed, and so is the sum.
    let options = &ip[ipv4::MIN_HEADER_LEN..header_len];
    if checksum::fold(checksum::sum(header) + checksum::sum(options)) != u16::MAX {
        return Err(DropReason::Ipv4BadChecksum);
    }
    // (5) The total length covers the header, and the packet is all there.
    if total_len < header_len {
        return Err(DropReason::Ipv4BadHeaderLength);
    }
    let present = whole_len(burst, lane, ip.len());
    if total_len > present {
        return Err(DropReason::Ipv4Truncated);
    }
    if total_len < present && present > ip.len() {
        return Err(DropReason::LengthMismatch);
    }
    if !options.is_empty() && has_source_route(options) {
        return Err(DropReason::Ipv4SourceRoute);
    }
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    addresses_v4(source, destination)?;

    let fragment_word = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    let transport = header[9];
    let l3 = burst.meta.l3[lane];
    let here = total_len.min(ip.len());
    let meta = &mut burst.meta;
    meta.len[lane] = l3 - meta.offset[lane] + here as u16;
    meta.ip_len[lane] = total_len as u32;
    meta.protocol[lane] = transport;
    meta.src4[lane] = u32::from(source);
    meta.dst4[lane] = destination;
    let first = fragment_word & 0x1fff == 0;
    meta.l4[lane] = if first { l3 + header_len as u16 } else { 0 };
    if fragment_word != 0 {
        burst.fragments |= 1 << lane;
    }
    Ok(())
}

/// RFC 1812 5.3.7: addresses that are never forwarded.
#[inline]
fn addresses_v4(source: Ipv4Addr, destination: Ipv4Addr) -> Result<(), DropReason> {
    let [s0, s1, ..] = source.octets();
    if s0 == 0 || s0 == 127 || s0 >= 224 {
        return Err(DropReason::Ipv4BadSource);
    }
    let [d0, d1, ..] = destination.octets();
    if d0 >= 224 {
        return Err(if d0 < 240 || destination == Ipv4Addr::BROADCAST {
            DropReason::Multicast
        } else {
            DropReason::Ipv4BadDestination
        });
    }
    if d0 == 0 || d0 == 127 {
        return Err(DropReason::Ipv4BadDestination);
    }
    if (s0 == 169 && s1 == 254) || (d0 == 169 && d1 == 254 && destination != GATEWAY_V4) {
        return Err(DropReason::LinkLocal);
    }
    Ok(())
}

/// Loose or strict source route among IPv4 options (RFC 791 3.1, refused by RFC 7126 4.3).
#[cold]
fn has_source_route(mut options: &[u8]) -> bool {
    while let Some(&kind) = options.first() {
        match kind {
            0 => return false,
            1 => options = &options[1..],
            131 | 137 => return true,
            _ => match options.get(1) {
                Some(&len) if len >= 2 && usize::from(len) <= options.len() => {
                    options = &options[usize::from(len)..];
                }
                _ => return false,
            },
        }
    }
    false
}

/// Checks the IPv6 header at `l3` and notes what later stages need. Returns
/// whether the packet is neighbour discovery.
#[inline]
pub(super) fn network_v6(burst: &mut Burst, lane: usize, area: &FrameArea) -> Result<bool, DropReason> {
    let ip = burst.network(lane, area);
    let Some(header) = ip.first_chunk::<{ ipv6::HEADER_LEN }>() else {
        return Err(DropReason::Ipv6Truncated);
    };
    if header[0] >> 4 != 6 {
        return Err(DropReason::Ipv6BadVersion);
    }
    let total_len = ipv6::HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let present = whole_len(burst, lane, ip.len());
    if total_len > present {
        return Err(DropReason::Ipv6Truncated);
    }
    if total_len < present && present > ip.len() {
        return Err(DropReason::LengthMismatch);
    }
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[8..24]);
    let source = Ipv6Addr::from(octets);
    octets.copy_from_slice(&header[24..40]);
    let destination = Ipv6Addr::from(octets);

    let here = total_len.min(ip.len());
    let payload = &ip[ipv6::HEADER_LEN..here];
    let next_header = header[6];
    let walked = ipv6_ext::walk(next_header, payload).map_err(|_| DropReason::Ipv6BadExtension)?;
    let upper = walked.protocol;
    let l4 = (!walked.is_later_fragment()).then_some(walked.offset);
    let fragment = walked.fragment.is_some();
    let discovery = upper == protocol::ICMPV6
        && !fragment
        && l4
            .and_then(|at| payload.get(at))
            .is_some_and(|kind| (icmpv6::ROUTER_SOLICIT..=icmpv6::REDIRECT).contains(kind));
    if !discovery {
        addresses_v6(source, destination)?;
    }

    let l3 = burst.meta.l3[lane];
    let meta = &mut burst.meta;
    meta.len[lane] = l3 - meta.offset[lane] + here as u16;
    meta.ip_len[lane] = total_len as u32;
    meta.protocol[lane] = upper;
    meta.dst6[lane] = destination;
    meta.l4[lane] = l4.map_or(0, |at| l3 + (ipv6::HEADER_LEN + at) as u16);
    if fragment {
        burst.fragments |= 1 << lane;
    }
    Ok(discovery)
}

/// RFC 4291 2.5, 2.7: addresses that are never forwarded.
#[inline]
fn addresses_v6(source: Ipv6Addr, destination: Ipv6Addr) -> Result<(), DropReason> {
    if source.is_multicast() || source.is_unspecified() || source.is_loopback() {
        return Err(DropReason::Ipv6BadSource);
    }
    if destination.is_multicast() {
        return Err(DropReason::Multicast);
    }
    if destination.is_unspecified() || destination.is_loopback() {
        return Err(DropReason::Ipv6BadDestination);
    }
    let to_gateway = destination == GATEWAY_V6;
    let link_local = |a: Ipv6Addr| a.segments()[0] & 0xffc0 == 0xfe80;
    if (link_local(destination) || link_local(source)) && !to_gateway {
        return Err(DropReason::LinkLocal);
    }
    Ok(())
}
