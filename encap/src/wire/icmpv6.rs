//! ICMP for IPv6 (RFC 4443), and the errors a router sends.
//!
//! ```text
//!    0       8       16              32
//!   +-------+-------+----------------+     type < 128: an error about a packet; others inform
//!   | type  | code  |    checksum    |     checksum: with the pseudo-header
//!   +-------+-------+----------------+     echo:             identifier, sequence number
//!   |        rest of header          |     packet too big:   the next hop's MTU
//!   +--------------------------------+
//!   |  data; in errors: the packet in question, from its IPv6 header
//! ```

use core::net::Ipv6Addr;

use super::field::{get16, get32, put16, put32};
use super::{Ipv6, Ipv6Repr, checksum, ipv6, protocol};
use crate::ParseError;

/// Bytes of an ICMPv6 header.
pub const HEADER_LEN: usize = 8;
/// Bytes of the longest error, IPv6 header included: the minimum MTU (RFC 4443 §2.4 (c)).
pub const MAX_ERROR_LEN: usize = ipv6::MIN_MTU as usize;

/// Type: destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Type: packet too big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Type: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Type: echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Type: router solicitation (RFC 4861).
pub const ROUTER_SOLICIT: u8 = 133;
/// Type: router advertisement (RFC 4861).
pub const ROUTER_ADVERT: u8 = 134;
/// Type: neighbour solicitation (RFC 4861).
pub const NEIGHBOR_SOLICIT: u8 = 135;
/// Type: neighbour advertisement (RFC 4861).
pub const NEIGHBOR_ADVERT: u8 = 136;
/// Type: redirect (RFC 4861).
pub const REDIRECT: u8 = 137;

/// Unreachable: no route.
pub const CODE_NO_ROUTE: u8 = 0;
/// Unreachable: administratively prohibited.
pub const CODE_PROHIBITED: u8 = 1;
/// Unreachable: the address does not answer.
pub const CODE_ADDRESS_UNREACHABLE: u8 = 3;
/// Unreachable: nothing listens on the port.
pub const CODE_PORT_UNREACHABLE: u8 = 4;
/// Unreachable: the source address fails the ingress or egress policy.
pub const CODE_SOURCE_POLICY: u8 = 5;
/// Unreachable: a reject route.
pub const CODE_REJECT_ROUTE: u8 = 6;
/// Time exceeded: the hop limit reached 0 in transit.
pub const CODE_HOP_LIMIT_EXCEEDED: u8 = 0;
/// Parameter problem: an unrecognised option.
pub const CODE_UNRECOGNIZED_OPTION: u8 = 2;

const ERROR_HOP_LIMIT: u8 = 64;

mod field {
    pub(super) const TYPE: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: usize = 2;
    pub(super) const REST: usize = 4;
}

