//! What sources tell control: every input is one of these.

use core::net::Ipv4Addr;

use fib::{AnyPrefix, RouteSource};
use ipnet::IpNet;

use crate::control::desired::{Pool, PortSpec, RouteSpec};
use crate::ids::Timestamp;
use crate::tables::TraceFilter;

/// A change of what is wanted. Events are idempotent: `Put…` creates or replaces.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A port exists, or its properties changed.
    PutPort(PortSpec),
    /// A port is gone.
    RemovePort(String),
    /// An IP pool exists.
    PutPool(Pool),
    /// The pool with this prefix is gone.
    RemovePool(IpNet),
    /// A source announces a route.
    PutRoute(RouteSpec),
    /// A source withdraws its route.
    RemoveRoute(AnyPrefix, RouteSource),
    /// A port that does not exist yet is to be in the VRF of this name, which comes to be if it is
    /// new. What enters there takes the VRF's routes alone; tunnels, pods and the node itself are
    /// the default VRF's.
    BindPort {
        /// The port's name.
        port: String,
        /// The VRF's name; not empty.
        vrf: String,
    },
    /// A source announces a route of a VRF, by its name.
    PutVrfRoute(String, RouteSpec),
    /// A source withdraws its route of a VRF.
    RemoveVrfRoute(String, AnyPrefix, RouteSource),
    /// A source begins to announce all its routes anew.
    BeginResync(RouteSource),
    /// As [`BeginResync`](Self::BeginResync), but when this time comes and the source has not
    /// ended, what it did not name is withdrawn all the same (graceful restart: a peer is lost
    /// that keeps forwarding, and this is how long it may take to come back).
    BeginResyncUntil(RouteSource, Timestamp),
    /// The source has announced everything: what it did not name is withdrawn.
    EndResync(RouteSource),
    /// Another node whose tunnel packets are taken.
    PutPeer(Ipv4Addr),
    /// No longer a peer by configuration.
    RemovePeer(Ipv4Addr),
    /// This node's own pod blocks.
    SetBlocks(Vec<IpNet>),
    /// The node's name, by which host endpoints know it; until then every host endpoint is this node's.
    SetNode(String),
    /// Ports that no policy of a host endpoint closes, inbound and outbound; until then Calico's defaults.
    SetFailsafe([Vec<api::FailsafePort>; 2]),
    /// Whether workloads may send from the prefixes that their `allowSpoofedSourcePrefixes` name; until then
    /// they may not.
    SetSourceSpoofing(bool),
    /// A resource of policy exists: a tier, policy, profile, network set, or something that selectors
    /// name. Other resources change nothing.
    PutPolicy(Box<api::Resource>),
    /// A resource of policy is gone.
    RemovePolicy(Box<api::Resource>),
    /// What traces and captures follow, all of them; none: nothing.
    SetTrace(Vec<TraceFilter>),
}
