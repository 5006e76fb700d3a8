//! Who is asked about a packet, and in which order.
//!
//! ```text
//!   from          asked                                              of
//!   a workload    egress                                             the workload
//!   the network   untracked, pre-DNAT, then normal if it is for      the host endpoint where it enters
//!                 the node itself, else forward: ingress
//!   the node      untracked, then normal: egress                     the host endpoint where it leaves
//!
//!   to
//!   a workload    ingress, unless the node itself sent it            the workload
//!   the network   forward egress, unless the node itself sent it     the host endpoint where it leaves
//!   the node      normal ingress, if a workload sent it              the host endpoint of all interfaces
//! ```
//!
//! Of a host endpoint's stages the first that decides ends the questions there. This is the order of the
//! packet path (`pipeline::source_policy`, `host_policy`, `dest_policy`), which works on whole bursts; that
//! the two agree is tested with packets. The node's own packets are asked about on exclusive uplinks alone,
//! and of what crosses a tunnel only an endpoint of all interfaces.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use acl::{Direction, ProgramId};
use api::Resource;

use super::endpoint::{EndpointKey, Stage};
use super::host_places::{HostPlaces, Interface, InterfaceKind};
use super::world::PolicyWorld;

/// Where a packet comes from or goes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// A workload of this node.
    Workload(EndpointKey),
    /// The node itself.
    Node,
    /// A device.
    Interface {
        /// Its name.
        name: String,
        /// By a tunnel.
        tunnelled: bool,
    },
    /// Nobody knows: no host endpoint is asked.
    Elsewhere,
}

/// The two ends of a packet's way through the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    /// Where it comes from.
    pub source: Way,
    /// Where it goes to.
    pub destination: Way,
}

/// The node around a policy world: what is local, and where host endpoints are.
#[derive(Clone, Debug, Default)]
pub struct NodeView {
    /// Devices, each with its host endpoint and whether that is all interfaces.
    devices: Vec<(Interface, Option<(String, bool)>)>,
    /// The node's own addresses.
    own: Vec<IpAddr>,
    /// Workloads of this node; `None`: all are.
    local: Option<BTreeSet<EndpointKey>>,
}

/// The device of the node's own stack in a view made of resources.
const HOST_PORT: &str = "host";

impl NodeView {
    /// A node with these devices, addresses and workloads.
    pub fn new(
        devices: impl IntoIterator<Item = Interface>,
        hosts: &HostPlaces,
        own: Vec<IpAddr>,
        local: BTreeSet<EndpointKey>,
    ) -> Self {
        let placed = |device: Interface| {
            let at = hosts.at(&device).map(|(name, place)| (name.to_owned(), place.is_all()));
            (device, at)
        };
        NodeView { devices: devices.into_iter().map(placed).collect(), own, local: Some(local) }
    }

    /// A node of which only resources tell: each host endpoint is a device that enforces all of it, every
    /// workload is local. `node`: of the endpoints of several nodes, whose count.
    ///
    /// # Errors
    /// The nodes that there are, where none is given and there are several.
    pub fn of_resources(resources: &[Resource], node: Option<&str>) -> Result<Self, BTreeSet<String>> {
        let mut hosts = HostPlaces::new(node.map(str::to_owned));
        resources.iter().for_each(|resource| hosts.put(resource));
        let nodes: BTreeSet<String> = hosts.here().map(|(_, place)| place.node.clone()).collect();
        if nodes.len() > 1 {
            return Err(nodes);
        }
        // One device for each name; those of endpoints without one are called as the endpoint.
        let mut devices: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for (name, place) in hosts.here() {
            let device = if place.interface.is_empty() { name } else { &place.interface };
            devices.entry(device.to_owned()).or_default().extend(&place.addresses);
        }
        let own = devices.values().flatten().copied().collect();
        let uplinks = devices.into_iter().map(|(name, addresses)| Interface {
            name,
            kind: InterfaceKind::Uplink { own: true },
            addresses,
        });
        let host = Interface { name: HOST_PORT.to_owned(), kind: InterfaceKind::Host, addresses: Vec::new() };
        let view = NodeView::new(uplinks.chain([host]), &hosts, own, BTreeSet::new());
        Ok(NodeView { local: None, ..view })
    }

