//! Ethernet II frames (IEEE 802.3 §3.1) and MAC addresses.
//!
//! ```text
//!    0                 6                12        14
//!   +-----------------+-----------------+---------+-------------
//!   |   destination   |     source      |  type   | payload ...     no preamble, no frame check sequence
//!   +-----------------+-----------------+---------+-------------
//! ```

use core::{fmt, str::FromStr};

use super::field::{array, get16, put, put16};
use crate::ParseError;

/// Bytes of an Ethernet header without VLAN tags.
pub const HEADER_LEN: usize = 14;

mod field {
    pub(super) const DST: usize = 0;
    pub(super) const SRC: usize = 6;
    pub(super) const TYPE: usize = 12;
}

/// A MAC address, in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All stations: `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// `00:00:00:00:00:00`: no address, as in the target of an ARP request.
    pub const ZERO: MacAddr = MacAddr([0; 6]);

    /// The group bit is set: multicast, and broadcast with it.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// One station's address. The all-zero address names no station.
    #[inline]
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && self.to_u64() != 0
    }

    /// All ones.
    #[inline]
    pub const fn is_broadcast(self) -> bool {
        self.to_u64() == 0xffff_ffff_ffff
    }

    /// The address as a number below 2^48, first byte most significant.
    #[inline]
    pub const fn to_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The address whose number is `value`; bits above the 48th are dropped.
    #[inline]
    pub const fn from_u64(value: u64) -> MacAddr {
        let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
        MacAddr([a, b, c, d, e, f])
    }
}

impl From<MacAddr> for u64 {
    fn from(mac: MacAddr) -> u64 {
        mac.to_u64()
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(bytes: [u8; 6]) -> MacAddr {
        MacAddr(bytes)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidMacAddr;

impl fmt::Display for InvalidMacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MAC address is six pairs of hex digits joined by colons, as ee:ee:ee:ee:ee:ee")
    }
}

impl core::error::Error for InvalidMacAddr {}

impl FromStr for MacAddr {
    type Err = InvalidMacAddr;

    fn from_str(text: &str) -> Result<MacAddr, InvalidMacAddr> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(InvalidMacAddr)?;
            // from_str_radix also takes a sign, which a MAC address never has.
            if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(InvalidMacAddr);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| InvalidMacAddr)?;
        }
        match parts.next() {
            None => Ok(MacAddr(bytes)),
            Some(_) => Err(InvalidMacAddr),
        }
    }
}

/// The type field of an Ethernet header or VLAN tag (IANA "ieee-802-numbers"). Values below 0x0600 are 802.3 lengths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4 (RFC 894).
    pub const IPV4: EtherType = EtherType(0x0800);
    /// ARP (RFC 826).
    pub const ARP: EtherType = EtherType(0x0806);
    /// 802.1Q customer tag.
    pub const VLAN: EtherType = EtherType(0x8100);
    /// IPv6 (RFC 2464).
    pub const IPV6: EtherType = EtherType(0x86dd);
    /// 802.1ad service tag.
    pub const QINQ: EtherType = EtherType(0x88a8);
    /// LLDP (802.1AB).
    pub const LLDP: EtherType = EtherType(0x88cc);
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:04x}", self.0)
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A frame seen as Ethernet II.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Ethernet<T> {
    /// A view of `buffer`, which starts with the destination address.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 14 bytes.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        if buffer.as_ref().len() < HEADER_LEN {
            return Err(ParseError::Truncated);
        }
        Ok(Ethernet { buffer })
    }

    /// The destination address.
    #[inline]
    pub fn dst(&self) -> MacAddr {
        MacAddr(array(self.buffer.as_ref(), field::DST))
    }

    /// The source address.
    #[inline]
    pub fn src(&self) -> MacAddr {
        MacAddr(array(self.buffer.as_ref(), field::SRC))
    }

    /// The type field: of the first VLAN tag, when there is one.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(get16(self.buffer.as_ref(), field::TYPE))
    }

    /// Everything after the header, padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[HEADER_LEN..]
    }

    /// The bytes back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.buffer
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ethernet<T> {
    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, mac: MacAddr) {
        put(self.buffer.as_mut(), field::DST, &mac.0);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, mac: MacAddr) {
        put(self.buffer.as_mut(), field::SRC, &mac.0);
    }

    /// Sets the type field.
    #[inline]
    pub fn set_ethertype(&mut self, ethertype: EtherType) {
        put16(self.buffer.as_mut(), field::TYPE, ethertype.0);
    }

    /// Everything after the header, for writing.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.buffer.as_mut()[HEADER_LEN..]
    }
}

