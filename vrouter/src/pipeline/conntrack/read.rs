//! What conntrack reads of each packet.
//!
//! | packet | ports | kind | else |
//! |---|---|---|---|
//! | TCP | ports | flags | sequence, acknowledgment, window, length of data, window scale of a SYN |
//! | UDP and the like | ports | | |
//! | SCTP | ports | type of the first chunk | verification tag, initiate tag |
//! | ICMP question, answer | identifier, as both | type | |
//! | ICMP error | those of the packet that it quotes | | |
//! | other ICMP | | type | untracked |
//! | fragment behind the first | none to see | | |

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use acl::conntrack::{Addresses, IcmpMessage, TcpSegment, Tuple, has_ports, window_scale};
use encap::wire::{ipv4, ipv6, ipv6_ext, protocol};

use super::{FlowState, plain};
use crate::burst::{Burst, are_few, lanes};
use crate::frame::FrameArea;
use crate::frame::columns::Columns;

const SCTP: u8 = 132;
const SCTP_INIT: u8 = 1;
const SCTP_INIT_ACK: u8 = 2;
pub(super) const SYN: u8 = 2;
/// Types of ICMP timestamps (RFC 792): question, answer.
const TIMESTAMPS: [u8; 2] = [13, 14];
/// The zone of timestamps, which keeps them apart from echoes of the same identifier.
const TIMESTAMP_ZONE: u16 = 1 << 15;
/// Bytes of an ICMP header, and where the packet begins that an error quotes.
const ICMP_HEADER: usize = 8;

/// What the packets of a burst are to conntrack; fragments behind the first are in no mask.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Read {
    /// To be looked up.
    pub(super) tracked: u64,
    /// ICMP messages that belong to no flow.
    pub(super) untracked: u64,
    /// Packets whose transport header is not whole.
    pub(super) malformed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tracked,
    Untracked,
    Malformed,
}

pub(super) fn is_icmp(number: u8) -> bool {
    matches!(number, protocol::ICMP | protocol::ICMPV6)
}

fn zone(number: u8, kind: u8) -> u16 {
    if number == protocol::ICMP && TIMESTAMPS.contains(&kind) { TIMESTAMP_ZONE } else { 0 }
}

/// The type of the question that opened an ICMP flow.
pub(super) fn question(tuple: &Tuple) -> u8 {
    if tuple.zone == TIMESTAMP_ZONE { TIMESTAMPS[0] } else { tuple.icmp_type }
}

/// Reads the packets of `mask`: ordinary ones together, others one by one.
pub(super) fn burst(
    flows: &mut FlowState,
    burst: &Burst,
    mask: u64,
    area: &FrameArea,
    columns: &mut Columns,
) -> Read {
    let headers = &mut flows.headers;
    headers.v6 = burst.v6 & mask;
    headers.quoted = 0;
    let passed = if are_few(mask) { 0 } else { plain::packets(headers, burst, mask, area, columns) };
    for lane in lanes(mask & burst.v6) {
        let source = burst.network(lane, area).get(8..24).and_then(|octets| octets.first_chunk());
        headers.src6[lane] = source.map_or(0, |octets| u128::from_be_bytes(*octets));
        headers.dst6[lane] = burst.meta.dst6[lane].to_bits();
    }
    let others = one_by_one(flows, burst, mask & !passed, area);
    Read { tracked: passed | others.tracked, ..others }
}

pub(super) fn one_by_one(flows: &mut FlowState, burst: &Burst, mask: u64, area: &FrameArea) -> Read {
    let mut read = Read::default();
    for lane in lanes(mask) {
        let bit = 1 << lane;
        let meta = &burst.meta;
        let headers = &mut flows.headers;
        if burst.v4 & bit != 0 {
            headers.src4[lane] = meta.src4[lane];
            headers.dst4[lane] = meta.dst4[lane].to_bits();
        }
        headers.protocol[lane] = meta.protocol[lane];
        headers.len[lane] = meta.ip_len[lane];
        (headers.src_port[lane], headers.dst_port[lane], headers.kind[lane]) = (0, 0, 0);
        headers.zone[lane] = 0;
        let l4 = meta.l4[lane];
        if l4 == 0 {
            // Without a transport header and no fragment: nothing follows the network header.
            read.tracked |= bit & !burst.fragments;
            continue;
        }
        let len = (meta.offset[lane] + meta.len[lane]).saturating_sub(l4);
        let bytes = area.bytes(burst.frame(lane), l4, len);
        // What follows the network header; of super-packets more than the head frame holds.
        let transport_len = meta.ip_len[lane].saturating_sub(u32::from(l4 - meta.l3[lane]));
        match transport(flows, lane, bytes, transport_len) {
            Kind::Tracked => read.tracked |= bit,
            Kind::Untracked => read.untracked |= bit,
            Kind::Malformed => read.malformed |= bit,
        }
    }
    read
}

#[inline]
fn transport(flows: &mut FlowState, lane: usize, bytes: &[u8], len: u32) -> Kind {
    let headers = &mut flows.headers;
    let number = headers.protocol[lane];
    if has_ports(number) {
        let Some([a, b, c, d]) = bytes.first_chunk() else { return Kind::Malformed };
        headers.src_port[lane] = u16::from_be_bytes([*a, *b]);
        headers.dst_port[lane] = u16::from_be_bytes([*c, *d]);
        return match number {
            protocol::TCP => match segment(bytes, len) {
                Some(segment) => {
                    headers.set_tcp(lane, &segment);
                    Kind::Tracked
                }
                None => Kind::Malformed,
            },
            SCTP => sctp(flows, lane, bytes),
            _ => Kind::Tracked,
        };
    }
    if is_icmp(number) { icmp(flows, lane, bytes) } else { Kind::Tracked }
}

