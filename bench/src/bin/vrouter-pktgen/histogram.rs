//! How often each latency occurred.

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

    /// No times.
    pub(crate) fn new() -> Self {
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

    /// Each bucket that is not empty: the longest time of it, and how many there were.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let full = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        full.map(|(bucket, count)| (Self::top(bucket).min(self.most), *count))
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
        assert_eq!(histogram.buckets().map(|(_, count)| count).sum::<u64>(), 100_000);
        assert!(histogram.buckets().is_sorted_by(|a, b| a.0 < b.0));
        histogram.add(u64::MAX);
        assert_eq!(histogram.quantile(1.0), Some(u64::MAX));
    }
}
