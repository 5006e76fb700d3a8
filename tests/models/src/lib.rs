//! The parts of the workers that threads share, run in every order that the memory model allows:
//!
//! `cargo test --release --manifest-path tests/models/Cargo.toml`
//!
//! | model | what is compiled here on loom's atomics | promise |
//! |---|---|---|
//! | `publish` | `vrouter/src/publish/grace.rs` | nobody looks at what was reclaimed, sleepers included |
//! | `sleep` | `vrouter/src/worker/handoff/sleep.rs` | work handed over is never slept through |
//! | `rebalance` | `vrouter/src/worker/rebalance/gates.rs` | a queue, and a frame handed over before, has one owner at any time; an attempt that is called off moves nothing |
//!
//! The sources themselves are included, so that a model cannot differ from what runs.
#![cfg(test)]
#![allow(dead_code, reason = "a model uses a part of what its source offers")]

mod publish;
mod rebalance;
mod sleep;
