//! Large memory in one piece, allocated so that the kernel can give it huge pages.
//!
//! ```text
//!            2 MiB           2 MiB           2 MiB
//!  ............|...............|...............|.....
//!      [ items                                    ]
//!              [ told to the embedder         ]   before any item is written
//! ```
//!
//! A lookup table is read all over. In pages of 4 KiB the front takes 8,192 entries of the TLB,
//! more than there are, and its pages lie wherever others have left room; in pages of 2 MiB it
//! takes 16. Linux gives those to ranges that were advised (`madvise` with `MADV_HUGEPAGE`), if
//! they are aligned and not touched yet. This crate makes no system calls: it calls
//! [`AdviseMemory`] between allocating and writing. What lies outside of whole huge pages, less
//! than 2 MiB at either end, stays in small ones: aligning the items instead would cost memory,
//! and each lookup an offset.

/// What is told about memory that was allocated and not written yet: its first byte and how many
/// there are. See [`FibWriter::advise_memory`](crate::FibWriter::advise_memory).
pub type AdviseMemory = fn(start: *const u8, bytes: usize);

/// The huge pages of x86-64, and of AArch64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// Memory of `len` items. What of it is whole huge pages is told about, if `advise` is given.
pub(crate) fn allocate<T>(len: usize, advise: Option<AdviseMemory>, item: impl FnMut() -> T) -> Box<[T]> {
    let mut items: Vec<T> = Vec::with_capacity(len);
    let start = items.as_ptr().addr();
    let first = start.next_multiple_of(HUGE_PAGE);
    let end = (start + len * size_of::<T>()) / HUGE_PAGE * HUGE_PAGE;
    if let Some(advise) = advise
        && first < end
    {
        advise(items.as_ptr().cast::<u8>().wrapping_add(first - start), end - first);
    }
    items.resize_with(len, item);
    items.into_boxed_slice()
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
    #[cfg_attr(miri, ignore = "millions of items")]
    fn whole_huge_pages_are_told_about_once() {
        for len in [2 << 20, (2 << 20) + 1, 5 << 20] {
            let mut next = 0_u16;
            let items = allocate(len, Some(note), || {
                next = next.wrapping_add(1);
                next
            });
            let (start, end) = (items.as_ptr().addr(), items.as_ptr().addr() + 2 * len);
            let [(told, bytes)] = TOLD.take()[..] else { panic!("told once") };
            assert!(told.is_multiple_of(HUGE_PAGE) && bytes.is_multiple_of(HUGE_PAGE) && bytes > 0);
            assert!(told >= start && told - start < HUGE_PAGE);
            assert!(told + bytes <= end && end - (told + bytes) < HUGE_PAGE);
            assert_eq!(items.len(), len);
            assert!(items.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "millions of items")]
    fn others_are_not_told_about() {
        assert_eq!(allocate((1 << 20) - 1, Some(note), || 7_u16).len(), (1 << 20) - 1);
        assert_eq!(allocate(1 << 24, None, || 7_u16).len(), 1 << 24);
        assert!(TOLD.take().is_empty());
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
        let items = allocate(32 << 20, Some(untouched), || 1_u16);
        assert_eq!(resident(items.as_ptr().cast(), 64 << 20), (64 << 20) / 4096);
    }
}
