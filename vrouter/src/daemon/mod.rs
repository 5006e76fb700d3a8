//! The daemon: a [`Node`], the events that reach it, and its end.
//!
//! ```text
//!   links, neighbours (rtnetlink) --+
//!   slow path bell, timers ---------+--> [lock] Node --> commit
//!   API, metrics -------------------+
//! ```
//!
//! Everything runs on one thread beside the workers.

pub mod check;
pub mod flow_log;
mod flows;
pub mod host;
pub mod kernel_neighbors;
pub mod load;
pub mod node;
pub mod not_enforced;
pub mod plan;
pub mod pods;
mod resource_events;
pub mod resources;
pub mod run;
pub mod uplinks;
pub mod watchdog;

pub use node::{Node, NodeError};
pub use run::run;
