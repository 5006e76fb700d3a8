//! IPv4 fragmentation (RFC 791 §3.2). Routers do not fragment IPv6 (RFC 8200 §5): it gets a "packet too big".
//!
//! ```text
//!   packet    | header + options | payload                                   |
//!   pieces    | header + options | 8k bytes  |                                  offset 0,      MF
//!             | header + copied  |           | 8k bytes    |                    offset 8k,     MF
//!             | header + copied  |                         | what is left    |  offset 16k,    MF as the packet had it
//! ```
//!
//! [`Fragmenter`] plans: an iterator of [`Fragment`]s that says which bytes go where. [`Fragmenter::emit_header`] writes
//! each piece's header. Bytes of payload are the caller's to move, so nothing is copied here twice or allocated.
//!
//! A packet that is itself a fragment is split again with its own offset and MF flag carried on.
//!
//! Invariant: the pieces are in order, without gap or overlap, and every one is at most the MTU long.

use core::fmt;
use core::iter::FusedIterator;

use crate::ParseError;
use crate::wire::Ipv4;
use crate::wire::ipv4::{MAX_HEADER_LEN, MIN_HEADER_LEN, MIN_MTU};

/// Why a packet cannot be fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FragmentError {
    /// The packet is not valid, or reaches beyond byte 65535 of what it is a part of.
    Parse(ParseError),
    /// Its sender forbids it: the answer is "fragmentation needed" with the MTU.
    DontFragment,
    /// The MTU is below 68 bytes, which every link has (RFC 791 §3.2).
    MtuTooSmall,
}

impl fmt::Display for FragmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FragmentError::Parse(reason) => reason.fmt(f),
            FragmentError::DontFragment => f.write_str("the packet may not be fragmented"),
            FragmentError::MtuTooSmall => f.write_str("an IPv4 link has an MTU of at least 68 bytes"),
        }
    }
}

impl core::error::Error for FragmentError {}

/// One piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Where its data starts in the payload of the packet being split, in bytes: a multiple of 8.
    pub offset: usize,
    /// Bytes of data.
    pub len: usize,
    /// The MF flag of its header.
    pub more: bool,
    /// Bytes of its header.
    pub header_len: usize,
}

/// The plan for one packet.
#[derive(Clone, Copy, Debug)]
pub struct Fragmenter<'a> {
    packet: Ipv4<&'a [u8]>,
    mtu: usize,
    /// The header of every piece but the first: fixed part and copied options.
    later: ([u8; MAX_HEADER_LEN], usize),
    next: usize,
    done: bool,
}

impl<'a> Fragmenter<'a> {
    /// Plans how to send `packet` over a link of `mtu` bytes. A packet that fits gives one piece, itself.
    ///
    /// # Errors
    /// See [`FragmentError`].
    pub fn new(packet: &'a [u8], mtu: u16) -> Result<Fragmenter<'a>, FragmentError> {
        let packet = Ipv4::new_checked(packet).map_err(FragmentError::Parse)?;
        if mtu < MIN_MTU {
            return Err(FragmentError::MtuTooSmall);
        }
        let too_long = packet.total_len() > mtu;
        if too_long && packet.dont_fragment() {
            return Err(FragmentError::DontFragment);
        }
        let end = usize::from(packet.fragment_offset()) + packet.payload().len();
        let ragged = packet.more_fragments() && !packet.payload().len().is_multiple_of(8);
        if end > usize::from(u16::MAX) || too_long && ragged {
            return Err(FragmentError::Parse(ParseError::BadLength));
        }
        let later = later_header(&packet);
        Ok(Fragmenter { packet, mtu: usize::from(mtu), later, next: 0, done: false })
    }

    /// Writes the header of `fragment`, checksum included, into `out`; returns its length.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when `out` is shorter than [`Fragment::header_len`], [`ParseError::BadLength`] when the
    /// fragment is not one of this plan's.
    pub fn emit_header(&self, fragment: &Fragment, out: &mut [u8]) -> Result<usize, ParseError> {
        let source = if fragment.offset == 0 { self.packet.header() } else { self.later() };
        let inside =
            fragment.offset.checked_add(fragment.len).is_some_and(|end| end <= self.packet.payload().len());
        if !inside || fragment.header_len != source.len() {
            return Err(ParseError::BadLength);
        }
        let out = out.get_mut(..source.len()).ok_or(ParseError::Truncated)?;
        out.copy_from_slice(source);
        let mut header = Ipv4::new_quoted(out)?;
        header.set_total_len((source.len() + fragment.len) as u16);
        let offset = usize::from(self.packet.fragment_offset()) + fragment.offset;
        header.set_fragment(offset as u16, fragment.more, self.packet.dont_fragment());
        header.fill_checksum();
        Ok(source.len())
    }

    /// The data of `fragment`.
    pub fn data(&self, fragment: &Fragment) -> &[u8] {
        let end = fragment.offset.saturating_add(fragment.len);
        self.packet.payload().get(fragment.offset..end).unwrap_or(&[])
    }

    fn later(&self) -> &[u8] {
        &self.later.0[..self.later.1]
    }
}

impl Iterator for Fragmenter<'_> {
    type Item = Fragment;

    fn next(&mut self) -> Option<Fragment> {
        if self.done {
            return None;
        }
        let offset = self.next;
        let header_len = if offset == 0 { self.packet.header_len() } else { self.later.1 };
        let left = self.packet.payload().len() - offset;
        let room = self.mtu - header_len;
        let fits = left <= room;
        let len = if fits { left } else { room & !7 };
        self.next += len;
        self.done = fits;
        Some(Fragment { offset, len, more: !fits || self.packet.more_fragments(), header_len })
    }
}

impl FusedIterator for Fragmenter<'_> {}

/// The header of the pieces behind the first: the options whose copied flag is set (RFC 791 §3.1), padded with
/// end-of-list to 32 bits. A list that does not parse is kept up to its fault.
fn later_header(packet: &Ipv4<&[u8]>) -> ([u8; MAX_HEADER_LEN], usize) {
    const COPIED: u8 = 0x80;
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    let mut header = [END; MAX_HEADER_LEN];
    header[..MIN_HEADER_LEN].copy_from_slice(&packet.header()[..MIN_HEADER_LEN]);
    let mut len = MIN_HEADER_LEN;
    let mut rest = packet.options();
    while let [ty, ..] = *rest {
        let size = match rest {
            [END, ..] => break,
            [NO_OPERATION, ..] => 1,
            [_, size, ..] if (2..=rest.len()).contains(&usize::from(*size)) => usize::from(*size),
            _ => break,
        };
        if ty & COPIED != 0 {
            header[len..len + size].copy_from_slice(&rest[..size]);
            len += size;
        }
        rest = &rest[size..];
    }
    let len = len.next_multiple_of(4);
    header[0] = 0x40 | (len / 4) as u8;
    (header, len)
}

#[cfg(test)]
mod tests;
