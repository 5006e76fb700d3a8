//! Where packets should go, computed from nothing but what was asked for.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::{BTreeMap, BTreeSet};

use fib::{AnyPrefix, RouteSource};
use ipnet::IpNet;

use super::Places;
use crate::control::desired::{Encap, IpipMode, PortRole, PortSpec, RouteTarget, to_ipnet};
use crate::control::event::Event;

/// Everything that was asked for.
#[derive(Default)]
pub(super) struct Model {
    pub(super) ports: BTreeMap<String, PortSpec>,
    pools: BTreeMap<IpNet, IpipMode>,
    pub(super) routes: BTreeMap<(AnyPrefix, RouteSource), (u32, RouteTarget)>,
    /// Routes of sources that announce anew and have not named them again.
    stale: BTreeMap<RouteSource, BTreeSet<AnyPrefix>>,
}

/// Where a route leads.
#[derive(Clone)]
enum To {
    Route(RouteTarget),
    Place(String),
}

/// A route with what it is judged by.
pub(super) struct Candidate {
    pub(super) net: IpNet,
    rank: (u8, u32, RouteSource),
    to: To,
}

/// One place behind a route.
struct Place {
    words: String,
    share: f64,
    /// Whether its link is up.
    up: bool,
}

fn whole(words: &str, up: bool) -> Vec<Place> {
    vec![Place { words: words.to_owned(), share: 1.0, up }]
}

