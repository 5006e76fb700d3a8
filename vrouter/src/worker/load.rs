//! How busy a worker was lately, and how much more it could carry.
//!
//! What a packet costs depends on how many share a burst: a turn of the loop costs about
//! `a + b n` for `n` packets. A worker with little to do takes them one or two at a time
//! and looks dear; with more to do its bursts fill up and each packet gets cheaper. So
//! capacity is neither `rate / busy` nor a line through the bursts that came by
//! themselves: what makes one larger than others, a stall, makes it dearer too. A worker
//! therefore lets a burst grow now and then before it takes it ([`probe`](super::probe)):
//!
//! ```text
//!   ns of   |            x  full bursts, where enough came or a probe had some: their own cost
//!   a burst |       .--'
//!           |  o--o'        else the line from the mean of all bursts through the probes
//!           +--1--20---------------64--> packets
//! ```
//!
//! Where too few packets come to grow at all, the capacity is a lower bound, that of
//! bursts as they are. It is one, too, where a worker does next to nothing: its full bursts
//! come out of the cold.
//!
//! Readers look about once a second and let old sums fade, half in ten seconds. Time
//! that the kernel spends on the worker's core outside of it (receive processing there)
//! is not seen: the capacity is that of the worker alone.

use core::time::Duration;

use crate::burst::LANES;
use crate::counters::{LoopCounters, TurnCounters};
use crate::ids::Timestamp;
use crate::path_stage::PathStage;

/// Time after which an observation counts half.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// Share of full bursts among all packets from which they speak for themselves.
const MOSTLY_FULL: f64 = 0.5;
/// The part of its capacity, one in so many, below which a worker is cold.
const COLD: f64 = 32.0;
/// Packets that a probe must hold beyond the mean to tell anything.
const LEAST_GROWTH: f64 = 1.0;

/// Bursts, packets and nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Turns([f64; 3]);

impl Turns {
    fn of(turns: &TurnCounters) -> Self {
        Turns([&turns.bursts, &turns.packets, &turns.ns].map(|counter| counter.get() as f64))
    }
}

/// Sums of a worker's counters, fading.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    full: Turns,
    partial: Turns,
    stage_cycles: [f64; PathStage::COUNT],
    sampled_packets: f64,
}

impl Sums {
    fn of(run: &LoopCounters) -> Self {
        Sums {
            full: Turns::of(&run.full),
            partial: Turns::of(&run.partial),
            stage_cycles: core::array::from_fn(|stage| run.stage_cycles[stage].get() as f64),
            sampled_packets: run.sampled_packets.get() as f64,
        }
    }

    /// Fades by `keep` and takes in what came from `before` to `now`.
    fn take(&mut self, keep: f64, before: &Sums, now: &Sums) {
        let fade = |own: &mut [f64], before: &[f64], now: &[f64]| {
            let all = own.iter_mut().zip(before).zip(now);
            all.for_each(|((own, before), now)| *own = *own * keep + (now - before));
        };
        fade(&mut self.full.0, &before.full.0, &now.full.0);
        fade(&mut self.partial.0, &before.partial.0, &now.partial.0);
        fade(&mut self.stage_cycles, &before.stage_cycles, &now.stage_cycles);
        let sampled = core::slice::from_mut(&mut self.sampled_packets);
        fade(sampled, &[before.sampled_packets], &[now.sampled_packets]);
    }
}

/// The most packets that a worker can carry, as far as can be told.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Capacity {
    /// Packets a second.
    pub packets_per_second: f64,
    /// It may be more: how much cheaper packets get in full bursts, or when more come, is not known.
    pub at_least: bool,
}

/// What a worker did lately.
#[derive(Clone, Debug, Default)]
pub struct WorkerLoad {
    /// Share of time spent on packets, 0 to 1.
    pub busy: f64,
    /// Packets a second.
    pub packets_per_second: f64,
    /// Packets in a burst, when there were any last.
    pub packets_per_burst: f64,
    /// What it can carry; `None` before it has carried anything.
    pub capacity: Option<Capacity>,
    /// Cycles a packet by stage, over sampled bursts; zeros without any.
    pub cycles: [f64; PathStage::COUNT],
}

impl WorkerLoad {
    /// Cycles a packet over all stages.
    pub fn cycles_per_packet(&self) -> f64 {
        self.cycles.iter().sum()
    }

