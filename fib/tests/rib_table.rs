//! The routing information base with the whole Internet in it: what a route costs in memory, and
//! that updates of what is there allocate nothing.
//!
//! One test, since the counts are of the whole process.

// A counting allocator is unsafe by its trait; everything here is a test's.
#![allow(unsafe_code, clippy::unwrap_used)]

use fib::{Address, Candidate, Prefix, Rib, RouteSource};
use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

mod real_table;

/// Counts what it passes on to the system's allocator.
struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator unchanged, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps to the contract of this function, which is that one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `alloc` above, hence from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The routes of one family, in an order that has nothing to do with their addresses.
fn routes<A: Address>() -> Vec<Prefix<A>> {
    let sorted = real_table::routes::<A>();
    // A step that shares no factor with the length visits every place once.
    let step = 600_011;
    (0..sorted.len()).map(|n| sorted[n * step % sorted.len()]).collect()
}

/// As many next-hop sets as a router with some peers has.
fn next_hop(number: usize) -> [IpAddr; 1] {
    [Ipv4Addr::new(192, 0, 2, (number % 200) as u8).into()]
}

fn holds_the_table<A: Address>(expected: usize) {
    let routes = routes::<A>();
    assert_eq!(routes.len(), expected);
    let mut changes = Vec::with_capacity(routes.len());
    let before = LIVE_BYTES.load(Relaxed);
    let mut rib = Rib::<A, IpAddr>::new();
    for (number, prefix) in routes.iter().enumerate() {
        rib.announce(*prefix, Candidate::new(RouteSource::Bgp, &next_hop(number))).unwrap();
    }
    rib.drain_changes(&mut changes);
    let per_route = (LIVE_BYTES.load(Relaxed) - before) as f64 / routes.len() as f64;
    let most = if A::BITS == 32 { 100.0 } else { 130.0 };
    assert!(per_route <= most, "{per_route:.1} bytes a route");
    let counted = rib.memory_bytes() as f64 / routes.len() as f64;
    assert!((counted - per_route).abs() < 2.0, "{counted:.1} bytes counted, {per_route:.1} allocated");

    assert_eq!((rib.len(), changes.len()), (routes.len(), routes.len()));
    assert!(changes.is_sorted_by_key(|change| change.prefix), "in ascending order");
    for (number, prefix) in routes.iter().enumerate() {
        assert_eq!(rib.best(prefix).unwrap().next_hops, next_hop(number));
    }

    // Routes that change, go, come back, and are announced anew.
    let before = ALLOCATIONS.load(Relaxed);
    for round in 0..3 {
        for (number, prefix) in routes.iter().enumerate().filter(|(number, _)| number % 7 == round) {
            assert!(rib.withdraw(prefix, RouteSource::Bgp));
            if number % 2 == 0 {
                changes.clear();
                rib.drain_changes(&mut changes);
            }
            let replaced = rib.announce(*prefix, Candidate::new(RouteSource::Bgp, &next_hop(number + round)));
            assert_eq!(replaced, Ok(false));
        }
        changes.clear();
        rib.drain_changes(&mut changes);
    }
    rib.begin_resync(RouteSource::Bgp);
    for (number, prefix) in routes.iter().enumerate().filter(|(number, _)| number % 2 == 0) {
        rib.announce(*prefix, Candidate::new(RouteSource::Bgp, &next_hop(number))).unwrap();
    }
    assert_eq!(rib.end_resync(RouteSource::Bgp), routes.len() / 2);
    // The lists of free and of pending places may have grown.
    let allocated = ALLOCATIONS.load(Relaxed) - before;
    assert!(allocated < 50, "{allocated} allocations");
    rib.drain_changes(&mut changes);
    assert_eq!(rib.len(), routes.len().div_ceil(2));
}

#[test]
fn a_full_table_of_either_family_fits_and_is_kept_without_allocating() {
    holds_the_table::<Ipv4Addr>(901_899);
    holds_the_table::<Ipv6Addr>(160_147);
}
