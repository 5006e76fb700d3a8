//! `show routes` and `route get`.

use std::net::IpAddr;

use tokio_stream::StreamExt;
use vrouter::rpc::Word;
use vrouter::rpc::v1;
use vrouter::rpc::v1::{
    Encap, HopDecision, ListRoutesRequest, NeighborState, NextHop, NextHopGroup, Route, RouteDecision,
    RouteType, VerdictKind,
};

use crate::cli::Format;
use crate::connect::Client;
use crate::failure::Failure;
use crate::output::{self, Column, Listing};

/// Prints routes as they come: there may be a million.
pub(crate) async fn list(
    client: &mut Client,
    request: ListRoutesRequest,
    format: Format,
) -> Result<(), Failure> {
    let mut routes = client.list_routes(request).await?.into_inner();
    let mut listing = Listing::new(&ROUTES, format);
    while let Some(route) = routes.next().await {
        listing.row(&route?)?;
    }
    listing.end()
}

pub(crate) async fn get(
    client: &mut Client,
    address: IpAddr,
    vrf: String,
    format: Format,
) -> Result<(), Failure> {
    let request = v1::GetRouteRequest { address: address.to_string(), vrf };
    let decision: RouteDecision = client.get_route(request).await?.into_inner();
    let verdict = VerdictKind::word_of(decision.verdict);
    let mut verdict = match decision.drop_reason.as_str() {
        "" => verdict.to_owned(),
        reason => format!("{verdict}: {reason}"),
    };
    let hops = &decision.hops;
    let others = hops.iter().filter(|hop| hop.verdict != decision.verdict).count();
    if others > 0 {
        verdict = format!("{verdict}, by {} of {} hops", hops.len() - others, hops.len());
    }
    let matched = match decision.prefix.as_str() {
        "" => "no route".to_owned(),
        prefix => format!("{prefix} {} from {}", RouteType::word_of(decision.r#type), decision.source),
    };
    let forwarded = !decision.port.is_empty();
    let mut not_used: Vec<String> = decision.candidates.iter().map(lost).collect();
    if decision.candidates_left_out > 0 {
        not_used.push(format!("and {} more", decision.candidates_left_out));
    }
    let mut facts = vec![
        ("Address", decision.address.clone()),
        ("VRF", decision.vrf.clone()),
        ("Verdict", verdict),
        ("Route", matched),
        ("Next hop", next_hops(&decision.next_hops)),
    ];
    if hops.len() > 1 {
        facts.extend(hops.iter().map(|hop| ("Hop", judged(hop))));
    } else {
        let (local, remote) = (&decision.tunnel_local, &decision.tunnel_remote);
        let encap = if forwarded { encap(decision.encap(), local, remote) } else { String::new() };
        let mtu = if forwarded { decision.mtu.to_string() } else { String::new() };
        let neighbor = neighbor(&decision.neighbor, &decision.neighbor_mac, decision.neighbor_state);
        facts.push(("Port", decision.port.clone()));
        facts.extend([("Encapsulation", encap), ("MTU", mtu), ("Neighbor", neighbor)]);
    }
    facts.extend([
        ("Way", way(&decision.next_hops)),
        ("Problem", problems(&decision.next_hops)),
        ("Not used", not_used.join("; ")),
    ]);
    output::one(&decision, &facts, format)
}

/// What becomes of the flows of one of several hops:
/// `75.0% forward by eth1, mtu 1500, neighbor 172.16.20.1 at 02:00:00:00:00:01 reachable`.
fn judged(hop: &HopDecision) -> String {
    let mut text = format!("{:.1}% {}", hop.share * 100.0, VerdictKind::word_of(hop.verdict));
    let mut add = |part: String| text.push_str(&part);
    if !hop.drop_reason.is_empty() {
        add(format!(": {}", hop.drop_reason));
    }
    if !hop.port.is_empty() {
        add(format!(" by {}", hop.port));
        if hop.encap() != Encap::None {
            add(format!(", {}", encap(hop.encap(), &hop.tunnel_local, &hop.tunnel_remote)));
        }
        add(format!(", mtu {}", hop.mtu));
    }
    if !hop.neighbor.is_empty() {
        let neighbor = neighbor(&hop.neighbor, &hop.neighbor_mac, hop.neighbor_state);
        add(format!(", neighbor {neighbor}"));
    }
    text
}

fn encap(encap: Encap, local: &str, remote: &str) -> String {
    let word = Encap::word_of(encap.into());
    if remote.is_empty() { word.to_owned() } else { format!("{word} {local} > {remote}") }
}

fn neighbor(address: &str, mac: &str, state: i32) -> String {
    if address.is_empty() {
        return String::new();
    }
    format!("{address} at {} {}", dash(mac), NeighborState::word_of(state))
}

/// Prints next-hop groups as they come.
pub(crate) async fn groups(client: &mut Client, format: Format) -> Result<(), Failure> {
    let mut groups = client.list_next_hop_groups(v1::ListNextHopGroupsRequest {}).await?.into_inner();
    let mut listing = Listing::new(&GROUPS, format);
    while let Some(group) = groups.next().await {
        listing.row(&group?)?;
    }
    listing.end()
}

/// The routes that next hops were resolved through: `10.2.0.1 by 10.2.0.0/16 config`.
fn way(hops: &[NextHop]) -> String {
    let ways = hops.iter().filter(|hop| !hop.way.is_empty()).map(|hop| {
        let links = hop.way.iter();
        let links: Vec<String> =
            links.map(|link| format!("{} by {} {}", link.address, link.prefix, link.source)).collect();
        links.join(" > ")
    });
    distinct(ways)
}

fn problems(hops: &[NextHop]) -> String {
    distinct(hops.iter().filter(|hop| !hop.problem.is_empty()).map(|hop| hop.problem.clone()))
}

fn distinct(texts: impl Iterator<Item = String>) -> String {
    let mut out: Vec<String> = Vec::new();
    texts.for_each(|text| {
        if !out.contains(&text) {
            out.push(text);
        }
    });
    out.join("; ")
}

/// A candidate that is not in use.
fn lost(route: &Route) -> String {
    let name = if route.name.is_empty() { String::new() } else { format!(" ({})", route.name) };
    format!("{}{name} {}: {}", route.source, next_hops(&route.next_hops), route.reason)
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn next_hops(hops: &[NextHop]) -> String {
    let hops: Vec<String> = hops
        .iter()
        .map(|hop| {
            let address = match hop.address.as_str() {
                "" => "direct",
                address => address,
            };
            let share = if hops.len() > 1 { format!(" weight {}", hop.weight) } else { String::new() };
            match hop.port.as_str() {
                "" => format!("{address}{share}"),
                port => format!("{address} dev {port}{share}"),
            }
        })
        .collect();
    hops.join(", ")
}

fn each(hops: &[NextHop], value: fn(&NextHop) -> u64) -> String {
    hops.iter().map(|hop| value(hop).to_string()).collect::<Vec<_>>().join(", ")
}

const ROUTES: [Column<Route>; 13] = [
    Column::words("PREFIX", |r| r.prefix.clone()),
    Column::words("TYPE", |r| RouteType::word_of(r.r#type).to_owned()),
    Column::words("NEXT-HOP", |r| next_hops(&r.next_hops)),
    Column::words("ENCAP", |r| {
        let hop = r.next_hops.first();
        hop.map_or(String::new(), |hop| Encap::word_of(hop.encap).to_owned())
    }),
    Column::words("SOURCE", |r| r.source.clone()),
    Column::words("STATE", |r| {
        match (r.active, r.selected) {
            (true, _) => "active",
            (false, true) => "unresolved",
            (false, false) => "standby",
        }
        .to_owned()
    }),
    Column::words("WHY", |r| r.reason.clone()),
    Column::wide(Column::words("WAY", |r| way(&r.next_hops))),
    Column::wide(Column::number("DISTANCE", |r| r.distance.to_string())),
    Column::wide(Column::number("METRIC", |r| r.metric.to_string())),
    Column::wide(Column::number("GROUP", |r| r.group.to_string())),
    Column::wide(Column::words("NAME", |r| r.name.clone())),
    Column::wide(Column::words("VRF", |r| r.vrf.clone())),
];

const GROUPS: [Column<NextHopGroup>; 9] = [
    Column::number("GROUP", |g| g.id.to_string()),
    Column::number("ROUTES", |g| g.routes.to_string()),
    Column::words("NEXT-HOP", |g| next_hops(&g.next_hops)),
    Column::words("SHARE", |g| {
        let shares = g.next_hops.iter().map(|hop| format!("{:.1}%", hop.share * 100.0));
        shares.collect::<Vec<_>>().join(", ")
    }),
    Column::words("PACKETS", |g| each(&g.next_hops, |hop| hop.tx_packets)),
    Column::wide(Column::words("BYTES", |g| each(&g.next_hops, |hop| hop.tx_bytes))),
    Column::words("WHY", |g| problems(&g.next_hops)),
    Column::wide(Column::words("WAY", |g| way(&g.next_hops))),
    Column::wide(Column::words("VRF", |g| g.vrf.clone())),
];
