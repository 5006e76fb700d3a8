//! The walk over IPv6 extension headers to the upper layer (RFC 8200 §4).
//!
//! ```text
//!   next header   0 hop-by-hop   43 routing   60 destination options   44 fragment   51 AH
//!                 len = (byte 1 + 1) * 8      (the same)               8             (byte 1 + 2) * 4
//!   anything else is the upper layer and ends the walk; so do ESP (50, opaque) and 59 (nothing follows)
//! ```
//!
//! The walk is bounded: more than [`MAX_HEADERS`] headers are refused, since each costs a lookup and no honest packet
//! has more. A fragment other than the first ends it behind the fragment header: what stands there is the middle of
//! something. Hop-by-hop options anywhere but first are refused (RFC 8200 §4.1), and so is a second fragment header,
//! whose only use is to hide the upper layer.

use super::field::{get16, get32};
use super::protocol;
use crate::ParseError;

/// Extension headers a packet may carry here.
pub const MAX_HEADERS: usize = 8;
/// Bytes of a fragment header.
pub const FRAGMENT_HEADER_LEN: usize = 8;

/// The fragment header of a packet (RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentInfo {
    /// Where the fragment belongs in the fragmentable part, in bytes: a multiple of 8.
    pub offset: u16,
    /// This is not the last fragment.
    pub more: bool,
    /// Which packet the fragment belongs to.
    pub id: u32,
}

