//! Neighbour discovery messages (RFC 4861 §4), with the checks every receiver must make (§6.1, §7.1, §8.1).
//!
//! ```text
//!   RS 133   -           | options          all: hop limit 255, checksum, code 0, every option's length > 0
//!   RA 134   lifetimes   | options          RA, redirect: from a link-local source
//!   NS 135   target      | options          NS, NA: the target is not multicast
//!   NA 136   R S O target| options          NS from :: (DAD): to a solicited-node address, no source link-layer option
//!   137      redirect: target, destination  NA to multicast: the solicited flag is clear
//!
//!   option   type (1)  length in 8 bytes (1)  value ..
//! ```
//!
//! Neighbour discovery never travels in fragments (RFC 6980 §5): those are refused.

use core::net::Ipv6Addr;

use super::field::{array, get16, get32, put, put32};
use super::{Icmpv6, Ipv6, MacAddr, icmpv6, ipv6, protocol};
use crate::ParseError;

/// The hop limit of every neighbour discovery packet: a router cannot have passed it on.
pub const HOP_LIMIT: u8 = 255;
/// All nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers of the link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

const OPTION_SOURCE_LL: u8 = 1;
const OPTION_TARGET_LL: u8 = 2;
const OPTION_MTU: u8 = 5;

const ROUTER: u32 = 1 << 31;
const SOLICITED: u32 = 1 << 30;
const OVERRIDE: u32 = 1 << 29;

/// A neighbour discovery message that passed its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// Is there a router?
    RouterSolicit(RouterSolicit),
    /// Here is a router.
    RouterAdvert(RouterAdvert),
    /// Who has the target?
    NeighborSolicit(NeighborSolicit),
    /// The target is here.
    NeighborAdvert(NeighborAdvert),
    /// Take a better first hop.
    Redirect(Redirect),
}

/// RFC 4861 §4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterSolicit {
    /// The asker's MAC address, when it has an IPv6 address yet.
    pub source_ll: Option<MacAddr>,
}

/// RFC 4861 §4.2: what a node that does not autoconfigure needs of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterAdvert {
    /// The hop limit hosts should use; 0: not said.
    pub hop_limit: u8,
    /// How long the router may be a default router, in seconds; 0: it is none.
    pub lifetime_secs: u16,
    /// The router's MAC address.
    pub source_ll: Option<MacAddr>,
    /// The link's MTU.
    pub mtu: Option<u32>,
}

/// RFC 4861 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborSolicit {
    /// The address asked for.
    pub target: Ipv6Addr,
    /// The asker's MAC address.
    pub source_ll: Option<MacAddr>,
    /// The asker wants to know whether the address is free before taking it (RFC 4862 §5.4): the source is `::`.
    pub is_dad: bool,
}

/// RFC 4861 §4.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborAdvert {
    /// The address spoken of.
    pub target: Ipv6Addr,
    /// Its MAC address.
    pub target_ll: Option<MacAddr>,
    /// The sender is a router.
    pub router: bool,
    /// This answers a solicitation.
    pub solicited: bool,
    /// What the receiver has cached is to be replaced.
    pub override_: bool,
}

/// RFC 4861 §4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The better first hop; the destination itself when it is on the link.
    pub target: Ipv6Addr,
    /// Whom to reach by it.
    pub destination: Ipv6Addr,
    /// The target's MAC address.
    pub target_ll: Option<MacAddr>,
}

