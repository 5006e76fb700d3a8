//! `GetRoute`: what would become of a packet to an address, by every hop that a flow's hash may pick.

use std::net::IpAddr;

use tonic::Status;

use crate::control::RouteView;
use crate::control::adjacency::Hop;
use crate::daemon::Node;
use crate::drop_reason::DropReason;
use crate::rpc::v1;
use crate::rpc_server::neighbors;
use crate::rpc_server::routes::{self, PAGE};

/// What would become of a packet to an address.
pub(super) fn decide(node: &Node, request: &v1::GetRouteRequest) -> Result<v1::RouteDecision, Status> {
    let address: IpAddr = request
        .address
        .parse()
        .map_err(|_| Status::invalid_argument(format!("{:?} is not an IP address", request.address)))?;
    let vrf = routes::named_vrf(node, &request.vrf)?;
    let mut out = v1::RouteDecision {
        address: address.to_string(),
        vrf: request.vrf.clone(),
        ..v1::RouteDecision::default()
    };
    let Some(view) = node.router.engine().route_to(vrf, address) else {
        drop_for(&mut out, DropReason::NoRoute);
        return Ok(out);
    };
    let route = routes::show(node, &view);
    out.prefix = route.prefix;
    out.source = route.source;
    out.r#type = route.r#type;
    out.group = route.group;
    out.next_hops = route.next_hops;
    tell_others(node, &view, &mut out);
    // What the packet path has, which leaves out paths that lead nowhere.
    let hops = view.group.map_or(&[][..], |group| node.router.engine().group_hops(group));
    let sum: u64 = hops.iter().map(|(_, share)| share).sum();
    let judged = hops.iter().map(|(hop, share)| v1::HopDecision {
        share: *share as f64 / sum as f64,
        ..judge(node, hop, address)
    });
    out.hops = judged.collect();
    let best = out.hops.iter().min_by_key(|hop| match hop.verdict() {
        v1::VerdictKind::Forward => 0,
        v1::VerdictKind::Punt => 1,
        _ => 2,
    });
    let Some(told) = best.cloned() else {
        drop_for(&mut out, DropReason::NextHopUnresolved);
        return Ok(out);
    };
    out.verdict = told.verdict;
    out.drop_reason = told.drop_reason;
    out.port = told.port;
    out.encap = told.encap;
    out.tunnel_local = told.tunnel_local;
    out.tunnel_remote = told.tunnel_remote;
    out.mtu = told.mtu;
    out.neighbor = told.neighbor;
    out.neighbor_mac = told.neighbor_mac;
    out.neighbor_state = told.neighbor_state;
    Ok(out)
}

/// Adds the candidates that lost, and a bounded number of the route resources that are none.
fn tell_others(node: &Node, view: &RouteView, out: &mut v1::RouteDecision) {
    let (engine, resources) = (node.router.engine(), &node.resources);
    let others = engine.routes_to(view.vrf, &view.prefix).into_iter().skip(1);
    out.candidates = others.map(|other| routes::show(node, &other)).collect();
    let vrf = engine.desired().vrf_name(view.vrf);
    if let Some(in_force) = resources.first_route(vrf, &view.prefix) {
        let mut shadowed = resources.routes_after(in_force);
        let told = shadowed.by_ref().take(PAGE);
        out.candidates.extend(told.filter_map(|other| routes::shadowed(other, in_force)));
        out.candidates_left_out = shadowed.count() as u64;
    }
}

/// What would become of packets that go by a hop.
fn judge(node: &Node, hop: &Hop, address: IpAddr) -> v1::HopDecision {
    let shown = routes::describe(node, v1::NextHop::default(), hop);
    let mut out = v1::HopDecision {
        port: shown.port,
        encap: shown.encap,
        mtu: shown.mtu,
        tunnel_remote: shown.tunnel_remote,
        ..v1::HopDecision::default()
    };
    if let Hop::Ipip(local, ..) = hop {
        out.tunnel_local = local.to_string();
    }
    let neighbor = match *hop {
        Hop::Drop(reason) => return dropped(out, reason),
        // Echo is answered, the rest is the node's own stack's.
        Hop::Local(_) => return v1::HopDecision { verdict: v1::VerdictKind::Punt.into(), ..out },
        Hop::Direct(..) => None,
        // The destination itself is asked for, and the packet waits.
        Hop::Glean(port) => Some((port, address)),
        Hop::Neighbor(port, address) | Hop::Gleaned(port, address) | Hop::Ipip(_, _, port, address) => {
            Some((port, address))
        }
    };
    let is_up = node.router.engine().tables().port(routes::port_of(hop)).is_some_and(|port| port.up);
    out.set_verdict(v1::VerdictKind::Forward);
    if let Some((port, address)) = neighbor {
        let known = neighbors::look(node, port, address);
        let state = known.state();
        out.neighbor = known.address;
        out.neighbor_mac = known.mac;
        out.neighbor_state = known.state;
        if is_up && state == v1::NeighborState::Failed {
            return dropped(out, DropReason::NeighborFailed);
        }
        if !neighbors::is_usable(state) {
            out.set_verdict(v1::VerdictKind::Punt);
        }
    }
    if is_up { out } else { dropped(out, DropReason::PortDown) }
}

fn dropped(mut out: v1::HopDecision, reason: DropReason) -> v1::HopDecision {
    out.set_verdict(v1::VerdictKind::Drop);
    out.drop_reason = reason.name().to_owned();
    out
}

fn drop_for(out: &mut v1::RouteDecision, reason: DropReason) {
    out.set_verdict(v1::VerdictKind::Drop);
    out.drop_reason = reason.name().to_owned();
}
