//! What the engine is told of a resource that comes or goes.

use api::{EncapMode, Resource, RouteEncap, RouteType};
use fib::RouteSource;

use crate::control::engine::net_prefix;
use crate::control::{Encap, Event, IpipMode, Pool, RouteSpec, RouteTarget};

/// The event that takes a resource out of force; none where others do.
pub(super) fn removal(resource: &Resource) -> Option<Event> {
    match resource {
        Resource::IpPool(pool) => Some(Event::RemovePool(pool.spec.cidr)),
        Resource::Route(route) => {
            let prefix = net_prefix(route.spec.prefix);
            Some(match route.spec.vrf.as_str() {
                "" => Event::RemoveRoute(prefix, RouteSource::Static),
                vrf => Event::RemoveVrfRoute(vrf.to_owned(), prefix, RouteSource::Static),
            })
        }
        _ => None,
    }
}

/// The event that puts a resource in force.
pub(super) fn announcement(resource: &Resource) -> Event {
    match resource {
        Resource::Route(route) => {
            let encap = match route.spec.encap {
                None => Encap::Pool,
                Some(RouteEncap::Ipip) => Encap::Ipip,
                Some(_) => Encap::None,
            };
            let target = match route.spec.kind {
                RouteType::Unicast => {
                    let via = route.spec.via.iter();
                    RouteTarget::Weighted(via.map(|to| (to.address, to.weight)).collect(), encap)
                }
                RouteType::Blackhole => RouteTarget::Blackhole,
                RouteType::Prohibit => RouteTarget::Prohibit,
                _ => RouteTarget::Unreachable,
            };
            let spec = RouteSpec {
                prefix: net_prefix(route.spec.prefix),
                source: RouteSource::Static,
                target,
                metric: route.spec.metric,
            };
            match route.spec.vrf.as_str() {
                "" => Event::PutRoute(spec),
                vrf => Event::PutVrfRoute(vrf.to_owned(), spec),
            }
        }
        Resource::IpPool(pool) => Event::PutPool(Pool {
            name: pool.metadata.name.clone(),
            cidr: pool.spec.cidr,
            ipip_mode: match pool.spec.ipip_mode {
                EncapMode::Always => IpipMode::Always,
                EncapMode::CrossSubnet => IpipMode::CrossSubnet,
                _ => IpipMode::Never,
            },
        }),
        other => Event::PutPolicy(Box::new(other.clone())),
    }
}
