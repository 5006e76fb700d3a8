//! What a burst of packets says about itself: one array per field, one bit per lane.

use super::hash::{Key, SOURCE_IS_LOWER};
use super::{icmp, protocol};

/// Lanes of a burst.
pub const LANES: usize = 64;

/// The endpoints of a packet, where they are asked about one at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    /// Source and destination.
    pub addresses: Addresses,
    /// Source port; the identifier of an ICMP echo; 0 where the protocol has none.
    pub src_port: u16,
    /// Destination port; the identifier of an ICMP echo; 0 where the protocol has none.
    pub dst_port: u16,
    /// Protocol number, after extension headers.
    pub protocol: u8,
    /// The type, where the protocol is ICMP: a question and its answer are one flow. Not read otherwise.
    pub icmp_type: u8,
    /// The zone: flows of different zones (VRFs) never meet.
    pub zone: u16,
}

/// Source and destination address of one family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Addresses {
    /// IPv4 source and destination.
    V4(core::net::Ipv4Addr, core::net::Ipv4Addr),
    /// IPv6 source and destination.
    V6(core::net::Ipv6Addr, core::net::Ipv6Addr),
}

impl Tuple {
    /// The tuple of an answer: for ICMP, its type is the answer's (or the question's, of an answer).
    pub fn reversed(self) -> Self {
        Tuple {
            icmp_type: icmp::counterpart(self.protocol, self.icmp_type).unwrap_or(self.icmp_type),
            addresses: match self.addresses {
                Addresses::V4(src, dst) => Addresses::V4(dst, src),
                Addresses::V6(src, dst) => Addresses::V6(dst, src),
            },
            src_port: self.dst_port,
            dst_port: self.src_port,
            ..self
        }
    }

    pub(super) fn key(&self) -> Key {
        let Tuple { src_port, dst_port, zone, protocol, .. } = *self;
        let key = match self.addresses {
            Addresses::V4(src, dst) => {
                Key::v4(src.to_bits(), dst.to_bits(), src_port, dst_port, zone, protocol)
            }
            Addresses::V6(src, dst) => {
                Key::v6(src.to_bits(), dst.to_bits(), src_port, dst_port, zone, protocol)
            }
        };
        if icmp::is(protocol) { key.of_icmp(icmp::answers(protocol, self.icmp_type)) } else { key }
    }

    /// The tuple of the opener's packets.
    pub(super) fn from_key(key: &Key) -> Self {
        let opener_is_lower = key.rest & SOURCE_IS_LOWER != 0;
        let (low, high) = ((key.rest >> 48) as u16, (key.rest >> 32) as u16);
        let [a, b, c, d] = key.addresses;
        let addresses = if key.is_v6() {
            let address = |upper: u64, lower: u64| (u128::from(upper) << 64 | u128::from(lower)).into();
            Addresses::V6(address(a, b), address(c, d))
        } else {
            Addresses::V4(((a >> 32) as u32).into(), (a as u32).into())
        };
        let lower = Tuple {
            addresses,
            src_port: low,
            dst_port: high,
            protocol: key.protocol(),
            icmp_type: icmp::echo(key.protocol()),
            zone: (key.rest >> 16) as u16,
        };
        let opener = if opener_is_lower { lower } else { lower.reversed() };
        Tuple { icmp_type: lower.icmp_type, ..opener }
    }
}

/// What state tracking reads of a TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpSegment {
    /// The flags byte of the header.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// The window field, not scaled.
    pub window: u16,
    /// Bytes of data. A super-packet has the data of all its segments.
    pub payload: u32,
    /// The shift count of the window scale option (RFC 7323), in a SYN that has one.
    pub scale: Option<u8>,
}

/// The value of [`Headers::tcp_scale`] without the option.
pub const NO_SCALE: u8 = u8::MAX;

