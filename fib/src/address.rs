//! IP addresses as bit strings, so that prefixes and tries are written once for both families.
//!
//! Bits are numbered as in prefixes: bit 0 is the most significant bit of the first octet.
//!
//! ```text
//!  10.100.36.103   00001010 01100100 00100100 01100111
//!                  ^bit 0                            ^bit 31
//!  slice(8, 4)              ^^^^ = 6
//! ```

use core::fmt::{Debug, Display};
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

mod sealed {
    pub trait Sealed {}
    impl Sealed for core::net::Ipv4Addr {}
    impl Sealed for core::net::Ipv6Addr {}
}

/// An IPv4 or IPv6 address seen as a string of [`BITS`](Address::BITS) bits.
///
/// Implemented for [`Ipv4Addr`] and [`Ipv6Addr`] and for nothing else.
pub trait Address:
    Copy + Ord + Hash + Debug + Display + FromStr + Into<IpAddr> + Send + Sync + sealed::Sealed + 'static
{
    /// Number of bits: 32 or 128.
    const BITS: u8;
    /// The address of all zeros, the lowest one.
    const UNSPECIFIED: Self;
    /// The address of all ones, the highest one.
    const HIGHEST: Self;

    /// The `width` bits that start at bit `offset`, as a number.
    ///
    /// `width` must be 1 to 32 and `offset + width` at most [`BITS`](Address::BITS); other
    /// arguments yield a meaningless number, or a panic in debug builds.
    fn slice(self, offset: u8, width: u8) -> usize;

    /// The four bits that start at bit `offset`, a multiple of 4. Behind the last bit comes the
    /// first again: a reader whose lines were reused under it must not end in a panic.
    #[doc(hidden)]
    fn nibble(self, offset: u8) -> usize;

    /// The address with all but its first `len` bits cleared. `len` above `BITS` changes nothing.
    #[must_use]
    fn network(self, len: u8) -> Self;

    /// The address with all but its first `len` bits set. `len` above `BITS` changes nothing.
    #[must_use]
    fn broadcast(self, len: u8) -> Self;

    /// The address with bit `bit` set or cleared.
    #[doc(hidden)]
    #[must_use]
    fn with_bit(self, bit: u8, set: bool) -> Self;

    /// The address, if the family is IPv4.
    #[doc(hidden)]
    fn v4(self) -> Option<Ipv4Addr>;

    /// The addresses, if the family is IPv4.
    #[doc(hidden)]
    fn all_v4(addrs: &[Self; 64]) -> Option<&[Ipv4Addr; 64]>;

    /// How many leading bits both addresses share, 0 to `BITS`.
    fn common_len(self, other: Self) -> u8;

    /// The next higher address, or `None` after [`HIGHEST`](Address::HIGHEST).
    fn successor(self) -> Option<Self>;

    /// The next lower address, or `None` before [`UNSPECIFIED`](Address::UNSPECIFIED).
    fn predecessor(self) -> Option<Self>;
}

