//! `ListRoutes` and `GetRoute`: candidates, which one won, and what it comes down to.

use std::net::IpAddr;

use api::Resource;
use encap::tunnel::{ipip, mtu};
use fib::{AnyPrefix, RouteSource};
use ipnet::IpNet;
use tonic::Status;

use crate::control::RouteView;
use crate::control::adjacency::{Hop, NextHop};
use crate::control::engine::net_prefix;
use crate::daemon::Node;
use crate::daemon::pods::Origin;
use crate::drop_reason::DropReason;
use crate::ids::PortId;
use crate::rpc::v1;
use crate::rpc_server::neighbors;

/// Candidates that the request asks for.
pub(super) fn list(node: &Node, request: &v1::ListRoutesRequest) -> Result<Vec<v1::Route>, Status> {
    let within = match request.within.as_str() {
        "" => None,
        text => Some(net(text)?),
    };
    let wanted = |prefix: &AnyPrefix| {
        within.is_none_or(|within| within.len() <= prefix.len() && within.contains(prefix.addr()))
    };
    let views = node.router.engine().routes(wanted);
    let mut routes: Vec<v1::Route> = views.iter().map(|view| show(node, view)).collect();
    routes.extend(
        node.resources.shadowed().filter_map(|given| shadowed(&given.resource, &given.origin, &wanted)),
    );
    routes.retain(|route| {
        (request.source.is_empty() || request.source == route.source)
            && (route.selected || !request.selected_only)
    });
    Ok(routes)
}

fn net(text: &str) -> Result<AnyPrefix, Status> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(|net| net_prefix(net.trunc()))
        .map_err(|_| Status::invalid_argument(format!("{text:?} is neither a prefix nor an address")))
}

fn show(node: &Node, view: &RouteView) -> v1::Route {
    let (source, name) = origin(node, view);
    let mut next_hops: Vec<v1::NextHop> =
        view.next_hops.iter().map(|(hop, to)| next_hop(node, hop, to)).collect();
    let usable = view.next_hops.iter().zip(&next_hops).any(|((_, hop), shown)| is_usable(node, hop, shown));
    if matches!(view.next_hops[0].0, NextHop::Drop(_)) {
        next_hops.clear();
    }
    v1::Route {
        prefix: view.prefix.to_string(),
        source,
        distance: view.distance.into(),
        metric: view.metric,
        r#type: route_type(view).into(),
        next_hops,
        selected: view.selected,
        active: view.group.is_some() && usable,
        group: view.group.map(fib::GroupId::raw).unwrap_or_default(),
        name,
    }
}

/// Who gave a route, in the API's words, and the name of what it comes from.
fn origin(node: &Node, view: &RouteView) -> (String, String) {
    match (view.source, &view.next_hops[0].0) {
        (RouteSource::Static, _) => match node.resources.route_in_force(&view.prefix) {
            Some(given) => (word(given.origin).to_owned(), given.resource.name().to_owned()),
            None => ("config".to_owned(), String::new()),
        },
        (RouteSource::Endpoint, NextHop::Endpoint(name)) => ("pod".to_owned(), name.clone()),
        (RouteSource::Connected, NextHop::Drop(_)) => ("block".to_owned(), String::new()),
        (RouteSource::Connected, NextHop::Connected(name) | NextHop::Gleaned(name, _)) => {
            ("connected".to_owned(), name.clone())
        }
        (source, _) => (source.name().to_owned(), String::new()),
    }
}

fn word(origin: Origin) -> &'static str {
    match origin {
        Origin::Config => "config",
        Origin::Api => "api",
    }
}

fn route_type(view: &RouteView) -> v1::RouteType {
    match &view.next_hops[0].0 {
        NextHop::Drop(DropReason::Blackhole) => v1::RouteType::Blackhole,
        NextHop::Drop(DropReason::Prohibit) => v1::RouteType::Prohibit,
        NextHop::Drop(_) => v1::RouteType::Unreachable,
        NextHop::Local | NextHop::Host => v1::RouteType::Local,
        NextHop::Connected(_) => v1::RouteType::Connected,
        NextHop::Endpoint(_) => v1::RouteType::Pod,
        NextHop::Via(..) | NextHop::Gleaned(..) => v1::RouteType::Unicast,
    }
}

/// A route resource that another one of its prefix keeps from the table.
fn shadowed(resource: &Resource, origin: &Origin, wanted: &impl Fn(&AnyPrefix) -> bool) -> Option<v1::Route> {
    let Resource::Route(route) = resource else { return None };
    if !wanted(&net_prefix(route.spec.prefix)) {
        return None;
    }
    let next_hops = route.spec.via.iter().map(|via| v1::NextHop {
        address: via.to_string(),
        weight: 1,
        ..v1::NextHop::default()
    });
    Some(v1::Route {
        prefix: route.spec.prefix.to_string(),
        source: word(*origin).to_owned(),
        distance: RouteSource::Static.default_distance().into(),
        metric: route.spec.metric,
        r#type: match route.spec.kind {
            api::RouteType::Unicast => v1::RouteType::Unicast,
            api::RouteType::Blackhole => v1::RouteType::Blackhole,
            api::RouteType::Prohibit => v1::RouteType::Prohibit,
            _ => v1::RouteType::Unreachable,
        }
        .into(),
        next_hops: next_hops.collect(),
        name: route.metadata.name.clone(),
        ..v1::Route::default()
    })
}

