//! `net.*` kernel settings of the calling thread's network namespace.
//!
//! The kernel shows each thread the settings of its own namespace below
//! `/proc/sys/net`; device names are path components there, so that names with dots
//! need no escape.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A setting that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`: {source}", path.display())]
pub struct SysctlError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl SysctlError {
    /// Whether the setting is not there: no such device, or no such protocol in
    /// this kernel.
    pub fn is_absent(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// The value of `net/KEY`, without its newline.
pub(super) fn read(key: &str) -> Result<String, SysctlError> {
    let path = path(key);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(source) => Err(SysctlError { action: "read", path, source }),
    }
}

/// Sets `net/KEY`. A value that stands already is not written again: several
/// settings act on being written.
pub(super) fn write(key: &str, value: &str) -> Result<(), SysctlError> {
    if read(key)? == value {
        return Ok(());
    }
    let path = path(key);
    fs::write(&path, value).map_err(|source| SysctlError { action: "write", path, source })
}

fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(key)
}
