//! The locks and memory orders of the flow table, in every order that the memory model allows:
//!
//! `cargo test --release -p vrouter-acl --features loom --test conntrack_loom`
// Every function here is a test's.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "loom")]

mod conntrack;

use acl::conntrack::{Conntrack, Opened, Settings, SideVerdict};
use acl::{Action, Direction, RuleId, Verdict};
use conntrack::{UDP, Worker, allowed, tick, v4};
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
