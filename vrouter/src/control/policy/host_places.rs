//! Which host endpoint is at which device of the node.
//!
//! | device | endpoints of this node that may be there, the first that is |
//! |---|---|
//! | uplink | the one that names the device; the one without a device that expects an address of it; `*` |
//! | host port | `*` |
//!
//! Of several alike the first by name.

use core::net::IpAddr;
use std::collections::BTreeMap;

use api::{HostEndpoint, Resource};

/// The name of all interfaces.
const ALL: &str = "*";

/// A device of the node at which a host endpoint may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What passes it.
    pub kind: InterfaceKind,
    /// The node's addresses there.
    pub addresses: Vec<IpAddr>,
}

/// What passes a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InterfaceKind {
    /// Packets from and to the network; `own`: those of the node itself are among them.
    Uplink {
        /// The uplink is exclusive.
        own: bool,
    },
    /// Packets from and to the node's own stack.
    Host,
}

/// Where a host endpoint is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPlace {
    /// Its node.
    pub node: String,
    /// The device it names, `*` for all, or nothing.
    pub interface: String,
    /// Addresses by which it is known.
    pub addresses: Vec<IpAddr>,
}

impl HostPlace {
    fn of(endpoint: &HostEndpoint) -> Self {
        let spec = &endpoint.spec;
        HostPlace {
            node: spec.node.clone(),
            interface: spec.interface_name.clone(),
            addresses: spec.expected_ips.clone(),
        }
    }

    /// Whether it is all interfaces.
    pub fn is_all(&self) -> bool {
        self.interface == ALL
    }

    /// How well the place fits a device: the lowest is best; `None`: it is elsewhere.
    fn rank(&self, interface: &Interface) -> Option<u8> {
        let uplink = matches!(interface.kind, InterfaceKind::Uplink { .. });
        if uplink && self.interface == interface.name {
            Some(0)
        } else if uplink && self.interface.is_empty() {
            interface.addresses.iter().any(|address| self.addresses.contains(address)).then_some(1)
        } else {
            self.is_all().then_some(2)
        }
    }
}

/// The host endpoints that are known, and the node's name.
#[derive(Clone, Debug, Default)]
pub struct HostPlaces {
    node: Option<String>,
    places: BTreeMap<String, HostPlace>,
}

impl HostPlaces {
    /// Without endpoints; `node: None`: every endpoint is this node's.
    pub fn new(node: Option<String>) -> Self {
        HostPlaces { node, places: BTreeMap::new() }
    }

    /// The node's name.
    pub fn node(&self) -> Option<&String> {
        self.node.as_ref()
    }

    /// Changes the node's name.
    pub fn set_node(&mut self, name: String) {
        self.node = Some(name);
    }

    /// Adds or changes an endpoint; other resources change nothing.
    pub fn put(&mut self, resource: &Resource) {
        if let Resource::HostEndpoint(endpoint) = resource {
            self.places.insert(endpoint.metadata.name.clone(), HostPlace::of(endpoint));
        }
    }

    /// Removes an endpoint.
    pub fn remove(&mut self, resource: &Resource) {
        if let Resource::HostEndpoint(endpoint) = resource {
            self.places.remove(&endpoint.metadata.name);
        }
    }

    /// Whether there is no endpoint of any node.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The endpoints of this node by name.
    pub fn here(&self) -> impl Iterator<Item = (&str, &HostPlace)> {
        let here =
            |(_, place): &(&String, &HostPlace)| self.node.as_ref().is_none_or(|node| *node == place.node);
        self.places.iter().filter(here).map(|(name, place)| (name.as_str(), place))
    }

    /// The endpoint at a device, and where it is.
    pub fn at(&self, interface: &Interface) -> Option<(&str, &HostPlace)> {
        let ranked = self.here().filter_map(|(name, place)| Some((place.rank(interface)?, name, place)));
        let (_, name, place) = ranked.min_by_key(|(rank, name, _)| (*rank, *name))?;
        Some((name, place))
    }
}
