//! How fast do routes change, while two threads look addresses up and judge every answer?
//!
//! ```text
//!   writer (last core)                      readers (the cores before)
//!   withdraw, announce ... a batch          lookup_burst of 64 -> next hops
//!   commit: into the FIB in place           each is one that its address may have now
//!   epoch; what has passed is reused  <---  refresh: quiescent
//! ```
//!
//! | measure | what |
//! |---|---|
//! | load | the full table: sorted into the FIB, unsorted through RIB and FIB, unsorted through the engine |
//! | rates | withdrawals and announcements a second, as many as go, by updates a commit |
//! | lookups | the readers' rate with 100,000 updates a second, as a share of their rate without |
//!
//! `cargo bench -p vrouter-bench --bench updates [-- load rates lookups]`. On two cores the readers
//! share one.

#![allow(missing_docs, reason = "a program")]

#[path = "../../../fib/benches/real_table/huge_pages.rs"]
mod huge_pages;
mod mix;
mod readers;
mod targets;

use clap::{Parser, ValueEnum};
use mix::{Churn, Mix};
use readers::{Stage, View};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};
use targets::{EngineTarget, FibTarget, RibTarget, Target};
use vrouter::publish::Subscriber;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    Load,
    Rates,
    Lookups,
}

#[derive(Parser)]
struct Arguments {
    /// What to measure; all of it if nothing is named.
    measures: Vec<Measure>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2.0)]
    measurement_time: f64,
    /// For the benches beside this one; without effect here.
    #[arg(long)]
    warm_up_time: Option<f64>,
    /// As before.
    #[arg(long)]
    noplot: bool,
    /// Given by cargo.
    #[arg(long)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let asked = |measure| arguments.measures.is_empty() || arguments.measures.contains(&measure);
    let time = Duration::from_secs_f64(arguments.measurement_time);
    pin(cores() - 1);
    let internet = Mix::internet();
    if asked(Measure::Load) {
        load::<FibTarget>(&internet, true);
        load::<RibTarget>(&internet, false);
        load::<EngineTarget>(&internet, false);
    }
    for mix in [internet, Mix::even()] {
        if asked(Measure::Rates) || asked(Measure::Lookups) {
            churn::<FibTarget>(&mix, time, &asked);
            churn::<RibTarget>(&mix, time, &asked);
            churn::<EngineTarget>(&mix, time, &asked);
        }
    }
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Keeps the calling thread on one core, if the system lets us.
fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    if let Err(errno) = sched_setaffinity(None, &cores) {
        eprintln!("not pinned to core {core}: {errno}");
    }
}

/// Runs `work` with two readers beside it; returns what it does, and the readers' subscriptions.
fn beside_readers<V: View, R>(
    mix: &Mix,
    subscribers: Vec<Subscriber<V>>,
    loading: bool,
    work: impl FnOnce(&Stage) -> R,
) -> (R, Vec<Subscriber<V>>) {
    let stage = Stage::new(subscribers.len(), loading);
    let others = (cores() - 1).max(1);
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        for (number, subscriber) in subscribers.into_iter().enumerate() {
            let stage = &stage;
            readers.push(scope.spawn(move || {
                pin(number % others);
                stage.read(number, subscriber, mix)
            }));
        }
        stage.await_readers();
        let result = work(&stage);
        stage.stop();
        let subscribers = readers.into_iter().map(|reader| reader.join().expect("no wrong answer"));
        (result, subscribers.collect())
    })
}

