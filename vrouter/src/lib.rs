//! vRouter: a userspace packet-forwarding router for pod networks.

pub mod agent;
pub mod config;
pub mod port;
pub mod rpc;
pub(crate) mod sys;
