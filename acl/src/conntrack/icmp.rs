//! Which ICMP messages ask, and which answer (RFC 792, RFC 950, RFC 4443): only these have flows, by their identifier.

use super::protocol::{ICMP, ICMPV6};

const ECHO_REPLY: u8 = 0;
const ECHO: u8 = 8;
const TIMESTAMP: u8 = 13;
const TIMESTAMP_REPLY: u8 = 14;
const ECHO_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

#[inline(always)]
pub(super) fn is(protocol: u8) -> bool {
    protocol == ICMP || protocol == ICMPV6
}

/// The type of an echo request.
pub(super) fn echo(protocol: u8) -> u8 {
    match protocol {
        ICMP => ECHO,
        ICMPV6 => ECHO_V6,
        _ => 0,
    }
}

/// Whether the message asks.
pub(super) fn asks(protocol: u8, kind: u8) -> bool {
    matches!((protocol, kind), (ICMP, ECHO | TIMESTAMP) | (ICMPV6, ECHO_V6))
}

/// Whether the message answers.
#[inline]
pub(super) fn answers(protocol: u8, kind: u8) -> bool {
    matches!((protocol, kind), (ICMP, ECHO_REPLY | TIMESTAMP_REPLY) | (ICMPV6, ECHO_REPLY_V6))
}

/// The answer's type to a question, the question's to an answer.
pub(super) fn counterpart(protocol: u8, kind: u8) -> Option<u8> {
    match (protocol, kind) {
        (ICMP, ECHO) => Some(ECHO_REPLY),
        (ICMP, ECHO_REPLY) => Some(ECHO),
        (ICMP, TIMESTAMP) => Some(TIMESTAMP_REPLY),
        (ICMP, TIMESTAMP_REPLY) => Some(TIMESTAMP),
        (ICMPV6, ECHO_V6) => Some(ECHO_REPLY_V6),
        (ICMPV6, ECHO_REPLY_V6) => Some(ECHO_V6),
        _ => None,
    }
}

/// What to do with an ICMP message of this type (of ICMPv6, if `v6`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpMessage {
    /// Tracked by its identifier, set as both ports.
    Tracked,
    /// An error: tracked by the packet that it quotes ([`Headers::set_quoted`](super::Headers::set_quoted)).
    Error,
    /// Neither: policy decides about each such packet by itself.
    Untracked,
}

impl IcmpMessage {
    /// Sorts a message by its type.
    pub fn of(v6: bool, kind: u8) -> Self {
        let protocol = if v6 { ICMPV6 } else { ICMP };
        match kind {
            _ if asks(protocol, kind) || answers(protocol, kind) => IcmpMessage::Tracked,
            // RFC 792: unreachable, source quench, time exceeded, parameter problem. RFC 4443 2.1: types below 128.
            3 | 4 | 11 | 12 if !v6 => IcmpMessage::Error,
            0..128 if v6 => IcmpMessage::Error,
            _ => IcmpMessage::Untracked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_belong_together() {
        for (protocol, v6) in [(ICMP, false), (ICMPV6, true)] {
            for kind in 0..=255 {
                let tracked = IcmpMessage::of(v6, kind) == IcmpMessage::Tracked;
                assert_eq!(counterpart(protocol, kind).is_some(), tracked, "{protocol} {kind}");
                assert!(!(asks(protocol, kind) && answers(protocol, kind)));
                if let Some(other) = counterpart(protocol, kind) {
                    assert_eq!(counterpart(protocol, other), Some(kind));
                    assert_eq!(asks(protocol, kind), answers(protocol, other));
                }
            }
        }
        assert_eq!(IcmpMessage::of(false, 3), IcmpMessage::Error);
        assert_eq!(IcmpMessage::of(true, 2), IcmpMessage::Error);
        assert_eq!(IcmpMessage::of(true, 135), IcmpMessage::Untracked);
        assert_eq!(IcmpMessage::of(false, 5), IcmpMessage::Untracked);
    }
}
