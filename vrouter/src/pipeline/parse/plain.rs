//! The checks of ordinary packets, for the whole burst at once.
//!
//! Almost every packet is IPv4 with a header of 20 bytes or IPv6 with the transport
//! header right behind, whole, with addresses that nothing is special about. For these
//! all of parse comes down to comparisons of words, which are made for all lanes side by
//! side. A packet that fails one of them is not wrong for it: it is looked at again,
//! check by check.
//!
//! ```text
//!   0                14                  30               46
//!   | MACs, type     | IPv4, source      | destination,    |
//!   |        link    |        front      | ports    back   |      three pieces of columns
//!                    | IPv6, source ...  | ... destination |
//! ```
//!
//! Invariant: what passes here would pass there, with the same facts noted (tested on
//! arbitrary frames).

use core::net::{Ipv4Addr, Ipv6Addr};

use encap::wire::{ethernet, ipv4, ipv6, protocol};
use fib::Fib;

use crate::burst::{Burst, Meta, lanes};
use crate::frame::FrameArea;
use crate::frame::columns::Columns;
use crate::tables::{Port, Role};
use crate::vector;

const ETHERNET: u16 = ethernet::HEADER_LEN as u16;
const IPV4: u16 = ipv4::MIN_HEADER_LEN as u16;
const IPV6: u16 = ipv6::HEADER_LEN as u16;
/// Where the pieces begin.
const PIECES: [u16; 3] = [0, ETHERNET, ETHERNET + 16];
/// Ethertype and first byte of an IPv4 header without options, as they lie in memory.
const IPV4_START: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);
/// Ethertype and version of IPv6, with the traffic class masked out.
const IPV6_START: u32 = u32::from_le_bytes([0x86, 0xdd, 0x60, 0]);

/// What a port asks of every frame, as words to compare with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    /// Our MAC address there: its first four octets, its last two.
    mac: (u32, u32),
    /// The station's MAC address: its first two octets in the upper half, its last four; and
    /// which bits of them count.
    peer: (u32, u32),
    peer_bits: (u32, u32),
}

impl Gate {
    /// The gate of a port.
    pub(super) fn of(port: &Port) -> Self {
        let octets = |mac: encap::MacAddr| mac.to_u64().swap_bytes() >> 16;
        let (mac, peer) = (octets(port.mac), octets(port.peer_mac));
        let bits = if port.role == Role::Pod { u32::MAX } else { 0 };
        Gate {
            mac: (mac as u32, (mac >> 32) as u32),
            peer: ((peer << 16) as u32, (peer >> 16) as u32),
            peer_bits: (bits & 0xffff_0000, bits),
        }
    }
}

/// The lanes that passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::pipeline) struct Ordinary {
    /// IPv4.
    pub(in crate::pipeline) v4: u64,
    /// IPv6.
    pub(in crate::pipeline) v6: u64,
    /// IPv4 that carries another IP packet.
    pub(super) ip_in_ip: u64,
}

/// Parses the ordinary packets among those in `mask`, which came in at one port, and notes their
/// facts. `routes` are those that they will be looked up in.
pub(super) fn packets(
    burst: &mut Burst,
    mask: u64,
    gate: &Gate,
    routes: &Fib<Ipv4Addr>,
    area: &FrameArea,
    columns: &mut [Columns; 3],
) -> Ordinary {
    area.columns(burst.frames(), &burst.meta.offset, PIECES, mask, columns);
    // Of what is not IPv4 these are no destinations: then something is fetched in vain.
    let destinations = &columns[2].0[0];
    routes.prefetch(lanes(mask).map(|lane| Ipv4Addr::from(destinations[lane].to_le_bytes())));
    let ordinary = checks(&mut burst.meta, mask, burst.alive, gate, columns);
    destinations_v6(burst, ordinary.v6, area);
    burst.in_columns = ordinary.v4 | ordinary.v6;
    ordinary
}

/// The same for few packets, one by one.
pub(super) fn few(burst: &mut Burst, mask: u64, gate: &Gate, area: &FrameArea) -> Ordinary {
    let mut ordinary = Ordinary::default();
    for lane in lanes(mask) {
        let header = area.header::<{ PIECES[2] as usize + 16 }>(burst.frame(lane), burst.meta.offset[lane]);
        let Some(header) = header else { continue };
        let [link, front, back] = PIECES.map(|piece| words(header, piece.into()));
        if !passes(gate, link) {
            continue;
        }
        let (len, meta) = (burst.meta.len[lane], &mut burst.meta);
        if link[3] & 0x00ff_ffff == IPV4_START && ipv4_passes(front, back[0], len) {
            note_ipv4(meta, lane, true, front, back[0]);
            ordinary.v4 |= 1 << lane;
            ordinary.ip_in_ip |= u64::from(is_nested(meta.protocol[lane])) << lane;
        } else if link[3] & 0x00f0_ffff == IPV6_START && ipv6_passes(front, back, len) {
            note_ipv6(meta, lane, true, front);
            ordinary.v6 |= 1 << lane;
        }
    }
    destinations_v6(burst, ordinary.v6, area);
    ordinary
}

