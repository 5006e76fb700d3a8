//! The memory area that holds all packet frames.
//!
//! One shared mapping of a memfd: every AF_XDP device registers the same memory as
//! its UMEM, taps read into it and write from it, and a successor process can map
//! it by its descriptor. 2 MiB huge pages are used when enough are free
//! (`vm.nr_hugepages`), plain pages otherwise.
//!
//! Invariant: the file is sealed against resizing and its pages are allocated, so
//! no access inside the mapping can fault.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::OsError;

const HUGE_PAGE: usize = 2 << 20;
const PLAIN_PAGE: usize = 4096;
const NOT_ENOUGH: &str = "lower [memory] frames or free memory";

/// What the area's pages are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageKind {
    /// 2 MiB pages of the kernel's reserved pool.
    Huge,
    /// The machine's ordinary pages.
    Plain,
}

/// A mapped area of zeroed memory, page-aligned, for the life of the value.
#[derive(Debug)]
pub(crate) struct MemoryArea {
    base: NonNull<u8>,
    len: usize,
    mapped: usize,
    page_kind: PageKind,
    fd: OwnedFd,
}

// SAFETY: the value is an address range that stays mapped until drop and holds no
// thread-bound state. It hands out no references: who makes them from `base()`
// answers for their exclusivity.
unsafe impl Send for MemoryArea {}
// SAFETY: as for `Send`; no method changes the value through `&self`.
unsafe impl Sync for MemoryArea {}

impl MemoryArea {
    /// Maps `len` bytes, rounded up to whole pages inside.
    ///
    /// # Errors
    /// `len` is zero, or more than the machine has available.
    pub(crate) fn new(len: usize) -> Result<Self, OsError> {
        if len == 0 {
            return Err(OsError::new("map packet memory", Errno::INVAL).hint("the size must not be zero"));
        }
        // A pool of huge pages that is too small is the normal case, not an error.
        Self::map(len, PageKind::Huge).or_else(|_| Self::map(len, PageKind::Plain))
    }

    fn map(len: usize, page_kind: PageKind) -> Result<Self, OsError> {
        let (page, huge) = match page_kind {
            PageKind::Huge => (HUGE_PAGE, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB),
            PageKind::Plain => (PLAIN_PAGE, MemfdFlags::empty()),
        };
        let step = |what: &str| format!("{what} {} MiB of packet memory", len.div_ceil(1 << 20));
        let mapped =
            len.checked_next_multiple_of(page).ok_or_else(|| OsError::new(step("map"), Errno::OVERFLOW))?;
        // Huge pages come from a pool of their own, where too many are refused. Plain ones
        // would be handed out until the OOM killer comes.
        if page_kind == PageKind::Plain && available_memory().is_some_and(|free| mapped > free) {
            return Err(OsError::new(step("allocate"), Errno::NOMEM).hint(NOT_ENOUGH));
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | huge;
        let fd = rustix::fs::memfd_create("vrouter-frames", flags)
            .map_err(|errno| OsError::new(step("create"), errno))?;
        // fallocate instead of ftruncate: missing memory is an error now, not a
        // SIGBUS on the packet path.
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, mapped as u64)
            .map_err(|errno| OsError::new(step("allocate"), errno).hint(NOT_ENOUGH))?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&fd, seals).map_err(|errno| OsError::new(step("seal"), errno))?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a null hint lets the kernel choose an unused range, so no existing
        // mapping is replaced.
        let base = unsafe { mmap(std::ptr::null_mut(), mapped, prot, flags, &fd, 0) }
            .map_err(|errno| OsError::new(step("map"), errno))?;
        let base = NonNull::new(base.cast()).expect("mmap does not return null without MAP_FIXED");
        Ok(Self { base, len, mapped, page_kind, fd })
    }

    /// The first byte. Valid for reads and writes of [`len`](Self::len) bytes while
    /// the area lives.
    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Usable bytes, as asked for.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of one of its huge pages; 0 where it has plain ones.
    pub(crate) fn huge_page_bytes(&self) -> usize {
        match self.page_kind {
            PageKind::Huge => HUGE_PAGE,
            PageKind::Plain => 0,
        }
    }

    /// Which pages it got.
    pub(crate) fn page_kind(&self) -> PageKind {
        self.page_kind
    }

    /// Bytes mapped: `len` rounded up to whole pages. What devices register.
    pub(crate) fn mapped_len(&self) -> usize {
        self.mapped
    }
}

impl AsFd for MemoryArea {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for MemoryArea {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map` with this length and is unmapped only
        // here. Sockets pin the pages themselves, so the kernel does not depend on it.
        // Failure would leave the range mapped, which is harmless.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

/// Bytes that can be allocated without swapping; `None` when the kernel does not say.
fn available_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_zeroed_writable_memory_and_rounds_up() {
        let area = MemoryArea::new(10_000).unwrap();
        assert_eq!(area.len(), 10_000);
        assert_eq!(area.mapped_len() % PLAIN_PAGE, 0);
        let last = area.base().as_ptr().wrapping_add(area.mapped_len() - 1);
        // SAFETY: inside the mapping; this test holds the only pointer.
        unsafe {
            assert_eq!(last.read(), 0);
            last.write(7);
            assert_eq!(last.read(), 7);
        }
    }

    #[test]
    fn the_file_cannot_shrink_under_the_mapping() {
        let area = MemoryArea::new(1 << 20).unwrap();
        assert_eq!(rustix::fs::ftruncate(area.as_fd(), 0), Err(Errno::PERM));
    }

    #[test]
    fn refusals_name_the_size() {
        assert!(MemoryArea::new(0).is_err());
        assert!(available_memory().is_some_and(|free| free > 1 << 20 && free < 1 << 46));
        let text = MemoryArea::new(1 << 46).unwrap_err().to_string();
        assert!(text.contains("67108864 MiB"), "{text}");
        assert!(MemoryArea::new(usize::MAX).is_err());
    }
}
