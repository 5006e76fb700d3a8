//! IPv4 headers (RFC 791; DSCP: RFC 2474; ECN: RFC 3168).
//!
//! ```text
//!    0       4       8          14  16                              32
//!   +-------+-------+------------+---+-------------------------------+
//!   |version|  IHL  |    DSCP    |ECN|         total length          |   0
//!   +-------+-------+------------+---+-----+-------------------------+
//!   |        identification          |0 D M|    fragment offset / 8  |   4
//!   +----------------+---------------+-----+-------------------------+
//!   |      TTL       |   protocol    |        header checksum        |   8
//!   +----------------+---------------+-------------------------------+
//!   |                        source address                          |  12
//!   |                     destination address                        |  16
//!   |                 options, padded to 32 bits ..                  |  20
//! ```

use core::net::Ipv4Addr;

use super::ecn::Ecn;
use super::field::{array, get16, put, put16};
use super::{checksum, protocol};
use crate::ParseError;

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 60;
/// Every link carries packets of this many bytes whole (RFC 791 §3.2).
pub const MIN_MTU: u16 = 68;

mod field {
    pub(super) const VERSION_IHL: usize = 0;
    pub(super) const TOS: usize = 1;
    pub(super) const TOTAL_LEN: usize = 2;
    pub(super) const ID: usize = 4;
    pub(super) const FRAGMENT: usize = 6;
    pub(super) const TTL: usize = 8;
    pub(super) const PROTOCOL: usize = 9;
    pub(super) const CHECKSUM: usize = 10;
    pub(super) const SRC: usize = 12;
    pub(super) const DST: usize = 16;
}

/// The don't-fragment flag in the word of flags and fragment offset.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
/// The more-fragments flag in the same word.
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;