/// Four words of a header, as columns have them.
#[inline(always)]
fn words(header: &[u8], at: usize) -> [u32; 4] {
    let (words, _) = header[at..at + 16].as_chunks::<4>();
    [0, 1, 2, 3].map(|n| u32::from_le_bytes(words[n]))
}

/// Parses the ordinary ones among packets that have lost an outer header: what they begin with, 14
/// bytes behind `offset`, is judged by its version alone.
pub(in crate::pipeline) fn inner(burst: &mut Burst, mask: u64, area: &FrameArea) -> Ordinary {
    let mut columns = <[Columns; 2]>::default();
    area.columns(burst.frames(), &burst.meta.offset, [PIECES[1], PIECES[2]], mask, &mut columns);
    let ordinary = inner_checks(&mut burst.meta, mask, &columns);
    destinations_v6(burst, ordinary.v6, area);
    ordinary
}

fn destinations_v6(burst: &mut Burst, mask: u64, area: &FrameArea) {
    for lane in lanes(mask) {
        let octets = area.header(burst.frame(lane), burst.meta.l3[lane] + 24);
        burst.meta.dst6[lane] = octets.map_or(Ipv6Addr::UNSPECIFIED, |octets| (*octets).into());
    }
}

vector::widest! {
    fn checks(meta: &mut Meta, mask: u64, alive: u64, gate: &Gate, columns: &[Columns; 3]) -> Ordinary {
        let [link, front, back] = columns;
        let ours = vector::mask(mask, |lane| passes(gate, link.of(lane)));
        let v4 = vector::mask(ours, |lane| link.0[3][lane] & 0x00ff_ffff == IPV4_START);
        let rest = ours & !v4;
        let v6 = if rest == 0 { 0 } else { vector::mask(rest, |lane| link.0[3][lane] & 0x00f0_ffff == IPV6_START) };
        network(meta, v4, v6, alive, front, back)
    }
}

vector::widest! {
    fn inner_checks(meta: &mut Meta, mask: u64, columns: &[Columns; 2]) -> Ordinary {
        let [front, back] = columns;
        let v4 = vector::mask(mask, |lane| front.0[0][lane] & 0xff == IPV4_START >> 16);
        let v6 = vector::mask(mask & !v4, |lane| front.0[0][lane] & 0xf0 == IPV6_START >> 16);
        network(meta, v4, v6, u64::MAX, front, back)
    }
}

/// Checks the network headers of packets that begin like IPv4 and like IPv6. The facts of the other
/// packets in `alive` stay as they are.
#[inline(always)]
fn network(meta: &mut Meta, v4: u64, v6: u64, alive: u64, front: &Columns, back: &Columns) -> Ordinary {
    let v4 = if v4 == 0 { 0 } else { ipv4(meta, v4, alive, front, back) };
    let v6 = if v6 == 0 { 0 } else { ipv6(meta, v6, alive, front, back) };
    Ordinary { v4, v6, ip_in_ip: vector::mask(v4, |lane| is_nested(meta.protocol[lane])) }
}

#[inline(always)]
fn is_nested(protocol: u8) -> bool {
    (protocol == protocol::IPIP) | (protocol == protocol::IPV6)
}

/// Whether the frame is for us, and from the station that may send it.
#[inline(always)]
fn passes(gate: &Gate, [first, second, third, _]: [u32; 4]) -> bool {
    let ours = (first ^ gate.mac.0) | (second & 0xffff ^ gate.mac.1);
    let theirs = (second ^ gate.peer.0) & gate.peer_bits.0 | (third ^ gate.peer.1) & gate.peer_bits.1;
    ours | theirs == 0
}

/// Checks IPv4 headers and notes the facts of those that pass.
#[inline(always)]
fn ipv4(meta: &mut Meta, mask: u64, alive: u64, front: &Columns, back: &Columns) -> u64 {
    let passed = vector::mask(mask, |lane| ipv4_passes(front.of(lane), back.0[0][lane], meta.len[lane]));
    if passed == alive {
        // The usual burst: what lanes without a packet hold means nothing, so there is nothing to keep.
        vector::each(mask, |lane| note_ipv4(meta, lane, true, front.of(lane), back.0[0][lane]));
    } else {
        vector::each(mask, |lane| {
            note_ipv4(meta, lane, passed >> lane & 1 == 1, front.of(lane), back.0[0][lane]);
        });
    }
    passed
}

