//! A full Internet table in motion: it takes no more memory than at rest, and no allocation.

#![allow(unsafe_code, reason = "a global allocator that counts")]

use core::net::{Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicUsize, Ordering};
use fib::{Address, FibWriter, GroupId, Prefix};
use std::alloc::{GlobalAlloc, Layout, System};

mod real_table;

use real_table::routes;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all of it is the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Withdraws and announces random routes, up to a tenth of the table being away at any time.
struct Churn<A: Address> {
    writer: FibWriter<A>,
    routes: Vec<Prefix<A>>,
    /// The first of `routes` are away.
    away: usize,
    random: u64,
}

impl<A: Address> Churn<A> {
    fn new() -> Self {
        let routes = routes();
        let mut writer = FibWriter::new();
        let load = routes.iter().enumerate().map(|(i, &route)| (route, group(i)));
        assert_eq!(writer.load(load), Ok(routes.len()));
        Self { writer, routes, away: 0, random: 0x9e37_79b9_7f4a_7c15 }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn withdraw(&mut self) {
        let at = self.away + self.below(self.routes.len() - self.away);
        assert!(self.writer.remove(&self.routes[at]).is_some());
        self.routes.swap(self.away, at);
        self.away += 1;
    }

    fn announce(&mut self) {
        let at = self.below(self.away);
        self.away -= 1;
        self.routes.swap(at, self.away);
        let group = group(self.below(70_000));
        assert_eq!(self.writer.insert(self.routes[self.away], group), Ok(None));
    }

    fn run(&mut self, updates: usize) {
        for update in 0..updates {
            let most = self.routes.len() / 10;
            if self.away == 0 || self.away < most && self.below(2) == 0 {
                self.withdraw();
            } else {
                self.announce();
            }
            if update % 1000 == 999 {
                let sealed = self.writer.seal();
                self.writer.reclaim(sealed);
            }
        }
    }

    fn settle(&mut self) {
        while self.away > 0 {
            self.announce();
        }
        let sealed = self.writer.seal();
        self.writer.reclaim(sealed);
    }
}

fn group(i: usize) -> GroupId {
    GroupId::new(i as u32 % 70_000).expect("in range")
}

fn memory_stays<A: Address>(updates: usize) {
    let mut churn = Churn::<A>::new();
    let before = churn.writer.memory_bytes();
    churn.run(updates);
    churn.settle();
    let after = churn.writer.memory_bytes();
    assert_eq!(churn.writer.len(), churn.routes.len());
    assert!(after <= before + before / 20, "{before} bytes before, {after} after {updates} updates");

    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    churn.run(updates / 10);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), allocations, "an update allocated");
}

/// Both families in one test: the count of allocations is of the whole process.
#[test]
fn a_million_updates_take_no_memory() {
    memory_stays::<Ipv4Addr>(1_000_000);
    memory_stays::<Ipv6Addr>(1_000_000);
}

#[test]
#[ignore = "takes minutes"]
fn a_hundred_million_updates_take_no_memory() {
    memory_stays::<Ipv4Addr>(100_000_000);
    memory_stays::<Ipv6Addr>(100_000_000);
}
