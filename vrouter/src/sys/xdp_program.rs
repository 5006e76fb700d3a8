//! The XDP programs: which frames of a device are the router's.
//!
//! ```text
//!   all frames          -> take                        exclusive uplinks, veth pods
//!
//!   group MAC, not IP, VLAN, malformed -> pass         shared uplinks
//!   destination is a tunnel address of ours:
//!       protocol 4, 41 (any fragment), UDP to the VXLAN port:
//!           source in `foreign`                -> pass
//!           else                               -> take
//!       ICMP error that quotes such a packet, sent by a tunnel address of ours -> take
//!   longest match of the destination in `take`: 1 -> take, 0 -> pass
//!   else                                               -> pass
//!
//!   take: to the AF_XDP socket of the receive queue; none there: drop, counted
//! ```
//!
//! Maps decide, not code: the program is the same for every configuration. IPv4 and
//! IPv6 go through one writer with a table of offsets. IPv6 hop-by-hop, routing,
//! destination (tunnel encapsulation limit) and fragment headers are stepped over,
//! up to [`EXTENSION_HEADERS`] of them. Later fragments of UDP carry no port and are
//! matched by destination only: a VXLAN tunnel must not be fragmented (RFC 7348, 4.3).
//!
//! Sources: RFC 791, 792, 2003, 2473, 4443, 7348, 8200; `bpf-helpers(7)`.

use std::os::fd::AsFd;

use super::bpf::Map;
use super::bpf_asm::{Assembler, Helper, If, Insn, Label, Op, Reg, Size};

/// `XDP_PASS`: to the kernel's stack.
pub(super) const XDP_PASS: i32 = 2;
/// `XDP_DROP`.
pub(super) const XDP_DROP: i32 = 1;
/// `XDP_REDIRECT`: to the socket.
pub(super) const XDP_REDIRECT: i32 = 4;

/// Entries of the counter map.
pub(super) const COUNTERS: u32 = 3;
pub(super) const PASSED: u32 = 0;
pub(super) const REDIRECTED: u32 = 1;
pub(super) const NO_SOCKET: u32 = 2;

/// IPv6 extension headers stepped over before a packet counts as not a tunnel's.
const EXTENSION_HEADERS: usize = 3;

const IPPROTO_ICMP: i32 = 1;
const IPPROTO_IPV4: i32 = 4;
const IPPROTO_UDP: i32 = 17;
const IPPROTO_IPV6: i32 = 41;
const IPPROTO_FRAGMENT: i32 = 44;
const IPPROTO_ICMPV6: i32 = 58;
const IPPROTO_DSTOPTS: i32 = 60;

/// Key of the LPM maps: prefix length, then the address.
pub(super) type PrefixKey<const N: usize> = [u8; N];

/// The maps that every program uses.
#[derive(Debug)]
pub(super) struct DeviceMaps {
    /// Queue to socket.
    pub(super) sockets: Map<u32, u32>,
    pub(super) counters: Map<u32, u64>,
}

/// The maps of one IP version; `A` bytes of address, `P` bytes of LPM key.
#[derive(Debug)]
pub(super) struct FamilyMaps<const A: usize, const P: usize> {
    /// Our tunnel addresses.
    pub(super) local: Map<[u8; A], u32>,
    /// Tunnel sources whose packets are the kernel's.
    pub(super) foreign: Map<[u8; A], u32>,
    /// Destinations: 1 take, 0 pass.
    pub(super) take: Map<PrefixKey<P>, u32>,
}

/// The maps of the program for shared uplinks.
#[derive(Debug)]
pub(super) struct SharedMaps {
    pub(super) v4: FamilyMaps<4, 8>,
    pub(super) v6: FamilyMaps<16, 20>,
    /// Entry 0: the VXLAN port in host order, 0 for none.
    pub(super) vxlan_port: Map<u32, u32>,
}

/// Where things stand in a packet of one IP version. Offsets are from the start of
/// the IP header.
struct Layout {
    version: i32,
    header: i16,
    protocol: i16,
    source: i16,
    destination: i16,
    /// Bytes of an address.
    address: i16,
    icmp: i32,
    /// Types of ICMP errors.
    errors: &'static [i32],
}

const V4: Layout = Layout {
    version: 4,
    header: 20,
    protocol: 9,
    source: 12,
    destination: 16,
    address: 4,
    icmp: IPPROTO_ICMP,
    errors: &[3, 11, 12],
};

const V6: Layout = Layout {
    version: 6,
    header: 40,
    protocol: 6,
    source: 8,
    destination: 24,
    address: 16,
    icmp: IPPROTO_ICMPV6,
    errors: &[1, 2, 3, 4],
};

