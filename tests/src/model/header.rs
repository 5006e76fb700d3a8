//! Headers as the model reads and writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::GATEWAY_V4;
use super::GATEWAY_V6;

/// ICMP types that ask or answer, and may be reported on.
const ICMP_QUERIES: [u8; 12] = [0, 8, 9, 10, 13, 14, 15, 16, 17, 18, 42, 43];

/// What the checks say of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Checked {
    Ordinary,
    /// Neighbour discovery, whose addresses obey rules of their own.
    Discovery,
}

/// A packet that passed the checks, without link padding.
pub(super) struct Parsed {
    pub(super) checked: Checked,
    pub(super) ip: Vec<u8>,
}

pub(super) fn word(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])
}

/// The one's complement sum, word by word.
fn sum(mut total: usize, bytes: &[u8]) -> u16 {
    for at in (0..bytes.len()).step_by(2) {
        total += usize::from(bytes[at]) << 8 | bytes.get(at + 1).map_or(0, |low| usize::from(*low));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

pub(super) fn source(ip: &[u8]) -> IpAddr {
    if ip[0] >> 4 == 4 { four(&ip[12..16]) } else { six(&ip[8..24]) }
}

pub(super) fn destination(ip: &[u8]) -> IpAddr {
    if ip[0] >> 4 == 4 { four(&ip[16..20]) } else { six(&ip[24..40]) }
}

fn four(bytes: &[u8]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
}

fn six(bytes: &[u8]) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(bytes);
    IpAddr::V6(octets.into())
}

pub(super) fn is_link_local6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.octets()[0] == 0xfe && a.octets()[1] & 0xc0 == 0x80)
}

/// Whether `address` is in the prefix, bit by bit.
pub(super) fn matches(address: IpAddr, prefix: IpAddr, len: u8) -> bool {
    let bits = |address: IpAddr| -> Vec<bool> {
        let octets = match address {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        octets.into_iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1)).collect()
    };
    let (address, prefix) = (bits(address), bits(prefix));
    address.len() == prefix.len() && address[..len.into()] == prefix[..len.into()]
}

/// RFC 1812 5.2.2 in its order, source routes, and the addresses of 5.3.7.
pub(super) fn check4(bytes: &[u8]) -> Result<Parsed, &'static str> {
    if bytes.len() < 20 {
        return Err("ipv4-truncated");
    }
    if bytes[0] >> 4 != 4 {
        return Err("ipv4-bad-version");
    }
    let header = usize::from(bytes[0] & 15) * 4;
    if header < 20 {
        return Err("ipv4-bad-header-length");
    }
    if header > bytes.len() {
        return Err("ipv4-truncated");
    }
    if sum(0, &bytes[..header]) != 0xffff {
        return Err("ipv4-bad-checksum");
    }
    let total = word(bytes, 2);
    if total < header {
        return Err("ipv4-bad-header-length");
    }
    if total > bytes.len() {
        return Err("ipv4-truncated");
    }
    if options(&bytes[20..header]).iter().any(|option| matches!(option[0], 131 | 137)) {
        return Err("ipv4-source-route");
    }
    let (s, d) = (&bytes[12..16], &bytes[16..20]);
    if s[0] == 0 || s[0] == 127 || s[0] >= 224 {
        return Err("ipv4-bad-source");
    }
    if (224..240).contains(&d[0]) || *d == [255; 4] {
        return Err("multicast");
    }
    if d[0] == 0 || d[0] == 127 || d[0] >= 240 {
        return Err("ipv4-bad-destination");
    }
    let to_gateway = *d == GATEWAY_V4.octets();
    if s[..2] == [169, 254] || (d[..2] == [169, 254] && !to_gateway) {
        return Err("link-local");
    }
    Ok(Parsed { checked: Checked::Ordinary, ip: bytes[..total].to_vec() })
}

/// The options of an IPv4 header, each whole, up to the end or a fault.
fn options(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while !bytes.is_empty() && bytes[0] != 0 {
        let len = match bytes[0] {
            1 => 1,
            131 | 137 if bytes.len() == 1 => 1,
            _ if bytes.len() < 2 => break,
            // The kind alone condemns a source route, whatever its length says.
            131 | 137 => usize::from(bytes[1]).clamp(1, bytes.len()),
            _ => usize::from(bytes[1]),
        };
        if len == 0 || len > bytes.len() || (len == 1 && !matches!(bytes[0], 1 | 131 | 137)) {
            break;
        }
        found.push(bytes[..len].to_vec());
        bytes = &bytes[len..];
    }
    found
}

