//! The neighbour machines of uplinks, and the queue of requests for the uplinks that
//! the kernel shares.
//!
//! ```text
//!   engine --request--> exclusive port: Cache --frames--> worker
//!                       shared port:    kernel queue --> agent (rtnetlink)
//!                                       Cache --announcements alone--> worker
//! ```
//!
//! On a shared uplink the kernel asks and answers. But when the device changes its MAC
//! address, or is made anew, it does not tell the stations of the link, unless
//! `arp_notify` and `ndisc_notify` are set; peers then send to the old address until
//! their entries go stale, up to a minute. So the machine of a shared uplink announces
//! the addresses, and does nothing else.

use core::net::IpAddr;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use crate::control::NeighborRequest;
use crate::control::desired::Desired;
use crate::frame::{FrameStore, HEADROOM};
use crate::ids::{PortId, Timestamp};
use crate::neighbor::{Cache, Config, ConfigError, Event};
use crate::tables::NeighborState;
use crate::worker::Injected;

/// The neighbour machines of a router.
#[derive(Debug)]
pub struct NeighborPorts {
    seed: u64,
    machines: BTreeMap<PortId, Machine>,
    kernel: VecDeque<NeighborRequest>,
    /// Answers to requests that a machine refused.
    refused: Vec<(PortId, IpAddr, NeighborState)>,
    /// When a refusal is forgotten, so that packets may ask again.
    amnesties: VecDeque<(Timestamp, PortId, IpAddr)>,
}

#[derive(Debug)]
struct Machine {
    cache: Cache,
    /// It asks and answers; else the kernel does, and the machine announces.
    exclusive: bool,
    /// The port was up when last looked at.
    up: bool,
}

impl NeighborPorts {
    pub(crate) fn new(seed: u64) -> Self {
        NeighborPorts {
            seed,
            machines: BTreeMap::new(),
            kernel: VecDeque::new(),
            refused: Vec::new(),
            amnesties: VecDeque::new(),
        }
    }

    /// Gives every uplink its machine, with the addresses it has now. Returns the
    /// exclusive ports whose machine is new or changed: its neighbours are to be asked for
    /// again, since a machine forgets what its addresses do not reach.
    pub(crate) fn configure(
        &mut self,
        desired: &Desired,
        id: impl Fn(&str) -> Option<PortId>,
        now: Timestamp,
    ) -> Vec<PortId> {
        let mut live = Vec::new();
        let mut changed = Vec::new();
        for (spec, exclusive, addresses) in desired.uplinks() {
            let Some(port) = id(&spec.name) else { continue };
            let mut config = Config::new(spec.mac);
            for net in addresses {
                match net {
                    ipnet::IpNet::V4(net) => config.addresses4.push((net.addr(), net.prefix_len())),
                    ipnet::IpNet::V6(net) => config.addresses6.push((net.addr(), net.prefix_len())),
                }
            }
            live.push(port);
            match self.configure_one(port, config, exclusive, spec.up, now) {
                Ok(true) if exclusive => changed.push(port),
                Ok(_) => {}
                Err(error) => tracing::error!("neighbours of port {}: {error}", spec.name),
            }
        }
        self.machines.retain(|port, _| live.contains(port));
        changed
    }

    /// Stations learn where our addresses are when a machine takes over its port and
    /// when the link comes up. Returns whether the machine is new or changed.
    fn configure_one(
        &mut self,
        port: PortId,
        config: Config,
        exclusive: bool,
        up: bool,
        now: Timestamp,
    ) -> Result<bool, ConfigError> {
        let (machine, changed) = match self.machines.entry(port) {
            Entry::Vacant(vacant) => {
                let cache = Cache::new(config, self.seed ^ u64::from(port.0))?;
                (vacant.insert(Machine { cache, exclusive, up: false }), true)
            }
            Entry::Occupied(occupied) => {
                let machine = occupied.into_mut();
                let changed = *machine.cache.config() != config;
                if changed {
                    machine.cache.set_config(config, now)?;
                }
                (machine, changed)
            }
        };
        if up && !machine.up {
            machine.cache.announce(now);
        }
        machine.up = up;
        Ok(changed)
    }

