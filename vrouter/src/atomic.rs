//! What publication is built on. `fib/tests/publish_loom.rs` takes `publish.rs` as it stands and
//! puts the model checker's types in place of these.

pub(crate) use core::sync::atomic::{AtomicU64, Ordering, fence};

pub(crate) use arc_swap::ArcSwap;
