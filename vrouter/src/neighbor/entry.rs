//! One neighbour, and the table of them with its order of eviction.
//!
//! ```text
//!   asked for, table full:  evict  FAILED, longest without demand   (not if a route needs it)
//!                           else   usable, longest without demand   (not if a route needs it)
//!                           else   refuse
//!   half the table is INCOMPLETE or FAILED:  only FAILED entries give way
//! ```
//!
//! So traffic to absent addresses costs at most half of the table, next hops of routes
//! always keep their place, and an address that is being asked for is never dropped to
//! be asked for anew: at most one multicast question goes out in a retransmit interval.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use encap::MacAddr;

use super::event::{Entry, Event};
use super::state::{Demand, Offer, State};
use crate::ids::Timestamp;

/// A neighbour.
#[derive(Debug)]
pub(super) struct Neighbor {
    pub(super) state: State,
    /// Known in usable states; in INCOMPLETE the one that PROBE could not confirm.
    pub(super) mac: Option<MacAddr>,
    /// When the state was entered.
    pub(super) since: Timestamp,
    /// A route needs it.
    pub(super) keep: bool,
    /// Traffic asked for it.
    pub(super) used: bool,
    /// When traffic last asked, or the route went.
    pub(super) touched: Timestamp,
    /// Questions asked in this state.
    pub(super) questions: u32,
    /// When all stations were last asked.
    pub(super) asked_all: Timestamp,
    /// A question waits to be sent.
    pub(super) question_waits: bool,
    /// The last event about it.
    pub(super) told: Option<Event>,
    rank: Option<Rank>,
}

impl Neighbor {
    /// The neighbour as people see it.
    pub(super) fn show(&self, address: IpAddr) -> Entry {
        Entry { address, state: self.state, mac: self.mac, since: self.since, keep: self.keep }
    }

    pub(super) fn new(now: Timestamp) -> Neighbor {
        Neighbor {
            state: State::Incomplete,
            mac: None,
            since: now,
            keep: false,
            used: false,
            touched: now,
            questions: 0,
            asked_all: now,
            question_waits: false,
            told: None,
            rank: None,
        }
    }

    pub(super) fn demand(&self, gc: Duration, now: Timestamp) -> Demand {
        if self.keep {
            Demand::Route
        } else if self.used && now.since(self.touched) < gc {
            Demand::Traffic
        } else {
            Demand::Nobody
        }
    }

    pub(super) fn offer(&self, offered: Option<MacAddr>) -> Offer {
        match offered {
            None => Offer::Absent,
            offered if offered == self.mac => Offer::Same,
            Some(_) => Offer::Different,
        }
    }

    /// The place in the order of eviction; none for those that must stay.
    fn rank(&self) -> Option<Rank> {
        let class = match self.state {
            _ if self.keep => return None,
            State::Incomplete => return None,
            State::Failed => Class::Failed,
            State::Reachable | State::Stale | State::Delay | State::Probe => Class::Usable,
        };
        Some((class, self.touched))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Class {
    Failed,
    Usable,
}

type Rank = (Class, Timestamp);

/// The neighbours by address.
#[derive(Debug)]
pub(super) struct Table {
    neighbors: BTreeMap<IpAddr, Neighbor>,
    evictable: BTreeSet<(Rank, IpAddr)>,
    unresolved: usize,
}

impl Table {
    pub(super) const fn new() -> Table {
        Table { neighbors: BTreeMap::new(), evictable: BTreeSet::new(), unresolved: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.neighbors.len()
    }

    pub(super) fn get(&self, address: IpAddr) -> Option<&Neighbor> {
        self.neighbors.get(&address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Neighbor)> {
        self.neighbors.iter().map(|(&a, neighbor)| (a, neighbor))
    }

    /// Adds a neighbour that must not be there yet.
    pub(super) fn insert(&mut self, address: IpAddr, neighbor: Neighbor) {
        self.unresolved += usize::from(!neighbor.state.is_usable());
        self.neighbors.insert(address, neighbor);
        self.update(address, |_| ());
    }

    /// Changes a neighbour and keeps the order of eviction right.
    pub(super) fn update<R>(
        &mut self,
        address: IpAddr,
        change: impl FnOnce(&mut Neighbor) -> R,
    ) -> Option<R> {
        let neighbor = self.neighbors.get_mut(&address)?;
        let was_usable = neighbor.state.is_usable();
        let result = change(neighbor);
        self.unresolved += usize::from(was_usable);
        self.unresolved -= usize::from(neighbor.state.is_usable());
        let rank = neighbor.rank();
        if rank != neighbor.rank {
            if let Some(old) = neighbor.rank {
                self.evictable.remove(&(old, address));
            }
            if let Some(new) = rank {
                self.evictable.insert((new, address));
            }
            neighbor.rank = rank;
        }
        Some(result)
    }

    pub(super) fn remove(&mut self, address: IpAddr) -> Option<Neighbor> {
        let neighbor = self.neighbors.remove(&address)?;
        self.unresolved -= usize::from(!neighbor.state.is_usable());
        if let Some(rank) = neighbor.rank {
            self.evictable.remove(&(rank, address));
        }
        Some(neighbor)
    }

    /// Whom a newcomer displaces; `Err` if nobody may go.
    pub(super) fn room_for_one(
        &self,
        max_entries: usize,
        for_route: bool,
        retrans: Duration,
        now: Timestamp,
    ) -> Result<Option<IpAddr>, Full> {
        let is_full = self.len() >= max_entries;
        let only_failed = !for_route && self.unresolved >= (max_entries / 2).max(1);
        if !is_full && !only_failed {
            return Ok(None);
        }
        let &((class, _), address) = self.evictable.first().ok_or(Full)?;
        // Forgetting when it was last asked for would let it be asked for again too soon.
        let asked_lately = now.since(self.neighbors[&address].asked_all) < retrans;
        if asked_lately || (class == Class::Usable && only_failed) {
            return Err(Full);
        }
        Ok(Some(address))
    }
}

/// No room, and nobody to evict.
#[derive(Debug)]
pub(super) struct Full;
