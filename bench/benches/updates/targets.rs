//! Who takes the updates: the FIB itself, the RIB above it, or the router's engine.
//!
//! All three publish alike: the FIB changes in place, and lines that it no longer needs are used again
//! when every reader has passed the epoch after the commit.

use super::huge_pages;
use super::mix::{NEXT_HOPS, Update};
use super::readers::{READERS, View};
use fib::{Candidate, Change, Fib, FibWriter, GroupId, Prefix, Retired, Rib, RouteSource};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use vrouter::control::{Encap, Engine, RouteSpec, RouteTarget};
use vrouter::publish::{self, Epoch, Publisher, Subscriber};
use vrouter::tables::{Tables, flow_table};
use vrouter::{Event, PortSpec};

pub(crate) trait Target {
    const NAME: &'static str;
    /// Updates a commit that are worth a measurement.
    const BATCHES: &'static [usize];
    type View: View;

    /// Without routes.
    fn new() -> (Self, Vec<Subscriber<Self::View>>)
    where
        Self: Sized;
    fn announce(&mut self, prefix: Prefix<Ipv4Addr>, next_hop: u8);
    fn withdraw(&mut self, prefix: &Prefix<Ipv4Addr>);
    fn commit(&mut self);

    /// Updates that are committed together.
    fn batch(&mut self, updates: &[Update]) {
        for (prefix, next_hop) in updates {
            match next_hop {
                Some(next_hop) => self.announce(*prefix, *next_hop),
                None => self.withdraw(prefix),
            }
        }
        self.commit();
    }

    fn load(&mut self, routes: &[(Prefix<Ipv4Addr>, u8)]) {
        routes.iter().for_each(|(prefix, next_hop)| self.announce(*prefix, *next_hop));
        self.commit();
    }
}

fn group(next_hop: u8) -> GroupId {
    GroupId::new(next_hop.into()).expect("few next hops")
}

pub(crate) struct FibTarget {
    fib: FibWriter<Ipv4Addr>,
    publisher: Publisher<Fib<Ipv4Addr>>,
    sealed: Option<(Epoch, Retired)>,
}

impl Target for FibTarget {
    const NAME: &'static str = "FIB";
    const BATCHES: &'static [usize] = &[1, 256];
    type View = Fib<Ipv4Addr>;

    fn new() -> (Self, Vec<Subscriber<Self::View>>) {
        let mut fib = FibWriter::new();
        fib.advise_memory(huge_pages::advise);
        let (publisher, subscribers) = publish::channel(fib.reader(), READERS);
        (Self { fib, publisher, sealed: None }, subscribers)
    }

    fn announce(&mut self, prefix: Prefix<Ipv4Addr>, next_hop: u8) {
        self.fib.insert(prefix, group(next_hop)).expect("the table fits");
    }

    fn withdraw(&mut self, prefix: &Prefix<Ipv4Addr>) {
        self.fib.remove(prefix).expect("it was there");
    }

    fn commit(&mut self) {
        if let Some((_, retired)) = self.sealed.take_if(|(epoch, _)| self.publisher.passed(*epoch)) {
            self.fib.reclaim(retired);
        }
        if self.sealed.is_none() && self.fib.retired() > 0 {
            self.sealed = Some((self.publisher.advance(), self.fib.seal()));
        }
    }
}

/// The library's RIB and FIB, a group for each next hop.
pub(crate) struct RibTarget {
    rib: Rib<Ipv4Addr, u8>,
    changes: Vec<Change<Ipv4Addr>>,
    below: FibTarget,
}

impl Target for RibTarget {
    const NAME: &'static str = "RIB, FIB";
    const BATCHES: &'static [usize] = &[1, 64, 1024];
    type View = Fib<Ipv4Addr>;

    fn new() -> (Self, Vec<Subscriber<Self::View>>) {
        let (below, subscribers) = FibTarget::new();
        (Self { rib: Rib::new(), changes: Vec::new(), below }, subscribers)
    }

    fn announce(&mut self, prefix: Prefix<Ipv4Addr>, next_hop: u8) {
        let candidate =
            Candidate { source: RouteSource::Bgp, distance: 20, metric: 0, next_hops: &[next_hop] };
        self.rib.announce(prefix, candidate).expect("there is a next hop");
    }

    fn withdraw(&mut self, prefix: &Prefix<Ipv4Addr>) {
        assert!(self.rib.withdraw(prefix, RouteSource::Bgp), "it was there");
    }

    fn commit(&mut self) {
        self.changes.clear();
        self.rib.drain_changes(&mut self.changes);
        for Change { prefix, best } in &self.changes {
            match best {
                Some(set) => self.below.announce(*prefix, self.rib.sets().get(*set)[0]),
                None => self.below.withdraw(prefix),
            }
        }
        self.below.commit();
    }
}

/// Events, desired state, RIB, resolution, groups, FIB: what a routing protocol's updates go through.
pub(crate) struct EngineTarget(Engine);

/// One of the neighbours of the engine's uplink.
fn neighbor(next_hop: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, next_hop + 2)
}

impl EngineTarget {
    fn put(&mut self, prefix: Prefix<Ipv4Addr>, next_hop: u8, source: RouteSource) {
        let target = RouteTarget::Via(vec![IpAddr::V4(neighbor(next_hop))], Encap::None);
        let route = RouteSpec { prefix: prefix.into(), source, target, metric: 0 };
        self.0.apply(Event::PutRoute(route)).expect("a right event");
    }
}

impl Target for EngineTarget {
    const NAME: &'static str = "engine";
    const BATCHES: &'static [usize] = &[1, 64, 1024];
    type View = Tables;

    fn new() -> (Self, Vec<Subscriber<Self::View>>) {
        let flows = Arc::new(flow_table(1024).expect("a small flow table"));
        let mut subscribers = Vec::new();
        let mut engine = Engine::new(flows, |tables| {
            let (publisher, readers) = publish::channel(tables, READERS);
            subscribers = readers;
            publisher
        });
        let mac = "02:00:00:00:00:01".parse().expect("a MAC address");
        let uplink = PortSpec::uplink("up", mac, ["198.18.0.1/24".parse().expect("an address")]);
        engine.apply(Event::PutPort(uplink)).expect("a first port");
        let mut target = Self(engine);
        // Every next hop is used all the time, as those of a network's neighbours are.
        for next_hop in 0..NEXT_HOPS as u8 {
            let address = Ipv4Addr::new(198, 18, 1, next_hop);
            target.put(Prefix::host(address), next_hop, RouteSource::Static);
        }
        target.commit();
        (target, subscribers)
    }

    fn announce(&mut self, prefix: Prefix<Ipv4Addr>, next_hop: u8) {
        self.put(prefix, next_hop, RouteSource::Bgp);
    }

    fn withdraw(&mut self, prefix: &Prefix<Ipv4Addr>) {
        self.0.apply(Event::RemoveRoute((*prefix).into(), RouteSource::Bgp)).expect("it was there");
    }

    fn commit(&mut self) {
        self.0.commit().expect("the table fits");
    }
}
