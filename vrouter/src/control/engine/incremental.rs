//! The engine, which changes only what a change concerns, against a model that computes
//! everything from scratch: after random events both lead every prefix to the same places.

mod naive;

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use encap::wire::ethernet::MacAddr;
use fib::{AnyPrefix, GroupId, RouteSource};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Engine, host_prefix, net_prefix};
use crate::control::desired::{Encap, IpipMode, Pool, PortRole, PortSpec, RouteSpec, RouteTarget};
use crate::control::event::Event;
use crate::ids::NeighborSlot;
use crate::publish;
use crate::tables::{Action, Adjacency, Group, Tables, flow_table};
use naive::Model;

const PREFIXES: [&str; 18] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.1/32",
    "10.2.0.0/16",
    "10.2.0.0/24",
    "10.2.0.5/32",
    "10.3.0.0/16",
    "10.50.0.9/32",
    "172.16.0.0/12",
    "172.16.0.0/24",
    "172.16.0.9/32",
    "172.18.0.0/16",
    "172.18.0.1/32",
    "192.0.2.1/32",
    "::/0",
    "fd00:2::/64",
    "fd00:2::5/128",
    "fd00:3::/32",
];
const NEXT_HOPS: [&str; 13] = [
    "172.16.0.9",
    "172.16.0.200",
    "172.17.0.9",
    "10.50.0.9",
    "10.2.0.5",
    "10.3.0.1",
    "172.18.0.1",
    "10.1.0.1",
    "192.0.2.1",
    "fd00:16::9",
    "fd00:2::5",
    "fd00:3::1",
    "fd00:9::9",
];
const SOURCES: [RouteSource; 3] = [RouteSource::Static, RouteSource::Api, RouteSource::Bgp];
const POOLS: [&str; 4] = ["10.0.0.0/8", "10.2.0.0/16", "10.2.0.0/24", "172.18.0.0/16"];
const MODES: [IpipMode; 3] = [IpipMode::Never, IpipMode::CrossSubnet, IpipMode::Always];

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

/// One of a port's forms.
fn port(number: usize, form: usize) -> PortSpec {
    let net = |text: &str| text.parse().unwrap();
    let address = |text: &str| text.parse().unwrap();
    let mut spec = match number {
        0 => PortSpec::uplink(
            "up0",
            mac(1),
            [["172.16.0.1/24", "fd00:16::1/64"], ["172.16.0.1/25", "fd00:17::1/64"]][form % 2].map(net),
        ),
        1 => PortSpec::uplink("up1", mac(2), [["172.17.0.1/24"], ["10.50.0.1/24"]][form % 2].map(net)),
        2 => PortSpec::pod("pod2", mac(3), [address(["10.1.0.1", "10.2.0.5"][form % 2])]),
        3 => PortSpec::pod("pod3", mac(4), [address(["10.3.0.1", "fd00:2::5"][form % 2])]),
        _ => PortSpec {
            role: PortRole::Host { addresses: [address("192.0.2.1")][..form % 2].to_vec() },
            ..PortSpec::pod("host", mac(5), [])
        },
    };
    if let PortRole::Uplink { exclusive, .. } = &mut spec.role {
        *exclusive = form & 2 == 0;
    }
    spec.mtu = 1500 - form as u32;
    spec.up = form != 3;
    spec
}

