//! Host endpoints at the router's ports: which one is where, and its programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use acl::{Direction, ProgramId};
use api::{HostEndpoint, Resource};

use super::Engine;
use crate::control::desired::{PortRole, PortSpec};
use crate::control::policy::EndpointKey;
use crate::control::policy::host_places::{HostPlaces, Interface, InterfaceKind};
use crate::ids::PortId;
use crate::tables::{HostPolicy, Port};

/// The device of a port, if a host endpoint may be there.
pub(super) fn interface(spec: &PortSpec) -> Option<Interface> {
    let (kind, addresses) = match &spec.role {
        PortRole::Uplink { exclusive, addresses } => {
            (InterfaceKind::Uplink { own: *exclusive }, addresses.iter().map(ipnet::IpNet::addr).collect())
        }
        PortRole::Host { addresses } => (InterfaceKind::Host, addresses.clone()),
        PortRole::Pod { .. } => return None,
    };
    Some(Interface { name: spec.name.clone(), kind, addresses })
}

/// Where a host endpoint of this node is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HostPorts {
    /// Exclusive uplinks.
    pub exclusive: Vec<String>,
    /// Uplinks that the kernel shares.
    pub shared: Vec<String>,
    /// It is all interfaces.
    pub is_all: bool,
}

impl Engine {
    pub(super) fn set_node(&mut self, name: String) {
        self.policy.hosts.set_node(name);
        self.policy.touch();
    }

    fn host_policy(&self, spec: &PortSpec) -> Option<HostPolicy> {
        let (name, place) = self.policy.hosts.at(&interface(spec)?)?;
        let programs = self.policy.world().host_programs(name)?;
        let one = |id: ProgramId| self.policy.world().engine().program(id).cloned();
        let some = |id: Option<ProgramId>| id.and_then(one);
        Some(HostPolicy {
            wildcard: place.is_all(),
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
            let interface = interface(spec);
            let at = interface.as_ref().and_then(|interface| self.policy.hosts.at(interface));
            at.is_some_and(|(name, _)| endpoints.contains(&EndpointKey::Host { name: name.to_owned() }))
        };
        let ports = self.desired.ports.values().filter(|spec| concerned(spec));
        ports.filter_map(|spec| self.port_id(&spec.name)).collect()
    }

    /// Where each host endpoint of this node is, if these are all that there are.
    pub fn host_ports<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a HostEndpoint>,
    ) -> BTreeMap<String, HostPorts> {
        let mut hosts = HostPlaces::new(self.policy.hosts.node().cloned());
        endpoints.for_each(|one| hosts.put(&Resource::HostEndpoint(one.clone())));
        let mut out: BTreeMap<String, HostPorts> = hosts
            .here()
            .map(|(name, place)| {
                (name.to_owned(), HostPorts { is_all: place.is_all(), ..HostPorts::default() })
            })
            .collect();
        for found in self.desired.ports.values().filter_map(interface) {
            let InterfaceKind::Uplink { own } = found.kind else { continue };
            let Some(ports) = hosts.at(&found).and_then(|(name, _)| out.get_mut(name)) else { continue };
            let list = if own { &mut ports.exclusive } else { &mut ports.shared };
            list.push(found.name);
        }
        out
    }
}
