//! Resolution: what the next hops of a route come down to.
//!
//! ```text
//!   10.9.0.0/16 via 10.2.0.1            a route of BGP
//!     10.2.0.0/16 via 172.16.20.5       resolves through a static one
//!       172.16.20.5 on eth1             and that ends at a neighbour
//!
//!   next hop                       resolved hop
//!   Via 172.16.20.253, by pool --> Ipip{remote, neighbour}      outer header, slot, MTU-20
//!   Via fe80::1                --> Neighbor{port, address}      slot
//!   Connected eth1             --> Glean{port}
//!   Endpoint pod1              --> Direct{port}                 the pod's MAC
//! ```
//!
//! A next hop on a link of ours is a neighbour there, whatever routes say of it: so does Linux,
//! which looks gateways up among on-link prefixes alone. Any other is followed through the
//! longest match of the RIB, over all next hops of the route found there, their weights
//! multiplied; that route may end at a neighbour, in a tunnel, at a pod, at the router itself or
//! in a drop. A next hop that leads back to itself, to nothing, or too far is left out, and the
//! others share its flows; where none is left the group drops as unresolved. Why is told by
//! [`Unresolved`]. Neighbours on a link that is down are left out too where there are others.
//!
//! Resolution is a pure function of the desired state and the RIB. [`Reads`] says of which parts,
//! so that only what reads a part is resolved again when it changes.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use fib::{AnyPrefix, Rib, RouteSource};

use crate::control::adjacency::Hop;
use crate::control::desired::{Desired, Encap, IpipMode};
use crate::control::next_hop::{NextHop, Path};
use crate::drop_reason::DropReason;
use crate::ids::{PortId, VrfId};

/// How many routes a next hop may lie behind.
const MAX_DEPTH: usize = 8;
/// How many steps one route's resolution may take: each level may branch.
const MAX_STEPS: usize = 4096;
/// The shares of a route's paths add up to this.
pub const WHOLE: u64 = 1 << 32;

/// Why a next hop leads nowhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unresolved {
    /// No port has this name now.
    NoPort(String),
    /// No route leads to the address.
    NoRoute(IpAddr),
    /// The way to the address leads through the address.
    Loop(IpAddr),
    /// The address lies behind more routes than are followed.
    TooDeep(IpAddr),
    /// The routes on the way have too many next hops taken together.
    TooMany(IpAddr),
    /// The way to a tunnel's end leads through another tunnel.
    NestedTunnel(Ipv4Addr),
    /// A tunnel's end is no neighbour and behind none.
    NotBehindNeighbor(Ipv4Addr),
    /// No uplink has an IPv4 address to send from.
    NoTunnelSource(Ipv4Addr),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPort(name) => write!(f, "there is no port {name}"),
            Self::NoRoute(to) => write!(f, "no route to {to}"),
            Self::Loop(to) => write!(f, "loop: the way to {to} leads through {to}"),
            Self::TooDeep(to) => write!(f, "{to} lies behind more than {MAX_DEPTH} routes"),
            Self::TooMany(to) => write!(f, "the routes to {to} have too many next hops"),
            Self::NestedTunnel(to) => write!(f, "the tunnel to {to} would run in another tunnel"),
            Self::NotBehindNeighbor(to) => write!(f, "the tunnel's end {to} is behind no neighbor"),
            Self::NoTunnelSource(to) => write!(f, "no uplink has an IPv4 address for the tunnel to {to}"),
        }
    }
}

/// What a resolution looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reads {
    /// The addresses of uplinks.
    pub links: bool,
    /// Which port is the host's.
    pub host: bool,
    /// Pools, by the prefix of a route on the way.
    pub pools: bool,
    /// Ports by name: those of next hops, and the uplinks that next hops are on, which may be down.
    pub ports: Vec<String>,
    /// Longest matches in the RIB.
    pub addresses: Vec<IpAddr>,
}

/// A route on the way from a next hop to where packets go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The next hop that was looked up.
    pub address: IpAddr,
    /// What it matched.
    pub prefix: AnyPrefix,
    /// Whose route that is.
    pub source: RouteSource,
}

/// What paths come down to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resolution {
    /// Each hop once, in order, with its share of [`WHOLE`]; empty where nothing is resolved.
    pub hops: Vec<(Hop, u64)>,
    /// What was left out, and why.
    pub problems: Vec<Unresolved>,
    /// The routes on the way, as they were met.
    pub links: Vec<Link>,
    /// What was looked at.
    pub reads: Reads,
}

