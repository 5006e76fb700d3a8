//! Everything that the packet path reads.
//!
//! ```text
//!   Tables (immutable snapshot, adopted at a burst boundary)
//!    |- ports[PortId]         role, MACs, addresses a pod may use, policy
//!    |- fib4, fib6            prefix -> group id      (concurrent, changed in place)
//!    |- vrfs[VrfId]           the same for ports that have routes of their own
//!    |- groups[GroupId]       -> adjacency            or buckets of them (ECMP)
//!    |- adjacencies[..]       what to do: port, MAC, outer header, MTU
//!    |- neighbors             slot -> MAC             (concurrent, changed in place)
//!    |- policy                address -> class        (concurrent, changed in place)
//!    |                        flows                   (concurrent, changed by workers)
//!    '- tunnel_peers, icmp sources, trace filter
//! ```
//!
//! A route change touches the FIB in place, a neighbour's MAC one atomic word; a change of
//! next hops, of a port or a pool makes a new snapshot, which shares with the former one what
//! has not changed.

mod chunked;
mod policy;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use encap::tunnel::ipip::OuterIpv4;
use encap::wire::ethernet::MacAddr;
use fib::Fib;

use crate::drop_reason::DropReason;
pub use chunked::Chunked;
pub use policy::{
    FlowMemory, FlowTable, HostPolicy, HostStage, PolicyTables, PortPolicy, flow_capacity, flow_table,
    flow_table_in,
};

use crate::ids::{AdjacencyId, MAX_PORTS, NeighborSlot, PortId, TunnelId, VrfId};

/// The gateway's MAC address toward pods.
pub const GATEWAY_MAC: MacAddr = MacAddr([0xee; 6]);
/// The gateway's IPv4 address toward pods.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The gateway's IPv6 address toward pods: the link-local address of [`GATEWAY_MAC`].
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// What a port is to the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A port to the network. `exclusive`: all its traffic is ours, ARP and
    /// neighbour discovery included; otherwise the kernel shares it.
    Uplink {
        /// Whether the kernel has no part in this port.
        exclusive: bool,
    },
    /// A workload endpoint.
    Pod,
    /// The way into the node's own stack.
    Host,
}

/// A port, as the packet path sees it.
#[derive(Clone, Debug)]
pub struct Port {
    /// The name that operators know it by.
    pub name: Box<str>,
    /// What it is.
    pub role: Role,
    /// Our own MAC address there: source of what we send, destination of what we take.
    pub mac: MacAddr,
    /// The one station behind a pod or host port.
    pub peer_mac: MacAddr,
    /// Largest IP packet that the port takes, in bytes.
    pub mtu: u32,
    /// Whether packets may be sent there.
    pub up: bool,
    /// Whose routes packets take that enter here.
    pub vrf: VrfId,
    /// Source addresses that a pod may use (anti-spoof); unused on other roles.
    pub addresses4: Box<[Ipv4Addr]>,
    /// Source addresses that a pod may use (anti-spoof); unused on other roles.
    pub addresses6: Box<[Ipv6Addr]>,
    /// Policy of the workload endpoint; a pod without is denied both ways. Unused on other roles.
    pub policy: Option<PortPolicy>,
    /// Policy of the host endpoint at an uplink or the host port.
    pub host_policy: Option<Arc<HostPolicy>>,
}

impl Port {
    /// Whether a pod may send from an address that is not its own.
    #[inline]
    pub fn may_send_from(&self, source: IpAddr) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.may_send_from(source))
    }

    /// Whether packets of tunnels are taken that enter here: tunnels are the default VRF's.
    #[inline]
    pub fn ends_tunnels(&self) -> bool {
        matches!(self.role, Role::Uplink { .. }) && self.vrf == VrfId::DEFAULT
    }
}

/// What to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Drop it for this reason; `Unreachable` and `Prohibit` also answer by ICMP.
    Drop(DropReason),
    /// An address of the router itself: answer echo; other protocols go to
    /// `port` if it exists, else are answered "protocol unreachable".
    Receive,
    /// A connected prefix: the destination itself must be asked for on `port`.
    Glean,
    /// Send to the one station behind `port` (pod, host).
    Direct,
    /// Send to a neighbour whose MAC address is in a slot.
    Neighbor(NeighborSlot),
}

