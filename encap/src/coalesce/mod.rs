//! Coalescing: the packets of a flow that follow each other within a burst, put together into super-packets.
//!
//! ```text
//!   headers | size |  headers | size |  headers | rest |      packets of one flow, among others
//!   headers'| size               | size              | rest | one super-packet
//! ```
//!
//! The packets may lie anywhere and stay there: the caller offers each in turn with its first bytes, is told which
//! group it belongs to, and gathers the data himself; [`Coalescer::finish`] then makes the first packet's headers
//! those of the super-packet. Nothing is allocated.
//!
//! A packet joins its flow's open group if cutting the super-packet up again ([`crate::segment`]) would give back the
//! very same packets:
//!
//! | | joins | ends the group behind it | ends the group before it |
//! |---|---|---|---|
//! | addresses, ports, protocol | equal | | |
//! | TOS, TTL, DF; class, label, hop limit | equal | | differs |
//! | IPv4 identification | counts up by one; or, under DF, stays | | else |
//! | TCP sequence number | the next | | else |
//! | TCP acknowledgment, window, options | equal | | differs |
//! | TCP flags | equal but for PSH, FIN | PSH, FIN | SYN, RST, URG, CWR; differs |
//! | data | at most as long as the first's | shorter | longer, or none |
//! | checksum | right, or still to be made | | wrong |
//!
//! What cannot be looked into (IP options, extension headers, fragments) ends every group: whose it is, is not known.
//! So no packet ever passes another one of its flow. The rules are those of Linux (`tcp_gro_receive`,
//! `udp_gro_receive_segment`, `inet_gro_receive`); only the checksum is looked at later, when there is company.

mod group;

use crate::coalesce::group::{Fit, Group};
use crate::flow_hash;
use crate::layers::{LayerError, Layers};
use crate::wire::{Ipv4, Ipv6, Tcp, Udp, checksum, ipv6, protocol, tcp};

/// Packets that may be offered between two calls of [`Coalescer::clear`].
pub const MAX_PACKETS: usize = 64;
/// Bytes of the largest super-packet, from its outermost network header on.
pub const MAX_LEN: usize = 65535;
/// Bytes of headers beyond which packets are left alone.
pub(crate) const MAX_HEADERS: usize = 140;

/// Stands in for the hash of a group that nothing joins any more.
const CLOSED: u32 = 0;

/// A packet on offer.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The packet's first bytes, from its outermost network header on, with all its headers.
    pub head: &'a [u8],
    /// Bytes of the packet.
    pub len: usize,
    /// Its transport checksum holds for certain, or is still to be made.
    pub trusted: bool,
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It stays as it is.
    Alone,
    /// It is the first of a group, of which there may be no other.
    Opens(u8),
    /// Its data, from this offset on, belongs behind that of the group so far.
    Joins(u8, u16),
}

/// A group that is a super-packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SuperPacket {
    /// Packets in it, at least 2.
    pub packets: u16,
    /// Bytes of data of every packet but the last.
    pub size: u16,
    /// Bytes of it, from its outermost network header on.
    pub len: usize,
    /// TCP; else UDP.
    pub is_tcp: bool,
    /// The innermost network header is IPv6.
    pub is_v6: bool,
    /// Offset of the transport header from the outermost network header.
    pub transport: u16,
    /// Bytes of all headers.
    pub header_len: u16,
    /// Offset of the checksum from the transport header.
    pub checksum_field: u16,
    /// All packets have the same IPv4 identification.
    pub fixed_id: bool,
    /// The first packet has CWR set.
    pub congestion_window_reduced: bool,
}

/// The groups of one burst.
#[derive(Debug)]
pub struct Coalescer {
    /// Hash of each group's flow, or [`CLOSED`].
    hashes: [u32; MAX_PACKETS],
    groups: [Group; MAX_PACKETS],
    len: usize,
    /// Packets in tunnels are coalesced too.
    nested: bool,
}

impl Coalescer {
    /// No groups. `nested`: packets inside of tunnels are coalesced too; else they stay alone.
    pub fn new(nested: bool) -> Self {
        Coalescer {
            hashes: [CLOSED; MAX_PACKETS],
            groups: [const { Group::EMPTY }; MAX_PACKETS],
            len: 0,
            nested,
        }
    }

    /// Begins a new burst.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Offers the next packet of the burst, the caller's number `slot`. `intact(slot, transport, pseudo)` sums up the
    /// packet of that number from its transport header on, and says whether that and `pseudo` make 0xffff.
    #[inline]
    pub fn offer(
        &mut self,
        slot: usize,
        packet: Offer<'_>,
        mut intact: impl FnMut(usize, usize, u64) -> bool,
    ) -> Verdict {
        let layers = match Layers::walk(packet.head) {
            Ok(layers) if self.nested || !layers.is_nested() => layers,
            Err(LayerError::Protocol(number)) if number != protocol::IPIP => return Verdict::Alone,
            _ => {
                self.end_groups();
                return Verdict::Alone;
            }
        };
        if usize::from(layers.header_len) > MAX_HEADERS || !is_plain(&packet, &layers) {
            self.end_groups();
            return Verdict::Alone;
        }
        let hash = flow(packet.head, &layers);
        let found = self.hashes[..self.len].iter().position(|other| *other == hash);
        if let Some(index) = found {
            let group = &mut self.groups[index];
            match group.fits(&packet, &layers) {
                // Two open groups never have the same hash: the later one of a flow must be the one that is found.
                Fit::OtherFlow => return Verdict::Alone,
                Fit::No => self.hashes[index] = CLOSED,
                fit => {
                    let transport = usize::from(layers.transport);
                    let pseudo = |head: &[u8], len: usize| layers.pseudo_sum(head, len - transport);
                    if !group.trusted {
                        group.trusted =
                            intact(group.slot, transport, pseudo(group.headers(), group.first_len));
                    }
                    if !group.trusted {
                        self.hashes[index] = CLOSED;
                    } else if packet.trusted || intact(slot, transport, pseudo(packet.head, packet.len)) {
                        group.join(&packet, &layers);
                        if fit == Fit::Last {
                            self.hashes[index] = CLOSED;
                        }
                        return Verdict::Joins(index as u8, layers.header_len);
                    } else {
                        self.hashes[index] = CLOSED;
                        return Verdict::Alone;
                    }
                }
            }
        }
        if self.len == MAX_PACKETS || !may_open(&packet, &layers) {
            return Verdict::Alone;
        }
        let index = self.len;
        self.groups[index].open(slot, &packet, &layers);
        self.hashes[index] = hash;
        self.len += 1;
        Verdict::Opens(index as u8)
    }

