//! Why a table cannot be made, a flow cannot be opened, a packet is not of its flow.

use core::fmt;

/// Why memory cannot hold, or does not hold, a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LayoutError {
    /// No flows, more than [`Capacity::MAX_FLOWS`](super::Capacity::MAX_FLOWS), or 65,535 endpoints.
    Capacity,
    /// The memory is smaller than the capacity needs.
    TooSmall,
    /// The memory does not begin with the header of a table.
    NoTable,
    /// The table was written with another layout.
    Version(u64),
    /// A timer is longer than a tick counter can tell apart, or a limit is zero.
    Settings,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::Capacity => f.write_str("flow table capacity out of range"),
            LayoutError::TooSmall => f.write_str("memory too small for the flow table"),
            LayoutError::NoTable => f.write_str("memory holds no flow table"),
            LayoutError::Version(found) => {
                let expected = super::LAYOUT_VERSION;
                write!(f, "flow table layout {found}, this program knows {expected}")
            }
            LayoutError::Settings => f.write_str("flow table timer or limit out of range"),
        }
    }
}

impl core::error::Error for LayoutError {}

/// Why a flow was not opened. Each is a drop reason of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refused {
    /// The table is full and holds nothing that may be evicted for this flow.
    TableFull,
    /// The endpoint has as many half-open and ended flows as it may have, and none was found to take the place of.
    EvictableLimit,
    /// The endpoint has as many flows as it may have.
    FlowLimit,
    /// All buckets of the key are full of established flows. Seeds make this rare: a few in a million, in a full table.
    BucketsFull,
    /// An endpoint number outside the table's accounts.
    UnknownEndpoint,
    /// A rule number of more than 31 bits.
    RuleOutOfRange,
    /// The packet cannot be the first of a flow.
    NotFirst(Invalid),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::TableFull => "flow table full",
            Refused::EvictableLimit => "too many half-open flows of the endpoint",
            Refused::FlowLimit => "too many flows of the endpoint",
            Refused::BucketsFull => "flow table buckets full",
            Refused::UnknownEndpoint => "endpoint without an account in the flow table",
            Refused::RuleOutOfRange => "rule number too large for the flow table",
            Refused::NotFirst(reason) => return fmt::Display::fmt(reason, f),
        })
    }
}

impl core::error::Error for Refused {}

/// Why a packet does not fit its flow, or cannot begin one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Invalid {
    /// TCP flags that no stack sends together.
    TcpFlags = 1,
    /// No flow, and not a SYN, where flows are not picked up in the middle.
    TcpNotSyn,
    /// A segment that the connection's state does not allow.
    TcpState,
    /// Data beyond what the receiver offered.
    TcpBeyondWindow,
    /// Data that was acknowledged long ago.
    TcpOldData,
    /// Acknowledges what was never sent.
    TcpAckUnsent,
    /// A reset with a sequence number that was acknowledged before.
    TcpResetOutside,
    /// An ICMP answer without a question.
    IcmpUnasked,
    /// An ICMP message that is neither question nor answer, nor marked as an error that quotes a packet.
    IcmpUntracked,
    /// An SCTP chunk that the association's state does not allow.
    SctpState,
    /// A wrong SCTP verification tag.
    SctpTag,
}

impl Invalid {
    /// Every reason, in the order of their numbers, which begin at 1.
    pub const ALL: [Invalid; 11] = [
        Invalid::TcpFlags,
        Invalid::TcpNotSyn,
        Invalid::TcpState,
        Invalid::TcpBeyondWindow,
        Invalid::TcpOldData,
        Invalid::TcpAckUnsent,
        Invalid::TcpResetOutside,
        Invalid::IcmpUnasked,
        Invalid::IcmpUntracked,
        Invalid::SctpState,
        Invalid::SctpTag,
    ];
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Invalid::TcpFlags => "invalid TCP flags",
            Invalid::TcpNotSyn => "no flow and not a SYN",
            Invalid::TcpState => "TCP segment out of state",
            Invalid::TcpBeyondWindow => "TCP data beyond the window",
            Invalid::TcpOldData => "TCP data below the window",
            Invalid::TcpAckUnsent => "TCP acknowledges unsent data",
            Invalid::TcpResetOutside => "TCP reset outside the window",
            Invalid::IcmpUnasked => "ICMP reply without a request",
            Invalid::IcmpUntracked => "ICMP message without state",
            Invalid::SctpState => "SCTP chunk out of state",
            Invalid::SctpTag => "wrong SCTP verification tag",
        })
    }
}
