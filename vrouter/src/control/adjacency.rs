//! Next hops as the RIB holds them, and what they resolve to.
//!
//! ```text
//!   RIB next hop                     resolved hop                  adjacency
//!   Via 172.16.20.253, by pool  -->  Tunnel{remote, neighbour} --> outer header, slot, MTU-20
//!   Via fe80::1                 -->  Neighbor{port, address}   --> slot
//!   Connected eth1              -->  Glean{port}
//!   Endpoint pod1               -->  Direct{port}              --> the pod's MAC
//! ```
//!
//! Resolution is a pure function of the desired state and the RIB. A next hop that
//! lies behind another route is followed, at most 8 times; what cannot
//! be resolved becomes a drop with its own reason, and is tried again whenever
//! something changes.

use core::net::{IpAddr, Ipv4Addr};

use encap::tunnel::ipip::{self, OuterIpv4};
use encap::wire::ethernet::MacAddr;
use fib::{AnyPrefix, Prefix, Rib};
use ipnet::IpNet;

use crate::control::desired::{Desired, Encap, IpipMode};
use crate::drop_reason::DropReason;
use crate::ids::{NeighborSlot, PortId, TunnelId};
use crate::tables::{Action, Adjacency};

/// How many routes a next hop may lie behind.
const MAX_DEPTH: usize = 8;

/// A next hop as a source means it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NextHop {
    /// A neighbour or a remote router.
    Via(IpAddr, Encap),
    /// The connected prefix of the uplink with this name.
    Connected(String),
    /// A neighbour that was gleaned on the uplink with this name.
    Gleaned(String, IpAddr),
    /// The pod port with this name.
    Endpoint(String),
    /// The node's own stack.
    Host,
    /// The router itself.
    Local,
    /// Nowhere, for this reason.
    Drop(DropReason),
}

/// What a next hop comes down to, with ports by number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Hop {
    /// Drop.
    Drop(DropReason),
    /// The router itself; other protocols than echo go to the port, if any.
    Local(PortId),
    /// Ask for the destination itself.
    Glean(PortId),
    /// The one station behind a port; the flag marks the node's own stack.
    Direct(PortId, bool),
    /// A neighbour that is a route's next hop: kept resolved.
    Neighbor(PortId, IpAddr),
    /// A neighbour that traffic alone asks for.
    Gleaned(PortId, IpAddr),
    /// An IPIP tunnel from our address to the remote one, by way of a neighbour.
    Ipip(Ipv4Addr, Ipv4Addr, PortId, IpAddr),
}

/// What resolution looks at.
pub struct Resolver<'a> {
    /// Ports, pools.
    pub desired: &'a Desired,
    /// IPv4 routes.
    pub rib4: &'a Rib<Ipv4Addr, NextHop>,
    /// IPv6 routes.
    pub rib6: &'a Rib<core::net::Ipv6Addr, NextHop>,
    /// Port numbers.
    pub port_id: &'a dyn Fn(&str) -> Option<PortId>,
}

