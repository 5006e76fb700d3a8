//! The flow table against a naive model: a map from tuples to flows, without hashes, buckets or locks.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]

mod conntrack;

use std::collections::HashMap;

use acl::conntrack::{
    Capacity, Conntrack, Flow, Keep, Opened, Phase, Settings, SideVerdict, TICKS_PER_SECOND, TakenOver, Tuple,
};
use acl::{Action, Direction, RuleId, Verdict};
use conntrack::{ACK, ICMP, SEED, TCP, UDP, Worker, allowed, segment, table, tick, v4, v6};
use proptest::prelude::*;

/// Tuples that share addresses and ports as much as they can.
fn tuples() -> Vec<Tuple> {
    let mut tuples = Vec::new();
    for zone in [0, 7] {
        for (src, dst) in [(1, 2), (2, 3), (1, 3), (5, 5)] {
            for (sport, dport) in [(1, 2), (1, 1), (2, 3)] {
                for protocol in [UDP, 47] {
                    tuples.push(Tuple { zone, ..v4(src, dst, sport, dport, protocol) });
                    tuples.push(Tuple { zone, ..v6(src.into(), dst.into(), sport, dport, protocol) });
                }
            }
            // Both hosts ping each other with the same identifier.
            if src != dst {
                tuples.push(Tuple { zone, icmp_type: 8, ..v4(src, dst, 7, 7, ICMP) });
                tuples.push(Tuple { zone, icmp_type: 8, ..v4(dst, src, 7, 7, ICMP) });
                tuples.push(Tuple { zone, icmp_type: 128, ..v6(src.into(), dst.into(), 7, 7, 58) });
            }
        }
    }
    tuples
}

#[derive(Clone, Debug)]
enum Move {
    /// A burst: tuple, whether it is turned round, bytes.
    Burst(Vec<(prop::sample::Index, bool, u32)>),
    Wait(u64),
    Sweep(u32),
    Remove(prop::sample::Index),
    Adopt,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let packet = (any::<prop::sample::Index>(), any::<bool>(), 20_u32..1500);
    let one = prop_oneof![
        6 => prop::collection::vec(packet, 1..=64).prop_map(Move::Burst),
        3 => (0_u64..2000).prop_map(Move::Wait),
        2 => (0_u32..400).prop_map(Move::Sweep),
        1 => any::<prop::sample::Index>().prop_map(Move::Remove),
        1 => Just(Move::Adopt),
    ];
    prop::collection::vec(one, 1..40)
}

#[derive(Clone, Debug)]
struct ModelFlow {
    opener: Tuple,
    replied: bool,
    last: u64,
    packets: [u64; 2],
    bytes: [u64; 2],
}

impl ModelFlow {
    fn lifetime(&self) -> u64 {
        let seconds = match self.opener.protocol {
            UDP => 60,
            ICMP | 58 => 5,
            _ => 600,
        };
        seconds * u64::from(TICKS_PER_SECOND)
    }
}

#[derive(Default)]
struct Model(Vec<ModelFlow>);

impl Model {
    /// The live flow that a packet belongs to, and whether it is a reply.
    fn find(&mut self, tuple: &Tuple, now: u64) -> Option<(&mut ModelFlow, bool)> {
        self.0.iter_mut().filter(|flow| now - flow.last < flow.lifetime()).find_map(|flow| {
            if flow.opener == *tuple {
                Some((flow, false))
            } else if flow.opener.reversed() == *tuple {
                Some((flow, true))
            } else {
                None
            }
        })
    }
}

