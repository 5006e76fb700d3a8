//! What does policy cost a packet, and what a change?
//!
//! | group | what |
//! |---|---|
//! | `list` | first match in plain access lists of 100 to 10,000 rules, bursts of 64, packets that match some rule |
//! | `program` | both addresses to classes, then the verdict: a policy of three rules over a set of 10,000 pods, alone and behind 12,500 rules that match nothing |
//! | `change` | a pod joins that set; a list or a program is compiled |
//!
//! Lists are made at random after ClassBench's kinds: `acl` (long prefixes), `ipc` (the same with more
//! prefixes and some source ports) and `fw` (a third of the addresses are wildcards).

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use acl::list::{BURST, ListKeys, ListRule, NO_RULE, RuleList};
use acl::model::{Family, Policy, Rule, RuleAction, Ruleset, Tier, TierEnd};
use acl::{Action, Engine, Headers, RuleId, Verdict};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ipnet::Ipv4Net;

const PACKETS: usize = 1 << 14;

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

/// Prefixes of which many share their first bits.
fn prefixes(random: &mut Random, count: usize, lengths: &[(u8, u64)]) -> Vec<Ipv4Net> {
    let all: u64 = lengths.iter().map(|(_, weight)| weight).sum();
    let mut out: Vec<Ipv4Net> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut left = random.below(all);
        let length = lengths.iter().find(|(_, weight)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        let near = !out.is_empty() && random.below(10) < 7;
        let kept = if near { u32::MAX.checked_shl(32 - random.below(24) as u32).unwrap_or(0) } else { 0 };
        let base = if near { u32::from(random.pick(&out).network()) } else { 0 };
        let address = (base & kept) | (random.next() as u32 & !kept);
        let length = length.map_or(32, |(length, _)| *length);
        out.push(Ipv4Net::new(address.into(), length).expect("a length of the table").trunc());
    }
    out
}

fn ports(random: &mut Random, any: u64) -> RangeInclusive<u16> {
    const USUAL: [u16; 14] = [80, 443, 53, 22, 1521, 1526, 1433, 25, 110, 8080, 3306, 5432, 6000, 1024];
    match (random.below(100) < any, random.below(10)) {
        (true, _) => 0..=u16::MAX,
        (false, 0..8) => {
            let port = random.pick(&USUAL);
            port..=port
        }
        (false, 8) => 1024..=u16::MAX,
        (false, _) => {
            let first = random.below(60_000) as u16;
            first..=first + random.below(2000) as u16
        }
    }
}

fn rules(kind: &str, count: usize, random: &mut Random) -> Vec<ListRule> {
    let lengths: &[(u8, u64)] = match kind {
        "fw" => &[(32, 40), (24, 10), (16, 10), (8, 5), (0, 35)],
        _ => &[(32, 50), (31, 20), (30, 5), (24, 8), (23, 7), (22, 4), (16, 2), (8, 1), (0, 2)],
    };
    let share = if kind == "acl" { 8 } else { 3 };
    let sources = prefixes(random, (count / share).max(8), lengths);
    let destinations = prefixes(random, (count / 3).max(8), lengths);
    (0..count)
        .map(|_| ListRule {
            source: random.pick(&sources),
            destination: random.pick(&destinations),
            source_ports: ports(random, if kind == "acl" { 100 } else { 85 }),
            destination_ports: ports(random, 28),
            protocol: match random.below(100) {
                0..85 => (6, 0xff),
                85..93 => (17, 0xff),
                93..96 => (1, 0xff),
                _ => (0, 0),
            },
        })
        .collect()
}

fn keys(rules: &[ListRule], random: &mut Random) -> Vec<ListKeys> {
    let inside = |random: &mut Random, net: Ipv4Net| {
        u32::from(net.network()) | (random.next() as u32 & !u32::from(net.netmask()))
    };
    let port = |random: &mut Random, range: &RangeInclusive<u16>| {
        range.start() + random.below(u64::from(range.end() - range.start()) + 1) as u16
    };
    (0..PACKETS / BURST)
        .map(|_| {
            let mut keys = ListKeys::new();
            for lane in 0..BURST {
                let rule = random.pick(rules);
                keys.set_addresses(lane, inside(random, rule.source), inside(random, rule.destination));
                let protocol = if rule.protocol.1 == 0 { 6 } else { rule.protocol.0 };
                let (source, destination) =
                    (port(random, &rule.source_ports), port(random, &rule.destination_ports));
                keys.set_layer4(lane, protocol, source, destination);
            }
            keys
        })
        .collect()
}

