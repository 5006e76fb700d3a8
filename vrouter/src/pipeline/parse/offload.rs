//! What a sender leaves to be done must fit the packet: it chooses both.
//!
//! | left | must be |
//! |---|---|
//! | a checksum | inside the transport part, so that what has been checked stays as it is |
//! | segmentation | of what the headers say: TCP or UDP, whole, its headers in the head frame, the checksum left too |
//!
//! Segmentation of data that fits one segment is none.

use encap::segment::MAX_SEGMENTS;
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
    checksum(burst, lane)?;
    match burst.gso(lane) {
        Gso { kind: GsoKind::None, .. } => Ok(()),
        gso => segmentation(burst, lane, v4, gso, area).ok_or(DropReason::BadSegmentationOffload),
    }
}

fn checksum(burst: &Burst, lane: usize) -> Result<(), DropReason> {
    let Checksum::Partial { start, field } = burst.checksum(lane) else { return Ok(()) };
    let meta = &burst.meta;
    let end = u32::from(meta.offset[lane]) + u32::from(meta.len[lane]);
    let inside = u32::from(start) + u32::from(field) + 2 <= end;
    if meta.l4[lane] == 0 || start < meta.l4[lane] || !inside {
        return Err(DropReason::BadChecksumOffload);
    }
    Ok(())
}

fn segmentation(burst: &mut Burst, lane: usize, v4: bool, gso: Gso, area: &FrameArea) -> Option<()> {
    let l4 = burst.meta.l4[lane];
    let (expected, field) = match gso.kind {
        GsoKind::Tcp4 if v4 => (protocol::TCP, tcp::CHECKSUM_OFFSET),
        GsoKind::Tcp6 if !v4 => (protocol::TCP, tcp::CHECKSUM_OFFSET),
        GsoKind::Udp => (protocol::UDP, udp::CHECKSUM_OFFSET),
        _ => return None,
    };
    let checksum = burst.checksum(lane);
    let whole = l4 != 0 && burst.fragments >> lane & 1 == 0;
    if !whole
        || burst.meta.protocol[lane] != expected
        || checksum != (Checksum::Partial { start: l4, field: field as u16 })
    {
        return None;
    }
    let header_len = transport_header_len(burst, lane, gso, area)?;
    let meta = &burst.meta;
    if u32::from(l4) + header_len > u32::from(meta.offset[lane]) + u32::from(meta.len[lane]) {
        return None;
    }
    let data_len = meta.ip_len[lane].checked_sub(u32::from(l4 - meta.l3[lane]) + header_len)?;
    let size = u32::from(gso.size);
    if size == 0 || data_len.div_ceil(size) > MAX_SEGMENTS as u32 {
        return None;
    }
    if data_len <= size {
        burst.set_offload(lane, checksum, Gso::default());
    }
    Some(())
}

/// Bytes of the transport header of a super-packet.
#[inline]
pub(in crate::pipeline) fn transport_header_len(
    burst: &Burst,
    lane: usize,
    gso: Gso,
    area: &FrameArea,
) -> Option<u32> {
    if gso.kind == GsoKind::Udp {
        return Some(udp::HEADER_LEN as u32);
    }
    let header: &[u8; tcp::MIN_HEADER_LEN] = area.header(burst.frame(lane), burst.meta.l4[lane])?;
    Some(u32::from(header[12] >> 4) * 4).filter(|len| *len >= tcp::MIN_HEADER_LEN as u32)
}
