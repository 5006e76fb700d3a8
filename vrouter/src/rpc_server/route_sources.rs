//! The words for who gave a route: one vocabulary in lists, ways, reasons and filters.
//!
//! | word | who |
//! |---|---|
//! | `config`, `api` | a route resource, of the configuration file or applied |
//! | `pod` | the address of an attached pod |
//! | `connected` | the subnet of a port's address |
//! | `block` | a block of the node, whose free addresses lead nowhere |
//! | all others | [`RouteSource::name`] |

use fib::{AnyPrefix, RouteSource};
use tonic::Status;

use crate::control::resolution::Link;
use crate::control::{NextHop, RouteView};
use crate::daemon::Node;
use crate::daemon::pods::Origin;
use crate::ids::VrfId;

/// The source that the RIB has as connected: it drops what nothing more specific takes.
const BLOCK: &str = "block";

/// Refuses what is no source's name; an empty text names none.
pub(super) fn check(name: &str) -> Result<(), Status> {
    let known = || RouteSource::ALL.iter().map(|source| source.name()).chain([BLOCK]);
    if name.is_empty() || known().any(|source| source == name) {
        return Ok(());
    }
    let known: Vec<&str> = known().collect();
    let message = format!("there is no source {name:?} of routes; sources are {}", known.join(", "));
    Err(Status::invalid_argument(message))
}

/// Who gave a route, and the name of what it comes from.
pub(super) fn of_route(node: &Node, view: &RouteView) -> (&'static str, String) {
    match (view.source, &view.paths[0].path.next_hop) {
        (RouteSource::Static, _) => of_resource(node, view.vrf, &view.prefix),
        (RouteSource::Endpoint, NextHop::Endpoint(name)) => (view.source.name(), name.clone()),
        (RouteSource::Connected, NextHop::Drop(_)) => (BLOCK, String::new()),
        (RouteSource::Connected, NextHop::Connected(name) | NextHop::Gleaned(name, _)) => {
            (view.source.name(), name.clone())
        }
        (source, _) => (source.name(), String::new()),
    }
}

/// Who gave a route that another one leads through.
pub(super) fn of_link(node: &Node, vrf: VrfId, link: &Link) -> &'static str {
    match link.source {
        RouteSource::Static => of_resource(node, vrf, &link.prefix).0,
        RouteSource::Connected => {
            let routes = node.router.engine().routes_to(vrf, &link.prefix);
            routes.first().map_or(link.source.name(), |route| of_route(node, route).0)
        }
        source => source.name(),
    }
}

fn of_resource(node: &Node, vrf: VrfId, prefix: &AnyPrefix) -> (&'static str, String) {
    let vrf = node.router.engine().desired().vrf_name(vrf);
    match node.resources.route_in_force(vrf, prefix) {
        Some(given) => (of_origin(given.origin), given.resource.name().to_owned()),
        None => (RouteSource::Static.name(), String::new()),
    }
}

/// Who gave a route resource.
pub(super) fn of_origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Config => RouteSource::Static.name(),
        Origin::Api => RouteSource::Api.name(),
    }
}
