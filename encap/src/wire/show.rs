//! One line per packet, for people: traces, captures' comments, test failures. The only code here that allocates.
//!
//! ```text
//!   02:00:00:00:00:01 > ee:ee:ee:ee:ee:ee IP 172.16.20.252 > 172.16.20.253 ttl 64 id 7 [DF] len 104 / IP 10.1.0.1 > ..
//! ```
//!
//! Layers are joined by ` / `; bytes that do not parse end the line with the reason in brackets. Invariant: any bytes
//! can be shown.

use alloc::string::String;
use core::fmt::{self, Write};

use super::{
    ArpOperation, ArpRepr, EtherType, Ethernet, Icmpv4, Icmpv6, Ipv4, Ipv6, Tcp, Udp, VlanTag, icmpv4,
    icmpv6, ndisc, protocol, tcp, vlan,
};
use crate::ParseError;

/// Packets in packets shown at most: an ICMP error may quote an ICMP error, and tunnels may nest.
const MAX_DEPTH: usize = 4;

/// An Ethernet frame in one line.
pub fn frame(bytes: &[u8]) -> String {
    line(|out| ethernet(out, bytes))
}

/// An IP packet, version by its first nibble, in one line.
pub fn packet(bytes: &[u8]) -> String {
    line(|out| ip(out, bytes, 0))
}

fn line(show: impl FnOnce(&mut String) -> Shown) -> String {
    let mut out = String::new();
    match show(&mut out) {
        Err(Stop::Parse(reason)) => {
            out.push_str(" [");
            out.push_str(reason.as_str());
            out.push(']');
        }
        // Writing to a String does not fail.
        Ok(()) | Err(Stop::Write) => {}
    }
    out
}

enum Stop {
    Parse(ParseError),
    Write,
}

type Shown = Result<(), Stop>;

impl From<ParseError> for Stop {
    fn from(reason: ParseError) -> Stop {
        Stop::Parse(reason)
    }
}

impl From<fmt::Error> for Stop {
    fn from(_: fmt::Error) -> Stop {
        Stop::Write
    }
}

fn ethernet(out: &mut String, bytes: &[u8]) -> Shown {
    let frame = Ethernet::new_checked(bytes)?;
    write!(out, "{} > {} ", frame.src(), frame.dst())?;
    let mut ethertype = frame.ethertype();
    let mut rest = frame.payload();
    for _ in 0..vlan::MAX_TAGS {
        if !matches!(ethertype, EtherType::VLAN | EtherType::QINQ) {
            break;
        }
        let tag = VlanTag::new_checked(rest)?;
        write!(out, "vlan {} ", tag.vid())?;
        ethertype = tag.ethertype();
        rest = &rest[vlan::TAG_LEN..];
    }
    match ethertype {
        EtherType::IPV4 | EtherType::IPV6 => ip(out, rest, 0),
        EtherType::ARP => arp(out, rest),
        other => Ok(write!(out, "ethertype {other} len {}", rest.len())?),
    }
}

fn arp(out: &mut String, bytes: &[u8]) -> Shown {
    out.push_str("ARP");
    let arp = ArpRepr::parse(bytes)?;
    match arp.operation {
        ArpOperation::Request => write!(out, " who-has {} tell {}", arp.tpa, arp.spa)?,
        ArpOperation::Reply => write!(out, " {} is-at {}", arp.spa, arp.sha)?,
    }
    Ok(())
}

fn ip(out: &mut String, bytes: &[u8], depth: usize) -> Shown {
    match bytes.first().map(|byte| byte >> 4) {
        _ if depth >= MAX_DEPTH => Ok(write!(out, "..")?),
        Some(4) => ipv4(out, bytes, depth),
        Some(6) => ipv6(out, bytes, depth),
        Some(_) => Err(ParseError::BadVersion.into()),
        None => Err(ParseError::Truncated.into()),
    }
}

