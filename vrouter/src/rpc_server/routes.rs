//! `ListRoutes`, `ListNextHopGroups` and `GetRoute`: candidates, which one won, and what it comes down to.

use std::net::IpAddr;
use std::sync::Arc;

use api::Resource;
use fib::{AnyPrefix, Lost, RouteSource};
use ipnet::IpNet;
use tokio::sync::Mutex;
use tokio::sync::mpsc::Sender;
use tonic::Status;

use crate::control::adjacency::Hop;
use crate::control::engine::net_prefix;
use crate::control::{GroupView, NextHop, OrderedPrefixes, PathView, RouteView};
use crate::daemon::Node;
use crate::daemon::pods::Origin;
use crate::drop_reason::DropReason;
use crate::ids::{PortId, VrfId};
use crate::rpc::{Word, v1};
use crate::rpc_server::neighbors;

/// Places of the RIB that are looked at while the node is held.
const STEP: usize = 1 << 14;
/// Prefixes that an answer keeps in memory, whatever the number of routes.
const ROOM: usize = 1 << 16;
/// Prefixes whose routes are described while the node is held.
const PAGE: usize = 128;

/// Which candidates a request asks for.
pub(super) struct Filter {
    within: Option<AnyPrefix>,
    exactly: Option<AnyPrefix>,
    source: String,
    selected_only: bool,
    vrf: String,
}

impl Filter {
    pub(super) fn new(request: v1::ListRoutesRequest) -> Result<Self, Status> {
        let prefix = |text: &str| if text.is_empty() { Ok(None) } else { net(text).map(Some) };
        Ok(Filter {
            within: prefix(&request.within)?,
            exactly: prefix(&request.prefix)?,
            source: request.source,
            selected_only: request.selected_only,
            vrf: request.vrf,
        })
    }

    fn wants_prefix(&self, prefix: &AnyPrefix) -> bool {
        self.within.is_none_or(|within| within.len() <= prefix.len() && within.contains(prefix.addr()))
            && self.exactly.is_none_or(|exactly| exactly == *prefix)
    }

    fn wants(&self, route: &v1::Route) -> bool {
        (self.source.is_empty() || self.source == route.source) && (route.selected || !self.selected_only)
    }
}

/// Sends all routes that the filter lets pass, in the order of their prefixes. The node is held for a
/// page at a time; what is kept meanwhile is a bounded number of prefixes.
pub(super) async fn send(node: Arc<Mutex<Node>>, filter: Filter, to: Sender<Result<v1::Route, Status>>) {
    let vrf = match named_vrf(&*node.lock().await, &filter.vrf) {
        Ok(vrf) => vrf,
        Err(status) => {
            // Who asked may be gone.
            let _ = to.send(Err(status)).await;
            return;
        }
    };
    let mut prefixes = OrderedPrefixes::new(vrf, ROOM);
    let mut more = true;
    while more {
        let run = match filter.exactly {
            Some(exactly) => Vec::from_iter(filter.wants_prefix(&exactly).then_some(exactly)),
            None => next_run(&node, &mut prefixes, &filter).await,
        };
        more = run.len() == prefixes.room();
        for page in run.chunks(PAGE) {
            let routes: Vec<v1::Route> = {
                let node = node.lock().await;
                let views = page.iter().flat_map(|prefix| node.router.engine().routes_to(vrf, prefix));
                views.map(|view| show(&node, &view)).filter(|route| filter.wants(route)).collect()
            };
            for route in routes {
                if to.send(Ok(route)).await.is_err() {
                    return;
                }
            }
        }
    }
    let shadowed: Vec<v1::Route> = {
        let node = node.lock().await;
        let given = node.resources.shadowed();
        given.filter_map(|given| shadowed(&given.resource, &given.origin, &filter)).collect()
    };
    for route in shadowed {
        if to.send(Ok(route)).await.is_err() {
            return;
        }
    }
}

/// The next prefixes that the filter lets pass.
async fn next_run(node: &Mutex<Node>, prefixes: &mut OrderedPrefixes, filter: &Filter) -> Vec<AnyPrefix> {
    let wanted = |prefix: &AnyPrefix| filter.wants_prefix(prefix);
    loop {
        let found = prefixes.step(node.lock().await.router.engine(), STEP, wanted);
        if let Some(run) = found {
            return run;
        }
    }
}

/// Sends all next-hop groups, some at a time.
pub(super) async fn send_groups(node: Arc<Mutex<Node>>, to: Sender<Result<v1::NextHopGroup, Status>>) {
    let mut from = 0;
    loop {
        let (groups, more) = {
            let node = node.lock().await;
            let (views, more) = node.router.engine().groups(from..from + PAGE);
            (views.iter().map(|view| group(&node, view)).collect::<Vec<_>>(), more)
        };
        for group in groups {
            if to.send(Ok(group)).await.is_err() {
                return;
            }
        }
        if !more {
            return;
        }
        from += PAGE;
    }
}