fn target() -> impl Strategy<Value = RouteTarget> {
    let encap = prop_oneof![Just(Encap::None), Just(Encap::Pool), Just(Encap::Ipip)];
    let next_hops = vec((0..NEXT_HOPS.len(), 1..5u32), 1..4);
    let via = (next_hops, encap).prop_map(|(next_hops, encap)| {
        let next_hops = next_hops.into_iter().map(|(number, weight)| (ip(NEXT_HOPS[number]), weight));
        RouteTarget::Weighted(next_hops.collect(), encap)
    });
    prop_oneof![
        12 => via,
        1 => Just(RouteTarget::Blackhole),
        1 => Just(RouteTarget::Unreachable),
        1 => Just(RouteTarget::Prohibit),
    ]
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Event(Event),
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    let prefix = (0..PREFIXES.len()).prop_map(|number| PREFIXES[number].parse::<AnyPrefix>().unwrap());
    let source = (0..SOURCES.len()).prop_map(|number| SOURCES[number]);
    let route = (prefix.clone(), source.clone(), target(), 0..3u32).prop_map(
        |(prefix, source, mut target, metric)| {
            if let RouteTarget::Weighted(next_hops, _) = &mut target {
                next_hops.retain(|(address, _)| address.is_ipv4() == matches!(prefix, AnyPrefix::V4(_)));
            }
            Event::PutRoute(RouteSpec { prefix, source, target, metric })
        },
    );
    let pool = (0..POOLS.len(), 0..MODES.len()).prop_map(|(number, mode)| {
        let cidr = POOLS[number].parse().unwrap();
        Event::PutPool(Pool { name: String::new(), cidr, ipip_mode: MODES[mode] })
    });
    prop_oneof![
        12 => route.prop_map(Step::Event),
        5 => (prefix, source.clone())
            .prop_map(|(prefix, source)| Step::Event(Event::RemoveRoute(prefix, source))),
        4 => (0..5usize, 0..4usize).prop_map(|(number, form)| Step::Event(Event::PutPort(port(number, form)))),
        2 => (0..5usize).prop_map(|number| Step::Event(Event::RemovePort(port(number, 0).name))),
        2 => pool.prop_map(Step::Event),
        1 => (0..POOLS.len())
            .prop_map(|number| Step::Event(Event::RemovePool(POOLS[number].parse().unwrap()))),
        1 => source.clone().prop_map(|source| Step::Event(Event::BeginResync(source))),
        1 => source.prop_map(|source| Step::Event(Event::EndResync(source))),
        8 => Just(Step::Commit),
    ]
}

/// Places with their shares of the flows.
type Places = BTreeMap<String, f64>;

/// An adjacency in words.
fn place(adjacency: &Adjacency, tables: &Tables) -> String {
    let port = tables.port(adjacency.port).map_or("-", |port| &*port.name);
    let next_hop = adjacency.next_hop.map_or(String::new(), |next_hop| next_hop.to_string());
    match (adjacency.action, &adjacency.tunnel) {
        (Action::Drop(reason), _) => format!("drop {}", reason.name()),
        (Action::Receive, _) => format!("local {port}"),
        (Action::Glean, _) => format!("glean {port}"),
        (Action::Direct, _) => format!("direct {port} {}", adjacency.local),
        (Action::Neighbor(_), None) => format!("neighbor {port} {next_hop}"),
        (Action::Neighbor(_), Some(outer)) => {
            format!("ipip {} {} {port} {next_hop}", outer.src(), outer.dst())
        }
    }
}

/// What packets find behind a group, by buckets.
fn places(group: GroupId, tables: &Tables) -> Places {
    let members = match tables.groups.get(group.index()) {
        Some(Group::One(member)) => vec![*member],
        Some(Group::Spread(buckets)) => buckets.to_vec(),
        None => Vec::new(),
    };
    let mut places = Places::new();
    for member in &members {
        let adjacency = &tables.adjacencies[member.index()];
        *places.entry(place(adjacency, tables)).or_default() += 1.0 / members.len() as f64;
    }
    places
}

fn engine() -> Engine {
    let flows = flow_table(64).unwrap();
    Engine::new(Arc::new(flows), |tables| publish::channel(tables, 0).0)
}

