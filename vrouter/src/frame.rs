//! Frames: fixed-size chunks of one memory area, owned by exactly one holder.
//!
//! ```text
//!   memory area (one mmap, registered with every AF_XDP device)
//!   +----------------+----------------+----------------+----
//!   | frame 0        | frame 1        | frame 2        | ...
//!   +----------------+----------------+----------------+----
//!     |<-headroom->|<-- packet -->|
//!     ^ chunk start  ^ offset
//! ```
//!
//! A [`Frame`] is a handle of four bytes that is neither `Copy` nor `Clone`: who
//! holds it owns the chunk, so bytes are reached through safe borrows of the
//! handle. Frames travel by value: free list -> receive ring -> burst -> transmit
//! ring -> free list. A handle has no destructor (rings held by the kernel could
//! not run it), so a lost handle is a leaked frame; tests count them.
//!
//! Packets larger than a frame are chains ([`chain`]): a side table of links, one per
//! frame, names the next frame and which of its bytes belong to the packet. A bit of the
//! handle says whether there is a link, so that ordinary packets never touch the table.
//!
//! Invariant: for each chunk at most one `Frame` handle exists, or its address is
//! held by the kernel, never both.
#![allow(unsafe_code)]

pub mod chain;
pub mod columns;
mod lent;
mod pool;

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::io;
use std::sync::Arc;

use crate::sys::umem::MemoryArea;

pub(crate) use lent::Lent;
pub use pool::{FramePool, FrameStore};

/// Bytes in front of a received packet, for encapsulation and port headers.
/// AF_XDP fixes this number (`XDP_PACKET_HEADROOM`); the other ports follow it.
pub const HEADROOM: usize = 256;

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;
/// Places among which [`FrameArea::landing`] spreads packets.
const LANDINGS: usize = 16;
const NULL: u32 = u32::MAX;
/// Set in the handle of a frame that another one follows.
const CHAINED: u32 = 1 << 31;

/// The handle of one frame. Owning it is owning the chunk's bytes.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a frame that is let go of is lost; give it back to a pool"]
pub struct Frame(u32);

impl Frame {
    /// Stands for "no frame here".
    pub(crate) const NONE: Frame = Frame(NULL);

    /// Whether this is [`Frame::NONE`].
    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.0 == NULL
    }

    /// The frame's number; that of [`Frame::NONE`] is beyond every area.
    #[inline]
    fn index(&self) -> usize {
        (self.0 & !CHAINED) as usize
    }

    #[inline]
    fn is_chained(&self) -> bool {
        self.0 & CHAINED != 0
    }

    /// Takes the handle out, leaving [`Frame::NONE`].
    #[inline]
    pub(crate) fn take(&mut self) -> Frame {
        core::mem::replace(self, Frame::NONE)
    }
}

/// The memory of all frames and the links of chains.
#[derive(Debug)]
pub struct FrameArea {
    memory: MemoryArea,
    frame_size: u32,
    shift: u32,
    count: u32,
    /// The handle of the frame that follows each chained frame.
    next: Box<[AtomicU32]>,
    /// Where the packet goes on in the following frame, and for how many bytes: offset, length.
    next_span: Box<[AtomicU32]>,
    issued: AtomicU32,
}

