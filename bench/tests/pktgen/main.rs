//! `vrouter-pktgen` as its users run it: files, a wire in memory, a kernel router in namespaces.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]

mod files;
mod kernel_router;
mod schema;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// The program with these arguments.
fn pktgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vrouter-pktgen"));
    command.args(arguments);
    command
}

/// What it prints as JSON, which fits the schema.
fn json(command: &mut Command) -> Value {
    let output = command.args(["-o", "json"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    let value = serde_json::from_slice(&output.stdout).unwrap();
    schema::check(&value);
    value
}

/// What it says when it refuses.
fn refusal(arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = pktgen(arguments).output().unwrap();
    assert!(!status.success(), "{arguments:?} is refused");
    String::from_utf8(stderr).unwrap()
}

/// A directory of one test, gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pktgen-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_wire_in_memory_loses_nothing() {
    // Slow enough for the wire to hold what is sent while the receiver stands still.
    let amount = ["--count", "6000", "--rate", "10k", "--size", "imix"];
    let found = json(pktgen(&["loop", "--port", "memory:a"]).args(amount));
    let sent = found["sent"]["packets"].as_u64().unwrap();
    assert_eq!((sent + found["sent"]["refused"].as_u64().unwrap(), found["lost"].as_u64()), (6000, Some(0)));
    let received = &found["received"];
    assert_eq!(received["packets"], sent);
    let irregular = ["duplicates", "reordered", "reordered_in_flow", "foreign"];
    assert!(irregular.iter().all(|field| received[field] == 0), "{received}");
    let buckets = received["latency_ns"]["histogram"].as_array().unwrap();
    assert_eq!(buckets.iter().map(|pair| pair[1].as_u64().unwrap()).sum::<u64>(), sent);
}

#[test]
fn a_search_reports_bounds_and_draws_them() {
    let scratch = Scratch::new("search");
    let plot = scratch.file("search.svg");
    for method in ["mlr", "rfc2544"] {
        let arguments = ["search", "--port", "memory:a", "--method", method, "--duration", "0.1"];
        let rates = ["--max-rate", "20k", "--width", "10", "--drain", "0.05", "--plot", &plot];
        let found = json(&mut pktgen(&[&arguments[..], &rates].concat()));
        assert_eq!(found["method"], method);
        assert_eq!(found["goals"][0]["name"], "ndr");
        assert!(!found["trials"].as_array().unwrap().is_empty());
        // The wire carries far more than that, unless this machine stood still meanwhile.
        if let Some(rate) = found["goals"][1]["packets_per_second"].as_f64() {
            assert!(rate > 0.0 && rate <= 20_000.0, "{rate}");
            assert_eq!(found["at_load"].as_array().unwrap().len(), 3);
        }
        assert!(std::fs::read_to_string(&plot).unwrap().starts_with("<svg"));
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_reason() {
    for (arguments, reason) in [
        (&["loop", "--port", "memory:a", "--rate", "0"][..], "above 0"),
        (&["loop", "--tx", "memory:a"], "--rx"),
        (&["loop", "--tx", "pcap:/tmp/x", "--rx", "memory:a"], "nothing that is sent comes back"),
        (&["tx", "--port", "memif:x"], "memif: this release"),
        (&["tx", "--port", "pcap:/nowhere/x", "--count", "1"], "/nowhere/x"),
        (&["tx", "--port", "pcap:/tmp/x"], "--count"),
        (&["tx", "--port", "af_xdp:no-such-device", "--dst-mac", "02:00:00:00:00:01"], "no-such-device"),
        (&["tx", "--port", "memory:a", "--dst", "::1", "--src", "10.0.0.1"], "one address family"),
        (&["tx", "--port", "memory:a", "--size", "10"], "from 64 to 1518"),
        (&["tx", "--port", "memory:a", "--zipf=-1"], "positive"),
        (
            &["tx", "--port", "memory:a", "--dst", "10.0.0.0/8", "--zipf", "1", "--src-ports", "1-2"],
            "at most",
        ),
        (
            &["search", "--port", "memory:a", "--min-rate", "2k", "--max-rate", "1k"],
            "--min-rate must be below --max-rate: 2000",
        ),
        (&["search", "--port", "memory:a", "--width", "0"], "above 0"),
        (
            &["search", "--port", "memory:a", "--method", "rfc2544", "--first-duration", "1"],
            "every trial of rfc2544 has the full length",
        ),
        (
            &["search", "--port", "memory:a", "--duration", "1", "--first-duration", "2"],
            "--first-duration must not be above --duration: 2 s are above 1 s",
        ),
        (&["loop", "--port", "memory:a", "--count", "0"], "0 is not in 1"),
        (&["rx", "--port", "memory:a", "--count", "0"], "0 is not in 1"),
        (&["loop", "--count", "1"], "--port"),
        (&["loop", "--port", "memory:"], "a name is missing behind memory:\n"),
        (
            &["loop", "--port", "memory:a", "--duration", "soon"],
            "'soon' for '--duration <DURATION>': expected",
        ),
        (
            &["tx", "--port", "memory:a", "--zipf", "steep"],
            "'steep' for '--zipf <EXPONENT>': expected a positive",
        ),
        (&["tx", "--port", "memory:a", "--size", "64,big"], "\"big\" is no frame size"),
        (&["tx", "--port", "memory:a", "--address", "10.0.0.1/24"], "--next-hop"),
    ] {
        let text = refusal(arguments);
        assert!(text.contains(reason), "{arguments:?}: {text}");
    }
}

/// What is in the way of a plot is said before anything is sent, and nothing is left of one that is not drawn.
#[test]
fn a_plot_is_made_room_for_before_the_run() {
    let text = refusal(&["loop", "--port", "memory:a", "--plot", "/nowhere/plot.svg"]);
    assert!(text.contains("--plot /nowhere/plot.svg: "), "{text}");
    assert!(refusal(&["tx", "--port", "memory:a", "--plot", "/tmp/x.svg"]).contains("nothing to draw"));
    let scratch = Scratch::new("no-plot");
    let plot = scratch.file("plot.svg");
    assert!(
        refusal(&["loop", "--port", "af_xdp:no-such-device", "--plot", &plot]).contains("no-such-device")
    );
    assert!(!std::fs::exists(&plot).unwrap());
}
