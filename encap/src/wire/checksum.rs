//! The Internet checksum: from scratch (RFC 1071), by difference (RFC 1624), and over pseudo-headers.
//!
//! ```text
//!   sum(bytes) + pseudo_v4(..) + ..    u64 partial sums, added freely
//!        | fold                        u16, end-around carry
//!        | !                           the checksum as it stands in a header
//! ```
//!
//! [`sum`] adds 32-bit words in the machine's own byte order into 64-bit lanes, which the compiler vectorises; one's
//! complement addition does not care about byte order until the end (RFC 1071 §2 (B)), where one swap sets it right.
//!
//! Invariant: a partial sum of this module is below 2^33, so 2^30 of them add up without loss.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::{field, protocol};
use crate::ParseError;

/// The one's complement sum of `bytes` as big-endian 16-bit words, folded to 16 bits; an odd last byte counts as the
/// high half of a word. To sum a packet in pieces, every piece but the last must have an even length.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    let mut lanes = [0u64; 8];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let (halves, last) = rest.as_chunks::<2>();
    for half in halves {
        total += u64::from(u16::from_ne_bytes(*half));
    }
    if let [byte] = last {
        total += u64::from(u16::from_ne_bytes([*byte, 0]));
    }
    u64::from(u16::from_be(fold(total)))
}

/// A partial sum with its carries added back in until 16 bits remain.
#[inline]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The checksum of `bytes`, ready for a header whose checksum field is zero. Over bytes with a correct checksum in
/// place it is 0.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The partial sum of the IPv4 pseudo-header (RFC 9293 §3.1); `len` is that of the transport header and its data.
#[inline]
pub const fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16) -> u64 {
    let (src, dst) = (src.to_bits() as u64, dst.to_bits() as u64);
    (src >> 16) + (src & 0xffff) + (dst >> 16) + (dst & 0xffff) + protocol as u64 + len as u64
}

/// The partial sum of the IPv6 pseudo-header (RFC 8200 §8.1); `protocol` is that of the upper layer, behind all
/// extension headers.
#[inline]
pub const fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: u32) -> u64 {
    let (src, dst) = (src.segments(), dst.segments());
    let mut total = protocol as u64 + (len >> 16) as u64 + (len & 0xffff) as u64;
    let mut i = 0;
    while i < 8 {
        total += src[i] as u64 + dst[i] as u64;
        i += 1;
    }
    total
}

/// `checksum` after one 16-bit word it covers went from `old` to `new`: `HC' = ~(~HC + ~m + m')` (RFC 1624, equation 3).
///
/// A checksum that was wrong stays wrong by the same amount.
#[inline]
pub const fn update16(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// `checksum` after an aligned 32-bit word it covers went from `old` to `new` (RFC 1624, equation 3).
#[inline]
pub const fn update32(checksum: u16, old: u32, new: u32) -> u16 {
    let (old, new) = (!old as u64, new as u64);
    !fold(!checksum as u64 + (old >> 16) + (old & 0xffff) + (new >> 16) + (new & 0xffff))
}

/// Where the checksum of `protocol` stands in its header, for the protocols that sum a pseudo-header.
#[inline]
pub const fn l4_checksum_offset(protocol: u8) -> Option<usize> {
    match protocol {
        protocol::TCP => Some(16),
        protocol::UDP => Some(6),
        protocol::ICMPV6 => Some(2),
        _ => None,
    }
}

/// Computes the checksum of a TCP or UDP segment from scratch and stores it. UDP's 0 is stored as 0xffff (RFC 768).
///
/// # Errors
/// [`ParseError::Malformed`] for a protocol without such a checksum, [`ParseError::Truncated`] when the segment ends
/// before the field, [`ParseError::BadLength`] beyond 65535 bytes.
#[inline]
pub fn fill_l4_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, segment: &mut [u8]) -> Result<(), ParseError> {
    let len = u16::try_from(segment.len()).map_err(|_| ParseError::BadLength)?;
    fill_l4(pseudo_v4(src, dst, protocol, len), protocol, segment)
}

/// Computes the checksum of a TCP, UDP or ICMPv6 segment from scratch and stores it.
///
/// # Errors
/// As [`fill_l4_v4`]; the length is bounded at 2^32.
#[inline]
pub fn fill_l4_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, segment: &mut [u8]) -> Result<(), ParseError> {
    let len = u32::try_from(segment.len()).map_err(|_| ParseError::BadLength)?;
    fill_l4(pseudo_v6(src, dst, protocol, len), protocol, segment)
}

fn fill_l4(pseudo: u64, protocol: u8, segment: &mut [u8]) -> Result<(), ParseError> {
    let at = l4_checksum_offset(protocol).ok_or(ParseError::Malformed)?;
    if segment.len() < at + 2 {
        return Err(ParseError::Truncated);
    }
    field::put16(segment, at, 0);
    let value = match !fold(pseudo + sum(segment)) {
        // In UDP 0 says "no checksum"; both are zero in one's complement (RFC 768; RFC 8200 §8.1).
        0 if protocol == protocol::UDP => 0xffff,
        value => value,
    };
    field::put16(segment, at, value);
    Ok(())
}

