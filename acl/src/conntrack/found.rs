//! What a burst found in the table: one bit per lane, one array per fact.

use super::entry::{FlowId, unpack_verdict};
use super::error::Invalid;
use super::hash::{Hash, IPV6, Key};
use super::headers::LANES;
use crate::rule::{Direction, Verdict};

/// The result of a lookup, which tracking and opening then work on. Make one for each worker and keep it.
// Rows of lanes in whole cache lines, for the vector kernel.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Found {
    /// The flows of `hit`.
    pub flow: [FlowId; LANES],
    /// The first word of the key's addresses.
    pub(super) address: [u64; LANES],
    /// The last word of the key.
    pub(super) rest: [u64; LANES],
    pub(super) hash: [Hash; LANES],
    pub(super) verdicts: [u64; LANES],
    /// The entry that a lane's tag led to.
    pub(super) entry: [u32; LANES],
    /// The bucket that is looked at.
    pub(super) bucket: [u32; LANES],
    reasons: [u8; LANES],
    /// The other words of IPv6 addresses.
    pub(super) others: [[u64; 3]; LANES],
    /// Lanes whose flow is in the table.
    pub hit: u64,
    /// Of those, lanes that go against the flow's original direction.
    pub reply: u64,
    /// Of those, ICMP errors about the flow: they pass with it and change nothing. `reply` tells the direction of the
    /// quoted packet.
    pub related: u64,
    /// Of those, lanes whose egress verdict is older than the policy: ask policy again, about the flow's original
    /// direction, and [`record`](super::Conntrack::record) the answer.
    pub stale_egress: u64,
    /// The same for the ingress verdict.
    pub stale_ingress: u64,
    /// Of those, lanes that either side's verdict denies.
    pub denied: u64,
    /// Lanes without a flow that may open one, if policy lets them.
    pub first: u64,
    /// Of those, lanes whose old flow has ended, and which begin a new one between the same ends.
    pub reopens: u64,
    /// Lanes that do not fit their flow, or cannot begin one; [`reason`](Self::reason) tells why.
    pub invalid: u64,
    /// ICMP errors about packets of no known flow.
    pub unrelated: u64,
}

impl Default for Found {
    fn default() -> Self {
        Found {
            hit: 0,
            reply: 0,
            related: 0,
            stale_egress: 0,
            stale_ingress: 0,
            denied: 0,
            first: 0,
            reopens: 0,
            invalid: 0,
            unrelated: 0,
            flow: [FlowId::default(); LANES],
            reasons: [0; LANES],
            verdicts: [0; LANES],
            address: [0; LANES],
            others: [[0; 3]; LANES],
            rest: [0; LANES],
            hash: [Hash::default(); LANES],
            entry: [0; LANES],
            bucket: [0; LANES],
        }
    }
}

impl Found {
    /// What one side's policy said about the flow of a lane that was tracked. For others ask
    /// [`Conntrack::verdict`](super::Conntrack::verdict).
    #[inline]
    pub fn verdict(&self, lane: usize, side: Direction) -> Verdict {
        let word = self.verdicts[lane];
        unpack_verdict(if side == Direction::Egress { word as u32 } else { (word >> 32) as u32 })
    }

    /// Both verdicts of each lane that was tracked, packed: equal words, equal verdicts.
    #[inline]
    pub fn packed_verdicts(&self) -> &[u64; LANES] {
        &self.verdicts
    }

    /// Why a lane is in `invalid`.
    pub fn reason(&self, lane: usize) -> Option<Invalid> {
        Invalid::ALL.get(usize::from(self.reasons[lane]).checked_sub(1)?).copied()
    }

    pub(super) fn refuse(&mut self, lane: usize, reason: Invalid) {
        self.hit &= !(1 << lane);
        self.invalid |= 1 << lane;
        self.reasons[lane] = reason as u8;
    }

    pub(super) fn clear(&mut self) {
        self.hit = 0;
        self.reply = 0;
        self.related = 0;
        self.stale_egress = 0;
        self.stale_ingress = 0;
        self.denied = 0;
        self.first = 0;
        self.reopens = 0;
        self.invalid = 0;
        self.unrelated = 0;
    }

    pub(super) fn key(&self, lane: usize) -> Key {
        let rest = self.rest[lane];
        let [a, b, c] = if rest & IPV6 == 0 { [0; 3] } else { self.others[lane] };
        Key { addresses: [self.address[lane], a, b, c], rest }
    }
}
