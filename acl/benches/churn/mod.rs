//! Two workers, churn and expiry: what the flow table carries while it stays nine tenths full.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use acl::conntrack::{Conntrack, Found, Headers, LANES, PolicyGenerations, SideVerdict, Tick};
use acl::{Action, RuleId, Verdict};

use super::{CAPACITY, Query, Random, Rig, measure, query};

/// One of two workers under churn.
struct Churner<'t> {
    table: &'t Conntrack,
    turns: &'t AtomicU64,
    headers: Box<Headers>,
    found: Box<Found>,
    random: Random,
    /// Flows that it has opened; the numbers of the two workers' flows alternate.
    opened: u32,
    worker: u32,
    missed: u64,
}

impl Churner<'_> {
    /// Packets of a burst that open flows.
    const NEW: usize = 16;
    /// The others go in the last so many flows, none of which can have expired.
    const LATELY: u32 = 100_000;
    /// Microseconds that pass with a burst of either worker: at this pace flows of 60 s fill the table to nine tenths,
    /// a little less just after the sweep has come by and a little more just before.
    const PACE: u64 = 1450;
    /// Entries swept a burst. The packet path sweeps 16, but a quarter of its packets does not open flows.
    const SWEEP: u32 = 64;

    fn run(&mut self, bursts: usize, generations: &[PolicyGenerations]) {
        for _ in 0..bursts {
            let now = Tick::from_millis(self.turns.fetch_add(1, Relaxed) * Self::PACE / 1000);
            let before = self.opened;
            for lane in 0..LANES {
                let number = if lane < Self::NEW || before == 0 {
                    self.opened += 1;
                    self.opened - 1
                } else {
                    before - 1 - (self.random.next() % u64::from(before.min(Self::LATELY))) as u32
                };
                let Query { src, dst, sport, dport } = query(2 * number + self.worker);
                (self.headers.src4[lane], self.headers.dst4[lane]) = (src, dst);
                (self.headers.src_port[lane], self.headers.dst_port[lane]) = (sport, dport);
            }
            self.table.lookup(&self.headers, u64::MAX, generations, now, &mut self.found);
            self.table.track(&self.headers, self.found.hit, now, &mut self.found);
            for lane in (0..LANES).filter(|lane| self.found.first >> lane & 1 == 1) {
                let verdict = Verdict { action: Action::Allow, rule: RuleId(7) };
                let side = SideVerdict { endpoint: 3, verdict, generation: 0 };
                let opened =
                    self.table.insert(&self.headers, lane, side, SideVerdict::NONE, now, &self.found);
                opened.expect("the table has room");
                self.missed += 1;
            }
            self.table.expire(now, Self::SWEEP, generations);
        }
    }
}

/// What two workers do in a second on a table that is nine tenths full, while flows come and expire.
pub(crate) fn run(huge: bool, rounds: u32) {
    const BURSTS: usize = 20_000;
    let rig = Rig::new(huge, 17);
    let turns = AtomicU64::new(0);
    let mut workers = [0, 1].map(|worker| Churner {
        table: &rig.table,
        turns: &turns,
        headers: Box::new(Headers { protocol: [17; LANES], len: [64; LANES], ..Headers::default() }),
        found: Box::default(),
        random: Random(7 + u64::from(worker)),
        opened: 0,
        worker,
        missed: 0,
    });
    let mut run = |bursts| {
        std::thread::scope(|scope| {
            for worker in &mut workers {
                let generations = &rig.generations;
                scope.spawn(move || worker.run(bursts, generations));
            }
        });
    };
    run(60_000);
    let mut in_use = Vec::new();
    measure("churn-two", 2 * (BURSTS * LANES) as u64, rounds, || {
        run(BURSTS);
        in_use.push(rig.table.len() as f64 / f64::from(CAPACITY.flows));
    });
    let opened: u64 = workers.iter().map(|worker| u64::from(worker.opened)).sum();
    let missed: u64 = workers.iter().map(|worker| worker.missed).sum();
    assert_eq!(missed, opened, "no flow expires that is in use");
    let (least, most) =
        in_use.iter().fold((1.0_f64, 0.0_f64), |(least, most), now| (least.min(*now), most.max(*now)));
    println!(
        "churn-two: {opened} flows opened, {least:.2} to {most:.2} of the table in use, a lock found taken {} times",
        rig.table.contention()
    );
}
