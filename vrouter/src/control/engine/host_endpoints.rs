//! Which host endpoint is at which port.
//!
//! | port | endpoints of this node that may be there, the first that is |
//! |---|---|
//! | uplink | the one that names the device; the one without a device that expects an address of it; `*` |
//! | host port | `*` |
//!
//! Of several alike the first by name.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use acl::{Direction, ProgramId};
use api::{HostEndpoint, Resource};

use super::Engine;
use crate::control::desired::{PortRole, PortSpec};
use crate::control::policy::EndpointKey;
use crate::ids::PortId;
use crate::tables::{HostPolicy, Port};

/// The name of all interfaces.
const ALL: &str = "*";

/// Where a host endpoint is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    node: String,
    interface: String,
    addresses: Vec<IpAddr>,
}

impl Place {
    fn of(endpoint: &HostEndpoint) -> Self {
        let spec = &endpoint.spec;
        Place {
            node: spec.node.clone(),
            interface: spec.interface_name.clone(),
            addresses: spec.expected_ips.clone(),
        }
    }

    /// How well the place fits a port: the lowest is best; `None`: it is elsewhere.
    fn rank(&self, spec: &PortSpec) -> Option<u8> {
        let is_all = self.interface == ALL;
        match &spec.role {
            PortRole::Uplink { .. } if self.interface == spec.name => Some(0),
            PortRole::Uplink { addresses, .. } if self.interface.is_empty() => {
                let expected = addresses.iter().any(|net| self.addresses.contains(&net.addr()));
                expected.then_some(1)
            }
            PortRole::Uplink { .. } | PortRole::Host { .. } if is_all => Some(2),
            _ => None,
        }
    }
}

/// The host endpoints that are known, and the node's name.
#[derive(Clone, Debug, Default)]
pub(super) struct HostEndpoints {
    node: Option<String>,
    places: BTreeMap<String, Place>,
}

impl HostEndpoints {
    pub(super) fn put(&mut self, resource: &Resource) {
        if let Resource::HostEndpoint(endpoint) = resource {
            self.places.insert(endpoint.metadata.name.clone(), Place::of(endpoint));
        }
    }

    pub(super) fn remove(&mut self, resource: &Resource) {
        if let Resource::HostEndpoint(endpoint) = resource {
            self.places.remove(&endpoint.metadata.name);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn is_here(&self, place: &Place) -> bool {
        self.node.as_ref().is_none_or(|node| *node == place.node)
    }

    /// The endpoint at a port, and whether it is all interfaces.
    fn at(&self, spec: &PortSpec) -> Option<(&str, bool)> {
        let here = self.places.iter().filter(|(_, place)| self.is_here(place));
        let ranked = here.filter_map(|(name, place)| Some((place.rank(spec)?, name, place)));
        let (_, name, place) = ranked.min_by_key(|(rank, name, _)| (*rank, *name))?;
        Some((name, place.interface == ALL))
    }
}

/// Where a host endpoint of this node is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HostPlace {
    /// Exclusive uplinks.
    pub exclusive: Vec<String>,
    /// Uplinks that the kernel shares.
    pub shared: Vec<String>,
    /// It is all interfaces.
    pub is_all: bool,
}

impl Engine {
    pub(super) fn set_node(&mut self, name: String) {
        self.policy.hosts.node = Some(name);
        self.policy.touch();
    }

    fn host_policy(&self, spec: &PortSpec) -> Option<HostPolicy> {
        let (name, wildcard) = self.policy.hosts.at(spec)?;
        let programs = self.policy.world().host_programs(name)?;
        let one = |id: ProgramId| self.policy.world().engine().program(id).cloned();
        let some = |id: Option<ProgramId>| id.and_then(one);
        Some(HostPolicy {
            wildcard,
            normal: programs.normal.map(one),
            forward: programs.forward.map(some),
            untracked: programs.untracked.map(some),
            pre_dnat: [programs.pre_dnat.and_then(one), None],
        })
    }

    /// Gives uplinks and the host port the policy of their host endpoints. Returns whether any changed.
    pub(super) fn renew_host_policy(&mut self) -> bool {
        debug_assert!(Direction::Ingress as usize == 0);
        let mut changed = false;
        for at in 0..self.ports.len() {
            let Some(port) = self.ports[at].clone() else { continue };
            let new = self.desired.ports.get(&*port.name).and_then(|spec| self.host_policy(spec));
            let same = match (&port.host_policy, &new) {
                (Some(old), Some(new)) => old.is_same(new),
                (None, None) => true,
                _ => false,
            };
            if !same {
                self.ports[at] = Some(Arc::new(Port { host_policy: new.map(Arc::new), ..(*port).clone() }));
                self.policy.raise(PortId(at as u16), true, true);
                changed = true;
            }
        }
        changed
    }

    /// The ports at which any of these endpoints is.
    pub(super) fn ports_of_hosts(&self, endpoints: &[EndpointKey]) -> Vec<PortId> {
        let concerned = |spec: &PortSpec| {
            let at = self.policy.hosts.at(spec);
            at.is_some_and(|(name, _)| endpoints.contains(&EndpointKey::Host { name: name.to_owned() }))
        };
        let ports = self.desired.ports.values().filter(|spec| concerned(spec));
        ports.filter_map(|spec| self.port_id(&spec.name)).collect()
    }

    /// Where each host endpoint of this node is, if these are all that there are.
    pub fn host_places<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a HostEndpoint>,
    ) -> BTreeMap<String, HostPlace> {
        let mut hosts = HostEndpoints { node: self.policy.hosts.node.clone(), places: BTreeMap::new() };
        hosts.places.extend(endpoints.map(|one| (one.metadata.name.clone(), Place::of(one))));
        let here = hosts.places.iter().filter(|(_, place)| hosts.is_here(place));
        let mut out: BTreeMap<String, HostPlace> = here
            .map(|(name, place)| {
                (name.clone(), HostPlace { is_all: place.interface == ALL, ..HostPlace::default() })
            })
            .collect();
        for spec in self.desired.ports.values() {
            let PortRole::Uplink { exclusive, .. } = spec.role else { continue };
            let Some(place) = hosts.at(spec).and_then(|(name, _)| out.get_mut(name)) else { continue };
            let list = if exclusive { &mut place.exclusive } else { &mut place.shared };
            list.push(spec.name.clone());
        }
        out
    }
}