    /// Whether an address is the node's own.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    pub(super) fn is_local(&self, key: &EndpointKey) -> bool {
        self.local.as_ref().is_none_or(|local| local.contains(key))
    }

    /// The addresses of the node at a device, or at a host endpoint; those of all interfaces are all.
    pub(super) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let is = |(device, at): &&(Interface, Option<(String, bool)>)| {
            device.name == name || at.as_ref().is_some_and(|(endpoint, _)| endpoint == name)
        };
        let mut found = self.devices.iter().filter(is).peekable();
        let (_, at) = found.peek()?;
        let all = at.as_ref().is_some_and(|(endpoint, all)| *all && endpoint == name);
        Some(if all {
            self.own.clone()
        } else {
            found.flat_map(|(device, _)| device.addresses.clone()).collect()
        })
    }

    /// The uplink of a name, or of a host endpoint's name.
    pub(super) fn uplink(&self, name: &str) -> Option<&str> {
        let named = |(device, at): &&(Interface, Option<(String, bool)>)| {
            device.name == name || at.as_ref().is_some_and(|(endpoint, _)| endpoint == name)
        };
        self.uplinks().find(named).map(|(device, _)| device.name.as_str())
    }

    fn uplinks(&self) -> impl Iterator<Item = &(Interface, Option<(String, bool)>)> {
        self.devices.iter().filter(|(device, _)| matches!(device.kind, InterfaceKind::Uplink { .. }))
    }

    /// Where what comes from or goes to an address that is not here passes, as far as resources tell: by
    /// the only uplink, or that of the other end's address.
    ///
    /// # Errors
    /// The uplinks that it might be, where it matters which.
    pub(super) fn way_of(&self, world: &PolicyWorld, other_end: IpAddr) -> Result<Option<&str>, Vec<String>> {
        let mut uplinks = self.uplinks();
        if let (Some((only, _)), None) = (uplinks.next(), uplinks.next()) {
            return Ok(Some(&only.name));
        }
        if let Some((at, _)) = self.uplinks().find(|(device, _)| device.addresses.contains(&other_end)) {
            return Ok(Some(&at.name));
        }
        let asked = |(_, at): &(Interface, Option<(String, bool)>)| {
            let programs = at.as_ref().and_then(|(name, _)| world.host_programs(name));
            programs.is_some_and(|programs| {
                let stages =
                    programs.forward.into_iter().chain(programs.untracked).chain([programs.pre_dnat]);
                stages.flatten().next().is_some()
            })
        };
        match self.uplinks().any(asked) {
            true => Err(self.uplinks().map(|(device, _)| device.name.clone()).collect()),
            false => Ok(None),
        }
    }

    fn device(&self, name: &str) -> Option<&(Interface, Option<(String, bool)>)> {
        self.devices.iter().find(|(device, _)| device.name == name)
    }

    /// The host endpoint at a device that has a say in what passes it.
    fn endpoint(&self, name: &str, tunnelled: bool) -> Option<(&Interface, &str)> {
        let (device, at) = self.device(name)?;
        let (endpoint, all) = at.as_ref()?;
        (*all || !tunnelled).then_some((device, endpoint))
    }
}

/// Whose answer it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// The source's.
    Source,
    /// A host endpoint's, of a packet that the node forwards.
    Between,
    /// The destination's.
    Destination,
}

/// A host endpoint that is asked.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct HostPoint {
    /// The endpoint.
    pub host_endpoint: String,
    /// The device.
    pub interface: String,
    /// `ingress` where packets enter the node, `egress` where they leave.
    pub direction: &'static str,
}

/// Programs of which the first that decides counts.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) side: Side,
    /// The host endpoint; `None`: it is a workload.
    pub(super) host: Option<HostPoint>,
    pub(super) programs: Vec<ProgramId>,
}

/// Who is asked about a packet on its way.
pub(super) fn asked(path: &Path, view: &NodeView, world: &PolicyWorld) -> Vec<Asked> {
    use Direction::{Egress, Ingress};
    let mut out = Vec::with_capacity(2);
    let workload = |side, key: &EndpointKey| {
        let programs = world.programs(key)?;
        let program = if side == Side::Source { programs.egress } else { programs.ingress };
        Some(Asked { side, host: None, programs: vec![program] })
    };
    let host = |side, (device, endpoint): (&Interface, &str), direction: Direction, stages: &[Stage]| {
        let programs = world.host_programs(endpoint)?;
        let at = direction as usize;
        let of_stage = |stage: &Stage| match stage {
            Stage::Normal => Some(programs.normal[at]),
            Stage::Forward => programs.forward[at],
            Stage::Untracked => programs.untracked[at],
            Stage::PreDnat => programs.pre_dnat,
        };
        let host_point = HostPoint {
            host_endpoint: endpoint.to_owned(),
            interface: device.name.clone(),
            direction: if direction == Ingress { "ingress" } else { "egress" },
        };
        let programs: Vec<ProgramId> = stages.iter().filter_map(of_stage).collect();
        (!programs.is_empty()).then_some(Asked { side, host: Some(host_point), programs })
    };
    let sees_own = |device: &Interface| device.kind == InterfaceKind::Uplink { own: true };
    let to_node = path.destination == Way::Node;
    match (&path.source, &path.destination) {
        (Way::Workload(key), _) => out.extend(workload(Side::Source, key)),
        (Way::Node, Way::Interface { name, tunnelled }) => {
            let at = view.endpoint(name, *tunnelled).filter(|(device, _)| sees_own(device));
            out.extend(at.and_then(|at| host(Side::Source, at, Egress, &[Stage::Untracked, Stage::Normal])));
        }
        (Way::Interface { name, tunnelled }, _) => {
            let at = view.endpoint(name, *tunnelled);
            let (side, stages): (_, &[Stage]) = match at {
                // What the kernel takes from a shared uplink for the node does not pass the router.
                Some((device, _)) if to_node && !sees_own(device) => {
                    (Side::Destination, if *tunnelled { &[Stage::Untracked, Stage::PreDnat] } else { &[] })
                }
                _ if to_node => (Side::Destination, &[Stage::Untracked, Stage::PreDnat, Stage::Normal]),
                _ => (Side::Between, &[Stage::Untracked, Stage::PreDnat, Stage::Forward]),
            };
            out.extend(at.and_then(|at| host(side, at, Ingress, stages)));
        }
        _ => {}
    }
    match (&path.source, &path.destination) {
        (Way::Node, _) => {}
        (_, Way::Workload(key)) => out.extend(workload(Side::Destination, key)),
        (Way::Workload(_), Way::Node) => {
            let stack = view.devices.iter().find(|(device, _)| device.kind == InterfaceKind::Host);
            let at = stack.and_then(|(device, _)| view.endpoint(&device.name, false));
            out.extend(at.and_then(|at| host(Side::Destination, at, Ingress, &[Stage::Normal])));
        }
        (_, Way::Interface { name, tunnelled }) => {
            let at = view.endpoint(name, *tunnelled);
            out.extend(at.and_then(|at| host(Side::Between, at, Egress, &[Stage::Forward])));
        }
        _ => {}
    }
    out
}
