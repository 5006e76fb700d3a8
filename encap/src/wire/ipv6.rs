//! IPv6 headers (RFC 8200 §3).
//!
//! ```text
//!    0       4                12              16                    32
//!   +-------+----------------+---------------------------------------+
//!   |version|  traffic class |               flow label              |   0
//!   +-------+----------------+-------+----------------+--------------+
//!   |         payload length         |  next header   |  hop limit   |   4
//!   +--------------------------------+----------------+--------------+
//!   |                     source address, 16 bytes                   |   8
//!   |                   destination address, 16 bytes                |  24
//! ```

use core::net::Ipv6Addr;

use super::ecn::Ecn;
use super::field::{array, get16, get32, put, put16, put32};
use super::{checksum, ipv6_ext};
use crate::ParseError;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Every link carries packets of this many bytes (RFC 8200 §5).
pub const MIN_MTU: u16 = 1280;

mod field {
    pub(super) const FIRST: usize = 0;
    pub(super) const PAYLOAD_LEN: usize = 4;
    pub(super) const NEXT_HEADER: usize = 6;
    pub(super) const HOP_LIMIT: usize = 7;
    pub(super) const SRC: usize = 8;
    pub(super) const DST: usize = 24;
}

/// An IPv6 packet.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Ipv6<T> {
    /// A view of `buffer`, which starts with the header and may have link padding behind the packet. A payload length
    /// of 0 means an empty payload: jumbograms (RFC 2675) are not supported.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when header or payload do not fit the buffer, [`ParseError::BadVersion`].
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let len = buffer.as_ref().len();
        Self::new_head(buffer, len)
    }

    /// A view of the first bytes of a packet that goes on elsewhere (a chain of frames): the fixed header must be whole,
    /// and the packet's length within `available` bytes.
    ///
    /// # Errors
    /// As [`Self::new_checked`].
    #[inline]
    pub fn new_head(buffer: T, available: usize) -> Result<Self, ParseError> {
        let view = Self::new_quoted(buffer)?;
        if view.total_len() > available {
            return Err(ParseError::Truncated);
        }
        Ok(view)
    }

    /// A view of a packet whose header is whole but whose payload may be cut short, as quoted in an ICMPv6 error.
    ///
    /// # Errors
    /// As [`Self::new_checked`], the payload length aside.
    #[inline]
    pub fn new_quoted(buffer: T) -> Result<Self, ParseError> {
        let bytes = buffer.as_ref();
        if bytes.len() < HEADER_LEN {
            return Err(ParseError::Truncated);
        }
        if bytes[field::FIRST] >> 4 != 6 {
            return Err(ParseError::BadVersion);
        }
        Ok(Ipv6 { buffer })
    }

    /// The version field: 6.
    #[inline]
    pub fn version(&self) -> u8 {
        self.buffer.as_ref()[field::FIRST] >> 4
    }

    /// DSCP and ECN, as IPv4's TOS byte.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (get16(self.buffer.as_ref(), field::FIRST) >> 4) as u8
    }

    /// The differentiated services codepoint, 0 to 63.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.traffic_class() >> 2
    }

    /// The ECN codepoint.
    #[inline]
    pub fn ecn(&self) -> Ecn {
        Ecn::from_tos(self.traffic_class())
    }

    /// The flow label, 20 bits (RFC 6437).
    #[inline]
    pub fn flow_label(&self) -> u32 {
        get32(self.buffer.as_ref(), field::FIRST) & 0x000f_ffff
    }

    /// Bytes behind the fixed header, extension headers included.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        get16(self.buffer.as_ref(), field::PAYLOAD_LEN)
    }

    /// Bytes of the whole packet.
    #[inline]
    pub fn total_len(&self) -> usize {
        HEADER_LEN + usize::from(self.payload_len())
    }

    /// What follows the fixed header: an extension header or the upper layer.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.buffer.as_ref()[field::NEXT_HEADER]
    }

    /// Hops the packet may still take.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.buffer.as_ref()[field::HOP_LIMIT]
    }

    /// The source address.
    #[inline]
    pub fn src(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<16>(self.buffer.as_ref(), field::SRC))
    }

    /// The destination address.
    #[inline]
    pub fn dst(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<16>(self.buffer.as_ref(), field::DST))
    }

    /// What follows the fixed header: ends where the payload length says, or where the buffer does.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.buffer.as_ref();
        &bytes[HEADER_LEN..self.total_len().min(bytes.len())]
    }

    /// The upper layer, behind all extension headers; offsets count from the end of the fixed header.
    ///
    /// # Errors
    /// As [`ipv6_ext::walk`].
    #[inline]
    pub fn upper(&self) -> Result<ipv6_ext::Upper, ParseError> {
        ipv6_ext::walk(self.next_header(), self.payload())
    }

    /// The partial sum of the pseudo-header of an upper layer of `len` bytes.
    #[inline]
    pub fn pseudo_sum(&self, protocol: u8, len: u32) -> u64 {
        checksum::pseudo_v6(self.src(), self.dst(), protocol, len)
    }

    /// The bytes back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.buffer
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv6<T> {
    /// Sets DSCP and ECN.
    #[inline]
    pub fn set_traffic_class(&mut self, traffic_class: u8) {
        let first = get16(self.buffer.as_ref(), field::FIRST) & 0xf00f;
        put16(self.buffer.as_mut(), field::FIRST, first | u16::from(traffic_class) << 4);
    }

    /// Sets the ECN codepoint and keeps the DSCP.
    #[inline]
    pub fn mark_ecn(&mut self, ecn: Ecn) {
        self.set_traffic_class(ecn.in_tos(self.traffic_class()));
    }

    /// Sets the flow label; bits above the 20th are dropped.
    #[inline]
    pub fn set_flow_label(&mut self, label: u32) {
        let first = get32(self.buffer.as_ref(), field::FIRST) & 0xfff0_0000;
        put32(self.buffer.as_mut(), field::FIRST, first | label & 0x000f_ffff);
    }

    /// Sets the number of bytes behind the fixed header.
    #[inline]
    pub fn set_payload_len(&mut self, len: u16) {
        put16(self.buffer.as_mut(), field::PAYLOAD_LEN, len);
    }

    /// Sets what follows the fixed header.
    #[inline]
    pub fn set_next_header(&mut self, protocol: u8) {
        self.buffer.as_mut()[field::NEXT_HEADER] = protocol;
    }

    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        self.buffer.as_mut()[field::HOP_LIMIT] = hop_limit;
    }

    /// Takes one hop off. With a hop limit of 0 or 1 the packet has no hop left: false, and nothing is changed.
    #[inline]
    pub fn decrement_hop_limit(&mut self) -> bool {
        match self.hop_limit() {
            0 | 1 => false,
            hops => {
                self.set_hop_limit(hops - 1);
                true
            }
        }
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, src: Ipv6Addr) {
        put(self.buffer.as_mut(), field::SRC, &src.octets());
    }

    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, dst: Ipv6Addr) {
        put(self.buffer.as_mut(), field::DST, &dst.octets());
    }

    /// What follows the fixed header, for writing.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let end = self.total_len();
        let bytes = self.buffer.as_mut();
        let end = end.min(bytes.len());
        &mut bytes[HEADER_LEN..end]
    }
}

