//! One side of an AF_XDP ring: entries in memory shared with the kernel.
//!
//! ```text
//!   fill, tx         we produce, the kernel consumes    Producer
//!   rx, completion   the kernel produces, we consume    Consumer
//!
//!   mapping:  | producer u32 | consumer u32 | flags u32 | entries[size] |
//!             (offsets by XDP_MMAP_OFFSETS; each index on a cache line of its own)
//! ```
//!
//! Indices run freely over u32 and are masked by the size, a power of two. Each
//! side writes its own index only, so a cached copy of it is always right; the
//! other side's index is read again only when the cached copy does not suffice.
//! A batch costs one acquire load at most and one release store.
//!
//! Source: the kernel's `Documentation/networking/af_xdp.rst` and `net/xdp/xsk_queue.h`.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The mapping of one ring and pointers into it.
#[derive(Debug)]
struct Ring<T> {
    base: NonNull<u8>,
    len: usize,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
}

// SAFETY: the pointers lead into a mapping that the value owns until drop, and no
// part of it is bound to a thread.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    /// Maps the ring at `page_offset` of the socket `fd`.
    ///
    /// `size` and `offsets` must be those of that ring, `T` its entry type.
    fn map(
        fd: BorrowedFd<'_>,
        page_offset: u64,
        size: u32,
        offsets: &libc::xdp_ring_offset,
    ) -> Result<Self, Errno> {
        let len = offsets.desc as usize + size as usize * size_of::<T>();
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a null hint lets the kernel choose an unused range.
        let base = unsafe { mmap(std::ptr::null_mut(), len, prot, flags, fd, page_offset) }?;
        let base = NonNull::new(base.cast::<u8>()).expect("mmap does not return null without MAP_FIXED");
        // SAFETY: the offsets are the kernel's own for this mapping, so all of them lie
        // inside `len` bytes and are aligned for what they lead to.
        let (producer, consumer, flags, entries) = unsafe {
            (
                base.add(offsets.producer as usize).cast(),
                base.add(offsets.consumer as usize).cast(),
                base.add(offsets.flags as usize).cast(),
                base.add(offsets.desc as usize).cast(),
            )
        };
        Ok(Self { base, len, producer, consumer, flags, entries, size })
    }
}

