//! Huge pages for what is measured.

#![allow(unsafe_code, reason = "a system call about memory of others")]

/// Asks Linux for huge pages; see [`fib::FibWriter::advise_memory`].
#[cfg(target_os = "linux")]
pub(crate) fn advise(start: *const u8, bytes: usize) {
    use rustix::mm::{Advice, madvise};
    // SAFETY: this advice changes no content and no access of any memory.
    let advised = unsafe { madvise(start.cast_mut().cast(), bytes, Advice::LinuxHugepage) };
    if let Err(errno) = advised {
        eprintln!("no huge pages: {errno}");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn advise(_: *const u8, _: usize) {}