pub(super) const ETHERNET: i16 = 14;

// Registers that live through calls.
const PROTOCOL: Reg = Reg::R6;
pub(super) const FRAME: Reg = Reg::R7;
pub(super) const END: Reg = Reg::R8;
/// The header after the IP header and its extensions.
const UPPER: Reg = Reg::R9;

// The stack. An LPM key is the prefix length directly in front of the destination.
const DESTINATION: i16 = -16;
const PREFIX_LEN: i16 = DESTINATION - 4;
const ADDRESS: i16 = -40;
const INDEX: i16 = -44;
const PORT: i16 = -56;
const QUEUE: i16 = -64;

/// Takes every frame.
pub(super) fn take_all(maps: &DeviceMaps) -> Vec<Insn> {
    let mut asm = Assembler::default();
    asm.load(Size::Word, Reg::R2, Reg::R1, XDP_MD_RX_QUEUE);
    take(&mut asm, maps);
    asm.finish()
}

/// Takes what is the router's on an uplink that the node's own stack uses too.
pub(super) fn take_ours(maps: &DeviceMaps, shared: &SharedMaps) -> Vec<Insn> {
    let mut asm = Assembler::default();
    let a = &mut asm;
    let (take_it, pass) = (a.label(), a.label());

    a.load(Size::Word, FRAME, Reg::R1, XDP_MD_DATA);
    a.load(Size::Word, END, Reg::R1, XDP_MD_DATA_END);
    a.load(Size::Word, Reg::R2, Reg::R1, XDP_MD_RX_QUEUE);
    a.store(Size::Double, Reg::R10, QUEUE, Reg::R2);

    need(a, FRAME, ETHERNET, pass);
    decide(a, shared, Exits { take: take_it, pass });

    a.bind(take_it);
    a.load(Size::Double, Reg::R2, Reg::R10, QUEUE);
    take(a, maps);
    a.bind(pass);
    count(a, maps, PASSED);
    a.mov_imm(Reg::R0, XDP_PASS);
    a.exit();
    asm.finish()
}

const XDP_MD_DATA: i16 = 0;
const XDP_MD_DATA_END: i16 = 4;
const XDP_MD_RX_QUEUE: i16 = 16;

/// Where a program goes on with a frame that is the router's, or the kernel's.
#[derive(Clone, Copy)]
pub(super) struct Exits {
    pub(super) take: Label,
    pub(super) pass: Label,
}

/// Decides over the frame from `FRAME` to `END`, which has an Ethernet header; every path ends at one of
/// `exits`.
pub(super) fn decide(a: &mut Assembler, shared: &SharedMaps, exits: Exits) {
    let v6 = a.label();
    a.load(Size::Byte, Reg::R1, FRAME, 0);
    a.jump_if_imm(If::Set, Reg::R1, 1, exits.pass);
    a.load(Size::Half, Reg::R1, FRAME, 12);
    a.be16(Reg::R1);
    a.jump_if_imm(If::Eq, Reg::R1, 0x86dd, v6);
    a.jump_if_imm(If::Ne, Reg::R1, 0x0800, exits.pass);
    classify(a, &V4, &shared.v4, &shared.vxlan_port, exits);
    a.bind(v6);
    classify(a, &V6, &shared.v6, &shared.vxlan_port, exits);
}

