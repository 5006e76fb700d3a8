//! The locks and memory orders of the flow table, in every order that the memory model allows:
//!
//! `cargo test --release -p vrouter-acl --features loom --test conntrack_loom`
// Every function here is a test's.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "loom")]

mod conntrack;

use acl::conntrack::{Conntrack, Opened, Phase, Settings, SideVerdict, TcpSegment, Tuple};
use acl::{Action, Direction, RuleId, Verdict};
use conntrack::{ACK, FIN, SYN, TCP, UDP, Worker, allowed, segment, tick, v4};
use loom::sync::Arc;
use loom::thread;

/// Tries every execution, or those with at most `preemptions`.
fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    builder.check(model);
}

fn small(flows: u32) -> Arc<Conntrack> {
    let capacity = acl::conntrack::Capacity { flows, endpoints: 2 };
    let mut settings = Settings::of(capacity);
    settings.limits.evictable = 10;
    settings.limits.evictable_under_pressure = 10;
    Arc::new(Conntrack::new(capacity, conntrack::SEED, &settings).unwrap())
}

/// A request and its reply at two workers: one of them opens the flow, the other finds it. Two preemptions are enough to
/// let each see the other half way; without a bound this does not end within minutes.
#[test]
fn find_or_insert_is_atomic() {
    explore(Some(2), || {
        let table = small(2);
        let tuple = v4(1, 2, 3, 4, UDP);
        let other = thread::spawn({
            let table = table.clone();
            move || Worker::new(&table).send(&tuple.reversed(), None, 1, tick(0)).unwrap()
        });
        let own = Worker::new(&table).send(&tuple, None, 1, tick(0)).unwrap();
        let other = other.join().unwrap();
        let new = [own, other].iter().filter(|opened| matches!(opened, Opened::New(_))).count();
        assert_eq!((new, own.flow(), table.len()), (1, other.flow(), 1));
    });
}

/// An entry is given to another flow while a reader looks: it finds its own flow or none.
#[test]
fn a_reader_never_takes_one_flow_for_another() {
    explore(Some(3), || {
        let table = small(1);
        let (first, second) = (v4(1, 2, 3, 4, UDP), v4(1, 2, 3, 5, UDP));
        let flow = Worker::new(&table).send(&first, None, 1, tick(0)).unwrap().flow();
        let reader = thread::spawn({
            let table = table.clone();
            move || [first, second].map(|tuple| table.find(&tuple, tick(0)))
        });
        assert!(table.remove(flow));
        let later = Worker::new(&table).send(&second, None, 1, tick(0)).unwrap().flow();
        let [seen_first, seen_second] = reader.join().unwrap();
        assert!(seen_first.is_none_or(|found| found == (flow, false)));
        assert!(seen_second.is_none_or(|found| found == (later, false)));
        assert_eq!((table.find(&first, tick(0)), table.find(&second, tick(0))), (None, Some((later, false))));
    });
}

/// Removing twice, from two workers, removes once.
#[test]
fn a_flow_is_removed_once() {
    explore(None, || {
        let table = small(2);
        let flow = Worker::new(&table).send(&v4(1, 2, 3, 4, UDP), None, 1, tick(0)).unwrap().flow();
        let other = thread::spawn({
            let table = table.clone();
            move || table.remove(flow)
        });
        let own = table.remove(flow);
        assert!(own != other.join().unwrap());
        assert_eq!((table.len(), table.flows_of(1)), (0, Some((0, 0))));
    });
}

/// A new generation is seen with the verdict that it stands for.
#[test]
fn a_generation_comes_with_its_verdict() {
    explore(None, || {
        let table = small(1);
        let tuple = v4(1, 2, 3, 4, UDP);
        let mut worker = Worker::new(&table);
        worker.packet(&tuple, None, tick(0));
        let opened =
            table.insert(&worker.headers, 0, allowed(1), SideVerdict::NONE, tick(0), &worker.found).unwrap();
        let reader = thread::spawn({
            let table = table.clone();
            move || {
                let mut worker = Worker::new(&table);
                worker.generations[1].egress = 1;
                worker.headers.set(0, &tuple);
                table.lookup(&worker.headers, 1, &worker.generations, tick(0), &mut worker.found);
                assert_eq!(worker.found.hit, 1);
                assert!(worker.found.stale_egress == 1 || worker.found.denied == 1);
            }
        });
        let deny = Verdict { action: Action::Deny, rule: RuleId(9) };
        assert_eq!(table.record(opened.flow(), Direction::Egress, deny, 1), Ok(true));
        reader.join().unwrap();
    });
}

/// Both directions of a flow count their packets at the same time.
#[test]
fn state_of_both_directions_is_kept() {
    explore(None, || {
        let table = small(1);
        let tuple = v4(1, 2, 3, 4, UDP);
        let flow = Worker::new(&table).send(&tuple, None, 1, tick(0)).unwrap().flow();
        let other = thread::spawn({
            let table = table.clone();
            move || Worker::new(&table).packet(&tuple.reversed(), None, tick(1))
        });
        Worker::new(&table).packet(&tuple, None, tick(2));
        other.join().unwrap();
        let shown = table.get(flow, tick(2)).unwrap();
        assert_eq!((shown.original.packets, shown.reply.packets), (2, 1));
        assert_eq!(table.flows_of(1), Some((0, 1)));
    });
}