/// Whether the engine's tables lead every prefix and address where the model says.
fn agree(engine: &Engine, model: &Model) -> Result<(), TestCaseError> {
    let tables = engine.tables();
    let mut prefixes: BTreeSet<AnyPrefix> = PREFIXES.iter().map(|text| text.parse().unwrap()).collect();
    prefixes.extend(model.candidates().map(|candidate| net_prefix(candidate.net)));
    for prefix in &prefixes {
        let group = match prefix {
            AnyPrefix::V4(prefix) => engine.vrfs[0].v4.fib.get(prefix),
            AnyPrefix::V6(prefix) => engine.vrfs[0].v6.fib.get(prefix),
        };
        let expected = model.places(prefix);
        let Some(group) = group else {
            prop_assert!(expected.is_none(), "{prefix}: not in the FIB: {expected:?}");
            continue;
        };
        let Some(expected) = expected else {
            return Err(TestCaseError::fail(format!("{prefix} is in the FIB")));
        };
        // By weights, exactly; as packets find it, as near as buckets come.
        let by_weight: Vec<f64> = engine.group_hops(group).iter().map(|(_, n)| *n as f64).collect();
        let sum: f64 = by_weight.iter().sum();
        let mut by_weight: Vec<f64> = by_weight.iter().map(|n| n / sum).collect();
        let mut shares: Vec<f64> = expected.values().copied().collect();
        by_weight.sort_by(f64::total_cmp);
        shares.sort_by(f64::total_cmp);
        prop_assert_eq!(by_weight.len(), shares.len(), "{}: {:?}", prefix, &expected);
        for (got, share) in by_weight.iter().zip(&shares) {
            prop_assert!((got - share).abs() < 1e-6, "{prefix}: {by_weight:?} for {expected:?}");
        }
        let found = places(group, &tables);
        prop_assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{}", prefix);
        for (place, share) in &expected {
            prop_assert!((found[place] - share).abs() < 0.2, "{prefix}: {found:?} for {expected:?}");
        }
    }
    for text in NEXT_HOPS {
        let group = match ip(text) {
            IpAddr::V4(address) => tables.fib4.lookup(address),
            IpAddr::V6(address) => tables.fib6.lookup(address),
        };
        let found = group.map(|group| places(group, &tables).into_keys().collect::<Vec<_>>());
        let expected = model.longest(ip(text)).and_then(|prefix| model.places(&prefix));
        prop_assert_eq!(found, expected.map(|places| places.into_keys().collect()), "{}", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_changes_step_by_step_is_as_if_made_at_once(steps in vec(step(), 1..80)) {
        let (mut engine, mut model) = (engine(), Model::default());
        for step in steps {
            match step {
                Step::Event(event) => {
                    // What the engine refuses changes nothing; whether it does is not the question here.
                    if engine.apply(event.clone()).is_ok() {
                        model.apply(event);
                    }
                }
                Step::Commit => {
                    engine.commit().unwrap();
                    agree(&engine, &model)?;
                }
            }
        }
        engine.commit().unwrap();
        agree(&engine, &model)?;
        clear(&mut engine, model);
        prop_assert_eq!(engine.fib_lens(), (1, 1), "the gateway's addresses");
        let left: Vec<_> = engine.hops().collect();
        prop_assert_eq!((engine.group_count(), left.len()), (2, 1), "{:?}", left);
        prop_assert_eq!(engine.neighbors().count(), 0);
        prop_assert_eq!((engine.vrfs[0].v4.rib.sets().len(), engine.vrfs[0].v6.rib.sets().len()), (1, 1));
    }
}

/// Takes everything away again.
fn clear(engine: &mut Engine, model: Model) {
    for name in model.ports.keys() {
        engine.apply(Event::RemovePort(name.clone())).unwrap();
    }
    for (prefix, source) in model.routes.keys() {
        engine.apply(Event::RemoveRoute(*prefix, *source)).unwrap();
    }
    engine.commit().unwrap();
    engine.reclaim();
}

#[test]
fn neighbors_that_found_the_table_full_get_slots_when_others_go() {
    let mut engine = engine();
    let uplink = PortSpec::uplink("up", mac(1), ["10.64.0.1/16".parse().unwrap()]);
    engine.apply(Event::PutPort(uplink)).unwrap();
    let prefix = |number: u32| host_prefix(core::net::Ipv4Addr::from(0x1400_0000 + number).into());
    let neighbors = NeighborSlot::COUNT as u32 + 8;
    for number in 0..neighbors {
        let next_hop = core::net::Ipv4Addr::from(0x0a40_0002 + number);
        let target = RouteTarget::Via(vec![next_hop.into()], Encap::None);
        let (prefix, source) = (prefix(number), RouteSource::Bgp);
        engine.apply(Event::PutRoute(RouteSpec { prefix, source, target, metric: 0 })).unwrap();
    }
    engine.commit().unwrap();
    let slots = |engine: &Engine| {
        let tables = engine.tables();
        let slots = tables.adjacencies.iter().filter_map(|adjacency| match adjacency.action {
            Action::Neighbor(slot) => Some(slot),
            _ => None,
        });
        slots.collect::<Vec<_>>()
    };
    let last = NeighborSlot(NeighborSlot::COUNT as u32 - 1);
    assert_eq!(slots(&engine).iter().filter(|slot| **slot == last).count(), 9, "the last is nobody's");
    for number in 0..20 {
        engine.apply(Event::RemoveRoute(prefix(number), RouteSource::Bgp)).unwrap();
    }
    engine.commit().unwrap();
    engine.commit().unwrap();
    let slots = slots(&engine);
    assert_eq!(slots.len(), neighbors as usize - 20);
    let distinct: BTreeSet<NeighborSlot> = slots.into_iter().collect();
    assert_eq!(distinct.len(), neighbors as usize - 20);
    assert!(!distinct.contains(&last));
}

#[test]
fn a_link_that_goes_down_concerns_only_what_is_on_it() {
    let mut engine = engine();
    let up1 = PortSpec::uplink("up1", mac(2), ["172.17.0.1/24".parse().unwrap()]);
    let up0 = PortSpec::uplink("up0", mac(1), ["172.16.0.1/24".parse().unwrap()]);
    engine.apply(Event::PutPort(up0)).unwrap();
    engine.apply(Event::PutPort(up1.clone())).unwrap();
    let via = |prefix: &str, next_hop: &str| {
        let target = RouteTarget::Via(vec![ip(next_hop)], Encap::None);
        Event::PutRoute(RouteSpec {
            prefix: prefix.parse().unwrap(),
            source: RouteSource::Bgp,
            target,
            metric: 0,
        })
    };
    for number in 2..200 {
        engine.apply(via(&format!("10.0.{number}.0/24"), &format!("172.16.0.{number}"))).unwrap();
    }
    // On the link, behind a gateway on the link, and nowhere; the link's subnet is a route of its own.
    engine.apply(via("10.1.0.0/24", "172.17.0.9")).unwrap();
    engine.apply(via("10.2.0.0/24", "10.1.0.9")).unwrap();
    engine.apply(via("10.3.0.0/24", "192.0.2.1")).unwrap();
    engine.commit().unwrap();
    for up in [false, true] {
        engine.apply(Event::PutPort(PortSpec { up, ..up1.clone() })).unwrap();
        let changed = core::mem::take(&mut engine.changed);
        engine.mark_groups(&changed);
        assert_eq!(engine.groups.pending(), 3);
        engine.changed = changed;
        engine.commit().unwrap();
    }
}

#[test]
fn a_weight_of_zero_is_refused() {
    let mut engine = engine();
    let target = RouteTarget::Weighted(vec![(ip("172.16.0.9"), 0)], Encap::None);
    let prefix = "10.0.0.0/8".parse().unwrap();
    let route = RouteSpec { prefix, source: RouteSource::Static, target, metric: 0 };
    let error = engine.apply(Event::PutRoute(route)).unwrap_err();
    assert_eq!(error.to_string(), "next hop 172.16.0.9 of route 10.0.0.0/8 has weight 0");
}
