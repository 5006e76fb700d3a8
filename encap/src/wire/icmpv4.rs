//! ICMP for IPv4 (RFC 792), and the errors a router sends (RFC 1812 §4.3).
//!
//! ```text
//!    0       8       16              32
//!   +-------+-------+----------------+
//!   | type  | code  |    checksum    |
//!   +-------+-------+----------------+     echo:           identifier, sequence number
//!   |        rest of header          |     frag. needed:   unused, next hop's MTU (RFC 1191 §4)
//!   +--------------------------------+
//!   |  data; in errors: the packet in question, from its IP header
//! ```

use core::net::Ipv4Addr;

use super::field::{get16, get32, put16, put32};
use super::{Ipv4, Ipv4Repr, checksum, ipv4, protocol};
use crate::ParseError;

/// Bytes of an ICMP header.
pub const HEADER_LEN: usize = 8;
/// Bytes of the longest error, IP header included (RFC 1812 §4.3.2.3).
pub const MAX_ERROR_LEN: usize = 576;

/// Type: echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Type: destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Type: source quench, obsolete (RFC 6633).
pub const SOURCE_QUENCH: u8 = 4;
/// Type: redirect.
pub const REDIRECT: u8 = 5;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Type: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Unreachable: no route to the network.
pub const CODE_NET_UNREACHABLE: u8 = 0;
/// Unreachable: the host does not answer.
pub const CODE_HOST_UNREACHABLE: u8 = 1;
/// Unreachable: the host does not speak the protocol.
pub const CODE_PROTOCOL_UNREACHABLE: u8 = 2;
/// Unreachable: nothing listens on the port.
pub const CODE_PORT_UNREACHABLE: u8 = 3;
/// Unreachable: fragmentation is needed and DF is set.
pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;
/// Unreachable: administratively prohibited (RFC 1812 §5.2.7.1).
pub const CODE_PROHIBITED: u8 = 13;
/// Time exceeded: the TTL reached 0 in transit.
pub const CODE_TTL_EXCEEDED: u8 = 0;
/// Time exceeded: reassembly took too long.
pub const CODE_REASSEMBLY_EXCEEDED: u8 = 1;

/// Precedence of ICMP errors: internetwork control (RFC 1812 §4.3.2.5).
const ERROR_TOS: u8 = 0xc0;
const ERROR_TTL: u8 = 64;

mod field {
    pub(super) const TYPE: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: usize = 2;
    pub(super) const REST: usize = 4;
}

/// An ICMP message.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv4<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Icmpv4<T> {
    /// A view of `buffer`, the payload of an IPv4 packet.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 8 bytes.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        if buffer.as_ref().len() < HEADER_LEN {
            return Err(ParseError::Truncated);
        }
        Ok(Icmpv4 { buffer })
    }

    /// The type.
    #[inline]
    pub fn ty(&self) -> u8 {
        self.buffer.as_ref()[field::TYPE]
    }

    /// The code, which refines the type.
    #[inline]
    pub fn code(&self) -> u8 {
        self.buffer.as_ref()[field::CODE]
    }

    /// The checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get16(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// The second word, whose meaning depends on the type.
    #[inline]
    pub fn rest_of_header(&self) -> u32 {
        get32(self.buffer.as_ref(), field::REST)
    }

    /// The identifier of an echo.
    #[inline]
    pub fn echo_id(&self) -> u16 {
        (self.rest_of_header() >> 16) as u16
    }

    /// The sequence number of an echo.
    #[inline]
    pub fn echo_seq(&self) -> u16 {
        self.rest_of_header() as u16
    }

    /// The MTU in a "fragmentation needed"; 0 from routers older than RFC 1191.
    #[inline]
    pub fn next_hop_mtu(&self) -> u16 {
        self.rest_of_header() as u16
    }

    /// Everything behind the header: echo data, or the packet an error quotes.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[HEADER_LEN..]
    }

    /// The message is an error: it quotes a packet and is never answered by another error.
    #[inline]
    pub fn is_error(&self) -> bool {
        is_error(self.ty())
    }

    /// The message sums to its checksum.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        checksum::checksum(self.buffer.as_ref()) == 0
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Icmpv4<T> {
    /// Sets the identifier of an echo, as NAT does; the checksum is kept right by difference.
    #[inline]
    pub fn rewrite_echo_id(&mut self, id: u16) {
        let value = checksum::update16(self.checksum(), self.echo_id(), id);
        put16(self.buffer.as_mut(), field::REST, id);
        put16(self.buffer.as_mut(), field::CHECKSUM, value);
    }
}

