//! IPv4 outer headers: IPv4 in IPv4 (RFC 2003) and IPv6 in IPv4 (RFC 4213).
//!
//! ```text
//!    outer field     from
//!    version, IHL    4, 5                       prebuilt in OuterIpv4, once per tunnel
//!    TTL             the tunnel's (64)          prebuilt; the inner TTL is not touched (RFC 2003 §3.1)
//!    source, dest.   the tunnel's ends          prebuilt
//!    DSCP, ECN       the inner packet's         patched per packet (RFC 2983 §3 uniform; RFC 6040 normal mode)
//!    total length    inner length + 20          patched
//!    identification  the caller's               patched; matters only while DF is clear (RFC 6864 §4)
//!    DF              the inner DF; IPv6: clear  patched
//!    protocol        4 or 41                    patched, by the inner version
//!    checksum        sum of the prebuilt + the patched words
//! ```
//!
//! **DF.** RFC 2003 §3.1: set in the inner header, it must be set in the outer; clear, it may still be set. Linux
//! sets it always on a tunnel with `pmtudisc`, the default of `ip tunnel add`; Calico's `tunl0`, the module's own
//! device, has `nopmtudisc` and so copies it. We copy too. IPv6 inside has no DF, and for a tunnel of fixed MTU the
//! outer DF must be clear (RFC 4213 §3.2.1). Inner packets longer than the tunnel's MTU never get here: the router
//! answers or fragments them first, so outer fragments arise only behind a narrower link on the way (RFC 4459 §3).

use core::fmt;
use core::net::Ipv4Addr;

use super::ecn::{self, DropEct};
use crate::ParseError;
use crate::wire::ipv4::{DONT_FRAGMENT, Ipv4, MIN_HEADER_LEN};
use crate::wire::{Ipv6, protocol};

/// Bytes a tunnel adds to a packet.
pub const OVERHEAD: usize = MIN_HEADER_LEN;
/// The TTL of the outer header (RFC 1700's default).
pub const DEFAULT_TTL: u8 = 64;

/// What a tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inner {
    /// IPv4, protocol 4.
    Ipv4,
    /// IPv6, protocol 41.
    Ipv6,
}

impl Inner {
    /// The protocol field of the outer header.
    #[inline]
    pub const fn protocol(self) -> u8 {
        match self {
            Inner::Ipv4 => protocol::IPIP,
            Inner::Ipv6 => protocol::IPV6,
        }
    }
}

/// The outer header of one tunnel, prebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterIpv4 {
    /// The header as it lies in memory, first octet lowest, zero where a packet decides.
    words: [u32; OVERHEAD / 4],
    /// The sum of the halves of the words; below 2^20.
    partial_sum: u32,
}

impl OuterIpv4 {
    /// The header of packets from `src` to `dst` with the default TTL.
    pub fn new(src: Ipv4Addr, dst: Ipv4Addr) -> OuterIpv4 {
        OuterIpv4::with_ttl(src, dst, DEFAULT_TTL)
    }

    /// As [`Self::new`], with another TTL.
    pub fn with_ttl(src: Ipv4Addr, dst: Ipv4Addr, ttl: u8) -> OuterIpv4 {
        let [source, destination] = [src, dst].map(|address| u32::from_le_bytes(address.octets()));
        let words = [0x45, 0, u32::from(ttl), source, destination];
        let partial_sum = words.iter().map(|word| (word & 0xffff) + (word >> 16)).sum();
        OuterIpv4 { words, partial_sum }
    }

    /// Where the tunnel starts.
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.words[3].to_le_bytes())
    }

    /// Where the tunnel ends.
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.words[4].to_le_bytes())
    }

    /// The outer header of a packet as it lies in memory, the first octet of each word lowest.
    ///
    /// `kind` is what the inner packet is, `start` its first two words in the same order; `total_len` the length of
    /// the outer packet in bytes; `id` as for [`push`](Self::push). Without a branch, for use on many packets.
    #[inline(always)]
    pub const fn words(&self, kind: Inner, start: [u32; 2], total_len: u16, id: u16) -> [u32; OVERHEAD / 4] {
        let is_v4 = matches!(kind, Inner::Ipv4);
        // Traffic class: the low half of the first octet, the high half of the second.
        let inner_tos = if is_v4 { start[0] >> 8 } else { start[0] << 4 | start[0] >> 12 & 0xf } as u8;
        let flags = if is_v4 { start[1] >> 16 & DONT_FRAGMENT.swap_bytes() as u32 } else { 0 };
        let tos = ecn::encapsulate(inner_tos).in_tos(inner_tos) as u32;
        let protocol = kind.protocol() as u32;
        let (total_len, id) = (total_len.swap_bytes() as u32, id.swap_bytes() as u32);
        // A sum of words does not care which octet is which (RFC 1071 2). Two folds do: it is below 2^21.
        let sum = self.partial_sum + (tos << 8) + total_len + id + flags + (protocol << 8);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let [first, second, third, source, destination] = self.words;
        [
            first | tos << 8 | total_len << 16,
            second | id | flags << 16,
            third | protocol << 8 | (!sum & 0xffff) << 16,
            source,
            destination,
        ]
    }

    /// Writes the outer header into `out`, the 20 bytes in front of the inner packet.
    ///
    /// `inner` is the inner packet, or at least its first 8 bytes; `inner_len` its length in bytes; `id` the
    /// identification, which must not repeat within a packet's lifetime where DF is clear.
    ///
    /// # Errors
    /// Nothing is written when [`ParseError::BadLength`]: `out` is not 20 bytes, or the outer packet would pass 65535;
    /// [`ParseError::Truncated`]: `inner` is below 8 bytes; [`ParseError::BadVersion`]: it is neither IPv4 nor IPv6.
    #[inline]
    pub fn push(&self, out: &mut [u8], inner: &[u8], inner_len: u16, id: u16) -> Result<(), ParseError> {
        let out: &mut [u8; OVERHEAD] = out.try_into().map_err(|_| ParseError::BadLength)?;
        let total_len = inner_len.checked_add(OVERHEAD as u16).ok_or(ParseError::BadLength)?;
        let start: [[u8; 4]; 2] = inner.as_chunks().0.first_chunk().copied().ok_or(ParseError::Truncated)?;
        let start = start.map(u32::from_le_bytes);
        let kind = match start[0] >> 4 & 0xf {
            4 => Inner::Ipv4,
            6 => Inner::Ipv6,
            _ => return Err(ParseError::BadVersion),
        };
        for (place, word) in out.as_chunks_mut().0.iter_mut().zip(self.words(kind, start, total_len, id)) {
            *place = word.to_le_bytes();
        }
        Ok(())
    }
}

