//! A full Internet table through the writer, with two readers that check every answer they get.
//!
//! Each route has its own group id, so an answer names the route it came from; or ids repeat as
//! in a router, but not within what a reader asks about. Readers know, for each address they ask
//! about, the chain of routes that contain it, from the default route (always present) to the
//! longest. While routes are only inserted, the answer may only move up
//! this chain; while groups are only replaced it stays; while routes are only withdrawn it may
//! only move down. In between, half a million routes go and come again at random, and the answer may
//! move either way. An answer outside the chain, or none, is an error at any time.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use fib::{Address, Fib, FibWriter, GroupId, NO_ROUTE, Prefix};

mod real_table;

const READERS: usize = 2;
/// How many changes the writer makes between two waits for the readers.
const CHANGES_PER_GRACE_PERIOD: usize = 10_000;

/// How many routes go and come again.
const FLIPS: usize = 500_000;

const INSERT: u8 = 0;
const REPLACE: u8 = 1;
const CHURN: u8 = 2;
const WITHDRAW: u8 = 3;

/// The routes of one family in ascending order, the default route first.
fn routes<A: Address>() -> Vec<Prefix<A>> {
    let mut routes = vec![Prefix::DEFAULT];
    routes.extend(real_table::routes::<A>());
    routes
}

/// Group ids: the position of a route modulo `count`, plus `count` once it is replaced.
#[derive(Clone, Copy)]
struct Groups {
    count: usize,
}

impl Groups {
    fn first(self, position: usize) -> GroupId {
        Self::group(position % self.count)
    }

    fn replaced(self, position: usize) -> GroupId {
        Self::group(position % self.count + self.count)
    }

    fn group(raw: usize) -> GroupId {
        u32::try_from(raw).ok().and_then(GroupId::new).expect("below GroupId::MAX")
    }

    /// Where in an ascending chain of positions the route with this group is.
    fn find(self, chain: &[usize], raw: u32) -> Option<usize> {
        chain.iter().position(|position| position % self.count == raw as usize % self.count)
    }

    /// Whether a group tells which route of the chain is meant.
    fn tell_apart(self, chain: &[usize]) -> bool {
        let mut ids: Vec<usize> = chain.iter().map(|position| position % self.count).collect();
        ids.sort_unstable();
        ids.windows(2).all(|pair| pair[0] != pair[1])
    }
}

/// First and last address of every `step`-th route, and the addresses beside them, ascending.
fn probes<A: Address>(routes: &[Prefix<A>], step: usize) -> Vec<A> {
    let mut probes = vec![A::UNSPECIFIED, A::HIGHEST];
    for route in routes.iter().step_by(step) {
        for edge in [route.first(), route.last()] {
            probes.push(edge);
            probes.extend(edge.successor());
            probes.extend(edge.predecessor());
        }
    }
    probes.sort_unstable();
    probes.dedup();
    probes
}

/// Calls `visit` with each probe and the positions of the routes that contain it, shortest
/// first, found by one sweep over both ascending lists.
fn sweep<A: Address>(routes: &[Prefix<A>], probes: &[A], mut visit: impl FnMut(A, &[usize])) {
    let mut next = 0;
    let mut open: Vec<usize> = Vec::new();
    let close = |open: &mut Vec<usize>, addr: A| {
        while open.last().is_some_and(|&last| routes[last].last() < addr) {
            open.pop();
        }
    };
    for &probe in probes {
        while next < routes.len() && routes[next].first() <= probe {
            close(&mut open, routes[next].first());
            open.push(next);
            next += 1;
        }
        close(&mut open, probe);
        visit(probe, &open);
    }
}

struct Stage {
    phase: AtomicU8,
    stop: AtomicBool,
    /// One per reader: bursts completed. Between two bursts a reader is quiescent.
    bursts: [AtomicU64; READERS],
}

impl Stage {
    /// Waits until each reader has finished the burst it was in.
    fn grace_period(&self) {
        let before: Vec<u64> = self.bursts.iter().map(|n| n.load(Ordering::SeqCst)).collect();
        for (bursts, before) in self.bursts.iter().zip(before) {
            while bursts.load(Ordering::SeqCst) == before {
                assert!(!self.stop.load(Ordering::SeqCst), "a reader gave up");
                std::thread::yield_now();
            }
        }
    }
}

/// Tells the writer when a reader ends, by whatever way.
struct StopOnDrop<'a>(&'a Stage);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

/// Looks up burst after burst and checks each answer; returns how many changes it saw happen.
fn read<A: Address>(
    fib: &Fib<A>,
    stage: &Stage,
    reader: usize,
    routes: &[Prefix<A>],
    groups: Groups,
) -> usize {
    let _stop = StopOnDrop(stage);
    let mut lanes: Vec<(A, Vec<usize>)> = Vec::new();
    sweep(routes, &probes(routes, 61 + reader), |probe, chain| {
        if groups.tell_apart(chain) {
            lanes.push((probe, chain.to_vec()));
        }
    });
    // Where each lane was found last, and in which phase each group of 64 was asked last.
    let mut at = vec![0_usize; lanes.len()];
    let mut asked = vec![INSERT; lanes.len().div_ceil(64)];
    let mut moves = 0;
    while !stage.stop.load(Ordering::SeqCst) {
        for ((lanes, at), asked) in lanes.chunks(64).zip(at.chunks_mut(64)).zip(&mut asked) {
            let mut addrs = [A::UNSPECIFIED; 64];
            for (addr, (probe, _)) in addrs.iter_mut().zip(lanes) {
                *addr = *probe;
            }
            let mask = u64::MAX >> (64 - lanes.len());
            let mut out = [0; 64];
            let phase = stage.phase.load(Ordering::SeqCst);
            fib.lookup_burst(&addrs, mask, &mut out);
            let phase_after = stage.phase.load(Ordering::SeqCst);
            let same_phase = phase == phase_after && phase == *asked;
            *asked = phase_after;
            stage.bursts[reader].fetch_add(1, Ordering::SeqCst);

            for ((&raw, (probe, chain)), at) in out.iter().zip(lanes).zip(at) {
                assert_ne!(raw, NO_ROUTE, "{probe} has no route");
                let now = groups
                    .find(chain, raw)
                    .unwrap_or_else(|| panic!("{probe} was told group {raw}, of none of its routes"));
                if same_phase {
                    match phase {
                        INSERT => assert!(now >= *at, "{probe} fell back during inserts"),
                        REPLACE => assert_eq!(now, chain.len() - 1, "{probe} lost its route"),
                        CHURN => {}
                        _ => assert!(now <= *at, "{probe} moved up during withdraws"),
                    }
                }
                moves += usize::from(now != *at);
                *at = now;
            }
            // There may be fewer cores than threads.
            std::thread::yield_now();
        }
    }
    moves
}

