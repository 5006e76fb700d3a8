//! Resolved hops, and the adjacencies that the packet path has of them.
//!
//! ```text
//!   resolved hop                  adjacency
//!   Ipip{remote, neighbour}  -->  outer header, slot, MTU-20
//!   Neighbor{port, address}  -->  slot
//!   Glean{port}              -->  asks for the destination
//!   Direct{port}             -->  the MAC of the one station
//! ```

use core::net::{IpAddr, Ipv4Addr};

use encap::tunnel::ipip::{self, OuterIpv4};
use encap::wire::ethernet::MacAddr;

use crate::control::path_mtus::Ends;
use crate::drop_reason::DropReason;
use crate::ids::{NeighborSlot, PortId, TunnelId};
use crate::tables::{Action, Adjacency};

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

impl Hop {
    /// The port that packets leave by, if there is one.
    pub fn port(&self) -> Option<PortId> {
        match *self {
            Hop::Drop(_) => None,
            Hop::Local(port)
            | Hop::Glean(port)
            | Hop::Direct(port, _)
            | Hop::Neighbor(port, _)
            | Hop::Gleaned(port, _)
            | Hop::Ipip(_, _, port, _) => (port != PortId::NONE).then_some(port),
        }
    }

    /// The two ends of a tunnel: ours, the remote one.
    pub fn ends(&self) -> Option<Ends> {
        match *self {
            Hop::Ipip(local, remote, ..) => Some((local, remote)),
            _ => None,
        }
    }

    /// The neighbour that the hop needs, and whether it is to be kept resolved.
    pub fn neighbor(&self) -> Option<(PortId, IpAddr, bool)> {
        match *self {
            Hop::Neighbor(port, address) | Hop::Ipip(_, _, port, address) => Some((port, address, true)),
            Hop::Gleaned(port, address) => Some((port, address, false)),
            _ => None,
        }
    }
}

/// Builds the adjacency of a hop from the ports as they are.
///
/// `slot` gives the neighbour slot of (port, address), `tunnel_id` the number of the
/// tunnel to a remote, `path_mtu` the longest outer packet between two ends where that is known.
pub fn build(
    hop: &Hop,
    port_of: &dyn Fn(PortId) -> Option<(MacAddr, MacAddr, u32)>,
    slot: &dyn Fn(PortId, IpAddr) -> NeighborSlot,
    tunnel_id: &dyn Fn(Ipv4Addr) -> TunnelId,
    path_mtu: &dyn Fn(Ends) -> Option<u32>,
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
            let outer = path_mtu((local, remote)).map_or(under.mtu, |path| path.min(under.mtu));
            Adjacency {
                next_hop: Some(address),
                mtu: u32::from(encap::tunnel::mtu::inner_mtu(outer, ipip::OVERHEAD as u16)),
                tunnel: Some(OuterIpv4::new(local, remote)),
                tunnel_id: tunnel_id(remote),
                ..under
            }
        }
    }
}