fn lists(criterion: &mut Criterion) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for kind in ["acl", "ipc", "fw"] {
        for count in [100, 1000, 10_000] {
            let rules = rules(kind, count, &mut random);
            let keys = keys(&rules, &mut random);
            let list = RuleList::new(&rules);
            println!("list/{kind}/{count}: {} KiB", list.memory() / 1024);
            let mut group = criterion.benchmark_group("list");
            group.throughput(Throughput::Elements(PACKETS as u64));
            group.bench_function(format!("{kind}/{count}"), |bencher| {
                let mut first = [NO_RULE; BURST];
                bencher.iter(|| keys.iter().for_each(|keys| list.lookup(black_box(keys), BURST, &mut first)));
            });
            group.finish();
            if kind == "acl" && count == 10_000 {
                criterion.bench_function("change/compile a list of 10,000", |bencher| {
                    bencher.iter(|| RuleList::new(black_box(&rules)));
                });
            }
        }
    }
}

/// A policy over a set of 10,000 pods behind `idle` rules that no packet matches.
fn policy(engine: &mut Engine, idle: u32) -> (Ruleset, acl::model::SetId) {
    let (pods, clients) = (engine.create_set(), engine.create_set());
    for at in 0..10_000 {
        let address = Ipv4Addr::from(0x0a00_0000 + at);
        engine.insert(pods, std::net::IpAddr::from(address).into());
        if at % 3 == 0 {
            engine.insert(clients, std::net::IpAddr::from(address).into());
        }
    }
    let mut rules = Vec::new();
    for at in 0..idle {
        let mut rule = Rule::new(RuleId(100 + at), RuleAction::Deny);
        let address = Ipv4Addr::from(0xac10_0000 + at);
        rule.source.all_of.push(engine.nets(&[std::net::IpAddr::from(address).into()]));
        rule.protocol = Some(6);
        rule.destination.ports = vec![(at % 1000) as u16..=(at % 1000) as u16];
        rules.push(rule);
    }
    let mut web = Rule::new(RuleId(1), RuleAction::Allow);
    web.protocol = Some(6);
    web.source.all_of.push(clients);
    web.destination.ports = vec![80..=80, 443..=443];
    let mut others = Rule::new(RuleId(2), RuleAction::Deny);
    others.source.all_of.push(clients);
    let mut all = Rule::new(RuleId(3), RuleAction::Allow);
    all.source.all_of.push(pods);
    rules.extend([web, others, all]);
    let policies = vec![Policy { staged: false, end: RuleId(4), rules }];
    let tiers = vec![Tier { policies, end: TierEnd::Deny, end_id: RuleId(5) }];
    (Ruleset { tiers, profiles: Vec::new(), no_match: Some(RuleId(6)) }, pods)
}

fn programs(criterion: &mut Criterion) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for idle in [0, 12_500] {
        let mut engine = Engine::new();
        let (ruleset, pods) = policy(&mut engine, idle);
        let id = engine.compile(ruleset.clone()).expect("few ports");
        engine.publish();
        engine.settle();
        let program = engine.program(id).expect("compiled").clone();
        let trie = engine.trie(Family::V4).clone();
        println!("program/{idle}: {} KiB", program.memory() / 1024);
        let mut bursts: Vec<([u32; BURST], Headers)> = Vec::new();
        for _ in 0..PACKETS / BURST {
            let mut addresses = [0; BURST];
            let mut headers = Headers::new();
            for (lane, address) in addresses.iter_mut().enumerate() {
                *address = 0x0a00_0000 + random.below(12_000) as u32;
                let port = random.pick(&[80, 443, 22, 53, 8080]);
                headers.set(lane, false, (0, 0), random.pick(&[6, 17]), Some((random.next() as u16, port)));
            }
            bursts.push((addresses, headers));
        }
        let mut group = criterion.benchmark_group("program");
        group.throughput(Throughput::Elements(PACKETS as u64));
        group.bench_function(format!("behind {idle} idle rules"), |bencher| {
            let mut verdicts = [Verdict { action: Action::Deny, rule: RuleId::NONE }; BURST];
            bencher.iter(|| {
                for (addresses, headers) in &mut bursts {
                    for (class, address) in headers.source_class.iter_mut().zip(&*addresses) {
                        *class = trie.lookup4(*address);
                    }
                    black_box(program.decide(headers, u64::MAX, &mut verdicts));
                }
            });
        });
        group.finish();
        criterion.bench_function(&format!("change/compile behind {idle} idle rules"), |bencher| {
            bencher.iter(|| engine.recompile(id, ruleset.clone()));
        });
        criterion.bench_function(&format!("change/a pod joins, {idle} idle rules"), |bencher| {
            let pod = std::net::IpAddr::from(Ipv4Addr::from(0x0a00_0000 + 11_000)).into();
            bencher.iter(|| {
                engine.insert(pods, pod);
                engine.publish();
                engine.settle();
                engine.remove(pods, pod);
                engine.publish();
                engine.settle();
            });
        });
    }
}

criterion_group!(benches, lists, programs);
criterion_main!(benches);
