//! One route comes and goes as fast as it can, and with it the lines below a covering route,
//! which are reclaimed and used again each time. Readers must always find one of the two routes
//! where the flapping one lies, and always the covering one beside it.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fib::{Address, FibWriter, GroupId, Kernel, NO_ROUTE, Prefix};

const FLAPS: u32 = if cfg!(miri) { 30 } else { 10_000 };

/// Ends the readers even when the writer's side fails.
struct DoneOnDrop<'a>(&'a AtomicBool);

impl Drop for DoneOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// `pods` take turns; `beside` lies in the same lines, below `cover` alone. `lines` is how many
/// lie between the one where `cover` ends and the last.
fn flap<A: Address>(cover: Prefix<A>, pods: &[A], beside: A, lines: usize) {
    let group = |raw| GroupId::new(raw).expect("a small number");
    let (covering, flapping) = (group(1), group(2));
    let mut writer = FibWriter::new();
    writer.insert(cover, covering).expect("no limit is set");
    let fib = writer.reader();
    let done = AtomicBool::new(false);
    let bursts = [const { AtomicU64::new(0) }; 2];

    std::thread::scope(|scope| {
        let readers = bursts.each_ref().map(|bursts| {
            let (fib, done) = (&fib, &done);
            scope.spawn(move || {
                let mut addrs = [beside; 64];
                for (addr, pod) in addrs.iter_mut().step_by(2).zip(pods.iter().cycle()) {
                    *addr = *pod;
                }
                let mut seen = [0_u64; 2];
                while !done.load(Ordering::SeqCst) {
                    let mut out = [0; 64];
                    fib.lookup_burst(&addrs, u64::MAX, &mut out);
                    let single = fib.lookup(pods[0]);
                    bursts.fetch_add(1, Ordering::SeqCst);
                    assert!(single == Some(covering) || single == Some(flapping));
                    for pair in out.chunks(2) {
                        assert!(pair[0] == covering.raw() || pair[0] == flapping.raw());
                        assert_eq!(pair[1], covering.raw());
                        seen[usize::from(pair[0] == flapping.raw())] += 1;
                    }
                    // There may be fewer cores than threads.
                    std::thread::yield_now();
                }
                seen
            })
        });
        let _done = DoneOnDrop(&done);
        let alive = || readers.iter().all(|reader| !reader.is_finished());
        for turn in 0..FLAPS {
            let pod = Prefix::host(pods[turn as usize % pods.len()]);
            writer.insert(pod, flapping).expect("no limit is set");
            writer.remove(&pod);
            let sealed = writer.seal();
            for bursts in &bursts {
                let before = bursts.load(Ordering::SeqCst);
                while bursts.load(Ordering::SeqCst) == before && alive() {
                    std::thread::yield_now();
                }
            }
            assert_eq!(writer.reclaim(sealed), lines);
        }
        // With a pod left in the table, readers come to see the other answer for sure.
        writer.insert(Prefix::host(pods[0]), flapping).expect("no limit is set");
        let before = bursts.each_ref().map(|bursts| bursts.load(Ordering::SeqCst));
        for (bursts, before) in bursts.iter().zip(before) {
            while bursts.load(Ordering::SeqCst) < before + 2 && alive() {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::SeqCst);
        for reader in readers {
            let seen = reader.join().expect("every answer was right");
            assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
        }
    });
}

#[test]
fn ipv4() {
    let addr = |text: &str| text.parse::<Ipv4Addr>().expect("an address");
    flap(
        "10.100.0.0/16".parse().expect("a prefix"),
        &[addr("10.100.36.103"), addr("10.100.36.105"), addr("10.100.169.176")],
        addr("10.100.36.104"),
        4,
    );
}

#[test]
fn ipv6() {
    let addr = |text: &str| text.parse::<Ipv6Addr>().expect("an address");
    flap(
        "fd00:10::/32".parse().expect("a prefix"),
        &[addr("fd00:10::1:7"), addr("fd00:10::1:9"), addr("fd00:10:0:5::1")],
        addr("fd00:10::1:8"),
        24,
    );
}

/// A caller who reclaims too early gets answers that may be those of another prefix, as
/// documented, and nothing worse: no panic, no end of the lookups.
#[test]
fn reuse_under_a_reader_does_no_harm() {
    let group = |raw| GroupId::new(raw).expect("a small number");
    let mut writer = FibWriter::<Ipv6Addr>::new();
    writer.insert(Prefix::DEFAULT, group(0)).expect("no limit is set");
    let fib = writer.reader();
    let done = AtomicBool::new(false);
    let addr = |i: u32| Ipv6Addr::from_bits(u128::from(i) << 110 | u128::from(i % 3));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let addrs = core::array::from_fn(|lane| addr(lane as u32));
            while !done.load(Ordering::SeqCst) {
                for kernel in Kernel::ALL {
                    let mut out = [NO_ROUTE; 64];
                    fib.lookup_burst_with(kernel, &addrs, u64::MAX, &mut out);
                    assert!(out.iter().all(|&raw| raw <= 64), "groups that were announced: {out:?}");
                }
                assert!(addrs.iter().all(|&addr| fib.lookup(addr).is_some()));
            }
        });
        let _done = DoneOnDrop(&done);
        for turn in 0..20 * FLAPS {
            let len = if turn % 2 == 0 { 128 } else { 64 };
            let pod = Prefix::masked(addr(turn % 64), len).expect("a length");
            writer.insert(pod, group(turn % 64)).expect("no limit is set");
            writer.remove(&pod);
            let sealed = writer.seal();
            writer.reclaim(sealed);
        }
    });
}