/// Up to 64 packets. Fields of lanes outside the mask that a call is given are not read. Set IPv4 addresses in `src4`
/// and `dst4`, IPv6 ones in `src6` and `dst6` with the lane's bit in `v6`.
// Rows of lanes in whole cache lines, for the vector kernel.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Headers {
    /// IPv6 source, as a number.
    pub src6: [u128; LANES],
    /// IPv6 destination, as a number.
    pub dst6: [u128; LANES],
    /// IPv4 source, as a number.
    pub src4: [u32; LANES],
    /// IPv4 destination, as a number.
    pub dst4: [u32; LANES],
    /// TCP sequence number; SCTP verification tag; ICMP code.
    pub seq: [u32; LANES],
    /// TCP acknowledgment number; the initiate tag of an SCTP INIT or INIT-ACK.
    pub ack: [u32; LANES],
    /// Bytes of TCP data.
    pub payload: [u32; LANES],
    /// Bytes of the IP packet, for the flow's counters.
    pub len: [u32; LANES],
    /// Source port; the identifier of an ICMP echo.
    pub src_port: [u16; LANES],
    /// Destination port; the identifier of an ICMP echo.
    pub dst_port: [u16; LANES],
    /// The zone (VRF).
    pub zone: [u16; LANES],
    /// TCP window field.
    pub window: [u16; LANES],
    /// Protocol number.
    pub protocol: [u8; LANES],
    /// TCP flags; ICMP type; type of the first SCTP chunk.
    pub kind: [u8; LANES],
    /// Shift count of the TCP window scale option, or [`NO_SCALE`].
    pub tcp_scale: [u8; LANES],
    /// Lanes with IPv6.
    pub v6: u64,
    /// Lanes with an ICMP error, whose fields are those of the packet that it quotes.
    pub quoted: u64,
}

impl Default for Headers {
    fn default() -> Self {
        Headers {
            v6: 0,
            quoted: 0,
            src4: [0; LANES],
            dst4: [0; LANES],
            src6: [0; LANES],
            dst6: [0; LANES],
            src_port: [0; LANES],
            dst_port: [0; LANES],
            zone: [0; LANES],
            protocol: [0; LANES],
            kind: [0; LANES],
            seq: [0; LANES],
            ack: [0; LANES],
            window: [0; LANES],
            payload: [0; LANES],
            tcp_scale: [NO_SCALE; LANES],
            len: [0; LANES],
        }
    }
}

impl Headers {
    /// Sets addresses, ports, protocol and zone of a lane; its length and state fields to nothing.
    pub fn set(&mut self, lane: usize, tuple: &Tuple) {
        let bit = 1 << lane;
        self.quoted &= !bit;
        match tuple.addresses {
            Addresses::V4(src, dst) => {
                self.v6 &= !bit;
                (self.src4[lane], self.dst4[lane]) = (src.to_bits(), dst.to_bits());
            }
            Addresses::V6(src, dst) => {
                self.v6 |= bit;
                (self.src6[lane], self.dst6[lane]) = (src.to_bits(), dst.to_bits());
            }
        }
        (self.src_port[lane], self.dst_port[lane]) = (tuple.src_port, tuple.dst_port);
        self.protocol[lane] = tuple.protocol;
        self.zone[lane] = tuple.zone;
        self.len[lane] = 0;
        self.set_tcp(lane, &TcpSegment { flags: tuple.icmp_type, ..TcpSegment::default() });
    }

    /// Sets the state fields of a TCP lane.
    #[inline]
    pub fn set_tcp(&mut self, lane: usize, segment: &TcpSegment) {
        self.kind[lane] = segment.flags;
        self.seq[lane] = segment.seq;
        self.ack[lane] = segment.ack;
        self.window[lane] = segment.window;
        self.payload[lane] = segment.payload;
        self.tcp_scale[lane] = segment.scale.unwrap_or(NO_SCALE);
    }

    /// Sets a lane to the packet that an ICMP error quotes. Returns whether the error travels to the one who sent that
    /// packet; where it does not (RFC 1122 3.2.2, RFC 4443 2.4 (d)), drop it and leave the lane out of the mask.
    #[must_use]
    pub fn set_quoted(&mut self, lane: usize, error_destination: core::net::IpAddr, quoted: &Tuple) -> bool {
        self.set(lane, quoted);
        self.quoted |= 1 << lane;
        match (quoted.addresses, error_destination) {
            (Addresses::V4(src, _), core::net::IpAddr::V4(dst)) => src == dst,
            (Addresses::V6(src, _), core::net::IpAddr::V6(dst)) => src == dst,
            _ => false,
        }
    }

    /// The TCP segment of a lane.
    #[inline(always)]
    pub(super) fn tcp(&self, lane: usize) -> TcpSegment {
        let scale = self.tcp_scale[lane];
        TcpSegment {
            flags: self.kind[lane],
            seq: self.seq[lane],
            ack: self.ack[lane],
            window: self.window[lane],
            payload: self.payload[lane],
            scale: (scale != NO_SCALE).then_some(scale),
        }
    }
}

/// Whether a protocol's packets carry ports.
pub const fn has_ports(number: u8) -> bool {
    matches!(number, protocol::TCP | protocol::UDP | protocol::SCTP | protocol::DCCP | protocol::UDPLITE)
}