/// Reads the neighbour discovery message in `packet`, a whole IPv6 packet.
///
/// # Errors
/// [`ParseError::Truncated`], [`ParseError::BadVersion`] and [`ParseError::BadLength`] for headers, message and options
/// that do not fit; [`ParseError::BadChecksum`]; [`ParseError::Malformed`] for any other check of RFC 4861 that fails,
/// and for packets that are not neighbour discovery.
pub fn parse(packet: &[u8]) -> Result<Message, ParseError> {
    let ip = Ipv6::new_checked(packet)?;
    let upper = ip.upper()?;
    if upper.protocol != protocol::ICMPV6 || upper.fragment.is_some() || ip.hop_limit() != HOP_LIMIT {
        return Err(ParseError::Malformed);
    }
    let bytes = ip.payload().get(upper.offset..).ok_or(ParseError::Truncated)?;
    let icmp = Icmpv6::new_checked(bytes)?;
    if !icmp.verify_checksum(ip.src(), ip.dst()) {
        return Err(ParseError::BadChecksum);
    }
    if icmp.code() != 0 {
        return Err(ParseError::Malformed);
    }
    match icmp.ty() {
        icmpv6::ROUTER_SOLICIT => router_solicit(bytes, ip.src()).map(Message::RouterSolicit),
        icmpv6::ROUTER_ADVERT => router_advert(bytes, ip.src()).map(Message::RouterAdvert),
        icmpv6::NEIGHBOR_SOLICIT => neighbor_solicit(bytes, ip.src(), ip.dst()).map(Message::NeighborSolicit),
        icmpv6::NEIGHBOR_ADVERT => neighbor_advert(bytes, ip.dst()).map(Message::NeighborAdvert),
        icmpv6::REDIRECT => redirect(bytes, ip.src()).map(Message::Redirect),
        _ => Err(ParseError::Malformed),
    }
}

/// §6.1.1.
fn router_solicit(bytes: &[u8], src: Ipv6Addr) -> Result<RouterSolicit, ParseError> {
    let options = Options::parse(bytes, 8)?;
    if src.is_unspecified() && options.source_ll.is_some() {
        return Err(ParseError::Malformed);
    }
    Ok(RouterSolicit { source_ll: options.source_ll })
}

/// §6.1.2.
fn router_advert(bytes: &[u8], src: Ipv6Addr) -> Result<RouterAdvert, ParseError> {
    let options = Options::parse(bytes, 16)?;
    if !src.is_unicast_link_local() {
        return Err(ParseError::Malformed);
    }
    Ok(RouterAdvert {
        hop_limit: bytes[4],
        lifetime_secs: get16(bytes, 6),
        source_ll: options.source_ll,
        mtu: options.mtu,
    })
}