/// Notes the facts of a packet, if it has passed.
#[inline(always)]
fn note_ipv4(meta: &mut Meta, lane: usize, passed: bool, front: [u32; 4], destination: u32) {
    let [first, _, third, source] = front;
    let total = ((first >> 16) as u16).swap_bytes();
    let l3 = meta.offset[lane].wrapping_add(ETHERNET);
    let note16 = |fact: &mut u16, value: u16| *fact = if passed { value } else { *fact };
    note16(&mut meta.l3[lane], l3);
    note16(&mut meta.l4[lane], l3.wrapping_add(IPV4));
    note16(&mut meta.len[lane], total.wrapping_add(ETHERNET));
    let note32 = |fact: &mut u32, value: u32| *fact = if passed { value } else { *fact };
    note32(&mut meta.ip_len[lane], u32::from(total));
    note32(&mut meta.src4[lane], source.swap_bytes());
    let destination = Ipv4Addr::from(destination.to_le_bytes());
    meta.dst4[lane] = if passed { destination } else { meta.dst4[lane] };
    meta.protocol[lane] = if passed { (third >> 8) as u8 } else { meta.protocol[lane] };
}

#[inline(always)]
fn ipv4_passes(front: [u32; 4], destination: u32, len: u16) -> bool {
    // Five words as they lie in memory: version, length | id, fragment | TTL, protocol,
    // checksum | source | destination.
    let [first, second, third, source] = front;
    // The checksum's sum does not care which half of a word is which (RFC 1071 2).
    let halves = |word: u32| (word & 0xffff) + (word >> 16);
    let sum = halves(first) + halves(second) + halves(third) + halves(source) + halves(destination);
    let sum = halves(halves(sum));
    let total = u32::from(((first >> 16) as u16).swap_bytes());
    // Neither more fragments nor an offset.
    let whole = second & 0xff3f_0000 == 0;
    let fits = (total >= u32::from(IPV4)) & (total + u32::from(ETHERNET) <= u32::from(len));
    // First octets in whose range every address may be forwarded: not 0/8, 127/8, 169/8
    // (link-local is part of it), nor 224/3.
    let ordinary = |address: u32| {
        let octet = address & 0xff;
        (octet.wrapping_sub(1) < 223) & (octet != 127) & (octet != 169)
    };
    (sum == 0xffff) & fits & whole & ordinary(source) & ordinary(destination)
}

/// Checks IPv6 headers and notes the facts of those that pass, but for the destination.
#[inline(always)]
fn ipv6(meta: &mut Meta, mask: u64, alive: u64, front: &Columns, back: &Columns) -> u64 {
    let passed = vector::mask(mask, |lane| ipv6_passes(front.of(lane), back.of(lane), meta.len[lane]));
    if passed == alive {
        vector::each(mask, |lane| note_ipv6(meta, lane, true, front.of(lane)));
    } else {
        vector::each(mask, |lane| note_ipv6(meta, lane, passed >> lane & 1 == 1, front.of(lane)));
    }
    passed
}

/// Notes the facts of a packet, if it has passed.
#[inline(always)]
fn note_ipv6(meta: &mut Meta, lane: usize, passed: bool, [_, second, ..]: [u32; 4]) {
    let total = (second as u16).swap_bytes().wrapping_add(IPV6);
    let l3 = meta.offset[lane].wrapping_add(ETHERNET);
    let note16 = |fact: &mut u16, value: u16| *fact = if passed { value } else { *fact };
    note16(&mut meta.l3[lane], l3);
    note16(&mut meta.l4[lane], l3.wrapping_add(IPV6));
    note16(&mut meta.len[lane], total.wrapping_add(ETHERNET));
    meta.ip_len[lane] = if passed { u32::from(total) } else { meta.ip_len[lane] };
    meta.protocol[lane] = if passed { (second >> 16) as u8 } else { meta.protocol[lane] };
}

#[inline(always)]
fn ipv6_passes(front: [u32; 4], back: [u32; 4], len: u16) -> bool {
    // Payload length, next header, hop limit.
    let second = front[1];
    let total = u32::from((second as u16).swap_bytes()) + u32::from(IPV6);
    let fits = total + u32::from(ETHERNET) <= u32::from(len);
    let next = second >> 16 & 0xff;
    let bare = (next == u32::from(protocol::TCP)) | (next == u32::from(protocol::UDP));
    // Not ::/8 (unspecified, loopback), link-local or multicast.
    let ordinary = |word: u32| (word & 0xff).wrapping_sub(1) < 0xfd;
    fits & bare & ordinary(front[2]) & ordinary(back[2])
}