impl FragmentInfo {
    /// The header says "first and last": a whole packet that only carries the header (RFC 6946).
    #[inline]
    pub const fn is_atomic(self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// Where the extension headers end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Upper {
    /// The upper layer's protocol; for a fragment other than the first, what its fragment header announces.
    pub protocol: u8,
    /// Bytes from the end of the fixed header to the upper layer, at most the payload's length.
    pub offset: usize,
    /// The fragment header, when there is one.
    pub fragment: Option<FragmentInfo>,
    /// There are hop-by-hop options.
    pub hop_by_hop: bool,
    /// The type of the routing header, when there is one. Type 0 is deprecated and dangerous (RFC 5095).
    pub routing_type: Option<u8>,
}

impl Upper {
    /// The upper layer's header is not in this packet: it is a fragment other than the first.
    #[inline]
    pub const fn is_later_fragment(&self) -> bool {
        matches!(self.fragment, Some(FragmentInfo { offset, .. }) if offset != 0)
    }
}

/// Walks from the fixed header's next header field over `payload`, the bytes behind the fixed header.
///
/// # Errors
/// [`ParseError::Truncated`] when the payload ends inside a header, [`ParseError::Malformed`] for more than
/// [`MAX_HEADERS`], misplaced hop-by-hop options or a second fragment header.
#[inline]
pub fn walk(next_header: u8, payload: &[u8]) -> Result<Upper, ParseError> {
    let mut upper =
        Upper { protocol: next_header, offset: 0, fragment: None, hop_by_hop: false, routing_type: None };
    if !is_extension(next_header) {
        return Ok(upper);
    }
    for _ in 0..MAX_HEADERS {
        let rest = &payload[upper.offset..];
        let [next, len, third, ..] = *rest else {
            return Err(ParseError::Truncated);
        };
        let header_len = match upper.protocol {
            protocol::HOP_BY_HOP if upper.offset != 0 => return Err(ParseError::Malformed),
            protocol::FRAGMENT if upper.fragment.is_some() => return Err(ParseError::Malformed),
            protocol::FRAGMENT => FRAGMENT_HEADER_LEN,
            protocol::AH => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        if rest.len() < header_len {
            return Err(ParseError::Truncated);
        }
        match upper.protocol {
            protocol::HOP_BY_HOP => upper.hop_by_hop = true,
            protocol::ROUTING => upper.routing_type = Some(third),
            protocol::FRAGMENT => {
                let word = get16(rest, 2);
                upper.fragment =
                    Some(FragmentInfo { offset: word & 0xfff8, more: word & 1 != 0, id: get32(rest, 4) });
            }
            _ => {}
        }
        upper.protocol = next;
        upper.offset += header_len;
        if upper.is_later_fragment() || !is_extension(next) {
            return Ok(upper);
        }
    }
    Err(ParseError::Malformed)
}

#[inline]
const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::DESTINATION_OPTIONS
            | protocol::FRAGMENT
            | protocol::AH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An options or routing header of 8 bytes.
    fn header(next: u8) -> Vec<u8> {
        vec![next, 0, 4, 0, 0, 0, 0, 0]
    }

    fn fragment(next: u8, offset: u16, more: bool, id: u32) -> Vec<u8> {
        let word = offset | u16::from(more);
        [&[next, 0][..], &word.to_be_bytes(), &id.to_be_bytes()].concat()
    }

    #[test]
    fn no_extension_header_is_no_step() {
        let upper = walk(protocol::TCP, &[]).unwrap();
        assert_eq!((upper.protocol, upper.offset, upper.fragment), (protocol::TCP, 0, None));
    }

    #[test]
    fn every_kind_is_stepped_over() {
        let ah = [&[protocol::UDP, 4][..], &[0; 22]].concat();
        let payload = [
            header(protocol::DESTINATION_OPTIONS),
            header(protocol::ROUTING),
            header(protocol::FRAGMENT),
            fragment(protocol::AH, 0, true, 7),
            ah,
        ]
        .concat();
        let upper = walk(protocol::HOP_BY_HOP, &payload).unwrap();
        assert_eq!((upper.protocol, upper.offset), (protocol::UDP, 8 * 4 + 24));
        assert_eq!(upper.fragment, Some(FragmentInfo { offset: 0, more: true, id: 7 }));
        assert_eq!((upper.hop_by_hop, upper.routing_type), (true, Some(4)));
        assert!(!upper.is_later_fragment());
        for cut in 0..payload.len() {
            assert_eq!(walk(protocol::HOP_BY_HOP, &payload[..cut]), Err(ParseError::Truncated));
        }
    }

    #[test]
    fn a_later_fragment_ends_the_walk_even_before_an_extension_header() {
        let payload = fragment(protocol::DESTINATION_OPTIONS, 1448, false, 1);
        let upper = walk(protocol::FRAGMENT, &payload).unwrap();
        assert!(upper.is_later_fragment());
        assert_eq!((upper.protocol, upper.offset), (protocol::DESTINATION_OPTIONS, 8));
    }

    #[test]
    fn esp_and_no_next_header_end_the_walk() {
        for last in [protocol::ESP, protocol::NO_NEXT_HEADER] {
            let upper = walk(protocol::DESTINATION_OPTIONS, &header(last)).unwrap();
            assert_eq!((upper.protocol, upper.offset), (last, 8));
        }
    }

    #[test]
    fn eight_headers_pass_and_nine_do_not() {
        let chain = |count: usize| {
            let mut bytes = header(protocol::DESTINATION_OPTIONS).repeat(count - 1);
            bytes.extend(header(protocol::TCP));
            walk(protocol::DESTINATION_OPTIONS, &bytes)
        };
        assert_eq!(chain(8).map(|upper| upper.offset), Ok(64));
        assert_eq!(chain(9), Err(ParseError::Malformed));
    }

    #[test]
    fn a_second_fragment_header_is_refused() {
        let payload = [fragment(protocol::FRAGMENT, 0, true, 1), fragment(protocol::UDP, 0, true, 2)];
        assert_eq!(walk(protocol::FRAGMENT, &payload.concat()), Err(ParseError::Malformed));
    }

    #[test]
    fn rfc6946_an_atomic_fragment_is_a_whole_packet() {
        let upper = walk(protocol::FRAGMENT, &fragment(protocol::UDP, 0, false, 9)).unwrap();
        assert!(upper.fragment.unwrap().is_atomic() && !upper.is_later_fragment());
    }
}
