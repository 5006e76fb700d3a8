//! Two workers on one table: no flow is lost, none is there twice, both directions meet.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]

mod conntrack;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use acl::conntrack::{Keep, LANES, Opened, Phase, Tuple};
use acl::{Action, Direction, RuleId, Verdict};
use conntrack::{ACK, SYN, TCP, UDP, Worker, segment, table, tick, v4, v6};

fn tuple(n: u32) -> Tuple {
    if n.is_multiple_of(3) { v6(n.into(), 1, 5, 6, UDP) } else { v4(n, 1, 5, 6, UDP) }
}

/// xorshift32.
fn next(state: &mut u32) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    *state
}

#[test]
fn both_directions_at_two_workers_make_one_flow() {
    let table = table(5000);
    let both = std::sync::Barrier::new(2);
    let opened = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for turned in [false, true] {
            let (table, both, opened) = (&table, &both, &opened);
            scope.spawn(move || {
                let mut worker = Worker::new(table);
                both.wait();
                for n in 0..4000 {
                    let tuple = if turned { tuple(n).reversed() } else { tuple(n) };
                    if let Opened::New(_) = worker.send(&tuple, None, 1, tick(0)).unwrap() {
                        opened.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!((opened.into_inner(), table.len()), (4000, 4000));
    for n in 0..4000 {
        let (flow, reply) = table.find(&tuple(n), tick(0)).unwrap();
        assert_eq!(table.find(&tuple(n).reversed(), tick(0)), Some((flow, !reply)));
    }
}

/// Each thread owns the flows of its numbers, and knows at any time which of them are there; the other one looks them
/// up, sweeps and removes in its own share meanwhile. The table is small, so entries and slots are used again all the
/// time.
#[test]
fn no_flow_is_lost_while_others_come_and_go() {
    const OWN: u32 = 400;
    let table = table(900);
    std::thread::scope(|scope| {
        for thread in 0..2_u32 {
            let table = &table;
            scope.spawn(move || {
                let mut worker = Worker::new(table);
                let mut present = vec![None; OWN as usize];
                let mut random = 77 + thread;
                for _ in 0..150_000 {
                    let own = next(&mut random) % OWN;
                    let n = own * 2 + thread;
                    let known = &mut present[own as usize];
                    match (next(&mut random) % 4, &known) {
                        (0, Some(flow)) => {
                            assert!(table.remove(*flow), "{n} was there");
                            *known = None;
                        }
                        (0 | 1, None) => match worker.send(&tuple(n), None, 1, tick(0)).unwrap() {
                            Opened::New(flow) => *known = Some(flow),
                            Opened::Existing { .. } => panic!("{n} was not there"),
                        },
                        (2, _) => {
                            // A flow of the other thread: there or not, but never another's.
                            let other = tuple(own * 2 + 1 - thread);
                            if let Some((flow, _)) = table.find(&other, tick(0))
                                && let Some(shown) = table.get(flow, tick(0))
                            {
                                assert_eq!(shown.tuple, other);
                            }
                            table.expire(tick(0), 8, &worker.generations);
                        }
                        (_, known) => {
                            let found = table.find(&tuple(n).reversed(), tick(0));
                            assert_eq!(found, known.map(|flow| (flow, true)), "{n}");
                        }
                    }
                }
                present.iter().flatten().for_each(|flow| assert!(table.remove(*flow)));
            });
        }
    });
    assert!(table.is_empty());
    assert_eq!(table.flows_of(1), Some((0, 0)));
    // Every entry is free again, once.
    let mut worker = Worker::new(&table);
    for n in 0..900 {
        assert!(matches!(worker.send(&tuple(n), None, 1, tick(0)), Ok(Opened::New(_))), "{n}");
    }
}

/// Both threads open, find and remove the same few flows.
#[test]
fn the_same_flows_opened_and_removed_by_both() {
    const FLOWS: u32 = 7;
    let table = table(100);
    let (made, removed) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2_u32 {
            let (table, made, removed) = (&table, &made, &removed);
            scope.spawn(move || {
                let mut worker = Worker::new(table);
                let mut random = 5 + thread;
                for _ in 0..200_000 {
                    let n = next(&mut random) % FLOWS;
                    if next(&mut random).is_multiple_of(3) {
                        if let Some((flow, _)) = table.find(&tuple(n), tick(0)) {
                            removed.fetch_add(u32::from(table.remove(flow)), Ordering::Relaxed);
                        }
                    } else if let Opened::New(_) = worker.send(&tuple(n), None, 1, tick(0)).unwrap() {
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let left = table.len() as u32;
    assert_eq!(made.into_inner() - removed.into_inner(), left);
    let mut seen = Vec::new();
    table.visit(0, 100, tick(0), |flow| {
        assert!(!seen.contains(&flow.tuple), "twice");
        seen.push(flow.tuple);
        Keep::Yes
    });
    assert_eq!(seen.len() as u32, left);
}

/// Data in both directions of one TCP connection, each at its own worker: no packet is miscounted or misjudged.
#[test]
fn both_directions_of_a_connection_at_two_workers() {
    const ROUNDS: u32 = 100_000;
    let table = table(10);
    let client = v4(1, 2, 3, 4, TCP);
    Worker::new(&table).connect(&client, 1, tick(0)).unwrap();
    std::thread::scope(|scope| {
        for turned in [false, true] {
            let table = &table;
            scope.spawn(move || {
                let mut worker = Worker::new(table);
                let (tuple, seq, ack) = if turned { (client.reversed(), 21, 11) } else { (client, 11, 21) };
                for n in 0..ROUNDS {
                    worker.packet(&tuple, Some(&segment(ACK, seq, ack)), tick(u64::from(n / 10_000)));
                    assert_eq!(worker.found.hit, 1);
                }
            });
        }
    });
    let (flow, _) = table.find(&client, tick(10)).unwrap();
    let flow = table.get(flow, tick(10)).unwrap();
    assert_eq!(flow.phase, Phase::TcpEstablished);
    assert_eq!(flow.original.packets, u64::from(ROUNDS) + 2);
    assert_eq!(flow.reply.packets, u64::from(ROUNDS) + 1);
    assert_eq!(flow.reply.bytes, 100 * (u64::from(ROUNDS) + 1));
}

/// Bursts in both directions of the same connections, in opposite orders and with segments between that need the flow's
/// own lock: nobody waits for ever, and no packet is miscounted.
#[test]
fn bursts_of_both_directions_at_two_workers() {
    const ROUNDS: u32 = 20_000;
    const FLOWS: u32 = 40;
    let table = table(64);
    let connection = |n: u32| v4(n, 2, 3, 4, TCP);
    for n in 0..FLOWS {
        Worker::new(&table).connect(&connection(n), 1, tick(0)).unwrap();
    }
    std::thread::scope(|scope| {
        for turned in [false, true] {
            let table = &table;
            scope.spawn(move || {
                let mut worker = Worker::new(table);
                let mut random = 7 + u32::from(turned);
                for round in 0..ROUNDS {
                    let from = next(&mut random);
                    for lane in 0..LANES {
                        let n = from.wrapping_add(lane as u32) % FLOWS;
                        let n = if turned { FLOWS - 1 - n } else { n };
                        let (tuple, seq, ack) = match turned {
                            false => (connection(n), 11, 21),
                            true => (connection(n).reversed(), 21, 11),
                        };
                        worker.headers.set(lane, &tuple);
                        // A SYN in the middle passes and changes nothing of the connection's windows.
                        let odd = next(&mut random).is_multiple_of(50);
                        let flags = if !odd {
                            ACK
                        } else if turned {
                            SYN | ACK
                        } else {
                            SYN
                        };
                        worker.headers.set_tcp(lane, &segment(flags, seq, ack));
                        worker.headers.len[lane] = 100;
                    }
                    let now = tick(u64::from(round / 1000));
                    let Worker { headers, found, generations, .. } = &mut worker;
                    table.lookup(headers, u64::MAX, generations, now, found);
                    table.track(headers, u64::MAX, now, found);
                    assert_eq!(found.hit, u64::MAX);
                }
            });
        }
    });
    let mut counted = [0; 2];
    for n in 0..FLOWS {
        let now = tick(20);
        let (flow, _) = table.find(&connection(n), now).unwrap();
        let flow = table.get(flow, now).unwrap();
        assert_eq!(flow.phase, Phase::TcpEstablished);
        assert_eq!(flow.original.bytes, 100 * flow.original.packets);
        counted = [counted[0] + flow.original.packets, counted[1] + flow.reply.packets];
    }
    let sent = u64::from(ROUNDS) * LANES as u64;
    assert_eq!(counted, [sent + 2 * u64::from(FLOWS), sent + u64::from(FLOWS)]);
}

/// A verdict and its generation are seen together: whoever does not have to ask again has the new verdict.
#[test]
fn a_new_generation_never_comes_with_an_old_verdict() {
    let table = table(10);
    let tuple = v4(1, 2, 3, 4, UDP);
    let mut worker = Worker::new(&table);
    let flow = worker.send(&tuple, None, 1, tick(0)).unwrap().flow();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Even generations allow, odd ones deny.
            for generation in 1..=30_000_u16 {
                let action = if generation % 2 == 1 { Action::Deny } else { Action::Allow };
                let verdict = Verdict { action, rule: RuleId(generation.into()) };
                assert_eq!(table.record(flow, Direction::Egress, verdict, generation), Ok(true));
            }
            done.store(true, Ordering::Release);
        });
        let mut asked = 0_u16;
        while !done.load(Ordering::Acquire) {
            // A worker under an odd policy: unless told to ask, a newer even one may have allowed it again.
            asked = asked.wrapping_add(2) % 30_000;
            worker.generations[1].egress = asked | 1;
            worker.headers.set(0, &tuple);
            table.lookup(&worker.headers, 1, &worker.generations, tick(0), &mut worker.found);
            let found = &worker.found;
            let newest = table.get(flow, tick(0)).unwrap().egress.generation;
            if found.stale_egress == 0 && newest == asked | 1 {
                assert_eq!(found.denied, 1, "generation {asked}");
            }
        }
    });
    worker.packet(&tuple, Some(&segment(SYN, 0, 0)), tick(0));
    assert_eq!(worker.found.denied, 0);
}