/// Writes a whole header.
#[inline]
pub fn write_header(out: &mut [u8; HEADER_LEN], dst: MacAddr, src: MacAddr, ethertype: EtherType) {
    put(out, field::DST, &dst.0);
    put(out, field::SRC, &src.0);
    put16(out, field::TYPE, ethertype.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_text_round_trips_and_nothing_else_is_taken() {
        let mac = MacAddr([0xee, 0, 0x0a, 0xff, 1, 2]);
        assert_eq!(mac.to_string(), "ee:00:0a:ff:01:02");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!("EE:00:0A:FF:01:02".parse(), Ok(mac));
        for bad in [
            "",
            "ee:00:0a:ff:01",
            "ee:00:0a:ff:01:02:03",
            "ee:00:0a:ff:01:+2",
            "ee-00-0a-ff-01-02",
            "e:0:a:f:1:2",
        ] {
            assert_eq!(bad.parse::<MacAddr>(), Err(InvalidMacAddr), "{bad}");
        }
    }

    #[test]
    fn mac_number_round_trips() {
        let mac = MacAddr([1, 2, 3, 4, 5, 6]);
        assert_eq!(mac.to_u64(), 0x0102_0304_0506);
        assert_eq!(MacAddr::from_u64(0xffff_0102_0304_0506), mac);
        assert_eq!(u64::from(mac), mac.to_u64());
    }

    #[test]
    fn broadcast_is_multicast_and_zero_is_nobody() {
        assert!(MacAddr::BROADCAST.is_multicast() && MacAddr::BROADCAST.is_broadcast());
        assert!(!MacAddr::BROADCAST.is_unicast());
        assert!(!MacAddr::ZERO.is_unicast() && !MacAddr::ZERO.is_multicast());
        assert!(MacAddr([0xee; 6]).is_unicast());
        assert!(MacAddr([0x33, 0x33, 0, 0, 0, 1]).is_multicast());
        assert!(!MacAddr([0x33, 0x33, 0, 0, 0, 1]).is_broadcast());
    }

    #[test]
    fn written_header_reads_back() {
        let mut bytes = [0u8; HEADER_LEN + 3];
        let (header, _) = bytes.split_first_chunk_mut().expect("17 bytes hold 14");
        write_header(header, MacAddr([1; 6]), MacAddr([2; 6]), EtherType::IPV6);
        let mut view = Ethernet::new_checked(&mut bytes[..]).unwrap();
        assert_eq!((view.dst(), view.src()), (MacAddr([1; 6]), MacAddr([2; 6])));
        assert_eq!(view.ethertype(), EtherType::IPV6);
        assert_eq!(view.payload().len(), 3);
        view.set_dst(MacAddr([7; 6]));
        view.set_src(MacAddr([8; 6]));
        view.set_ethertype(EtherType::ARP);
        view.payload_mut()[0] = 9;
        assert_eq!((view.dst(), view.src()), (MacAddr([7; 6]), MacAddr([8; 6])));
        assert_eq!(view.ethertype(), EtherType::ARP);
        assert_eq!(view.payload()[0], 9);
    }

    #[test]
    fn thirteen_bytes_are_no_frame() {
        assert_eq!(Ethernet::new_checked([0u8; 13]).unwrap_err(), ParseError::Truncated);
    }
}
