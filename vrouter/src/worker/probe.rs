//! Letting bursts grow now and then, to see what full ones cost.
//!
//! ```text
//!   resting --survey: bursts are small, a probe is due--> growing: nothing is received
//!      ^                                                     |
//!      |                              a receive ring is half full, or the time is over
//!      '--a turn that is not full, or LONGEST_SERIES turns-- measuring: turn follows turn
//! ```
//!
//! The turns of one probe follow each other as they do under full load, so that all but
//! the first find caches and branch predictors set to full bursts: the first is left out
//! where there are others. Of these the cheapest tells most, since disturbances (an
//! interrupt, a neighbour on the core) only make a turn dearer.
//!
//! | a probe | |
//! |---|---|
//! | lasts | until half of a receive ring is taken: about as long as it takes [`PROBE_PACKETS`] to come, at most [`LONGEST_PROBE`] |
//! | comes | with each of the first [`EARLY`] surveys, then so seldom that waiting takes one part in [`PRICE`] of all time: that share of packets comes later, by a millisecond at most |
//!
//! Below about 1,500 packets a second nothing grows in that time, and there is no probe.

use core::time::Duration;

use crate::counters::LoopCounters;
use crate::ids::Timestamp;

/// Packets that a probe is to hold. The first full bursts after small ones cost up to twice what they
/// cost among others, so it takes many to see that.
pub const PROBE_PACKETS: usize = 16 * crate::burst::LANES;
/// The longest that packets wait for a probe to grow.
pub const LONGEST_PROBE: Duration = Duration::from_millis(1);
/// Probes that come one after another at the beginning.
pub const EARLY: u32 = 8;
/// Time between two later probes, as a multiple of the time that one waits.
pub const PRICE: u32 = 10_000;
/// Turns after which a probe ends where packets come faster than they are carried.
const LONGEST_SERIES: u32 = 32;

/// One turn of the worker's loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Turn {
    pub(super) packets: u32,
    pub(super) bursts: u32,
    pub(super) ns: u64,
}

impl Turn {
    fn is_full(&self) -> bool {
        self.packets > 0 && self.packets >= LoopCounters::FULL * self.bursts
    }

