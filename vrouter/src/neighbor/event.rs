//! What a cache tells: events for the dataplane, entries and counters for people.

use std::net::IpAddr;

use encap::MacAddr;

use super::state::State;
use crate::ids::Timestamp;

/// What the dataplane must know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// Frames for `address` go to `mac` from now on, until the next event about it.
    Resolved {
        /// The neighbour.
        address: IpAddr,
        /// Its MAC address.
        mac: MacAddr,
    },
    /// Nobody answers for `address`: packets that wait for it are undeliverable. The
    /// next hop of a route goes on being asked for.
    Failed {
        /// The neighbour.
        address: IpAddr,
    },
    /// The cache knows nothing of `address` any more: ask again with
    /// [`Cache::resolve`](super::Cache::resolve) when traffic needs it.
    Removed {
        /// The neighbour.
        address: IpAddr,
    },
    /// Another station claims one of the port's own addresses. Told at most once in 10 s
    /// for an address, each time with a defending announcement (RFC 5227 §2.4 c).
    Conflict {
        /// Our address.
        address: IpAddr,
        /// The other station.
        mac: MacAddr,
    },
}

/// One neighbour, for display.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The neighbour.
    pub address: IpAddr,
    /// Its state.
    pub state: State,
    /// Its MAC address; in INCOMPLETE the one that is in doubt, if any.
    pub mac: Option<MacAddr>,
    /// When the state was entered.
    pub since: Timestamp,
    /// A route needs it.
    pub keep: bool,
}

/// What happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Addresses refused because the cache was full.
    pub cache_full: u64,
    /// Entries that gave way to others.
    pub evicted: u64,
    /// Frames that claimed an own address.
    pub conflicts: u64,
    /// Received frames that changed nothing and got no answer, for whatever reason.
    pub ignored: u64,
    /// Those of them that were malformed.
    pub malformed: u64,
    /// Questions left unanswered because too many answers waited.
    pub answers_dropped: u64,
}
