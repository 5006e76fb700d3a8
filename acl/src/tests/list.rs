//! Access lists against brute force: random ones, and one of ClassBench's kind (`tests/data/ORIGIN.md`).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use proptest::prelude::*;

use super::calico::unpacked;
use crate::list::{BURST, ListKeys, ListRule, NO_RULE, RuleList};

type Key = [u32; 5];

fn brute_force(rules: &[ListRule], key: Key) -> u32 {
    let matches = |rule: &ListRule| {
        rule.source.contains(&Ipv4Addr::from(key[0]))
            && rule.destination.contains(&Ipv4Addr::from(key[1]))
            && rule.source_ports.contains(&(key[2] as u16))
            && rule.destination_ports.contains(&(key[3] as u16))
            && (key[4] as u8 ^ rule.protocol.0) & rule.protocol.1 == 0
    };
    rules.iter().position(matches).map_or(NO_RULE, |at| at as u32)
}

fn check(rules: &[ListRule], keys: &[Key]) {
    let forms: [fn(&[ListRule]) -> RuleList; 5] =
        [RuleList::new, RuleList::of_trees, RuleList::of_words, RuleList::of_tables, RuleList::of_vectors];
    forms.iter().for_each(|of| check_form(&of(rules), rules, keys));
}

fn check_form(list: &RuleList, rules: &[ListRule], keys: &[Key]) {
    for chunk in keys.chunks(BURST) {
        let mut burst = ListKeys::new();
        for (lane, key) in chunk.iter().enumerate() {
            burst.set_addresses(lane, key[0], key[1]);
            burst.set_layer4(lane, key[4] as u8, key[2] as u16, key[3] as u16);
        }
        let (mut wide, mut scalar) = ([7; BURST], [7; BURST]);
        list.lookup(&burst, chunk.len(), &mut wide);
        list.lookup_scalar(&burst, chunk.len(), &mut scalar);
        for (lane, key) in chunk.iter().enumerate() {
            let expected = brute_force(rules, *key);
            assert_eq!((wide[lane], scalar[lane]), (expected, expected), "{key:?}");
        }
        assert!(wide[chunk.len()..].iter().all(|rule| *rule == 7), "lanes that were not asked for");
    }
}

#[test]
fn a_list_of_classbench() {
    let text = unpacked(include_bytes!("../../tests/data/jcg-acl1_1k.rules.gz"));
    let rules: Vec<ListRule> = text
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.trim_start_matches('@').split('\t').collect();
            let ports = |text: &str| {
                let (low, high) = text.split_once(" : ").expect("a range");
                low.parse().expect("a port")..=high.parse().expect("a port")
            };
            let octet = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).expect("an octet");
            let (protocol, mask) = fields[4].split_once('/').expect("value/mask");
            ListRule {
                source: fields[0].parse::<Ipv4Net>().expect("a prefix").trunc(),
                destination: fields[1].parse::<Ipv4Net>().expect("a prefix").trunc(),
                source_ports: ports(fields[2]),
                destination_ports: ports(fields[3]),
                protocol: (octet(protocol), octet(mask)),
            }
        })
        .collect();
    assert_eq!(rules.len(), 953);
    let trace = unpacked(include_bytes!("../../tests/data/jcg-acl1_1k.trace.gz"));
    let rows: Vec<Vec<u32>> = trace
        .lines()
        .map(|line| line.split_whitespace().map(|text| text.parse().expect("a number")).collect())
        .collect();
    assert_eq!(rows.len(), 11_069);
    let keys: Vec<Key> = rows.iter().map(|row| [row[0], row[1], row[2], row[3], row[4]]).collect();
    check(&rules, &keys);
    // The last column names a rule that the header was made from, so a rule no later than it matches.
    for (key, row) in keys.iter().zip(&rows) {
        assert!(brute_force(&rules, *key) <= row[6], "{row:?}");
    }
}

fn address() -> impl Strategy<Value = u32> {
    prop_oneof![(0..16_u32).prop_map(|low| 0x0a00_0000 | low), any::<u32>(), Just(0), Just(u32::MAX)]
}

fn prefix() -> impl Strategy<Value = Ipv4Net> {
    (address(), prop_oneof![Just(32), Just(0), 0..=32_u8, 24..=32_u8])
        .prop_map(|(address, length)| Ipv4Net::new(address.into(), length).expect("a length").trunc())
}

fn ports() -> impl Strategy<Value = core::ops::RangeInclusive<u16>> {
    let port = || prop_oneof![Just(80_u16), Just(0), Just(u16::MAX), any::<u16>()];
    prop_oneof![
        2 => Just(0..=u16::MAX),
        1 => (port(), port()).prop_map(|(a, b)| a.min(b)..=a.max(b)),
        2 => port().prop_map(|port| port..=port)
    ]
}

fn rule() -> impl Strategy<Value = ListRule> {
    let protocol = prop_oneof![Just((0, 0)), Just((6, 0xff)), Just((17, 0xff)), any::<(u8, u8)>()];
    (prefix(), prefix(), ports(), ports(), protocol).prop_map(
        |(source, destination, source_ports, destination_ports, protocol)| ListRule {
            source,
            destination,
            source_ports,
            destination_ports,
            protocol,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn random_lists(
        rules in prop_oneof![
            2 => prop::collection::vec(rule(), 0..40),
            1 => prop::collection::vec(rule(), 120..132),
            2 => prop::collection::vec(rule(), 100..600),
            1 => prop::collection::vec(rule(), 1020..1100),
        ],
        free in prop::collection::vec((address(), address(), any::<u16>(), any::<u16>(), any::<u8>()), 40),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<(bool, bool)>()), 120),
    ) {
        let mut keys: Vec<Key> =
            free.into_iter().map(|(s, d, sp, dp, p)| [s, d, sp.into(), dp.into(), p.into()]).collect();
        // Corners of rules: the first and the last value of each field.
        for (index, (high, higher)) in picks.into_iter().filter(|_| !rules.is_empty()) {
            let rule = index.get(&rules);
            let end = |net: Ipv4Net, high| u32::from(if high { net.broadcast() } else { net.network() });
            let port = |ports: &core::ops::RangeInclusive<u16>, high| u32::from(if high { *ports.end() } else { *ports.start() });
            keys.push([
                end(rule.source, high),
                end(rule.destination, higher),
                port(&rule.source_ports, higher),
                port(&rule.destination_ports, high),
                rule.protocol.0.into(),
            ]);
        }
        check(&rules, &keys);
    }
}
