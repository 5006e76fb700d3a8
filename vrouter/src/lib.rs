//! vRouter: a userspace packet-forwarding router for pod networks.

pub mod agent;
mod atomic;
pub mod burst;
pub mod checksum;
pub mod clock;
pub mod config;
pub mod control;
pub mod counters;
pub mod daemon;
pub mod drop_reason;
pub mod frame;
pub mod ids;
pub mod metrics;
pub mod neighbor;
pub mod neighbor_ports;
pub mod path_stage;
pub mod pipeline;
pub mod port;
pub mod publish;
pub mod router;
pub mod rpc;
pub mod rpc_server;
pub(crate) mod sys;
pub mod tables;
pub mod totals;
mod vector;
pub mod worker;

pub use control::{Event, PortSpec};
pub use port::memory::MemoryPort;
pub use router::Router;
pub use sys::cpu::{TOO_OLD as CPU_TOO_OLD, is_too_old as cpu_is_too_old};
pub use worker::idle::IdleMode;