    /// Packets a second that may come on top; `None` where the capacity is not known.
    pub fn headroom(&self) -> Option<f64> {
        Some((self.capacity?.packets_per_second - self.packets_per_second).max(0.0))
    }
}

/// Follows the counters of one worker.
#[derive(Clone, Debug, Default)]
pub struct LoadMeter {
    last: Option<(Timestamp, Sums, [u64; 3])>,
    faded: Sums,
    load: WorkerLoad,
}

impl LoadMeter {
    /// Takes a look at a worker's counters. To be called about once a second.
    pub fn look(&mut self, now: Timestamp, run: &LoopCounters) {
        let sums = Sums::of(run);
        let packets = run.full.packets.get() + run.partial.packets.get();
        let counts = [run.busy_ns.get(), packets, run.bursts.get()];
        if let Some((then, before, old)) = self.last.replace((now, sums, counts)) {
            let passed = now.since(then);
            let keep = 0.5_f64.powf(passed.as_secs_f64() / HALF_LIFE.as_secs_f64());
            self.faded.take(keep, &before, &sums);
            let [busy, packets, bursts] = [0, 1, 2].map(|at| counts[at].saturating_sub(old[at]) as f64);
            let seconds = passed.as_secs_f64();
            if seconds > 0.0 {
                self.load.busy = (busy / (seconds * 1e9)).min(1.0);
                self.load.packets_per_second = packets / seconds;
            }
            if bursts > 0.0 {
                self.load.packets_per_burst = packets / bursts;
            }
        }
        let cold = |found: f64| self.load.packets_per_second * COLD < found;
        self.load.capacity = capacity(&self.faded, run)
            .map(|found| Capacity { at_least: found.at_least || cold(found.packets_per_second), ..found });
        let packets = self.faded.sampled_packets;
        self.load.cycles =
            self.faded.stage_cycles.map(|cycles| if packets < 0.5 { 0.0 } else { cycles / packets });
    }

    /// What the worker did between the last two looks, and can do.
    pub fn load(&self) -> &WorkerLoad {
        &self.load
    }
}

