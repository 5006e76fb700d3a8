//! Masks of lanes: one bit for each packet of a burst.

use super::LANES;

/// Up to so many packets are looked at one by one: reading what was just written lane by lane with
/// wide registers makes the CPU wait, which pays only where many lanes are read.
pub const FEW: u32 = 4;

/// Whether a mask has few lanes.
#[inline]
pub fn are_few(mask: u64) -> bool {
    mask.count_ones() <= FEW
}

/// The lanes whose bits are set in `mask`, in order.
#[inline]
pub fn lanes(mask: u64) -> Lanes {
    Lanes(mask)
}

/// Iterator of [`lanes`].
#[derive(Clone, Copy, Debug)]
pub struct Lanes(u64);

impl Iterator for Lanes {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        // The mask changes nothing; it says that a lane is an index of the arrays.
        let lane = self.0.trailing_zeros() as usize & (LANES - 1);
        self.0 &= self.0 - 1;
        Some(lane)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = self.0.count_ones() as usize;
        (n, Some(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_the_set_bits() {
        assert_eq!(lanes(0).count(), 0);
        assert_eq!(lanes(0b1011).collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(lanes(u64::MAX).count(), LANES);
        assert_eq!(lanes(1 << 63).next(), Some(63));
    }
}