/// An IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Ipv4<T> {
    /// A view of `buffer`, which starts with the header and may have link padding behind the packet. These are checks
    /// (1), (3), (4) and (5) of RFC 1812 §5.2.2; (2) is [`Self::verify_checksum`].
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when header or packet do not fit the buffer, [`ParseError::BadVersion`],
    /// [`ParseError::BadLength`] for an IHL below 5 or a total length below the header's.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let len = buffer.as_ref().len();
        Self::new_head(buffer, len)
    }

    /// A view of the first bytes of a packet that goes on elsewhere (a chain of frames): the header must be whole, and
    /// the total length within `available` bytes.
    ///
    /// # Errors
    /// As [`Self::new_checked`].
    #[inline]
    pub fn new_head(buffer: T, available: usize) -> Result<Self, ParseError> {
        let view = Self::new_quoted(buffer)?;
        match usize::from(view.total_len()) {
            len if len < view.header_len() => Err(ParseError::BadLength),
            len if len > available => Err(ParseError::Truncated),
            _ => Ok(view),
        }
    }

    /// A view of a packet whose header is whole but whose payload may be cut short, as quoted in an ICMP error.
    ///
    /// # Errors
    /// As [`Self::new_checked`], the total length aside.
    #[inline]
    pub fn new_quoted(buffer: T) -> Result<Self, ParseError> {
        let bytes = buffer.as_ref();
        if bytes.len() < MIN_HEADER_LEN {
            return Err(ParseError::Truncated);
        }
        if bytes[field::VERSION_IHL] >> 4 != 4 {
            return Err(ParseError::BadVersion);
        }
        match usize::from(bytes[field::VERSION_IHL] & 0x0f) * 4 {
            len if len < MIN_HEADER_LEN => Err(ParseError::BadLength),
            len if len > bytes.len() => Err(ParseError::Truncated),
            _ => Ok(Ipv4 { buffer }),
        }
    }

    /// The version field: 4.
    #[inline]
    pub fn version(&self) -> u8 {
        self.buffer.as_ref()[field::VERSION_IHL] >> 4
    }

    /// Bytes of the header with its options, 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.buffer.as_ref()[field::VERSION_IHL] & 0x0f) * 4
    }

    /// The whole TOS byte: DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.buffer.as_ref()[field::TOS]
    }

    /// The differentiated services codepoint, 0 to 63.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.tos() >> 2
    }

    /// The ECN codepoint.
    #[inline]
    pub fn ecn(&self) -> Ecn {
        Ecn::from_tos(self.tos())
    }

    /// Bytes of the packet, header included.
    #[inline]
    pub fn total_len(&self) -> u16 {
        get16(self.buffer.as_ref(), field::TOTAL_LEN)
    }

    /// The identification: which packet a fragment belongs to.
    #[inline]
    pub fn id(&self) -> u16 {
        get16(self.buffer.as_ref(), field::ID)
    }

    #[inline]
    fn fragment_word(&self) -> u16 {
        get16(self.buffer.as_ref(), field::FRAGMENT)
    }

    /// No router may fragment the packet.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.fragment_word() & DONT_FRAGMENT != 0
    }

    /// This is not the packet's last fragment.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.fragment_word() & MORE_FRAGMENTS != 0
    }

    /// Where in the whole packet's payload this fragment belongs, in bytes: a multiple of 8.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        self.fragment_word() << 3
    }

    /// The packet is a piece of a larger one: the first, a middle or the last.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment_word() & !(DONT_FRAGMENT | 0x8000) != 0
    }

    /// Hops the packet may still take.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.buffer.as_ref()[field::TTL]
    }

    /// What the payload is: one of [`super::protocol`].
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.buffer.as_ref()[field::PROTOCOL]
    }

    /// The header checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get16(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// The source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from(array(self.buffer.as_ref(), field::SRC))
    }

    /// The destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from(array(self.buffer.as_ref(), field::DST))
    }

    /// The header with its options.
    #[inline]
    pub fn header(&self) -> &[u8] {
        let bytes = self.buffer.as_ref();
        &bytes[..self.header_len().min(bytes.len())]
    }

    /// The options, 0 to 40 bytes, padding included.
    #[inline]
    pub fn options(&self) -> &[u8] {
        self.header().get(MIN_HEADER_LEN..).unwrap_or(&[])
    }

    /// Bytes behind the header, as the header says.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        self.total_len().saturating_sub(self.header_len() as u16)
    }

    /// What the packet carries: ends where the total length says, or where the buffer does.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.buffer.as_ref();
        let end = usize::from(self.total_len()).min(bytes.len());
        bytes.get(self.header_len()..end).unwrap_or(&[])
    }

    /// The header sums to its checksum (RFC 1812 §5.2.2 (2)).
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        checksum::fold(checksum::sum(self.header())) == 0xffff
    }

    /// The partial sum of the pseudo-header of what the packet carries.
    #[inline]
    pub fn pseudo_sum(&self) -> u64 {
        checksum::pseudo_v4(self.src(), self.dst(), self.protocol(), self.payload_len())
    }

    /// The bytes back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.buffer
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv4<T> {
    /// Sets the whole TOS byte.
    #[inline]
    pub fn set_tos(&mut self, tos: u8) {
        self.buffer.as_mut()[field::TOS] = tos;
    }

    /// Sets the packet's length in bytes, header included.
    #[inline]
    pub fn set_total_len(&mut self, len: u16) {
        put16(self.buffer.as_mut(), field::TOTAL_LEN, len);
    }

    /// Sets the identification.
    #[inline]
    pub fn set_id(&mut self, id: u16) {
        put16(self.buffer.as_mut(), field::ID, id);
    }

    /// Sets the fragmentation fields; `offset` is in bytes, and its low 3 bits are dropped.
    #[inline]
    pub fn set_fragment(&mut self, offset: u16, more: bool, dont_fragment: bool) {
        let df = if dont_fragment { DONT_FRAGMENT } else { 0 };
        let mf = if more { MORE_FRAGMENTS } else { 0 };
        put16(self.buffer.as_mut(), field::FRAGMENT, offset >> 3 | df | mf);
    }

    /// Sets the TTL.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.buffer.as_mut()[field::TTL] = ttl;
    }

    /// Sets the protocol.
    #[inline]
    pub fn set_protocol(&mut self, protocol: u8) {
        self.buffer.as_mut()[field::PROTOCOL] = protocol;
    }

    /// Sets the header checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put16(self.buffer.as_mut(), field::CHECKSUM, checksum);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, src: Ipv4Addr) {
        put(self.buffer.as_mut(), field::SRC, &src.octets());
    }

    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, dst: Ipv4Addr) {
        put(self.buffer.as_mut(), field::DST, &dst.octets());
    }

    /// What the packet carries, for writing.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.header_len(), usize::from(self.total_len()));
        let bytes = self.buffer.as_mut();
        let end = end.min(bytes.len());
        bytes.get_mut(start..end).unwrap_or(&mut [])
    }

    /// Computes the header checksum from scratch and stores it.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let value = checksum::checksum(self.header());
        self.set_checksum(value);
    }

    /// Takes one hop off the TTL and keeps the checksum right by difference (RFC 1624). With a TTL of 0 or 1 the packet
    /// has no hop left: false, and nothing is changed.
    #[inline]
    pub fn decrement_ttl(&mut self) -> bool {
        let old = get16(self.buffer.as_ref(), field::TTL);
        if old < 0x0200 {
            return false;
        }
        let new = old - 0x0100;
        let value = checksum::update16(self.checksum(), old, new);
        put16(self.buffer.as_mut(), field::TTL, new);
        self.set_checksum(value);
        true
    }

    /// Sets the ECN codepoint and keeps the checksum right by difference (RFC 1624).
    #[inline]
    pub fn mark_ecn(&mut self, ecn: Ecn) {
        let old = get16(self.buffer.as_ref(), field::VERSION_IHL);
        let new = old & !u16::from(Ecn::MASK) | u16::from(ecn.bits());
        let value = checksum::update16(self.checksum(), old, new);
        put16(self.buffer.as_mut(), field::VERSION_IHL, new);
        self.set_checksum(value);
    }
}

