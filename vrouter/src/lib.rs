//! vRouter: a userspace packet-forwarding router for pod networks.

pub mod port;
