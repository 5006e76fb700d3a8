//! The typed form of the file: one struct a table, every value with its place.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use api::FailsafePort;
use ipnet::IpNet;

use super::diagnostics::{Place, Setting};
use super::pod::{PodField, PodSpec};

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// `[node]`.
    pub node: Node,
    /// `[memory]`.
    pub memory: Memory,
    /// `[workers]`.
    pub workers: Workers,
    /// `[ecmp]`.
    pub ecmp: Ecmp,
    /// `[[uplink]]`.
    pub uplinks: Vec<Uplink>,
    /// `[[pool]]`.
    pub pools: Vec<Pool>,
    /// `[[peer]]`.
    pub peers: Vec<Peer>,
    /// `[policy]`.
    pub policy: Policy,
    /// `[[route]]`.
    pub routes: Vec<StaticRoute>,
    /// `[[pod]]`.
    pub pods: Vec<Pod>,
}

/// The node and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// The node's name, an RFC 1123 subdomain.
    pub name: Setting<String>,
    /// Path of the API's Unix socket.
    pub api: Setting<PathBuf>,
    /// Where Prometheus metrics are served.
    pub metrics: Setting<SocketAddr>,
    /// Directory of what must outlive a restart.
    pub state_dir: Setting<PathBuf>,
    /// The node's own blocks of pod addresses, inside the pools.
    pub blocks: Vec<Setting<IpNet>>,
}

/// The packet memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Packet frames in all.
    pub frames: Setting<u32>,
    /// Bytes of a frame: 2048 or 4096.
    pub frame_size: Setting<u32>,
    /// Flows that are tracked at a time, 127.2 bytes each.
    pub flows: Setting<u32>,
}

/// The forwarding threads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Workers {
    /// Cores, one worker each; distinct and present.
    pub cores: Vec<Setting<usize>>,
    /// What a worker does without packets.
    pub idle: Setting<IdleMode>,
}

/// What a worker does while no packets come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IdleMode {
    /// It spins.
    Poll,
    /// It spins for a while, naps, then blocks.
    Adaptive,
    /// It blocks at once.
    Interrupt,
}

impl IdleMode {
    /// The modes by name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("poll", Self::Poll), ("adaptive", Self::Adaptive), ("interrupt", Self::Interrupt)];
}

/// How flows are spread over next hops of equal cost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ecmp {
    /// Whether packets of tunnels that pass through are told apart by the flows inside.
    pub inner: Setting<bool>,
    /// Seed of the hash; 0: one of the router's own.
    pub seed: Setting<u32>,
}

/// A port to the network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uplink {
    /// The network device, present or to come.
    pub device: Setting<String>,
    /// Which rung of the AF_XDP ladder is wanted, or packet sockets.
    pub mode: Setting<UplinkMode>,
    /// Whether the host's stack keeps its traffic on the device.
    pub sharing: Setting<Sharing>,
    /// Destinations to take beside the node's own, in host sharing.
    pub forward: Vec<Setting<IpNet>>,
    /// The router's addresses on the link; empty: the device's own.
    pub addresses: Vec<Setting<IpNet>>,
    /// Other hosts whose tunnel packets stay with the kernel.
    pub foreign_tunnels: Vec<Setting<IpAddr>>,
    /// MTU in bytes; 0: the device's.
    pub mtu: Setting<u32>,
    /// The VRF that it is in; `None`: the default one.
    pub vrf: Option<Setting<String>>,
    /// The table.
    pub place: Place,
}

/// Rungs of the AF_XDP ladder, and what stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UplinkMode {
    /// The best that the device does.
    Auto,
    /// Zero-copy or nothing.
    ZeroCopy,
    /// Copies, by the driver's own XDP.
    Copy,
    /// Copies, by the kernel's generic XDP: any device.
    Generic,
    /// Packet sockets, which carry super-packets: any device.
    PacketSocket,
}

impl UplinkMode {
    /// The modes by name.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("auto", Self::Auto),
        ("zero-copy", Self::ZeroCopy),
        ("copy", Self::Copy),
        ("generic", Self::Generic),
        ("packet-socket", Self::PacketSocket),
    ];
}

/// Who owns the traffic of an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sharing {
    /// The kernel keeps all that is not the router's.
    Host,
    /// All of it is the router's.
    Exclusive,
}

impl Sharing {
    /// The kinds by name.
    pub const NAMES: [(&'static str, Self); 2] = [("host", Self::Host), ("exclusive", Self::Exclusive)];
}

/// An IP pool.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pool {
    /// The pool, as `vrctl get ippool` shows it.
    pub resource: api::IpPool,
    /// The table's `cidr`.
    pub place: Place,
}

/// A tunnel peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its outer address.
    pub address: Setting<IpAddr>,
}

/// Policy as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Refuse what cannot be enforced, rather than report it.
    pub fail_closed: Setting<bool>,
    /// Whether workloads may send from the prefixes that their `allowSpoofedSourcePrefixes` name.
    pub workload_source_spoofing: Setting<bool>,
    /// Ports of the node that no policy of its host endpoints closes.
    pub failsafe_inbound_host_ports: Vec<Setting<FailsafePort>>,
    /// Ports of others that no policy of the node's host endpoints closes.
    pub failsafe_outbound_host_ports: Vec<Setting<FailsafePort>>,
}

/// A static route.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StaticRoute {
    /// The route, as `vrctl get route` shows it.
    pub resource: api::Route,
    /// The table's `prefix`.
    pub place: Place,
    /// The table's `vrf`.
    pub vrf_place: Place,
}

/// A pod to attach at start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pod {
    /// What is to be attached.
    pub spec: PodSpec,
    /// The table.
    pub place: Place,
    /// Of `name`.
    pub name_place: Place,
    /// Of `netns`.
    pub netns_place: Place,
    /// Of `interface`.
    pub interface_place: Place,
    /// Of `labels`.
    pub labels_place: Place,
    /// Of `addresses` as a whole.
    pub addresses_place: Place,
    /// Of each address.
    pub address_places: Vec<Place>,
}

impl Pod {
    /// Where a field of the pod stands.
    pub fn place_of(&self, field: PodField) -> &Place {
        match field {
            PodField::Name => &self.name_place,
            PodField::Netns => &self.netns_place,
            PodField::Interface => &self.interface_place,
            PodField::Addresses => &self.addresses_place,
            PodField::Address(index) => self.address_places.get(index).unwrap_or(&self.addresses_place),
            PodField::Labels => &self.labels_place,
        }
    }
}
