//! What a receiver makes of sequence numbers and times.
//!
//! A window of the latest [`WINDOW`] numbers tells a late packet (reordered) from one
//! that came before (duplicate). What is older than the window counts as late.

/// Sequence numbers that are remembered.
const WINDOW: u64 = 1 << 16;

/// Counts of one receiver.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Packets with a stamp.
    pub(crate) packets: u64,
    /// Their bytes, FCS included.
    pub(crate) bytes: u64,
    /// Packets without a stamp of ours.
    pub(crate) foreign: u64,
    /// Packets that came before.
    pub(crate) duplicates: u64,
    /// Packets that came after one with a higher number.
    pub(crate) reordered: u64,
    /// Time from sending to receiving.
    pub(crate) latency: Histogram,
    lowest: u64,
    highest: u64,
    seen: Box<[u64]>,
}

impl Tally {
    /// Nothing received.
    pub(crate) fn new() -> Self {
        Tally {
            packets: 0,
            bytes: 0,
            foreign: 0,
            duplicates: 0,
            reordered: 0,
            latency: Histogram::new(),
            lowest: u64::MAX,
            highest: 0,
            seen: vec![0; (WINDOW / 64) as usize].into(),
        }
    }

    /// Takes a packet's number.
    pub(crate) fn take(&mut self, sequence: u64) {
        if self.packets == 0 {
            self.highest = sequence;
        } else if sequence > self.highest {
            if sequence - self.highest >= WINDOW {
                self.seen.fill(0);
            } else {
                (self.highest + 1..sequence).for_each(|missed| self.mark(missed, false));
            }
            self.highest = sequence;
        } else if self.highest - sequence < WINDOW && self.was_seen(sequence) {
            self.duplicates += 1;
        } else {
            self.reordered += 1;
        }
        self.mark(sequence, true);
        self.lowest = self.lowest.min(sequence);
        self.packets += 1;
    }

    /// Packets missing between the lowest and the highest number seen.
    pub(crate) fn missing(&self) -> u64 {
        let unique = self.packets - self.duplicates;
        if unique == 0 { 0 } else { (self.highest - self.lowest + 1).saturating_sub(unique) }
    }

    fn mark(&mut self, sequence: u64, seen: bool) {
        let (word, bit) = ((sequence % WINDOW / 64) as usize, 1 << (sequence % 64));
        if seen { self.seen[word] |= bit } else { self.seen[word] &= !bit }
    }

    fn was_seen(&self, sequence: u64) -> bool {
        self.seen[(sequence % WINDOW / 64) as usize] >> (sequence % 64) & 1 == 1
    }
}

/// Times in buckets of at most 1/16 of their value.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    least: u64,
    most: u64,
}

impl Histogram {
    const SUB: u32 = 4;

    fn new() -> Self {
        Histogram { buckets: vec![0; 64 << Self::SUB].into(), count: 0, least: u64::MAX, most: 0 }
    }

    /// Adds a time in nanoseconds.
    pub(crate) fn add(&mut self, ns: u64) {
        self.buckets[Self::bucket(ns)] += 1;
        self.count += 1;
        self.least = self.least.min(ns);
        self.most = self.most.max(ns);
    }

    fn bucket(ns: u64) -> usize {
        let exponent = ns.max(1 << Self::SUB).ilog2() - Self::SUB;
        ((exponent as usize) << Self::SUB) + (ns >> exponent) as usize
    }

    /// The largest value of a bucket.
    fn top(bucket: usize) -> u64 {
        let exponent = (bucket >> Self::SUB).saturating_sub(1);
        let base = bucket - (exponent << Self::SUB);
        (((base as u128 + 1) << exponent) - 1) as u64
    }

    /// The time that a share of all times does not exceed, rounded up to its bucket.
    pub(crate) fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut sum = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            sum += count;
            if *count > 0 && sum >= wanted {
                return Some(Self::top(bucket).min(self.most));
            }
        }
        None
    }

    /// The shortest time.
    pub(crate) fn least(&self) -> Option<u64> {
        (self.count > 0).then_some(self.least)
    }

    /// The longest time.
    pub(crate) fn most(&self) -> Option<u64> {
        (self.count > 0).then_some(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(numbers: impl IntoIterator<Item = u64>) -> (u64, u64, u64) {
        let mut tally = Tally::new();
        numbers.into_iter().for_each(|number| tally.take(number));
        (tally.missing(), tally.duplicates, tally.reordered)
    }

    #[test]
    fn losses_duplicates_and_order_are_told_apart() {
        assert_eq!(tally(0..100), (0, 0, 0));
        assert_eq!(tally([0, 1, 3, 4]), (1, 0, 0));
        assert_eq!(tally([0, 1, 3, 2, 4]), (0, 0, 1));
        assert_eq!(tally([0, 1, 1, 2, 2, 2]), (0, 3, 0));
        assert_eq!(tally([5, 3, 4]), (0, 0, 2));
        assert_eq!(tally([0, WINDOW * 3, WINDOW * 3 + 1]), (WINDOW * 3 - 1, 0, 0));
        // The same places of the window, a whole turn later, are not duplicates.
        assert_eq!(tally((0..WINDOW).chain(WINDOW + 7..2 * WINDOW)), (7, 0, 0));
        assert_eq!(tally((0..WINDOW + 10).chain([WINDOW + 3])), (0, 1, 0));
        assert_eq!(tally([]), (0, 0, 0));
    }

    #[test]
    fn quantiles_are_at_most_a_sixteenth_too_high() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=100_000).for_each(|ns| histogram.add(ns));
        for share in [0.001, 0.5, 0.9, 0.99, 0.999] {
            let (found, exact) = (histogram.quantile(share).unwrap() as f64, 100_000.0 * share);
            assert!(found >= exact && found <= exact * 1.07 + 1.0, "{share}: {found}");
        }
        assert_eq!(
            (histogram.least(), histogram.most(), histogram.quantile(1.0)),
            (Some(1), Some(100_000), Some(100_000))
        );
        histogram.add(u64::MAX);
        assert_eq!(histogram.quantile(1.0), Some(u64::MAX));
    }
}