    /// Passes a request on.
    pub(crate) fn request(&mut self, request: NeighborRequest, now: Timestamp) {
        let (NeighborRequest::Keep(port, address)
        | NeighborRequest::Release(port, address)
        | NeighborRequest::Resolve(port, address)) = request;
        let Some(Machine { cache, exclusive: true, .. }) = self.machines.get_mut(&port) else {
            self.kernel.push_back(request);
            return;
        };
        let outcome = match request {
            NeighborRequest::Keep(..) => cache.keep(address, true, now),
            NeighborRequest::Release(..) => cache.keep(address, false, now),
            NeighborRequest::Resolve(..) => cache.resolve(address, now),
        };
        if outcome.is_err() {
            self.refused.push((port, address, NeighborState::Failed));
            self.amnesties.push_back((now.after(cache.config().failed_hold), port, address));
        }
    }

    /// Takes an ARP or neighbour discovery frame.
    pub(crate) fn frame(&mut self, port: PortId, frame: &[u8], now: Timestamp) {
        if let Some(Machine { cache, exclusive: true, .. }) = self.machines.get_mut(&port) {
            // What is ignored is counted by the cache.
            let _ = cache.handle_frame(frame, now);
        }
    }

    /// Does what time asks for.
    pub(crate) fn timeout(&mut self, now: Timestamp) {
        while let Some(&(due, port, address)) = self.amnesties.front()
            && due <= now
        {
            self.amnesties.pop_front();
            self.refused.push((port, address, NeighborState::Unresolved));
        }
        for Machine { cache, .. } in self.machines.values_mut() {
            if cache.poll_timeout().is_some_and(|due| due <= now) {
                cache.handle_timeout(now);
            }
        }
    }

    /// When `timeout` is to be called.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        let amnesty = self.amnesties.front().map(|(due, ..)| *due);
        self.machines.values().filter_map(|machine| machine.cache.poll_timeout()).chain(amnesty).min()
    }

    /// What became known since the last call.
    pub(crate) fn take_news(&mut self) -> Vec<(PortId, IpAddr, NeighborState)> {
        let mut news = core::mem::take(&mut self.refused);
        for (port, Machine { cache, .. }) in &mut self.machines {
            while let Some(event) = cache.poll_event() {
                match event {
                    Event::Resolved { address, mac } => {
                        news.push((*port, address, NeighborState::Usable(mac)))
                    }
                    Event::Failed { address } => news.push((*port, address, NeighborState::Failed)),
                    Event::Removed { address } => news.push((*port, address, NeighborState::Unresolved)),
                    Event::Conflict { address, mac } => {
                        tracing::warn!("{mac} claims our address {address}");
                    }
                }
            }
        }
        news
    }

    /// The next frame to send.
    pub(crate) fn transmit(&mut self, store: &FrameStore) -> Option<(PortId, Injected)> {
        for (port, Machine { cache, .. }) in &mut self.machines {
            let mut frame = store.alloc()?;
            let out = &mut store.area().chunk_mut(&mut frame)[HEADROOM..];
            match cache.poll_transmit(out) {
                Some(len) => {
                    return Some((*port, Injected { frame, offset: HEADROOM as u16, len: len as u16 }));
                }
                None => store.free(frame),
            }
        }
        None
    }

    /// The next request for the kernel.
    pub(crate) fn next_kernel_request(&mut self) -> Option<NeighborRequest> {
        self.kernel.pop_front()
    }

    /// The machine of an exclusive port, to look at.
    pub fn cache(&self, port: PortId) -> Option<&Cache> {
        self.machines.get(&port).filter(|machine| machine.exclusive).map(|machine| &machine.cache)
    }
}
