//! What the rules of policy counted, by rule number.
//!
//! ```text
//!   rule 3077 -> segment 3 ----> [ packets, bytes ] x 1024
//!                 made by control before a verdict can name it; written by one worker; read by anyone
//! ```
//!
//! Numbers of rules grow without end, those in use are few: memory is taken by the segment.

use std::sync::OnceLock;

use super::Counter;

/// Rules of a segment.
const SEGMENT: usize = 1024;
/// Segments: four million rules. What lies above is counted together.
const SEGMENTS: usize = 4096;

/// What one worker counted of one rule.
#[derive(Default, Debug)]
#[repr(align(16))]
struct RuleCounter {
    packets: Counter,
    bytes: Counter,
}

/// What a rule let pass, stopped, logged or would have decided.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RuleTotals {
    /// Packets.
    pub packets: u64,
    /// Bytes of their IP packets.
    pub bytes: u64,
}

impl core::ops::AddAssign for RuleTotals {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// The counters of one worker.
#[derive(Debug)]
pub struct RuleCounters {
    segments: Box<[OnceLock<Box<[RuleCounter]>>]>,
    /// Of rules without a place.
    beyond: RuleCounter,
}

impl Default for RuleCounters {
    fn default() -> Self {
        RuleCounters {
            segments: (0..SEGMENTS).map(|_| OnceLock::new()).collect(),
            beyond: RuleCounter::default(),
        }
    }
}

impl RuleCounters {
    /// Makes room for the rules up to number `last`. Control calls it before verdicts can name them.
    pub fn reserve(&self, last: usize) {
        let needed = self.segments.iter().take(last / SEGMENT + 1);
        for segment in needed.rev().take_while(|segment| segment.get().is_none()) {
            segment.get_or_init(|| (0..SEGMENT).map(|_| RuleCounter::default()).collect());
        }
    }

    #[inline]
    fn of(&self, rule: u32) -> Option<&RuleCounter> {
        let segment = self.segments.get(rule as usize / SEGMENT)?.get()?;
        segment.get(rule as usize % SEGMENT)
    }

    /// Counts packets of a rule. Only the owning worker may call this.
    #[inline]
    pub fn add(&self, rule: u32, packets: u64, bytes: u64) {
        let counter = self.of(rule).unwrap_or(&self.beyond);
        counter.packets.add(packets);
        counter.bytes.add(bytes);
    }

    /// What a rule counted, from any thread.
    pub fn get(&self, rule: u32) -> RuleTotals {
        let value = |of: &RuleCounter| RuleTotals { packets: of.packets.get(), bytes: of.bytes.get() };
        self.of(rule).map(value).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_counted_apart() {
        let rules = RuleCounters::default();
        rules.reserve(3 * SEGMENT);
        for (rule, packets) in [(1, 2), (SEGMENT as u32, 3), (3 * SEGMENT as u32, 5)] {
            rules.add(rule, packets, 100 * packets);
            rules.add(rule, 1, 1);
            let expected = RuleTotals { packets: packets + 1, bytes: 100 * packets + 1 };
            assert_eq!(rules.get(rule), expected);
        }
        assert_eq!(rules.get(2), RuleTotals::default());
        // Without a place: nobody else's.
        rules.add(u32::MAX, 7, 7);
        assert_eq!(rules.get(u32::MAX), RuleTotals::default());
        assert_eq!(rules.get(1).packets, 3);
    }
}