/// The types that report errors about a packet (RFC 1122 §3.2.2).
#[inline]
pub const fn is_error(ty: u8) -> bool {
    matches!(ty, UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

/// The assigned types that ask or answer, and may therefore be reported on: echo, router discovery (RFC 1256),
/// timestamp, information, address mask and extended echo (RFC 8335).
const fn is_query(ty: u8) -> bool {
    matches!(ty, ECHO_REPLY | ECHO_REQUEST | 9 | 10 | 13..=18 | 42 | 43)
}

/// Turns an echo request into its reply and keeps the checksum right by difference; a wrong one stays wrong, so that
/// the asker discards the reply. The addresses are the caller's to swap.
///
/// # Errors
/// [`ParseError::Truncated`] below 8 bytes, [`ParseError::Malformed`] when it is not an echo request of code 0.
#[inline]
pub fn echo_reply_in_place(icmp: &mut [u8]) -> Result<(), ParseError> {
    let view = Icmpv4::new_checked(&*icmp)?;
    if (view.ty(), view.code()) != (ECHO_REQUEST, 0) {
        return Err(ParseError::Malformed);
    }
    let value = checksum::update16(view.checksum(), u16::from(ECHO_REQUEST) << 8, u16::from(ECHO_REPLY) << 8);
    icmp[field::TYPE] = ECHO_REPLY;
    put16(icmp, field::CHECKSUM, value);
    Ok(())
}

/// Writes a whole IPv4 packet with an ICMP error about `quoted` into `out`; returns its length, or 0 when `out` has
/// fewer than 28 bytes.
///
/// As much of `quoted` is carried as fits in `out` and in 576 bytes (RFC 1812 §4.3.2.3), link padding aside. TTL 64,
/// precedence 6 (§4.3.2.5), DF set and so an identification of 0 (RFC 6864 §4.1). `rest_of_header` is the second word:
/// the MTU of [`CODE_FRAGMENTATION_NEEDED`], otherwise 0. Ask [`may_answer_v4`] first.
pub fn emit_error_v4(
    out: &mut [u8],
    src: Ipv4Addr,
    dst: Ipv4Addr,
    ty: u8,
    code: u8,
    rest_of_header: u32,
    quoted: &[u8],
) -> usize {
    const HEADERS: usize = ipv4::MIN_HEADER_LEN + HEADER_LEN;
    let room = out.len().min(MAX_ERROR_LEN);
    let quoted = match Ipv4::new_checked(quoted) {
        Ok(packet) => &quoted[..usize::from(packet.total_len())],
        Err(_) => quoted,
    };
    let Some(quoted_len) = room.checked_sub(HEADERS).map(|room| room.min(quoted.len())) else {
        return 0;
    };
    let header = Ipv4Repr {
        tos: ERROR_TOS,
        id: 0,
        dont_fragment: true,
        ttl: ERROR_TTL,
        protocol: protocol::ICMP,
        src,
        dst,
        payload_len: (HEADER_LEN + quoted_len) as u16,
    };
    if header.emit(out).is_err() {
        return 0;
    }
    let icmp = &mut out[ipv4::MIN_HEADER_LEN..HEADERS + quoted_len];
    icmp[field::TYPE] = ty;
    icmp[field::CODE] = code;
    put16(icmp, field::CHECKSUM, 0);
    put32(icmp, field::REST, rest_of_header);
    icmp[HEADER_LEN..].copy_from_slice(&quoted[..quoted_len]);
    let value = checksum::checksum(icmp);
    put16(icmp, field::CHECKSUM, value);
    HEADERS + quoted_len
}

/// Whether an ICMP error may be sent about `packet`, an IPv4 packet (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7):
///
/// - its header is valid, its checksum included;
/// - it is no ICMP error, nor ICMP of a type that is not known to be a query;
/// - it is no fragment but the first;
/// - its destination is neither multicast nor broadcast;
/// - its source is one host.
///
/// Only its first bytes need be there. A link-layer broadcast, and a subnet's own broadcast address, the caller must
/// refuse: the packet does not show them.
pub fn may_answer_v4(packet: &[u8]) -> bool {
    let Ok(ip) = Ipv4::new_quoted(packet) else {
        return false;
    };
    if !ip.verify_checksum() || ip.fragment_offset() != 0 {
        return false;
    }
    if ip.dst().is_multicast() || ip.dst().is_broadcast() || !ipv4::is_one_host(ip.src()) {
        return false;
    }
    ip.protocol() != protocol::ICMP || ip.payload().first().is_some_and(|ty| is_query(*ty))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Ipv4Addr = Ipv4Addr::new(10, 100, 36, 103);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
    const FAR: Ipv4Addr = Ipv4Addr::new(10, 100, 169, 176);

    fn packet(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        let payload_len = payload.len() as u16;
        Ipv4Repr { tos: 0, id: 1, dont_fragment: false, ttl: 1, protocol, src, dst, payload_len }
            .emit(&mut bytes)
            .unwrap();
        bytes.extend(payload);
        bytes
    }

    fn error_about(quoted: &[u8], room: usize) -> Vec<u8> {
        let mut out = vec![0xaa; room];
        let len = emit_error_v4(&mut out, ROUTER, POD, UNREACHABLE, CODE_FRAGMENTATION_NEEDED, 1480, quoted);
        out.truncate(len);
        out
    }

    #[test]
    fn echo_reply_changes_type_and_keeps_the_sum() {
        let mut icmp = vec![8, 0, 0, 0, 0x12, 0x34, 0, 7, 1, 2, 3];
        let value = checksum::checksum(&icmp);
        icmp[2..4].copy_from_slice(&value.to_be_bytes());
        echo_reply_in_place(&mut icmp).unwrap();
        let reply = Icmpv4::new_checked(&icmp).unwrap();
        assert_eq!((reply.ty(), reply.code(), reply.echo_id(), reply.echo_seq()), (0, 0, 0x1234, 7));
        assert!(reply.verify_checksum());
        assert_eq!(reply.payload(), [1, 2, 3]);
        let mut view = Icmpv4::new_checked(&mut icmp[..]).unwrap();
        view.rewrite_echo_id(0xffee);
        assert!(view.verify_checksum() && view.echo_id() == 0xffee);
        assert_eq!(echo_reply_in_place(&mut icmp), Err(ParseError::Malformed));
        assert_eq!(echo_reply_in_place(&mut icmp[..7]), Err(ParseError::Truncated));
    }

    #[test]
    fn an_error_is_a_whole_valid_packet() {
        let quoted = packet(POD, FAR, protocol::UDP, &[0x55; 100]);
        let bytes = error_about(&quoted, 2048);
        let ip = Ipv4::new_checked(&bytes).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!((ip.src(), ip.dst(), ip.ttl(), ip.protocol()), (ROUTER, POD, 64, protocol::ICMP));
        let icmp = Icmpv4::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum() && icmp.is_error());
        assert_eq!((icmp.ty(), icmp.code(), icmp.next_hop_mtu()), (3, 4, 1480));
        assert_eq!(icmp.payload(), quoted);
    }

    #[test]
    fn rfc1812_4_3_2_3_quotes_as_much_as_fits_in_576_bytes() {
        let quoted = packet(POD, FAR, protocol::UDP, &[0x55; 1400]);
        let bytes = error_about(&quoted, 2048);
        assert_eq!(bytes.len(), 576);
        assert_eq!(bytes[28..], quoted[..548]);
    }

    #[test]
    fn rfc1812_4_3_2_5_errors_have_precedence_6() {
        assert_eq!(error_about(&packet(POD, FAR, 17, &[0; 8]), 576)[1] >> 5, 6);
    }

    #[test]
    fn link_padding_is_not_quoted_and_little_room_is_enough_or_refused() {
        let mut quoted = packet(POD, FAR, protocol::UDP, &[0x55; 8]);
        quoted.resize(46, 0);
        assert_eq!(error_about(&quoted, 2048).len(), 28 + 28);
        assert_eq!(error_about(&quoted, 30).len(), 30);
        assert_eq!(error_about(&quoted, 28).len(), 28);
        assert_eq!(error_about(&quoted, 27).len(), 0);
    }

    #[test]
    fn rfc1122_3_2_2_no_error_about_an_icmp_error() {
        for ty in [UNREACHABLE, SOURCE_QUENCH, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM, 99] {
            assert!(!may_answer_v4(&packet(POD, FAR, protocol::ICMP, &[ty, 0, 0, 0, 0, 0, 0, 0])));
        }
        for ty in [ECHO_REPLY, ECHO_REQUEST, 13, 42] {
            assert!(may_answer_v4(&packet(POD, FAR, protocol::ICMP, &[ty, 0, 0, 0, 0, 0, 0, 0])));
        }
        assert!(!may_answer_v4(&packet(POD, FAR, protocol::ICMP, &[])));
    }

    #[test]
    fn rfc1122_3_2_2_no_error_about_a_broadcast_or_multicast_destination() {
        for dst in [Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 5)] {
            assert!(!may_answer_v4(&packet(POD, dst, protocol::UDP, &[0; 8])));
        }
        assert!(may_answer_v4(&packet(POD, FAR, protocol::UDP, &[0; 8])));
    }

    #[test]
    fn rfc1122_3_2_2_no_error_about_a_later_fragment() {
        let mut bytes = packet(POD, FAR, protocol::UDP, &[0; 8]);
        let mut ip = Ipv4::new_checked(&mut bytes[..]).unwrap();
        ip.set_fragment(0, true, false);
        ip.fill_checksum();
        assert!(may_answer_v4(&bytes));
        let mut ip = Ipv4::new_checked(&mut bytes[..]).unwrap();
        ip.set_fragment(8, true, false);
        ip.fill_checksum();
        assert!(!may_answer_v4(&bytes));
    }

    #[test]
    fn rfc1122_3_2_2_no_error_to_a_source_that_is_not_one_host() {
        for src in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1"] {
            assert!(!may_answer_v4(&packet(src.parse().unwrap(), FAR, protocol::UDP, &[0; 8])), "{src}");
        }
    }

    #[test]
    fn rfc1812_4_3_2_7_no_error_about_a_bad_header() {
        let mut bytes = packet(POD, FAR, protocol::UDP, &[0; 8]);
        bytes[10] ^= 1;
        assert!(!may_answer_v4(&bytes));
        assert!(!may_answer_v4(&bytes[..19]));
    }
}