/// Quoted packets are cut short, so only the headers have to be whole.
fn ipv4(out: &mut String, bytes: &[u8], depth: usize) -> Shown {
    out.push_str("IP");
    let ip = Ipv4::new_quoted(bytes)?;
    write!(out, " {} > {} ttl {} id {}", ip.src(), ip.dst(), ip.ttl(), ip.id())?;
    if ip.tos() != 0 {
        write!(out, " tos 0x{:02x}", ip.tos())?;
    }
    if ip.dont_fragment() {
        out.push_str(" [DF]");
    }
    if ip.is_fragment() {
        let more = if ip.more_fragments() { "+" } else { "" };
        write!(out, " frag {}:{}{more}", ip.fragment_offset(), ip.payload().len())?;
    }
    write!(out, " len {}", ip.total_len())?;
    if !ip.verify_checksum() {
        out.push_str(" [bad header checksum]");
    }
    out.push_str(" / ");
    if ip.fragment_offset() != 0 {
        return Ok(write!(out, "proto {}", ip.protocol())?);
    }
    upper(out, ip.protocol(), ip.payload(), depth)
}

fn ipv6(out: &mut String, bytes: &[u8], depth: usize) -> Shown {
    out.push_str("IP6");
    let ip = Ipv6::new_quoted(bytes)?;
    write!(out, " {} > {} hlim {}", ip.src(), ip.dst(), ip.hop_limit())?;
    if ip.traffic_class() != 0 {
        write!(out, " class 0x{:02x}", ip.traffic_class())?;
    }
    write!(out, " len {}", ip.total_len())?;
    let found = ip.upper()?;
    if let Some(fragment) = found.fragment {
        let more = if fragment.more { "+" } else { "" };
        let len = ip.payload().len().saturating_sub(found.offset);
        write!(out, " frag {}:{len}{more} id {}", fragment.offset, fragment.id)?;
    }
    out.push_str(" / ");
    if found.is_later_fragment() {
        return Ok(write!(out, "proto {}", found.protocol)?);
    }
    if found.protocol == protocol::ICMPV6 && neighbor(out, bytes)? {
        return Ok(());
    }
    upper(out, found.protocol, ip.payload().get(found.offset..).unwrap_or(&[]), depth)
}