impl Resolver<'_> {
    /// Resolves one next hop of a route to `prefix`.
    pub fn resolve(&self, prefix: &AnyPrefix, next_hop: &NextHop) -> Hop {
        let unresolved = Hop::Drop(DropReason::NextHopUnresolved);
        match next_hop {
            NextHop::Drop(reason) => Hop::Drop(*reason),
            NextHop::Endpoint(name) => {
                (self.port_id)(name).map_or(unresolved, |port| Hop::Direct(port, false))
            }
            NextHop::Host => match self.host() {
                Some(port) => Hop::Direct(port, true),
                None => Hop::Local(PortId::NONE),
            },
            NextHop::Local => Hop::Local(self.host().unwrap_or(PortId::NONE)),
            NextHop::Connected(name) => (self.port_id)(name).map_or(unresolved, Hop::Glean),
            NextHop::Gleaned(name, address) => {
                (self.port_id)(name).map_or(unresolved, |port| Hop::Gleaned(port, *address))
            }
            NextHop::Via(address, encap) => {
                let Some((port, neighbor)) = self.underlay(*address, 0) else { return unresolved };
                match self.tunnel(prefix, *address, *encap) {
                    None => Hop::Neighbor(port, neighbor),
                    Some(remote) => match self.desired.source_toward(remote) {
                        Some(local) => Hop::Ipip(local, remote, port, neighbor),
                        None => unresolved,
                    },
                }
            }
        }
    }

    fn host(&self) -> Option<PortId> {
        (self.port_id)(&self.desired.host_port()?.name)
    }

    /// The uplink and neighbour by which `address` is reached.
    fn underlay(&self, address: IpAddr, depth: usize) -> Option<(PortId, IpAddr)> {
        if let Some(port) = self.desired.uplink_toward(address) {
            return Some(((self.port_id)(&port.name)?, address));
        }
        if depth >= MAX_DEPTH {
            return None;
        }
        let next = match address {
            IpAddr::V4(address) => self.rib4.longest_match(address)?.1.next_hops.first()?.clone(),
            IpAddr::V6(address) => self.rib6.longest_match(address)?.1.next_hops.first()?.clone(),
        };
        match next {
            NextHop::Via(next, _) if next != address => self.underlay(next, depth + 1),
            NextHop::Gleaned(name, next) => Some(((self.port_id)(&name)?, next)),
            _ => None,
        }
    }

    /// The remote end of the tunnel that traffic to `prefix` by way of `via` takes, if any.
    fn tunnel(&self, prefix: &AnyPrefix, via: IpAddr, encap: Encap) -> Option<Ipv4Addr> {
        let (AnyPrefix::V4(prefix), IpAddr::V4(via)) = (prefix, via) else { return None };
        let wanted = match encap {
            Encap::None => false,
            Encap::Ipip => true,
            Encap::Pool => {
                let net = to_ipnet(prefix);
                match self.desired.pool_of(&net).map(|pool| pool.ipip_mode) {
                    None | Some(IpipMode::Never) => false,
                    Some(IpipMode::Always) => true,
                    Some(IpipMode::CrossSubnet) => self.desired.uplink_toward(IpAddr::V4(via)).is_none(),
                }
            }
        };
        wanted.then_some(via)
    }
}

/// A prefix of the FIB as the type that configuration uses.
pub fn to_ipnet(prefix: &Prefix<Ipv4Addr>) -> IpNet {
    // A `Prefix` is at most 32 bits long, which is all that `Ipv4Net` asks.
    IpNet::V4(ipnet::Ipv4Net::new_assert(prefix.addr(), prefix.len()))
}

/// Builds the adjacency of a hop from the ports as they are.
///
/// `slot` gives the neighbour slot of (port, address), `tunnel_id` the number of the
/// tunnel to a remote.
pub fn build(
    hop: &Hop,
    port_of: &dyn Fn(PortId) -> Option<(MacAddr, MacAddr, u32)>,
    slot: &dyn Fn(PortId, IpAddr) -> NeighborSlot,
    tunnel_id: &dyn Fn(Ipv4Addr) -> TunnelId,
) -> Adjacency {
    let base = |port: PortId, action: Action| {
        let (source_mac, destination_mac, mtu) =
            port_of(port).unwrap_or((MacAddr::ZERO, MacAddr::ZERO, u32::MAX));
        Adjacency {
            action,
            port,
            mtu,
            source_mac,
            destination_mac,
            tunnel: None,
            tunnel_id: TunnelId::NONE,
            local: false,
            next_hop: None,
        }
    };
    match *hop {
        Hop::Drop(reason) => Adjacency::dropping(reason),
        Hop::Local(port) => Adjacency { local: true, ..base(port, Action::Receive) },
        Hop::Glean(port) => base(port, Action::Glean),
        Hop::Direct(port, local) => Adjacency { local, ..base(port, Action::Direct) },
        Hop::Neighbor(port, address) | Hop::Gleaned(port, address) => {
            Adjacency { next_hop: Some(address), ..base(port, Action::Neighbor(slot(port, address))) }
        }
        Hop::Ipip(local, remote, port, address) => {
            let under = base(port, Action::Neighbor(slot(port, address)));
            Adjacency {
                next_hop: Some(address),
                mtu: u32::from(encap::tunnel::mtu::inner_mtu(under.mtu, ipip::OVERHEAD as u16)),
                tunnel: Some(OuterIpv4::new(local, remote)),
                tunnel_id: tunnel_id(remote),
                ..under
            }
        }
    }
}