    /// Ends every group: for a packet that is not offered and must not be passed.
    #[inline]
    pub fn end_groups(&mut self) {
        self.hashes[..self.len].fill(CLOSED);
    }

    /// The super-packet that a group has become; `None` where its first packet is alone.
    #[inline]
    pub fn super_packet(&self, group: u8) -> Option<SuperPacket> {
        let group = self.groups[..self.len].get(usize::from(group))?;
        (group.packets > 1).then(|| group.super_packet())
    }

    /// Makes the headers at the start of `head`, those of the group's first packet, the super-packet's. The transport
    /// checksum becomes the folded sum of the pseudo-header, to be completed by whoever sends it on. What is no
    /// super-packet stays as it is.
    #[inline]
    pub fn finish(&self, group: u8, head: &mut [u8]) {
        let Some(group) = self.groups[..self.len].get(usize::from(group)) else { return };
        let header_len = usize::from(group.layers.header_len);
        if group.packets < 2 || head.len() < header_len {
            return;
        }
        let len = group.len();
        for at in group.layers.networks() {
            if head[at] >> 4 == 4 {
                let Ok(mut header) = Ipv4::new_quoted(&mut head[at..]) else { return };
                header.set_total_len((len - at) as u16);
                header.fill_checksum();
            } else if let Ok(mut header) = Ipv6::new_quoted(&mut head[at..]) {
                header.set_payload_len((len - at - ipv6::HEADER_LEN) as u16);
            }
        }
        let transport = usize::from(group.layers.transport);
        let pseudo = checksum::fold(group.layers.pseudo_sum(head, len - transport));
        if group.layers.protocol == protocol::TCP {
            let Ok(mut header) = Tcp::new_checked(&mut head[transport..]) else { return };
            header.set_flags(header.flags() | group.last_flags);
            header.set_checksum(pseudo);
        } else if let Ok(mut header) = Udp::new_quoted(&mut head[transport..]) {
            header.set_len((len - transport) as u16);
            header.set_checksum(pseudo);
        }
    }
}

impl Default for Coalescer {
    fn default() -> Self {
        Self::new(false)
    }
}

/// The lengths agree, IPv4 checksums hold, and no header has options (TCP's aside): what Linux coalesces.
#[inline]
fn is_plain(packet: &Offer<'_>, layers: &Layers) -> bool {
    let mut end = usize::from(layers.transport);
    for at in layers.networks().rev() {
        let plain = if packet.head[at] >> 4 == 4 {
            let header = Ipv4::new_quoted(&packet.head[at..]);
            header.is_ok_and(|header| {
                at + header.header_len() == end
                    && header.options().is_empty()
                    && at + usize::from(header.total_len()) == packet.len
                    && header.verify_checksum()
            })
        } else {
            let header = Ipv6::new_quoted(&packet.head[at..]);
            header.is_ok_and(|header| at + ipv6::HEADER_LEN == end && at + header.total_len() == packet.len)
        };
        if !plain {
            return false;
        }
        end = at;
    }
    let transport = usize::from(layers.transport);
    layers.protocol == protocol::TCP
        || Udp::new_quoted(&packet.head[transport..])
            .is_ok_and(|header| transport + usize::from(header.len()) == packet.len)
}

/// Whether a packet may be the first of several.
#[inline]
fn may_open(packet: &Offer<'_>, layers: &Layers) -> bool {
    let transport = &packet.head[usize::from(layers.transport)..];
    let single = if layers.protocol == protocol::TCP {
        const ENDS: u8 =
            tcp::flags::FIN | tcp::flags::SYN | tcp::flags::RST | tcp::flags::PSH | tcp::flags::URG;
        Tcp::new_checked(transport).is_ok_and(|header| header.flags() & ENDS != 0)
    } else {
        Udp::new_quoted(transport).is_ok_and(|header| header.checksum() == 0)
    };
    packet.len > usize::from(layers.header_len) && !single
}

/// A number of the flow that is not [`CLOSED`].
#[inline]
fn flow(head: &[u8], layers: &Layers) -> u32 {
    let transport = &head[usize::from(layers.transport)..];
    let port = |at: usize| u16::from_be_bytes([transport[at], transport[at + 1]]);
    let network = &head[layers.network()..];
    let hash = if network[0] >> 4 == 4 {
        Ipv4::new_quoted(network).map_or(0, |header| {
            flow_hash::symmetric_v4(header.src(), header.dst(), layers.protocol, port(0), port(2), 0)
        })
    } else {
        Ipv6::new_quoted(network).map_or(0, |header| {
            flow_hash::symmetric_v6(header.src(), header.dst(), layers.protocol, port(0), port(2), 0)
        })
    };
    // The hash is the same in both directions; the flow is not.
    (hash ^ u32::from(port(0)) << 1) | 1
}