/// A fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv6Repr {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The flow label, 20 bits.
    pub flow_label: u32,
    /// Bytes behind the header.
    pub payload_len: u16,
    /// What the payload is.
    pub next_header: u8,
    /// Hops the packet may take.
    pub hop_limit: u8,
    /// The source address.
    pub src: Ipv6Addr,
    /// The destination address.
    pub dst: Ipv6Addr,
}

impl Ipv6Repr {
    /// Reads a header.
    pub fn parse<T: AsRef<[u8]>>(view: &Ipv6<T>) -> Ipv6Repr {
        Ipv6Repr {
            traffic_class: view.traffic_class(),
            flow_label: view.flow_label(),
            payload_len: view.payload_len(),
            next_header: view.next_header(),
            hop_limit: view.hop_limit(),
            src: view.src(),
            dst: view.dst(),
        }
    }

    /// Writes the header into the first 40 bytes of `out`.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when `out` is shorter.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> Result<(), ParseError> {
        let out = out.first_chunk_mut::<HEADER_LEN>().ok_or(ParseError::Truncated)?;
        put32(out, field::FIRST, 6 << 28);
        let mut view = Ipv6 { buffer: &mut out[..] };
        view.set_traffic_class(self.traffic_class);
        view.set_flow_label(self.flow_label);
        view.set_payload_len(self.payload_len);
        view.set_next_header(self.next_header);
        view.set_hop_limit(self.hop_limit);
        view.set_src(self.src);
        view.set_dst(self.dst);
        Ok(())
    }
}

