//! Which neighbours are wanted, and their slots in the neighbour table.
//!
//! Every (port, address) that an adjacency names has a slot. The next hops of routes
//! are kept resolved, with or without traffic; gleaned neighbours are asked for while
//! packets want them, so that a scan of a connected prefix does not ask for ever. A
//! [`NeighborRequest`] tells whoever asks on that port (the kernel for shared uplinks,
//! our own machine for exclusive ones).

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use encap::wire::ethernet::MacAddr;

use crate::ids::{NeighborSlot, PortId};
use crate::tables::{NeighborState, NeighborTable};

/// What is asked of the resolver of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighborRequest {
    /// Keep this neighbour resolved until released.
    Keep(PortId, IpAddr),
    /// No longer needed.
    Release(PortId, IpAddr),
    /// Packets wait for it.
    Resolve(PortId, IpAddr),
}

impl NeighborRequest {
    /// The port it is about.
    pub fn port(&self) -> PortId {
        let (Self::Keep(port, _) | Self::Release(port, _) | Self::Resolve(port, _)) = self;
        *port
    }

    /// The neighbour's address.
    pub fn address(&self) -> IpAddr {
        let (Self::Keep(_, address) | Self::Release(_, address) | Self::Resolve(_, address)) = self;
        *address
    }
}

/// A neighbour for display.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighborEntry {
    /// Where it is.
    pub port: PortId,
    /// Its address.
    pub address: IpAddr,
    /// What is known.
    pub state: NeighborState,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    /// `None` while the table is full.
    slot: Option<NeighborSlot>,
    /// Adjacencies that lead there.
    users: u32,
    /// Those among them that want it kept resolved.
    keepers: u32,
}

/// The book of wanted neighbours.
#[derive(Debug, Default)]
pub struct Neighbors {
    slots: BTreeMap<(PortId, IpAddr), Wanted>,
    free: Vec<NeighborSlot>,
    used: u32,
    /// What is known of neighbours that have no slot (yet).
    known: BTreeMap<(PortId, IpAddr), NeighborState>,
    requests: VecDeque<NeighborRequest>,
    /// Neighbours that found the table full.
    starving: BTreeSet<(PortId, IpAddr)>,
}

impl Neighbors {
    /// One more adjacency leads to a neighbour, which gets a slot if it has none.
    pub fn acquire(&mut self, port: PortId, address: IpAddr, keep: bool, table: &NeighborTable) {
        let key = (port, address);
        let known = self.known.get(&key).copied().unwrap_or(NeighborState::Unresolved);
        if !self.slots.contains_key(&key) {
            let slot = self.free.pop().or_else(|| self.fresh());
            match slot {
                Some(slot) => table.set(slot, known),
                None => drop(self.starving.insert(key)),
            }
            self.slots.insert(key, Wanted { slot, users: 0, keepers: 0 });
            if !keep {
                self.requests.push_back(NeighborRequest::Resolve(port, address));
            }
        }
        let Some(wanted) = self.slots.get_mut(&key) else { return };
        wanted.users += 1;
        if keep {
            wanted.keepers += 1;
            if wanted.keepers == 1 {
                self.requests.push_back(NeighborRequest::Keep(port, address));
            }
        }
    }

    fn fresh(&mut self) -> Option<NeighborSlot> {
        ((self.used as usize) < NeighborTable::CAPACITY - 1).then(|| {
            self.used += 1;
            NeighborSlot(self.used - 1)
        })
    }

    /// One adjacency less. Only after a grace period, since a worker may still read the slot.
    pub fn release(&mut self, port: PortId, address: IpAddr, keep: bool, table: &NeighborTable) {
        let key = (port, address);
        let Some(wanted) = self.slots.get_mut(&key) else { return };
        wanted.users -= 1;
        wanted.keepers -= u32::from(keep);
        if wanted.users == 0 {
            if let Some(slot) = wanted.slot {
                table.set(slot, NeighborState::Unresolved);
                self.free.push(slot);
            }
            self.slots.remove(&key);
            self.starving.remove(&key);
        } else if !keep || wanted.keepers > 0 {
            return;
        }
        self.requests.push_back(NeighborRequest::Release(port, address));
    }

    /// Whether [`feed`](Self::feed) has something to give, and someone to give it to.
    pub fn can_feed(&self) -> bool {
        !self.starving.is_empty() && !self.free.is_empty()
    }

    /// Gives free slots to neighbours that found the table full; returns who got one.
    pub fn feed(&mut self, table: &NeighborTable) -> Vec<(PortId, IpAddr)> {
        let mut fed = Vec::new();
        while !self.free.is_empty()
            && let Some(key) = self.starving.pop_first()
        {
            if let Some(wanted) = self.slots.get_mut(&key)
                && let Some(slot) = self.free.pop()
            {
                table.set(slot, self.known.get(&key).copied().unwrap_or(NeighborState::Unresolved));
                wanted.slot = Some(slot);
                fed.push(key);
            }
        }
        fed
    }

    /// The slot of a wanted neighbour. The last slot, never usable, where the table is full.
    pub fn slot(&self, port: PortId, address: IpAddr) -> NeighborSlot {
        let full = NeighborSlot(NeighborTable::CAPACITY as u32 - 1);
        self.slot_of(port, address).unwrap_or(full)
    }

    /// Takes news of a neighbour; `Unresolved` means that nothing is known any more.
    pub fn learn(&mut self, port: PortId, address: IpAddr, state: NeighborState, table: &NeighborTable) {
        if state == NeighborState::Unresolved {
            self.known.remove(&(port, address));
        } else {
            self.known.insert((port, address), state);
        }
        if let Some(slot) = self.slot_of(port, address) {
            table.set(slot, state);
        }
    }

    /// Asks anew for every neighbour of a port.
    pub fn ask_again(&mut self, port: PortId) {
        let wanted = self.slots.keys().filter(|(at, _)| *at == port);
        self.requests.extend(wanted.map(|(port, address)| NeighborRequest::Keep(*port, *address)));
    }

    /// Forgets everything about a port.
    pub fn forget_port(&mut self, port: PortId) {
        self.known.retain(|(at, _), _| *at != port);
    }

    /// The MAC address of a neighbour, if it is known.
    pub fn mac(&self, port: PortId, address: IpAddr) -> Option<MacAddr> {
        match self.known.get(&(port, address)) {
            Some(NeighborState::Usable(mac)) => Some(*mac),
            _ => None,
        }
    }

    /// The slot of a neighbour, if it is wanted and has one.
    pub fn slot_of(&self, port: PortId, address: IpAddr) -> Option<NeighborSlot> {
        self.slots.get(&(port, address))?.slot
    }

    /// Asks for a neighbour that packets wait for.
    pub fn resolve(&mut self, port: PortId, address: IpAddr) {
        self.requests.push_back(NeighborRequest::Resolve(port, address));
    }

    /// The next request for a resolver.
    pub fn next_request(&mut self) -> Option<NeighborRequest> {
        self.requests.pop_front()
    }

    /// Neighbours in use, in order.
    pub fn entries<'a>(&'a self, table: &'a NeighborTable) -> impl Iterator<Item = NeighborEntry> + 'a {
        self.slots.iter().map(|((port, address), wanted)| NeighborEntry {
            port: *port,
            address: *address,
            state: wanted.slot.map_or(NeighborState::Unresolved, |slot| table.get(slot)),
        })
    }
}