/// What `outer` carries, judged by its protocol field and the version of the first inner byte.
///
/// # Errors
/// [`ParseError::Malformed`]: a fragment, which must be reassembled first, or not a tunnel protocol;
/// [`ParseError::Truncated`]: no inner byte; [`ParseError::BadVersion`]: the inner version contradicts the protocol.
#[inline]
pub fn validate<T: AsRef<[u8]>>(outer: &Ipv4<T>) -> Result<Inner, ParseError> {
    if outer.is_fragment() {
        return Err(ParseError::Malformed);
    }
    let (inner, version) = match outer.protocol() {
        protocol::IPIP => (Inner::Ipv4, 4),
        protocol::IPV6 => (Inner::Ipv6, 6),
        _ => return Err(ParseError::Malformed),
    };
    match outer.payload().first() {
        None => Err(ParseError::Truncated),
        Some(byte) if byte >> 4 != version => Err(ParseError::BadVersion),
        Some(_) => Ok(inner),
    }
}

/// The inner packet, found in its outer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Popped {
    /// IPv4 or IPv6.
    pub inner: Inner,
    /// Bytes before the inner packet: what to strip.
    pub offset: usize,
    /// Bytes of the inner packet by its own header, at most what the outer packet holds.
    pub len: usize,
}

/// Why a tunnel packet must be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PopError {
    /// The outer or the inner header is not valid.
    Parse(ParseError),
    /// RFC 6040 §4.2.
    Ecn(DropEct),
}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PopError::Parse(reason) => reason.fmt(f),
            PopError::Ecn(reason) => reason.fmt(f),
        }
    }
}

impl core::error::Error for PopError {}

impl From<ParseError> for PopError {
    fn from(reason: ParseError) -> PopError {
        PopError::Parse(reason)
    }
}

impl From<DropEct> for PopError {
    fn from(reason: DropEct) -> PopError {
        PopError::Ecn(reason)
    }
}

/// Takes the tunnel off `packet`, which starts with the outer header: validates the inner packet and gives it the
/// congestion mark it met on the way, its checksum kept right by difference. The outer header's checksum and addresses
/// are the caller's to judge, before.
///
/// # Errors
/// As [`validate`], [`Ipv4::new_checked`] and [`Ipv6::new_checked`]; also [`DropEct`]. The bytes are then unchanged.
#[inline]
pub fn pop(packet: &mut [u8]) -> Result<Popped, PopError> {
    let available = packet.len();
    pop_head(packet, available)
}

/// As [`pop`], for the first bytes of a packet of `available` bytes that goes on elsewhere (a chain of frames): both
/// headers must be whole.
///
/// # Errors
/// As [`pop`].
#[inline]
pub fn pop_head(head: &mut [u8], available: usize) -> Result<Popped, PopError> {
    let outer = Ipv4::new_head(&mut *head, available)?;
    let kind = validate(&outer)?;
    let (offset, mark) = (outer.header_len(), outer.ecn());
    let end = usize::from(outer.total_len());
    let present = end.min(head.len());
    let inner = &mut head[offset..present];
    let len = match kind {
        Inner::Ipv4 => {
            let mut inner = Ipv4::new_head(inner, end - offset)?;
            let (old, new) = (inner.ecn(), ecn::decapsulate(mark, inner.ecn())?);
            if new != old {
                inner.mark_ecn(new);
            }
            usize::from(inner.total_len())
        }
        Inner::Ipv6 => {
            let mut inner = Ipv6::new_head(inner, end - offset)?;
            let new = ecn::decapsulate(mark, inner.ecn())?;
            inner.mark_ecn(new);
            inner.total_len()
        }
    };
    Ok(Popped { inner: kind, offset, len })
}

#[cfg(test)]
mod tests;
