//! What ARP and neighbour discovery messages have in common.

use std::fmt;
use std::net::IpAddr;

use encap::{MacAddr, ParseError};

/// Bytes of the longest frame the machine sends: Ethernet, IPv6, neighbour discovery
/// with one link-layer address option.
pub const MAX_FRAME_LEN: usize = 14 + 40 + 32;

/// Why a received frame changed nothing and got no answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Ignored {
    /// Neither ARP nor IPv6 by its EtherType.
    OtherProtocol,
    /// Sent to another station's MAC address.
    OtherStation,
    /// A check of RFC 826, RFC 4861 §7.1 or §8.1 failed; also any other IPv6 packet.
    Malformed(ParseError),
    /// A neighbour discovery message that says nothing about a neighbour: a redirect,
    /// which routers do not follow (RFC 4861 §8.2), or one without a MAC address.
    Meaningless,
    /// The sender's address cannot be that of one station.
    BadSender,
    /// Our own frame came back.
    Own,
    /// Asks for an address that is not ours, or speaks of a neighbour nobody wants.
    NotForUs,
    /// Claims one of our addresses: see [`Event::Conflict`](super::Event::Conflict).
    Conflict,
    /// Answers wait already for [`Cache::poll_transmit`](super::Cache::poll_transmit) in
    /// too great a number (counted).
    AnswerQueueFull,
}

impl Ignored {
    /// The reason in a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Ignored::OtherProtocol => "neither ARP nor IPv6",
            Ignored::OtherStation => "sent to another station",
            Ignored::Malformed(error) => error.as_str(),
            Ignored::Meaningless => "says nothing about a neighbour",
            Ignored::BadSender => "the sender's address is no station's",
            Ignored::Own => "our own frame",
            Ignored::NotForUs => "not for us",
            Ignored::Conflict => "claims our address",
            Ignored::AnswerQueueFull => "too many answers wait",
        }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Ignored {}

impl From<ParseError> for Ignored {
    fn from(error: ParseError) -> Ignored {
        Ignored::Malformed(error)
    }
}

/// A message, family aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Heard {
    /// Who it speaks of; none in probes for a free address.
    pub(super) about: Option<IpAddr>,
    /// The MAC address it gives for `about`.
    pub(super) offered: Option<MacAddr>,
    /// The station that sent it.
    pub(super) sender: MacAddr,
    pub(super) kind: Kind,
    /// The address it asks for.
    pub(super) asks: Option<IpAddr>,
}

/// How far a message may be trusted to replace what is cached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Advert { solicited: bool, override_: bool },
    Claim,
}

/// An answer to a question for one of our addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// Our address.
    pub(super) own: IpAddr,
    /// Who asked; none if the asker has no address yet.
    pub(super) asker: Option<IpAddr>,
    pub(super) asker_mac: MacAddr,
}