/// A next hop as its source gave it, with what it comes down to now.
pub(super) fn next_hop(node: &Node, next_hop: &NextHop, hop: &Hop) -> v1::NextHop {
    let engine = node.router.engine();
    let mut out = v1::NextHop { weight: 1, ..v1::NextHop::default() };
    out.set_encap(v1::Encap::None);
    let port = port_of(hop);
    if let Some(name) = engine.port_name(port) {
        out.port = name.to_owned();
        out.mtu = engine.port_mtu(port).unwrap_or_default();
    }
    if let NextHop::Via(via, _) = next_hop {
        out.address = via.to_string();
    }
    if let Hop::Ipip(_, remote, ..) = hop {
        out.set_encap(v1::Encap::Ipip);
        out.tunnel_remote = remote.to_string();
        out.mtu = mtu::inner_mtu(out.mtu, ipip::OVERHEAD as u16).into();
    }
    if let Hop::Neighbor(port, address) | Hop::Gleaned(port, address) | Hop::Ipip(_, _, port, address) = hop {
        out.address = address.to_string();
        out.neighbor_state = neighbors::look(node, *port, *address).state;
    }
    out
}

fn port_of(hop: &Hop) -> PortId {
    match *hop {
        Hop::Drop(_) => PortId::NONE,
        Hop::Local(port)
        | Hop::Glean(port)
        | Hop::Direct(port, _)
        | Hop::Neighbor(port, _)
        | Hop::Gleaned(port, _)
        | Hop::Ipip(_, _, port, _) => port,
    }
}

/// Whether packets of this hop go where the route says.
fn is_usable(node: &Node, hop: &Hop, shown: &v1::NextHop) -> bool {
    let up = || node.router.engine().tables().port(port_of(hop)).is_some_and(|port| port.up);
    match hop {
        Hop::Drop(reason) => *reason != DropReason::NextHopUnresolved,
        Hop::Local(_) => true,
        Hop::Glean(_) | Hop::Direct(..) => up(),
        Hop::Neighbor(..) | Hop::Gleaned(..) | Hop::Ipip(..) => {
            up() && neighbors::is_usable(shown.neighbor_state())
        }
    }
}

/// What would become of a packet to an address.
pub(super) fn decide(node: &Node, request: &v1::GetRouteRequest) -> Result<v1::RouteDecision, Status> {
    let address: IpAddr = request
        .address
        .parse()
        .map_err(|_| Status::invalid_argument(format!("{:?} is not an IP address", request.address)))?;
    let mut out = v1::RouteDecision { address: address.to_string(), ..v1::RouteDecision::default() };
    let Some(view) = node.router.engine().route_to(address) else {
        drop_for(&mut out, DropReason::NoRoute);
        return Ok(out);
    };
    let route = show(node, &view);
    out.prefix = route.prefix;
    out.source = route.source;
    out.r#type = route.r#type;
    out.group = route.group;
    out.next_hops = route.next_hops;
    let (hop, first) = (view.next_hops[0].1, out.next_hops.first().cloned().unwrap_or_default());
    out.port = first.port;
    out.encap = first.encap;
    out.mtu = first.mtu;
    out.tunnel_remote = first.tunnel_remote;
    if let Hop::Ipip(local, ..) = hop {
        out.tunnel_local = local.to_string();
    }
    verdict(node, &mut out, &hop, address);
    Ok(out)
}

fn verdict(node: &Node, out: &mut v1::RouteDecision, hop: &Hop, address: IpAddr) {
    let neighbor = match *hop {
        Hop::Drop(reason) => return drop_for(out, reason),
        // Echo is answered, the rest is the node's own stack's.
        Hop::Local(_) => return out.set_verdict(v1::VerdictKind::Punt),
        Hop::Direct(..) => None,
        // The destination itself is asked for, and the packet waits.
        Hop::Glean(port) => Some((port, address)),
        Hop::Neighbor(port, address) | Hop::Gleaned(port, address) | Hop::Ipip(_, _, port, address) => {
            Some((port, address))
        }
    };
    if node.router.engine().tables().port(port_of(hop)).is_none_or(|port| !port.up) {
        drop_for(out, DropReason::PortDown);
    } else {
        out.set_verdict(v1::VerdictKind::Forward);
    }
    let Some((port, address)) = neighbor else { return };
    let known = neighbors::look(node, port, address);
    out.neighbor = known.address.clone();
    out.neighbor_mac = known.mac.clone();
    out.neighbor_state = known.state;
    if out.verdict() == v1::VerdictKind::Drop {
        return;
    }
    match known.state() {
        v1::NeighborState::Failed => drop_for(out, DropReason::NeighborFailed),
        state if !neighbors::is_usable(state) => out.set_verdict(v1::VerdictKind::Punt),
        _ => {}
    }
}

fn drop_for(out: &mut v1::RouteDecision, reason: DropReason) {
    out.set_verdict(v1::VerdictKind::Drop);
    out.drop_reason = reason.name().to_owned();
}