/// A resolved way to send a packet, shared by all routes that use it.
#[derive(Clone, Debug)]
pub struct Adjacency {
    /// What to do.
    pub action: Action,
    /// Output port; [`PortId::NONE`] where there is none.
    pub port: PortId,
    /// Largest IP packet before encapsulation, in bytes.
    pub mtu: u32,
    /// Source MAC address.
    pub source_mac: MacAddr,
    /// Destination MAC address of `Direct`.
    pub destination_mac: MacAddr,
    /// Outer header to put on, if the adjacency is a tunnel.
    pub tunnel: Option<OuterIpv4>,
    /// Whose counters the tunnel has.
    pub tunnel_id: TunnelId,
    /// Whether this is delivery to the node itself (no TTL decrement, RFC 1812 5.3.1).
    pub local: bool,
    /// The neighbour's address, for traces and unreachable reports.
    pub next_hop: Option<IpAddr>,
}

impl Adjacency {
    /// An adjacency that drops.
    pub fn dropping(reason: DropReason) -> Self {
        Adjacency {
            action: Action::Drop(reason),
            port: PortId::NONE,
            mtu: u32::MAX,
            source_mac: MacAddr([0; 6]),
            destination_mac: MacAddr([0; 6]),
            tunnel: None,
            tunnel_id: TunnelId::NONE,
            local: false,
            next_hop: None,
        }
    }
}

/// A next-hop group: the adjacencies among which flows are spread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Group {
    /// All flows to one.
    One(AdjacencyId),
    /// Flows by bucket, a power of two of them; see [`fib::Buckets`].
    Spread(Arc<[AdjacencyId]>),
}

impl Group {
    /// The way of a flow, whose hash is asked for only where it matters.
    #[inline]
    pub fn pick(&self, flow_hash: impl FnOnce() -> u32) -> AdjacencyId {
        match self {
            Group::One(adjacency) => *adjacency,
            // Multiply-shift: the hash's highest bits are the bucket.
            Group::Spread(buckets) => {
                buckets[((u64::from(flow_hash()) * buckets.len() as u64) >> 32) as usize]
            }
        }
    }
}

/// What is known of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighborState {
    /// Being asked for: packets wait.
    Unresolved,
    /// The MAC address to send to.
    Usable(MacAddr),
    /// Asked for in vain.
    Failed,
}

/// MAC addresses of neighbours, changed in place while workers read.
///
/// One word a slot: the MAC address in the low 48 bits, the state above.
#[derive(Debug)]
pub struct NeighborTable {
    slots: Box<[AtomicU64]>,
    version: AtomicU64,
}

impl NeighborTable {
    /// Slots of a table.
    pub const CAPACITY: usize = NeighborSlot::COUNT;
    const USABLE: u64 = 1 << 48;
    const FAILED: u64 = 2 << 48;

    /// A table in which every slot is unresolved.
    pub fn new() -> Self {
        NeighborTable {
            slots: (0..Self::CAPACITY).map(|_| AtomicU64::new(0)).collect(),
            version: AtomicU64::new(0),
        }
    }

    /// What is known of the neighbour in `slot`.
    #[inline]
    pub fn get(&self, slot: NeighborSlot) -> NeighborState {
        let word = self.slots[slot.index() % Self::CAPACITY].load(Ordering::Acquire);
        match word >> 48 {
            1 => NeighborState::Usable(MacAddr::from_u64(word & (Self::USABLE - 1))),
            2 => NeighborState::Failed,
            _ => NeighborState::Unresolved,
        }
    }

    /// Changes what is known; control alone calls this.
    pub fn set(&self, slot: NeighborSlot, state: NeighborState) {
        let word = match state {
            NeighborState::Unresolved => 0,
            NeighborState::Usable(mac) => Self::USABLE | mac.to_u64(),
            NeighborState::Failed => Self::FAILED,
        };
        let old = self.slots[slot.index() % Self::CAPACITY].swap(word, Ordering::Release);
        if old != word {
            self.touch();
        }
    }

