//! The clock of a worker's loop: the system's, read anew once a millisecond, and the time stamp counter
//! in between.
//!
//! ```text
//!   system    A                    B                    C         one read each ANCHOR
//!   counter   a  .  .  .  .  .  .  b  .  .  .  .  .  .  c         one each turn, half the price
//!   time      B + (counter - b) (B - A) / (b - a)
//! ```
//!
//! A turn with one packet takes about 100 ns, of which the system's clock would be a fifth.
//!
//! Invariants: time never runs backwards; it is off by no more than the counter gains or loses on the
//! system's clock within one [`ANCHOR`]. Where the counter is not known to run evenly (a CPU without an
//! invariant one, another architecture), or has not been compared with the clock yet, the system's clock is
//! read each time.

use crate::ids::Timestamp;
use crate::sys::tsc;

/// Nanoseconds after which the system's clock is read again.
const ANCHOR: u64 = 1_000_000;
/// Nanoseconds between two reads of the system's clock that tell how fast the counter runs: with fewer, the
/// time that a read takes shows; with more, the worker may have slept, and the machine with it.
const COMPARED: core::ops::Range<u64> = 100_000..20_000_000;
/// Fraction bits of [`TurnClock::pace`].
const FRACTION: u32 = 32;
/// A tick of the counter, with as many fraction bits: 10 GHz to 125 MHz. What seems faster has run on while
/// the clock stood still, what seems slower is another CPU's, or not worth reading.
const PACES: core::ops::RangeInclusive<u64> = (1 << FRACTION) / 10..=8 << FRACTION;

/// A worker's clock.
#[derive(Debug)]
pub(super) struct TurnClock {
    /// The counter and the system's clock when both were read last.
    ticks: u64,
    system: Timestamp,
    /// Nanoseconds a tick, with [`FRACTION`] bits behind the point.
    pace: u64,
    /// Ticks after `ticks` for which the pace holds; 0 while there is none.
    span: u64,
    latest: Timestamp,
    steady: bool,
}

impl TurnClock {
    pub(super) fn new() -> Self {
        TurnClock {
            ticks: 0,
            system: Timestamp::default(),
            pace: 0,
            span: 0,
            latest: Timestamp::default(),
            steady: tsc::is_steady(),
        }
    }

    /// The time now.
    #[inline]
    pub(super) fn now(&mut self) -> Timestamp {
        self.at(tsc::now(), crate::clock::now)
    }

    #[inline]
    fn at(&mut self, ticks: u64, system: impl FnOnce() -> Timestamp) -> Timestamp {
        let passed = ticks.wrapping_sub(self.ticks);
        let now = if passed < self.span {
            // No overflow: the span is that of ANCHOR nanoseconds.
            Timestamp(self.system.0 + ((passed * self.pace) >> FRACTION))
        } else {
            self.anchor(ticks, system())
        };
        self.latest = self.latest.max(now);
        self.latest
    }

    #[cold]
    fn anchor(&mut self, ticks: u64, system: Timestamp) -> Timestamp {
        let (passed, ns) = (ticks.wrapping_sub(self.ticks), system.0.saturating_sub(self.system.0));
        if self.span == 0 && ns < COMPARED.start {
            // Too early to compare: the first read stays the one to compare with.
            return system;
        }
        if self.steady && COMPARED.contains(&ns) {
            let pace = (u128::from(ns) << FRACTION) / u128::from(passed.max(1));
            self.pace = u64::try_from(pace).unwrap_or(u64::MAX);
            self.span = if PACES.contains(&self.pace) { (ANCHOR << FRACTION) / self.pace } else { 0 };
        }
        (self.ticks, self.system) = (ticks, system);
        system
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> TurnClock {
        TurnClock { steady: true, ..TurnClock::new() }
    }

    /// What the clock says at `ns` where the counter runs at `mhz`, and whether it read the system's.
    fn ask(clock: &mut TurnClock, ns: u64, mhz: u64) -> (u64, bool) {
        let mut read = false;
        let now = clock.at(7 + ns * mhz / 1000, || {
            read = true;
            Timestamp(1_000_000_000 + ns)
        });
        (now.0 - 1_000_000_000, read)
    }

    #[test]
    fn the_system_is_read_once_a_millisecond_and_time_is_right_in_between() {
        for mhz in [1000, 2596, 5001] {
            let mut clock = clock();
            let mut reads = 0;
            for ns in (0..50_000_000).step_by(130) {
                let (now, read) = ask(&mut clock, ns, mhz);
                reads += usize::from(read && ns > 200_000);
                assert!(now.abs_diff(ns) < 60, "{mhz} MHz: {now} at {ns}");
            }
            assert!((48..=51).contains(&reads), "{mhz} MHz: {reads}");
        }
    }

    #[test]
    fn time_does_not_run_backwards_where_the_counter_does() {
        let mut clock = clock();
        let mut latest = 0;
        for (turn, ns) in (0..30_000_000).step_by(997).enumerate() {
            // Now and then a CPU whose counter is 5 ms behind, or ahead.
            let skew = [0, 0, 0, 5_000_000, 0, 0][turn / 7 % 6];
            let now = clock.at(10_000_000 + ns - skew, || Timestamp(ns)).0;
            assert!(now >= latest && now < ns + 10_000_000, "{now} at {ns}");
            latest = now;
        }
    }

    #[test]
    fn after_a_sleep_time_is_the_systems_and_the_pace_is_the_old_one() {
        let mut clock = clock();
        (0..3_000_000).step_by(200).for_each(|ns| _ = ask(&mut clock, ns, 2000));
        let pace = clock.pace;
        // While the machine sleeps its clock stands still, but not the counter.
        let now = clock.at(1 << 60, || Timestamp(2_000_000_000)).0;
        assert_eq!((now, clock.pace), (2_000_000_000, pace));
        assert_eq!(clock.at((1 << 60) + 2000, || unreachable!("the pace is known")).0, 2_000_001_000);
    }

    #[test]
    fn without_a_steady_counter_the_system_is_read_each_time() {
        let mut clock = TurnClock { steady: false, ..TurnClock::new() };
        for ns in (0..5_000_000).step_by(1000) {
            assert_eq!(ask(&mut clock, ns, 3000), (ns, true));
        }
    }

    #[test]
    fn the_real_one_keeps_up_with_the_system() {
        let mut clock = TurnClock::new();
        let begin = crate::clock::now();
        while crate::clock::now().since(begin).as_millis() < 5 {
            let before = crate::clock::now();
            let now = clock.now();
            let after = crate::clock::now();
            let slack = core::time::Duration::from_micros(50);
            assert!(now.since(Timestamp(0)) + slack >= before.since(Timestamp(0)), "{now:?} {before:?}");
            assert!(now.since(Timestamp(0)) <= after.since(Timestamp(0)) + slack, "{now:?} {after:?}");
        }
    }
}
