//! The desired state: plain data, as sources gave it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};

use api::EndpointPort;
use encap::wire::ethernet::MacAddr;
use fib::{AnyPrefix, RouteSource};
use ipnet::IpNet;

use crate::ids::VrfId;

/// What a port is for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PortRole {
    /// A port to the network.
    Uplink {
        /// The kernel has no part in it: all traffic is ours.
        exclusive: bool,
        /// The node's addresses there, each with the length of its connected prefix.
        addresses: Vec<IpNet>,
    },
    /// A workload endpoint.
    Pod {
        /// Its addresses.
        addresses: Vec<IpAddr>,
        /// What policy knows of it.
        workload: Workload,
    },
    /// The way into the node's own stack.
    Host {
        /// Addresses of the node that are reached there, beside those of shared uplinks.
        addresses: Vec<IpAddr>,
    },
}

/// A workload endpoint, as selectors and rules see it. Namespace and name are those of the port's name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Workload {
    /// Its own labels.
    pub labels: BTreeMap<String, String>,
    /// Its service account, empty without one.
    pub service_account: String,
    /// Its profiles, in order; without any it is denied where no policy decides.
    pub profiles: Vec<String>,
    /// Its named ports.
    pub ports: Vec<EndpointPort>,
}

impl Workload {
    /// A workload with the profile of its namespace, which allows, as Kubernetes' pods have it.
    pub fn of_namespace(namespace: &str) -> Self {
        Workload { profiles: vec![format!("kns.{namespace}")], ..Workload::default() }
    }
}

/// A port as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortSpec {
    /// Unique name; of a pod `namespace/name`, or a bare name in namespace `default`.
    pub name: String,
    /// What it is for.
    pub role: PortRole,
    /// Our MAC address there.
    pub mac: MacAddr,
    /// MAC address of the one station behind it (pod and host ports).
    pub peer_mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Whether it can transmit.
    pub up: bool,
}

impl PortSpec {
    /// A pod port with the gateway's MAC address, no labels, and the profile of its namespace.
    pub fn pod(name: &str, peer_mac: MacAddr, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        PortSpec {
            name: name.to_owned(),
            role: PortRole::Pod {
                addresses: addresses.into_iter().collect(),
                workload: Workload::of_namespace(name.split_once('/').map_or("default", |(ns, _)| ns)),
            },
            mac: crate::tables::GATEWAY_MAC,
            peer_mac,
            mtu: 1500,
            up: true,
        }
    }

    /// An uplink that is all ours.
    pub fn uplink(name: &str, mac: MacAddr, addresses: impl IntoIterator<Item = IpNet>) -> Self {
        PortSpec {
            name: name.to_owned(),
            role: PortRole::Uplink { exclusive: true, addresses: addresses.into_iter().collect() },
            mac,
            peer_mac: MacAddr::ZERO,
            mtu: 1500,
            up: true,
        }
    }
}

/// When a pool's traffic between nodes is encapsulated by IPIP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IpipMode {
    /// Never: plain packets.
    #[default]
    Never,
    /// Only toward nodes in another subnet.
    CrossSubnet,
    /// Always.
    Always,
}

/// An IP pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// The name it was given, if any.
    pub name: String,
    /// Its prefix.
    pub cidr: IpNet,
    /// Encapsulation of what goes to addresses of the pool.
    pub ipip_mode: IpipMode,
}

/// Encapsulation that a route asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Encap {
    /// What the pool says.
    #[default]
    Pool,
    /// None.
    None,
    /// IPIP.
    Ipip,
}

/// Where a route leads.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RouteTarget {
    /// To these next hops, at equal cost.
    Via(Vec<IpAddr>, Encap),
    /// To these next hops, each with its share of the flows: a weight from 1 on.
    Weighted(Vec<(IpAddr, u32)>, Encap),
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere, answered "host unreachable".
    Unreachable,
    /// Nowhere, answered "prohibited".
    Prohibit,
}

/// A route as a source announces it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteSpec {
    /// What to match.
    pub prefix: AnyPrefix,
    /// Who says so.
    pub source: RouteSource,
    /// Where it leads.
    pub target: RouteTarget,
    /// The source's measure: lower wins.
    pub metric: u32,
}

/// All of it but the routes, which live in the RIB.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Ports by name.
    pub ports: BTreeMap<String, PortSpec>,
    /// Pools by prefix.
    pub pools: BTreeMap<IpNet, Pool>,
    /// Peers by configuration.
    pub peers: BTreeSet<Ipv4Addr>,
    /// This node's blocks.
    pub blocks: Vec<IpNet>,
    /// VRFs beside the default one, in the order of their numbers: the first is number 1.
    pub vrfs: Vec<String>,
    /// The VRFs of ports that are in another than the default one.
    pub port_vrfs: BTreeMap<String, VrfId>,
}

