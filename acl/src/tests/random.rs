//! Random worlds that change at random: after every change the compiled form says what the plain
//! interpreter says. 192 worlds, or as many as `PROPTEST_CASES` says. A million takes most of an hour of one
//! core, in one piece or in several, since every run draws other worlds:
//!
//! ```sh
//! PROPTEST_CASES=1000000 cargo test --release -p vrouter-acl --lib compiled_and_interpreted
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use super::world::World;
use crate::RuleId;
use crate::model::{
    Family, IcmpMatch, Policy, PortSetId, Rule, RuleAction, Ruleset, SetId, Side, Tier, TierEnd,
};
use crate::oracle::Packet;

const SETS: u32 = 6;
const PORT_SETS: u32 = 3;

/// Few addresses, so that packets meet sets and sets meet each other.
fn address() -> impl Strategy<Value = IpAddr> {
    let low = prop_oneof![0..8_u32, Just(0x8000), Just(0xff_ffff), Just(0x1_0003)];
    (any::<bool>(), low).prop_map(|(v6, low)| match v6 {
        false => Ipv4Addr::from(0x0a00_0000 | low).into(),
        true => Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(low) << 40 | u128::from(low)).into(),
    })
}

fn net() -> impl Strategy<Value = IpNet> {
    let lengths = prop_oneof![Just(200_u8), 0..=32_u8, 20..=32_u8, 33..=128_u8, Just(0)];
    (address(), lengths).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, length.min(most)).expect("the length fits").trunc()
    })
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(53), 79..=82_u16, Just(8080), Just(65535)]
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![Just(6), Just(17), Just(132), Just(1), Just(58), Just(136), Just(253), Just(0)]
}

fn port_member() -> impl Strategy<Value = (IpAddr, u8, u16)> {
    (address(), prop_oneof![Just(6_u8), Just(17), Just(132)], port())
}

fn ranges() -> impl Strategy<Value = Vec<core::ops::RangeInclusive<u16>>> {
    let range = (port(), port()).prop_map(|(a, b)| a.min(b)..=a.max(b));
    prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(range, 1..3)]
}

fn seldom<T: Clone + std::fmt::Debug>(some: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop_oneof![4 => Just(None), 1 => some.prop_map(Some)]
}

fn side() -> impl Strategy<Value = Side> {
    let sets = || prop_oneof![3 => Just(vec![]), 2 => prop::collection::vec((0..SETS).prop_map(SetId), 1..3)];
    let port_sets = || prop_oneof![6 => Just(vec![]), 1 => prop::collection::vec((0..PORT_SETS).prop_map(PortSetId), 1..3)];
    (sets(), sets(), ranges(), port_sets(), ranges(), port_sets(), seldom((0..PORT_SETS).prop_map(PortSetId)))
        .prop_map(|(all_of, none_of, ports, named_ports, not_ports, not_named_ports, service)| Side {
            all_of,
            none_of,
            ports,
            named_ports,
            not_ports,
            not_named_ports,
            service,
        })
}

fn icmp() -> impl Strategy<Value = IcmpMatch> {
    let small = || prop_oneof![Just(None), (0..3_u8).prop_map(Some)];
    (small(), small()).prop_map(|(kind, code)| IcmpMatch { kind, code })
}

fn rule() -> impl Strategy<Value = Rule> {
    let action = prop_oneof![
        3 => Just(RuleAction::Allow),
        3 => Just(RuleAction::Deny),
        1 => Just(RuleAction::Pass),
        1 => Just(RuleAction::Log)
    ];
    let family = seldom(prop_oneof![Just(Family::V4), Just(Family::V6)]);
    let layer4 = (
        prop_oneof![Just(None), protocol().prop_map(Some)],
        seldom(protocol()),
        seldom(icmp()),
        seldom(icmp()),
    );
    (action, family, layer4, side(), side()).prop_map(
        |(action, family, (protocol, not_protocol, icmp, not_icmp), source, destination)| Rule {
            id: RuleId::NONE,
            action,
            family,
            protocol,
            not_protocol,
            icmp,
            not_icmp,
            source,
            destination,
        },
    )
}

fn ruleset() -> impl Strategy<Value = Ruleset> {
    let rules = || prop::collection::vec(rule(), 0..5);
    let policy = (prop::bool::weighted(0.25), rules()).prop_map(|(staged, rules)| Policy {
        staged,
        end: RuleId::NONE,
        rules,
    });
    let tier = (prop::collection::vec(policy, 0..4), any::<bool>()).prop_map(|(policies, deny)| Tier {
        policies,
        end: if deny { TierEnd::Deny } else { TierEnd::Pass },
        end_id: RuleId::NONE,
    });
    (prop::collection::vec(tier, 0..4), prop::collection::vec(rules(), 0..3), any::<bool>()).prop_map(
        |(tiers, profiles, closed)| {
            let mut ruleset = Ruleset { tiers, profiles, no_match: closed.then_some(RuleId(1)) };
            number(&mut ruleset);
            ruleset
        },
    )
}

