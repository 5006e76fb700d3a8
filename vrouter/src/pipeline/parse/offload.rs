//! What a sender leaves to be done must fit the packet: it chooses both.
//!
//! ```text
//!   IPv4 | TCP | data                  of the packet itself
//!   IPv4 | IPv4 | TCP | data           of what a tunnel carries: so kernels join packets of a tunnel
//!          ^      ^ checksum           (`SKB_GSO_IPXIP4`), lengths and identifications of both headers
//!          `- innermost network        as of one long packet
//! ```
//!
//! | left | must be |
//! |---|---|
//! | a checksum | inside the innermost transport part, so that what has been checked stays as it is |
//! | segmentation | of what the innermost headers say: TCP or UDP, whole, its headers in the head frame, the checksum left too |
//!
//! Segmentation of data that fits one segment is none. One outer header is seen through, as kernels
//! join packets behind no more; where it is taken off, what is left to be done stays.

use encap::segment::MAX_SEGMENTS;
use encap::wire::ipv4::Ipv4;
use encap::wire::ipv6::{self, Ipv6};
use encap::wire::{protocol, tcp, udp};

use crate::burst::{Burst, Checksum, Gso, GsoKind};
use crate::drop_reason::DropReason;
use crate::frame::FrameArea;

/// Checks what is left to be done on an IPv4 packet, or else IPv6.
#[inline]
pub(super) fn check(burst: &mut Burst, lane: usize, v4: bool, area: &FrameArea) -> Result<(), DropReason> {
    if burst.offloaded() >> lane & 1 == 0 {
        return Ok(());
    }
    let outermost = Headers::of(burst, lane, v4);
    let nested = outermost.whole && matches!(outermost.protocol, protocol::IPIP | protocol::IPV6);
    let inner = if nested { outermost.inner(burst, lane, area) } else { Some(outermost) };
    checksum(burst, lane, inner.as_ref())?;
    match burst.gso(lane) {
        Gso { kind: GsoKind::None, .. } => Ok(()),
        gso => inner
            .and_then(|inner| segmentation(burst, lane, &inner, gso, area))
            .ok_or(DropReason::BadSegmentationOffload),
    }
}

/// The innermost headers.
struct Headers {
    v4: bool,
    /// Where the transport header is, 0 where there is none.
    l4: u16,
    protocol: u8,
    /// It is no fragment, and its transport header is there.
    whole: bool,
    /// Bytes from the transport header to the end.
    payload_len: u32,
}

impl Headers {
    fn of(burst: &Burst, lane: usize, v4: bool) -> Self {
        let meta = &burst.meta;
        let l4 = meta.l4[lane];
        Headers {
            v4,
            l4,
            protocol: meta.protocol[lane],
            whole: l4 != 0 && burst.fragments >> lane & 1 == 0,
            payload_len: meta.ip_len[lane].saturating_sub(u32::from(l4.saturating_sub(meta.l3[lane]))),
        }
    }

    /// The headers behind an outer one; `None` where they are not valid, or do not say the length that
    /// there is.
    fn inner(&self, burst: &Burst, lane: usize, area: &FrameArea) -> Option<Headers> {
        let end = burst.meta.offset[lane] + burst.meta.len[lane];
        let bytes = area.bytes(burst.frame(lane), self.l4, end.checked_sub(self.l4)?);
        let v4 = self.protocol == protocol::IPIP;
        let (protocol, header_len, whole, len) = if v4 {
            let ip = Ipv4::new_quoted(bytes).ok()?;
            (ip.protocol(), ip.header_len(), !ip.is_fragment(), u32::from(ip.total_len()))
        } else {
            let ip = Ipv6::new_quoted(bytes).ok()?;
            let upper = ip.upper().ok()?;
            let header_len = ipv6::HEADER_LEN + upper.offset;
            let len = ipv6::HEADER_LEN as u32 + u32::from(ip.payload_len());
            (upper.protocol, header_len, upper.fragment.is_none(), len)
        };
        (len == self.payload_len).then_some(())?;
        let payload_len = len.checked_sub(header_len as u32)?;
        Some(Headers { v4, l4: self.l4 + header_len as u16, protocol, whole, payload_len })
    }
}

fn checksum(burst: &Burst, lane: usize, inner: Option<&Headers>) -> Result<(), DropReason> {
    let Checksum::Partial { start, field } = burst.checksum(lane) else { return Ok(()) };
    let meta = &burst.meta;
    let end = u32::from(meta.offset[lane]) + u32::from(meta.len[lane]);
    let inside = u32::from(start) + u32::from(field) + 2 <= end;
    let behind = inner.is_some_and(|inner| inner.l4 != 0 && start >= inner.l4);
    if behind && inside { Ok(()) } else { Err(DropReason::BadChecksumOffload) }
}

fn segmentation(burst: &mut Burst, lane: usize, inner: &Headers, gso: Gso, area: &FrameArea) -> Option<()> {
    let (expected, field) = match gso.kind {
        GsoKind::Tcp4 if inner.v4 => (protocol::TCP, tcp::CHECKSUM_OFFSET),
        GsoKind::Tcp6 if !inner.v4 => (protocol::TCP, tcp::CHECKSUM_OFFSET),
        GsoKind::Udp => (protocol::UDP, udp::CHECKSUM_OFFSET),
        _ => return None,
    };
    let checksum = burst.checksum(lane);
    if !inner.whole
        || inner.protocol != expected
        || checksum != (Checksum::Partial { start: inner.l4, field: field as u16 })
    {
        return None;
    }
    let header_len = transport_header_len(burst, lane, gso, area)?;
    let meta = &burst.meta;
    if u32::from(inner.l4) + header_len > u32::from(meta.offset[lane]) + u32::from(meta.len[lane]) {
        return None;
    }
    let data_len = inner.payload_len.checked_sub(header_len)?;
    let size = u32::from(gso.size);
    if size == 0 || data_len.div_ceil(size) > MAX_SEGMENTS as u32 {
        return None;
    }
    if data_len <= size {
        burst.set_offload(lane, checksum, Gso::default());
    }
    Some(())
}

/// Bytes in front of a super-packet's data, from its outermost network header on.
#[inline]
pub(in crate::pipeline) fn headers_len(burst: &Burst, lane: usize, gso: Gso, area: &FrameArea) -> u32 {
    let transport = transport_header_len(burst, lane, gso, area).unwrap_or(0);
    transport_start(burst, lane).map_or(0, |start| u32::from(start - burst.meta.l3[lane])) + transport
}

/// Where the innermost transport header of a super-packet is: its checksum is left to be done.
#[inline]
fn transport_start(burst: &Burst, lane: usize) -> Option<u16> {
    match burst.checksum(lane) {
        Checksum::Partial { start, .. } => Some(start),
        _ => None,
    }
}

/// Bytes of the transport header of a super-packet.
#[inline]
fn transport_header_len(burst: &Burst, lane: usize, gso: Gso, area: &FrameArea) -> Option<u32> {
    if gso.kind == GsoKind::Udp {
        return Some(udp::HEADER_LEN as u32);
    }
    let start = transport_start(burst, lane)?;
    let header: &[u8; tcp::MIN_HEADER_LEN] = area.header(burst.frame(lane), start)?;
    Some(u32::from(header[12] >> 4) * 4).filter(|len| *len >= tcp::MIN_HEADER_LEN as u32)
}