    /// Makes packets that wait be tried again, after a change elsewhere (a route to
    /// a gleaned neighbour) has given them a way.
    pub fn touch(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Counts changes: while it stands still, packets that wait need not be tried again.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

impl Default for NeighborTable {
    fn default() -> Self {
        Self::new()
    }
}

/// Where tunnels end on this node, and from whom their packets are taken.
#[derive(Clone, Debug, Default)]
pub struct TunnelPeers {
    locals: Box<[Ipv4Addr]>,
    remotes: Box<[Ipv4Addr]>,
    /// In the order of `remotes`.
    ids: Box<[TunnelId]>,
}

impl TunnelPeers {
    /// Tunnels that end at `locals` and begin at any of `remotes`.
    pub fn new(
        locals: impl IntoIterator<Item = Ipv4Addr>,
        remotes: impl IntoIterator<Item = (Ipv4Addr, TunnelId)>,
    ) -> Self {
        let mut remotes: Vec<_> = remotes.into_iter().collect();
        remotes.sort_unstable();
        remotes.dedup_by_key(|(remote, _)| *remote);
        let (remotes, ids): (Vec<_>, Vec<_>) = remotes.into_iter().unzip();
        TunnelPeers { locals: locals.into_iter().collect(), remotes: remotes.into(), ids: ids.into() }
    }

    /// Whether tunnels end at this address of ours.
    #[inline]
    pub fn is_local(&self, address: Ipv4Addr) -> bool {
        self.locals.contains(&address)
    }

    /// The tunnel from `address`, if it may send us tunnel packets.
    #[inline]
    pub fn tunnel(&self, address: Ipv4Addr) -> Option<TunnelId> {
        self.remotes.binary_search(&address).ok().map(|at| self.ids[at])
    }

    /// The peers, sorted.
    pub fn remotes(&self) -> &[Ipv4Addr] {
        &self.remotes
    }
}

/// Which packets a trace or capture follows: all conditions hold, `None` holds always.
#[derive(Clone, Debug, Default)]
pub struct TraceFilter {
    /// Tells filters that are in force together apart; below
    /// [`TRACE_SLOTS`](crate::ids::TRACE_SLOTS).
    pub slot: u8,
    /// Source prefix as (address, length).
    pub source: Option<ipnet::IpNet>,
    /// Destination prefix.
    pub destination: Option<ipnet::IpNet>,
    /// Transport protocol.
    pub protocol: Option<u8>,
    /// Transport source port.
    pub source_port: Option<u16>,
    /// Transport destination port.
    pub destination_port: Option<u16>,
    /// Port where the packet enters or leaves.
    pub port: Option<PortId>,
    /// Only what is dropped.
    pub drops_only: bool,
}

/// The routes of a VRF beside the default one.
#[derive(Clone, Debug)]
pub struct VrfTables {
    /// IPv4 routes.
    pub fib4: Arc<Fib<Ipv4Addr>>,
    /// IPv6 routes.
    pub fib6: Arc<Fib<Ipv6Addr>>,
    /// Source of ICMP errors about its packets.
    pub icmp_source4: Ipv4Addr,
    /// Source of ICMPv6 errors about its packets.
    pub icmp_source6: Ipv6Addr,
}

/// Everything that the packet path reads, but for what changes in place.
#[derive(Clone, Debug)]
pub struct Tables {
    /// By [`PortId`]; `None` where no port has the number.
    pub ports: Box<[Option<Arc<Port>>]>,
    /// IPv4 routes.
    pub fib4: Arc<Fib<Ipv4Addr>>,
    /// IPv6 routes.
    pub fib6: Arc<Fib<Ipv6Addr>>,
    /// Other VRFs than the default one, whose routes are `fib4` and `fib6`: the first is number 1.
    pub vrfs: Arc<[VrfTables]>,
    /// By [`fib::GroupId`].
    pub groups: Chunked<Group>,
    /// By [`AdjacencyId`].
    pub adjacencies: Chunked<Adjacency>,
    /// MAC addresses by [`NeighborSlot`].
    pub neighbors: Arc<NeighborTable>,
    /// Whose tunnel packets are taken.
    pub tunnel_peers: Arc<TunnelPeers>,
    /// Source of ICMP errors that we send.
    pub icmp_source4: Ipv4Addr,
    /// Source of ICMPv6 errors that we send.
    pub icmp_source6: Ipv6Addr,
    /// What policy is asked with, and the flows that it has let pass.
    pub policy: PolicyTables,
    /// What traces and captures follow.
    pub trace: Box<[TraceFilter]>,
}

impl Tables {
    /// Tables that know no port and no route.
    pub fn empty(
        fib4: Arc<Fib<Ipv4Addr>>,
        fib6: Arc<Fib<Ipv6Addr>>,
        neighbors: Arc<NeighborTable>,
        policy: PolicyTables,
    ) -> Self {
        Tables {
            ports: Box::new([]),
            fib4,
            fib6,
            vrfs: Arc::default(),
            groups: Chunked::default(),
            adjacencies: Chunked::default(),
            neighbors,
            tunnel_peers: Arc::default(),
            icmp_source4: GATEWAY_V4,
            icmp_source6: GATEWAY_V6,
            policy,
            trace: Box::new([]),
        }
    }

    /// The port of a number, if it exists.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id.index()).and_then(|p| p.as_deref())
    }

    /// Whether packets to an address are for the node itself.
    pub fn is_own(&self, address: IpAddr) -> bool {
        let group = match address {
            IpAddr::V4(address) => self.fib4.lookup(address),
            IpAddr::V6(address) => self.fib6.lookup(address),
        };
        let group = group.and_then(|group| self.groups.get(group.index()));
        group.is_some_and(|group| self.adjacencies[group.pick(|| 0).index()].local)
    }

    /// A VRF, if it is not the default one.
    #[inline]
    pub fn vrf(&self, id: VrfId) -> Option<&VrfTables> {
        self.vrfs.get(id.index().checked_sub(1)?)
    }

    /// Sources of ICMP and ICMPv6 errors about what entered by a port.
    pub fn icmp_sources(&self, port: PortId) -> (Ipv4Addr, Ipv6Addr) {
        match self.port(port).and_then(|port| self.vrf(port.vrf)) {
            Some(vrf) => (vrf.icmp_source4, vrf.icmp_source6),
            None => (self.icmp_source4, self.icmp_source6),
        }
    }

    /// The number of the port with this name.
    pub fn port_named(&self, name: &str) -> Option<PortId> {
        let at = self.ports.iter().position(|p| p.as_ref().is_some_and(|p| &*p.name == name))?;
        (at < MAX_PORTS).then_some(PortId(at as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbor_slots_keep_state_and_count_changes() {
        let table = NeighborTable::new();
        let slot = NeighborSlot(7);
        assert_eq!(table.get(slot), NeighborState::Unresolved);
        let mac = MacAddr([0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54]);
        table.set(slot, NeighborState::Usable(mac));
        assert_eq!(table.get(slot), NeighborState::Usable(mac));
        let version = table.version();
        table.set(slot, NeighborState::Usable(mac));
        assert_eq!(table.version(), version);
        table.set(slot, NeighborState::Failed);
        assert_eq!(table.get(slot), NeighborState::Failed);
        assert!(table.version() > version);
    }

    #[test]
    fn groups_spread_over_all_members() {
        let group = Group::Spread((0..4).map(AdjacencyId).collect());
        let mut seen = [0; 4];
        for hash in (0..=u32::MAX).step_by(1 << 20) {
            seen[group.pick(|| hash).index()] += 1;
        }
        assert_eq!(seen, [1024; 4]);
        assert_eq!(Group::One(AdjacencyId(7)).pick(|| panic!("no hash is needed")), AdjacencyId(7));
    }

    #[test]
    fn tunnel_peers_are_looked_up_in_any_order() {
        let [a, b, c] = [1, 9, 5].map(|n| Ipv4Addr::new(1, 0, 0, n));
        let [one, two] = [TunnelId(1), TunnelId(2)];
        let peers = TunnelPeers::new([a], [(b, one), (c, two), (b, one)]);
        assert!(peers.is_local(a) && !peers.is_local(b));
        assert_eq!([a, b, c].map(|address| peers.tunnel(address)), [None, Some(one), Some(two)]);
        assert_eq!(peers.remotes(), [c, b]);
    }
}
