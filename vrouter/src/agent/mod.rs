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
mod held;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn runs_on_any_thread<T: Send>(future: T) -> T {
        future
    }

    /// The daemon's runtime moves tasks between threads.
    #[test]
    fn futures_can_move_between_threads() {
        test_net::in_node(async || {
            let netlink = netlink::Netlink::connect().unwrap();
            let mut links = link::LinkWatch::start().unwrap();
            runs_on_any_thread(links.next()).await.unwrap();
            let keep = neighbor_mirror::KeepResolved::Managed;
            let mut mirror = neighbor_mirror::NeighborMirror::start(keep).unwrap();
            runs_on_any_thread(mirror.ensure(1, [127, 0, 0, 9].into())).await.unwrap();
            runs_on_any_thread(mirror.release(1, [127, 0, 0, 9].into())).await.unwrap();
            runs_on_any_thread(mirror.sweep()).await.unwrap();
            drop(runs_on_any_thread(mirror.next()));
            runs_on_any_thread(uplink_guard::claim(&netlink, "lo")).await.unwrap_err();

            let spec = host_port::HostPortSpec {
                name: "vrouter0".into(),
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
                mtu: 1500,
                queues: 1,
            };
            let open = runs_on_any_thread(host_port::HostPort::open(&netlink, &spec));
            let mut port = open.await.unwrap();
            let _ = runs_on_any_thread(port.sync(&host_port::HostPortPlan::default())).await.unwrap();
            runs_on_any_thread(port.remove()).await.unwrap();

            let netns = test_net::NamedNetns::new("pod");
            let spec = pod_interface::PodInterfaceSpec {
                pod: "default/a".into(),
                netns: netns.path(),
                interface: "eth0".into(),
                attach: pod_interface::Attach::Tap,
                addresses: vec![[10, 0, 0, 1].into()],
                mac: None,
                mtu: 1500,
                queues: 1,
            };
            let prepare = pod_interface::PodInterface::prepare(&netlink, spec);
            let interface = runs_on_any_thread(prepare).await.unwrap();
            runs_on_any_thread(interface.activate()).await.unwrap();
            let record = interface.record();
            let remove = pod_interface::remove(&netlink, "default/a", &record);
            runs_on_any_thread(remove).await.unwrap();
        });
    }
}
