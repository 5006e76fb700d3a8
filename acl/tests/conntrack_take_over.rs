//! What is left of a process in memory may be anything: a successor takes over what is whole, and nothing else.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]
#![cfg(not(feature = "loom"))]

mod conntrack;

use acl::conntrack::{Capacity, Conntrack, Keep, Line, Settings, TakenOver, Tuple};
use conntrack::{SEED, TCP, UDP, Worker, tick, v4, v6};
use proptest::prelude::*;

const CAPACITY: Capacity = Capacity { flows: 64, endpoints: 8 };

fn empty() -> Conntrack {
    let mut settings = Settings::of(CAPACITY);
    settings.limits.evictable = CAPACITY.flows;
    settings.limits.evictable_under_pressure = CAPACITY.flows;
    Conntrack::new(CAPACITY, SEED, &settings).unwrap()
}

fn tuples() -> Vec<Tuple> {
    let v4s = (0..16).map(|n| v4(n, 40 - n, 1000, 80, if n % 2 == 0 { TCP } else { UDP }));
    let v6s = (0..16).map(|n| v6(n, 40 - n, 1000, 80, if n % 2 == 0 { TCP } else { UDP }));
    v4s.chain(v6s).collect()
}

fn table_of_tuples() -> Conntrack {
    let table = empty();
    let mut worker = Worker::new(&table);
    for tuple in tuples() {
        match tuple.protocol {
            TCP => worker.connect(&tuple, 3, tick(0)).unwrap(),
            _ => worker.send(&tuple, None, 3, tick(0)).unwrap(),
        };
    }
    table
}

/// The words of a table, to be damaged: through bytes, as a file would be.
fn words(left: &[Line]) -> Vec<u64> {
    left.iter().flat_map(Line::words).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn damaged_memory_yields_whole_flows(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0..3_u8), 0..40),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let left = table_of_tuples().into_memory();
        let mut words = words(&left);
        for (at, value, how) in damage {
            let word = &mut words[at.index(left.len() * 8)];
            *word = match how {
                0 => value,
                1 => *word ^ 1 << (value % 64),
                _ => 0,
            };
        }
        let mut left: Vec<Line> = words.as_chunks().0.iter().map(|words| Line::of(*words)).collect();
        if let Some(cut) = cut {
            left.truncate(cut.index(left.len()));
        }
        let table = empty();
        let Ok(done) = table.take_over(&left, tick(1), |flow| Some([flow.egress, flow.ingress])) else {
            prop_assert!(table.is_empty());
            return Ok(());
        };
        prop_assert_eq!(table.len(), done.flows as usize);
        // Each flow is found by its own tuple, and can be used and removed.
        let mut worker = Worker::new(&table);
        let mut flows = Vec::new();
        table.visit(0, u32::MAX, tick(1), |flow| { flows.push(*flow); Keep::Yes });
        prop_assert_eq!(flows.len(), done.flows as usize);
        for flow in flows {
            prop_assert_eq!(table.find(&flow.tuple, tick(1)), Some((flow.id, false)));
            worker.packet(&flow.tuple, None, tick(1));
            prop_assert!(table.remove(flow.id));
        }
        prop_assert!(table.is_empty());
    }

    /// One word of one place damages one flow at most, unless it is the header's.
    #[test]
    fn a_damaged_word_costs_one_flow(at: prop::sample::Index, value: u64) {
        let left = table_of_tuples().into_memory();
        let mut words = words(&left);
        let at = 8 + at.index(words.len() - 8);
        words[at] = value;
        let left: Vec<Line> = words.as_chunks().0.iter().map(|words| Line::of(*words)).collect();
        let table = empty();
        let done = table.take_over(&left, tick(1), |flow| Some([flow.egress, flow.ingress])).unwrap();
        prop_assert!(done.flows >= 31, "{done:?}");
        let found = tuples().iter().filter(|tuple| table.find(tuple, tick(1)).is_some()).count();
        prop_assert!(found >= 31, "{found}");
    }
}

/// Whatever locks were held: nothing waits for them.
#[test]
fn locks_of_the_dead_do_not_matter() {
    let left = table_of_tuples().into_memory();
    // The lock bits of buckets and entries are the lowest of the first words.
    let locked: Vec<Line> = left
        .iter()
        .enumerate()
        .map(|(at, line)| {
            let mut words: [u64; 8] = line.words().collect::<Vec<_>>().try_into().unwrap();
            if at > 0 {
                words[0] |= 1;
                // Heads lie two to a line.
                words[4] |= u64::from(words[4] >> 56 & 31 != 0);
            }
            Line::of(words)
        })
        .collect();
    let table = empty();
    let done = table.take_over(&locked, tick(1), |flow| Some([flow.egress, flow.ingress])).unwrap();
    assert_eq!(done.flows + done.damaged, 32, "{done:?}");
    assert!(done.flows >= 30, "{done:?}");
    assert_eq!(done, TakenOver { flows: done.flows, damaged: done.damaged, ..TakenOver::default() });
}
