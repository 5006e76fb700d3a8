//! Free frames: the store that all workers share, and each worker's own stack above it.
//!
//! ```text
//!   worker 0's pool  [ . . . ]  --batches of 64-->  +-------+
//!   worker 1's pool  [ . . ]    <-- when empty ---  | store |  <-> control
//!                                                   +-------+
//! ```
//!
//! Invariant: a free frame is in the store or in one pool; who takes it out owns it.
#![allow(unsafe_code)] // Room for vectored reads, over frames that lie one behind the other.

use std::io::IoSliceMut;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::{Frame, FrameArea};

/// The free frames that no worker holds, shared by all workers and by control.
#[derive(Debug)]
pub struct FrameStore {
    area: Arc<FrameArea>,
    free: ArrayQueue<Frame>,
}

impl FrameStore {
    /// A store that holds every frame of the area; the area has one store.
    pub fn new(area: Arc<FrameArea>) -> Arc<Self> {
        let free = ArrayQueue::new(area.count() as usize);
        for frame in area.issue_all() {
            let Ok(()) = free.push(frame) else { break };
        }
        Arc::new(FrameStore { area, free })
    }

    /// The area whose frames these are.
    pub fn area(&self) -> &Arc<FrameArea> {
        &self.area
    }

    /// Frames free in the store (those in workers' own lists not counted).
    pub fn free_frames(&self) -> usize {
        self.free.len()
    }

    /// Takes one frame, for callers outside the packet path.
    pub fn alloc(&self) -> Option<Frame> {
        self.free.pop()
    }

    /// Gives back a frame and what is chained to it.
    pub fn free(&self, mut frame: Frame) {
        while let Some(next) = self.area.unlink(&mut frame) {
            self.put(core::mem::replace(&mut frame, next));
        }
        self.put(frame);
    }

    fn put(&self, frame: Frame) {
        if frame.is_none() {
            return;
        }
        // The queue holds as many as there are frames, so it cannot be full.
        let pushed = self.free.push(frame);
        debug_assert!(pushed.is_ok(), "a frame was freed twice");
    }
}

/// A worker's own free frames: a stack refilled from and spilled to the store.
#[derive(Debug)]
pub struct FramePool {
    store: Arc<FrameStore>,
    local: Vec<Frame>,
}

impl FramePool {
    /// Frames moved between the stack and the store at a time.
    const BATCH: usize = 64;
    /// The most the stack keeps.
    const LIMIT: usize = 512;

    /// An empty pool above `store`.
    pub fn new(store: Arc<FrameStore>) -> Self {
        FramePool { store, local: Vec::with_capacity(Self::LIMIT) }
    }

    /// The area whose frames these are.
    #[inline]
    pub fn area(&self) -> &FrameArea {
        &self.store.area
    }

    /// The store below.
    pub fn store(&self) -> &Arc<FrameStore> {
        &self.store
    }

    /// Free frames in this pool alone.
    pub fn local_frames(&self) -> usize {
        self.local.len()
    }

    /// Takes a frame, or `None` when the whole router is out of frames.
    #[inline]
    pub fn alloc(&mut self) -> Option<Frame> {
        if self.local.is_empty() {
            self.refill();
        }
        self.local.pop()
    }

    /// Takes up to a burst of frames, fewer when the router is out of them; with the area.
    #[inline]
    pub fn alloc_burst(&mut self, count: usize) -> (&FrameArea, std::vec::Drain<'_, Frame>) {
        if self.local.len() < count {
            self.refill();
        }
        let first = self.local.len().saturating_sub(count);
        (&self.store.area, self.local.drain(first..))
    }

    #[cold]
    fn refill(&mut self) {
        while self.local.len() < Self::BATCH {
            let Some(frame) = self.store.free.pop() else { break };
            self.local.push(frame);
        }
    }

    /// The next `count` frames that [`alloc`](Self::alloc) will hand out, the first last; fewer
    /// when the router has no more. They stay here until they are taken.
    #[inline]
    pub(crate) fn stage(&mut self, count: usize) -> (&FrameArea, &mut [Frame]) {
        debug_assert!(count <= Self::BATCH, "no packet takes more frames");
        if self.local.len() < count {
            self.refill();
        }
        let first = self.local.len().saturating_sub(count);
        (&self.store.area, &mut self.local[first..])
    }