fn check(steps: Vec<Move>) -> Result<(), TestCaseError> {
    let tuples = tuples();
    let mut table = table(1000);
    let mut model = Model::default();
    let mut now = 0;
    for step in steps {
        match step {
            Move::Burst(packets) => burst(&table, &mut model, &tuples, &packets, now)?,
            Move::Wait(ticks) => now += ticks,
            Move::Sweep(budget) => {
                table.expire(tick(now), budget, &[]);
            }
            Move::Remove(which) => {
                let tuple = which.get(&tuples);
                let live = model.find(tuple, now).map(|(flow, _)| flow.opener);
                let found = table.find(tuple, tick(now));
                prop_assert_eq!(found.is_some(), live.is_some());
                if let (Some(opener), Some((flow, _))) = (live, found) {
                    prop_assert!(table.remove(flow));
                    prop_assert!(!table.remove(flow));
                    prop_assert_eq!(table.get(flow, tick(now)), None);
                    model.0.retain(|other| other.opener != opener);
                }
            }
            Move::Adopt => {
                let capacity = table.capacity();
                let mut settings = Settings::of(capacity);
                settings.limits.evictable = capacity.flows;
                settings.limits.evictable_under_pressure = capacity.flows;
                let new = Conntrack::new(capacity, [now, 7], &settings).unwrap();
                let left = table.into_memory();
                new.take_over(&left, tick(now), |flow| Some([flow.egress, flow.ingress])).unwrap();
                table = new;
            }
        }
        // The whole tables agree.
        model.0.retain(|flow| now - flow.last < flow.lifetime());
        let mut seen: HashMap<Tuple, _> = HashMap::new();
        let mut expired = 0;
        table.visit(0, u32::MAX, tick(now), |flow| {
            if flow.expires_in_ms > 0 {
                assert_eq!(seen.insert(flow.tuple, *flow), None, "twice");
            } else {
                expired += 1;
            }
            Keep::Yes
        });
        prop_assert_eq!(table.len(), seen.len() + expired);
        prop_assert_eq!(seen.len(), model.0.len());
        for flow in &model.0 {
            let entry = &seen[&flow.opener];
            let counted = [entry.original, entry.reply];
            prop_assert_eq!(counted.map(|traffic| traffic.packets), flow.packets);
            prop_assert_eq!(counted.map(|traffic| traffic.bytes), flow.bytes);
        }
    }
    // A sweep of everything leaves the live flows.
    table.expire(tick(now), 2000, &[]);
    prop_assert_eq!(table.len(), model.0.len());
    table.expire(tick(now + 600 * 8), 2000, &[]);
    prop_assert_eq!((table.len(), table.flows_of(3)), (0, Some((0, 0))));
    Ok(())
}

