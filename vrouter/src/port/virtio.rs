//! Checksums and segmentation still to be done, as the kernel's virtio-net header tells of them.
//!
//! | ours | in the header |
//! |---|---|
//! | a partial checksum | `NEEDS_CHECKSUM`, where its sum starts, where it goes from there |
//! | a super-packet | its kind, the bytes of a segment, the bytes of all headers; `ECN` where CWR is set |
//! | a super-packet in a tunnel | cannot be said |

use encap::wire::{ethernet, protocol};

use crate::burst::{Checksum, Gso, GsoKind, TxPacket};
use crate::frame::{FrameArea, HEADROOM};
use crate::sys::tun::VirtioHeader;

/// Whether a packet is one that the header has no words for, were it a super-packet.
#[inline]
pub(crate) fn is_tunnelled(packet: &TxPacket, area: &FrameArea) -> bool {
    let network = area.bytes(&packet.frame, packet.offset, packet.len).get(ethernet::HEADER_LEN..);
    network
        .is_none_or(|ip| ip.len() < 20 || ip[0] >> 4 == 4 && matches!(ip[9], protocol::IPIP | protocol::IPV6))
}

/// What a header leaves to us.
#[inline]
pub(crate) fn offload(header: &VirtioHeader) -> (Checksum, Gso) {
    let checksum = if header.flags & VirtioHeader::NEEDS_CHECKSUM != 0 {
        Checksum::Partial {
            start: (HEADROOM as u16).saturating_add(header.csum_start),
            field: header.csum_offset,
        }
    } else {
        Checksum::Complete
    };
    let kind = match header.gso_type & !VirtioHeader::GSO_ECN {
        VirtioHeader::GSO_TCPV4 => GsoKind::Tcp4,
        VirtioHeader::GSO_TCPV6 => GsoKind::Tcp6,
        VirtioHeader::GSO_UDP_L4 => GsoKind::Udp,
        _ => return (checksum, Gso::default()),
    };
    (checksum, Gso { kind, size: header.gso_size })
}

/// What we leave to the kernel.
#[inline]
pub(crate) fn header_of(packet: &TxPacket, area: &FrameArea) -> VirtioHeader {
    let Checksum::Partial { start, field } = packet.checksum else { return VirtioHeader::default() };
    let csum_start = start - packet.offset;
    let header = VirtioHeader {
        flags: VirtioHeader::NEEDS_CHECKSUM,
        csum_start,
        csum_offset: field,
        ..VirtioHeader::default()
    };
    let tcp = match packet.gso.kind {
        GsoKind::None => return header,
        GsoKind::Udp => {
            let hdr_len = csum_start + encap::wire::udp::HEADER_LEN as u16;
            return VirtioHeader {
                gso_type: VirtioHeader::GSO_UDP_L4,
                hdr_len,
                gso_size: packet.gso.size,
                ..header
            };
        }
        GsoKind::Tcp4 => VirtioHeader::GSO_TCPV4,
        GsoKind::Tcp6 => VirtioHeader::GSO_TCPV6,
    };
    let bytes = area.header::<14>(&packet.frame, start).copied().unwrap_or_default();
    let ecn = if bytes[13] & encap::wire::tcp::flags::CWR != 0 { VirtioHeader::GSO_ECN } else { 0 };
    VirtioHeader {
        gso_type: tcp | ecn,
        hdr_len: csum_start + u16::from(bytes[12] >> 4) * 4,
        gso_size: packet.gso.size,
        ..header
    }
}
