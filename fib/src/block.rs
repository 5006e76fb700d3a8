//! Large memory in one piece, laid out so that the kernel can give it huge pages.
//!
//! ```text
//!            2 MiB           2 MiB           2 MiB
//!  ............|...............|...............|.....
//!      [ slack [ items                         ]slack ]
//!              ^ start, told to the embedder before any item is written
//! ```
//!
//! A lookup table is read all over. In pages of 4 KiB the front takes 8,192 entries of the TLB,
//! more than there are, and its pages lie wherever others have left room; in pages of 2 MiB it
//! takes 16. Linux gives those to ranges that were advised (`madvise` with `MADV_HUGEPAGE`), if
//! they are aligned and not touched yet. This crate makes no system calls: it aligns the items
//! and calls [`AdviseMemory`] between allocating and writing.
//!
//! The slack behind the items is never written and so takes no memory where pages are made on
//! first use; the slack before them takes what it is, less than 2 MiB.

/// What is told about memory that was allocated and not written yet: its first byte and how many
/// there are. See [`FibWriter::advise_memory`](crate::FibWriter::advise_memory).
pub type AdviseMemory = fn(start: *const u8, bytes: usize);

/// The huge pages of x86-64, and of AArch64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// Items that stay where they are.
pub(crate) struct Block<T> {
    /// What comes before `first` is slack.
    all: Vec<T>,
    first: usize,
}

impl<T> Block<T> {
    /// `len` items. A block of a huge page or more is aligned and told about, if `advise` is given.
    pub(crate) fn new(len: usize, advise: Option<AdviseMemory>, item: impl FnMut() -> T) -> Self {
        const { assert!(HUGE_PAGE.is_multiple_of(size_of::<T>()) && size_of::<T>() == align_of::<T>()) }
        let mut all: Vec<T> = Vec::with_capacity(len + Self::slack(len, advise));
        let mut first = 0;
        if let Some(advise) = advise.filter(|_| Self::slack(len, advise) > 0) {
            let start = all.as_ptr().addr().next_multiple_of(HUGE_PAGE);
            first = (start - all.as_ptr().addr()) / size_of::<T>();
            advise(all.as_ptr().wrapping_add(first).cast(), len * size_of::<T>());
        }
        all.resize_with(first + len, item);
        Self { all, first }
    }

    /// Items by which an allocation exceeds the `len` asked for.
    const fn slack(len: usize, advise: Option<AdviseMemory>) -> usize {
        let large = len * size_of::<T>() >= HUGE_PAGE;
        if large && advise.is_some() { HUGE_PAGE / size_of::<T>() } else { 0 }
    }

    /// Bytes that a block of `len` items takes at most.
    pub(crate) const fn bytes_for(len: usize, advise: Option<AdviseMemory>) -> usize {
        (len + Self::slack(len, advise)) * size_of::<T>()
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<T>()
    }

    #[inline(always)]
    pub(crate) fn items(&self) -> &[T] {
        &self.all[self.first..]
    }

    #[inline(always)]
    pub(crate) fn item(&self, index: usize) -> &T {
        &self.all[self.first + index]
    }

    /// The first item. Valid for reading all of them.
    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *const T {
        self.all.as_ptr().wrapping_add(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    thread_local! {
        static TOLD: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) };
    }

    fn note(start: *const u8, bytes: usize) {
        TOLD.with_borrow_mut(|told| told.push((start.addr(), bytes)));
    }

    #[test]
    fn large_blocks_are_aligned_and_told_about_once() {
        for len in [1 << 20, (1 << 20) + 1, 3 << 20] {
            let mut next = 0_u16;
            let block = Block::new(len, Some(note), || {
                next = next.wrapping_add(1);
                next
            });
            assert!(block.as_ptr().addr().is_multiple_of(HUGE_PAGE));
            assert_eq!(TOLD.take(), [(block.as_ptr().addr(), 2 * len)]);
            assert_eq!(block.items().len(), len);
            assert_eq!(block.items().as_ptr(), block.as_ptr());
            assert_eq!(block.item(len - 1), &block.items()[len - 1]);
            let mut items = block.items().windows(2);
            assert!(items.all(|pair| pair[1] == pair[0].wrapping_add(1)));
            assert_eq!(block.bytes(), Block::<u16>::bytes_for(len, Some(note)));
        }
    }

    #[test]
    fn others_take_what_they_need() {
        let small = Block::new((1 << 20) - 1, Some(note), || 7_u16);
        let plain = Block::new(1 << 20, None, || 7_u16);
        assert!(TOLD.take().is_empty());
        assert_eq!((small.bytes(), plain.bytes()), ((2 << 20) - 2, 2 << 20));
        assert_eq!((small.items().len(), plain.items().len()), ((1 << 20) - 1, 1 << 20));
    }

    /// The advice comes in time: Linux knows no page of the block by then.
    #[test]
    #[cfg(all(target_os = "linux", not(miri)))]
    fn nothing_is_written_before_it_is_told_about() {
        fn resident(start: *const u8, bytes: usize) -> usize {
            use std::os::unix::fs::FileExt;
            let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
            let mut entries = vec![0; bytes / 4096 * 8];
            pagemap.read_exact_at(&mut entries, (start.addr() / 4096 * 8) as u64).unwrap();
            // Bit 63 of an entry: the page is in memory.
            entries.chunks(8).filter(|entry| entry[7] >> 7 == 1).count()
        }
        // More than an allocator keeps for the next one who asks.
        let untouched = |start, bytes| assert_eq!(resident(start, bytes), 0);
        let block = Block::new(32 << 20, Some(untouched), || 1_u16);
        assert_eq!(resident(block.as_ptr().cast(), 64 << 20), (64 << 20) / 4096);
    }
}
