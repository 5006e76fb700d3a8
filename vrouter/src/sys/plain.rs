//! Types that the kernel may fill byte by byte.

/// Types that are plain bytes: no padding, no pointers, every bit pattern valid.
///
/// # Safety
/// The implementor is all of that.
pub(super) unsafe trait Plain: Copy {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: an array of bytes.
unsafe impl<const N: usize> Plain for [u8; N] {}
