//! setsockopt, getsockopt and bind for AF_XDP and packet sockets, which rustix does not cover.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;

use super::error::last_errno;
use super::plain::Plain;

/// Sets an option to `value`.
pub(super) fn set<T: Copy>(
    fd: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> Result<(), Errno> {
    let len = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: `value` is valid for reads of `len` bytes.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value, len) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Reads an option at level `SOL_XDP`. What an older kernel does not fill is zero.
pub(super) fn get<T: Plain>(fd: &OwnedFd, name: libc::c_int) -> Result<T, Errno> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    let out = value.as_mut_ptr().cast();
    // SAFETY: `out` is valid for writes of `len` bytes.
    match unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, name, out, &mut len) } {
        // SAFETY: zeroed above, and `Plain` types are valid for every bit pattern.
        0 => Ok(unsafe { value.assume_init() }),
        _ => Err(last_errno()),
    }
}

/// Binds to an address of the socket's family.
pub(super) fn bind<T: Copy>(fd: &OwnedFd, address: &T) -> Result<(), Errno> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `address` is valid for reads of `len` bytes.
    match unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(address).cast(), len) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}
