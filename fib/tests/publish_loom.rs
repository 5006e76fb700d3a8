//! Publication, lookups and the reuse of lines, in the orders that the memory model allows:
//!
//! `cargo test --release -p vrouter-fib --features loom --test publish_loom`
//!
//! The grace periods are those of the router itself: its `publish.rs`, on loom's types.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "loom")]

/// What `publish.rs` is built on.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
    use std::sync::Arc;

    /// A pointer that is read and replaced at once.
    #[derive(Debug)]
    pub(crate) struct ArcSwap<T>(loom::sync::Mutex<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub(crate) fn new(first: Arc<T>) -> Self {
            ArcSwap(loom::sync::Mutex::new(first))
        }

        pub(crate) fn swap(&self, next: Arc<T>) -> Arc<T> {
            core::mem::replace(&mut *self.0.lock().unwrap(), next)
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            self.0.lock().unwrap().clone()
        }
    }
}

#[path = "../../vrouter/src/publish.rs"]
#[allow(dead_code, unreachable_pub)]
mod publish;

use core::net::Ipv4Addr;
use fib::{Fib, FibWriter, GroupId, Prefix};
use loom::thread;
use publish::{Epoch, Publisher, Subscriber};
use std::sync::Arc;

/// Tries every execution with at most so many preemptions.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(model);
}

const COVER: u32 = 1;
const POD: u32 = 2;
const STRANGER: u32 = 3;

fn group(raw: u32) -> GroupId {
    GroupId::new(raw).unwrap()
}

fn prefix(text: &str) -> Prefix<Ipv4Addr> {
    text.parse().unwrap()
}

fn ask(fib: &Fib<Ipv4Addr>) -> u32 {
    fib.lookup(Ipv4Addr::new(10, 16, 0, 1)).expect("the covering route is always there").raw()
}

/// A table with a covering route and a longer one, in a line of its own.
fn table() -> FibWriter<Ipv4Addr> {
    let mut writer = FibWriter::new();
    writer.insert(prefix("10.0.0.0/8"), group(COVER)).unwrap();
    writer.insert(prefix("10.16.0.0/12"), group(POD)).unwrap();
    writer
}

fn wait(publisher: &Publisher<()>, epoch: Epoch) {
    while !publisher.passed(epoch) {
        thread::yield_now();
    }
}

/// Withdraws the longer route, waits as `wait` does, and has its line used for another.
fn reuse(writer: &mut FibWriter<Ipv4Addr>, publisher: &mut Publisher<()>, wait: fn(&Publisher<()>, Epoch)) {
    writer.remove(&prefix("10.16.0.0/12"));
    let (epoch, retired) = (publisher.advance(), writer.seal());
    wait(publisher, epoch);
    assert_eq!(writer.reclaim(retired), 1);
    writer.insert(prefix("20.16.0.0/12"), group(STRANGER)).unwrap();
}

fn one_reader(wait: fn(&Publisher<()>, Epoch), read: fn(&Fib<Ipv4Addr>, &mut Subscriber<()>)) {
    let mut writer = table();
    let fib = writer.reader();
    let (mut publisher, mut subscribers) = publish::channel(Arc::new(()), 1);
    let mut subscriber = subscribers.remove(0);
    let reader = thread::spawn(move || read(&fib, &mut subscriber));
    reuse(&mut writer, &mut publisher, wait);
    reader.join().unwrap();
}

/// Each lookup finds the route that covers the address or the longer one, and never the longer
/// one again once it is gone.
fn look(fib: &Fib<Ipv4Addr>, subscriber: &mut Subscriber<()>) {
    subscriber.online();
    let first = ask(fib);
    subscriber.refresh();
    let second = ask(fib);
    assert!([COVER, POD].contains(&first) && [COVER, POD].contains(&second), "{first}, {second}");
    assert!(first == POD || second == COVER, "the route came back");
}

#[test]
fn a_line_is_not_used_again_under_a_reader() {
    explore(3, || one_reader(wait, look));
}

#[test]
#[should_panic(expected = "the covering route is always there")]
fn without_a_grace_period_a_reader_meets_a_stranger() {
    explore(3, || one_reader(|_, _| {}, look));
}

#[test]
fn a_sleeper_is_not_waited_for_and_wakes_to_what_is_true() {
    explore(3, || {
        one_reader(wait, |fib, subscriber| {
            subscriber.online();
            let before = ask(fib);
            subscriber.offline();
            subscriber.online();
            let after = ask(fib);
            assert!([COVER, POD].contains(&before) && [COVER, POD].contains(&after));
        });
    });
}

/// A line is filled before it is linked.
#[test]
fn a_new_route_appears_at_once() {
    explore(3, || {
        let mut writer = FibWriter::new();
        writer.insert(prefix("10.0.0.0/8"), group(COVER)).unwrap();
        let fib = writer.reader();
        let reader = thread::spawn(move || {
            let (first, second) = (ask(&fib), ask(&fib));
            assert!([COVER, POD].contains(&first) && [COVER, POD].contains(&second));
            assert!(first == COVER || second == POD, "the route went away");
        });
        writer.insert(prefix("10.16.0.0/12"), group(POD)).unwrap();
        reader.join().unwrap();
    });
}

/// Tables that a worker adopts are those that it reports, and a grace period of theirs waits for it.
#[test]
fn tables_outlive_whoever_looks_at_them() {
    explore(3, || {
        let (mut publisher, mut subscribers) = publish::channel(Arc::new(1), 1);
        let mut subscriber = subscribers.remove(0);
        let reader = thread::spawn(move || {
            subscriber.online();
            let first = **subscriber.tables();
            subscriber.refresh();
            assert!(first <= **subscriber.tables());
            subscriber.offline();
        });
        let old = publisher.current();
        let epoch = publisher.publish(Arc::new(2));
        while !publisher.passed(epoch) {
            thread::yield_now();
        }
        // What is still held by a worker is held by one that is asleep: it looks at nothing.
        drop(old);
        publisher.collect();
        reader.join().unwrap();
        assert_eq!(publisher.collect(), 0);
    });
}
