//! `bench`: a look at this machine, without a router, a device of the node, or anything left behind.

use std::process::Command;

use crate::{Directory, vrctl_in};

fn namespaces() -> String {
    let output = Command::new("ip").args(["netns", "list"]).output().expect("iproute2 is installed");
    String::from_utf8(output.stdout).expect("names are UTF-8")
}

#[test]
fn memory_alone_needs_nothing() {
    let directory = Directory::new("bench-memory");
    let run = vrctl_in(&directory, "bench --memory-only --duration 0.2 -o json");
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    let found: serde_json::Value = serde_json::from_str(&run.out).expect("one object");
    assert_eq!(found["veth"]["skipped"], "not asked for");
    for name in ["IPv4 forward", "IPv4 into IPIP"] {
        let rate = found["memory"][name]["packets_per_second"].as_f64().expect("a rate");
        assert!(rate > 0.0, "{found}");
    }
    let run = vrctl_in(&directory, "bench --memory-only --core 100000");
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("core 100000 is not for this process"), "{}", run.err);
}

#[test]
fn both_routers_forward_and_nothing_is_left() {
    let directory = Directory::new("bench-veth");
    let run = vrctl_in(&directory, "bench --rounds 1 --duration 0.3 -o json");
    assert_eq!(run.code, Some(0), "{}", run.err);
    let found: serde_json::Value = serde_json::from_str(&run.out).expect("one object");
    // A machine that does other work, as one that runs tests does, may not let the generator send.
    match found["veth"]["skipped"].as_str() {
        Some(why) => {
            assert!(["two cores", "machine busy"].iter().any(|known| why.contains(known)), "{found}")
        }
        None => {
            for who in ["kernel", "vrouter"] {
                let rate = found["veth"][who]["packets_per_second"].as_f64().expect("a rate");
                assert!(rate > 0.0, "{found}");
            }
        }
    }
    assert!(!namespaces().contains("vrctl-bench-"), "{}", namespaces());
}
