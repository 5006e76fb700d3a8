//! The library itself under measurement.

use super::huge_pages;
use super::report::{Report, rate};
use super::traffic::{self, Family, KINDS, Random};
use fib::{FibWriter, GroupId, Kernel, NO_ROUTE, Prefix};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// More groups than 15 bits can name, and more than a router has neighbours.
pub(crate) fn group(i: usize) -> GroupId {
    GroupId::new((i % 40_000) as u32).expect("in range")
}

pub(crate) struct Library<A: Family> {
    report: Report,
    routes: Vec<Prefix<A>>,
    traces: [Vec<A>; 3],
    writer: FibWriter<A>,
}

impl<A: Family> Library<A> {
    /// The full table in plain pages, as the structures that it is compared with.
    pub(crate) fn new(json: bool) -> Self {
        Self::of(json, traffic::routes::<A>(), usize::MAX, "vrouter", group)
    }

    /// The full table in huge pages, as the router has it.
    pub(crate) fn in_huge_pages(json: bool) -> Self {
        let mut writer = FibWriter::new();
        writer.advise_memory(huge_pages::advise);
        Self::load(json, traffic::routes::<A>(), writer, "vrouter", group)
    }

    pub(crate) fn of(
        json: bool,
        routes: Vec<Prefix<A>>,
        limit: usize,
        who: &str,
        group: fn(usize) -> GroupId,
    ) -> Self {
        Self::load(json, routes, FibWriter::with_memory_limit(limit), who, group)
    }

    fn load(
        json: bool,
        routes: Vec<Prefix<A>>,
        mut writer: FibWriter<A>,
        who: &str,
        group: fn(usize) -> GroupId,
    ) -> Self {
        let report = Report { json, who: who.to_owned(), family: A::NUMBER, routes: routes.len() };
        let start = Instant::now();
        let load = routes.iter().enumerate().map(|(i, &route)| (route, group(i)));
        assert_eq!(writer.load(load).expect("the table fits"), routes.len());
        report.value("load_s", start.elapsed().as_secs_f64());
        report.value("memory_mb", writer.memory_bytes() as f64 / 1e6);
        Self { report, traces: traffic::traces(&routes), routes, writer }
    }

    pub(crate) fn bursts(&self, kernel: Kernel) {
        let fib = self.writer.reader();
        for (kind, trace) in KINDS.iter().zip(&self.traces) {
            let mode = format!("{kernel:?} burst 64").to_lowercase();
            self.report.rate(kind, &mode, trace, |slice| {
                let mut out = [NO_ROUTE; 64];
                for burst in slice.as_chunks::<64>().0 {
                    fib.lookup_burst_with(kernel, burst, u64::MAX, &mut out);
                    black_box(&mut out);
                }
            });
        }
    }

    pub(crate) fn singles(&self) {
        let fib = self.writer.reader();
        for (kind, trace) in KINDS.iter().zip(&self.traces) {
            self.report.rate(kind, "single", trace, |slice| {
                let mut sum = 0_u32;
                for &addr in slice {
                    sum = sum.wrapping_add(fib.lookup(addr).map_or(NO_ROUTE, GroupId::raw));
                }
                black_box(sum);
            });
        }
    }

    /// Everything that a peer in another language is compared in.
    pub(crate) fn round(&mut self) {
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
            self.bursts(kernel);
        }
        self.singles();
        self.updates();
    }

    fn updates(&mut self) {
        const PAIRS: u32 = 200_000;
        let mut random = Random::new();
        let start = Instant::now();
        for n in 0..PAIRS {
            flap(&mut self.writer, &self.routes, &mut random, n);
        }
        let per_second = f64::from(2 * PAIRS) / start.elapsed().as_secs_f64();
        self.report.value("update_ops_per_s", per_second);
    }

    /// The share of the lookup rate that is left while updates are applied by another thread.
    pub(crate) fn lookups_during_updates(&mut self) {
        const PAIRS_PER_SECOND: u32 = 50_000;
        let fib = self.writer.reader();
        let (stop, active) = (AtomicBool::new(false), AtomicBool::new(false));
        let done = AtomicU64::new(0);
        let (writer, routes, traces) = (&mut self.writer, &self.routes, &self.traces);
        let mut shares = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random::new();
                let mut next = Instant::now();
                for n in 0.. {
                    while Instant::now() < next {
                        std::hint::spin_loop();
                    }
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    // Catches up when the core was taken away, but not for long.
                    next += Duration::from_secs(1) / PAIRS_PER_SECOND;
                    next = next.max(Instant::now() - Duration::from_millis(100));
                    if active.load(Ordering::Relaxed) {
                        flap(writer, routes, &mut random, n);
                        done.fetch_add(2, Ordering::Relaxed);
                    }
                }
            });
            for (kind, trace) in KINDS.iter().zip(traces) {
                let mut rates = [const { Vec::new() }; 2];
                let mut applied = (0, 0.0);
                for turn in 0..10 {
                    active.store(turn % 2 == 1, Ordering::Relaxed);
                    let (before, start) = (done.load(Ordering::Relaxed), Instant::now());
                    rates[turn % 2].push(rate(trace, |slice| {
                        let mut out = [NO_ROUTE; 64];
                        for burst in slice.as_chunks::<64>().0 {
                            fib.lookup_burst(burst, u64::MAX, &mut out);
                            black_box(&mut out);
                        }
                    }));
                    if turn % 2 == 1 {
                        applied.0 += done.load(Ordering::Relaxed) - before;
                        applied.1 += start.elapsed().as_secs_f64();
                    }
                }
                for rates in &mut rates {
                    rates.sort_by(f64::total_cmp);
                }
                shares.push((kind, rates[1][2] / rates[0][2], applied.0 as f64 / applied.1));
            }
            stop.store(true, Ordering::Relaxed);
        });
        for (kind, share, applied) in shares {
            self.report.value(&format!("{kind}_share_during_updates"), share);
            self.report.value("updates_meanwhile_per_s", applied);
        }
    }
}

/// Withdraws a random route and announces it with another group.
fn flap<A: Family>(writer: &mut FibWriter<A>, routes: &[Prefix<A>], random: &mut Random, n: u32) {
    let route = routes[random.below(routes.len())];
    writer.remove(&route);
    writer.insert(route, group(n as usize)).expect("there was room for it");
    if n.is_multiple_of(256) {
        // Nobody in this program depends on it: a reader may meet another route's group.
        let sealed = writer.seal();
        writer.reclaim(sealed);
    }
}
