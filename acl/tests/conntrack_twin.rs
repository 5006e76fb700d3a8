//! The vector kernel of the lookup and its scalar twin: they must say the same about every burst.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]
#![cfg(not(feature = "loom"))]

mod conntrack;

use acl::conntrack::{Found, LANES, PolicyGenerations, SideVerdict, Tuple};
use acl::{Action, RuleId, Verdict};
use conntrack::{ICMP, UDP, Worker, segment, table, tick, v4, v6};
use proptest::prelude::*;

/// Few enough tuples that most are met, of all kinds.
fn tuple() -> impl Strategy<Value = Tuple> {
    (
        0..6_u32,
        0..6_u32,
        0..4_u16,
        0..4_u16,
        prop::sample::select(vec![6, UDP, ICMP, 47]),
        any::<(bool, bool)>(),
    )
        .prop_map(|(src, dst, sport, dport, protocol, (is_v6, answers))| {
            let icmp_type = match (protocol, answers) {
                (ICMP, true) => 0,
                (ICMP, false) => 8,
                _ => 0,
            };
            let tuple = if is_v6 && protocol != ICMP {
                v6(src.into(), dst.into(), sport, dport, protocol)
            } else {
                v4(src, dst, sport, dport, protocol)
            };
            Tuple { icmp_type, zone: dport & 1, ..tuple }
        })
}

fn all(found: &Found, mask: u64) -> Vec<u64> {
    let flows =
        (0..LANES).filter(|lane| found.hit >> lane & 1 == 1).map(|lane| u64::from(found.flow[lane].entry()));
    let masks = [
        found.hit,
        found.reply,
        found.related,
        found.stale_egress,
        found.stale_ingress,
        found.denied,
        found.first,
        found.reopens,
        found.invalid,
        found.unrelated,
    ];
    let sorted = found.hit | found.first | found.invalid | found.unrelated;
    assert_eq!(sorted, mask, "every lane is in one mask");
    masks.into_iter().chain(flows).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn vectors_say_what_scalars_say(
        // Small tables are crowded: keys in further buckets, entries that are used again.
        flows in prop::sample::select(vec![1_u32, 60, 90, 400]),
        bursts in prop::collection::vec(
            (prop::collection::vec(tuple(), LANES), any::<u64>(), 0..700_u64, any::<u64>()),
            1..12,
        ),
        changes in prop::collection::vec((0..8_usize, any::<bool>()), 0..6),
    ) {
        let table = table(flows);
        let mut worker = Worker::new(&table);
        worker.generations = vec![PolicyGenerations::default(); 6];
        let mut twin = Box::<Found>::default();
        let mut now = 0;
        let mut changes = changes.into_iter();
        for (tuples, mask, pause, verdicts) in bursts {
            now += pause / 10;
            if let Some((endpoint, ingress)) = changes.next()
                && let Some(generations) = worker.generations.get_mut(endpoint)
            {
                if ingress { generations.ingress += 1 } else { generations.egress += 1 }
            }
            for (lane, tuple) in tuples.iter().enumerate() {
                worker.headers.set(lane, tuple);
                if tuple.protocol == 6 {
                    worker.headers.set_tcp(lane, &segment(0x02, 10, 0));
                }
            }
            let Worker { headers, found, generations, .. } = &mut worker;
            table.lookup(headers, mask, generations, tick(now), found);
            table.lookup_scalar(headers, mask, generations, tick(now), &mut twin);
            prop_assert_eq!(all(found, mask), all(&twin, mask));
            for lane in (0..LANES).filter(|lane| found.first >> lane & 1 == 1) {
                let side = |at: u64, endpoint: u16| SideVerdict {
                    endpoint: if at & 1 == 0 { SideVerdict::NO_ENDPOINT } else { endpoint },
                    verdict: Verdict {
                        action: if at & 6 == 0 { Action::Deny } else { Action::Allow },
                        rule: RuleId(3),
                    },
                    generation: 0,
                };
                let bits = verdicts.rotate_right(lane as u32);
                // Endpoint 7 has no policy any more.
                let _ = table.insert(headers, lane, side(bits, 3), side(bits >> 3, 7), tick(now), found);
            }
        }
    }
}