/// The table is loaded five times beside readers and five times without them, alternately.
fn load<T: Target>(mix: &Mix, sorted: bool) {
    let routes = mix.load_order(sorted);
    let mut seconds = [const { Vec::new() }; 2];
    for turn in 0..10 {
        let (mut target, mut subscribers) = T::new();
        if turn % 2 == 0 {
            subscribers.clear();
        }
        let work = |stage: &Stage| {
            let start = Instant::now();
            target.load(&routes);
            let seconds = start.elapsed().as_secs_f64();
            stage.loaded();
            // Now nothing may be missing any more.
            stage.await_readers();
            seconds
        };
        seconds[turn % 2].push(beside_readers(mix, subscribers, true, work).0);
    }
    for (seconds, beside) in seconds.iter_mut().zip(["alone", "beside two readers"]) {
        seconds.sort_unstable_by(f64::total_cmp);
        let (order, count) = (if sorted { "sorted" } else { "unsorted" }, routes.len());
        let [least, median, most] = [0, 2, 4].map(|rank| seconds[rank]);
        println!(
            "{:8} load of {count} routes, {order}, {beside}: {median:.3} s ({least:.3} to {most:.3})",
            T::NAME
        );
    }
}

fn churn<T: Target>(mix: &Mix, time: Duration, asked: &impl Fn(Measure) -> bool) {
    let (mut target, subscribers) = T::new();
    target.load(&mix.load_order(true));
    let mut churn = Churn::new(mix);
    let mut subscribers = Some(subscribers);
    let mut measure = |work: &mut dyn FnMut(&mut T, &mut Churn<'_>, &Stage)| {
        let taken = subscribers.take().expect("given back");
        let ((), back) = beside_readers(mix, taken, false, |stage| work(&mut target, &mut churn, stage));
        subscribers = Some(back);
    };
    if asked(Measure::Rates) {
        for batch in T::BATCHES {
            measure(&mut |target, churn, stage| rate(mix, time, *batch, target, churn, stage));
        }
    }
    if asked(Measure::Lookups) {
        measure(&mut |target, churn, stage| lookups(mix, time, target, churn, stage));
    }
}

/// As many updates as go.
fn rate<T: Target>(
    mix: &Mix,
    time: Duration,
    batch: usize,
    target: &mut T,
    churn: &mut Churn<'_>,
    stage: &Stage,
) {
    let count = (1 << 16) / batch * batch;
    let (mut updates, mut answers, mut spent) = (0, 0, Duration::ZERO);
    // What is drawn first warms up; drawing takes no part of the time.
    for turn in 0.. {
        let drawn = churn.updates(count, batch);
        let (start, before) = (Instant::now(), stage.answers());
        drawn.chunks(batch).for_each(|updates| target.batch(updates));
        if turn > 0 {
            spent += start.elapsed();
            answers += stage.answers() - before;
            updates += count;
        }
        if spent > time {
            break;
        }
    }
    let seconds = spent.as_secs_f64();
    println!(
        "{:8} {:9} {:5} updates a commit: {:6.3} M updates/s, beside {:5.1} M judged answers/s",
        T::NAME,
        mix.name,
        batch,
        updates as f64 / seconds / 1e6,
        answers as f64 / seconds / 1e6
    );
}

/// The readers' rate with and without updates, in turns.
fn lookups<T: Target>(mix: &Mix, time: Duration, target: &mut T, churn: &mut Churn<'_>, stage: &Stage) {
    const TURNS: u32 = 30;
    const BATCH: usize = 100;
    let turn = time * 2 / TURNS;
    let mut rates = [const { Vec::new() }; 2];
    let mut updates = 0;
    for number in 0..TURNS {
        let active = number % 2 == 1;
        let (start, answers) = (Instant::now(), stage.answers());
        let mut next = start;
        while start.elapsed() < turn {
            if active && Instant::now() >= next {
                target.batch(&churn.updates(BATCH, BATCH));
                updates += BATCH;
                next += Duration::from_millis(1);
            }
            std::hint::spin_loop();
        }
        let answers = (stage.answers() - answers) as f64;
        rates[usize::from(active)].push(answers / start.elapsed().as_secs_f64() / 1e6);
    }
    for rates in &mut rates {
        rates.sort_unstable_by(f64::total_cmp);
    }
    let [without, with] = rates.map(|rates| rates[rates.len() / 2]);
    println!(
        "{:8} {:9} {with:.1} of {without:.1} M judged answers/s, a share of {:.3}, beside {:.0} updates/s",
        T::NAME,
        mix.name,
        with / without,
        updates as f64 / (turn * TURNS / 2).as_secs_f64()
    );
}
