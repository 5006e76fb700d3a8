//! Chains: packets larger than a frame.
//!
//! ```text
//!   handle --> frame 7 | headroom | first bytes ....... |
//!                 |  link: frame 2, from 256, 1792 bytes
//!              frame 2 | headroom | further bytes ..... |
//!                 |  link: frame 5, from 310, 900 bytes
//!              frame 5 | ..............| last bytes ... |
//! ```
//!
//! All headers lie in the head frame; where in it the packet begins, and how many of its
//! bytes it holds, is said beside the handle, as for packets of one frame. Frames are
//! linked one by one, in order ([`Chain`]), and belong to the chain's holder from then on.

use core::sync::atomic::Ordering::Relaxed;

use super::{CHAINED, Frame, FrameArea, HEADROOM};

/// Bytes of the largest packet: an IP packet of 65,535 bytes behind an Ethernet header.
pub const MAX_PACKET: usize = 65535 + 14;

/// Frames of `frame_size` bytes that a packet of `len` bytes takes.
pub const fn frames_for(len: usize, frame_size: u32) -> usize {
    len.div_ceil(frame_size as usize - HEADROOM)
}

/// A chain in the making.
#[derive(Debug)]
#[must_use = "a chain that is let go of is lost"]
pub struct Chain {
    head: Frame,
    /// The frame in front of the last, where there are two or more.
    before_last: Option<usize>,
    last: usize,
}

impl Chain {
    /// A chain of one frame, which nothing follows.
    #[inline]
    pub fn new(head: Frame) -> Self {
        debug_assert!(!head.is_chained());
        Chain { last: head.index(), head, before_last: None }
    }

    /// Appends a frame, of which `len` bytes from `offset` on belong to the packet.
    #[inline]
    pub fn append(&mut self, area: &FrameArea, frame: Frame, offset: u16, len: u16) {
        debug_assert!(!frame.is_chained() && !frame.is_none());
        match self.before_last {
            None => self.head.0 |= CHAINED,
            Some(before) => area.next[before].store(self.last as u32 | CHAINED, Relaxed),
        }
        area.next_span[self.last].store(u32::from(offset) << 16 | u32::from(len), Relaxed);
        area.next[self.last].store(frame.0, Relaxed);
        self.before_last = Some(self.last);
        self.last = frame.index();
    }

    /// The head, which stands for the whole chain.
    #[inline]
    pub fn finish(self) -> Frame {
        self.head
    }
}

impl FrameArea {
    /// Detaches what follows `head`: the next frame, with its own chain.
    #[inline]
    pub fn unlink(&self, head: &mut Frame) -> Option<Frame> {
        self.unlink_span(head).map(|(next, ..)| next)
    }

    /// Detaches what follows `head`: the next frame, with its own chain, where the packet goes
    /// on in it, and for how many bytes.
    #[inline]
    pub fn unlink_span(&self, head: &mut Frame) -> Option<(Frame, u16, u16)> {
        if !head.is_chained() || head.is_none() {
            return None;
        }
        head.0 &= !CHAINED;
        let at = head.index();
        let span = self.next_span[at].load(Relaxed);
        Some((Frame(self.next[at].load(Relaxed)), (span >> 16) as u16, span as u16))
    }

    /// The bytes of a packet, frame by frame: `len` bytes from `offset` on in the head, and
    /// what is chained to it.
    #[inline]
    pub fn pieces<'a>(&'a self, head: &'a Frame, offset: u16, len: u16) -> Pieces<'a> {
        Pieces { area: self, head, next: Some((Frame(head.0), offset, len)), join: false }
    }

    /// The same in as few pieces as can be: frames that lie next to each other, and are full where they
    /// meet, are one.
    #[inline]
    pub(crate) fn runs<'a>(&'a self, head: &'a Frame, offset: u16, len: u16) -> Pieces<'a> {
        Pieces { join: true, ..self.pieces(head, offset, len) }
    }

    /// Bytes in the frames behind the head.
    #[inline]
    pub fn chained_bytes(&self, head: &Frame) -> usize {
        self.pieces(head, 0, 0).map(<[u8]>::len).sum()
    }
}