/// §7.1.1.
fn neighbor_solicit(bytes: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<NeighborSolicit, ParseError> {
    let options = Options::parse(bytes, 24)?;
    let target = Ipv6Addr::from(array::<16>(bytes, 8));
    let is_dad = src.is_unspecified();
    if target.is_multicast() || is_dad && (options.source_ll.is_some() || !is_solicited_node(dst)) {
        return Err(ParseError::Malformed);
    }
    Ok(NeighborSolicit { target, source_ll: options.source_ll, is_dad })
}

/// §7.1.2.
fn neighbor_advert(bytes: &[u8], dst: Ipv6Addr) -> Result<NeighborAdvert, ParseError> {
    let options = Options::parse(bytes, 24)?;
    let target = Ipv6Addr::from(array::<16>(bytes, 8));
    let flags = get32(bytes, 4);
    let solicited = flags & SOLICITED != 0;
    if target.is_multicast() || dst.is_multicast() && solicited {
        return Err(ParseError::Malformed);
    }
    Ok(NeighborAdvert {
        target,
        target_ll: options.target_ll,
        router: flags & ROUTER != 0,
        solicited,
        override_: flags & OVERRIDE != 0,
    })
}

/// §8.1, but for "the source is the current first hop", which the receiver must know.
fn redirect(bytes: &[u8], src: Ipv6Addr) -> Result<Redirect, ParseError> {
    let options = Options::parse(bytes, 40)?;
    let target = Ipv6Addr::from(array::<16>(bytes, 8));
    let destination = Ipv6Addr::from(array::<16>(bytes, 24));
    let target_fits = target.is_unicast_link_local() || target == destination;
    if !src.is_unicast_link_local() || destination.is_multicast() || !target_fits {
        return Err(ParseError::Malformed);
    }
    Ok(Redirect { target, destination, target_ll: options.target_ll })
}

/// The options that matter here; unknown ones are skipped (§4.6).
struct Options {
    source_ll: Option<MacAddr>,
    target_ll: Option<MacAddr>,
    mtu: Option<u32>,
}

impl Options {
    /// Reads the options behind the first `fixed` bytes of a message.
    fn parse(bytes: &[u8], fixed: usize) -> Result<Options, ParseError> {
        let mut rest = bytes.get(fixed..).ok_or(ParseError::Truncated)?;
        let mut options = Options { source_ll: None, target_ll: None, mtu: None };
        while let [ty, units, ..] = *rest {
            let len = usize::from(units) * 8;
            if len == 0 {
                return Err(ParseError::BadLength);
            }
            let option = rest.get(..len).ok_or(ParseError::Truncated)?;
            match (ty, len) {
                (OPTION_SOURCE_LL, 8) => options.source_ll = Some(link_layer(option)?),
                (OPTION_TARGET_LL, 8) => options.target_ll = Some(link_layer(option)?),
                (OPTION_MTU, 8) => options.mtu = Some(get32(option, 4)),
                // Ethernet addresses take one unit (RFC 2464 §6): anything else is not for this link.
                (OPTION_SOURCE_LL | OPTION_TARGET_LL | OPTION_MTU, _) => {
                    return Err(ParseError::BadLength);
                }
                _ => {}
            }
            rest = &rest[len..];
        }
        if rest.is_empty() { Ok(options) } else { Err(ParseError::Truncated) }
    }
}

/// A neighbour is one station: a group address here would turn unicast into a flood.
fn link_layer(option: &[u8]) -> Result<MacAddr, ParseError> {
    match MacAddr(array(option, 2)) {
        mac if mac.is_unicast() => Ok(mac),
        _ => Err(ParseError::Malformed),
    }
}

/// Writes a neighbour solicitation as a whole IPv6 packet; returns its length (72, or 64 without a link-layer address),
/// or 0 when `out` is shorter.
///
/// `dst` is [`solicited_node`] of the target to find it, the target itself to probe it. From the unspecified address,
/// for duplicate address detection, `source_ll` is left out (RFC 4861 §4.3).
pub fn emit_neighbor_solicit(
    out: &mut [u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    target: Ipv6Addr,
    source_ll: Option<MacAddr>,
) -> usize {
    let source_ll = source_ll.filter(|_| !src.is_unspecified());
    let option = source_ll.map(|mac| (OPTION_SOURCE_LL, mac));
    emit(out, src, dst, icmpv6::NEIGHBOR_SOLICIT, 0, target, option)
}

/// Writes a neighbour advertisement as a whole IPv6 packet; returns its length (72, or 64 without a link-layer
/// address), or 0 when `out` is shorter.
///
/// The answer to duplicate address detection goes to [`ALL_NODES`] with `solicited` clear (RFC 4861 §7.2.4).
pub fn emit_neighbor_advert(out: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr, advert: &NeighborAdvert) -> usize {
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let flags =
        flag(advert.router, ROUTER) | flag(advert.solicited, SOLICITED) | flag(advert.override_, OVERRIDE);
    let option = advert.target_ll.map(|mac| (OPTION_TARGET_LL, mac));
    emit(out, src, dst, icmpv6::NEIGHBOR_ADVERT, flags, advert.target, option)
}

fn emit(
    out: &mut [u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    ty: u8,
    flags: u32,
    target: Ipv6Addr,
    option: Option<(u8, MacAddr)>,
) -> usize {
    let len = if option.is_some() { 32 } else { 24 };
    let Some(icmp) = out.get_mut(ipv6::HEADER_LEN..ipv6::HEADER_LEN + len) else {
        return 0;
    };
    put32(icmp, 0, u32::from(ty) << 24);
    put32(icmp, 4, flags);
    put(icmp, 8, &target.octets());
    if let Some((ty, mac)) = option {
        put(icmp, 24, &[ty, 1]);
        put(icmp, 26, &mac.0);
    }
    icmpv6::emit_message(out, src, dst, HOP_LIMIT, len)
}

/// The multicast address a node listens on for questions about `address`: `ff02::1:ffXX:XXXX` (RFC 4291 §2.7.1).
#[inline]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low)
}

fn is_solicited_node(address: Ipv6Addr) -> bool {
    solicited_node(address) == address
}

/// The MAC address packets for a multicast `address` go to: `33:33` and its last 4 bytes (RFC 2464 §7).
#[inline]
pub const fn multicast_mac(address: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = address.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests;
