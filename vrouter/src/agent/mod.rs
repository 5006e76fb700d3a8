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

mod device_route;
pub mod host_port;
pub mod link;
pub mod neighbor_mirror;
pub mod netlink;
pub mod pod_interface;
pub mod state_store;
pub mod sysctl;
pub mod uplink_guard;

use std::net::{Ipv4Addr, Ipv6Addr};

use encap::MacAddr;

/// The gateway of every pod and of the host port, IPv4. No device has it: the
/// dataplane answers for it.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The gateway of every pod and of the host port, IPv6: the link-local address that
/// [`GATEWAY_MAC`] makes by EUI-64 (RFC 4291, appendix A).
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// The gateway's MAC address.
pub const GATEWAY_MAC: MacAddr = MacAddr([0xee; 6]);

/// The Ethernet address in a netlink attribute; `None` if it is not six octets long.
fn ethernet_address(octets: &[u8]) -> Option<MacAddr> {
    octets.try_into().ok().map(MacAddr)
}

#[cfg(test)]
mod test_net;
