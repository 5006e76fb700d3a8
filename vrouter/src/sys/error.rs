//! The error of one step asked of the kernel: what, on which object, why.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// A step that the kernel refused.
///
/// Displays as `bind to queue 0 of eth1: Device or resource busy (os error 16): the
/// queue has another AF_XDP socket`.
#[derive(Debug)]
pub(crate) struct OsError {
    step: String,
    hint: &'static str,
    source: io::Error,
}

impl OsError {
    pub(crate) fn new(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { step: step.into(), hint: "", source: source.into() }
    }

    /// Adds what the error number means at this step; empty for nothing to add.
    pub(crate) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }

    /// The error number, as `libc::E*`.
    pub(crate) fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.source)?;
        if !self.hint.is_empty() {
            write!(f, ": {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for OsError {}

impl From<OsError> for io::Error {
    fn from(error: OsError) -> Self {
        io::Error::new(error.source.kind(), error)
    }
}

/// What the calling thread's last C library call failed with.
pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