/// What resolution looks at.
pub struct Resolver<'a> {
    /// Ports, pools.
    pub desired: &'a Desired,
    /// Whose routes and links are followed.
    pub vrf: VrfId,
    /// IPv4 routes.
    pub rib4: &'a Rib<Ipv4Addr, Path>,
    /// IPv6 routes.
    pub rib6: &'a Rib<Ipv6Addr, Path>,
    /// Port numbers.
    pub port_id: &'a dyn Fn(&str) -> Option<PortId>,
}

impl Resolver<'_> {
    /// Resolves the paths of a route whose prefix lies in a pool of this mode.
    pub fn resolve(&self, mode: IpipMode, paths: &[Path]) -> Resolution {
        let mut walk = Walk {
            resolver: self,
            behind: Vec::new(),
            steps: 0,
            hops: BTreeMap::new(),
            down: BTreeMap::new(),
            out: Resolution::default(),
        };
        walk.paths(mode, paths, WHOLE, None);
        let Walk { hops, down, mut out, .. } = walk;
        let hops = if hops.is_empty() { down } else { hops };
        out.hops = hops.into_iter().collect();
        out
    }

    fn host(&self) -> Option<PortId> {
        if self.vrf != VrfId::DEFAULT {
            return None;
        }
        (self.port_id)(&self.desired.host_port()?.name)
    }
}

/// The two ends of a tunnel: ours, the remote one.
type Ends = (Ipv4Addr, Ipv4Addr);

/// A resolution on its way.
struct Walk<'a> {
    resolver: &'a Resolver<'a>,
    /// The addresses that are being followed, outermost first.
    behind: Vec<IpAddr>,
    steps: usize,
    hops: BTreeMap<Hop, u64>,
    /// Hops on links that are down.
    down: BTreeMap<Hop, u64>,
    out: Resolution,
}

