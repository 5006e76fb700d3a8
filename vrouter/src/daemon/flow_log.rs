//! What policy denied or logged lately: entries are taken from the workers' ring and kept, the latest
//! ones, with their ports by name, since a number may be another port's a moment later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock;
use crate::daemon::Node;
use crate::pipeline::flow_log::Entry;

/// Entries that are kept.
const KEPT: usize = 8192;

/// An entry with what it needs to be understood later.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Grows by one with each entry.
    pub number: u64,
    /// Since the Unix epoch.
    pub timestamp_ns: u64,
    /// Name of the port whose policy it was.
    pub port: Arc<str>,
    /// The entry.
    pub entry: Entry,
    /// Packets that were not logged since the entry before.
    pub missed: u64,
}

/// The latest entries.
#[derive(Debug, Default)]
pub struct FlowLogHistory {
    entries: VecDeque<Kept>,
    next: u64,
    /// Workers' count of lost packets when the latest entry was taken.
    lost: u64,
}

impl FlowLogHistory {
    /// Entries from a number on, oldest first.
    pub fn since(&self, number: u64) -> impl DoubleEndedIterator<Item = &Kept> {
        let first = self.entries.front().map_or(0, |kept| kept.number);
        let skip = usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip)
    }

    /// The number that the next entry will have.
    pub fn next_number(&self) -> u64 {
        self.next
    }
}

impl Node {
    /// Takes what the workers have written.
    pub(crate) fn take_flow_log(&mut self) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let boot = (since_epoch.as_nanos() as u64).saturating_sub(clock::now().0);
        let mut latest: Option<(crate::ids::PortId, Arc<str>)> = None;
        while let Some(entry) = self.router.next_flow_log_entry() {
            let port = match &latest {
                Some((id, name)) if *id == entry.port => name.clone(),
                _ => Arc::from(self.router.engine().port_name(entry.port).unwrap_or_default()),
            };
            latest = Some((entry.port, port.clone()));
            let history = &mut self.flow_log;
            if history.entries.len() == KEPT {
                history.entries.pop_front();
            }
            let lost = self.router.flow_log_lost();
            let missed = lost - history.lost.min(lost);
            history.lost = lost;
            let timestamp_ns = boot + entry.at.0;
            history.entries.push_back(Kept { number: history.next, timestamp_ns, port, entry, missed });
            history.next += 1;
        }
    }
}