/// Decides over one IP version; every path ends at one of `exits`.
fn classify<const A: usize, const P: usize>(
    a: &mut Assembler,
    ip: &Layout,
    maps: &FamilyMaps<A, P>,
    vxlan_port: &Map<u32, u32>,
    exits: Exits,
) {
    let Exits { take, pass } = exits;
    let (by_destination, tunnel) = (a.label(), a.label());
    let (udp, icmp, quoted_udp, quoted) = (a.label(), a.label(), a.label(), a.label());

    need(a, FRAME, ETHERNET + ip.header, pass);
    a.mov(UPPER, FRAME);
    a.alu_imm(Op::Add, UPPER, ETHERNET.into());
    step_over_header(a, ip, pass);
    a.load(Size::Byte, PROTOCOL, FRAME, ETHERNET + ip.protocol);
    copy(a, ip.address, FRAME, ETHERNET + ip.destination, DESTINATION);
    lookup(a, &maps.local, DESTINATION);
    a.jump_if_imm(If::Eq, Reg::R0, 0, by_destination);

    // To a tunnel address of ours.
    if ip.version == 6 {
        step_over_extensions(a, by_destination, tunnel);
    }
    for protocol in [IPPROTO_IPV4, IPPROTO_IPV6] {
        a.jump_if_imm(If::Eq, PROTOCOL, protocol, tunnel);
    }
    if ip.version == 4 {
        a.load(Size::Half, Reg::R1, FRAME, ETHERNET + 6);
        a.be16(Reg::R1);
        a.jump_if_imm(If::Set, Reg::R1, 0x1fff, by_destination);
    }
    a.jump_if_imm(If::Eq, PROTOCOL, IPPROTO_UDP, udp);
    a.jump_if_imm(If::Eq, PROTOCOL, ip.icmp, icmp);
    a.jump(by_destination);

    a.bind(udp);
    unless_vxlan(a, vxlan_port, by_destination);

    a.bind(tunnel);
    copy(a, ip.address, FRAME, ETHERNET + ip.source, ADDRESS);
    lookup(a, &maps.foreign, ADDRESS);
    a.jump_if_imm(If::Eq, Reg::R0, 0, take);
    a.jump(pass);

    a.bind(icmp);
    const ICMP: i16 = 8;
    need(a, UPPER, ICMP + ip.header, by_destination);
    a.load(Size::Byte, Reg::R1, UPPER, 0);
    let error = a.label();
    for kind in ip.errors {
        a.jump_if_imm(If::Eq, Reg::R1, *kind, error);
    }
    a.jump(by_destination);
    a.bind(error);
    a.load(Size::Byte, PROTOCOL, UPPER, ICMP + ip.protocol);
    copy(a, ip.address, UPPER, ICMP + ip.source, ADDRESS);
    a.jump_if_imm(If::Eq, PROTOCOL, IPPROTO_UDP, quoted_udp);
    for protocol in [IPPROTO_IPV4, IPPROTO_IPV6] {
        a.jump_if_imm(If::Eq, PROTOCOL, protocol, quoted);
    }
    a.jump(by_destination);
    a.bind(quoted_udp);
    a.alu_imm(Op::Add, UPPER, ICMP.into());
    step_over_header(a, ip, by_destination);
    unless_vxlan(a, vxlan_port, by_destination);
    a.bind(quoted);
    lookup(a, &maps.local, ADDRESS);
    a.jump_if_imm(If::Ne, Reg::R0, 0, take);

    a.bind(by_destination);
    a.store_imm(Size::Word, Reg::R10, PREFIX_LEN, i32::from(ip.address) * 8);
    lookup(a, &maps.take, PREFIX_LEN);
    a.jump_if_imm(If::Eq, Reg::R0, 0, pass);
    a.load(Size::Word, Reg::R1, Reg::R0, 0);
    a.jump_if_imm(If::Ne, Reg::R1, 0, take);
    a.jump(pass);
}

/// Goes to `short` unless `base` has `bytes` before the frame's end.
pub(super) fn need(a: &mut Assembler, base: Reg, bytes: i16, short: Label) {
    a.mov(Reg::R1, base);
    a.alu_imm(Op::Add, Reg::R1, bytes.into());
    a.jump_if(If::Gt, Reg::R1, END, short);
}

/// Moves `UPPER` from an IP header, whose fixed part is inside the frame, to its end.
fn step_over_header(a: &mut Assembler, ip: &Layout, malformed: Label) {
    a.load(Size::Byte, Reg::R1, UPPER, 0);
    a.mov(Reg::R2, Reg::R1);
    a.alu_imm(Op::And, Reg::R2, 0xf0);
    a.jump_if_imm(If::Ne, Reg::R2, ip.version << 4, malformed);
    if ip.version == 6 {
        a.alu_imm(Op::Add, UPPER, ip.header.into());
        return;
    }
    a.alu_imm(Op::And, Reg::R1, 0x0f);
    a.alu_imm(Op::Shl, Reg::R1, 2);
    a.jump_if_imm(If::Lt, Reg::R1, ip.header.into(), malformed);
    a.alu(Op::Add, UPPER, Reg::R1);
}