/// RFC 8200 3 and 4, and the addresses of RFC 4291.
pub(super) fn check6(bytes: &[u8]) -> Result<Parsed, &'static str> {
    if bytes.len() < 40 {
        return Err("ipv6-truncated");
    }
    if bytes[0] >> 4 != 6 {
        return Err("ipv6-bad-version");
    }
    let total = 40 + word(bytes, 4);
    if total > bytes.len() {
        return Err("ipv6-truncated");
    }
    let ip = bytes[..total].to_vec();
    let (protocol, at, fragment) = upper(&ip).ok_or("ipv6-bad-extension")?;
    let kind = ip.get(at).copied().unwrap_or(0);
    if protocol == 58 && !fragment && (133..=137).contains(&kind) {
        return Ok(Parsed { checked: Checked::Discovery, ip });
    }
    let (IpAddr::V6(s), IpAddr::V6(d)) = (source(&ip), destination(&ip)) else { return Err("not IPv6") };
    let odd = |a: Ipv6Addr| a.octets()[..15] == [0; 15] && a.octets()[15] < 2;
    if s.octets()[0] == 0xff || odd(s) {
        return Err("ipv6-bad-source");
    }
    if d.octets()[0] == 0xff {
        return Err("multicast");
    }
    if odd(d) {
        return Err("ipv6-bad-destination");
    }
    if d != GATEWAY_V6 && (is_link_local6(s.into()) || is_link_local6(d.into())) {
        return Err("link-local");
    }
    Ok(Parsed { checked: Checked::Ordinary, ip })
}

/// (protocol, where it starts, whether the packet is a fragment); where is 0 in later
/// fragments. `None` for extension headers that do not hold together.
pub(super) fn upper(ip: &[u8]) -> Option<(u8, usize, bool)> {
    if ip[0] >> 4 == 4 {
        let fragment = word(ip, 6) & 0x3fff;
        let at = if fragment & 0x1fff == 0 { usize::from(ip[0] & 15) * 4 } else { 0 };
        return Some((ip[9], at, fragment != 0));
    }
    let (mut protocol, mut at, mut fragment, mut headers) = (ip[6], 40, false, 0);
    while matches!(protocol, 0 | 43 | 44 | 51 | 60) {
        let rest = &ip[at..];
        headers += 1;
        if headers > 8 || rest.len() < 3 || (protocol == 0 && at > 40) || (protocol == 44 && fragment) {
            return None;
        }
        let len = match protocol {
            44 => 8,
            51 => (usize::from(rest[1]) + 2) * 4,
            _ => (usize::from(rest[1]) + 1) * 8,
        };
        if rest.len() < len {
            return None;
        }
        if protocol == 44 {
            fragment = true;
            if word(rest, 2) & 0xfff8 != 0 {
                return Some((rest[0], 0, true));
            }
        }
        protocol = rest[0];
        at += len;
    }
    Some((protocol, at, fragment))
}

pub(super) fn ecn(ip: &[u8]) -> u8 {
    if ip[0] >> 4 == 4 { ip[1] & 3 } else { ip[1] >> 4 & 3 }
}

pub(super) fn set_ecn(ip: &mut [u8], mark: u8) {
    if ip[0] >> 4 == 4 {
        ip[1] = ip[1] & 0xfc | mark;
        fill4(ip);
    } else {
        ip[1] = ip[1] & 0xcf | mark << 4;
    }
}

