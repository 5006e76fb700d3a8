//! Packets of a batch that make super-packets, for ports that take them.
//!
//! ```text
//!   slot:     0       1       2       3       4
//!   flow:     A       B       A       A       C
//!   part:     lead    alone   member  member  alone
//!             |_______________|_______|  one super-packet in the place of slot 0
//! ```
//!
//! Nothing moves and nothing is copied: the port writes the lead, with its headers made
//! those of the super-packet, and the members' data behind it. A batch is what one burst
//! gave, so no packet waits for another.

use encap::coalesce::{Coalescer, MAX_PACKETS, Offer, Verdict};
use encap::wire::ethernet::{self, EtherType};
use encap::wire::{checksum, protocol};

use crate::burst::{Checksum, Gso, GsoKind, TxPacket};
use crate::checksum::sum_of;
use crate::frame::FrameArea;

/// Packets that are looked at together.
pub(crate) const WINDOW: usize = MAX_PACKETS;
/// No further member.
const END: u8 = u8::MAX;

/// What a packet is in its window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Alone,
    /// The first of a group; the group's number.
    Lead(u8),
    /// Its data, from here on behind the Ethernet header, belongs to an earlier packet's.
    Member(u16),
}

/// The parts of one window.
#[derive(Debug)]
pub(crate) struct Gathering {
    coalescer: Box<Coalescer>,
    parts: [Part; WINDOW],
    /// By slot: the next member of the same super-packet, or [`END`].
    next: [u8; WINDOW],
    /// By group: the slot of its last packet.
    last: [u8; WINDOW],
    /// Datagrams too.
    udp: bool,
}

impl Gathering {
    /// For a port that takes super-packets of TCP and, if `udp`, of UDP.
    pub(crate) fn new(udp: bool) -> Self {
        Gathering {
            coalescer: Box::new(Coalescer::new(false)),
            parts: [Part::Alone; WINDOW],
            next: [END; WINDOW],
            last: [END; WINDOW],
            udp,
        }
    }

    /// Looks at up to [`WINDOW`] packets. Leads get the headers and offloads of their super-packets.
    pub(crate) fn run(&mut self, area: &FrameArea, window: &mut [TxPacket]) {
        self.coalescer.clear();
        let count = window.len().min(WINDOW);
        self.parts[..count].fill(Part::Alone);
        self.next[..count].fill(END);
        let mut joined = false;
        for slot in 0..count {
            let packet = &window[slot];
            if packet.gso != Gso::default() {
                // It carries data of its flow that nothing may pass.
                self.coalescer.end_groups();
                continue;
            }
            let bytes = area.bytes(&packet.frame, packet.offset, packet.len);
            let Some(network) = candidate(bytes, self.udp) else { continue };
            let len = network.len() + area.chained_bytes(&packet.frame);
            let trusted = packet.checksum != Checksum::Complete;
            let intact = |slot: usize, transport: usize, pseudo: u64| {
                is_intact(area, &window[slot], transport, pseudo)
            };
            match self.coalescer.offer(slot, Offer { head: network, len, trusted }, intact) {
                Verdict::Alone => {}
                Verdict::Opens(group) => {
                    self.parts[slot] = Part::Lead(group);
                    self.last[usize::from(group)] = slot as u8;
                }
                Verdict::Joins(group, data) => {
                    self.parts[slot] = Part::Member(data);
                    let last = core::mem::replace(&mut self.last[usize::from(group)], slot as u8);
                    self.next[usize::from(last)] = slot as u8;
                    joined = true;
                }
            }
        }
        if joined {
            self.finish(area, &mut window[..count]);
        }
    }

    fn finish(&mut self, area: &FrameArea, window: &mut [TxPacket]) {
        for (packet, part) in window.iter_mut().zip(self.parts) {
            let Part::Lead(group) = part else { continue };
            let Some(found) = self.coalescer.super_packet(group) else { continue };
            let bytes = area.bytes_mut(&mut packet.frame, packet.offset, packet.len);
            let Some(network) = bytes.get_mut(ethernet::HEADER_LEN..) else { continue };
            self.coalescer.finish(group, network);
            let kind = match (found.is_tcp, found.is_v6) {
                (true, false) => GsoKind::Tcp4,
                (true, true) => GsoKind::Tcp6,
                (false, _) => GsoKind::Udp,
            };
            packet.gso = Gso { kind, size: found.size };
            packet.checksum = Checksum::Partial {
                start: packet.offset + ethernet::HEADER_LEN as u16 + found.transport,
                field: found.checksum_field,
            };
        }
    }

    /// Whether a packet goes out as part of an earlier one.
    #[inline]
    pub(crate) fn is_member(&self, slot: usize) -> bool {
        matches!(self.parts[slot], Part::Member(_))
    }

    /// The members behind a packet: slot, and where in it the data begins behind the Ethernet header.
    #[inline]
    pub(crate) fn members(&self, slot: usize) -> impl Iterator<Item = (usize, u16)> + '_ {
        let mut at = self.next[slot];
        core::iter::from_fn(move || {
            let slot = usize::from(at);
            let Part::Member(data) = *self.parts.get(slot)? else { return None };
            at = self.next[slot];
            Some((slot, data))
        })
    }
}

/// The part of a frame from its network header on, if it may be one of several.
#[inline]
fn candidate(bytes: &[u8], udp: bool) -> Option<&[u8]> {
    let (link, network) = bytes.split_first_chunk::<{ ethernet::HEADER_LEN }>()?;
    let transport = match EtherType(u16::from_be_bytes([link[12], link[13]])) {
        EtherType::IPV4 => *network.get(9)?,
        EtherType::IPV6 => *network.get(6)?,
        _ => return None,
    };
    (udp || transport != protocol::UDP).then_some(network)
}

/// Whether a packet's transport checksum holds.
fn is_intact(area: &FrameArea, packet: &TxPacket, transport: usize, pseudo: u64) -> bool {
    let skip = ethernet::HEADER_LEN as u16 + transport as u16;
    let Some(len) = packet.len.checked_sub(skip) else { return false };
    checksum::fold(pseudo + sum_of(area.pieces(&packet.frame, packet.offset + skip, len))) == 0xffff
}