    /// Room for a packet in the next `count` frames that [`alloc`](Self::alloc) will hand out, fewer when
    /// the router has no more: from `offset` on in the first, and all of the others. Those are put in order,
    /// so that frames next to each other make one piece: the kernel copies into a long one faster. Returns
    /// the pieces of `room` that were filled, and their bytes.
    #[inline]
    pub(crate) fn stage_room<'a>(
        &'a mut self,
        count: usize,
        offset: usize,
        room: &mut [IoSliceMut<'a>],
    ) -> (usize, usize) {
        let (area, frames) = self.stage(count);
        if !frames.is_sorted_by(|one, next| one.0 > next.0) {
            frames.sort_unstable_by_key(|frame| core::cmp::Reverse(frame.0));
        }
        let mut frames = frames.iter_mut().rev().peekable();
        let (mut pieces, mut bytes) = (0, 0);
        while pieces < room.len()
            && let Some(first) = frames.next()
        {
            let index = first.index();
            let mut run = 1;
            while frames.next_if(|next| next.index() == index + run).is_some() {
                run += 1;
            }
            let skip = if pieces == 0 { offset } else { 0 };
            let len = (run << area.shift) - skip;
            let start = area.span(first).0.wrapping_add(skip);
            // SAFETY: the chunks of `run` frames with numbers in a row, all of the area; the exclusive
            // borrow of the pool that owns their only handles excludes everybody else for `'a`, and each
            // frame is in one piece.
            let piece = unsafe { core::slice::from_raw_parts_mut(start, len) };
            room[pieces] = IoSliceMut::new(piece);
            pieces += 1;
            bytes += len;
        }
        (pieces, bytes)
    }

    /// Gives back a frame and what is chained to it.
    #[inline]
    pub fn free(&mut self, frame: Frame) {
        if frame.is_chained() { self.free_chain(frame) } else { self.push(frame) }
    }

    /// Also where [`Frame::NONE`] comes: all its bits are set.
    #[cold]
    fn free_chain(&mut self, mut frame: Frame) {
        if frame.is_none() {
            return;
        }
        let first = self.local.len();
        while let Some(next) = self.store.area.unlink(&mut frame) {
            self.push(core::mem::replace(&mut frame, next));
        }
        self.push(frame);
        // They come out again as they went in, next to each other where they were.
        if let Some(chain) = self.local.get_mut(first..) {
            chain.reverse();
        }
    }

    /// Has the frames that [`alloc`](Self::alloc) will yield next brought into the cache, for who
    /// is about to write `count` packets of `len` bytes.
    #[inline]
    pub fn warm(&self, count: usize, len: usize) {
        let area = self.store.area();
        for frame in self.local.iter().rev().take(count) {
            area.prefetch(frame, area.landing(frame, len));
        }
    }

    #[inline]
    fn push(&mut self, frame: Frame) {
        if self.local.len() == Self::LIMIT {
            self.spill_some();
        }
        self.local.push(frame);
    }

    #[cold]
    fn spill_some(&mut self) {
        self.spill(Self::LIMIT - Self::BATCH);
    }

    /// Returns frames to the store until `keep` are left.
    pub fn spill(&mut self, keep: usize) {
        while self.local.len() > keep {
            if let Some(frame) = self.local.pop() {
                self.store.put(frame);
            }
        }
    }
}

impl Drop for FramePool {
    fn drop(&mut self) {
        self.spill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::chain;

    fn store(count: u32) -> Arc<FrameStore> {
        FrameStore::new(FrameArea::new(count, 2048).unwrap())
    }

    #[test]
    fn a_chain_that_was_one_piece_is_one_when_it_comes_back() {
        let mut pool = FramePool::new(store(64));
        let mut room = [IoSliceMut::new(&mut [])];
        assert_eq!(pool.stage_room(8, 0, &mut room), (1, 8 * 2048));
        let mut chain = chain::Chain::new(pool.alloc().unwrap());
        for _ in 1..8 {
            let frame = pool.alloc().unwrap();
            chain.append(pool.area(), frame, 0, 2048);
        }
        pool.free(chain.finish());
        assert!(pool.stage(8).1.windows(2).all(|two| two[0].0 == two[1].0 + 1));
    }

    #[test]
    fn room_is_in_the_order_of_the_frames_handed_out_next() {
        let store = store(12);
        let mut pool = FramePool::new(store.clone());
        let mut frames: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
        frames.sort_by_key(|frame| frame.0);
        // 2 and 6 stay out: runs of 2, 3 and 5 frames.
        let (six, two) = (frames.remove(6), frames.remove(2));
        frames.rotate_left(4);
        frames.into_iter().for_each(|frame| pool.free(frame));
        let mut room: [IoSliceMut<'_>; 4] = core::array::from_fn(|_| IoSliceMut::new(&mut []));
        let (pieces, bytes) = pool.stage_room(12, 100, &mut room);
        let lens = room.iter().map(|piece| piece.len()).collect::<Vec<_>>();
        assert_eq!((pieces, bytes), (3, 10 * 2048 - 100));
        assert_eq!(lens, [2 * 2048 - 100, 3 * 2048, 5 * 2048, 0]);
        for (piece, byte) in room.iter_mut().zip(1..) {
            piece.fill(byte);
        }
        let handed: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
        let bytes: Vec<_> = handed.iter().map(|frame| store.area().chunk(frame)[2047]).collect();
        assert_eq!(bytes, [1, 1, 2, 2, 2, 3, 3, 3, 3, 3]);
        handed.into_iter().chain([two, six]).for_each(|frame| pool.free(frame));
        // Fewer pieces than there are runs.
        let mut one = [IoSliceMut::new(&mut [])];
        assert_eq!(pool.stage_room(12, 0, &mut one), (1, 12 * 2048));
    }
}
