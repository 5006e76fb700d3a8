//! Tells the processor which lines will be needed. It is a hint: it changes nothing but the cache.
#![allow(unsafe_code)]

use super::memory::Line;

/// Fetches a line into the first cache.
#[inline(always)]
#[cfg(all(target_arch = "x86_64", not(feature = "loom")))]
pub(super) fn line(line: &Line) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every x86-64 processor has the instruction, it faults on no address, and reads nothing into a register.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(line).cast()) }
}

/// Elsewhere the processor finds out for itself.
#[inline(always)]
#[cfg(not(all(target_arch = "x86_64", not(feature = "loom"))))]
pub(super) fn line(_: &Line) {}