impl Desired {
    /// The pool that holds a prefix.
    pub fn pool_of(&self, prefix: &IpNet) -> Option<&Pool> {
        self.pools.values().find(|pool| pool.cidr.contains(prefix))
    }

    /// The mode of the pool that holds a prefix; `Never` outside all pools.
    pub fn pool_mode(&self, prefix: &AnyPrefix) -> IpipMode {
        self.pool_of(&to_ipnet(prefix)).map_or(IpipMode::Never, |pool| pool.ipip_mode)
    }

    /// As [`pool_mode`](Self::pool_mode), for a prefix of a VRF: pools are the default VRF's.
    pub fn pool_mode_in(&self, vrf: VrfId, prefix: &AnyPrefix) -> IpipMode {
        if vrf == VrfId::DEFAULT { self.pool_mode(prefix) } else { IpipMode::Never }
    }

    /// The number of a VRF by its name; the default one has the name "".
    pub fn vrf(&self, name: &str) -> Option<VrfId> {
        if name.is_empty() {
            return Some(VrfId::DEFAULT);
        }
        self.vrfs.iter().position(|known| known == name).map(|at| VrfId(at as u16 + 1))
    }

    /// The name of a VRF.
    pub fn vrf_name(&self, id: VrfId) -> &str {
        id.index().checked_sub(1).and_then(|at| self.vrfs.get(at)).map_or("", String::as_str)
    }

    /// The VRF that a port is in.
    pub fn vrf_of(&self, port: &str) -> VrfId {
        self.port_vrfs.get(port).copied().unwrap_or(VrfId::DEFAULT)
    }

    /// The uplinks of a VRF with their addresses.
    pub fn uplinks_of(&self, vrf: VrfId) -> impl Iterator<Item = (&PortSpec, &[IpNet])> {
        let of = self.uplinks().filter(move |(port, ..)| self.vrf_of(&port.name) == vrf);
        of.map(|(port, _, addresses)| (port, addresses))
    }

    /// Uplinks of all VRFs with their addresses.
    pub fn uplinks(&self) -> impl Iterator<Item = (&PortSpec, bool, &[IpNet])> {
        self.ports.values().filter_map(|port| match &port.role {
            PortRole::Uplink { exclusive, addresses } => Some((port, *exclusive, addresses.as_slice())),
            _ => None,
        })
    }

    /// The host port.
    pub fn host_port(&self) -> Option<&PortSpec> {
        self.ports.values().find(|port| matches!(port.role, PortRole::Host { .. }))
    }

    /// The uplink of a VRF whose connected prefix holds `address`, longest prefix first.
    pub fn uplink_toward(&self, vrf: VrfId, address: IpAddr) -> Option<&PortSpec> {
        self.uplinks_of(vrf)
            .flat_map(|(port, addresses)| addresses.iter().map(move |net| (port, net)))
            .filter(|(_, net)| net.contains(&address))
            .max_by_key(|(_, net)| net.prefix_len())
            .map(|(port, _)| port)
    }

    /// The node's IPv4 address toward `remote`: on the same subnet if there is one.
    pub fn source_toward(&self, remote: Ipv4Addr) -> Option<Ipv4Addr> {
        let v4 = |net: &IpNet| match net.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        };
        let all = || self.uplinks_of(VrfId::DEFAULT).flat_map(|(_, addresses)| addresses);
        all().filter(|net| net.contains(&IpAddr::V4(remote))).find_map(v4).or_else(|| all().find_map(v4))
    }

    /// The node's first global address on an uplink of a VRF, for ICMPv6 errors.
    pub fn first_v6(&self, vrf: VrfId) -> Option<Ipv6Addr> {
        self.uplinks_of(vrf).flat_map(|(_, addresses)| addresses).find_map(|net| match net.addr() {
            IpAddr::V6(address) if address.segments()[0] & 0xffc0 != 0xfe80 => Some(address),
            _ => None,
        })
    }

    /// The node's first IPv4 address on an uplink of a VRF: tunnels and ICMP errors.
    pub fn first_v4(&self, vrf: VrfId) -> Option<Ipv4Addr> {
        self.uplinks_of(vrf).flat_map(|(_, addresses)| addresses).find_map(|net| match net.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }
}

/// A prefix of the FIB as the type that configuration uses.
pub fn to_ipnet(prefix: &AnyPrefix) -> IpNet {
    // A prefix is never longer than its family's addresses, which is all that `IpNet` asks.
    match prefix {
        AnyPrefix::V4(prefix) => IpNet::V4(ipnet::Ipv4Net::new_assert(prefix.addr(), prefix.len())),
        AnyPrefix::V6(prefix) => IpNet::V6(ipnet::Ipv6Net::new_assert(prefix.addr(), prefix.len())),
    }
}