/// Gives every rule and end a number of its own, so that a verdict tells which it was.
fn number(ruleset: &mut Ruleset) {
    let mut next = 1;
    let mut id = || {
        next += 1;
        RuleId(next)
    };
    for tier in &mut ruleset.tiers {
        tier.end_id = id();
        for policy in &mut tier.policies {
            policy.end = id();
            policy.rules.iter_mut().for_each(|rule| rule.id = id());
        }
    }
    ruleset.profiles.iter_mut().flatten().for_each(|rule| rule.id = id());
}

fn packet() -> impl Strategy<Value = Packet> {
    let transport = prop_oneof![1 => Just(None), 4 => (port(), port()).prop_map(Some)];
    let pair = (address(), address()).prop_filter("of one family", |(a, b)| a.is_ipv4() == b.is_ipv4());
    (pair, protocol(), transport).prop_map(|((source, destination), protocol, transport)| {
        // Type and code of ICMP are octets.
        let octets = |(kind, code): (u16, u16)| (kind & 3, code & 3);
        let transport = if matches!(protocol, 1 | 58) { transport.map(octets) } else { transport };
        Packet { source, destination, protocol, transport }
    })
}

#[derive(Clone, Debug)]
enum Change {
    Insert(u32, IpNet),
    Remove(u32, IpNet),
    InsertPort(u32, (IpAddr, u8, u16)),
    RemovePort(u32, (IpAddr, u8, u16)),
    Replace(usize, Ruleset),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0..SETS, net()).prop_map(|(set, net)| Change::Insert(set, net)),
        3 => (0..SETS, net()).prop_map(|(set, net)| Change::Remove(set, net)),
        1 => (0..PORT_SETS, port_member()).prop_map(|(set, member)| Change::InsertPort(set, member)),
        1 => (0..PORT_SETS, port_member()).prop_map(|(set, member)| Change::RemovePort(set, member)),
        1 => (0..2_usize, ruleset()).prop_map(|(at, ruleset)| Change::Replace(at, ruleset)),
    ]
}

/// A modest number of worlds, unless the environment asks for another.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 192 };
    // Pairs of two families are drawn and put back, however many worlds there are.
    ProptestConfig { cases, max_shrink_iters: 2000, max_local_rejects: u32::MAX, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn compiled_and_interpreted_say_the_same(
        first in prop::collection::vec((0..SETS, net()), 0..12),
        ports in prop::collection::vec((0..PORT_SETS, port_member()), 0..8),
        mut rulesets in prop::collection::vec(ruleset(), 2),
        changes in prop::collection::vec(prop::collection::vec(change(), 1..4), 0..6),
        packets in prop::collection::vec(packet(), 24),
    ) {
        let mut world = World::new();
        let sets: Vec<_> = (0..SETS).map(|_| world.create_set()).collect();
        let port_sets: Vec<_> = (0..PORT_SETS).map(|_| world.create_port_set()).collect();
        first.iter().for_each(|(set, net)| world.insert(sets[*set as usize], *net));
        ports.iter().for_each(|(set, member)| world.insert_port(port_sets[*set as usize], *member));
        let programs: Vec<_> = rulesets.iter().map(|ruleset| world.compile(ruleset)).collect();
        world.settle();
        let check = |world: &World, rulesets: &[Ruleset]| {
            for (program, ruleset) in programs.iter().zip(rulesets) {
                packets.iter().for_each(|packet| drop(world.ask(*program, ruleset, packet)));
            }
        };
        check(&world, &rulesets);
        for step in changes {
            for change in step {
                match change {
                    Change::Insert(set, net) => world.insert(sets[set as usize], net),
                    Change::Remove(set, net) => world.remove(sets[set as usize], net),
                    Change::InsertPort(set, member) => world.insert_port(port_sets[set as usize], member),
                    Change::RemovePort(set, member) => world.remove_port(port_sets[set as usize], member),
                    Change::Replace(at, ruleset) => {
                        for engine in &mut world.engines {
                            engine.recompile(programs[at], ruleset.clone()).expect("few ports");
                        }
                        rulesets[at] = ruleset;
                    }
                }
            }
            world.settle();
            check(&world, &rulesets);
        }
    }
}
