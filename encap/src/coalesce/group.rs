//! One group: its first packet's headers, and what the next packet must be like.

use super::{MAX_HEADERS, MAX_LEN, Offer, SuperPacket};
use crate::layers::Layers;
use crate::wire::{Tcp, ipv6, protocol, tcp, udp};

/// Datagrams of one group (Linux: `UDP_GRO_CNT_MAX`).
const MAX_DATAGRAMS: u16 = 64;
/// Flags that the last packet may have and the others not.
const AT_END: u8 = tcp::flags::PSH | tcp::flags::FIN;
/// Flags of packets that join nothing.
const NEVER: u8 = tcp::flags::SYN | tcp::flags::RST | tcp::flags::URG | tcp::flags::CWR;

/// How a packet fits the group of its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fit {
    /// It only has the same hash.
    OtherFlow,
    /// Not at all: the group ends before it.
    No,
    /// It joins.
    Joins,
    /// It joins, and the group ends behind it.
    Last,
}

/// How the identifications of a group go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ids {
    /// One packet has shown none of it.
    Open,
    /// Each is one more.
    Counting,
    /// All are equal.
    Fixed,
}

#[derive(Debug)]
pub(super) struct Group {
    headers: [u8; MAX_HEADERS],
    pub(super) layers: Layers,
    /// The caller's number of the first packet.
    pub(super) slot: usize,
    /// The first packet's checksum is known to hold.
    pub(super) trusted: bool,
    /// Bytes of the first packet.
    pub(super) first_len: usize,
    pub(super) packets: u16,
    data_len: usize,
    /// What the last packet's flags add.
    pub(super) last_flags: u8,
    ids: Ids,
}

impl Group {
    pub(super) const EMPTY: Group = Group {
        headers: [0; MAX_HEADERS],
        layers: Layers::NONE,
        slot: 0,
        trusted: false,
        first_len: 0,
        packets: 0,
        data_len: 0,
        last_flags: 0,
        ids: Ids::Open,
    };

    #[inline]
    pub(super) fn open(&mut self, slot: usize, packet: &Offer<'_>, layers: &Layers) {
        let header_len = usize::from(layers.header_len);
        self.headers[..header_len].copy_from_slice(&packet.head[..header_len]);
        self.layers = *layers;
        self.slot = slot;
        self.trusted = packet.trusted;
        self.first_len = packet.len;
        self.packets = 1;
        self.data_len = packet.len - header_len;
        self.last_flags = 0;
        self.ids = Ids::Open;
    }

    #[inline]
    pub(super) fn headers(&self) -> &[u8] {
        &self.headers[..usize::from(self.layers.header_len)]
    }