impl Walk<'_> {
    fn paths(&mut self, mode: IpipMode, paths: &[Path], share: u64, tunnel: Option<Ends>) {
        let sum: u64 = paths.iter().map(|path| u64::from(path.weight)).sum();
        for path in paths {
            let part = u128::from(share) * u128::from(path.weight) / u128::from(sum.max(1));
            // A path of whatever weight is one.
            let part = u64::try_from(part).unwrap_or(share).max(1);
            if let Err(problem) = self.next_hop(mode, &path.next_hop, part, tunnel) {
                self.out.problems.push(problem);
            }
        }
    }

    fn next_hop(
        &mut self,
        mode: IpipMode,
        next_hop: &NextHop,
        share: u64,
        tunnel: Option<Ends>,
    ) -> Result<(), Unresolved> {
        let resolver = self.resolver;
        let hop = match next_hop {
            NextHop::Via(address, encap) => return self.via(mode, *address, *encap, share, tunnel),
            NextHop::Drop(reason) => Hop::Drop(*reason),
            NextHop::Endpoint(name) => Hop::Direct(self.port(name)?, false),
            NextHop::Host | NextHop::Local => {
                self.out.reads.host = true;
                match (next_hop, resolver.host()) {
                    (NextHop::Host, Some(port)) => Hop::Direct(port, true),
                    (_, port) => Hop::Local(port.unwrap_or(PortId::NONE)),
                }
            }
            NextHop::Connected(name) => Hop::Glean(self.port(name)?),
            NextHop::Gleaned(name, address) => Hop::Gleaned(self.port(name)?, *address),
        };
        self.arrive(hop, true, share, tunnel)
    }

    fn port(&mut self, name: &str) -> Result<PortId, Unresolved> {
        self.out.reads.ports.push(name.to_owned());
        (self.resolver.port_id)(name).ok_or_else(|| Unresolved::NoPort(name.to_owned()))
    }

    fn via(
        &mut self,
        mode: IpipMode,
        address: IpAddr,
        encap: Encap,
        share: u64,
        tunnel: Option<Ends>,
    ) -> Result<(), Unresolved> {
        let Resolver { desired, vrf, rib4, rib6, port_id } = *self.resolver;
        self.steps += 1;
        self.out.reads.links = true;
        let link = desired.uplink_toward(vrf, address);
        let tunnel = match (wanted_tunnel(mode, address, encap, link.is_some()), tunnel) {
            (None, outer) => outer,
            (Some(_), Some((_, outer))) => return Err(Unresolved::NestedTunnel(outer)),
            (Some(remote), None) => {
                let local = desired.source_toward(remote).ok_or(Unresolved::NoTunnelSource(remote))?;
                Some((local, remote))
            }
        };
        if let Some(link) = link {
            if !self.out.reads.ports.contains(&link.name) {
                self.out.reads.ports.push(link.name.clone());
            }
            let port = port_id(&link.name).ok_or_else(|| Unresolved::NoPort(link.name.clone()))?;
            return self.arrive(Hop::Neighbor(port, address), link.up, share, tunnel);
        }
        if self.behind.contains(&address) {
            return Err(Unresolved::Loop(address));
        }
        if self.behind.len() == MAX_DEPTH {
            return Err(Unresolved::TooDeep(address));
        }
        if self.steps > MAX_STEPS {
            return Err(Unresolved::TooMany(address));
        }
        self.out.reads.addresses.push(address);
        let found = match address {
            IpAddr::V4(address) => rib4.longest_match(address).map(|(to, route)| (to.into(), route)),
            IpAddr::V6(address) => rib6.longest_match(address).map(|(to, route)| (to.into(), route)),
        };
        let (prefix, route): (AnyPrefix, _) = found.ok_or(Unresolved::NoRoute(address))?;
        let by_pool = route.next_hops.iter().any(|path| path.next_hop.is_by_pool());
        self.out.reads.pools |= by_pool;
        self.out.links.push(Link { address, prefix, source: route.source });
        self.behind.push(address);
        let mode = if by_pool { desired.pool_mode_in(vrf, &prefix) } else { IpipMode::Never };
        self.paths(mode, route.next_hops, share, tunnel);
        self.behind.pop();
        Ok(())
    }

    /// The end of the way; a tunnel needs a neighbour there.
    fn arrive(&mut self, hop: Hop, up: bool, share: u64, tunnel: Option<Ends>) -> Result<(), Unresolved> {
        // What is gleaned for traffic is a next hop here, and kept resolved.
        let hop = match hop {
            Hop::Gleaned(port, address) if !self.behind.is_empty() => Hop::Neighbor(port, address),
            other => other,
        };
        let hop = match (tunnel, hop) {
            (None, hop) | (_, hop @ Hop::Drop(_)) => hop,
            (Some((local, remote)), Hop::Neighbor(port, neighbor)) => {
                Hop::Ipip(local, remote, port, neighbor)
            }
            (Some((_, remote)), _) => return Err(Unresolved::NotBehindNeighbor(remote)),
        };
        let hops = if up { &mut self.hops } else { &mut self.down };
        *hops.entry(hop).or_default() += share;
        Ok(())
    }
}

/// The remote end of the tunnel that packets take to a next hop, if any.
fn wanted_tunnel(mode: IpipMode, via: IpAddr, encap: Encap, on_link: bool) -> Option<Ipv4Addr> {
    let IpAddr::V4(via) = via else { return None };
    let wanted = match encap {
        Encap::None => false,
        Encap::Ipip => true,
        Encap::Pool => match mode {
            IpipMode::Never => false,
            IpipMode::Always => true,
            IpipMode::CrossSubnet => !on_link,
        },
    };
    wanted.then_some(via)
}

impl NextHop {
    /// Whether its encapsulation is what the pool of the route's prefix says.
    pub fn is_by_pool(&self) -> bool {
        matches!(self, NextHop::Via(IpAddr::V4(_), Encap::Pool))
    }
}

