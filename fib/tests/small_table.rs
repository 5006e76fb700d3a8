//! What a VRF with few routes costs: both families, routes as control keeps them and as packets
//! read them, counted by the allocator.
//!
//! One test, since the counts are of the whole process.

// A counting allocator is unsafe by its trait; everything here is a test's.
#![allow(unsafe_code, clippy::unwrap_used)]

use fib::{Address, Candidate, FibWriter, GroupId, Prefix, Rib, RouteSource};
use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts what it passes on to the system's allocator.
struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator unchanged, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Relaxed);
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

fn of_family<A: Address>(routes: &[Prefix<A>], next_hop: IpAddr) -> (Rib<A, IpAddr>, FibWriter<A>) {
    let (mut rib, mut fib) = (Rib::new(), FibWriter::new());
    for (number, prefix) in routes.iter().enumerate() {
        rib.announce(*prefix, Candidate::new(RouteSource::Static, &[next_hop])).unwrap();
        fib.insert(*prefix, GroupId::new(number as u32).unwrap()).unwrap();
    }
    let mut changes = Vec::new();
    rib.drain_changes(&mut changes);
    (rib, fib)
}

#[test]
fn a_vrf_of_ten_routes_takes_less_than_64_kib() {
    // Spread as far apart as routes of a lab are, down to hosts: each in lines of its own.
    let v4: Vec<Prefix<Ipv4Addr>> =
        (0..10u32).map(|n| Prefix::host(Ipv4Addr::from(n * 0x1923_4567 + 0x0a00_0001))).collect();
    let v6: Vec<Prefix<Ipv6Addr>> = (0..10u128)
        .map(|n| Prefix::masked(Ipv6Addr::from(0x2001_0db8 << 96 | n << 64), 64).unwrap())
        .collect();
    let before = LIVE_BYTES.load(Relaxed);
    let four = of_family(&v4, Ipv4Addr::new(192, 0, 2, 1).into());
    let six = of_family(&v6, Ipv6Addr::LOCALHOST.into());
    let bytes = LIVE_BYTES.load(Relaxed) - before;
    assert!(bytes <= 64 << 10, "{bytes} bytes");
    assert_eq!((four.1.len(), six.1.len()), (10, 10));
}