impl<T> Ring<T> {
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: inside the mapping, aligned, and both sides access it atomically.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn needs_wakeup(&self) -> bool {
        // SAFETY: as for `producer`.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// The position of `index` and how many of `count` entries lie before the end.
    fn runs(&self, index: u32, count: usize) -> (usize, usize) {
        let start = (index & (self.size - 1)) as usize;
        (start, count.min(self.size as usize - start))
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, unmapped only here. Failure would
        // leave the range mapped, which is harmless.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Our side of a ring that the kernel consumes.
#[derive(Debug)]
pub(super) struct Producer<T> {
    ring: Ring<T>,
    produced: u32,
    consumed_seen: u32,
}

impl<T: Copy> Producer<T> {
    pub(super) fn map(
        fd: BorrowedFd<'_>,
        page_offset: u64,
        size: u32,
        offsets: &libc::xdp_ring_offset,
    ) -> Result<Self, Errno> {
        let ring = Ring::map(fd, page_offset, size, offsets)?;
        Ok(Self { ring, produced: 0, consumed_seen: 0 })
    }

    fn free_seen(&self) -> u32 {
        let used = self.produced.wrapping_sub(self.consumed_seen);
        self.ring.size.saturating_sub(used)
    }

    /// Entries that can be pushed now.
    #[inline]
    pub(super) fn free(&mut self) -> usize {
        // Acquire: the kernel has read an entry before it is written again.
        self.consumed_seen = self.ring.consumer().load(Ordering::Acquire);
        self.free_seen() as usize
    }

    /// Entries that the kernel has not taken yet.
    #[inline]
    pub(super) fn pending(&mut self) -> usize {
        self.ring.size as usize - self.free()
    }

    /// Pushes the first entries of `items` that fit; how many.
    #[inline]
    pub(super) fn push(&mut self, items: &[T]) -> usize {
        let mut count = items.len().min(self.free_seen() as usize);
        if count < items.len() {
            count = items.len().min(self.free());
        }
        if count == 0 {
            return 0;
        }
        let (start, first) = self.ring.runs(self.produced, count);
        let entries = self.ring.entries.as_ptr();
        // SAFETY: both runs lie inside the entries, since `start + first` and
        // `count - first` are at most the ring's size; these entries are free, so the
        // kernel does not read them until the release store below.
        unsafe {
            entries.add(start).copy_from_nonoverlapping(items.as_ptr(), first);
            entries.copy_from_nonoverlapping(items.as_ptr().add(first), count - first);
        }
        self.produced = self.produced.wrapping_add(count as u32);
        self.ring.producer().store(self.produced, Ordering::Release);
        count
    }

    /// Whether the kernel waits for a system call before it looks at the ring.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }
}

/// Our side of a ring that the kernel produces.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    ring: Ring<T>,
    consumed: u32,
    produced_seen: u32,
}

impl<T: Copy> Consumer<T> {
    pub(super) fn map(
        fd: BorrowedFd<'_>,
        page_offset: u64,
        size: u32,
        offsets: &libc::xdp_ring_offset,
    ) -> Result<Self, Errno> {
        let ring = Ring::map(fd, page_offset, size, offsets)?;
        Ok(Self { ring, consumed: 0, produced_seen: 0 })
    }

    fn available_seen(&self) -> usize {
        self.produced_seen.wrapping_sub(self.consumed).min(self.ring.size) as usize
    }

    /// Entries that can be popped now.
    #[inline]
    pub(super) fn available(&mut self) -> usize {
        // Acquire: the entries are written before the index that names them.
        self.produced_seen = self.ring.producer().load(Ordering::Acquire);
        self.available_seen()
    }

    /// Copies the oldest entries to `out`, as many as there are and fit, and leaves them; how many.
    #[inline]
    pub(super) fn look(&mut self, out: &mut [T]) -> usize {
        self.available();
        self.copy(out)
    }

    /// Moves the oldest entries into `out`, as many as there are and fit; how many.
    #[inline]
    pub(super) fn pop(&mut self, out: &mut [T]) -> usize {
        if self.available_seen() < out.len() {
            self.available();
        }
        let count = self.copy(out);
        if count > 0 {
            self.consumed = self.consumed.wrapping_add(count as u32);
            self.ring.consumer().store(self.consumed, Ordering::Release);
        }
        count
    }

    /// Copies the oldest of the entries that have been seen.
    #[inline]
    fn copy(&self, out: &mut [T]) -> usize {
        let count = self.available_seen().min(out.len());
        let (start, first) = self.ring.runs(self.consumed, count);
        let entries = self.ring.entries.as_ptr();
        // SAFETY: both runs lie inside the entries, since `start + first` and `count - first` are at most the
        // ring's size, and inside `out`; the kernel does not write these entries again before `pop` has stored
        // that they are consumed, which releases them. `T` is plain integers, for which every bit pattern is
        // valid.
        unsafe {
            entries.add(start).copy_to_nonoverlapping(out.as_mut_ptr(), first);
            entries.copy_to_nonoverlapping(out.as_mut_ptr().add(first), count - first);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use std::os::fd::AsFd;

    const SIZE: u32 = 8;
    const OFFSETS: libc::xdp_ring_offset =
        libc::xdp_ring_offset { producer: 0, consumer: 64, flags: 128, desc: 192 };

    /// A ring whose other side is ours as well, over a plain file.
    fn pair() -> (Producer<u64>, Consumer<u64>) {
        let fd = memfd_create("ring", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, 4096).unwrap();
        (
            Producer::map(fd.as_fd(), 0, SIZE, &OFFSETS).unwrap(),
            Consumer::map(fd.as_fd(), 0, SIZE, &OFFSETS).unwrap(),
        )
    }

    #[test]
    fn entries_come_out_in_order_across_every_wrap() {
        let (mut producer, mut consumer) = pair();
        let mut next_in = 0u64;
        let mut next_out = 0u64;
        for round in 0..500usize {
            let items: Vec<u64> = (next_in..next_in + (round % 11) as u64).collect();
            let pushed = producer.push(&items);
            assert_eq!(pushed, items.len().min((SIZE as u64 - (next_in - next_out)) as usize));
            next_in += pushed as u64;
            assert_eq!(consumer.available() as u64, next_in - next_out);
            let mut shown = [0; 16];
            let looked = consumer.look(&mut shown[..round * 7 % 13]);
            let mut out = [0; 16];
            let popped = consumer.pop(&mut out[..round * 7 % 13]);
            assert_eq!((looked, shown), (popped, out));
            assert_eq!(popped, (round * 7 % 13).min((next_in - next_out) as usize));
            for value in &out[..popped] {
                assert_eq!(*value, next_out);
                next_out += 1;
            }
            assert_eq!(producer.free() as u64, SIZE as u64 - (next_in - next_out));
        }
        assert!(next_out > 1000);
    }

    #[test]
    fn indices_wrap_over_u32() {
        let (mut producer, mut consumer) = pair();
        let near_end = u32::MAX - 2;
        producer.ring.producer().store(near_end, Ordering::Relaxed);
        producer.ring.consumer().store(near_end, Ordering::Relaxed);
        (producer.produced, producer.consumed_seen) = (near_end, near_end);
        (consumer.consumed, consumer.produced_seen) = (near_end, near_end);
        assert_eq!(producer.push(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), 8);
        let mut out = [0; 9];
        assert_eq!(consumer.pop(&mut out), 8);
        assert_eq!(out, [1, 2, 3, 4, 5, 6, 7, 8, 0]);
        assert_eq!(producer.free(), 8);
    }

    #[test]
    fn wakeup_flag() {
        let (producer, _consumer) = pair();
        assert!(!producer.needs_wakeup());
        // SAFETY: inside the test's own mapping.
        unsafe { producer.ring.flags.as_ref() }.store(1, Ordering::Relaxed);
        assert!(producer.needs_wakeup());
    }
}