/// The address names one node that may be answered: not unspecified, loopback, multicast (RFC 4443 §2.4 (e.6)) or
/// IPv4-mapped, which never stands on the wire (RFC 4291 §2.5.5.2).
#[inline]
pub const fn is_one_host(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.to_ipv4_mapped().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repr() -> Ipv6Repr {
        Ipv6Repr {
            traffic_class: 0xb9,
            flow_label: 0xabcde,
            payload_len: 4,
            next_header: 17,
            hop_limit: 64,
            src: "fd00:20::252".parse().unwrap(),
            dst: "fd00:20::253".parse().unwrap(),
        }
    }

    fn packet() -> Vec<u8> {
        let mut bytes = vec![0; 44];
        repr().emit(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn fields_read_back() {
        let bytes = packet();
        let view = Ipv6::new_checked(&bytes).unwrap();
        assert_eq!((view.version(), view.dscp(), view.ecn()), (6, 46, Ecn::Ect1));
        assert_eq!((view.total_len(), view.payload().len()), (44, 4));
        assert_eq!(Ipv6Repr::parse(&view), repr());
    }

    #[test]
    fn faults_have_their_reasons() {
        let mut bytes = packet();
        assert_eq!(Ipv6::new_checked(&bytes[..39]).unwrap_err(), ParseError::Truncated);
        assert_eq!(Ipv6::new_checked(&bytes[..43]).unwrap_err(), ParseError::Truncated);
        assert_eq!(Ipv6::new_quoted(&bytes[..43]).unwrap().payload().len(), 3);
        assert_eq!(Ipv6::new_head(&bytes[..43], 44).unwrap().total_len(), 44);
        assert_eq!(Ipv6::new_head(&bytes[..43], 43).unwrap_err(), ParseError::Truncated);
        bytes[0] = 0x45;
        assert_eq!(Ipv6::new_checked(&bytes).unwrap_err(), ParseError::BadVersion);
        assert_eq!(repr().emit(&mut [0; 39]), Err(ParseError::Truncated));
    }

    #[test]
    fn class_and_label_do_not_touch_each_other() {
        let mut bytes = packet();
        let mut view = Ipv6::new_checked(&mut bytes[..]).unwrap();
        view.set_traffic_class(0xff);
        view.set_flow_label(0xfff0_0001);
        assert_eq!((view.version(), view.traffic_class(), view.flow_label()), (6, 0xff, 1));
        view.mark_ecn(Ecn::NotEct);
        assert_eq!((view.traffic_class(), view.flow_label()), (0xfc, 1));
    }

    #[test]
    fn a_hop_is_taken_only_when_there_is_one() {
        for (before, after) in [(0, None), (1, None), (2, Some(1)), (255, Some(254))] {
            let mut bytes = packet();
            let mut view = Ipv6::new_checked(&mut bytes[..]).unwrap();
            view.set_hop_limit(before);
            assert_eq!(view.decrement_hop_limit(), after.is_some());
            assert_eq!(view.hop_limit(), after.unwrap_or(before));
        }
    }

    #[test]
    fn growing_the_payload_length_beyond_the_buffer_cuts_the_payload() {
        let mut bytes = packet();
        let mut view = Ipv6::new_checked(&mut bytes[..]).unwrap();
        view.set_payload_len(65535);
        assert_eq!((view.payload().len(), view.payload_mut().len()), (4, 4));
    }

    #[test]
    fn one_host_excludes_groups_loopback_and_nobody() {
        for one in ["fd00::1", "fe80::1", "2001:db8::1"] {
            assert!(is_one_host(one.parse().unwrap()), "{one}");
        }
        for other in ["::", "::1", "ff02::1", "::ffff:10.0.0.1"] {
            assert!(!is_one_host(other.parse().unwrap()), "{other}");
        }
    }
}
