//! `show routes` and `route get`.

use std::net::IpAddr;

use tokio_stream::StreamExt;
use vrouter::rpc::Word;
use vrouter::rpc::v1;
use vrouter::rpc::v1::{
    Encap, ListRoutesRequest, NeighborState, NextHop, NextHopGroup, Route, RouteDecision, RouteType,
    VerdictKind,
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
    let verdict = match decision.drop_reason.as_str() {
        "" => verdict.to_owned(),
        reason => format!("{verdict}: {reason}"),
    };
    let matched = match decision.prefix.as_str() {
        "" => "no route".to_owned(),
        prefix => format!("{prefix} {} from {}", RouteType::word_of(decision.r#type), decision.source),
    };
    let encap = match decision.tunnel_remote.as_str() {
        "" => Encap::word_of(decision.encap).to_owned(),
        remote => format!("{} {} > {remote}", Encap::word_of(decision.encap), decision.tunnel_local),
    };
    let neighbor = match decision.neighbor.as_str() {
        "" => String::new(),
        address => format!(
            "{address} at {} {}",
            dash(&decision.neighbor_mac),
            NeighborState::word_of(decision.neighbor_state)
        ),
    };
    let forwarded = !decision.port.is_empty();
    let facts = [
        ("Address", decision.address.clone()),
        ("VRF", decision.vrf.clone()),
        ("Verdict", verdict),
        ("Route", matched),
        ("Next hop", next_hops(&decision.next_hops)),
        ("Port", decision.port.clone()),
        ("Encapsulation", if forwarded { encap } else { String::new() }),
        ("MTU", if forwarded { decision.mtu.to_string() } else { String::new() }),
        ("Neighbor", neighbor),
        ("Way", way(&decision.next_hops)),
        ("Problem", problems(&decision.next_hops)),
        ("Not used", decision.candidates.iter().map(lost).collect::<Vec<_>>().join("; ")),
    ];
    output::one(&decision, &facts, format)
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

/// The routes that next hops were resolved through: `10.2.0.1 by 10.2.0.0/16 static`.
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
    format!("{} {}: {}", route.source, next_hops(&route.next_hops), route.reason)
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
