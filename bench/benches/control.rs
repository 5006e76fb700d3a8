//! What do routes cost on their way to forwarding: through the RIB, through the whole control
//! loop, and when what they resolve through moves?
//!
//! | measure | what |
//! |---|---|
//! | RIB load | a full Internet table, unsorted, announced and drained |
//! | RIB churn | a withdrawal and an announcement of a random route, drained every 64 |
//! | engine load | the same table by events and one commit: RIB, resolution, FIB, tables |
//! | engine route | one route, committed by itself, with 10^5 next-hop groups in force |
//! | resolver, shared | 100,000 routes by one next hop, whose own route moves to another neighbour |
//! | resolver, apart | 100,000 routes by 100,000 next hops behind one route that moves |

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fib::{AnyPrefix, Candidate, Prefix, Rib, RouteSource};
use vrouter::control::{Encap, Engine, RouteSpec, RouteTarget};
use vrouter::{Event, PortSpec, publish};
use vrouter_bench::internet;
use vrouter_bench::random::Random;

const MOVED: u32 = 100_000;

/// The IPv4 routes of the Internet in random order.
fn shuffled() -> Vec<Prefix<Ipv4Addr>> {
    let mut routes = internet::routes();
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    (1..routes.len()).rev().for_each(|at| routes.swap(at, (random.next() % (at as u64 + 1)) as usize));
    routes
}

/// One of 250 neighbours of the engine's uplink.
fn neighbor(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, (number % 250) as u8 + 2)
}

fn via(prefix: Prefix<Ipv4Addr>, next_hop: Ipv4Addr, source: RouteSource) -> Event {
    let target = RouteTarget::Via(vec![IpAddr::V4(next_hop)], Encap::None);
    Event::PutRoute(RouteSpec { prefix: prefix.into(), source, target, metric: 0 })
}

/// An engine with an uplink and no worker to wait for.
fn engine() -> Engine {
    let flows = Arc::new(vrouter::tables::flow_table(1024).expect("a small flow table"));
    let mut engine = Engine::new(flows, |tables| publish::channel(tables, 0).0);
    let mac = "02:00:00:00:00:01".parse().expect("a MAC address");
    let uplink = PortSpec::uplink("up", mac, ["198.18.0.1/24".parse().expect("an address")]);
    engine.apply(Event::PutPort(uplink)).expect("a first port");
    engine.commit().expect("a first commit");
    engine
}

fn rib(criterion: &mut Criterion) {
    let routes = shuffled();
    let announce = |rib: &mut Rib<Ipv4Addr, Ipv4Addr>, number: usize, prefix| {
        let next_hops = [neighbor(number)];
        let candidate = Candidate::new(RouteSource::Bgp, &next_hops);
        rib.announce(prefix, candidate).expect("there is a next hop");
    };
    let mut group = criterion.benchmark_group(format!("rib, {} routes", routes.len()));
    group.sample_size(10);
    group.throughput(Throughput::Elements(routes.len() as u64));
    let load = || {
        let mut rib = Rib::new();
        routes.iter().enumerate().for_each(|(number, prefix)| announce(&mut rib, number * 7919, *prefix));
        let mut changes = Vec::new();
        rib.drain_changes(&mut changes);
        (rib, changes)
    };
    let (mut rib, mut changes) = load();
    println!("rib: {:.1} bytes a route", rib.memory_bytes() as f64 / routes.len() as f64);
    group.bench_function("load", |bencher| bencher.iter_batched(|| (), |()| load(), BatchSize::PerIteration));
    group.throughput(Throughput::Elements(2));
    let mut random = Random::new(7);
    let mut turn = 0u32;
    group.bench_function("churn: withdraw, announce", |bencher| {
        bencher.iter(|| {
            let at = (random.next() % routes.len() as u64) as usize;
            rib.withdraw(&routes[at], RouteSource::Bgp);
            turn += 1;
            if turn.is_multiple_of(64) {
                changes.clear();
                rib.drain_changes(&mut changes);
            }
            announce(&mut rib, random.next() as usize, routes[at]);
        });
    });
    group.finish();
}

fn engine_load(criterion: &mut Criterion) {
    let routes = shuffled();
    let mut group = criterion.benchmark_group(format!("engine, {} routes", routes.len()));
    group.sample_size(10);
    group.throughput(Throughput::Elements(routes.len() as u64));
    let load = |events: Vec<Event>| {
        let mut engine = engine();
        for event in events {
            engine.apply(event).expect("a right event");
        }
        engine.commit().expect("the table fits");
        engine
    };
    let events = || {
        let routes = routes.iter().enumerate();
        routes.map(|(number, prefix)| via(*prefix, neighbor(number * 7919), RouteSource::Bgp)).collect()
    };
    group.bench_function("load: events, one commit", |bencher| {
        bencher.iter_batched(events, load, BatchSize::PerIteration);
    });
    group.finish();
}

/// Prefix and next hop of route `number` of those that move.
fn moved(number: u32, apart: bool) -> (Prefix<Ipv4Addr>, Ipv4Addr) {
    let prefix =
        Prefix::masked(Ipv4Addr::from(0x1400_0000 + (number << 8)), 24).expect("24 bits are few enough");
    let next_hop = Ipv4Addr::from(0x0a00_0001 + if apart { number } else { 0 });
    (prefix, next_hop)
}

fn resolver(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("engine, {MOVED} routes over one resolver"));
    group.sample_size(20);
    for (name, apart) in [("resolver, shared", false), ("resolver, apart", true)] {
        let mut engine = engine();
        let behind = Prefix::masked(Ipv4Addr::new(10, 0, 0, 0), 8).expect("8 bits are few enough");
        engine.apply(via(behind, neighbor(0), RouteSource::Static)).expect("a right event");
        for number in 0..MOVED {
            let (prefix, next_hop) = moved(number, apart);
            engine.apply(via(prefix, next_hop, RouteSource::Bgp)).expect("a right event");
        }
        engine.commit().expect("the table fits");
        let mut turn = 0;
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    turn += 1;
                    let start = Instant::now();
                    engine.apply(via(behind, neighbor(turn), RouteSource::Static)).expect("a right event");
                    black_box(engine.commit().expect("nothing more is needed"));
                    spent += start.elapsed();
                }
                spent
            });
        });
        if apart {
            engine_route(&mut group, &mut engine);
        }
    }
    group.finish();
}

fn engine_route(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    engine: &mut Engine,
) {
    let prefix = Prefix::masked(Ipv4Addr::new(200, 0, 0, 0), 24).expect("24 bits are few enough");
    let mut turn = 0;
    group.bench_function("engine route: to another known next hop", |bencher| {
        bencher.iter(|| {
            turn += 1;
            engine.apply(via(prefix, neighbor(turn % 2), RouteSource::Bgp)).expect("a right event");
            engine.commit().expect("a route fits")
        });
    });
    group.bench_function("engine route: a new next hop, and gone again", |bencher| {
        bencher.iter(|| {
            engine.apply(via(prefix, neighbor(100), RouteSource::Bgp)).expect("a right event");
            engine.commit().expect("a route fits");
            let prefix = AnyPrefix::V4(prefix);
            engine.apply(Event::RemoveRoute(prefix, RouteSource::Bgp)).expect("it was there");
            engine.commit().expect("a route less fits")
        });
    });
}

criterion_group!(benches, rib, engine_load, resolver);
criterion_main!(benches);
