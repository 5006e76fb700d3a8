//! Cycles by stage, on a sample of the bursts.
//!
//! ```text
//!   start ... receive |lap ... parse |lap ... transmit |lap, finish(packets)
//!     1 burst in about 128 reads the counter after each stage; the others test one flag
//! ```
//!
//! The distance between samples varies, so that traffic that repeats itself is not met
//! at the same place again and again.

use crate::counters::LoopCounters;
use crate::path_stage::PathStage;
use crate::sys::tsc;

/// Bursts from one sample to the next: this many, and up to as many again.
const PERIOD: u32 = 96;
const JITTER_MASK: u32 = 63;

/// A worker's stopwatch.
#[derive(Debug)]
pub struct Stopwatch {
    running: bool,
    /// Bursts until the next sample.
    wait: u32,
    last: u64,
    jitter: u32,
}

impl Stopwatch {
    /// A stopwatch whose first sample is the first burst.
    pub fn new(seed: u64) -> Self {
        Stopwatch { running: false, wait: 0, last: 0, jitter: seed as u32 | 1 }
    }

    /// Before a burst is asked for: starts where it is this one's turn.
    #[inline]
    pub fn start(&mut self) {
        if self.wait == 0 {
            self.running = true;
            self.last = tsc::now();
        }
    }

    /// Books the cycles since the last lap on `stage`.
    #[inline]
    pub fn lap(&mut self, stage: PathStage, counters: &LoopCounters) {
        if self.running {
            self.book(stage, counters);
        }
    }

    #[cold]
    #[inline(never)]
    fn book(&mut self, stage: PathStage, counters: &LoopCounters) {
        let now = tsc::now();
        counters.stage_cycles[stage as usize].add(now.wrapping_sub(self.last));
        self.last = now;
    }

    /// No burst came: the sample is the next one's.
    #[inline]
    pub fn stop(&mut self) {
        self.running = false;
    }

    /// A burst of `packets` is done.
    #[inline]
    pub fn finish(&mut self, packets: usize, counters: &LoopCounters) {
        if self.running {
            self.end_sample(packets, counters);
        } else {
            self.wait = self.wait.saturating_sub(1);
        }
    }

    #[cold]
    #[inline(never)]
    fn end_sample(&mut self, packets: usize, counters: &LoopCounters) {
        self.running = false;
        counters.sampled_bursts.add(1);
        counters.sampled_packets.add(packets as u64);
        self.jitter = self.jitter.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.wait = PERIOD + (self.jitter >> 16 & JITTER_MASK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_burst_in_about_a_hundred_is_a_sample() {
        let counters = LoopCounters::default();
        let mut watch = Stopwatch::new(7);
        for burst in 0..12_800 {
            watch.start();
            if burst % 3 == 1 {
                watch.stop();
                continue;
            }
            watch.lap(PathStage::Receive, &counters);
            watch.lap(PathStage::Transmit, &counters);
            watch.finish(5, &counters);
        }
        let bursts = counters.sampled_bursts.get();
        assert!((50..100).contains(&bursts), "{bursts}");
        assert_eq!(counters.sampled_packets.get(), 5 * bursts);
        assert!(counters.stage_cycles[PathStage::Receive as usize].get() > 0);
        assert_eq!(counters.stage_cycles[PathStage::Parse as usize].get(), 0);
    }
}