    /// Whether it tells more than another of the same probe.
    fn is_better_than(&self, other: &Turn) -> bool {
        match (self.is_full(), other.is_full()) {
            (true, true) => self.ns * u64::from(other.packets) < other.ns * u64::from(self.packets),
            (false, false) => self.packets * other.bursts > other.packets * self.bursts,
            (full, _) => full,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Resting,
    Growing { until: Timestamp },
    Measuring { turns: u32, best: Option<Turn> },
}

/// A worker's probes.
#[derive(Debug)]
pub(super) struct Prober {
    phase: Phase,
    /// Packets and bursts so far at the last survey.
    surveyed: (u64, u64),
    /// Begun so far.
    begun: u32,
    /// No probe before this time.
    due: Timestamp,
}

impl Prober {
    pub(super) fn new() -> Self {
        Prober { phase: Phase::Resting, surveyed: (0, 0), begun: 0, due: Timestamp::default() }
    }

    /// Begins a probe, where one is due and tells something; `passed` since the last survey.
    #[cold]
    pub(super) fn survey(&mut self, now: Timestamp, passed: Duration, run: &LoopCounters) {
        let packets = run.full.packets.get() + run.partial.packets.get();
        let bursts = run.full.bursts.get() + run.partial.bursts.get();
        let before = core::mem::replace(&mut self.surveyed, (packets, bursts));
        let wait = wait(packets - before.0, bursts - before.1, passed);
        let Some(wait) = wait.filter(|_| now >= self.due && matches!(self.phase, Phase::Resting)) else {
            return;
        };
        self.phase = Phase::Growing { until: now.after(wait) };
        self.begun = self.begun.saturating_add(1);
        if self.begun >= EARLY {
            self.due = now.after(wait * PRICE);
        }
    }

    /// Whether a probe is under way and still grows.
    #[inline]
    pub(super) fn is_growing(&self) -> bool {
        matches!(self.phase, Phase::Growing { .. })
    }

    /// Whether nothing is to be received at `now`; `half_full`: a queue is.
    #[cold]
    pub(super) fn lets_grow(&mut self, now: Timestamp, half_full: bool) -> bool {
        if let Phase::Growing { until } = self.phase
            && (half_full || now >= until)
        {
            self.phase = Phase::Measuring { turns: 0, best: None };
        }
        self.is_growing()
    }

    /// Takes a turn that is over. Returns what a probe has found, when it ends.
    #[inline]
    pub(super) fn turn_ended(&mut self, turn: Turn) -> Option<Turn> {
        match self.phase {
            Phase::Measuring { .. } => self.measured(turn),
            _ => None,
        }
    }

    #[cold]
    fn measured(&mut self, turn: Turn) -> Option<Turn> {
        let Phase::Measuring { turns, best } = &mut self.phase else { return None };
        *turns += 1;
        let better = match best {
            // The first comes out of the cold.
            Some(best) => *turns == 2 && turn.is_full() || turn.is_better_than(best),
            None => turn.packets > 0,
        };
        if better {
            *best = Some(turn);
        }
        if turn.is_full() && *turns < LONGEST_SERIES {
            return None;
        }
        let found = *best;
        self.abandon();
        found
    }

    /// Ends a probe without a finding.
    pub(super) fn abandon(&mut self) {
        self.phase = Phase::Resting;
    }
}

/// How long a worker with `packets` in `bursts` during `passed` waits for a probe to grow; `None` where
/// it would tell nothing.
fn wait(packets: u64, bursts: u64, passed: Duration) -> Option<Duration> {
    if packets == 0 || bursts == 0 || packets >= u64::from(LoopCounters::FULL) * bursts {
        return None;
    }
    let wait = passed.mul_f64(PROBE_PACKETS as f64 / packets as f64).min(LONGEST_PROBE);
    (wait.as_secs_f64() * packets as f64 > 1.5 * passed.as_secs_f64()).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::super::load::LoadMeter;
    use super::*;
    use crate::burst::LANES;
    use proptest::prelude::*;

    #[test]
    fn a_probe_waits_for_a_few_packets_and_never_long() {
        let second = Duration::from_secs(1);
        assert_eq!(wait(2_048_000, 1_800_000, second), Some(Duration::from_micros(500)));
        assert_eq!(wait(200_000, 200_000, second), Some(LONGEST_PROBE));
        assert_eq!(wait(1_000, 1_000, second), None, "nothing would grow");
        assert_eq!(wait(1_000_000, 16_000, second), None, "bursts are full");
        assert_eq!(wait(0, 0, second), None);
    }

    fn turn(packets: u32, ns: u64) -> Turn {
        Turn { packets, bursts: 1, ns }
    }

    /// What a probe finds in these turns.
    fn finding(turns: &[Turn]) -> Option<Turn> {
        let mut prober = Prober::new();
        prober.phase = Phase::Measuring { turns: 0, best: None };
        let found = turns.iter().find_map(|turn| prober.turn_ended(*turn));
        assert!(matches!(prober.phase, Phase::Resting));
        found
    }

    #[test]
    fn the_cheapest_full_turn_but_the_first_is_what_counts() {
        let slow_start = [turn(64, 9000), turn(64, 4000), turn(64, 3900), turn(64, 5000), turn(3, 500)];
        assert_eq!(finding(&slow_start), Some(turn(64, 3900)));
        // Even where the first was cheaper: it began in the middle of something else.
        assert_eq!(finding(&[turn(64, 100), turn(64, 4000), turn(0, 50)]), Some(turn(64, 4000)));
        assert_eq!(finding(&[turn(64, 9000), turn(10, 800)]), Some(turn(64, 9000)));
        assert_eq!(finding(&[turn(20, 2000)]), Some(turn(20, 2000)));
        assert_eq!(finding(&[turn(0, 50)]), None);
        assert_eq!(finding(&[turn(64, 4000); LONGEST_SERIES as usize]), Some(turn(64, 4000)));
    }

    #[test]
    fn enough_packets_or_the_time_end_the_growth() {
        let run = LoopCounters::default();
        run.partial.packets.add(100_000);
        run.partial.bursts.add(100_000);
        let grow = || {
            let mut prober = Prober::new();
            prober.survey(Timestamp(0), Duration::from_millis(500), &run);
            assert!(prober.lets_grow(Timestamp(10), false));
            prober
        };
        assert!(!grow().lets_grow(Timestamp(20), true));
        assert!(!grow().lets_grow(Timestamp(0).after(LONGEST_PROBE), false));
    }

    /// A worker in simulated time: packets come evenly, a turn takes all that wait up to a burst and
    /// costs `setup` and `each` for every packet, `cold` times that after an idle time or a smaller
    /// burst. Returns what its meter tells after `seconds`.
    fn reported(load: f64, (setup, each, cold): (f64, f64, f64), seconds: u64) -> Option<f64> {
        let full = LANES as f64 * 1e9 / (setup + LANES as f64 * each);
        let (run, mut prober, mut meter) = (LoopCounters::default(), Prober::new(), LoadMeter::default());
        let gap = 1e9 / (load * full);
        let (mut now, mut carried, mut surveyed, mut looked) = (0.0_f64, 0_u64, 0.0, 0.0);
        let mut last = 0_u32;
        meter.look(Timestamp(0), &run);
        while now < seconds as f64 * 1e9 {
            let waiting = (now / gap) as u64 - carried;
            let growing = prober.is_growing() && prober.lets_grow(Timestamp(now as u64), waiting >= 1024);
            let packets = if growing { 0 } else { waiting.min(LANES as u64) as u32 };
            let ns = if packets == 0 {
                last = 0;
                // Nothing happens before the next packet.
                gap.max(100.0)
            } else {
                let cost = setup + f64::from(packets) * each;
                let factor = if last + 8 < packets { cold } else { 1.0 };
                last = packets;
                cost * factor
            };
            carried += u64::from(packets);
            now += ns;
            let turn = Turn { packets, bursts: 1, ns: ns as u64 };
            super::super::book(&run, &mut prober, turn);
            if now - surveyed >= 5e8 {
                prober.survey(Timestamp(now as u64), Duration::from_nanos((now - surveyed) as u64), &run);
                surveyed = now;
            }
            if now - looked >= 1e9 {
                meter.look(Timestamp(now as u64), &run);
                looked = now;
            }
        }
        meter.load().capacity.filter(|capacity| !capacity.at_least).map(|c| c.packets_per_second / full)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Where bursts come out of the cold but a millisecond brings more than one: a worker knows
        /// within a fifth what it would carry under full load.
        #[test]
        fn what_full_load_would_be_is_known_however_cold_the_caches(
            load in 0.06..1.0_f64,
            setup in 100.0..800.0_f64,
            each in 20.0..400.0_f64,
            cold in 1.0..2.0_f64,
        ) {
            let told = reported(load, (setup, each, cold), 2).expect("a capacity is known");
            prop_assert!((0.8..1.2).contains(&told), "{told} of what it carries");
        }

        /// And where packets are few, but cost what they cost in larger bursts: system calls.
        #[test]
        fn what_full_load_would_be_is_known_from_few_packets(
            load in 0.04..1.0_f64,
            setup in 100.0..1500.0_f64,
            each in 400.0..1500.0_f64,
        ) {
            let told = reported(load, (setup, each, 1.0), 2).expect("a capacity is known");
            prop_assert!((0.8..1.2).contains(&told), "{told} of what it carries");
        }
    }
}
