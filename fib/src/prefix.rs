//! Prefixes: the first `len` bits of an address, the rest zero (RFC 4632, RFC 4291 2.3).
//!
//! A [`Prefix`] is canonical by construction: host bits are always clear, so that two prefixes
//! are equal exactly when they cover the same addresses. The order is by address, then length;
//! hence a prefix sorts before everything that it covers, and what it covers follows it without
//! a gap.

use crate::Address;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// A block of addresses that share their first [`len`](Prefix::len) bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix<A> {
    addr: A,
    len: u8,
}

/// Why an address and a length, or a text, are not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PrefixError {
    /// The length exceeds the family's number of bits.
    #[error("prefix length {len} is above {max}")]
    Length {
        /// The length that was given.
        len: u8,
        /// 32 or 128.
        max: u8,
    },
    /// Bits behind the prefix length are set.
    #[error("{addr}/{len} has host bits set; the prefix is {network}/{len}")]
    HostBits {
        /// The address that was given.
        addr: IpAddr,
        /// The length that was given.
        len: u8,
        /// The address with its host bits clear.
        network: IpAddr,
    },
    /// The text has no `/`.
    #[error("{0:?} has no prefix length (address/length is expected)")]
    NoLength(String),
    /// What stands before the `/` is not an address of the expected family.
    #[error("{text:?} is not an {family} address")]
    Address {
        /// The text before the `/`.
        text: String,
        /// "IPv4", "IPv6" or "IP".
        family: &'static str,
    },
    /// What stands behind the `/` is not a decimal number of at most 255, without sign or
    /// leading zeros.
    #[error("{0:?} is not a prefix length")]
    LengthSyntax(String),
}

impl<A: Address> Prefix<A> {
    /// The prefix of length zero, which covers every address.
    pub const DEFAULT: Self = Self { addr: A::UNSPECIFIED, len: 0 };

    /// The prefix `addr/len`.
    ///
    /// # Errors
    /// [`PrefixError::Length`] if `len` is above [`Address::BITS`], [`PrefixError::HostBits`] if
    /// `addr` has bits set behind `len`.
    pub fn new(addr: A, len: u8) -> Result<Self, PrefixError> {
        let prefix = Self::masked(addr, len)?;
        if prefix.addr != addr {
            return Err(PrefixError::HostBits { addr: addr.into(), len, network: prefix.addr.into() });
        }
        Ok(prefix)
    }

    /// The prefix of length `len` that contains `addr`: host bits are cleared.
    ///
    /// # Errors
    /// [`PrefixError::Length`] if `len` is above [`Address::BITS`].
    pub fn masked(addr: A, len: u8) -> Result<Self, PrefixError> {
        if len > A::BITS {
            return Err(PrefixError::Length { len, max: A::BITS });
        }
        Ok(Self { addr: addr.network(len), len })
    }

    /// The prefix that contains `addr` alone (/32 or /128).
    pub fn host(addr: A) -> Self {
        Self { addr, len: A::BITS }
    }

    /// The prefix of length `len` that covers this one; this one if it is no longer than `len`.
    #[must_use]
    pub(crate) fn shortened(self, len: u8) -> Self {
        let len = len.min(self.len);
        Self { addr: self.addr.network(len), len }
    }

    /// The network address, which is also the first address covered.
    #[inline]
    pub fn addr(&self) -> A {
        self.addr
    }

    /// The number of leading bits that count, 0 to [`Address::BITS`].
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a length in bits, not a number of elements")]
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether `addr` lies inside.
    #[inline]
    pub fn contains(&self, addr: A) -> bool {
        addr.network(self.len) == self.addr
    }

    /// Whether every address of `other` lies inside; a prefix covers itself.
    #[inline]
    pub fn covers(&self, other: &Self) -> bool {
        self.len <= other.len && self.contains(other.addr)
    }

    /// The lowest address inside.
    pub fn first(&self) -> A {
        self.addr
    }

    /// The highest address inside.
    pub fn last(&self) -> A {
        self.addr.broadcast(self.len)
    }
}