/// Packets a second in full bursts.
fn capacity(sums: &Sums, run: &LoopCounters) -> Option<Capacity> {
    let Turns([_, full, full_ns]) = sums.full;
    let Turns([bursts, packets, ns]) = sums.partial;
    if full >= LANES as f64 && full >= MOSTLY_FULL * (full + packets) {
        return Some(Capacity { packets_per_second: full * 1e9 / full_ns, at_least: false });
    }
    // Fewer packets than one are memories.
    if packets < 1.0 || ns <= 0.0 {
        return None;
    }
    let (size, cost) = (packets / bursts, ns / bursts);
    let probes = run.probes.iter().map(crate::counters::Probe::get);
    let full = probes.clone().filter(|(probed, _)| *probed >= f64::from(LoopCounters::FULL));
    let mut full: Vec<f64> = full.map(|(probed, took)| took / probed).collect();
    if !full.is_empty() {
        full.sort_by(f64::total_cmp);
        return Some(Capacity { packets_per_second: 1e9 / full[full.len() / 4], at_least: false });
    }
    let larger = probes.filter(|(probed, _)| *probed >= size + LEAST_GROWTH);
    let mut slopes: Vec<f64> = larger.map(|(probed, took)| (took - cost) / (probed - size)).collect();
    if slopes.is_empty() {
        return Some(Capacity { packets_per_second: size * 1e9 / cost, at_least: true });
    }
    slopes.sort_by(f64::total_cmp);
    // Neither a packet nor a burst can be had for nothing.
    // Disturbances only make a probe dearer, so it is the cheaper ones that are typical of
    // full bursts one after another.
    let per_packet = slopes[slopes.len() / 4].clamp(0.02 * cost / size, cost / size);
    let full_cost = cost + (LANES as f64 - size) * per_packet;
    Some(Capacity { packets_per_second: LANES as f64 * 1e9 / full_cost, at_least: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a burst costs in these tests.
    fn cost(packets: u32) -> u64 {
        400 + 50 * u64::from(packets)
    }

    fn book(run: &LoopCounters, bursts: u64, packets: u32) {
        let turns = run.turns(packets, 1);
        turns.bursts.add(bursts);
        turns.packets.add(bursts * u64::from(packets));
        turns.ns.add(bursts * cost(packets));
        run.bursts.add(bursts);
        run.busy_ns.add(bursts * cost(packets));
    }

    fn near(value: f64, expected: f64) -> bool {
        (value / expected - 1.0).abs() < 0.01
    }

    const FULL: f64 = 64.0 * 1e9 / (400.0 + 64.0 * 50.0);

    fn meter_at_start(run: &LoopCounters) -> LoadMeter {
        let mut meter = LoadMeter::default();
        meter.look(Timestamp::from_millis(0), run);
        assert_eq!(meter.load().capacity, None);
        meter
    }

    #[test]
    fn probes_tell_what_full_bursts_cost() {
        let run = LoopCounters::default();
        let mut meter = meter_at_start(&run);
        book(&run, 9000, 1);
        book(&run, 900, 2);
        for (n, packets) in [7, 8, 8, 1, 9].into_iter().enumerate() {
            run.probes[n].set(packets, 1, cost(packets));
        }
        // One that was stalled.
        run.probes[5].set(8, 1, 90_000);
        meter.look(Timestamp::from_millis(10), &run);
        let load = meter.load();
        let capacity = load.capacity.unwrap();
        assert!(near(capacity.packets_per_second, FULL) && !capacity.at_least, "{capacity:?}");
        assert!(near(load.packets_per_second, 1_080_000.0) && near(load.packets_per_burst, 1.0909));
        assert!(near(load.busy, (9900.0 * 400.0 + 10_800.0 * 50.0) / 1e7));
        assert!(near(load.headroom().unwrap(), FULL - 1_080_000.0));
    }

    #[test]
    fn a_cold_worker_can_do_more_than_its_probes_say() {
        for (millis, cold) in [(10, false), (100, true)] {
            let run = LoopCounters::default();
            let mut meter = meter_at_start(&run);
            book(&run, 9000, 1);
            run.probes[0].set(64, 1, cost(64));
            meter.look(Timestamp::from_millis(millis), &run);
            let capacity = meter.load().capacity.unwrap();
            assert!(near(capacity.packets_per_second, FULL) && capacity.at_least == cold, "{capacity:?}");
        }
    }

    #[test]
    fn probes_of_full_bursts_speak_for_themselves() {
        let run = LoopCounters::default();
        let mut meter = meter_at_start(&run);
        book(&run, 9000, 1);
        run.probes[0].set(5, 1, 90_000);
        for (n, ns) in [cost(64), cost(64), 90_000].into_iter().enumerate() {
            run.probes[n + 1].set(64, 1, ns);
        }
        meter.look(Timestamp::from_millis(10), &run);
        let capacity = meter.load().capacity.unwrap();
        assert!(near(capacity.packets_per_second, FULL) && !capacity.at_least, "{capacity:?}");
    }

    #[test]
    fn without_probes_there_is_a_lower_bound() {
        let run = LoopCounters::default();
        let mut meter = meter_at_start(&run);
        book(&run, 1000, 1);
        meter.look(Timestamp::from_millis(1000), &run);
        let bound = meter.load().capacity.unwrap();
        assert!(near(bound.packets_per_second, 1e9 / 450.0) && bound.at_least);
    }

    #[test]
    fn full_bursts_speak_for_themselves_and_fade() {
        let run = LoopCounters::default();
        let mut meter = meter_at_start(&run);
        book(&run, 1000, 64);
        meter.look(Timestamp::from_millis(1000), &run);
        assert!(near(meter.load().capacity.unwrap().packets_per_second, FULL));
        for second in 2..120 {
            book(&run, 1000, 1);
            meter.look(Timestamp::from_millis(second * 1000), &run);
        }
        let late = meter.load().capacity.unwrap();
        assert!(near(late.packets_per_second, 1e9 / 450.0) && late.at_least, "{late:?}");
        assert_eq!(meter.load().packets_per_second, 1000.0);
    }

    #[test]
    fn cycles_are_those_of_sampled_packets() {
        let run = LoopCounters::default();
        let mut meter = meter_at_start(&run);
        run.sampled_packets.add(640);
        run.stage_cycles[PathStage::Lookup as usize].add(6400);
        run.stage_cycles[PathStage::Receive as usize].add(64_000);
        meter.look(Timestamp::from_millis(1000), &run);
        assert_eq!(meter.load().cycles[PathStage::Lookup as usize], 10.0);
        assert_eq!(meter.load().cycles_per_packet(), 110.0);
    }
}
