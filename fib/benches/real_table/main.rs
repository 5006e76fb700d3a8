//! What does a longest-prefix match cost in a full Internet table?
#![allow(missing_docs)]

mod traffic;

use fib::{FibWriter, GroupId, Kernel, NO_ROUTE, Prefix};
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;
use traffic::{Family, KINDS, Random};

/// Passes over a trace.
const PASSES: usize = 9;
/// Lookups timed at once. The fastest of all passes counts for each slice: what disturbs the
/// machine for a while then spoils no result.
const SLICE: usize = 1 << 14;

/// Measures `lookup` over slices of the trace and prints millions of lookups a second.
fn rate<A>(who: &str, family: u32, traffic: &str, mode: &str, trace: &[A], mut lookup: impl FnMut(&[A])) {
    let mut best = vec![f64::MAX; trace.len().div_ceil(SLICE)];
    for _ in 0..PASSES {
        for (slice, best) in trace.chunks(SLICE).zip(&mut best) {
            let start = Instant::now();
            lookup(slice);
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    let rate = trace.len() as f64 / best.iter().sum::<f64>() / 1e6;
    println!("{{\"who\":\"{who}\",\"family\":{family},\"traffic\":\"{traffic}\",\"mode\":\"{mode}\",\"mlps\":{rate:.1}}}");
}

fn value(who: &str, family: u32, what: &str, value: f64) {
    println!("{{\"who\":\"{who}\",\"family\":{family},\"what\":\"{what}\",\"value\":{value:.4}}}");
}

/// More groups than 15 bits can name, and more than a router has neighbours.
fn group(i: usize) -> GroupId {
    GroupId::new((i % 40_000) as u32).expect("in range")
}

struct Ours<A: Family> {
    routes: Vec<Prefix<A>>,
    traces: [Vec<A>; 3],
    writer: FibWriter<A>,
}

impl<A: Family> Ours<A> {
    fn new() -> Self {
        let routes = traffic::routes::<A>();
        let mut writer = FibWriter::new();
        let start = Instant::now();
        let count = writer.load(routes.iter().enumerate().map(|(i, &route)| (route, group(i)))).expect("fits");
        value("vrouter", A::NUMBER, "load_s", start.elapsed().as_secs_f64());
        assert_eq!(count, routes.len());
        value("vrouter", A::NUMBER, "memory_mb", writer.memory_bytes() as f64 / 1e6);
        Self { traces: traffic::traces(&routes), routes, writer }
    }

    fn round(&mut self) {
        let fib = self.writer.reader();
        for (kind, trace) in KINDS.iter().zip(&self.traces) {
            for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
                let mode = format!("{kernel:?} burst 64").to_lowercase();
                rate("vrouter", A::NUMBER, kind, &mode, trace, |slice| {
                    let mut out = [NO_ROUTE; 64];
                    for burst in slice.as_chunks::<64>().0 {
                        fib.lookup_burst_with(kernel, burst, u64::MAX, &mut out);
                        black_box(&mut out);
                    }
                });
            }
            rate("vrouter", A::NUMBER, kind, "single", trace, |slice| {
                let mut sum = 0_u32;
                for &addr in slice {
                    sum = sum.wrapping_add(fib.lookup(addr).map_or(NO_ROUTE, GroupId::raw));
                }
                black_box(sum);
            });
        }
        let mut random = Random::new();
        let updates = 200_000;
        let start = Instant::now();
        for n in 0..updates {
            let route = self.routes[random.below(self.routes.len())];
            self.writer.remove(&route);
            self.writer.insert(route, group(n)).expect("it was there");
            if n % 256 == 0 {
                let sealed = self.writer.seal();
                self.writer.reclaim(sealed);
            }
        }
        let per_second = f64::from(2 * updates as u32) / start.elapsed().as_secs_f64();
        value("vrouter", A::NUMBER, "update_ops_per_s", per_second);
    }
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match args.next().as_deref() {
        Some("--export") => {
            let directory = args.next().expect("a directory");
            traffic::export::<Ipv4Addr>(directory.as_ref()).expect("the directory is writable");
            traffic::export::<Ipv6Addr>(directory.as_ref()).expect("the directory is writable");
        }
        Some("--serve") => {
            let mut v4 = Ours::<Ipv4Addr>::new();
            let mut v6 = Ours::<Ipv6Addr>::new();
            println!();
            for line in std::io::stdin().lines() {
                line.expect("text");
                v4.round();
                v6.round();
                println!();
            }
        }
        _ => {
            Ours::<Ipv4Addr>::new().round();
            Ours::<Ipv6Addr>::new().round();
        }
    }
}
