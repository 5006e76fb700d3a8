//! Where the headers of a packet lie, from the outermost network header to the transport header.
//!
//! ```text
//!   IPv4 | IPv4 | TCP | data      IP in IP
//!   ^0     ^20    ^40   ^60       network[0], network[1], transport, header_len
//! ```
//!
//! Segmentation and coalescing look at TCP and UDP only, and at packets whose headers lie whole in one piece of memory.

use crate::ParseError;
use crate::wire::{Ipv4, Ipv6, Tcp, Udp, protocol, tcp, udp};

/// Network headers that a packet may have: two tunnels in each other.
const MAX_NETWORKS: usize = 3;

/// The headers of one TCP or UDP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layers {
    /// Offsets of the network headers, outermost first; the first `count` count.
    networks: [u8; MAX_NETWORKS],
    count: u8,
    /// TCP or UDP.
    pub(crate) protocol: u8,
    /// Offset of the transport header.
    pub(crate) transport: u16,
    /// Bytes of all headers together.
    pub(crate) header_len: u16,
}

/// Why headers cannot be walked to a TCP or UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerError {
    Parse(ParseError),
    Fragment,
    Protocol(u8),
}

impl From<ParseError> for LayerError {
    fn from(error: ParseError) -> Self {
        LayerError::Parse(error)
    }
}

impl Layers {
    /// Of no packet.
    pub(crate) const NONE: Layers =
        Layers { networks: [0; MAX_NETWORKS], count: 0, protocol: 0, transport: 0, header_len: 0 };

    /// Walks the headers at the start of `head`. Length fields are not looked at: those of a super-packet may not hold.
    #[inline]
    pub(crate) fn walk(head: &[u8]) -> Result<Layers, LayerError> {
        let mut layers = Layers::NONE;
        let mut at = 0;
        for depth in 0..MAX_NETWORKS {
            let rest = head.get(at..).unwrap_or(&[]);
            let (len, next) = match rest.first().map(|byte| byte >> 4) {
                Some(4) => {
                    let header = Ipv4::new_quoted(rest)?;
                    if header.is_fragment() {
                        return Err(LayerError::Fragment);
                    }
                    (header.header_len(), header.protocol())
                }
                Some(6) => {
                    let header = Ipv6::new_quoted(rest)?;
                    let upper = header.upper()?;
                    if upper.fragment.is_some() {
                        return Err(LayerError::Fragment);
                    }
                    (crate::wire::ipv6::HEADER_LEN + upper.offset, upper.protocol)
                }
                Some(_) => return Err(ParseError::BadVersion.into()),
                None => return Err(ParseError::Truncated.into()),
            };
            layers.networks[depth] = u8::try_from(at).map_err(|_| ParseError::BadLength)?;
            layers.count = depth as u8 + 1;
            at += len;
            let rest = head.get(at..).unwrap_or(&[]);
            let transport_len = match next {
                protocol::TCP => Tcp::new_checked(rest)?.header_len(),
                protocol::UDP => Udp::new_quoted(rest).map(|_| udp::HEADER_LEN)?,
                protocol::IPIP | protocol::IPV6 => continue,
                other => return Err(LayerError::Protocol(other)),
            };
            layers.protocol = next;
            layers.transport = u16::try_from(at).map_err(|_| ParseError::BadLength)?;
            layers.header_len = layers.transport + transport_len as u16;
            return Ok(layers);
        }
        Err(LayerError::Protocol(protocol::IPIP))
    }

    /// Offsets of the network headers, outermost first.
    #[inline]
    pub(crate) fn networks(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let (networks, count) = (self.networks, usize::from(self.count));
        (0..count).map(move |depth| usize::from(networks[depth]))
    }

    /// Offset of the innermost network header.
    #[inline]
    pub(crate) fn network(&self) -> usize {
        usize::from(self.networks[usize::from(self.count).saturating_sub(1)])
    }

    /// Whether there is an outer header.
    #[inline]
    pub(crate) fn is_nested(&self) -> bool {
        self.count > 1
    }

    /// Where the checksum lies, from the transport header.
    #[inline]
    pub(crate) fn checksum_field(&self) -> usize {
        if self.protocol == protocol::TCP { tcp::CHECKSUM_OFFSET } else { udp::CHECKSUM_OFFSET }
    }

    /// The sum of the pseudo-header of a transport header and data of `len` bytes.
    #[inline]
    pub(crate) fn pseudo_sum(&self, head: &[u8], len: usize) -> u64 {
        let inner = &head[self.network()..];
        match inner[0] >> 4 {
            4 => Ipv4::new_quoted(inner).map_or(0, |header| {
                crate::wire::checksum::pseudo_v4(header.src(), header.dst(), self.protocol, len as u16)
            }),
            _ => Ipv6::new_quoted(inner).map_or(0, |header| header.pseudo_sum(self.protocol, len as u32)),
        }
    }
}
