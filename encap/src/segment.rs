//! Segmentation: one super-packet into the packets that a wire takes.
//!
//! ```text
//!   headers | data ......................................    a super-packet, of up to 64 KiB
//!   headers'| size |  headers'| size |  headers'| rest |     its segments
//! ```
//!
//! | field | of segment *i* |
//! |---|---|
//! | lengths (IPv4, IPv6, UDP) | the segment's own |
//! | IPv4 identification | the super-packet's + *i*, in every header: Linux counts the outer ones too |
//! | TCP sequence number | + *i* × size |
//! | TCP CWR | on the first only (RFC 3168 §6.1.2) |
//! | TCP PSH, FIN | on the last only |
//! | checksums | complete |
//! | all else, options included | as it is |
//!
//! The data may be anywhere: the caller puts a segment's data behind a gap of [`Segmenter::header_len`] bytes, and
//! [`Segmenter::finish`] fills the gap. So nothing is allocated, and a chain of frames needs no gathering.
//!
//! Sources: RFC 9293, RFC 768; what is said nowhere (identifications, flags) is as in Linux, `tcp_gso_segment`,
//! `__udp_gso_segment` and `inet_gso_segment`.
//!
//! Invariant: the segments' data, put together, is the super-packet's.

use core::fmt;
use core::iter::FusedIterator;

use crate::ParseError;
use crate::layers::{LayerError, Layers};
use crate::wire::{Ipv4, Ipv6, Tcp, Udp, checksum, protocol, tcp};

/// Segments that one super-packet may have: 64 KiB at the least segment that Linux lets a TCP peer ask for
/// (`tcp_min_snd_mss`, with timestamps).
pub const MAX_SEGMENTS: usize = 2048;

/// Why a packet cannot be segmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentError {
    /// A header is not valid, or does not lie whole in the head.
    Parse(ParseError),
    /// The packet is a fragment already.
    Fragment,
    /// This protocol has no segments: only TCP and UDP have.
    Protocol(u8),
    /// Segments of no bytes.
    NoSize,
    /// More than [`MAX_SEGMENTS`].
    TooMany,
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SegmentError::Parse(reason) => reason.fmt(f),
            SegmentError::Fragment => f.write_str("a fragment cannot be segmented"),
            SegmentError::Protocol(number) => write!(f, "protocol {number} has no segments"),
            SegmentError::NoSize => f.write_str("segments of no bytes"),
            SegmentError::TooMany => write!(f, "more than {MAX_SEGMENTS} segments"),
        }
    }
}

impl core::error::Error for SegmentError {}

impl From<ParseError> for SegmentError {
    fn from(reason: ParseError) -> Self {
        SegmentError::Parse(reason)
    }
}

impl From<LayerError> for SegmentError {
    fn from(error: LayerError) -> Self {
        match error {
            LayerError::Parse(reason) => SegmentError::Parse(reason),
            LayerError::Fragment => SegmentError::Fragment,
            LayerError::Protocol(number) => SegmentError::Protocol(number),
        }
    }
}

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Which one it is, from 0.
    pub index: u16,
    /// Where its data starts in the super-packet's data, in bytes.
    pub offset: usize,
    /// Bytes of data.
    pub len: usize,
    /// There is none behind it.
    pub last: bool,
}

/// How the segments of one super-packet are made.
#[derive(Clone, Copy, Debug)]
pub struct Segmenter<'a> {
    headers: &'a [u8],
    layers: Layers,
    data_len: usize,
    size: usize,
    fixed_id: bool,
}

impl<'a> Segmenter<'a> {
    /// Plans the segments of a packet of `len` bytes, from its outermost network header on, with `size` bytes of data
    /// each. `head` is the packet's first bytes, with all its headers. A packet that fits gives one segment, itself.
    ///
    /// # Errors
    /// See [`SegmentError`].
    #[inline]
    pub fn new(head: &'a [u8], len: usize, size: u16) -> Result<Segmenter<'a>, SegmentError> {
        let layers = Layers::walk(head)?;
        let header_len = usize::from(layers.header_len);
        let data_len = len.checked_sub(header_len).ok_or(ParseError::Truncated)?;
        if size == 0 {
            return Err(SegmentError::NoSize);
        }
        if data_len.div_ceil(usize::from(size)) > MAX_SEGMENTS {
            return Err(SegmentError::TooMany);
        }
        // Every segment has the length fields of its own: a whole header and one size of data must fit them.
        if header_len + usize::from(size).min(data_len) > usize::from(u16::MAX) {
            return Err(ParseError::BadLength.into());
        }
        let headers = &head[..header_len];
        Ok(Segmenter { headers, layers, data_len, size: usize::from(size), fixed_id: false })
    }

    /// Every segment gets the super-packet's own innermost identification: for a sender whose packets, which may not
    /// be fragmented, all have the same (RFC 6864 §4.1).
    #[must_use]
    pub fn with_fixed_id(mut self) -> Self {
        self.fixed_id = true;
        self
    }

    /// Bytes of headers in front of each segment's data.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.headers.len()
    }

