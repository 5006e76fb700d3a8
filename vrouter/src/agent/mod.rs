//! The node agent's kernel-facing half: links, neighbours, pod interfaces, the
//! host port, exclusive use of uplinks, and what must survive a restart.
//!
//! ```text
//!                 rtnetlink (one request socket, one multicast socket a watch)
//!      link ------------+---------------- neighbor_mirror
//!  what devices exist   |                 who answers at which MAC
//!                       |
//!   uplink_guard   pod_interface   host_port          state_store
//!   one router     eth0 inside a   vrouter0 in the    pods, devices, resources
//!   per device     pod's netns     node's own stack   across restarts
//! ```
//!
//! Everything here talks to the kernel and runs on tokio; nothing here touches a
//! packet. The modules do not know the dataplane: they hand out device indexes,
//! MAC addresses and file descriptors, and the daemon wires them to ports.

pub mod link;
pub mod mac_addr;
pub mod neighbor_mirror;
pub mod netlink;
pub mod pod_interface;
pub mod state_store;
pub mod uplink_guard;

#[cfg(test)]
mod test_net;
