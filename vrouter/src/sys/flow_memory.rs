//! The memory of the flow table: anonymous, or a file on tmpfs that outlives the process.
//!
//! ```text
//!   create  NAME.next  a new file of the right size, its pages allocated     the table that is in use
//!   keep    NAME.next -> NAME                                                the flows of the one before are here too
//!   open    NAME       what the process before has left                     read once, then dropped
//! ```
//!
//! Only a regular file of our own user that nobody else may write is opened: its content decides which packets pass.
//! Invariant: the pages of a file that was created are allocated, and files are never made shorter, so no access inside
//! a mapping can fault.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use acl::conntrack::Line;
use rustix::fs::{FallocateFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::OsError;

/// The type of a tmpfs in `statfs`, from `linux/magic.h`.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const PAGE: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;

/// Lines of memory for a flow table, for the life of the value.
#[derive(Debug)]
pub struct FlowMemory {
    base: NonNull<Line>,
    lines: usize,
    /// Where a file that was created is to stand in the end.
    file: Option<PathBuf>,
    /// Whether it stands there.
    kept: AtomicBool,
}

// SAFETY: the value is an address range that stays mapped until drop and holds no thread-bound state. What it gives out
// are references to atomic words.
unsafe impl Send for FlowMemory {}
// SAFETY: as for `Send`.
unsafe impl Sync for FlowMemory {}

impl FlowMemory {
    /// Zeroed memory that ends with the process.
    ///
    /// # Errors
    /// Where there is not enough.
    pub fn anonymous(lines: usize) -> io::Result<Self> {
        let bytes = bytes(lines)?;
        let base = map(None, bytes).map_err(|errno| OsError::new("map memory for flows", errno))?;
        super::huge_pages::advise(base.cast(), bytes);
        Ok(Self::mapped(base, lines, None))
    }

    /// Zeroed memory in a new file beside `path`, which takes its place when it is [kept](Self::keep).
    ///
    /// # Errors
    /// Where the file cannot be made, there is not enough memory, or the file system is not in memory: there, the
    /// kernel would write the table to disk again and again.
    pub fn create(path: &Path, lines: usize) -> io::Result<Self> {
        let bytes = bytes(lines)?;
        let next = beside(path);
        let step = |what: &str| format!("{what} {}", next.display());
        match rustix::fs::unlink(&next) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(OsError::new(step("remove"), errno).into()),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&next, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| OsError::new(step("create"), errno))?;
        let kind = rustix::fs::fstatfs(&fd).map_err(|errno| OsError::new(step("look at"), errno))?.f_type;
        if kind as u64 != TMPFS_MAGIC {
            let _ = rustix::fs::unlink(&next);
            return Err(OsError::new(step("use"), Errno::NOTSUP).hint("it is not on a tmpfs").into());
        }
        if let Err(errno) = rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, bytes as u64) {
            let _ = rustix::fs::unlink(&next);
            return Err(OsError::new(step("allocate"), errno)
                .hint("free memory, or lower [memory] flows")
                .into());
        }
        let base = map(Some(&fd), bytes).map_err(|errno| OsError::new(step("map"), errno))?;
        super::huge_pages::collapse(base.cast(), bytes);
        Ok(Self::mapped(base, lines, Some(path.to_owned())))
    }

    /// What a process before has kept at `path`; `None` where there is nothing.
    ///
    /// # Errors
    /// For a file that is not ours alone, or cannot be mapped.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let step = |what: &str| format!("{what} {}", path.display());
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(OsError::new(step("open"), errno).into()),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| OsError::new(step("look at"), errno))?;
        let others = (Mode::RWXG | Mode::RWXO).as_raw_mode();
        let ours = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == rustix::process::geteuid().as_raw()
            && stat.st_mode & others == 0;
        if !ours {
            return Err(OsError::new(step("use"), Errno::PERM)
                .hint("it is not a file of this user alone")
                .into());
        }
        let lines = usize::try_from(stat.st_size).unwrap_or(0) / size_of::<Line>();
        if lines == 0 {
            return Ok(None);
        }
        let base = map(Some(&fd), bytes(lines)?).map_err(|errno| OsError::new(step("map"), errno))?;
        Ok(Some(Self::mapped(base, lines, None)))
    }

    /// Puts the file where a successor looks for it. Without a file there is nothing to do.
    ///
    /// # Errors
    /// Where it cannot be renamed.
    pub fn keep(&self) -> io::Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        self.kept.store(true, Ordering::Relaxed);
        rustix::fs::rename(beside(path), path)
            .map_err(|errno| OsError::new(format!("put in place {}", path.display()), errno))?;
        Ok(())
    }

    /// Removes the file, which then ends with the process.
    pub fn forget(&self) {
        if let Some(path) = &self.file {
            let _ = rustix::fs::unlink(if self.kept.load(Ordering::Relaxed) {
                path.clone()
            } else {
                beside(path)
            });
        }
    }

    fn mapped(base: *mut core::ffi::c_void, lines: usize, file: Option<PathBuf>) -> Self {
        let base = NonNull::new(base.cast()).expect("mmap does not return null without MAP_FIXED");
        FlowMemory { base, lines, file, kept: AtomicBool::new(false) }
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_added_extension("next")
}