/// The same within a tick, when neither takes the lock.
#[test]
fn counters_of_both_directions_are_kept() {
    explore(None, || {
        let table = small(1);
        let tuple = v4(1, 2, 3, 4, UDP);
        let mut own = Worker::new(&table);
        let flow = own.send(&tuple, None, 1, tick(0)).unwrap().flow();
        own.packet(&tuple.reversed(), None, tick(0));
        let other = thread::spawn({
            let table = table.clone();
            move || Worker::new(&table).packet(&tuple.reversed(), None, tick(0))
        });
        own.packet(&tuple, None, tick(0));
        other.join().unwrap();
        let shown = table.get(flow, tick(0)).unwrap();
        assert_eq!((shown.original.packets, shown.reply.packets), (2, 2));
    });
}

/// A connection up to ESTABLISHED: the opener has sent up to 11, the peer up to 21.
fn connected(table: &Conntrack) -> Tuple {
    let tuple = v4(1, 2, 3, 4, TCP);
    Worker::new(table).connect(&tuple, 1, tick(0)).unwrap();
    tuple
}

fn data(seq: u32, ack: u32) -> TcpSegment {
    TcpSegment { payload: 100, ..segment(ACK, seq, ack) }
}

/// Whether a segment is found to fit.
fn fits(table: &Conntrack, tuple: &Tuple, segment: &TcpSegment) -> bool {
    let mut worker = Worker::new(table);
    worker.packet(tuple, Some(segment), tick(0));
    worker.found.hit == 1
}

/// Both ends send data at the same time, in the common case that leaves the flow's own lock alone: what each sent is
/// known, so that the other may acknowledge it, and nothing beyond.
#[test]
fn segments_of_both_directions_are_kept() {
    explore(Some(3), || {
        let table = small(1);
        let tuple = connected(&table);
        let other = thread::spawn({
            let table = table.clone();
            move || assert!(fits(&table, &tuple.reversed(), &data(21, 11)))
        });
        assert!(fits(&table, &tuple, &data(11, 21)));
        other.join().unwrap();
        assert!(!fits(&table, &tuple, &segment(ACK, 111, 122)));
        assert!(!fits(&table, &tuple.reversed(), &segment(ACK, 121, 112)));
        assert!(fits(&table, &tuple, &segment(ACK, 111, 121)));
        assert!(fits(&table, &tuple.reversed(), &segment(ACK, 121, 111)));
        let (flow, _) = table.find(&tuple, tick(0)).unwrap();
        let shown = table.get(flow, tick(0)).unwrap();
        assert_eq!((shown.original.packets, shown.reply.packets), (4, 3));
    });
}

/// One end sends data while the other closes, which takes the flow's own lock.
#[test]
fn a_connection_that_closes_keeps_what_was_sent_meanwhile() {
    explore(Some(3), || {
        let table = small(1);
        let tuple = connected(&table);
        let other = thread::spawn({
            let table = table.clone();
            move || assert!(fits(&table, &tuple.reversed(), &segment(FIN | ACK, 21, 11)))
        });
        assert!(fits(&table, &tuple, &data(11, 21)));
        other.join().unwrap();
        let phase = || {
            let (flow, _) = table.find(&tuple, tick(0)).unwrap();
            table.get(flow, tick(0)).unwrap().phase
        };
        assert_eq!(phase(), Phase::TcpFinWait);
        assert!(fits(&table, &tuple.reversed(), &segment(ACK, 22, 111)));
        assert!(fits(&table, &tuple, &segment(ACK, 111, 22)));
        assert_eq!(phase(), Phase::TcpCloseWait);
    });
}

/// A connection is removed, and its entry given to another one, while a segment of it is under way: the new one starts
/// as every other does.
#[test]
fn a_late_segment_leaves_the_next_connection_alone() {
    explore(Some(2), || {
        let table = small(1);
        let tuple = connected(&table);
        let (flow, _) = table.find(&tuple, tick(0)).unwrap();
        let other = thread::spawn({
            let table = table.clone();
            move || Worker::new(&table).packet(&tuple, Some(&data(11, 21)), tick(0))
        });
        assert!(table.remove(flow));
        let next = v4(1, 2, 3, 5, TCP);
        Worker::new(&table).send(&next, Some(&segment(SYN, 10, 0)), 1, tick(0)).unwrap();
        other.join().unwrap();
        assert!(fits(&table, &next.reversed(), &segment(SYN | ACK, 20, 11)));
        assert!(fits(&table, &next, &data(11, 21)));
        assert!(!fits(&table, &next.reversed(), &segment(ACK, 21, 112)));
        assert!(fits(&table, &next.reversed(), &segment(ACK, 21, 111)));
    });
}
