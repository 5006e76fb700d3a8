//! Control: from events to tables.
//!
//! ```text
//!   sources --Event--> [desired state] --resolve--> [next-hop groups] --publish--> workers
//!                            |                            |
//!                         the RIB -------- changes -----> FIB (in place)
//! ```
//!
//! One [`Engine`] per router owns everything that changes: the desired state, the
//! RIB, the FIB writers and the publisher. It is driven by calls, has no clock and
//! does no I/O, so the daemon and the simulations run the same code.
//!
//! Order of a change, so that a worker never meets a dangling reference:
//! 1. tables that hold the new groups are published and adopted by every worker;
//! 2. the FIB is changed in place;
//! 3. after a grace period, groups and FIB nodes that nothing names are reused.

pub mod adjacencies;
pub mod adjacency;
mod dependencies;
pub mod desired;
pub mod engine;
pub mod event;
pub mod groups;
pub mod neighbors;
pub mod next_hop;
mod ordered_prefixes;
pub mod path_mtus;
pub mod policy;
pub mod resolution;
pub mod show;
pub mod tunnel_ids;

pub use desired::{Encap, IpipMode, Pool, PortRole, PortSpec, RouteSpec, RouteTarget, Workload};
pub use engine::{Engine, EngineError};
pub use event::Event;
pub use neighbors::NeighborRequest;
pub use next_hop::{NextHop, Path};
pub use ordered_prefixes::OrderedPrefixes;
pub use show::{GroupView, PathView, RouteView};