/// A header without options, of a packet that is not a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv4Repr {
    /// DSCP and ECN.
    pub tos: u8,
    /// The identification; free to be 0 when `dont_fragment` is set (RFC 6864 §4.1).
    pub id: u16,
    /// No router may fragment the packet.
    pub dont_fragment: bool,
    /// Hops the packet may take.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: u8,
    /// The source address.
    pub src: Ipv4Addr,
    /// The destination address.
    pub dst: Ipv4Addr,
    /// Bytes behind the header, at most 65515.
    pub payload_len: u16,
}

impl Ipv4Repr {
    /// Reads a header; options are left out.
    ///
    /// # Errors
    /// [`ParseError::Malformed`] for a fragment.
    pub fn parse<T: AsRef<[u8]>>(view: &Ipv4<T>) -> Result<Ipv4Repr, ParseError> {
        if view.is_fragment() {
            return Err(ParseError::Malformed);
        }
        Ok(Ipv4Repr {
            tos: view.tos(),
            id: view.id(),
            dont_fragment: view.dont_fragment(),
            ttl: view.ttl(),
            protocol: view.protocol(),
            src: view.src(),
            dst: view.dst(),
            payload_len: view.payload_len(),
        })
    }

    /// Writes the header, checksum included, into the first 20 bytes of `out`.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when `out` is shorter, [`ParseError::BadLength`] when the packet would pass 65535 bytes.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> Result<(), ParseError> {
        let out = out.first_chunk_mut::<MIN_HEADER_LEN>().ok_or(ParseError::Truncated)?;
        let total_len = self.payload_len.checked_add(MIN_HEADER_LEN as u16).ok_or(ParseError::BadLength)?;
        out[field::VERSION_IHL] = 0x45;
        let mut view = Ipv4 { buffer: &mut out[..] };
        view.set_tos(self.tos);
        view.set_total_len(total_len);
        view.set_id(self.id);
        view.set_fragment(0, false, self.dont_fragment);
        view.set_ttl(self.ttl);
        view.set_protocol(self.protocol);
        view.set_src(self.src);
        view.set_dst(self.dst);
        view.fill_checksum();
        Ok(())
    }
}

/// The address names one host that may be answered: not unspecified, "this network", loopback, multicast, reserved
/// or broadcast (RFC 1122 §3.2.1.3). A subnet's broadcast address cannot be told from here.
#[inline]
pub const fn is_one_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224
}

/// The protocols whose first 4 bytes are source and destination port.
#[inline]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP | protocol::UDPLITE | protocol::DCCP)
}

#[cfg(test)]
mod tests;