impl FrameArea {
    /// Maps memory for `count` frames of `frame_size` bytes (2048 or 4096).
    ///
    /// # Errors
    /// `InvalidInput` for other sizes or a count of zero; what mmap says otherwise.
    pub fn new(count: u32, frame_size: u32) -> io::Result<Arc<Self>> {
        if !matches!(frame_size, 2048 | 4096) || count == 0 || count >= CHAINED {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "frames are 2048 or 4096 bytes, and there are from one to 2^31 - 1",
            ));
        }
        let memory = MemoryArea::new(count as usize * frame_size as usize)?;
        Ok(Arc::new(FrameArea {
            memory,
            frame_size,
            shift: frame_size.trailing_zeros(),
            count,
            next: (0..count).map(|_| AtomicU32::new(NULL)).collect(),
            next_span: (0..count).map(|_| AtomicU32::new(0)).collect(),
            issued: AtomicU32::new(0),
        }))
    }

    /// The memory behind the frames, for registration with devices.
    pub(crate) fn memory(&self) -> &MemoryArea {
        &self.memory
    }

    /// Bytes of memory that the frames take, rounded up to whole pages.
    pub fn mapped_bytes(&self) -> usize {
        self.memory.mapped_len()
    }

    /// Bytes of one huge page; 0 where the memory is of plain pages.
    pub fn huge_page_bytes(&self) -> usize {
        self.memory.huge_page_bytes()
    }

    /// Bytes in a frame.
    pub fn frame_size(&self) -> u32 {
        self.frame_size
    }

    /// Frames in all.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Most bytes a packet can have in one frame behind [`HEADROOM`].
    pub fn capacity(&self) -> usize {
        self.frame_size as usize - HEADROOM
    }

    /// Hands out every frame of the area, once.
    fn issue_all(&self) -> impl Iterator<Item = Frame> + use<> {
        let first = self.issued.swap(self.count, Relaxed);
        (first..self.count).map(Frame)
    }

    /// The whole chunk of a frame (empty for no frame).
    #[inline]
    pub fn chunk<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        let (start, len) = self.span(frame);
        // SAFETY: `span` lies within the mapping, which lives as long as `self`;
        // the borrow of the only handle of these bytes excludes writers for `'a`.
        unsafe { core::slice::from_raw_parts(start, len) }
    }

    /// The whole chunk of a frame, to write to (empty for no frame).
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub fn chunk_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        let (start, len) = self.span(frame);
        // SAFETY: as in `chunk`; the exclusive borrow of the only handle makes
        // the slice exclusive.
        unsafe { core::slice::from_raw_parts_mut(start, len) }
    }

    /// Where a frame's bytes lie: `count << shift` bytes are mapped, so every
    /// index below `count` is within; the empty handle gets an empty span.
    #[inline]
    fn span(&self, frame: &Frame) -> (*mut u8, usize) {
        let base = self.memory.base().as_ptr();
        let index = frame.index();
        if index < self.count as usize {
            (base.wrapping_add(index << self.shift), self.frame_size as usize)
        } else {
            (base, 0)
        }
    }

    /// `len` bytes of a frame from `offset` on; empty where that leaves the frame.
    #[inline]
    pub fn bytes<'a>(&'a self, frame: &'a Frame, offset: u16, len: u16) -> &'a [u8] {
        self.chunk(frame).get(offset as usize..offset as usize + len as usize).unwrap_or(&[])
    }

    /// `len` bytes of a frame from `offset` on; empty where that leaves the frame.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub fn bytes_mut<'a>(&'a self, frame: &'a mut Frame, offset: u16, len: u16) -> &'a mut [u8] {
        self.chunk_mut(frame).get_mut(offset as usize..offset as usize + len as usize).unwrap_or(&mut [])
    }

    /// `N` bytes of a frame from `offset` on, as an array: a header. `None` where that
    /// leaves the frame.
    #[inline]
    pub fn header<'a, const N: usize>(&'a self, frame: &'a Frame, offset: u16) -> Option<&'a [u8; N]> {
        self.chunk(frame).get(offset as usize..)?.first_chunk()
    }

    /// `N` bytes of a frame from `offset` on, as an array to write to.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub fn header_mut<'a, const N: usize>(
        &'a self,
        frame: &'a mut Frame,
        offset: u16,
    ) -> Option<&'a mut [u8; N]> {
        self.chunk_mut(frame).get_mut(offset as usize..)?.first_chunk_mut()
    }

    /// Where a port that copies packets puts one of up to `len` bytes: at [`HEADROOM`] or some cache
    /// lines behind it. Frames lie a power of two apart, so that without this the headers of a
    /// burst would share a few sets of the first cache and throw one another out.
    #[inline]
    pub fn landing(&self, frame: &Frame, len: usize) -> u16 {
        let spare = (self.frame_size as usize).saturating_sub(HEADROOM + len);
        // Even and odd frames of 2 KiB differ already.
        let line = frame.index() / 2 % LANDINGS * CACHE_LINE;
        (HEADROOM + if line <= spare { line } else { 0 }) as u16
    }

    /// Has the cache line at `offset` of a frame fetched, to be written to.
    #[inline]
    fn prefetch(&self, frame: &Frame, offset: u16) {
        let (start, len) = self.span(frame);
        if usize::from(offset) < len {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            // SAFETY: a prefetch may name any address; it reads nothing. By name, since the compiler takes the
            // instruction for one that not every CPU has, and makes it one for reading: where it is not known
            // it does nothing.
            unsafe {
                let line = start.wrapping_add(usize::from(offset));
                core::arch::asm!("prefetchw byte ptr [{}]", in(reg) line, options(readonly, nostack, preserves_flags));
            }
            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            let _ = start;
        }
    }

    /// Whether frames follow `head`.
    #[inline]
    pub fn is_chain(&self, head: &Frame) -> bool {
        head.is_chained() && !head.is_none()
    }

    /// Bytes of a frame that is linked into the chain of `head`, or `head` itself, and of those linked
    /// behind it that also lie behind it: `frames` in all.
    #[inline]
    fn linked<'a>(&'a self, head: &'a Frame, at: usize, frames: usize, offset: u16, len: usize) -> &'a [u8] {
        let offset = usize::from(offset);
        if head.is_none() || at + frames > self.count as usize || offset + len > frames << self.shift {
            return &[];
        }
        let start = self.memory.base().as_ptr().wrapping_add((at << self.shift) + offset);
        // SAFETY: the frames are of the area, so `start` and `len` stay within the mapping; otherwise as
        // in `chunk`: who holds a chain's head holds all of its frames, since linking takes the handles
        // in, and the borrow of the head is that of them all.
        unsafe { core::slice::from_raw_parts(start, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(count: u32) -> Arc<FrameStore> {
        FrameStore::new(FrameArea::new(count, 2048).unwrap())
    }

    #[test]
    fn every_frame_is_issued_once() {
        let store = store(8);
        let mut frames: Vec<_> = std::iter::from_fn(|| store.alloc()).collect();
        assert_eq!(frames.len(), 8);
        frames.sort_by_key(|f| f.0);
        frames.dedup();
        assert_eq!(frames.len(), 8);
        assert_eq!(store.area().issue_all().count(), 0);
        frames.into_iter().for_each(|f| store.free(f));
        assert_eq!(store.free_frames(), 8);
    }

    #[test]
    fn frames_do_not_overlap() {
        let store = store(4);
        let mut frames: Vec<_> = std::iter::from_fn(|| store.alloc()).collect();
        for (i, frame) in frames.iter_mut().enumerate() {
            store.area().chunk_mut(frame).fill(i as u8);
        }
        for (i, frame) in frames.iter().enumerate() {
            assert!(store.area().chunk(frame).iter().all(|b| *b == i as u8));
        }
        frames.into_iter().for_each(|f| store.free(f));
    }

    #[test]
    fn bytes_outside_the_frame_are_empty() {
        let store = store(1);
        let frame = store.alloc().unwrap();
        assert_eq!(store.area().bytes(&frame, 2000, 48).len(), 48);
        assert!(store.area().bytes(&frame, 2000, 49).is_empty());
        store.free(frame);
    }

    #[test]
    fn odd_sizes_are_refused() {
        assert!(FrameArea::new(1, 1500).is_err());
        assert!(FrameArea::new(0, 2048).is_err());
    }
}