/// True when the packet was valid neighbour discovery and is shown.
fn neighbor(out: &mut String, packet: &[u8]) -> Result<bool, Stop> {
    match ndisc::parse(packet) {
        Ok(ndisc::Message::NeighborSolicit(ns)) => write!(out, "ND who-has {}", ns.target)?,
        Ok(ndisc::Message::NeighborAdvert(na)) => {
            write!(out, "ND {} is-at", na.target)?;
            match na.target_ll {
                Some(mac) => write!(out, " {mac}")?,
                None => out.push_str(" (no address)"),
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn upper(out: &mut String, protocol: u8, bytes: &[u8], depth: usize) -> Shown {
    match protocol {
        protocol::IPIP | protocol::IPV6 => ip(out, bytes, depth + 1),
        protocol::TCP => {
            out.push_str("TCP");
            let tcp = Tcp::new_checked(bytes)?;
            write!(out, " {} > {} [", tcp.src_port(), tcp.dst_port())?;
            tcp_flags(out, tcp.flags());
            write!(
                out,
                "] seq {} ack {} win {} len {}",
                tcp.seq(),
                tcp.ack(),
                tcp.window(),
                tcp.payload().len()
            )?;
            Ok(())
        }
        protocol::UDP => {
            out.push_str("UDP");
            let udp = Udp::new_quoted(bytes)?;
            Ok(write!(out, " {} > {} len {}", udp.src_port(), udp.dst_port(), udp.len())?)
        }
        protocol::ICMP => {
            out.push_str("ICMP");
            let icmp = Icmpv4::new_checked(bytes)?;
            match icmp.ty() {
                icmpv4::ECHO_REQUEST => {
                    write!(out, " echo request id {} seq {}", icmp.echo_id(), icmp.echo_seq())?
                }
                icmpv4::ECHO_REPLY => {
                    write!(out, " echo reply id {} seq {}", icmp.echo_id(), icmp.echo_seq())?
                }
                ty => write!(out, " type {ty} code {}", icmp.code())?,
            }
            if (icmp.ty(), icmp.code()) == (icmpv4::UNREACHABLE, icmpv4::CODE_FRAGMENTATION_NEEDED) {
                write!(out, " mtu {}", icmp.next_hop_mtu())?;
            }
            quoted(out, icmp.is_error(), icmp.payload(), depth)
        }
        protocol::ICMPV6 => {
            out.push_str("ICMP6");
            let icmp = Icmpv6::new_checked(bytes)?;
            match icmp.ty() {
                icmpv6::ECHO_REQUEST => {
                    write!(out, " echo request id {} seq {}", icmp.echo_id(), icmp.echo_seq())?
                }
                icmpv6::ECHO_REPLY => {
                    write!(out, " echo reply id {} seq {}", icmp.echo_id(), icmp.echo_seq())?
                }
                icmpv6::PACKET_TOO_BIG => write!(out, " too big mtu {}", icmp.rest_of_header())?,
                ty => write!(out, " type {ty} code {}", icmp.code())?,
            }
            quoted(out, icmp.is_error(), icmp.payload(), depth)
        }
        other => Ok(write!(out, "proto {other} len {}", bytes.len())?),
    }
}

fn quoted(out: &mut String, is_error: bool, bytes: &[u8], depth: usize) -> Shown {
    if is_error && !bytes.is_empty() {
        out.push_str(" about ");
        return ip(out, bytes, depth + 1);
    }
    Ok(())
}

fn tcp_flags(out: &mut String, bits: u8) {
    const LETTERS: [(u8, char); 8] = [
        (tcp::flags::SYN, 'S'),
        (tcp::flags::FIN, 'F'),
        (tcp::flags::RST, 'R'),
        (tcp::flags::PSH, 'P'),
        (tcp::flags::ACK, '.'),
        (tcp::flags::URG, 'U'),
        (tcp::flags::ECE, 'E'),
        (tcp::flags::CWR, 'W'),
    ];
    out.extend(LETTERS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| letter));
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use crate::wire::{Ipv4Repr, MacAddr, ethernet};

    fn udp_packet() -> Vec<u8> {
        let mut bytes = vec![0; 28];
        Ipv4Repr {
            tos: 0,
            id: 7,
            dont_fragment: true,
            ttl: 64,
            protocol: protocol::UDP,
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            payload_len: 8,
        }
        .emit(&mut bytes)
        .unwrap();
        bytes[20..26].copy_from_slice(&[0, 53, 0x9c, 0x40, 0, 8]);
        bytes
    }

    #[test]
    fn a_udp_frame_in_one_line() {
        let mut bytes = vec![0; 14];
        let header = bytes.first_chunk_mut().unwrap();
        ethernet::write_header(header, MacAddr([0xee; 6]), MacAddr([2; 6]), EtherType::IPV4);
        bytes.extend(udp_packet());
        assert_eq!(
            frame(&bytes),
            "02:02:02:02:02:02 > ee:ee:ee:ee:ee:ee IP 10.0.0.1 > 10.0.0.2 ttl 64 id 7 [DF] len 28 / UDP 53 > 40000 len 8"
        );
    }

    #[test]
    fn an_error_shows_the_packet_it_is_about() {
        let mut out = [0; 576];
        let (src, dst) = (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 1));
        let len = icmpv4::emit_error_v4(&mut out, src, dst, 3, 4, 1480, &udp_packet());
        assert_eq!(
            packet(&out[..len]),
            "IP 10.0.0.9 > 10.0.0.1 ttl 64 id 0 tos 0xc0 [DF] len 56 / ICMP type 3 code 4 mtu 1480 about \
             IP 10.0.0.1 > 10.0.0.2 ttl 64 id 7 [DF] len 28 / UDP 53 > 40000 len 8"
        );
    }

    #[test]
    fn what_does_not_parse_ends_with_the_reason() {
        assert_eq!(packet(&[]), " [truncated]");
        assert_eq!(packet(&[0x50]), " [bad IP version]");
        assert_eq!(packet(&udp_packet()[..19]), "IP [truncated]");
    }

    #[test]
    fn nested_tunnels_are_bounded() {
        let mut bytes = udp_packet();
        for _ in 0..6 {
            let mut outer = udp_packet()[..20].to_vec();
            outer[2..4].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
            outer[9] = protocol::IPIP;
            outer.extend(bytes);
            bytes = outer;
        }
        assert!(packet(&bytes).ends_with(".."));
    }
}
