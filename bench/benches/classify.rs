//! What does policy cost a packet, and what a change?
//!
//! | group | what |
//! |---|---|
//! | `program` | both addresses to classes, then the verdict: a policy of three rules over a set of 10,000 pods, alone and behind 12,500 rules that match nothing |
//! | `change` | a pod joins that set; a program is compiled |
//!
//! Plain access lists: `cargo bench -p vrouter-acl --bench list`.

use std::hint::black_box;
use std::net::Ipv4Addr;

use acl::model::{Family, Policy, Rule, RuleAction, Ruleset, Tier, TierEnd};
use acl::{Action, Engine, Headers, RuleId, Verdict};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vrouter_bench::random::Random;

const PACKETS: usize = 1 << 14;
const BURST: usize = 64;

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
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
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

criterion_group!(benches, programs);
criterion_main!(benches);
