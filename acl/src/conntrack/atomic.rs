//! The atomic words of the table, and those of the model checker that tries every order of them.
//!
//! With feature `loom` the table is built on loom's types and can only run inside `loom::model`.

#[cfg(not(feature = "loom"))]
pub(super) use core::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(feature = "loom")]
pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// Waits a moment for another thread to leave a short critical section.
#[inline]
pub(super) fn relax() {
    #[cfg(not(feature = "loom"))]
    core::hint::spin_loop();
    #[cfg(feature = "loom")]
    loom::thread::yield_now();
}
