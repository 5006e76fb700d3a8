//! The neighbour machines of exclusive uplinks, and the queue of requests for the
//! uplinks that the kernel shares.
//!
//! ```text
//!   engine --request--> exclusive port: Cache --frames--> worker
//!                       shared port:    kernel queue --> agent (rtnetlink)
//! ```

use core::net::IpAddr;
use std::collections::{BTreeMap, VecDeque};

use crate::control::NeighborRequest;
use crate::control::desired::Desired;
use crate::frame::{FrameStore, HEADROOM};
use crate::ids::{PortId, Timestamp};
use crate::neighbor::{Cache, Config, Event};
use crate::tables::NeighborState;
use crate::worker::Injected;

/// All neighbour machines of a router.
#[derive(Debug)]
pub struct NeighborPorts {
    seed: u64,
    caches: BTreeMap<PortId, Cache>,
    kernel: VecDeque<NeighborRequest>,
    /// Answers to requests that no machine can take.
    refused: Vec<(PortId, IpAddr, NeighborState)>,
}

impl NeighborPorts {
    pub(crate) fn new(seed: u64) -> Self {
        NeighborPorts { seed, caches: BTreeMap::new(), kernel: VecDeque::new(), refused: Vec::new() }
    }

    /// Gives every exclusive uplink its machine, with the addresses it has now. Returns
    /// the ports whose machine is new or changed: its neighbours are to be asked for
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
            let Some(port) = id(&spec.name).filter(|_| exclusive) else { continue };
            let mut config = Config::new(spec.mac);
            for net in addresses {
                match net {
                    ipnet::IpNet::V4(net) => config.addresses4.push((net.addr(), net.prefix_len())),
                    ipnet::IpNet::V6(net) => config.addresses6.push((net.addr(), net.prefix_len())),
                }
            }
            live.push(port);
            let outcome = match self.caches.get_mut(&port) {
                Some(cache) if *cache.config() == config => Ok(()),
                Some(cache) => {
                    changed.push(port);
                    cache.set_config(config, now)
                }
                None => Cache::new(config, self.seed ^ u64::from(port.0)).map(|mut cache| {
                    changed.push(port);
                    cache.announce(now);
                    self.caches.insert(port, cache);
                }),
            };
            if let Err(error) = outcome {
                tracing::error!("neighbours of port {}: {error}", spec.name);
            }
        }
        self.caches.retain(|port, _| live.contains(port));
        changed
    }

    /// Passes a request on.
    pub(crate) fn request(&mut self, request: NeighborRequest, now: Timestamp) {
        let (NeighborRequest::Keep(port, address)
        | NeighborRequest::Release(port, address)
        | NeighborRequest::Resolve(port, address)) = request;
        let Some(cache) = self.caches.get_mut(&port) else {
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
        }
    }

    /// Takes an ARP or neighbour discovery frame.
    pub(crate) fn frame(&mut self, port: PortId, frame: &[u8], now: Timestamp) {
        if let Some(cache) = self.caches.get_mut(&port) {
            // What is ignored is counted by the cache.
            let _ = cache.handle_frame(frame, now);
        }
    }

    /// Does what time asks for.
    pub(crate) fn timeout(&mut self, now: Timestamp) {
        for cache in self.caches.values_mut() {
            if cache.poll_timeout().is_some_and(|due| due <= now) {
                cache.handle_timeout(now);
            }
        }
    }

    /// When `timeout` is to be called.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.caches.values().filter_map(Cache::poll_timeout).min()
    }

    /// What became known since the last call.
    pub(crate) fn take_news(&mut self) -> Vec<(PortId, IpAddr, NeighborState)> {
        let mut news = core::mem::take(&mut self.refused);
        for (port, cache) in &mut self.caches {
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
        for (port, cache) in &mut self.caches {
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

    /// The machine of a port, to look at.
    pub fn cache(&self, port: PortId) -> Option<&Cache> {
        self.caches.get(&port)
    }
}
