//! What the packet path asks policy with.

use core::net::IpAddr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;

use acl::conntrack::{Capacity, Conntrack, LayoutError, PolicyGenerations, Settings};
use acl::{AddressTrie, Direction, Program};
use ipnet::IpNet;

use super::Port;
use crate::ids::MAX_PORTS;
pub use crate::sys::flow_memory::FlowMemory;

/// The policy of a workload endpoint: one program each way, shared by the endpoints that are alike.
#[derive(Clone, Debug)]
pub struct PortPolicy {
    /// For what the endpoint sends.
    pub egress: Arc<Program>,
    /// For what it receives.
    pub ingress: Arc<Program>,
    /// Prefixes beside its own addresses that it may send from.
    pub sources: Arc<[IpNet]>,
}

impl PortPolicy {
    /// Whether the endpoint may send from an address that is not its own.
    #[cold]
    pub fn may_send_from(&self, address: IpAddr) -> bool {
        self.sources.iter().any(|net| net.contains(&address))
    }

    /// The program of a direction.
    #[inline]
    pub fn program(&self, direction: Direction) -> &Program {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }
}

/// When the policy of a host endpoint is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostStage {
    /// About what is for the node itself, and what it sends.
    Normal,
    /// About what the node forwards.
    Forward,
    /// Before connection tracking.
    Untracked,
    /// Before destination translation; ingress alone.
    PreDnat,
}

/// Programs of both directions, ingress first; `None`: no policy.
type HostPrograms = [Option<Arc<Program>>; 2];

/// The policy of a host endpoint.
#[derive(Clone, Debug)]
pub struct HostPolicy {
    /// The endpoint is all interfaces of its host: those of tunnels too, and what its pods send to it.
    pub wildcard: bool,
    /// For the node's own packets.
    pub normal: HostPrograms,
    /// For forwarded packets.
    pub forward: HostPrograms,
    /// Before connection tracking.
    pub untracked: HostPrograms,
    /// Before destination translation.
    pub pre_dnat: HostPrograms,
}

impl HostPolicy {
    fn stages(&self) -> [&HostPrograms; 4] {
        [&self.normal, &self.forward, &self.untracked, &self.pre_dnat]
    }

    /// The program of a stage and direction.
    #[inline]
    pub fn program(&self, stage: HostStage, direction: Direction) -> Option<&Program> {
        self.stages()[stage as usize][direction as usize].as_deref()
    }

    /// Whether both are the same programs.
    pub fn is_same(&self, other: &Self) -> bool {
        let pairs = self.stages().into_iter().flatten().zip(other.stages().into_iter().flatten());
        let mut same = pairs.map(|pair| match pair {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        });
        self.wildcard == other.wildcard && same.all(|same| same)
    }
}

/// What the endpoints' programs share.
#[derive(Clone, Debug)]
pub struct PolicyTables {
    /// Whether any port has a policy. Without one no packet is looked at.
    pub in_use: bool,
    /// Whether any port has a host endpoint's policy.
    pub hosts: bool,
    /// Whether any of them is untracked.
    pub untracked: bool,
    /// Classes of IPv4 addresses.
    pub classes4: Arc<AddressTrie>,
    /// Classes of IPv6 addresses.
    pub classes6: Arc<AddressTrie>,
    /// By [`PortId`](crate::ids::PortId): how often each endpoint's policy has changed.
    pub generations: Arc<[PolicyGenerations]>,
    /// The flows, shared by all workers and all tables.
    pub flows: Arc<FlowTable>,
}

/// The flows of a router.
pub type FlowTable = Conntrack<FlowMemory>;

/// Capacity of a table for so many flows of a router's ports.
pub fn flow_capacity(flows: u32) -> Capacity {
    Capacity { flows, endpoints: MAX_PORTS as u16 }
}

/// A flow table that ends with the process.
///
/// # Errors
/// For no flows, more than [`Capacity::MAX_FLOWS`], or where there is not enough memory.
pub fn flow_table(flows: u32) -> io::Result<FlowTable> {
    let lines = flow_capacity(flows).lines().map_err(io::Error::other)?;
    flow_table_in(flows, FlowMemory::anonymous(lines)?).map_err(io::Error::other)
}

/// A flow table for the ports of a router. Its seed is one that outsiders cannot guess: that of the
/// standard library's hash tables, which is the operating system's randomness.
///
/// # Errors
/// For no flows, more than [`Capacity::MAX_FLOWS`], or memory that is too small for them.
pub fn flow_table_in(flows: u32, memory: FlowMemory) -> Result<FlowTable, LayoutError> {
    let random = || RandomState::new().build_hasher().finish();
    let capacity = flow_capacity(flows);
    Conntrack::create(memory, capacity, [random(), random()], &Settings::of(capacity))
}

impl Port {
    /// Whether an address is one of the port's own.
    pub fn has_address(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.addresses4.contains(&address),
            IpAddr::V6(address) => self.addresses6.contains(&address),
        }
    }
}