/// The checksum field of a TCP or UDP segment holds only the folded pseudo-header sum: the sender left the rest to
/// hardware, and [`fill_l4_v4`] or [`fill_l4_v6`] must finish it. `pseudo` is [`pseudo_v4`] or [`pseudo_v6`].
#[inline]
pub fn is_partial(pseudo: u64, protocol: u8, segment: &[u8]) -> bool {
    match l4_checksum_offset(protocol) {
        Some(at) if segment.len() >= at + 2 => field::get16(segment, at) == fold(pseudo),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 §4.1, word by word.
    fn rfc1071(bytes: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        let mut i = 0;
        while i + 1 < bytes.len() {
            sum += u32::from(bytes[i]) << 8 | u32::from(bytes[i + 1]);
            while sum >> 16 != 0 {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            i += 2;
        }
        if i < bytes.len() {
            sum += u32::from(bytes[i]) << 8;
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn rfc1071_section_3_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes), 0xddf2);
        assert_eq!(checksum(&bytes), !0xddf2);
    }

    #[test]
    fn rfc1624_section_4_example_gives_zero_not_minus_zero() {
        assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn all_ones_of_any_length_fold_without_overflow() {
        let bytes = vec![0xff; 70_000];
        for len in [0, 1, 2, 3, 31, 32, 33, 65_535, 70_000] {
            assert_eq!(checksum(&bytes[..len]), rfc1071(&bytes[..len]), "{len} bytes");
        }
        assert_eq!(fold(u64::MAX), 0xffff);
    }

    #[test]
    fn l4_fill_refuses_what_it_cannot_do() {
        let (a, b) = (Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST);
        assert_eq!(fill_l4_v4(a, b, protocol::SCTP, &mut [0; 20]), Err(ParseError::Malformed));
        assert_eq!(fill_l4_v4(a, b, protocol::UDP, &mut [0; 7]), Err(ParseError::Truncated));
        assert_eq!(fill_l4_v4(a, b, protocol::TCP, &mut [0; 17]), Err(ParseError::Truncated));
        let mut long = vec![0; 65_536];
        assert_eq!(fill_l4_v4(a, b, protocol::TCP, &mut long), Err(ParseError::BadLength));
    }

    #[test]
    fn rfc768_a_computed_zero_is_sent_as_all_ones() {
        let (src, dst) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED);
        let mut segment = [0u8; 10];
        // The last word makes the total 0xffff, whose complement is 0.
        let missing = 0xffff - pseudo_v4(src, dst, protocol::UDP, 10) as u16;
        segment[8..].copy_from_slice(&missing.to_be_bytes());
        fill_l4_v4(src, dst, protocol::UDP, &mut segment).unwrap();
        assert_eq!(segment[6..8], [0xff, 0xff]);
    }

    proptest! {
        #[test]
        fn equals_the_rfc_loop(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(checksum(&bytes), rfc1071(&bytes));
        }

        #[test]
        fn pieces_of_even_length_add_up(
            head in proptest::collection::vec(any::<[u8; 2]>(), 0..80),
            tail in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let head = head.concat();
            let whole = [&head[..], &tail[..]].concat();
            prop_assert_eq!(!fold(sum(&head) + sum(&tail)), rfc1071(&whole));
        }

        #[test]
        fn update16_equals_recomputing(mut words in proptest::collection::vec(any::<u16>(), 2..20), new: u16) {
            words[1] |= 1; // a sum of nothing but zeros is the one case with two representations
            let bytes = |w: &[u16]| w.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
            let before = checksum(&bytes(&words));
            let old = std::mem::replace(&mut words[0], new);
            prop_assert_eq!(update16(before, old, new), checksum(&bytes(&words)));
        }

        #[test]
        fn update32_equals_two_of_16(checksum: u16, old: u32, new: u32) {
            let high = update16(checksum, (old >> 16) as u16, (new >> 16) as u16);
            let both = update16(high, old as u16, new as u16);
            // 0 and 0xffff are the same number in one's complement.
            prop_assert_eq!(update32(checksum, old, new) % 0xffff, both % 0xffff);
        }

        #[test]
        fn filled_segments_sum_to_zero_with_their_pseudo_header(
            src: [u8; 4], dst: [u8; 4], src6: [u8; 16], dst6: [u8; 16],
            tcp: bool, mut segment in proptest::collection::vec(any::<u8>(), 18..200),
        ) {
            let protocol = if tcp { protocol::TCP } else { protocol::UDP };
            let (src, dst) = (Ipv4Addr::from(src), Ipv4Addr::from(dst));
            fill_l4_v4(src, dst, protocol, &mut segment).unwrap();
            let pseudo = pseudo_v4(src, dst, protocol, segment.len() as u16);
            prop_assert_eq!(fold(pseudo + sum(&segment)), 0xffff);
            let (src, dst) = (Ipv6Addr::from(src6), Ipv6Addr::from(dst6));
            fill_l4_v6(src, dst, protocol, &mut segment).unwrap();
            let pseudo = pseudo_v6(src, dst, protocol, segment.len() as u32);
            prop_assert_eq!(fold(pseudo + sum(&segment)), 0xffff);
            let at = l4_checksum_offset(protocol).unwrap();
            segment[at..at + 2].copy_from_slice(&fold(pseudo).to_be_bytes());
            prop_assert!(is_partial(pseudo, protocol, &segment));
        }
    }
}
