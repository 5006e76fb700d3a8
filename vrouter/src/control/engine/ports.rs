//! Ports: their numbers, and the routes that they bring with them.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::sync::Arc;

use fib::{AnyPrefix, RouteSource};

use super::{Engine, EngineError, host_prefix, net_prefix};
use crate::control::desired::{PortRole, PortSpec};
use crate::control::next_hop::NextHop;
use crate::ids::{MAX_PORTS, PortId, VrfId};
use crate::tables::{Port, Role};

impl Engine {
    pub(super) fn put_port(&mut self, spec: PortSpec) -> Result<(), EngineError> {
        self.check_addresses(&spec)?;
        self.check_endpoint(&spec)?;
        self.check_vrf(&spec)?;
        let id = match self.ids.get(&spec.name) {
            Some(id) => *id,
            None => self.allocate_id()?,
        };
        self.ids.insert(spec.name.clone(), id);
        match self.desired.ports.insert(spec.name.clone(), spec.clone()) {
            Some(old) if old == spec => return Ok(()),
            Some(old) => {
                self.groups.adjacencies.port_changed(id);
                if old.up != spec.up {
                    self.note_state(&spec);
                }
                if old.role != spec.role {
                    self.withdraw_port(&old);
                    self.note_role(&old);
                    self.note_role(&spec);
                }
            }
            None => {
                self.changed.ports.insert(spec.name.clone());
                self.note_role(&spec);
            }
        }
        if self.ports.len() <= id.index() {
            self.ports.resize(id.index() + 1, None);
        }
        let old = self.ports[id.index()].as_ref();
        let policy = old.and_then(|port| port.policy.clone());
        let host_policy = old.and_then(|port| port.host_policy.clone());
        self.ports[id.index()] =
            Some(Arc::new(Port { policy, host_policy, ..compile(&spec, self.desired.vrf_of(&spec.name)) }));
        self.police_port(&spec, id);
        self.changed.tables = true;
        self.announce_port(&spec);
        Ok(())
    }

    /// What resolution reads of a port is new, different or gone.
    fn note_role(&mut self, spec: &PortSpec) {
        match &spec.role {
            PortRole::Uplink { .. } => self.changed.links = true,
            PortRole::Host { .. } => self.changed.host = true,
            PortRole::Pod { .. } => {}
        }
    }

    /// A port came up or went down.
    fn note_state(&mut self, spec: &PortSpec) {
        match &spec.role {
            // Only what resolves by this uplink moves.
            PortRole::Uplink { .. } => {
                self.changed.states = true;
                self.changed.ports.insert(spec.name.clone());
            }
            PortRole::Host { .. } | PortRole::Pod { .. } => self.note_role(spec),
        }
    }

    fn check_addresses(&self, spec: &PortSpec) -> Result<(), EngineError> {
        let addresses = |port: &PortSpec| match &port.role {
            PortRole::Pod { addresses, .. } | PortRole::Host { addresses } => addresses.clone(),
            PortRole::Uplink { addresses, .. } => addresses.iter().map(ipnet::IpNet::addr).collect(),
        };
        let wanted = addresses(spec);
        let vrf = self.desired.vrf_of(&spec.name);
        let beside = |other: &&PortSpec| other.name != spec.name && self.desired.vrf_of(&other.name) == vrf;
        for other in self.desired.ports.values().filter(beside) {
            if let Some(address) = addresses(other).into_iter().find(|address| wanted.contains(address)) {
                return Err(EngineError::AddressTaken {
                    address,
                    port: spec.name.clone(),
                    owner: other.name.clone(),
                });
            }
        }
        Ok(())
    }

    fn allocate_id(&mut self) -> Result<PortId, EngineError> {
        // Fresh numbers first, so that a number rests as long as possible before it
        // means another port.
        if (self.next_id as usize) < MAX_PORTS {
            self.next_id += 1;
            return Ok(PortId(self.next_id - 1));
        }
        if self.retired_ids.is_empty() {
            return Err(EngineError::TooManyPorts);
        }
        Ok(self.retired_ids.remove(0))
    }