/// An ICMPv6 message.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Icmpv6<T> {
    /// A view of `buffer`, the upper layer of an IPv6 packet.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 8 bytes.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        if buffer.as_ref().len() < HEADER_LEN {
            return Err(ParseError::Truncated);
        }
        Ok(Icmpv6 { buffer })
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

    /// The second word, whose meaning depends on the type: the MTU of a packet too big.
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

    /// The message and its pseudo-header sum to its checksum.
    #[inline]
    pub fn verify_checksum(&self, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
        let bytes = self.buffer.as_ref();
        let pseudo = checksum::pseudo_v6(src, dst, protocol::ICMPV6, bytes.len() as u32);
        checksum::fold(pseudo + checksum::sum(bytes)) == 0xffff
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Icmpv6<T> {
    /// Sets the identifier of an echo, as NAT does; the checksum is kept right by difference.
    #[inline]
    pub fn rewrite_echo_id(&mut self, id: u16) {
        let value = checksum::update16(self.checksum(), self.echo_id(), id);
        put16(self.buffer.as_mut(), field::REST, id);
        put16(self.buffer.as_mut(), field::CHECKSUM, value);
    }
}

/// The types that report errors about a packet: those below 128 (RFC 4443 §2.1).
#[inline]
pub const fn is_error(ty: u8) -> bool {
    ty < 128
}

/// Turns an echo request into its reply and keeps the checksum right by difference; a wrong one stays wrong, so that
/// the asker discards the reply. The addresses are the caller's to swap, which does not change the sum.
///
/// # Errors
/// [`ParseError::Truncated`] below 8 bytes, [`ParseError::Malformed`] when it is not an echo request of code 0.
#[inline]
pub fn echo_reply_in_place(icmp: &mut [u8]) -> Result<(), ParseError> {
    let view = Icmpv6::new_checked(&*icmp)?;
    if (view.ty(), view.code()) != (ECHO_REQUEST, 0) {
        return Err(ParseError::Malformed);
    }
    let value = checksum::update16(view.checksum(), u16::from(ECHO_REQUEST) << 8, u16::from(ECHO_REPLY) << 8);
    icmp[field::TYPE] = ECHO_REPLY;
    put16(icmp, field::CHECKSUM, value);
    Ok(())
}

/// Writes a whole IPv6 packet with an ICMPv6 error about `quoted` into `out`; returns its length, or 0 when `out` has
/// fewer than 48 bytes.
///
/// As much of `quoted` is carried as fits in `out` and in 1280 bytes (RFC 4443 §2.4 (c)), link padding aside. Hop limit
/// 64. `rest_of_header` is the second word: the MTU of [`PACKET_TOO_BIG`], the pointer of [`PARAMETER_PROBLEM`],
/// otherwise 0. Ask [`may_answer_v6`] first.
pub fn emit_error_v6(
    out: &mut [u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    ty: u8,
    code: u8,
    rest_of_header: u32,
    quoted: &[u8],
) -> usize {
    const HEADERS: usize = ipv6::HEADER_LEN + HEADER_LEN;
    let room = out.len().min(MAX_ERROR_LEN);
    let quoted = match Ipv6::new_checked(quoted) {
        Ok(packet) => &quoted[..packet.total_len()],
        Err(_) => quoted,
    };
    let Some(quoted_len) = room.checked_sub(HEADERS).map(|room| room.min(quoted.len())) else {
        return 0;
    };
    let Some(icmp) = out.get_mut(ipv6::HEADER_LEN..HEADERS + quoted_len) else {
        return 0;
    };
    icmp[field::TYPE] = ty;
    icmp[field::CODE] = code;
    put32(icmp, field::REST, rest_of_header);
    icmp[HEADER_LEN..].copy_from_slice(&quoted[..quoted_len]);
    emit_message(out, src, dst, ERROR_HOP_LIMIT, HEADER_LEN + quoted_len)
}

/// Writes the IPv6 header in front of, and the checksum into, the `icmp_len` bytes of ICMPv6 that stand behind the
/// first 40 of `out`; returns the packet's length, or 0 when `out` is shorter than that.
pub(super) fn emit_message(
    out: &mut [u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    hop_limit: u8,
    icmp_len: usize,
) -> usize {
    let total = ipv6::HEADER_LEN + icmp_len;
    let (Some(packet), Ok(payload_len)) = (out.get_mut(..total), u16::try_from(icmp_len)) else {
        return 0;
    };
    let header = Ipv6Repr {
        traffic_class: 0,
        flow_label: 0,
        payload_len,
        next_header: protocol::ICMPV6,
        hop_limit,
        src,
        dst,
    };
    let written = header
        .emit(packet)
        .and_then(|()| checksum::fill_l4_v6(src, dst, protocol::ICMPV6, &mut packet[ipv6::HEADER_LEN..]));
    if written.is_ok() { total } else { 0 }
}

/// Whether an ICMPv6 error may be sent about `packet`, an IPv6 packet (RFC 4443 §2.4 (e)):
///
/// - its header chain is valid;
/// - it is neither an ICMPv6 error nor a redirect (e.1, e.2);
/// - its destination is not multicast (e.3), but see [`may_answer_too_big_v6`];
/// - its source is one node (e.6);
/// - it is no fragment but the first, in which the rules above could not be seen.
///
/// A link-layer multicast or broadcast (e.4, e.5) the caller must refuse: the packet does not show it.
pub fn may_answer_v6(packet: &[u8]) -> bool {
    Ipv6::new_quoted(packet).is_ok_and(|ip| !ip.dst().is_multicast()) && may_answer_too_big_v6(packet)
}

/// As [`may_answer_v6`], for the two errors that multicast destinations get as well: [`PACKET_TOO_BIG`], and
/// [`PARAMETER_PROBLEM`] with [`CODE_UNRECOGNIZED_OPTION`] (RFC 4443 §2.4 (e.3)).
pub fn may_answer_too_big_v6(packet: &[u8]) -> bool {
    let Ok(ip) = Ipv6::new_quoted(packet) else {
        return false;
    };
    let Ok(upper) = ip.upper() else { return false };
    if upper.is_later_fragment() || !ipv6::is_one_host(ip.src()) {
        return false;
    }
    upper.protocol != protocol::ICMPV6
        || ip.payload().get(upper.offset).is_some_and(|ty| !is_error(*ty) && *ty != REDIRECT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 1);
    const FAR: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 2);
    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 0x252);

    fn packet(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        let payload_len = payload.len() as u16;
        Ipv6Repr { traffic_class: 0, flow_label: 0, payload_len, next_header, hop_limit: 1, src, dst }
            .emit(&mut bytes)
            .unwrap();
        bytes.extend(payload);
        bytes
    }

    fn error_about(quoted: &[u8], room: usize) -> Vec<u8> {
        let mut out = vec![0xaa; room];
        let len = emit_error_v6(&mut out, ROUTER, POD, PACKET_TOO_BIG, 0, 1480, quoted);
        out.truncate(len);
        out
    }

    #[test]
    fn echo_reply_keeps_the_sum_under_swapped_addresses() {
        let mut icmp = vec![128, 0, 0, 0, 0x12, 0x34, 0, 7, 1, 2, 3];
        checksum::fill_l4_v6(POD, ROUTER, protocol::ICMPV6, &mut icmp).unwrap();
        echo_reply_in_place(&mut icmp).unwrap();
        let reply = Icmpv6::new_checked(&icmp).unwrap();
        assert_eq!((reply.ty(), reply.echo_id(), reply.echo_seq()), (129, 0x1234, 7));
        assert!(reply.verify_checksum(ROUTER, POD) && !reply.is_error());
        assert_eq!(echo_reply_in_place(&mut icmp), Err(ParseError::Malformed));
        let mut view = Icmpv6::new_checked(&mut icmp[..]).unwrap();
        view.rewrite_echo_id(9);
        assert!(view.verify_checksum(ROUTER, POD) && view.echo_id() == 9);
        assert_eq!(echo_reply_in_place(&mut icmp[..7]), Err(ParseError::Truncated));
    }

    #[test]
    fn an_error_is_a_whole_valid_packet() {
        let quoted = packet(POD, FAR, protocol::UDP, &[0x55; 100]);
        let bytes = error_about(&quoted, 2048);
        let ip = Ipv6::new_checked(&bytes).unwrap();
        assert_eq!((ip.src(), ip.dst(), ip.hop_limit(), ip.next_header()), (ROUTER, POD, 64, 58));
        let icmp = Icmpv6::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum(ROUTER, POD) && icmp.is_error());
        assert_eq!((icmp.ty(), icmp.code(), icmp.rest_of_header()), (2, 0, 1480));
        assert_eq!(icmp.payload(), quoted);
    }

    #[test]
    fn rfc4443_2_4_c_quotes_as_much_as_fits_in_the_minimum_mtu() {
        let quoted = packet(POD, FAR, protocol::UDP, &[0x55; 1400]);
        let bytes = error_about(&quoted, 2048);
        assert_eq!(bytes.len(), 1280);
        assert_eq!(bytes[48..], quoted[..1232]);
        assert_eq!(error_about(&quoted, 48).len(), 48);
        assert_eq!(error_about(&quoted, 47).len(), 0);
    }

    #[test]
    fn rfc4443_2_4_e_1_2_no_error_about_an_error_or_a_redirect() {
        for ty in [UNREACHABLE, PACKET_TOO_BIG, TIME_EXCEEDED, PARAMETER_PROBLEM, 127, REDIRECT] {
            let bytes = packet(POD, FAR, protocol::ICMPV6, &[ty, 0, 0, 0, 0, 0, 0, 0]);
            assert!(!may_answer_v6(&bytes) && !may_answer_too_big_v6(&bytes), "{ty}");
        }
        assert!(may_answer_v6(&packet(POD, FAR, protocol::ICMPV6, &[ECHO_REQUEST, 0, 0, 0])));
        assert!(!may_answer_v6(&packet(POD, FAR, protocol::ICMPV6, &[])));
        // The same behind an extension header.
        let hidden = [58, 0, 0, 0, 0, 0, 0, 0, TIME_EXCEEDED, 0, 0, 0];
        assert!(!may_answer_v6(&packet(POD, FAR, protocol::DESTINATION_OPTIONS, &hidden)));
    }

    #[test]
    fn rfc4443_2_4_e_3_multicast_gets_only_packet_too_big() {
        let bytes = packet(POD, "ff0e::1".parse().unwrap(), protocol::UDP, &[0; 8]);
        assert!(!may_answer_v6(&bytes));
        assert!(may_answer_too_big_v6(&bytes));
    }

    #[test]
    fn rfc4443_2_4_e_6_no_error_to_a_source_that_is_not_one_node() {
        for src in ["::", "::1", "ff02::1"] {
            let bytes = packet(src.parse().unwrap(), FAR, protocol::UDP, &[0; 8]);
            assert!(!may_answer_v6(&bytes) && !may_answer_too_big_v6(&bytes), "{src}");
        }
        assert!(may_answer_v6(&packet(POD, FAR, protocol::UDP, &[0; 8])));
    }

    #[test]
    fn a_later_fragment_is_not_answered_and_the_first_is() {
        let fragment = |offset: u8| [17, 0, 0, offset | 1, 0, 0, 0, 1, 0, 0, 0, 0];
        assert!(may_answer_v6(&packet(POD, FAR, protocol::FRAGMENT, &fragment(0))));
        assert!(!may_answer_v6(&packet(POD, FAR, protocol::FRAGMENT, &fragment(8))));
    }
}