/// Every route's first, last and neighbouring addresses, against the sweep.
fn check_all<A: Address>(fib: &Fib<A>, routes: &[Prefix<A>], group: impl Fn(usize) -> GroupId) {
    sweep(routes, &probes(routes, 1), |probe, chain| {
        let position = chain[chain.len() - 1];
        assert_eq!(fib.lookup_prefix(probe), Some((routes[position].len(), group(position))), "{probe}");
        assert_eq!(fib.lookup(probe), Some(group(position)), "{probe}");
    });
}

/// The positions of all routes but the default one, in an order without any.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (1..count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for i in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        order.swap(i, (state >> 33) as usize % (i + 1));
    }
    order
}

/// `count` is how many groups there are, `None` for one a route.
fn whole_table<A: Address>(expected_routes: usize, max_bytes: usize, count: Option<usize>) {
    let routes = routes::<A>();
    let groups = Groups { count: count.unwrap_or(routes.len()) };
    let (first, replaced) = (|position| groups.first(position), |position| groups.replaced(position));
    assert_eq!(routes.len(), expected_routes + 1);
    let order = shuffled(routes.len());
    let mut writer = FibWriter::new();
    writer.insert(routes[0], first(0)).expect("no limit is set");
    let fib = writer.reader();
    let stage = Stage {
        phase: AtomicU8::new(INSERT),
        stop: AtomicBool::new(false),
        bursts: [const { AtomicU64::new(0) }; READERS],
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let (fib, stage, routes) = (&*fib, &stage, &*routes);
                scope.spawn(move || read(fib, stage, reader, routes, groups))
            })
            .collect();
        let _stop = StopOnDrop(&stage);
        let reclaim = |writer: &mut FibWriter<A>| {
            let sealed = writer.seal();
            stage.grace_period();
            writer.reclaim(sealed);
        };

        for batch in order.chunks(CHANGES_PER_GRACE_PERIOD) {
            for &position in batch {
                let former = writer.insert(routes[position], first(position));
                assert_eq!(former, Ok(None));
            }
            reclaim(&mut writer);
        }
        check_all(&fib, &routes, first);
        assert!(writer.memory_bytes() <= max_bytes, "{} bytes", writer.memory_bytes());

        stage.phase.store(REPLACE, Ordering::SeqCst);
        for &position in &order {
            let former = writer.insert(routes[position], replaced(position));
            assert_eq!(former, Ok(Some(first(position))));
        }
        writer.insert(routes[0], replaced(0)).expect("no limit is set");
        assert_eq!(writer.retired(), 0, "replacing needs no node");
        check_all(&fib, &routes, replaced);

        stage.phase.store(CHURN, Ordering::SeqCst);
        for batch in order.iter().cycle().take(FLIPS).collect::<Vec<_>>().chunks(CHANGES_PER_GRACE_PERIOD) {
            for &&position in batch {
                assert_eq!(writer.remove(&routes[position]), Some(replaced(position)));
                assert_eq!(writer.insert(routes[position], replaced(position)), Ok(None));
            }
            reclaim(&mut writer);
        }
        check_all(&fib, &routes, replaced);

        stage.phase.store(WITHDRAW, Ordering::SeqCst);
        for batch in order.chunks(CHANGES_PER_GRACE_PERIOD) {
            for &position in batch {
                let former = writer.remove(&routes[position]);
                assert_eq!(former, Some(replaced(position)));
            }
            reclaim(&mut writer);
        }
        stage.stop.store(true, Ordering::SeqCst);
        for reader in readers {
            let moves = reader.join().expect("every answer was right");
            assert!(moves > 1000, "a reader saw only {moves} changes");
        }
    });

    assert_eq!(writer.len(), 1);
    assert_eq!(writer.retired(), 0);
    check_all(&fib, &routes[..1], replaced);

    // Loaded again in one pass, the table finds all the nodes it needs among the freed ones.
    let before = writer.memory_bytes();
    let load = routes.iter().enumerate().map(|(i, &route)| (route, first(i)));
    assert_eq!(writer.load(load), Ok(routes.len()));
    check_all(&fib, &routes, first);
    let map = routes.len() * size_of::<(Prefix<A>, GroupId)>() * 2;
    assert!(writer.memory_bytes() <= before + map, "nodes were lost");
}

#[test]
fn ipv4() {
    whole_table::<Ipv4Addr>(901_899, 100 << 20, None);
}

#[test]
fn ipv4_with_the_groups_of_a_router() {
    whole_table::<Ipv4Addr>(901_899, 100 << 20, Some(30_000));
}

#[test]
fn ipv6() {
    whole_table::<Ipv6Addr>(160_147, 64 << 20, None);
}