    pub(super) fn remove_port(&mut self, name: &str) -> Result<(), EngineError> {
        let old = self.desired.ports.remove(name).ok_or_else(|| EngineError::NoSuchPort(name.to_owned()))?;
        self.withdraw_port(&old);
        if let Some(id) = self.ids.remove(name) {
            self.neighbors.forget_port(id);
            self.release_port(&old, id);
            let gleaned = core::mem::take(&mut self.gleaned);
            let (gone, kept) = gleaned.into_iter().partition(|(port, _)| *port == id);
            self.gleaned = kept;
            let gone: BTreeSet<(PortId, IpAddr)> = gone;
            gone.into_iter().for_each(|(port, address)| self.withdraw_gleaned(port, address));
            self.ports[id.index()] = None;
            self.retired_ids.push(id);
        }
        self.changed.ports.insert(old.name.clone());
        self.changed.tables = true;
        self.note_role(&old);
        Ok(())
    }

    /// The routes that a port brings with it.
    fn port_routes(spec: &PortSpec) -> Vec<(AnyPrefix, RouteSource, NextHop)> {
        let mut routes = Vec::new();
        match &spec.role {
            PortRole::Uplink { exclusive, addresses } => {
                for net in addresses {
                    let own = if *exclusive { NextHop::Local } else { NextHop::Host };
                    routes.push((host_prefix(net.addr()), RouteSource::Connected, own));
                    if net.prefix_len() < net.max_prefix_len() {
                        let connected = NextHop::Connected(spec.name.clone());
                        routes.push((net_prefix(net.trunc()), RouteSource::Connected, connected));
                    }
                }
            }
            PortRole::Pod { addresses, .. } => {
                for address in addresses {
                    let endpoint = NextHop::Endpoint(spec.name.clone());
                    routes.push((host_prefix(*address), RouteSource::Endpoint, endpoint));
                }
            }
            PortRole::Host { addresses } => {
                for address in addresses {
                    routes.push((host_prefix(*address), RouteSource::Connected, NextHop::Host));
                }
            }
        }
        routes
    }

    /// The VRF that a port is in.
    pub(super) fn port_vrf(&self, port: PortId) -> VrfId {
        let port = self.ports.get(port.index()).and_then(Option::as_ref);
        port.map_or(VrfId::DEFAULT, |port| port.vrf)
    }

    fn announce_port(&mut self, spec: &PortSpec) {
        let vrf = self.desired.vrf_of(&spec.name);
        for (prefix, source, next_hop) in Self::port_routes(spec) {
            self.announce_hop(vrf, prefix, source, next_hop);
        }
    }

    fn withdraw_port(&mut self, spec: &PortSpec) {
        let vrf = self.desired.vrf_of(&spec.name);
        for (prefix, source, _) in Self::port_routes(spec) {
            self.withdraw(vrf, prefix, source);
        }
    }
}

/// A port as the packet path sees it, without its policy.
fn compile(spec: &PortSpec, vrf: VrfId) -> Port {
    let (role, addresses) = match &spec.role {
        PortRole::Uplink { exclusive, .. } => (Role::Uplink { exclusive: *exclusive }, [].as_slice()),
        PortRole::Pod { addresses, .. } => (Role::Pod, addresses.as_slice()),
        PortRole::Host { addresses } => (Role::Host, addresses.as_slice()),
    };
    let v4 = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let v6 = addresses.iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    Port {
        name: spec.name.as_str().into(),
        role,
        mac: spec.mac,
        peer_mac: spec.peer_mac,
        mtu: spec.mtu,
        up: spec.up,
        vrf,
        addresses4: v4.collect(),
        addresses6: v6.collect(),
        policy: None,
        host_policy: None,
    }
}