impl<A: Address> From<A> for Prefix<A> {
    fn from(addr: A) -> Self {
        Self::host(addr)
    }
}

impl<A: Address> fmt::Display for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Through a String only when the caller asked for padding.
        if f.width().is_some() {
            return f.pad(&format!("{}/{}", self.addr, self.len));
        }
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl<A: fmt::Debug> fmt::Debug for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.addr, self.len)
    }
}

impl<A: Address> FromStr for Prefix<A> {
    type Err = PrefixError;

    /// Reads `address/length`. The length is required, and host bits are refused.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (addr, len) = split(text)?;
        let family = if A::BITS == Ipv4Addr::BITS as u8 { "IPv4" } else { "IPv6" };
        let addr = addr.parse().map_err(|_| PrefixError::Address { text: addr.to_owned(), family })?;
        Self::new(addr, parse_len(len, A::BITS)?)
    }
}

fn split(text: &str) -> Result<(&str, &str), PrefixError> {
    text.split_once('/').ok_or_else(|| PrefixError::NoLength(text.to_owned()))
}

fn parse_len(text: &str, max: u8) -> Result<u8, PrefixError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    let len = match text.parse() {
        Ok(len) if digits && !leading_zero => len,
        _ => return Err(PrefixError::LengthSyntax(text.to_owned())),
    };
    if len > max {
        return Err(PrefixError::Length { len, max });
    }
    Ok(len)
}

/// A prefix of either family, as configuration and control channels name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnyPrefix {
    /// An IPv4 prefix.
    V4(Prefix<Ipv4Addr>),
    /// An IPv6 prefix.
    V6(Prefix<Ipv6Addr>),
}

impl AnyPrefix {
    /// The prefix `addr/len`; errors as [`Prefix::new`].
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, PrefixError> {
        match addr {
            IpAddr::V4(addr) => Prefix::new(addr, len).map(Self::V4),
            IpAddr::V6(addr) => Prefix::new(addr, len).map(Self::V6),
        }
    }

    /// The network address.
    pub fn addr(&self) -> IpAddr {
        match self {
            Self::V4(prefix) => prefix.addr().into(),
            Self::V6(prefix) => prefix.addr().into(),
        }
    }

    /// The number of leading bits that count.
    #[expect(clippy::len_without_is_empty, reason = "a length in bits, not a number of elements")]
    pub fn len(&self) -> u8 {
        match self {
            Self::V4(prefix) => prefix.len(),
            Self::V6(prefix) => prefix.len(),
        }
    }

    /// Whether `addr` is of this family and lies inside.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self, addr) {
            (Self::V4(prefix), IpAddr::V4(addr)) => prefix.contains(addr),
            (Self::V6(prefix), IpAddr::V6(addr)) => prefix.contains(addr),
            _ => false,
        }
    }
}

impl From<Prefix<Ipv4Addr>> for AnyPrefix {
    fn from(prefix: Prefix<Ipv4Addr>) -> Self {
        Self::V4(prefix)
    }
}

impl From<Prefix<Ipv6Addr>> for AnyPrefix {
    fn from(prefix: Prefix<Ipv6Addr>) -> Self {
        Self::V6(prefix)
    }
}

impl fmt::Display for AnyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(prefix) => prefix.fmt(f),
            Self::V6(prefix) => prefix.fmt(f),
        }
    }
}

impl fmt::Debug for AnyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AnyPrefix {
    type Err = PrefixError;

    /// Reads `address/length` of either family, as strictly as [`Prefix`] does.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (addr, len) = split(text)?;
        match addr.parse() {
            Ok(IpAddr::V4(addr)) => Prefix::new(addr, parse_len(len, Ipv4Addr::BITS as u8)?).map(Self::V4),
            Ok(IpAddr::V6(addr)) => Prefix::new(addr, parse_len(len, Ipv6Addr::BITS as u8)?).map(Self::V6),
            Err(_) => Err(PrefixError::Address { text: addr.to_owned(), family: "IP" }),
        }
    }
}