impl Model {
    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::PutPort(spec) => drop(self.ports.insert(spec.name.clone(), spec)),
            Event::RemovePort(name) => drop(self.ports.remove(&name)),
            Event::PutPool(pool) => drop(self.pools.insert(pool.cidr, pool.ipip_mode)),
            Event::RemovePool(cidr) => drop(self.pools.remove(&cidr)),
            Event::PutRoute(route) => {
                if let Some(stale) = self.stale.get_mut(&route.source) {
                    stale.remove(&route.prefix);
                }
                self.routes.insert((route.prefix, route.source), (route.metric, route.target));
            }
            Event::RemoveRoute(prefix, source) => drop(self.routes.remove(&(prefix, source))),
            Event::BeginResync(source) => {
                let of_source = self.routes.keys().filter(|(_, of)| *of == source);
                let stale = of_source.map(|(prefix, _)| *prefix).collect();
                self.stale.insert(source, stale);
            }
            Event::EndResync(source) => {
                for prefix in self.stale.remove(&source).unwrap_or_default() {
                    self.routes.remove(&(prefix, source));
                }
            }
            _ => unreachable!("the test makes no such event"),
        }
    }

    fn host(&self) -> Option<&str> {
        let host = self.ports.values().find(|port| matches!(port.role, PortRole::Host { .. }));
        host.map(|port| port.name.as_str())
    }

    /// All uplinks' addresses with their ports, in order.
    fn links(&self) -> Vec<(&PortSpec, bool, IpNet)> {
        let mut links = Vec::new();
        for port in self.ports.values() {
            if let PortRole::Uplink { exclusive, addresses } = &port.role {
                links.extend(addresses.iter().map(|net| (port, *exclusive, *net)));
            }
        }
        links
    }

    /// Every route there is, given or brought by a port.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Candidate> {
        let local = format!("local {}", self.host().unwrap_or("-"));
        let host = self.host().map_or("local -".to_owned(), |port| format!("direct {port} true"));
        let mut all = Vec::new();
        let mut brought = |net: IpNet, source: RouteSource, place: String| {
            all.push(Candidate { net, rank: (0, 0, source), to: To::Place(place) });
        };
        for (port, exclusive, net) in self.links() {
            let own = if exclusive { local.clone() } else { host.clone() };
            brought(net.addr().into(), RouteSource::Connected, own);
            brought(net.trunc(), RouteSource::Connected, format!("glean {}", port.name));
        }
        for port in self.ports.values() {
            match &port.role {
                PortRole::Pod { addresses, .. } => addresses.iter().for_each(|address| {
                    brought((*address).into(), RouteSource::Endpoint, format!("direct {} false", port.name));
                }),
                PortRole::Host { addresses } => addresses.iter().for_each(|address| {
                    brought((*address).into(), RouteSource::Connected, host.clone());
                }),
                PortRole::Uplink { .. } => {}
            }
        }
        for ((prefix, source), (metric, target)) in &self.routes {
            let rank = (source.default_distance(), *metric, *source);
            all.push(Candidate { net: to_ipnet(prefix), rank, to: To::Route(target.clone()) });
        }
        all.into_iter()
    }

    fn best(&self, net: IpNet) -> Option<To> {
        let of_net = self.candidates().filter(|candidate| candidate.net == net);
        of_net.min_by_key(|candidate| candidate.rank).map(|candidate| candidate.to)
    }

    /// The longest prefix with a route that holds an address.
    pub(super) fn longest(&self, address: IpAddr) -> Option<AnyPrefix> {
        let holding = self.candidates().map(|candidate| candidate.net).filter(|net| net.contains(&address));
        holding.max_by_key(IpNet::prefix_len).map(super::net_prefix)
    }

    fn mode(&self, net: IpNet) -> IpipMode {
        // The pool that comes first in order is the one that counts.
        self.pools.iter().find(|(cidr, _)| cidr.contains(&net)).map_or(IpipMode::Never, |(_, mode)| *mode)
    }

    /// Where packets to a prefix go, with shares that add up to 1; `None` without a route.
    pub(super) fn places(&self, prefix: &AnyPrefix) -> Option<Places> {
        let net = to_ipnet(prefix);
        let mut flat = self.follow(&self.best(net)?, net, &[], None);
        if flat.is_empty() {
            flat.push(Place { words: "drop next-hop-unresolved".to_owned(), share: 1.0, up: true });
        }
        // What is down counts only where nothing is up.
        if flat.iter().any(|place| place.up) {
            flat.retain(|place| place.up);
        }
        let sum: f64 = flat.iter().map(|place| place.share).sum();
        let mut places = Places::new();
        flat.into_iter().for_each(|place| *places.entry(place.words).or_default() += place.share / sum);
        Some(places)
    }

    /// The places behind a route of `net`; `behind` are the next hops that led here.
    fn follow(
        &self,
        to: &To,
        net: IpNet,
        behind: &[IpAddr],
        tunnel: Option<(Ipv4Addr, Ipv4Addr)>,
    ) -> Vec<Place> {
        let (next_hops, encap) = match to {
            To::Route(RouteTarget::Weighted(next_hops, encap)) => (next_hops, *encap),
            // Tunnels end at neighbours alone.
            To::Place(_) if tunnel.is_some() => return Vec::new(),
            To::Place(words) => return whole(words, true),
            To::Route(RouteTarget::Blackhole) => return whole("drop blackhole", true),
            To::Route(RouteTarget::Unreachable) => return whole("drop unreachable", true),
            To::Route(RouteTarget::Prohibit) => return whole("drop prohibit", true),
            To::Route(RouteTarget::Via(..)) => unreachable!("the test makes no such route"),
        };
        let sum: u32 = next_hops.iter().map(|(_, weight)| weight).sum();
        let mut all = Vec::new();
        for (address, weight) in next_hops {
            let part = f64::from(*weight) / f64::from(sum);
            let behind_it = self.behind(*address, encap, net, behind, tunnel);
            all.extend(behind_it.into_iter().map(|place| Place { share: place.share * part, ..place }));
        }
        all
    }

    fn behind(
        &self,
        address: IpAddr,
        encap: Encap,
        net: IpNet,
        behind: &[IpAddr],
        outer: Option<(Ipv4Addr, Ipv4Addr)>,
    ) -> Vec<Place> {
        let links = self.links();
        let link = links
            .iter()
            .filter(|(_, _, net)| net.contains(&address))
            .max_by_key(|(_, _, net)| net.prefix_len());
        let mut tunnel = outer;
        if let IpAddr::V4(remote) = address
            && match encap {
                Encap::None => false,
                Encap::Ipip => true,
                Encap::Pool => match self.mode(net) {
                    IpipMode::Never => false,
                    IpipMode::CrossSubnet => link.is_none(),
                    IpipMode::Always => true,
                },
            }
        {
            let ours = links.iter().filter(|(_, _, net)| net.addr().is_ipv4());
            let near = ours.clone().find(|(_, _, net)| net.contains(&address));
            let Some((_, _, from)) = near.or_else(|| ours.clone().next()) else { return Vec::new() };
            let (IpAddr::V4(local), None) = (from.addr(), outer) else { return Vec::new() };
            tunnel = Some((local, remote));
        }
        if let Some((port, _, _)) = link {
            let name = &port.name;
            let words = match tunnel {
                None => format!("neighbor {name} {address}"),
                Some((local, remote)) => format!("ipip {local} {remote} {name} {address}"),
            };
            return whole(&words, port.up);
        }
        if behind.contains(&address) || behind.len() == 8 {
            return Vec::new();
        }
        let Some(prefix) = self.longest(address) else { return Vec::new() };
        let net = to_ipnet(&prefix);
        let behind: Vec<IpAddr> = behind.iter().copied().chain([address]).collect();
        self.best(net).map_or(Vec::new(), |to| self.follow(&to, net, &behind, tunnel))
    }
}
