//! Which neighbours are wanted, and their slots in the neighbour table.
//!
//! Every (port, address) that an adjacency names has a slot. The next hops of routes
//! are kept resolved, with or without traffic; gleaned neighbours are asked for while
//! packets want them, so that a scan of a connected prefix does not ask for ever. A
//! [`NeighborRequest`] tells whoever asks on that port (the kernel for shared uplinks,
//! our own machine for exclusive ones).

use core::net::IpAddr;
use std::collections::{BTreeMap, VecDeque};

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

/// The neighbours to have slots for; `true` for those to be kept resolved.
pub type WantedNeighbors = BTreeMap<(PortId, IpAddr), bool>;

#[derive(Clone, Copy, Debug)]
struct Wanted {
    slot: NeighborSlot,
    keep: bool,
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
}

impl Neighbors {
    /// Makes the set of wanted neighbours equal to `wanted`. New ones get a slot at
    /// once; old ones keep theirs until [`release`](Self::release).
    pub fn want(&mut self, wanted: &WantedNeighbors, table: &NeighborTable) {
        for (key, &keep) in wanted {
            let (port, address) = *key;
            if let Some(old) = self.slots.get_mut(key) {
                if old.keep != keep {
                    old.keep = keep;
                    let request = if keep { NeighborRequest::Keep } else { NeighborRequest::Release };
                    self.requests.push_back(request(port, address));
                }
                continue;
            }
            let Some(slot) = self.free.pop().or_else(|| self.fresh()) else { continue };
            table.set(slot, self.known.get(key).copied().unwrap_or(NeighborState::Unresolved));
            self.slots.insert(*key, Wanted { slot, keep });
            let request = if keep { NeighborRequest::Keep } else { NeighborRequest::Resolve };
            self.requests.push_back(request(port, address));
        }
    }

    fn fresh(&mut self) -> Option<NeighborSlot> {
        ((self.used as usize) < NeighborTable::CAPACITY - 1).then(|| {
            self.used += 1;
            NeighborSlot(self.used - 1)
        })
    }

    /// Gives up slots that `wanted` no longer names. Only after a grace period, since
    /// a worker may still read them.
    pub fn release(&mut self, wanted: &WantedNeighbors, table: &NeighborTable) {
        let gone: Vec<_> = self.slots.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        for key in gone {
            if let Some(Wanted { slot, .. }) = self.slots.remove(&key) {
                table.set(slot, NeighborState::Unresolved);
                self.free.push(slot);
                self.requests.push_back(NeighborRequest::Release(key.0, key.1));
            }
        }
    }

    /// The slot of a wanted neighbour. The last slot, never usable, where the table is full.
    pub fn slot(&self, port: PortId, address: IpAddr) -> NeighborSlot {
        let full = NeighborSlot(NeighborTable::CAPACITY as u32 - 1);
        self.slots.get(&(port, address)).map_or(full, |wanted| wanted.slot)
    }

    /// Takes news of a neighbour; `Unresolved` means that nothing is known any more.
    pub fn learn(&mut self, port: PortId, address: IpAddr, state: NeighborState, table: &NeighborTable) {
        if state == NeighborState::Unresolved {
            self.known.remove(&(port, address));
        } else {
            self.known.insert((port, address), state);
        }
        if let Some(wanted) = self.slots.get(&(port, address)) {
            table.set(wanted.slot, state);
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
        self.slots.get(&(port, address)).map(|wanted| wanted.slot)
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
            state: table.get(wanted.slot),
        })
    }
}
