//! Replays the saved inputs of the fuzz targets, and those that failed once.
#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

// Files of another library: public there.
#[allow(unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod targets;

fn replay(target: &str, run: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut replayed = 0;
    for folder in ["corpus", "regressions"] {
        // A target that never failed has no regressions.
        let Ok(inputs) = std::fs::read_dir(fuzz.join(folder).join(target)) else { continue };
        for input in inputs {
            let path = input.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            let outcome = catch_unwind(AssertUnwindSafe(|| run(&data)));
            assert!(outcome.is_ok(), "{} fails", path.display());
            replayed += 1;
        }
    }
    assert!(replayed > 10, "the saved inputs of {target} are not there");
}

#[test]
fn frame_parser() {
    replay("frame_parser", targets::frame_parser::run);
}

#[test]
fn pipeline() {
    replay("pipeline", targets::pipeline::run);
}

#[test]
fn config() {
    replay("config", targets::config::run);
}

#[test]
fn resource() {
    replay("resource", targets::resource::run);
}

#[test]
fn neighbor() {
    replay("neighbor", targets::neighbor::run);
}

#[test]
fn selector() {
    replay("selector", targets::selector::run);
}

#[test]
fn program() {
    replay("program", targets::program::run);
}

#[test]
fn super_packets() {
    replay("super_packets", targets::super_packets::run);
}
