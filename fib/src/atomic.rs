//! What the table is built on: the atomics of the machine.
//!
//! With feature `loom` it is built on loom's types and can only run inside `loom::model`.

#[cfg(not(feature = "loom"))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering};
#[cfg(feature = "loom")]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering};