/// Writes the header checksum.
fn fill4(ip: &mut [u8]) {
    ip[10] = 0;
    ip[11] = 0;
    let header = usize::from(ip[0] & 15) * 4;
    let checksum = !sum(0, &ip[..header]);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Counts TTL or hop limit down.
pub(super) fn age(ip: &mut [u8]) {
    if ip[0] >> 4 == 4 {
        ip[8] -= 1;
        fill4(ip);
    } else {
        ip[7] -= 1;
    }
}

/// The sum over the ICMP message at `at`, inverted: 0 where its checksum is right.
pub(super) fn icmp_sum(ip: &[u8], at: usize) -> u16 {
    let message = &ip[at..];
    if ip[0] >> 4 == 4 { !sum(0, message) } else { !sum(pseudo(ip, message.len()), message) }
}

fn pseudo(ip: &[u8], len: usize) -> usize {
    (8..40).step_by(2).map(|at| word(ip, at)).sum::<usize>() + 58 + len
}

/// The echo reply to the request whose ICMP message starts at `at`.
pub(super) fn echo_reply(request: &[u8], at: usize) -> Vec<u8> {
    let mut ip = request.to_vec();
    let v4 = ip[0] >> 4 == 4;
    if v4 {
        ip[12..16].copy_from_slice(&request[16..20]);
        ip[16..20].copy_from_slice(&request[12..16]);
        ip[8] = 64;
        fill4(&mut ip);
        ip[at] = 0;
    } else {
        ip[8..24].copy_from_slice(&request[24..40]);
        ip[24..40].copy_from_slice(&request[8..24]);
        ip[7] = 64;
        ip[at] = 129;
    }
    ip[at + 2] = 0;
    ip[at + 3] = 0;
    let checksum = icmp_sum(&ip, at);
    ip[at + 2..at + 4].copy_from_slice(&checksum.to_be_bytes());
    ip
}

/// An ICMP error (RFC 792, RFC 1812 4.3.2) about a packet.
pub(super) fn error4(from: Ipv4Addr, to: Ipv4Addr, error: (u8, u8, u32), about: &[u8]) -> Vec<u8> {
    let quoted = &about[..about.len().min(576 - 28)];
    let mut ip = vec![0x45, 0xc0];
    ip.extend((28 + quoted.len() as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 1, 0, 0]);
    ip.extend(from.octets());
    ip.extend(to.octets());
    fill4(&mut ip);
    ip.extend([error.0, error.1, 0, 0]);
    ip.extend(error.2.to_be_bytes());
    ip.extend(quoted);
    let checksum = icmp_sum(&ip, 20);
    ip[22..24].copy_from_slice(&checksum.to_be_bytes());
    ip
}

/// An ICMPv6 error (RFC 4443 3) about a packet.
pub(super) fn error6(from: Ipv6Addr, to: Ipv6Addr, error: (u8, u8, u32), about: &[u8]) -> Vec<u8> {
    let quoted = &about[..about.len().min(1280 - 48)];
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend((8 + quoted.len() as u16).to_be_bytes());
    ip.extend([58, 64]);
    ip.extend(from.octets());
    ip.extend(to.octets());
    ip.extend([error.0, error.1, 0, 0]);
    ip.extend(error.2.to_be_bytes());
    ip.extend(quoted);
    let checksum = icmp_sum(&ip, 40);
    ip[42..44].copy_from_slice(&checksum.to_be_bytes());
    ip
}

/// The packet in an outer header (RFC 2003, RFC 4213): DF and the TOS byte are the
/// inner packet's.
pub(super) fn outer(inner: &[u8], from: Ipv4Addr, to: Ipv4Addr, id: u16) -> Vec<u8> {
    let v4 = inner[0] >> 4 == 4;
    let tos = if v4 { inner[1] } else { inner[0] << 4 | inner[1] >> 4 };
    let dont_fragment = if v4 { inner[6] & 0x40 } else { 0 };
    let mut ip = vec![0x45, tos];
    ip.extend((20 + inner.len() as u16).to_be_bytes());
    ip.extend(id.to_be_bytes());
    ip.extend([dont_fragment, 0, 64, if v4 { 4 } else { 41 }, 0, 0]);
    ip.extend(from.octets());
    ip.extend(to.octets());
    fill4(&mut ip);
    ip.extend(inner);
    ip
}

/// The fragments of an IPv4 packet (RFC 791 3.2); `None` where it cannot be split.
pub(super) fn fragments(ip: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
    let header = usize::from(ip[0] & 15) * 4;
    let data = &ip[header..];
    let start = (word(ip, 6) & 0x1fff) * 8;
    let more = ip[6] & 0x20 != 0;
    if start + data.len() > 65535 || (more && !data.len().is_multiple_of(8)) {
        return None;
    }
    // Later pieces carry the options whose copied flag is set.
    let mut later = ip[..20].to_vec();
    options(&ip[20..header]).into_iter().filter(|option| option[0] & 0x80 != 0).for_each(|o| later.extend(o));
    while !later.len().is_multiple_of(4) {
        later.push(0);
    }
    later[0] = 0x40 | (later.len() / 4) as u8;
    let mut pieces = Vec::new();
    let mut at = 0;
    loop {
        let mut piece = if at == 0 { ip[..header].to_vec() } else { later.clone() };
        let room = mtu - piece.len();
        let last = data.len() - at <= room;
        let take = if last { data.len() - at } else { room / 8 * 8 };
        let total = piece.len() + take;
        piece[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        let flags = if !last || more { 0x2000 } else { 0 } | ((start + at) / 8);
        piece[6..8].copy_from_slice(&(flags as u16).to_be_bytes());
        fill4(&mut piece);
        piece.extend(&data[at..at + take]);
        pieces.push(piece);
        at += take;
        if last {
            return Some(pieces);
        }
    }
}

/// RFC 1122 3.2.2, RFC 4443 2.4(e): no error about errors, later fragments, or odd senders.
pub(super) fn may_report(ip: &[u8]) -> bool {
    let (protocol, at, _) = upper(ip).expect("checked before");
    if ip[0] >> 4 == 4 {
        let kind = ip.get(at);
        word(ip, 6) & 0x1fff == 0 && (protocol != 1 || kind.is_some_and(|kind| ICMP_QUERIES.contains(kind)))
    } else {
        at != 0 && (protocol != 58 || ip.get(at).is_some_and(|kind| *kind >= 128 && *kind != 137))
    }
}
