//! The checks of ordinary packets, in one piece.
//!
//! Almost every packet is IPv4 with a header of 20 bytes or IPv6 with the transport
//! header right behind, whole, with addresses that nothing is special about. For these
//! all of parse comes down to a few comparisons of words. A packet that fails one of
//! them is not wrong for it: it is looked at again, check by check.
//!
//! Invariant: what passes here would pass there, with the same facts noted (tested on
//! arbitrary frames).

use core::net::{Ipv4Addr, Ipv6Addr};

use encap::wire::protocol;

use super::Kind;
use crate::burst::{Burst, Checksum};
use crate::frame::FrameArea;
use crate::tables::{Port, Role};

/// The low 48 bits: a MAC address loaded as a word.
const MAC: u64 = 0xffff_ffff_ffff;
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
/// Ethertype and first byte of an IPv4 header without options, as they lie in memory.
const IPV4_START: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);
/// Ethertype and version of IPv6, with the traffic class masked out.
const IPV6_START: u32 = u32::from_le_bytes([0x86, 0xdd, 0x60, 0]);

/// First octets of IPv4 addresses in whose range every address may be forwarded: not
/// 0/8, 127/8, 169/8 (link-local is part of it), nor 224/3.
const ORDINARY: [bool; 256] = {
    let mut ordinary = [false; 256];
    let mut octet = 1;
    while octet < 224 {
        ordinary[octet] = octet != 127 && octet != 169;
        octet += 1;
    }
    ordinary
};

/// What a port asks of every frame, as words to compare with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    /// Our MAC address there, as loaded; beyond 48 bits where no frame may pass.
    mac: u64,
    /// The station's MAC address, as loaded, and which bits of it count.
    peer: u64,
    peer_bits: u64,
}

impl Gate {
    /// Lets nothing pass.
    pub(super) const CLOSED: Gate = Gate { mac: u64::MAX, peer: 0, peer_bits: 0 };

    /// The gate of a port.
    pub(super) fn of(port: &Port) -> Self {
        Gate {
            mac: port.mac.to_u64().swap_bytes() >> 16,
            peer: port.peer_mac.to_u64().swap_bytes() >> 16,
            peer_bits: if port.role == Role::Pod { MAC } else { 0 },
        }
    }
}

/// Parses the packet if it is an ordinary one and notes its facts in `meta`; what kind of
/// packet it is then.
#[inline(always)]
pub(super) fn packet(burst: &mut Burst, lane: usize, gate: &Gate, area: &FrameArea) -> Option<Kind> {
    let (offset, len) = (burst.meta.offset[lane], burst.meta.len[lane]);
    if burst.meta.checksum[lane] != Checksum::Complete {
        return None;
    }
    let frame: &[u8; ETHERNET + IPV4] = area.header(burst.frame(lane), offset)?;
    let to = word8(frame, 0) & MAC;
    let from = word8(frame, 6);
    if to != gate.mac || (from ^ gate.peer) & gate.peer_bits != 0 {
        return None;
    }
    let start = word4(frame, 12);
    let l3 = offset + ETHERNET as u16;
    if start & 0x00ff_ffff == IPV4_START {
        let found = ipv4(frame, len)?;
        let meta = &mut burst.meta;
        meta.l4[lane] = l3 + IPV4 as u16;
        meta.protocol[lane] = found.protocol;
        meta.src4[lane] = found.source;
        meta.dst4[lane] = Ipv4Addr::from_bits(found.destination);
        meta.l3[lane] = l3;
        meta.len[lane] = found.total + ETHERNET as u16;
        meta.ip_len[lane] = u32::from(found.total);
        return Some(Kind::V4);
    }
    if start & 0x00f0_ffff == IPV6_START {
        let frame: &[u8; ETHERNET + IPV6] = area.header(burst.frame(lane), offset)?;
        let found = ipv6(frame, len)?;
        let meta = &mut burst.meta;
        meta.l4[lane] = l3 + IPV6 as u16;
        meta.protocol[lane] = found.protocol;
        meta.dst6[lane] = found.destination;
        meta.l3[lane] = l3;
        meta.len[lane] = found.total + ETHERNET as u16;
        meta.ip_len[lane] = u32::from(found.total);
        return Some(Kind::V6);
    }
    None
}

/// The facts of a packet; `total` is its length from the IP header on.
struct Facts4 {
    total: u16,
    protocol: u8,
    source: u32,
    destination: u32,
}

#[inline(always)]
fn ipv4(frame: &[u8; ETHERNET + IPV4], len: u16) -> Option<Facts4> {
    // Five words as they lie in memory: version, length | id, fragment | TTL, protocol,
    // checksum | source | destination.
    let [first, second, third, source, destination] = [0, 4, 8, 12, 16].map(|at| word4(frame, ETHERNET + at));
    // The checksum's sum does not care which half of a word is which (RFC 1071 2).
    let sum =
        [second, third, source, destination].iter().fold(u64::from(first), |sum, w| sum + u64::from(*w));
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let total = ((first >> 16) as u16).swap_bytes();
    // Neither more fragments nor an offset.
    let whole = second & 0xff3f_0000 == 0;
    let fits = (total >= IPV4 as u16) & (u32::from(total) + ETHERNET as u32 <= u32::from(len));
    let ordinary = ORDINARY[usize::from(source as u8)] & ORDINARY[usize::from(destination as u8)];
    if !((sum == 0xffff) & fits & ordinary & whole) {
        return None;
    }
    let [source, destination] = [source.swap_bytes(), destination.swap_bytes()];
    Some(Facts4 { total, protocol: (third >> 8) as u8, source, destination })
}

/// The facts of a packet; `total` is its length from the IP header on.
struct Facts6 {
    total: u16,
    protocol: u8,
    destination: Ipv6Addr,
}

#[inline(always)]
fn ipv6(frame: &[u8; ETHERNET + IPV6], len: u16) -> Option<Facts6> {
    let total = u32::from(u16::from_be_bytes([frame[18], frame[19]])) + IPV6 as u32;
    let protocol = frame[20];
    let fits = total + ETHERNET as u32 <= u32::from(len);
    let bare = (protocol == protocol::TCP) | (protocol == protocol::UDP);
    // Not ::/8 (unspecified, loopback), link-local or multicast.
    let ordinary = |octet: u8| octet.wrapping_sub(1) < 0xfd;
    if !(fits & bare & ordinary(frame[22]) & ordinary(frame[38])) {
        return None;
    }
    let mut destination = [0; 16];
    destination.copy_from_slice(&frame[38..]);
    Some(Facts6 { total: total as u16, protocol, destination: destination.into() })
}

/// Four bytes as a word; one load, which single bytes put together would not always be.
#[inline(always)]
fn word4<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
}

/// Eight bytes as a word.
#[inline(always)]
fn word8<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}
