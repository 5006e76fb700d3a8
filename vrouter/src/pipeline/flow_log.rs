//! Side exit: packets that policy has denied or was told to log, with the rule.
//!
//! ```text
//!   source_policy, dest_policy, conntrack --push--> bounded ring --pop--> control: history, `show denials`
//!                 |                                     |
//!         budget of the port used up               ring is full          both: counted as lost
//! ```
//!
//! Each port has a budget a second, so that one that is denied all the time leaves room for the others.
//! An entry is a few words that are copied; nothing is formatted, locked, allocated or asked of a clock.

use core::net::IpAddr;
use std::sync::Arc;

use acl::{Direction, RuleId};
use crossbeam_queue::ArrayQueue;

use crate::counters::Counter;
use crate::ids::{MAX_PORTS, PortId, Timestamp};

/// Entries that wait for control, over all workers.
pub const DEPTH: usize = 4096;
/// Entries a second of one port on one worker.
const PER_SECOND: u16 = 64;
const SECOND: u64 = 1_000_000_000;

/// What policy did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// It dropped the packet.
    Denied,
    /// A Log rule matched, which decides nothing.
    Logged,
}

/// One packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When its burst ran.
    pub at: Timestamp,
    /// What policy did.
    pub event: Event,
    /// Which policy of the port it was.
    pub direction: Direction,
    /// The port whose policy it was.
    pub port: PortId,
    /// The rule.
    pub rule: RuleId,
    /// Source of the packet; of an answer that was stopped, the destination: as the rule saw its flow.
    pub source: IpAddr,
    /// Destination of the packet.
    pub destination: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Source and destination port, or type and code of ICMP; `None` where there are none.
    pub transport: Option<(u16, u16)>,
    /// Bytes of the IP packet.
    pub len: u32,
}

/// Where entries wait for control.
pub type Ring = Arc<ArrayQueue<Entry>>;

#[derive(Clone, Copy, Default, Debug)]
struct Budget {
    second: u32,
    used: u16,
}

/// A worker's end of the ring.
#[derive(Debug)]
pub struct FlowLog {
    ring: Ring,
    budgets: Box<[Budget]>,
}

impl FlowLog {
    /// A log that writes into `ring`.
    pub fn new(ring: Ring) -> Self {
        FlowLog { ring, budgets: vec![Budget::default(); MAX_PORTS].into() }
    }

    /// Whether the port may write now. If not, the packet is counted as lost.
    #[inline]
    pub(super) fn admits(&mut self, port: PortId, now: Timestamp, lost: &Counter) -> bool {
        let budget = &mut self.budgets[port.index() % MAX_PORTS];
        let second = (now.0 / SECOND) as u32;
        if budget.second != second {
            *budget = Budget { second, used: 0 };
        }
        let admits = budget.used < PER_SECOND;
        budget.used += u16::from(admits);
        lost.add(u64::from(!admits));
        admits
    }

    /// Writes an entry, or counts it as lost.
    pub(super) fn push(&self, entry: Entry, lost: &Counter) {
        if self.ring.push(entry).is_err() {
            lost.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_leaves_room_for_the_others() {
        let (mut log, lost) = (FlowLog::new(Arc::new(ArrayQueue::new(8))), Counter::default());
        let mut admitted = |port: u16, ms: u64, times: u64| {
            let now = Timestamp::from_millis(ms);
            (0..times).filter(|_| log.admits(PortId(port), now, &lost)).count()
        };
        assert_eq!(admitted(1, 1000, 1000), usize::from(PER_SECOND));
        assert_eq!(admitted(1, 1999, 10), 0);
        assert_eq!(admitted(2, 1999, 10), 10);
        assert_eq!(admitted(1, 2000, 10), 10);
        assert_eq!(lost.get(), 1000 - u64::from(PER_SECOND) + 10);
    }
}