    /// Bytes of the super-packet.
    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.layers.header_len) + self.data_len
    }

    /// Bytes of data in the first packet.
    #[inline]
    fn size(&self) -> usize {
        self.first_len - usize::from(self.layers.header_len)
    }

    #[inline]
    pub(super) fn fits(&self, packet: &Offer<'_>, layers: &Layers) -> Fit {
        let (first, next) = (self.headers(), packet.head);
        if *layers != self.layers {
            // Also where options differ in length: the flow may still be the same, so the group ends.
            return Fit::No;
        }
        if !self.same_flow(next) {
            return Fit::OtherFlow;
        }
        let data_len = packet.len - usize::from(layers.header_len);
        let same_path = layers.networks().all(|at| same_network(&first[at..], &next[at..]));
        if !same_path
            || data_len == 0
            || data_len > self.size()
            || self.len() + data_len > MAX_LEN
            || self.ids(next).is_none()
        {
            return Fit::No;
        }
        let transport = usize::from(layers.transport);
        let (first, next) = (&first[transport..], &next[transport..usize::from(layers.header_len)]);
        let ends = if layers.protocol == protocol::TCP {
            match self.next_tcp(first, next) {
                Some(flags) => flags & AT_END != 0,
                None => return Fit::No,
            }
        } else {
            // A datagram without a checksum stays so.
            if next[udp::CHECKSUM_OFFSET..] == [0, 0] || self.packets == MAX_DATAGRAMS {
                return Fit::No;
            }
            false
        };
        if ends || data_len < self.size() { Fit::Last } else { Fit::Joins }
    }

    #[inline]
    fn same_flow(&self, next: &[u8]) -> bool {
        let (at, first) = (self.layers.network(), &self.headers);
        let addresses = if first[at] >> 4 == 4 { at + 12..at + 20 } else { at + 8..at + 40 };
        let transport = usize::from(self.layers.transport);
        let ports = transport..transport + 4;
        first[at] >> 4 == next[at] >> 4
            && first[addresses.clone()] == next[addresses]
            && first[ports.clone()] == next[ports]
    }

    /// The flags of a segment that follows the group's; `None` if it does not.
    #[inline]
    fn next_tcp(&self, first: &[u8], next: &[u8]) -> Option<u8> {
        let (header, other) = (Tcp::new_checked(first).ok()?, Tcp::new_checked(next).ok()?);
        let flags = other.flags();
        // CWR may be on the first only, which is where segmentation puts it.
        let compared = !(AT_END | tcp::flags::CWR);
        let same = header.flags() & compared == flags & compared
            && first[8..13] == next[8..13] // acknowledgment, data offset, reserved bits
            && first[14..16] == next[14..16] // window
            && first[18..] == next[18..]; // urgent pointer, options
        let in_order = other.seq() == header.seq().wrapping_add(self.data_len as u32);
        (same && in_order && flags & NEVER == 0).then_some(flags)
    }

    /// How identifications go on with one more packet; `None` if they do not. All IPv4 headers must agree: outer ones
    /// count, innermost ones may stay.
    #[inline]
    fn ids(&self, next: &[u8]) -> Option<Ids> {
        let mut ids = self.ids;
        for at in self.layers.networks() {
            if next[at] >> 4 != 4 {
                continue;
            }
            let id = |bytes: &[u8]| u16::from_be_bytes([bytes[at + 4], bytes[at + 5]]);
            let counts = id(next) == id(&self.headers).wrapping_add(self.packets);
            if at != self.layers.network() {
                if !counts {
                    return None;
                }
                continue;
            }
            let stays = id(next) == id(&self.headers) && next[at + 6] & 0x40 != 0;
            ids = match self.ids {
                Ids::Open | Ids::Counting if counts => Ids::Counting,
                Ids::Open | Ids::Fixed if stays => Ids::Fixed,
                _ => return None,
            };
        }
        Some(ids)
    }

    /// Takes a packet in that [`fits`](Self::fits).
    #[inline]
    pub(super) fn join(&mut self, packet: &Offer<'_>, layers: &Layers) {
        self.ids = self.ids(packet.head).unwrap_or(self.ids);
        self.packets += 1;
        self.data_len += packet.len - usize::from(layers.header_len);
        if layers.protocol == protocol::TCP {
            let header = Tcp::new_checked(&packet.head[usize::from(layers.transport)..]);
            self.last_flags |= header.map_or(0, |header| header.flags() & AT_END);
        }
    }

    #[inline]
    pub(super) fn super_packet(&self) -> SuperPacket {
        let headers = self.headers();
        let transport = usize::from(self.layers.transport);
        let is_tcp = self.layers.protocol == protocol::TCP;
        let flags = if is_tcp { Tcp::new_checked(&headers[transport..]).map_or(0, |h| h.flags()) } else { 0 };
        SuperPacket {
            packets: self.packets,
            size: self.size() as u16,
            len: self.len(),
            is_tcp,
            is_v6: headers[self.layers.network()] >> 4 == 6,
            transport: self.layers.transport,
            header_len: self.layers.header_len,
            checksum_field: self.layers.checksum_field() as u16,
            fixed_id: self.ids == Ids::Fixed,
            congestion_window_reduced: flags & tcp::flags::CWR != 0,
        }
    }
}

/// Whether two network headers without options differ in nothing but length, identification and checksum; addresses of
/// the innermost have been compared before.
#[inline]
fn same_network(first: &[u8], next: &[u8]) -> bool {
    if first[0] != next[0] {
        return false;
    }
    if first[0] >> 4 == 4 {
        // Version, IHL, TOS; flags and offset; TTL, protocol; addresses.
        first[1] == next[1] && first[6..10] == next[6..10] && first[12..20] == next[12..20]
    } else {
        first[..4] == next[..4] && first[6..ipv6::HEADER_LEN] == next[6..ipv6::HEADER_LEN]
    }
}
