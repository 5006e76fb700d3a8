//! `ListRoutes` and `ListNextHopGroups`: candidates, which one won, and what it comes down to.

use std::net::IpAddr;
use std::sync::Arc;

use fib::{AnyPrefix, Lost, PrefixError, RouteSource};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Sender;
use tonic::Status;

use crate::control::adjacency::Hop;
use crate::control::engine::net_prefix;
use crate::control::{GroupView, NextHop, OrderedPrefixes, PathView, RouteView};
use crate::daemon::Node;
use crate::daemon::resources::{Given, RouteKey};
use crate::drop_reason::DropReason;
use crate::ids::{PortId, VrfId};
use crate::rpc::{Word, v1};
use crate::rpc_server::{neighbors, route_sources};

/// Places of the RIB that are looked at while the node is held.
const STEP: usize = 1 << 14;
/// Prefixes that an answer keeps in memory, whatever the number of routes.
const ROOM: usize = 1 << 16;
/// Prefixes, and route resources kept from the table, that are described while the node is held.
pub(super) const PAGE: usize = 128;

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
        route_sources::check(&request.source)?;
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
        let mut rest = Rest { prefixes: &run, after: None };
        while !rest.prefixes.is_empty() {
            let mut routes = rest.page(&*node.lock().await, vrf);
            routes.retain(|route| filter.wants(route));
            for route in routes {
                if to.send(Ok(route)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Prefixes whose routes are still to be sent.
struct Rest<'a> {
    prefixes: &'a [AnyPrefix],
    /// The last route resource that was sent of the first prefix, where others are left.
    after: Option<RouteKey>,
}

impl Rest<'_> {
    /// The next routes: all candidates of a prefix, then the route resources that another one keeps
    /// from being candidates, however many those are.
    fn page(&mut self, node: &Node, vrf: VrfId) -> Vec<v1::Route> {
        let (engine, resources) = (node.router.engine(), &node.resources);
        let mut routes = Vec::new();
        let mut room = PAGE;
        while room > 0
            && let Some((prefix, others)) = self.prefixes.split_first()
        {
            let after = self.after.take();
            if after.is_none() {
                routes.extend(engine.routes_to(vrf, prefix).iter().map(|view| show(node, view)));
                room -= 1;
            }
            if let Some(in_force) = resources.first_route(engine.desired().vrf_name(vrf), prefix) {
                let after = after.as_ref().unwrap_or(in_force);
                let mut last = after;
                let mut kept_out = resources.routes_after(after).peekable();
                while room > 0
                    && let Some((key, given)) = kept_out.next()
                {
                    routes.extend(shadowed((key, given), in_force));
                    room -= 1;
                    last = key;
                }
                if kept_out.peek().is_some() {
                    self.after = Some(last.clone());
                    return routes;
                }
            }
            self.prefixes = others;
        }
        routes
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
    let next_hops = shared(node, view.vrf, &view.paths, &view.hops);
    let next_hops = next_hops.into_iter().map(|(_, shown)| shown).collect();
    let vrf = node.router.engine().desired().vrf_name(view.vrf).to_owned();
    v1::NextHopGroup { id: view.id.raw(), routes: view.routes as u64, next_hops, vrf }
}

/// What paths come down to, each with its part of the flows of a group that has these hops.
fn shared(
    node: &Node,
    vrf: VrfId,
    paths: &[PathView],
    hops: &[(Hop, u64)],
) -> Vec<(Option<Hop>, v1::NextHop)> {
    // Several paths may come down to one hop: it is shown by the first, with the share of all.
    let mut left: Vec<(Hop, u64)> = hops.to_vec();
    let sum: u64 = left.iter().map(|(_, share)| share).sum();
    let mut next_hops: Vec<_> = paths.iter().flat_map(|path| next_hops_of(node, vrf, path)).collect();
    for (hop, shown) in &mut next_hops {
        if let Some(at) = left.iter().position(|(of, _)| Some(*of) == *hop) {
            shown.share = left.swap_remove(at).1 as f64 / sum as f64;
        }
    }
    next_hops
}

/// A prefix, or an address as the prefix of it alone.
fn net(text: &str) -> Result<AnyPrefix, Status> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(net_prefix(address.into()));
    }
    text.parse().map_err(|error: PrefixError| Status::invalid_argument(error.to_string()))
}

pub(super) fn show(node: &Node, view: &RouteView) -> v1::Route {
    let (source, name) = route_sources::of_route(node, view);
    let mut next_hops: Vec<v1::NextHop> = Vec::new();
    let mut usable = false;
    let hops = view.group.map_or(&[][..], |group| node.router.engine().group_hops(group));
    for (hop, shown) in shared(node, view.vrf, &view.paths, hops) {
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
        source: source.to_owned(),
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

pub(super) fn named_vrf(node: &Node, name: &str) -> Result<VrfId, Status> {
    let vrf = node.router.engine().desired().vrf(name);
    vrf.ok_or_else(|| Status::not_found(format!("there is no VRF {name}")))
}

/// Why a route is not active.
fn reason(node: &Node, view: &RouteView, next_hops: &[v1::NextHop]) -> String {
    let best = || {
        let best = node.router.engine().routes_to(view.vrf, &view.prefix).into_iter().next()?;
        Some((best.distance, best.metric, route_sources::of_route(node, &best).0))
    };
    match (view.lost, best()) {
        (Some(Lost::Unusable), _) => return "its distance says that it is never to be used".to_owned(),
        (Some(Lost::Distance), Some((distance, _, source))) => {
            return format!("distance {} against {distance} of {source}", view.distance);
        }
        (Some(Lost::Metric), Some((_, metric, source))) => {
            return format!("metric {} against {metric} of {source}", view.metric);
        }
        (Some(Lost::SourceOrder), Some((_, _, source))) => {
            return format!("{source} comes first at equal distance and metric");
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

/// A route resource that the one in force for its prefix keeps from the table.
pub(super) fn shadowed((key, given): (&RouteKey, &Given), in_force: &RouteKey) -> Option<v1::Route> {
    let api::Resource::Route(route) = &given.resource else { return None };
    let next_hops = route.spec.via.iter().map(|via| v1::NextHop {
        address: via.address.to_string(),
        gateway: via.address.to_string(),
        weight: via.weight,
        ..v1::NextHop::default()
    });
    Some(v1::Route {
        prefix: route.spec.prefix.to_string(),
        source: route_sources::of_origin(given.origin).to_owned(),
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
        reason: in_force.keeps_out(key),
        vrf: route.spec.vrf.clone(),
        ..v1::Route::default()
    })
}

/// What a path comes down to: its hops, or the one that it fails to be.
fn next_hops_of(node: &Node, vrf: VrfId, path: &PathView) -> Vec<(Option<Hop>, v1::NextHop)> {
    let PathView { path, resolution } = path;
    let gateway = match path.next_hop {
        NextHop::Via(via, _) => via.to_string(),
        _ => String::new(),
    };
    let way = resolution.links.iter().map(|link| v1::RouteLink {
        address: link.address.to_string(),
        prefix: link.prefix.to_string(),
        source: route_sources::of_link(node, vrf, link).to_owned(),
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
pub(super) fn describe(node: &Node, mut out: v1::NextHop, hop: &Hop) -> v1::NextHop {
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

pub(super) fn port_of(hop: &Hop) -> PortId {
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