fn group(node: &Node, view: &GroupView) -> v1::NextHopGroup {
    let next_hops = shared(node, &view.paths, &view.hops);
    let next_hops = next_hops.into_iter().map(|(_, shown)| shown).collect();
    let vrf = node.router.engine().desired().vrf_name(view.vrf).to_owned();
    v1::NextHopGroup { id: view.id.raw(), routes: view.routes as u64, next_hops, vrf }
}

/// What paths come down to, each with its part of the flows of a group that has these hops.
fn shared(node: &Node, paths: &[PathView], hops: &[(Hop, u64)]) -> Vec<(Option<Hop>, v1::NextHop)> {
    // Several paths may come down to one hop: it is shown by the first, with the share of all.
    let mut left: Vec<(Hop, u64)> = hops.to_vec();
    let sum: u64 = left.iter().map(|(_, share)| share).sum();
    let mut next_hops: Vec<_> = paths.iter().flat_map(|path| next_hops_of(node, path)).collect();
    for (hop, shown) in &mut next_hops {
        if let Some(at) = left.iter().position(|(of, _)| Some(*of) == *hop) {
            shown.share = left.swap_remove(at).1 as f64 / sum as f64;
        }
    }
    next_hops
}

fn net(text: &str) -> Result<AnyPrefix, Status> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(|net| net_prefix(net.trunc()))
        .map_err(|_| Status::invalid_argument(format!("{text:?} is neither a prefix nor an address")))
}

fn show(node: &Node, view: &RouteView) -> v1::Route {
    let (source, name) = origin(node, view);
    let mut next_hops: Vec<v1::NextHop> = Vec::new();
    let mut usable = false;
    let hops = view.group.map_or(&[][..], |group| node.router.engine().group_hops(group));
    for (hop, shown) in shared(node, &view.paths, hops) {
        usable |= hop.is_some_and(|hop| is_usable(node, &hop, &shown));
        next_hops.push(shown);
    }
    let drops = matches!(view.paths[0].path.next_hop, NextHop::Drop(_));
    let active = view.group.is_some() && usable;
    let reason = if active { String::new() } else { reason(node, view, &next_hops) };
    if drops {
        next_hops.clear();
    }
    v1::Route {
        prefix: view.prefix.to_string(),
        source,
        distance: view.distance.into(),
        metric: view.metric,
        r#type: route_type(view).into(),
        next_hops,
        selected: view.lost.is_none(),
        active,
        group: view.group.map(fib::GroupId::raw).unwrap_or_default(),
        name,
        reason,
        vrf: node.router.engine().desired().vrf_name(view.vrf).to_owned(),
    }
}

fn named_vrf(node: &Node, name: &str) -> Result<VrfId, Status> {
    let vrf = node.router.engine().desired().vrf(name);
    vrf.ok_or_else(|| Status::not_found(format!("there is no VRF {name}")))
}

