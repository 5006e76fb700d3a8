//! The host port: how the node's own stack reaches pods, and pods reach the node.
//!
//! | pools            | source of the node's packets to pods | on the wire |
//! |------------------|--------------------------------------|-------------|
//! | IPIP             | first address of the node's block    | IPIP, both ways |
//! | plain            | the uplink's address                 | plain, both ways |
//!
//! The node keeps the block address while no pool encapsulates: the kernel removes all
//! routes of a device that loses its last address, and the node's connections to pods
//! must not pause when a pool changes its mode.
//!
//! With an exclusive uplink the node's own traffic to the uplink's subnet takes the
//! host port as well, by two routes that halve the connected prefix.

use std::net::IpAddr;

use encap::MacAddr;
use ipnet::IpNet;

use crate::agent::host_port::{HostPort, HostPortPlan, HostPortSpec, HostRoute};
use crate::agent::state_store::OwnedDevice;
use crate::control::{Event, IpipMode, PortRole, PortSpec};
use crate::daemon::node::{Node, NodeError};
use crate::ids::VrfId;
use crate::port::tap;
use crate::tables::GATEWAY_MAC;

/// The name of the host port.
pub const HOST_PORT: &str = "vrouter0";
/// The node's MAC address on the host port, the same on every node: the link has
/// no other station than the router.
const HOST_MAC: MacAddr = MacAddr([0x02, 0x76, 0x72, 0x00, 0x00, 0x01]);

/// The host port and what it carries.
pub struct HostSide {
    /// The tap in the node's own stack.
    pub port: HostPort,
    /// What was last put into force.
    pub plan: HostPortPlan,
}

impl Node {
    /// Makes the host port, without addresses and routes.
    pub(super) async fn open_host_port(&mut self) -> Result<(), NodeError> {
        let spec =
            HostPortSpec { name: HOST_PORT.to_owned(), mac: HOST_MAC, mtu: self.link_mtu(), queues: 1 };
        let mut port = HostPort::open(&self.netlink, &spec).await?;
        self.store.update(|state| {
            state
                .devices
                .insert("host-port".to_owned(), OwnedDevice::HostPort { name: HOST_PORT.to_owned() });
        })?;
        if port.loosened_reverse_path_filter() {
            tracing::warn!("{HOST_PORT}: rp_filter was strict and is loose (2) now");
        }
        let queues = tap::queues(port.take_queues());
        let port_spec = self.host_port_spec(Vec::new());
        self.router.add_port(port_spec, queues)?;
        self.host = Some(HostSide { port, plan: HostPortPlan::default() });
        Ok(())
    }

    fn host_port_spec(&self, addresses: Vec<IpAddr>) -> PortSpec {
        PortSpec {
            name: HOST_PORT.to_owned(),
            role: PortRole::Host { addresses },
            mac: GATEWAY_MAC,
            peer_mac: HOST_MAC,
            mtu: self.link_mtu(),
            up: true,
        }
    }

    /// The smallest MTU of the uplinks; 1500 without one.
    pub(super) fn link_mtu(&self) -> u32 {
        let area = self.router.frames().area();
        self.uplinks.values().map(|uplink| uplink.mtu(area)).min().unwrap_or(1500)
    }

    /// The MTU of pods: room for the outer header wherever a pool may encapsulate.
    pub(super) fn pod_mtu(&self) -> u32 {
        let encapsulates =
            self.router.engine().desired().pools.values().any(|pool| pool.ipip_mode != IpipMode::Never);
        let overhead = if encapsulates { encap::tunnel::ipip::OVERHEAD as u32 } else { 0 };
        self.link_mtu() - overhead
    }

    /// The address that the node has on the host port: the first of its first block in a
    /// pool that encapsulates, else of its first IPv4 block.
    fn block_address(&self) -> Option<IpAddr> {
        let desired = self.router.engine().desired();
        let encapsulated =
            |block: &&IpNet| desired.pool_of(block).is_some_and(|pool| pool.ipip_mode != IpipMode::Never);
        let is_v4 = |block: &&IpNet| matches!(block, IpNet::V4(_));
        let block = desired.blocks.iter().find(encapsulated).or_else(|| desired.blocks.iter().find(is_v4));
        block.map(IpNet::network)
    }

    fn host_plan(&self) -> HostPortPlan {
        let desired = self.router.engine().desired();
        let own = self.block_address();
        let mut plan = HostPortPlan { addresses: own.into_iter().collect(), routes: Vec::new() };
        for pool in desired.pools.values() {
            let plain = match pool.cidr {
                IpNet::V4(_) => desired.first_v4(VrfId::DEFAULT).map(IpAddr::V4),
                IpNet::V6(_) => desired.first_v6(VrfId::DEFAULT).map(IpAddr::V6),
            };
            let encapsulated = pool.ipip_mode != IpipMode::Never;
            let src = if encapsulated { own.or(plain) } else { plain };
            let mtu = encapsulated.then(|| self.link_mtu() - encap::tunnel::ipip::OVERHEAD as u32);
            plan.routes.push(HostRoute { prefix: pool.cidr, src, mtu });
        }
        // The node's own stack has no part in other VRFs.
        let of_node = |port: &PortSpec| desired.vrf_of(&port.name) == VrfId::DEFAULT;
        for (_, exclusive, addresses) in desired.uplinks().filter(|(port, ..)| of_node(port)) {
            // Link-local destinations are never routed, not even by halves.
            let global = |net: &&IpNet| match net {
                IpNet::V4(_) => true,
                IpNet::V6(net) => !net.addr().is_unicast_link_local(),
            };
            for net in addresses.iter().filter(global).filter(|_| exclusive) {
                let halves = net.trunc().subnets(net.prefix_len() + 1);
                for prefix in
                    halves.into_iter().flatten().filter(|half| half.prefix_len() < half.max_prefix_len())
                {
                    plan.routes.push(HostRoute { prefix, src: Some(net.addr()), mtu: None });
                }
            }
        }
        plan
    }

    /// Brings addresses and routes of the host port in line with pools and uplinks.
    pub(super) async fn sync_host(&mut self) -> Result<(), NodeError> {
        let plan = self.host_plan();
        let addresses = plan.addresses.clone();
        let Some(host) = &mut self.host else { return Ok(()) };
        if host.plan == plan {
            return Ok(());
        }
        let report = host.port.sync(&plan).await?;
        host.plan = plan;
        let taken: Vec<String> = report.taken.iter().map(ToString::to_string).collect();
        let problem = (!taken.is_empty())
            .then(|| format!("the host has routes of its own to {}: they stand", taken.join(", ")));
        self.note_problem("host port routes", problem);
        self.router.apply(Event::PutPort(self.host_port_spec(addresses)))?;
        self.router.commit()?;
        Ok(())
    }
}