fn burst(
    table: &Conntrack,
    model: &mut Model,
    tuples: &[Tuple],
    packets: &[(prop::sample::Index, bool, u32)],
    now: u64,
) -> Result<(), TestCaseError> {
    let mut worker = Worker::new(table);
    let lanes: Vec<(Tuple, u32)> = packets
        .iter()
        .map(|(which, turned, len)| {
            let tuple = *which.get(tuples);
            (if *turned { tuple.reversed() } else { tuple }, *len)
        })
        .collect();
    for (lane, (tuple, len)) in lanes.iter().enumerate() {
        worker.headers.set(lane, tuple);
        worker.headers.len[lane] = *len;
    }
    let mask = u64::MAX >> (64 - lanes.len());
    table.lookup(&worker.headers, mask, &worker.generations, tick(now), &mut worker.found);
    let found = &worker.found;
    prop_assert_eq!(found.hit | found.first | found.invalid, mask);
    prop_assert_eq!(found.stale_egress | found.stale_ingress | found.denied | found.unrelated, 0);
    // What the lookup saw.
    for (lane, (tuple, _)) in lanes.iter().enumerate() {
        let bit = 1 << lane;
        let expected = model.find(tuple, now).map(|(_, reply)| reply);
        prop_assert_eq!(found.hit & bit != 0, expected.is_some(), "{:?}", tuple);
        prop_assert_eq!(found.reply & bit != 0, expected == Some(true));
        let answer = matches!((tuple.protocol, tuple.icmp_type), (ICMP, 0) | (58, 129));
        prop_assert_eq!(found.invalid & bit != 0, expected.is_none() && answer);
    }
    let first = found.first;
    table.track(&worker.headers, mask, tick(now), &mut worker.found);
    for (lane, (tuple, len)) in lanes.iter().enumerate() {
        if worker.found.hit >> lane & 1 != 0 {
            let (flow, reply) = model.find(tuple, now).unwrap();
            flow.replied |= reply;
            flow.last = now;
            flow.packets[usize::from(reply)] += 1;
            flow.bytes[usize::from(reply)] += u64::from(*len);
        }
    }
    for (lane, (tuple, len)) in lanes.iter().enumerate() {
        if first >> lane & 1 == 0 {
            continue;
        }
        let opened =
            table.insert(&worker.headers, lane, allowed(3), SideVerdict::NONE, tick(now), &worker.found);
        match (opened.unwrap(), model.find(tuple, now)) {
            (Opened::New(_), None) => {
                let (packets, bytes) = ([1, 0], [u64::from(*len), 0]);
                model.0.retain(|flow| flow.opener != *tuple && flow.opener.reversed() != *tuple);
                model.0.push(ModelFlow { opener: *tuple, replied: false, last: now, packets, bytes });
            }
            (Opened::Existing { reply, .. }, Some((_, expected))) => prop_assert_eq!(reply, expected),
            (opened, model) => prop_assert!(false, "{:?} {:?}", opened, model),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_table_is_a_map_of_flows(steps in moves()) {
        check(steps)?;
    }
}

/// Many more flows than a bucket holds in each bucket: keys go to their further buckets and come back.
#[test]
fn a_full_table_holds_and_finds_every_flow() {
    let table = table(900);
    let mut worker = Worker::new(&table);
    let tuple = |n: u32| if n.is_multiple_of(2) { v4(n, 9, 1, 2, UDP) } else { v6(n.into(), 9, 1, 2, UDP) };
    let mut flows = Vec::new();
    for n in 0..900 {
        match worker.send(&tuple(n), None, 1, tick(0)) {
            Ok(Opened::New(flow)) => flows.push((n, flow)),
            other => panic!("{n}: {other:?}"),
        }
    }
    assert_eq!(table.len(), 900);
    for round in 0..20 {
        for (n, flow) in &flows {
            let expected = Some((*flow, true));
            assert_eq!(table.find(&tuple(*n).reversed(), tick(0)), expected, "round {round}");
        }
        // Replace a third by others.
        for at in (round % 3..900).step_by(3) {
            let (n, flow) = flows[at];
            assert!(table.remove(flow));
            assert_eq!(table.find(&tuple(n), tick(0)), None);
            let n = n + 1000;
            let opened = worker.send(&tuple(n), None, 1, tick(0)).unwrap();
            assert!(matches!(opened, Opened::New(_)));
            flows[at] = (n, opened.flow());
        }
    }
    for (_, flow) in flows {
        assert!(table.remove(flow));
    }
    assert!(table.is_empty());
    assert_eq!(table.flows_of(1), Some((0, 0)));
}

#[test]
fn a_flow_keeps_both_verdicts_and_hears_of_new_policy_for_its_own_endpoints() {
    let table = table(10);
    let mut worker = Worker::new(&table);
    let tuple = v4(1, 2, 3, 4, UDP);
    worker.packet(&tuple, None, tick(0));
    let (egress, ingress) = (allowed(5), allowed(6));
    let opened = table.insert(&worker.headers, 0, egress, ingress, tick(0), &worker.found).unwrap();
    let flow = opened.flow();
    let shown = table.get(flow, tick(0)).unwrap();
    assert_eq!((shown.egress, shown.ingress, shown.phase), (egress, ingress, Phase::UdpUnreplied));

    // Another endpoint's policy, and this one's in the other direction, change nothing.
    worker.generations[7].egress += 1;
    worker.generations[5].ingress += 1;
    worker.packet(&tuple.reversed(), None, tick(0));
    assert_eq!((worker.found.stale_egress, worker.found.stale_ingress), (0, 0));
    assert_eq!(worker.found.verdict(0, Direction::Egress), egress.verdict);
    assert_eq!(worker.found.verdict(0, Direction::Ingress), ingress.verdict);

    worker.generations[6].ingress += 1;
    worker.packet(&tuple, None, tick(0));
    assert_eq!((worker.found.stale_egress, worker.found.stale_ingress), (0, 1));
    let deny = Verdict { action: Action::Deny, rule: RuleId(77) };
    assert_eq!(table.record(flow, Direction::Ingress, deny, 1), Ok(true));
    worker.packet(&tuple.reversed(), None, tick(0));
    assert_eq!((worker.found.stale_ingress, worker.found.denied), (0, 1));
    assert_eq!(table.verdict(flow, Direction::Ingress), Some(deny));
    assert_eq!(table.verdict(flow, Direction::Egress), Some(egress.verdict));

    // A worker that still runs the old tables neither takes the new verdict back nor asks again.
    assert_eq!(table.record(flow, Direction::Ingress, ingress.verdict, 0), Ok(false));
    worker.generations[6].ingress = 0;
    worker.packet(&tuple, None, tick(0));
    assert_eq!((worker.found.stale_ingress, worker.found.denied), (0, 1));

    // An endpoint whose policy is gone: ask.
    worker.generations.truncate(6);
    worker.packet(&tuple, None, tick(0));
    assert_eq!((worker.found.stale_egress, worker.found.stale_ingress), (0, 1));

    let huge = Verdict { action: Action::Allow, rule: RuleId(1 << 31) };
    assert!(table.record(flow, Direction::Egress, huge, 9).is_err());
    assert!(table.remove(flow));
    assert_eq!(table.record(flow, Direction::Egress, deny, 9), Ok(false));
}

/// 16 bits of generation go round; the sweep sees to it that no verdict is taken for a newer one.
#[test]
fn a_verdict_is_not_forgotten_while_generations_go_round() {
    let table = table(100);
    let mut worker = Worker::new(&table);
    let tuple = v4(1, 2, 3, 4, 47);
    worker.send(&tuple, None, 5, tick(0)).unwrap();
    for change in 1..=70_000_u32 {
        worker.generations[5].egress = change as u16;
        if change.is_multiple_of(5000) {
            table.expire(tick(0), 100, &worker.generations);
            worker.packet(&tuple, None, tick(0));
            assert_eq!(worker.found.stale_egress, 1, "change {change}");
        }
    }
}

#[test]
fn errors_are_related_to_the_flow_that_they_quote() {
    let table = table(10);
    let mut worker = Worker::new(&table);
    let tuple = v4(1, 2, 3, 4, TCP);
    worker.connect(&tuple, 1, tick(0)).unwrap();
    let before = table.get(table.find(&tuple, tick(0)).unwrap().0, tick(9)).unwrap();
    let client = "10.0.0.1".parse().unwrap();
    let server = "10.0.0.2".parse().unwrap();
    let headers = &mut worker.headers;
    // From a router on the way, to the client and to the server; then about a flow that is not known.
    assert!(headers.set_quoted(0, client, &tuple));
    assert!(headers.set_quoted(1, server, &tuple.reversed()));
    assert!(headers.set_quoted(2, client, &v4(1, 2, 3, 5, TCP)));
    // One that goes elsewhere than to the sender of what it quotes.
    assert!(!headers.set_quoted(3, server, &tuple));
    assert!(!headers.set_quoted(3, "fd00::1".parse().unwrap(), &tuple));
    table.lookup(headers, 0b111, &worker.generations, tick(9), &mut worker.found);
    table.track(headers, 0b111, tick(9), &mut worker.found);
    let found = &worker.found;
    assert_eq!((found.hit, found.related, found.reply), (0b011, 0b011, 0b010));
    assert_eq!((found.unrelated, found.first, found.invalid), (0b100, 0, 0));
    let after = table.get(found.flow[0], tick(9)).unwrap();
    assert_eq!(after, before, "an error changes neither state nor time nor counters");
}

#[test]
fn a_successor_takes_the_flows_over_and_refuses_what_is_no_table() {
    let capacity = Capacity { flows: 50, endpoints: 64 };
    let settings = Settings::of(capacity);
    let table = Conntrack::new(capacity, SEED, &settings).unwrap();
    let mut worker = Worker::new(&table);
    let tuples: Vec<Tuple> = (0..5).map(|n| v4(n, 100 + n, 1, 2, TCP)).collect();
    for tuple in &tuples {
        worker.connect(tuple, 2, tick(0)).unwrap();
    }
    worker.send(&v4(9, 9, 1, 2, UDP), None, 3, tick(0)).unwrap();
    let before: Vec<_> = tuples.iter().map(|tuple| table.find(tuple, tick(1)).unwrap().0).collect();
    let before: Vec<_> = before.iter().map(|flow| table.get(*flow, tick(1)).unwrap()).collect();
    let left = table.into_memory();
    // A larger one, with another seed; the endpoint has another number.
    let capacity = Capacity { flows: 70, endpoints: 8 };
    let table = Conntrack::new(capacity, [8, 9], &Settings::of(capacity)).unwrap();
    Worker::new(&table).send(&tuples[0], Some(&segment(ACK, 11, 21)), 1, tick(1)).unwrap();
    let sides = |flow: &Flow| {
        (flow.egress.endpoint == 2).then_some([SideVerdict { endpoint: 5, ..flow.egress }, flow.ingress])
    };
    let done = table.take_over(&left, tick(1), sides).unwrap();
    assert_eq!(done, TakenOver { flows: 4, known: 1, unwanted: 1, ..TakenOver::default() });
    assert_eq!((table.len(), table.flows_of(5), table.flows_of(2)), (5, Some((0, 4)), Some((0, 0))));
    for (tuple, before) in tuples.iter().zip(before).skip(1) {
        let flow = table.get(table.find(&tuple.reversed(), tick(1)).unwrap().0, tick(1)).unwrap();
        assert_eq!((flow.phase, flow.expires_in_ms), (before.phase, before.expires_in_ms));
        assert_eq!((flow.original, flow.reply), (before.original, before.reply));
    }
    assert!(table.take_over(&acl::conntrack::Line::boxed(100), tick(1), sides).is_err());
    assert!(table.take_over(&left[..left.len() - 1], tick(1), sides).is_err());
    assert!(Conntrack::create(acl::conntrack::Line::boxed(2), capacity, SEED, &settings).is_err());
}