    /// Bytes of data in all.
    #[inline]
    pub fn data_len(&self) -> usize {
        self.data_len
    }

    /// How many segments there are, at least 1.
    #[inline]
    pub fn count(&self) -> usize {
        self.data_len.div_ceil(self.size).max(1)
    }

    /// The largest segment's bytes, from its outermost network header on: what an MTU is compared with.
    #[inline]
    pub fn segment_len(&self) -> usize {
        self.headers.len() + self.size.min(self.data_len)
    }

    /// The segments, in order.
    #[inline]
    pub fn segments(&self) -> Segments {
        Segments { data_len: self.data_len, size: self.size, next: 0, index: 0, done: false }
    }

    /// Makes a segment of `out`, which holds its data behind a gap of [`Self::header_len`] bytes: writes the headers
    /// and their checksums.
    ///
    /// # Errors
    /// [`ParseError::BadLength`] when `out` is not headers and data, or the segment is not one of these.
    #[inline]
    pub fn finish(&self, segment: &Segment, out: &mut [u8]) -> Result<(), ParseError> {
        let (headers, data) = out.split_at_mut_checked(self.header_len()).ok_or(ParseError::BadLength)?;
        if data.len() != segment.len {
            return Err(ParseError::BadLength);
        }
        self.finish_headers(segment, headers, checksum::sum(data))
    }

    /// As [`Self::finish`], where the data lies elsewhere: `out` is the headers alone, `data_sum` the partial sum of
    /// the data ([`checksum::sum`]).
    ///
    /// # Errors
    /// As [`Self::finish`].
    #[inline]
    pub fn finish_headers(&self, segment: &Segment, out: &mut [u8], data_sum: u64) -> Result<(), ParseError> {
        let inside = segment.offset.checked_add(segment.len).is_some_and(|end| end <= self.data_len);
        if !inside || out.len() != self.header_len() {
            return Err(ParseError::BadLength);
        }
        out.copy_from_slice(self.headers);
        let total = out.len() + segment.len;
        for at in self.layers.networks() {
            self.network(at, segment, &mut out[at..], total - at)?;
        }
        let transport = usize::from(self.layers.transport);
        if self.layers.protocol == protocol::TCP {
            let mut header = Tcp::new_checked(&mut out[transport..])?;
            header.set_seq(header.seq().wrapping_add(segment.offset as u32));
            let first = if segment.index == 0 { 0 } else { tcp::flags::CWR };
            let last = if segment.last { 0 } else { tcp::flags::PSH | tcp::flags::FIN };
            header.set_flags(header.flags() & !(first | last));
        } else {
            Udp::new_quoted(&mut out[transport..])?.set_len((total - transport) as u16);
        }
        self.transport_checksum(out, transport, total - transport, data_sum);
        Ok(())
    }

    #[inline]
    fn network(&self, at: usize, segment: &Segment, out: &mut [u8], len: usize) -> Result<(), ParseError> {
        let len16 = |len: usize| u16::try_from(len).map_err(|_| ParseError::BadLength);
        if out[0] >> 4 == 4 {
            let mut header = Ipv4::new_quoted(out)?;
            header.set_total_len(len16(len)?);
            if !(self.fixed_id && at == self.layers.network()) {
                header.set_id(header.id().wrapping_add(segment.index));
            }
            header.fill_checksum();
        } else {
            Ipv6::new_quoted(out)?.set_payload_len(len16(len - crate::wire::ipv6::HEADER_LEN)?);
        }
        Ok(())
    }

    #[inline]
    fn transport_checksum(&self, out: &mut [u8], transport: usize, len: usize, data_sum: u64) {
        let pseudo = self.layers.pseudo_sum(out, len);
        let (field, header) = (self.layers.checksum_field(), &mut out[transport..]);
        header[field..field + 2].fill(0);
        // The header's length is even, so that the data's sum just adds up (RFC 1071 §2).
        let value = match !checksum::fold(pseudo + checksum::sum(header) + data_sum) {
            // In UDP 0 says "no checksum" (RFC 768).
            0 if self.layers.protocol == protocol::UDP => 0xffff,
            value => value,
        };
        header[field..field + 2].copy_from_slice(&value.to_be_bytes());
    }
}

/// Iterator of [`Segmenter::segments`].
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    data_len: usize,
    size: usize,
    next: usize,
    index: u16,
    done: bool,
}

impl Iterator for Segments {
    type Item = Segment;

    #[inline]
    fn next(&mut self) -> Option<Segment> {
        if self.done {
            return None;
        }
        let offset = self.next;
        let len = self.size.min(self.data_len - offset);
        let index = self.index;
        self.next += len;
        self.index += 1;
        self.done = self.next == self.data_len;
        Some(Segment { index, offset, len, last: self.done })
    }
}

impl FusedIterator for Segments {}