/// A TCP header as state tracking wants it; `None` where it is not whole. `len` is that of header and data.
#[inline]
fn segment(bytes: &[u8], len: u32) -> Option<TcpSegment> {
    let header = bytes.first_chunk::<20>()?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let header_len = usize::from(header[12] >> 4) * 4;
    let options = bytes.get(20..header_len)?;
    let flags = header[13];
    Some(TcpSegment {
        flags,
        seq: word(4),
        ack: word(8),
        window: u16::from_be_bytes([header[14], header[15]]),
        payload: len.saturating_sub(header_len as u32),
        scale: if flags & SYN != 0 { window_scale(options) } else { None },
    })
}

/// RFC 9260 3: common header, then the first chunk.
#[cold]
fn sctp(flows: &mut FlowState, lane: usize, bytes: &[u8]) -> Kind {
    let headers = &mut flows.headers;
    let word =
        |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|w| u32::from_be_bytes(*w));
    let (Some(tag), Some(chunk)) = (word(4), bytes.get(12)) else { return Kind::Malformed };
    (headers.kind[lane], headers.seq[lane], headers.ack[lane]) = (*chunk, tag, 0);
    if matches!(*chunk, SCTP_INIT | SCTP_INIT_ACK) {
        let Some(initiate_tag) = word(16) else { return Kind::Malformed };
        headers.ack[lane] = initiate_tag;
    }
    Kind::Tracked
}

fn icmp(flows: &mut FlowState, lane: usize, bytes: &[u8]) -> Kind {
    let Some([kind, code, _, _, a, b, _, _]) = bytes.first_chunk::<ICMP_HEADER>() else {
        return Kind::Malformed;
    };
    let headers = &mut flows.headers;
    (headers.kind[lane], flows.code[lane]) = (*kind, *code);
    let v6 = headers.v6 >> lane & 1 == 1;
    match IcmpMessage::of(v6, *kind) {
        IcmpMessage::Tracked => {
            let id = u16::from_be_bytes([*a, *b]);
            (headers.src_port[lane], headers.dst_port[lane]) = (id, id);
            headers.seq[lane] = u32::from(*code);
            headers.zone[lane] = zone(headers.protocol[lane], *kind);
            Kind::Tracked
        }
        IcmpMessage::Error => error(flows, lane, v6, &bytes[ICMP_HEADER..]),
        IcmpMessage::Untracked => Kind::Untracked,
    }
}

/// Sets a lane to the packet that an ICMP error quotes.
#[cold]
fn error(flows: &mut FlowState, lane: usize, v6: bool, quoted: &[u8]) -> Kind {
    let headers = &mut flows.headers;
    let len = headers.len[lane];
    let (destination, tuple) = if v6 {
        (IpAddr::V6(Ipv6Addr::from_bits(headers.dst6[lane])), quoted_v6(quoted))
    } else {
        (IpAddr::V4(Ipv4Addr::from_bits(headers.dst4[lane])), quoted_v4(quoted))
    };
    let Some(tuple) = tuple else { return Kind::Malformed };
    let fits = headers.set_quoted(lane, destination, &tuple);
    headers.len[lane] = len;
    if fits { Kind::Tracked } else { Kind::Malformed }
}

fn quoted_v4(bytes: &[u8]) -> Option<Tuple> {
    let header = bytes.first_chunk::<{ ipv4::MIN_HEADER_LEN }>()?;
    let header_len = usize::from(header[0] & 0xf) * 4;
    let later = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    if header[0] >> 4 != 4 || header_len < ipv4::MIN_HEADER_LEN || later {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    tuple(Addresses::V4(address(12), address(16)), header[9], bytes.get(header_len..)?)
}

fn quoted_v6(bytes: &[u8]) -> Option<Tuple> {
    let (header, payload) = bytes.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let upper = ipv6_ext::walk(header[6], payload).ok()?;
    if header[0] >> 4 != 6 || upper.is_later_fragment() {
        return None;
    }
    let address = |at: usize| header[at..].first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets));
    tuple(Addresses::V6(address(8)?, address(24)?), upper.protocol, payload.get(upper.offset..)?)
}

/// The tuple of a quoted packet, of which 8 bytes behind its header are there (RFC 792).
fn tuple(addresses: Addresses, number: u8, transport: &[u8]) -> Option<Tuple> {
    let mut tuple = Tuple { addresses, src_port: 0, dst_port: 0, protocol: number, icmp_type: 0, zone: 0 };
    if has_ports(number) {
        let [a, b, c, d] = *transport.first_chunk()?;
        tuple.src_port = u16::from_be_bytes([a, b]);
        tuple.dst_port = u16::from_be_bytes([c, d]);
    } else if is_icmp(number) {
        let [kind, _, _, _, a, b] = *transport.first_chunk()?;
        let id = u16::from_be_bytes([a, b]);
        (tuple.icmp_type, tuple.src_port, tuple.dst_port) = (kind, id, id);
        tuple.zone = zone(number, kind);
    }
    Some(tuple)
}
