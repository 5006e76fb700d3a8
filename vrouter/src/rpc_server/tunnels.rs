//! `ListTunnels`: a line for every remote end, by route or by configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::control::adjacency::Hop;
use crate::daemon::Node;
use crate::ids::{PortId, VrfId};
use crate::rpc::v1;
use crate::rpc_server::neighbors;

/// The way of outer packets: our address, the port, the neighbour.
type Way = (Ipv4Addr, PortId, IpAddr);

/// All tunnels, by remote address.
pub(crate) fn list(node: &Node) -> Vec<v1::Tunnel> {
    let engine = node.router.engine();
    let mut remotes: BTreeMap<Ipv4Addr, (Vec<&str>, Option<Way>)> = BTreeMap::new();
    for peer in &engine.desired().peers {
        remotes.insert(*peer, (vec!["peer"], None));
    }
    for hop in engine.hops() {
        if let Hop::Ipip(local, remote, port, neighbor) = hop {
            let (sources, way) = remotes.entry(remote).or_default();
            if !sources.contains(&"route") {
                sources.push("route");
            }
            *way = Some((local, port, neighbor));
        }
    }
    remotes.into_iter().map(|(remote, (sources, way))| show(node, remote, &sources.join(","), way)).collect()
}

fn show(node: &Node, remote: Ipv4Addr, source: &str, by_route: Option<Way>) -> v1::Tunnel {
    let engine = node.router.engine();
    let totals = node.router.tunnel_totals(remote);
    let mut tunnel = v1::Tunnel {
        kind: v1::Encap::Ipip.into(),
        remote: remote.to_string(),
        source: source.to_owned(),
        tx_packets: totals.tx_packets,
        tx_bytes: totals.tx_bytes,
        rx_packets: totals.rx_packets,
        rx_bytes: totals.rx_bytes,
        ..v1::Tunnel::default()
    };
    // A peer that no route leads to: packets from it are taken, none is sent.
    let Some((local, port, neighbor)) = by_route.or_else(|| toward(node, remote)) else {
        tunnel.set_state(v1::TunnelState::Unresolved);
        return tunnel;
    };
    tunnel.local = local.to_string();
    tunnel.port = engine.port_name(port).unwrap_or_default().to_owned();
    tunnel.mtu = engine.hop_mtu(&Hop::Ipip(local, remote, port, neighbor)).unwrap_or_default();
    if let Some((mtu, until)) = engine.path_mtu_of((local, remote)) {
        tunnel.path_mtu = mtu;
        tunnel.path_mtu_seconds = until.since(node.router.now()).as_secs();
    }
    tunnel.neighbor = neighbor.to_string();
    tunnel.neighbor_state = neighbors::look(node, port, neighbor).state;
    tunnel.set_state(if engine.tables().port(port).is_none_or(|port| !port.up) {
        v1::TunnelState::Down
    } else if neighbors::is_usable(tunnel.neighbor_state()) {
        v1::TunnelState::Up
    } else {
        v1::TunnelState::Unresolved
    });
    tunnel
}

/// The way to a peer on one of our links.
fn toward(node: &Node, remote: Ipv4Addr) -> Option<Way> {
    let engine = node.router.engine();
    let uplink = engine.desired().uplink_toward(VrfId::DEFAULT, remote.into())?;
    Some((engine.desired().source_toward(remote)?, engine.port_id(&uplink.name)?, remote.into()))
}
