//! Next hops as sources mean them and the RIB holds them.

use core::net::IpAddr;

use crate::control::desired::Encap;
use crate::drop_reason::DropReason;

/// A next hop as a source means it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
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

/// One of a route's next hops, with the share of flows that it is to have.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Path {
    /// Where to.
    pub next_hop: NextHop,
    /// Its weight against the route's other paths; at least 1.
    pub weight: u32,
}

impl From<NextHop> for Path {
    /// A path of weight 1.
    fn from(next_hop: NextHop) -> Self {
        Path { next_hop, weight: 1 }
    }
}