/// What a group does of which no next hop is resolved.
pub const UNRESOLVED: Hop = Hop::Drop(DropReason::NextHopUnresolved);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::engine::Engine;
    use crate::control::{Event, PortSpec, RouteSpec, RouteTarget};
    use crate::publish;
    use crate::tables::flow_table;

    fn engine() -> Engine {
        Engine::new(Arc::new(flow_table(64).unwrap()), |tables| publish::channel(tables, 0).0)
    }

    /// An uplink that holds 172.16.0.0/24, and a pod at 10.1.0.1.
    fn with_ports() -> Engine {
        let mut engine = engine();
        let mac = |last| encap::MacAddr([2, 0, 0, 0, 0, last]);
        let uplink = PortSpec::uplink("up", mac(1), ["172.16.0.1/24".parse().unwrap()]);
        engine.apply(Event::PutPort(uplink)).unwrap();
        engine.apply(Event::PutPort(PortSpec::pod("pod", mac(2), ["10.1.0.1".parse().unwrap()]))).unwrap();
        engine
    }

    fn put(engine: &mut Engine, prefix: &str, via: Vec<String>, encap: Encap) {
        let via = via.iter().map(|via| via.parse().unwrap()).collect();
        let target = RouteTarget::Via(via, encap);
        let route =
            RouteSpec { prefix: prefix.parse().unwrap(), source: RouteSource::Bgp, target, metric: 0 };
        engine.apply(Event::PutRoute(route)).unwrap();
    }

    /// What is wrong with a route's next hops, each thing once.
    fn problems(engine: &mut Engine, prefix: &str) -> Vec<Unresolved> {
        engine.commit().unwrap();
        let routes = engine.routes_to(VrfId::DEFAULT, &prefix.parse().unwrap());
        let mut problems: Vec<Unresolved> =
            routes[0].paths.iter().flat_map(|path| path.resolution.problems.clone()).collect();
        problems.dedup();
        problems
    }

    fn one(engine: &mut Engine, prefix: &str, via: &str, encap: Encap) -> (Vec<Unresolved>, String) {
        put(engine, prefix, vec![via.to_owned()], encap);
        let problems = problems(engine, prefix);
        let words = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        (problems, words)
    }

    #[test]
    fn a_tunnel_needs_an_address_to_send_from() {
        let (problems, words) = one(&mut engine(), "10.9.0.0/16", "192.0.2.9", Encap::Ipip);
        assert_eq!(problems, [Unresolved::NoTunnelSource([192, 0, 2, 9].into())]);
        assert_eq!(words, "no uplink has an IPv4 address for the tunnel to 192.0.2.9");
    }

    #[test]
    fn a_tunnel_does_not_run_in_another() {
        let mut engine = with_ports();
        put(&mut engine, "10.2.0.0/16", vec!["172.16.0.9".to_owned()], Encap::Ipip);
        let (problems, words) = one(&mut engine, "10.9.0.0/16", "10.2.0.1", Encap::Ipip);
        assert_eq!(problems, [Unresolved::NestedTunnel([10, 2, 0, 1].into())]);
        assert_eq!(words, "the tunnel to 10.2.0.1 would run in another tunnel");
    }

    #[test]
    fn a_tunnel_ends_behind_a_neighbor() {
        let (problems, words) = one(&mut with_ports(), "10.9.0.0/16", "10.1.0.1", Encap::Ipip);
        assert_eq!(problems, [Unresolved::NotBehindNeighbor([10, 1, 0, 1].into())]);
        assert_eq!(words, "the tunnel's end 10.1.0.1 is behind no neighbor");
    }

    #[test]
    fn a_next_hop_lies_behind_so_many_routes_at_most() {
        let mut engine = with_ports();
        put(&mut engine, "10.100.0.0/16", vec!["172.16.0.9".to_owned()], Encap::None);
        for level in 101..=100 + MAX_DEPTH {
            put(
                &mut engine,
                &format!("10.{level}.0.0/16"),
                vec![format!("10.{}.0.1", level - 1)],
                Encap::None,
            );
        }
        let last = 100 + MAX_DEPTH;
        assert_eq!(problems(&mut engine, &format!("10.{last}.0.0/16")), []);
        let (problems, words) = one(&mut engine, "10.200.0.0/16", &format!("10.{last}.0.1"), Encap::None);
        assert_eq!(problems, [Unresolved::TooDeep([10, 100, 0, 1].into())]);
        assert_eq!(words, "10.100.0.1 lies behind more than 8 routes");
    }

    #[test]
    fn routes_on_the_way_branch_so_often_at_most() {
        let mut engine = with_ports();
        put(&mut engine, "10.100.0.0/16", vec!["172.16.0.9".to_owned()], Encap::None);
        for level in 101..=104 {
            let via = (1..=20).map(|host| format!("10.{}.0.{host}", level - 1)).collect();
            put(&mut engine, &format!("10.{level}.0.0/16"), via, Encap::None);
        }
        assert_eq!(problems(&mut engine, "10.102.0.0/16"), []);
        let problems = problems(&mut engine, "10.104.0.0/16");
        assert!(!problems.is_empty());
        assert!(problems.iter().all(|problem| matches!(problem, Unresolved::TooMany(_))), "{problems:?}");
        let words = problems[0].to_string();
        assert!(words.starts_with("the routes to 10.") && words.ends_with(" have too many next hops"));
    }
}