fn bytes(lines: usize) -> Result<usize, OsError> {
    match lines.checked_mul(size_of::<Line>()) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(OsError::new("map memory for flows", Errno::OVERFLOW)),
    }
}

/// Maps a file, or anonymous memory, from a multiple of a huge page on: elsewhere, a file can have none.
fn map(fd: Option<&OwnedFd>, bytes: usize) -> rustix::io::Result<*mut core::ffi::c_void> {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    let room = bytes.checked_add(HUGE_PAGE).ok_or(Errno::OVERFLOW)?;
    // SAFETY: a null hint lets the kernel choose an unused range, so no existing mapping is replaced.
    let start = unsafe { mmap_anonymous(std::ptr::null_mut(), room, ProtFlags::empty(), MapFlags::PRIVATE) }?;
    let before = start.align_offset(HUGE_PAGE);
    let base = start.wrapping_byte_add(before);
    // SAFETY: replaces a part of the range that was mapped above: `before` is below HUGE_PAGE.
    let mapped = unsafe {
        match fd {
            Some(fd) => mmap(base, bytes, prot, MapFlags::SHARED | MapFlags::FIXED, fd, 0),
            None => mmap_anonymous(base, bytes, prot, MapFlags::PRIVATE | MapFlags::FIXED),
        }
    };
    let used = if mapped.is_ok() { bytes.next_multiple_of(PAGE) } else { 0 };
    // SAFETY: the parts of the range on both sides, which nothing uses. `start` is at the start of a page, hence so is
    // `base`.
    unsafe {
        if before > 0 {
            let _ = munmap(start, before);
        }
        let _ = munmap(base.wrapping_byte_add(used), room - before - used);
    }
    mapped
}

impl Deref for FlowMemory {
    type Target = [Line];

    #[inline]
    fn deref(&self) -> &[Line] {
        // SAFETY: `base` is the page-aligned start of a mapping of `lines` lines, readable and writable until drop. A
        // line is 64 bytes of atomic words by its representation, of which any are valid, so that it does not matter
        // what the pages hold or who else maps them.
        unsafe { core::slice::from_raw_parts(self.base.as_ptr(), self.lines) }
    }
}

impl Drop for FlowMemory {
    fn drop(&mut self) {
        // SAFETY: the range was mapped with this length and is unmapped only here.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.lines * size_of::<Line>()) };
        if !self.kept.load(Ordering::Relaxed) {
            self.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use acl::conntrack::{Capacity, Conntrack, Settings};

    /// A name on a tmpfs that no other test uses.
    fn path(name: &str) -> PathBuf {
        PathBuf::from(format!("/dev/shm/vrouter-test-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_file_is_found_once_it_is_kept() {
        let path = path("kept");
        let capacity = Capacity { flows: 100, endpoints: 4 };
        let lines = capacity.lines().unwrap();
        assert!(FlowMemory::open(&path).unwrap().is_none());
        let memory = FlowMemory::create(&path, lines).unwrap();
        let table = Conntrack::create(memory, capacity, [1, 2], &Settings::of(capacity)).unwrap();
        assert!(FlowMemory::open(&path).unwrap().is_none());
        let memory = table.into_memory();
        memory.keep().unwrap();
        drop(memory);
        let left = FlowMemory::open(&path).unwrap().unwrap();
        assert_eq!(left.len(), lines);
        let table = Conntrack::new(capacity, [3, 4], &Settings::of(capacity)).unwrap();
        let now = acl::conntrack::Tick::from_millis(1);
        assert_eq!(table.take_over(&left, now, |_| None), Ok(Default::default()));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_of_others_is_refused() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let (path, target) = (path("open"), path("target"));
        std::fs::write(&path, [0; 4096]).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o622)).unwrap();
        assert!(FlowMemory::open(&path).is_err());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(FlowMemory::open(&path).unwrap().unwrap().len(), 64);
        std::fs::rename(&path, &target).unwrap();
        symlink(&target, &path).unwrap();
        assert!(FlowMemory::open(&path).is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&target).unwrap();
    }

    #[test]
    fn anonymous_memory_is_zeroed() {
        let memory = FlowMemory::anonymous(100).unwrap();
        assert_eq!(memory.len(), 100);
        assert!(FlowMemory::anonymous(0).is_err());
        assert!(FlowMemory::anonymous(usize::MAX).is_err());
    }
}