/// Iterator of [`FrameArea::pieces`].
#[derive(Debug)]
pub struct Pieces<'a> {
    area: &'a FrameArea,
    head: &'a Frame,
    /// A handle to read by, not to own.
    next: Option<(Frame, u16, u16)>,
    /// Pieces that meet are one.
    join: bool,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (mut frame, offset, len) = self.next.take()?;
        let (first, mut frames, mut len) = (frame.index(), 1, usize::from(len));
        loop {
            // Only this copy of the handle loses the mark; the link stays.
            self.next = self.area.unlink_span(&mut frame);
            match &self.next {
                Some((next, 0, more))
                    if self.join
                        && next.index() == first + frames
                        && usize::from(offset) + len == frames << self.area.shift =>
                {
                    len += usize::from(*more);
                    frames += 1;
                    frame = Frame(next.0);
                }
                _ => break,
            }
        }
        Some(self.area.linked(self.head, first, frames, offset, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FramePool, FrameStore};

    #[test]
    fn a_chain_has_its_pieces_in_order_and_is_freed_whole() {
        let store = FrameStore::new(FrameArea::new(5, 2048).unwrap());
        let mut pool = FramePool::new(store.clone());
        let mut fill = |byte: u8| {
            let mut frame = pool.alloc().unwrap();
            store.area().chunk_mut(&mut frame).fill(byte);
            frame
        };
        let mut chain = Chain::new(fill(0));
        for (byte, offset, len) in [(1, 300, 10), (2, 0, 2048), (3, 256, 1)] {
            chain.append(store.area(), fill(byte), offset, len);
        }
        let head = chain.finish();
        let pieces: Vec<_> =
            store.area().pieces(&head, 20, 30).map(|piece| (piece[0], piece.len())).collect();
        assert_eq!(pieces, [(0, 30), (1, 10), (2, 2048), (3, 1)]);
        assert_eq!(store.area().chained_bytes(&head), 2059);
        assert!(store.area().is_chain(&head));
        pool.free(head);
        assert_eq!(pool.local_frames() + store.free_frames(), 5);
    }

    #[test]
    fn frames_that_meet_are_one_run() {
        let store = FrameStore::new(FrameArea::new(6, 2048).unwrap());
        let area = store.area();
        let mut frames: Vec<_> = std::iter::from_fn(|| store.alloc()).collect();
        for (frame, byte) in frames.iter_mut().zip(0..) {
            area.chunk_mut(frame).fill(byte);
        }
        let mut frames = frames.into_iter().map(Some).collect::<Vec<_>>();
        let mut chain = Chain::new(frames[0].take().unwrap());
        // The third does not begin where the second ends, the fourth does not lie behind it, and the
        // last has the fourth not full before it.
        for (at, offset, len) in [(1, 0, 2048), (2, 8, 2040), (4, 0, 2000), (5, 0, 7)] {
            chain.append(area, frames[at].take().unwrap(), offset, len);
        }
        let head = chain.finish();
        let runs: Vec<_> = area.runs(&head, 256, 1792).map(|run| (run[0], run.len())).collect();
        assert_eq!(runs, [(0, 1792 + 2048), (2, 2040), (4, 2000), (5, 7)]);
        let bytes = |pieces: Pieces<'_>| pieces.flatten().copied().collect::<Vec<u8>>();
        assert_eq!(bytes(area.runs(&head, 256, 1792)), bytes(area.pieces(&head, 256, 1792)));
        assert_eq!(area.runs(&head, 256, 100).next().map(<[u8]>::len), Some(100), "not full");
        store.free(head);
        frames.into_iter().flatten().for_each(|frame| store.free(frame));
    }

    #[test]
    fn a_chain_of_one_is_a_frame() {
        let store = FrameStore::new(FrameArea::new(1, 2048).unwrap());
        let head = Chain::new(store.alloc().unwrap()).finish();
        assert!(!store.area().is_chain(&head));
        assert_eq!(store.area().pieces(&head, 0, 5).count(), 1);
        store.free(head);
    }
}
