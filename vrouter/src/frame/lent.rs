//! Frames that the kernel holds.
//!
//! ```text
//!   lend(frame)  -> address, bit set        take_back(address) -> frame, where the bit is set
//! ```
//!
//! An address that comes back is turned into a handle again only if its bit is set,
//! so whatever the kernel returns, no second handle of a frame can arise; and when
//! the queue is closed, every frame that is still out is taken back.

use std::sync::Arc;

use super::{Frame, FrameArea};

/// The frames that a queue has lent: a bit for each.
#[derive(Debug)]
pub(crate) struct Lent {
    area: Arc<FrameArea>,
    bits: Box<[u64]>,
    count: usize,
}

impl Lent {
    /// Nothing is lent.
    pub(crate) fn new(area: Arc<FrameArea>) -> Self {
        let words = (area.count as usize).div_ceil(64);
        Lent { area, bits: vec![0; words].into(), count: 0 }
    }

    /// Lends a frame: its first byte's offset in the area.
    #[inline]
    pub(crate) fn lend(&mut self, frame: Frame) -> u64 {
        debug_assert!(!frame.is_chained(), "a chain is lent frame by frame");
        let index = frame.index();
        self.bits[index / 64] |= 1 << (index % 64);
        self.count += 1;
        (index as u64) << self.area.shift
    }

    /// Takes a frame back by any address within it, with the offset of that address
    /// in the frame. `None` if it was not lent.
    #[inline]
    pub(crate) fn take_back(&mut self, address: u64) -> Option<(Frame, u16)> {
        let index = address >> self.area.shift;
        let word = self.bits.get_mut(usize::try_from(index / 64).ok()?)?;
        let bit = 1 << (index % 64);
        if *word & bit == 0 {
            return None;
        }
        *word &= !bit;
        self.count -= 1;
        Some((Frame(index as u32), (address & u64::from(self.area.frame_size - 1)) as u16))
    }

    /// Has the cache line of an address within a lent frame fetched, to be written to.
    #[inline]
    pub(crate) fn prefetch(&self, address: u64) {
        let frame = Frame((address >> self.area.shift) as u32);
        self.area.prefetch(&frame, (address & u64::from(self.area.frame_size - 1)) as u16);
    }

    /// Takes everything back, once the kernel has let go of it.
    pub(crate) fn take_back_all(&mut self) -> impl Iterator<Item = Frame> + '_ {
        self.count = 0;
        self.bits.iter_mut().enumerate().flat_map(|(word, bits)| {
            let bits = core::mem::take(bits);
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| Frame((word * 64 + bit) as u32))
        })
    }

    /// Frames lent now.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameStore;

    #[test]
    fn a_lent_frame_comes_back_once() {
        let store = FrameStore::new(FrameArea::new(130, 2048).unwrap());
        let mut lent = Lent::new(store.area().clone());
        let frames: Vec<_> = std::iter::from_fn(|| store.alloc()).collect();
        let addresses: Vec<_> = frames.into_iter().map(|frame| lent.lend(frame)).collect();
        let (frame, offset) = lent.take_back(addresses[129] + 300).unwrap();
        assert_eq!(offset, 300);
        assert_eq!(lent.take_back(addresses[129]), None);
        assert_eq!(lent.take_back(130 * 2048), None);
        assert_eq!(lent.take_back(u64::MAX), None);
        assert_eq!(lent.count(), 129);
        lent.take_back_all().chain([frame]).for_each(|frame| store.free(frame));
        assert_eq!((lent.count(), store.free_frames()), (0, 130));
    }
}