macro_rules! implement_address {
    ($address:ty, $bits:ty, $one:expr, $all:expr) => {
        impl Address for $address {
            const BITS: u8 = <$bits>::BITS as u8;
            const UNSPECIFIED: Self = <$address>::UNSPECIFIED;
            const HIGHEST: Self = <$address>::from_bits(<$bits>::MAX);

            #[inline(always)]
            fn slice(self, offset: u8, width: u8) -> usize {
                ((self.to_bits() << u32::from(offset)) >> (<$bits>::BITS - u32::from(width))) as usize
            }

            #[inline(always)]
            fn nibble(self, offset: u8) -> usize {
                // From the octet: shifting 128 bits by a variable count takes many instructions.
                let octet = self.octets()[usize::from(offset / 8) % size_of::<Self>()];
                usize::from(octet >> (4 - offset % 8) & 0xf)
            }

            #[inline]
            fn network(self, len: u8) -> Self {
                Self::from_bits(self.to_bits() & !(<$bits>::MAX.checked_shr(u32::from(len)).unwrap_or(0)))
            }

            #[inline]
            fn broadcast(self, len: u8) -> Self {
                Self::from_bits(self.to_bits() | <$bits>::MAX.checked_shr(u32::from(len)).unwrap_or(0))
            }

            #[inline(always)]
            fn v4(self) -> Option<Ipv4Addr> {
                $one(self)
            }

            #[inline(always)]
            fn all_v4(addrs: &[Self; 64]) -> Option<&[Ipv4Addr; 64]> {
                $all(addrs)
            }

            fn with_bit(self, bit: u8, set: bool) -> Self {
                let mask = <$bits>::MAX ^ <$bits>::MAX >> 1;
                let mask = mask >> bit;
                Self::from_bits(if set { self.to_bits() | mask } else { self.to_bits() & !mask })
            }

            #[inline]
            fn common_len(self, other: Self) -> u8 {
                (self.to_bits() ^ other.to_bits()).leading_zeros() as u8
            }

            fn successor(self) -> Option<Self> {
                self.to_bits().checked_add(1).map(Self::from_bits)
            }

            fn predecessor(self) -> Option<Self> {
                self.to_bits().checked_sub(1).map(Self::from_bits)
            }
        }
    };
}

implement_address!(Ipv4Addr, u32, Some, Some);
implement_address!(Ipv6Addr, u128, |_| None, |_| None);

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn slices_count_from_the_most_significant_bit() {
        assert_eq!(v4("10.100.36.103").slice(8, 4), 6);
        assert_eq!(v4("10.100.36.103").slice(0, 32), 0x0a64_2467);
        assert_eq!(v4("10.100.36.103").slice(31, 1), 1);
        assert_eq!(v6("fd00:20::252").slice(0, 16), 0xfd00);
        assert_eq!(v6("fd00:20::252").slice(120, 8), 0x52);
        for offset in (0..32).step_by(4) {
            assert_eq!(v4("10.100.36.103").nibble(offset), v4("10.100.36.103").slice(offset, 4));
        }
        for offset in (0..128).step_by(4) {
            assert_eq!(v6("fd12:3456::7:89").nibble(offset), v6("fd12:3456::7:89").slice(offset, 4));
        }
    }

    #[test]
    fn masks_at_both_ends_of_the_length() {
        assert_eq!(v4("10.100.36.103").network(26), v4("10.100.36.64"));
        assert_eq!(v4("10.100.36.103").broadcast(26), v4("10.100.36.127"));
        assert_eq!(v4("10.100.36.103").network(0), Ipv4Addr::UNSPECIFIED);
        assert_eq!(v4("10.100.36.103").broadcast(0), Ipv4Addr::BROADCAST);
        assert_eq!(v4("10.100.36.103").network(32), v4("10.100.36.103"));
        assert_eq!(v6("fd00:20::252").network(64), v6("fd00:20::"));
        assert_eq!(v6("fd00:20::252").broadcast(128), v6("fd00:20::252"));
        assert_eq!(v6("fd00:20::252").broadcast(0), Ipv6Addr::HIGHEST);
    }

    #[test]
    fn common_length_and_neighbours() {
        assert_eq!(v4("10.0.0.0").common_len(v4("10.0.0.0")), 32);
        assert_eq!(v4("10.0.0.0").common_len(v4("10.0.0.1")), 31);
        assert_eq!(v6("::").common_len(v6("8000::")), 0);
        assert_eq!(v4("10.0.0.255").successor(), Some(v4("10.0.1.0")));
        assert_eq!(Ipv4Addr::HIGHEST.successor(), None);
        assert_eq!(v6("::1:0").predecessor(), Some(v6("::ffff")));
        assert_eq!(Ipv6Addr::UNSPECIFIED.predecessor(), None);
    }
}
