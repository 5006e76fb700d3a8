//! Tables live for as long as a worker may look at them. All orders of a few steps are tried in
//! `fib/tests/publish_loom.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vrouter::publish::channel;

#[test]
fn old_tables_live_until_every_online_worker_moved_on() {
    let (mut publisher, mut subs) = channel(Arc::new(1), 2);
    let (mut a, mut b) = (subs.remove(0), subs.remove(0));
    a.online();
    b.online();
    let old = Arc::downgrade(&publisher.current());
    let epoch = publisher.publish(Arc::new(2));
    assert_eq!(publisher.collect(), 1);
    assert!(a.refresh());
    assert!(!publisher.passed(epoch));
    assert!(old.upgrade().is_some());
    b.offline();
    assert_eq!(publisher.collect(), 0);
    assert!(old.upgrade().is_some(), "the sleeper holds them still");
    assert!(b.online());
    assert_eq!(publisher.collect(), 0);
    assert_eq!((**a.tables(), **b.tables()), (2, 2));
    assert!(old.upgrade().is_none());
}

#[test]
fn an_epoch_without_new_tables_needs_a_quiescent_point() {
    let (mut publisher, mut subs) = channel(Arc::new(()), 1);
    subs[0].online();
    let epoch = publisher.advance();
    assert!(!publisher.passed(epoch));
    assert!(!subs[0].refresh());
    assert!(publisher.passed(epoch));
}

#[test]
fn a_dropped_subscriber_holds_nothing_up() {
    let (mut publisher, mut subs) = channel(Arc::new(()), 1);
    subs[0].online();
    let epoch = publisher.advance();
    subs.clear();
    assert!(publisher.passed(epoch));
}

/// Readers must never see a value that was poisoned after its grace period.
#[test]
fn no_reader_sees_reclaimed_tables() {
    struct Poisonable(AtomicBool);
    let (mut publisher, subs) = channel(Arc::new(Poisonable(AtomicBool::new(false))), 2);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for mut sub in subs {
            let stop = &stop;
            scope.spawn(move || {
                let mut turn = 0u32;
                sub.online();
                while !stop.load(Ordering::Relaxed) {
                    sub.refresh();
                    assert!(!sub.tables().0.load(Ordering::Relaxed), "reclaimed under a reader");
                    turn += 1;
                    if turn.is_multiple_of(64) {
                        sub.offline();
                        std::thread::yield_now();
                        sub.online();
                    }
                }
            });
        }
        for _ in 0..if cfg!(miri) { 20 } else { 2000 } {
            let old = publisher.current();
            let epoch = publisher.publish(Arc::new(Poisonable(AtomicBool::new(false))));
            while !publisher.passed(epoch) {
                std::thread::yield_now();
            }
            old.0.store(true, Ordering::Relaxed);
            publisher.collect();
        }
        stop.store(true, Ordering::Relaxed);
    });
}
