//! How much of the flow table a worker sweeps with a burst: what time asks for, not what traffic does.
//!
//! A worker goes round the table in two seconds, in steps of a few entries, each when enough time has passed for it:
//!
//! ```text
//!   1,048,576 flows   16 entries each 33 us: with every tenth burst of 64 at 20 Mpps
//!      65,536         16 entries each 0.5 ms
//! ```
//!
//! A burst that comes late sweeps more, up to a bound. Nothing depends on how soon the hand comes round: flows are dead
//! from the tick in which their timer ends, and a full table evicts (`acl::conntrack`).

use crate::ids::Timestamp;

/// Nanoseconds of a round, as a power of two: 2.1 s.
const ROUND_SHIFT: u32 = 31;
/// Entries worth a step: the states of 8 cache lines.
const STEP: u64 = 16;
/// The most entries of a step: packets wait for it.
const MOST: u64 = 64;

/// When a worker has swept last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sweep {
    last: Timestamp,
}

impl Sweep {
    /// Entries of a table of `flows` to look at now; mostly none.
    #[inline]
    pub(super) fn due(&mut self, now: Timestamp, flows: u32) -> u32 {
        let elapsed = now.0.saturating_sub(self.last.0).min(1 << ROUND_SHIFT);
        let entries = (elapsed * u64::from(flows)) >> ROUND_SHIFT;
        if entries < STEP && elapsed < 1 << ROUND_SHIFT {
            return 0;
        }
        self.last = now;
        entries.clamp(1, MOST) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swept(flows: u32, between: u64, seconds: u64) -> u64 {
        let mut sweep = Sweep { last: Timestamp(7) };
        (0..seconds * 1_000_000_000 / between)
            .map(|burst| u64::from(sweep.due(Timestamp(7 + burst * between), flows)))
            .sum()
    }

    #[test]
    fn a_round_takes_two_seconds_whatever_the_rate() {
        for flows in [1000, 65_536, 1 << 20] {
            for between in [3_000, 50_000, 400_000] {
                let rounds = swept(flows, between, 60) as f64 / f64::from(flows);
                let most = 60.0 * 1e9 / between as f64 * MOST as f64 / f64::from(flows);
                let expected = (60.0 / 2.147_f64).min(most);
                assert!((0.85..1.02).contains(&(rounds / expected)), "{flows} {between}: {rounds}");
            }
        }
    }

    #[test]
    fn the_smallest_table_is_swept_and_no_step_is_long() {
        assert!(swept(1, 3_000, 60) >= 27);
        let mut sweep = Sweep::default();
        assert_eq!(u64::from(sweep.due(Timestamp(u64::MAX / 2), u32::MAX)), MOST);
        assert_eq!(sweep.due(Timestamp(u64::MAX / 2), u32::MAX), 0);
    }
}
