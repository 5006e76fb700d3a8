//! The random part of the timers: a small seeded generator, so that runs repeat.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): 64 bits of state, no bad seeds.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform between 0.5 and 1.5 of `base` (RFC 4861 §10, MIN_ and MAX_RANDOM_FACTOR).
    pub(super) fn around(&mut self, base: Duration) -> Duration {
        let fraction = f64::from((self.next() >> 32) as u32) / f64::from(u32::MAX);
        base.mul_f64(0.5 + fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fill_the_range_and_repeat_for_a_seed() {
        let base = Duration::from_secs(30);
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| random.around(base)).collect::<Vec<_>>()
        };
        let times = draw(7);
        assert_eq!(times, draw(7));
        assert_ne!(times, draw(8));
        let (low, high) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*low >= base / 2 && *low < base * 6 / 10, "{low:?}");
        assert!(*high <= base * 3 / 2 && *high > base * 14 / 10, "{high:?}");
    }
}