/// Moves `UPPER` and `PROTOCOL` over IPv6 extension headers. Later fragments end here:
/// at `tunnel` when the fragment header names one, else at `other`.
fn step_over_extensions(a: &mut Assembler, other: Label, tunnel: Label) {
    const HOP_BY_HOP: i32 = 0;
    const ROUTING: i32 = 43;
    let done = a.label();
    for _ in 0..EXTENSION_HEADERS {
        let (fragment, options, next) = (a.label(), a.label(), a.label());
        a.jump_if_imm(If::Eq, PROTOCOL, IPPROTO_FRAGMENT, fragment);
        for protocol in [HOP_BY_HOP, ROUTING, IPPROTO_DSTOPTS] {
            a.jump_if_imm(If::Eq, PROTOCOL, protocol, options);
        }
        a.jump(done);

        a.bind(fragment);
        need(a, UPPER, 8, other);
        a.load(Size::Byte, PROTOCOL, UPPER, 0);
        a.load(Size::Half, Reg::R1, UPPER, 2);
        a.be16(Reg::R1);
        a.alu_imm(Op::Add, UPPER, 8);
        let first = a.label();
        a.alu_imm(Op::And, Reg::R1, 0xfff8);
        a.jump_if_imm(If::Eq, Reg::R1, 0, first);
        // Destination options: the encapsulation limit of a tunnel packet.
        for protocol in [IPPROTO_IPV4, IPPROTO_IPV6, IPPROTO_DSTOPTS] {
            a.jump_if_imm(If::Eq, PROTOCOL, protocol, tunnel);
        }
        a.jump(other);
        a.bind(first);
        a.jump(next);

        a.bind(options);
        need(a, UPPER, 8, other);
        a.load(Size::Byte, PROTOCOL, UPPER, 0);
        a.load(Size::Byte, Reg::R1, UPPER, 1);
        a.alu_imm(Op::Add, Reg::R1, 1);
        a.alu_imm(Op::Shl, Reg::R1, 3);
        a.alu(Op::Add, UPPER, Reg::R1);
        a.bind(next);
    }
    a.bind(done);
}

/// Goes on if `UPPER` is a UDP header to the VXLAN port, else to `other`.
fn unless_vxlan(a: &mut Assembler, vxlan_port: &Map<u32, u32>, other: Label) {
    need(a, UPPER, 4, other);
    a.load(Size::Half, Reg::R1, UPPER, 2);
    a.be16(Reg::R1);
    a.store(Size::Double, Reg::R10, PORT, Reg::R1);
    a.store_imm(Size::Word, Reg::R10, INDEX, 0);
    lookup(a, vxlan_port, INDEX);
    a.jump_if_imm(If::Eq, Reg::R0, 0, other);
    a.load(Size::Word, Reg::R1, Reg::R0, 0);
    a.jump_if_imm(If::Eq, Reg::R1, 0, other);
    a.load(Size::Double, Reg::R2, Reg::R10, PORT);
    a.jump_if(If::Ne, Reg::R1, Reg::R2, other);
}

/// Copies an address to the stack, a word at a time: packets are aligned to 2 bytes.
fn copy(a: &mut Assembler, bytes: i16, from: Reg, offset: i16, to: i16) {
    for at in (0..bytes).step_by(4) {
        a.load(Size::Word, Reg::R1, from, offset + at);
        a.store(Size::Word, Reg::R10, to + at, Reg::R1);
    }
}

/// `R0` = the value for the key on the stack at `key`, or null.
fn lookup(a: &mut Assembler, map: impl AsFd, key: i16) {
    a.load_map(Reg::R1, map.as_fd());
    a.mov(Reg::R2, Reg::R10);
    a.alu_imm(Op::Add, Reg::R2, key.into());
    a.call(Helper::MapLookup);
}

/// Redirects to the socket of the queue in `R2`, counts what came of it, and ends.
fn take(a: &mut Assembler, maps: &DeviceMaps) {
    let (redirected, counted) = (a.label(), a.label());
    a.load_map(Reg::R1, maps.sockets.as_fd());
    a.mov_imm(Reg::R3, XDP_DROP);
    a.call(Helper::RedirectMap);
    a.mov(PROTOCOL, Reg::R0);
    a.jump_if_imm(If::Eq, Reg::R0, XDP_REDIRECT, redirected);
    count(a, maps, NO_SOCKET);
    a.jump(counted);
    a.bind(redirected);
    count(a, maps, REDIRECTED);
    a.bind(counted);
    a.mov(Reg::R0, PROTOCOL);
    a.exit();
}

/// Adds one to a counter of this CPU. Programs of one CPU do not interrupt each other.
pub(super) fn count(a: &mut Assembler, maps: &DeviceMaps, counter: u32) {
    let missing = a.label();
    a.store_imm(Size::Word, Reg::R10, INDEX, counter as i32);
    lookup(a, &maps.counters, INDEX);
    a.jump_if_imm(If::Eq, Reg::R0, 0, missing);
    a.load(Size::Double, Reg::R1, Reg::R0, 0);
    a.alu_imm(Op::Add, Reg::R1, 1);
    a.store(Size::Double, Reg::R0, 0, Reg::R1);
    a.bind(missing);
}

#[cfg(test)]
mod tests;
