//! A pod sends SYNs of 1,000,000 different tuples a minute; nobody else may notice.
//!
//! Time is simulated in ticks of an eighth of a second. The table has room for 65,536 flows, so that the flood fills it
//! within seconds: without shares it would hold 20 s x 16,667 = 333,333 half-open flows.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]

mod conntrack;

use acl::conntrack::{Capacity, Conntrack, Invalid, Opened, Refused, Settings, Tuple};
use conntrack::{ACK, FIN, RST, SEED, SYN, TCP, UDP, Worker, segment, tick, v4};

/// Flood tuples a tick: 1,000,000 a minute.
const FLOOD: u32 = 1_000_000 / 60 / 8;
const FLOODER: u16 = 1;

fn flood_tuple(n: u32) -> Tuple {
    v4(1, 0x1_0000 + (n >> 14), 1024 + (n & 0x3fff) as u16, 80, TCP)
}

/// What the flood does after its SYN.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// Nothing answers.
    Silent,
    /// A server answers by SYN-ACK, and the flooder never completes.
    Answered,
    /// The flooder resets at once.
    Reset,
    /// Every connection is completed and closed.
    Closed,
    /// UDP without answers.
    Udp,
}

struct Outcome {
    /// New connections of other pods that were tried, and that came to be.
    tried: u32,
    opened: u32,
}

fn simulate(kind: Kind, seconds: u64, established: u32) -> Outcome {
    let capacity = Capacity { flows: 65_536, endpoints: 64 };
    let table = Conntrack::new(capacity, SEED, &Settings::of(capacity)).unwrap();
    let mut worker = Worker::new(&table);
    // Flows of 20 other pods, which say something every 40 s.
    let old: Vec<Tuple> =
        (0..established).map(|n| v4(2 + n % 20, 0x100, 2000 + (n / 20) as u16, 443, TCP)).collect();
    for tuple in &old {
        worker.connect(tuple, 2 + (tuple.src_port % 20), tick(0)).unwrap();
    }
    let mut outcome = Outcome { tried: 0, opened: 0 };
    let mut sent = 0;
    for now in 0..seconds * 8 {
        for _ in 0..FLOOD {
            let tuple = flood_tuple(sent);
            sent += 1;
            flood(&mut worker, kind, &tuple, now);
            // Spread through the flood: another pod's connection, 4 a tick, each with an answer and a short life.
            if sent.is_multiple_of(FLOOD / 4) {
                outcome.tried += 1;
                outcome.opened += u32::from(other(&mut worker, outcome.tried, now));
            }
        }
        for tuple in old.iter().skip((now % 320) as usize).step_by(320) {
            worker.packet(tuple, Some(&segment(ACK, 11, 21)), tick(now));
            assert_eq!(worker.found.hit & 1, 1, "{kind:?}: an established flow is gone at {now}");
        }
        table.expire(tick(now), 65_536 / 8, &worker.generations);
        assert!(table.len() <= 65_536);
    }
    for tuple in &old {
        assert!(table.find(tuple, tick(seconds * 8)).is_some(), "{kind:?}: an established flow is gone");
    }
    let (evictable, _) = table.flows_of(FLOODER).unwrap();
    assert!(evictable <= Settings::of(capacity).limits.evictable, "{kind:?}: {evictable}");
    outcome
}

fn flood(worker: &mut Worker<'_>, kind: Kind, tuple: &Tuple, now: u64) {
    let tuple = if kind == Kind::Udp { Tuple { protocol: UDP, ..*tuple } } else { *tuple };
    let syn = segment(SYN, 10, 0);
    let opened = worker.send(&tuple, (kind != Kind::Udp).then_some(&syn), FLOODER, tick(now));
    match opened {
        Ok(_) | Err(Refused::EvictableLimit) => {}
        // The flow was pushed out before its own next packet.
        Err(Refused::NotFirst(Invalid::TcpNotSyn)) => {}
        Err(other) => panic!("{kind:?}: {other}"),
    }
    if opened.is_err() || matches!(kind, Kind::Silent | Kind::Udp) {
        return;
    }
    if kind == Kind::Reset {
        worker.packet(&tuple, Some(&segment(RST, 11, 0)), tick(now));
        return;
    }
    worker.packet(&tuple.reversed(), Some(&segment(SYN | ACK, 20, 11)), tick(now));
    if kind == Kind::Closed {
        worker.packet(&tuple, Some(&segment(ACK, 11, 21)), tick(now));
        worker.packet(&tuple, Some(&segment(FIN | ACK, 11, 21)), tick(now));
        worker.packet(&tuple.reversed(), Some(&segment(FIN | ACK, 21, 12)), tick(now));
        worker.packet(&tuple, Some(&segment(ACK, 12, 22)), tick(now));
    }
}