/// Why a route is not active.
fn reason(node: &Node, view: &RouteView, next_hops: &[v1::NextHop]) -> String {
    let best = || node.router.engine().routes_to(view.vrf, &view.prefix).into_iter().next();
    match (view.lost, best()) {
        (Some(Lost::Unusable), _) => return "its distance says that it is never to be used".to_owned(),
        (Some(Lost::Distance), Some(best)) => {
            return format!("distance {} against {} of {}", view.distance, best.distance, best.source);
        }
        (Some(Lost::Metric), Some(best)) => {
            return format!("metric {} against {} of {}", view.metric, best.metric, best.source);
        }
        (Some(Lost::SourceOrder), Some(best)) => {
            return format!("{} comes first at equal distance and metric", best.source);
        }
        (Some(_), None) => return String::new(),
        (None, _) => {}
    }
    if view.group.is_none() {
        return "it is not in the forwarding table, which is full".to_owned();
    }
    let mut reasons: Vec<String> = Vec::new();
    for hop in next_hops {
        let reason = if !hop.problem.is_empty() {
            hop.problem.clone()
        } else if neighbors::is_usable(hop.neighbor_state()) || hop.neighbor_state == 0 {
            format!("port {} is down", hop.port)
        } else {
            format!("neighbor {} is {}", hop.address, v1::NeighborState::word_of(hop.neighbor_state))
        };
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons.join("; ")
}

/// Who gave a route, in the API's words, and the name of what it comes from.
fn origin(node: &Node, view: &RouteView) -> (String, String) {
    match (view.source, &view.paths[0].path.next_hop) {
        (RouteSource::Static, _) => match node
            .resources
            .route_in_force(node.router.engine().desired().vrf_name(view.vrf), &view.prefix)
        {
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
    match &view.paths[0].path.next_hop {
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
fn shadowed(resource: &Resource, origin: &Origin, filter: &Filter) -> Option<v1::Route> {
    let Resource::Route(route) = resource else { return None };
    if route.spec.vrf != filter.vrf || !filter.wants_prefix(&net_prefix(route.spec.prefix)) {
        return None;
    }
    let next_hops = route.spec.via.iter().map(|via| v1::NextHop {
        address: via.address.to_string(),
        gateway: via.address.to_string(),
        weight: via.weight,
        ..v1::NextHop::default()
    });
    let route = v1::Route {
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
        reason: "another route resource of the prefix has a lower metric".to_owned(),
        vrf: route.spec.vrf.clone(),
        ..v1::Route::default()
    };
    filter.wants(&route).then_some(route)
}

/// What a path comes down to: its hops, or the one that it fails to be.
fn next_hops_of(node: &Node, path: &PathView) -> Vec<(Option<Hop>, v1::NextHop)> {
    let PathView { path, resolution } = path;
    let gateway = match path.next_hop {
        NextHop::Via(via, _) => via.to_string(),
        _ => String::new(),
    };
    let way = resolution.links.iter().map(|link| v1::RouteLink {
        address: link.address.to_string(),
        prefix: link.prefix.to_string(),
        source: link.source.name().to_owned(),
    });
    let base = v1::NextHop {
        address: gateway.clone(),
        gateway,
        weight: path.weight,
        way: way.collect(),
        ..v1::NextHop::default()
    };
    let mut hops: Vec<(Option<Hop>, v1::NextHop)> =
        resolution.hops.iter().map(|(hop, _)| (Some(*hop), describe(node, base.clone(), hop))).collect();
    // Of several ways behind the gateway some may lead nowhere.
    if !resolution.problems.is_empty() {
        let problems: Vec<String> = resolution.problems.iter().map(ToString::to_string).collect();
        let mut unresolved = v1::NextHop { problem: problems.join("; "), ..base };
        unresolved.set_encap(v1::Encap::None);
        hops.push((None, unresolved));
    }
    hops
}

/// Completes a next hop by what it comes down to now.
fn describe(node: &Node, mut out: v1::NextHop, hop: &Hop) -> v1::NextHop {
    let engine = node.router.engine();
    out.set_encap(v1::Encap::None);
    let totals = node.router.hop_totals(hop);
    (out.tx_packets, out.tx_bytes) = (totals.tx_packets, totals.tx_bytes);
    if let Some(port) = hop.port()
        && let Some(name) = engine.port_name(port)
    {
        out.port = name.to_owned();
        out.mtu = engine.hop_mtu(hop).unwrap_or_default();
    }
    if let Hop::Ipip(_, remote, ..) = hop {
        out.set_encap(v1::Encap::Ipip);
        out.tunnel_remote = remote.to_string();
    }
    if let Some((port, address, _)) = hop.neighbor() {
        out.address = address.to_string();
        out.neighbor_state = neighbors::look(node, port, address).state;
    }
    out
}

fn port_of(hop: &Hop) -> PortId {
    hop.port().unwrap_or(PortId::NONE)
}

/// Whether packets of this hop go where the route says.
fn is_usable(node: &Node, hop: &Hop, shown: &v1::NextHop) -> bool {
    let up = || node.router.engine().tables().port(port_of(hop)).is_some_and(|port| port.up);
    match hop {
        Hop::Drop(_) => true,
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
    let vrf = named_vrf(node, &request.vrf)?;
    let mut out = v1::RouteDecision {
        address: address.to_string(),
        vrf: request.vrf.clone(),
        ..v1::RouteDecision::default()
    };
    let Some(view) = node.router.engine().route_to(vrf, address) else {
        drop_for(&mut out, DropReason::NoRoute);
        return Ok(out);
    };
    let route = show(node, &view);
    out.prefix = route.prefix;
    out.source = route.source;
    out.r#type = route.r#type;
    out.group = route.group;
    out.next_hops = route.next_hops;
    let others = node.router.engine().routes_to(vrf, &view.prefix).into_iter().skip(1);
    out.candidates = others.map(|other| show(node, &other)).collect();
    // What the packet path has, which leaves out paths that lead nowhere.
    let hops = view.group.map_or(&[][..], |group| node.router.engine().group_hops(group));
    let Some((hop, _)) = hops.first().copied() else {
        drop_for(&mut out, DropReason::NextHopUnresolved);
        return Ok(out);
    };
    let first = describe(node, v1::NextHop::default(), &hop);
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