/// A short connection of another pod; whether all of it went through.
fn other(worker: &mut Worker<'_>, n: u32, now: u64) -> bool {
    let tuple = v4(30 + n % 20, 0x200, 1024 + (n / 20 % 60_000) as u16, 80, TCP);
    let Ok(Opened::New(_)) = worker.connect(&tuple, 30 + (n % 20) as u16, tick(now)) else {
        return false;
    };
    let established = worker.found.hit & 1 == 1;
    worker.packet(&tuple, Some(&segment(RST, 11, 0)), tick(now));
    established
}

#[track_caller]
fn harmless(kind: Kind, established: u32) {
    let outcome = simulate(kind, 25, established);
    assert!(outcome.tried > 790, "{} tried", outcome.tried);
    let share = f64::from(outcome.opened) / f64::from(outcome.tried);
    assert!(share >= 0.99, "{kind:?}: {} of {}", outcome.opened, outcome.tried);
}

#[test]
fn a_syn_flood_harms_nobody_else() {
    harmless(Kind::Silent, 20_000);
}

#[test]
fn a_syn_flood_harms_nobody_else_when_the_table_is_nearly_full() {
    harmless(Kind::Silent, 60_000);
}

#[test]
fn half_open_connections_that_a_server_answers_harm_nobody_else() {
    harmless(Kind::Answered, 40_000);
}

#[test]
fn connections_that_are_reset_at_once_harm_nobody_else() {
    harmless(Kind::Reset, 40_000);
}

#[test]
fn connections_that_are_opened_and_closed_harm_nobody_else() {
    harmless(Kind::Closed, 40_000);
}

#[test]
fn a_udp_flood_harms_nobody_else() {
    harmless(Kind::Udp, 40_000);
}

/// The flooder itself still gets through: its new flows take the places of its old ones.
#[test]
fn the_flooder_pushes_out_its_own_flows() {
    let capacity = Capacity { flows: 8192, endpoints: 64 };
    let table = Conntrack::new(capacity, SEED, &Settings::of(capacity)).unwrap();
    let mut worker = Worker::new(&table);
    let mut opened = 0;
    for n in 0..20_000 {
        opened +=
            u32::from(worker.send(&flood_tuple(n), Some(&segment(SYN, 1, 0)), FLOODER, tick(1)).is_ok());
    }
    assert!(opened > 17_000, "{opened}");
    assert_eq!(table.flows_of(FLOODER), Some((1024, 1024)));
}

/// A full table of established flows refuses new ones, with the reason, and keeps what it has.
#[test]
fn a_table_full_of_established_flows_refuses_by_name() {
    let table = conntrack::table(500);
    let mut worker = Worker::new(&table);
    let tuple = |n: u32| v4(n, 9, 1, 2, TCP);
    for n in 0..500 {
        worker.connect(&tuple(n), 1, tick(0)).unwrap();
    }
    let syn = segment(SYN, 1, 0);
    assert_eq!(worker.send(&tuple(999), Some(&syn), 2, tick(0)), Err(Refused::TableFull));
    assert!((0..500).all(|n| table.find(&tuple(n), tick(0)).is_some()));
    // When they have expired, there is room without waiting for a sweep.
    let later = tick(3600 * 8);
    assert!(matches!(worker.send(&tuple(999), Some(&syn), 2, later), Ok(Opened::New(_))));
}

#[test]
fn limits_are_those_of_the_endpoint() {
    let capacity = Capacity { flows: 1000, endpoints: 8 };
    let mut settings = Settings::of(capacity);
    settings.limits.flows = 10;
    settings.limits.evictable = 1000;
    let table = Conntrack::new(capacity, SEED, &settings).unwrap();
    let mut worker = Worker::new(&table);
    for n in 0..10 {
        worker.send(&v4(n, 9, 1, 2, UDP), None, 3, tick(0)).unwrap();
    }
    assert_eq!(worker.send(&v4(99, 9, 1, 2, UDP), None, 3, tick(0)), Err(Refused::FlowLimit));
    assert!(worker.send(&v4(99, 9, 1, 2, UDP), None, 4, tick(0)).is_ok());
    assert_eq!(worker.send(&v4(98, 9, 1, 2, UDP), None, 8, tick(0)), Err(Refused::UnknownEndpoint));
    assert_eq!(table.flows_of(8), None);
}
