//! Through a router that is not ours: the kernel's, which filters some of what it forwards.
//!
//! ```text
//!   p0 ---- r0 kernel r1 ---- p1        p0, p1: vrouter-pktgen by AF_XDP
//! ```

use std::process::Command;

use super::{Scratch, json, pktgen};

/// A namespace with both pairs of devices, gone with the value.
struct Net {
    name: String,
}

impl Net {
    fn new(name: &str) -> Self {
        let net = Net { name: format!("vrp-{name}-{}", std::process::id()) };
        net.host(&["ip", "netns", "add", &net.name]);
        for (near, far, address) in [("p0", "r0", "10.9.0.1/24"), ("p1", "r1", "10.9.1.1/24")] {
            net.run(&["ip", "link", "add", near, "type", "veth", "peer", "name", far]);
            net.run(&["ip", "addr", "add", address, "dev", far]);
            net.run(&["ip", "link", "set", near, "up"]);
            net.run(&["ip", "link", "set", far, "up"]);
        }
        net.run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        net.run(&["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0"]);
        net.run(&["sysctl", "-qw", "net.ipv4.conf.r0.rp_filter=0"]);
        net.run(&["ip", "neigh", "add", "10.9.1.2", "lladdr", "02:00:00:00:00:77", "dev", "r1"]);
        net
    }

    fn host(&self, words: &[&str]) {
        let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn run(&self, words: &[&str]) {
        self.host(&[&["ip", "netns", "exec", &self.name], words].concat());
    }

    fn mac_of(&self, device: &str) -> String {
        let words = ["netns", "exec", &self.name, "cat", &format!("/sys/class/net/{device}/address")];
        String::from_utf8(Command::new("ip").args(words).output().unwrap().stdout).unwrap().trim().to_owned()
    }

    fn pktgen(&self, arguments: &[&str]) -> Command {
        let program = pktgen(arguments);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.get_program()).args(program.get_args());
        command
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

const PATH: [&str; 8] =
    ["--tx", "af_xdp:p0", "--rx", "af_xdp:p1", "--src", "10.9.0.2-10.9.0.9", "--dst", "10.9.1.2"];

#[test]
fn a_kernel_router_is_measured_as_it_is() {
    let net = Net::new("plain");
    let mac = net.mac_of("r0");
    let run = |options: &[&str]| {
        // Slow enough for the rings to hold what comes while a busy machine lets nobody receive.
        let rest = ["--dst-mac", &mac, "--rate", "3k", "--count", "3000", "--drain", "0.5"];
        json(&mut net.pktgen(&[&["loop"], &PATH[..], &rest, options].concat()))
    };
    let found = run(&[]);
    assert_eq!((&found["lost"], &found["flows"]), (&0.into(), &8.into()), "{found}");
    for field in ["missing", "duplicates", "reordered_in_flow"] {
        assert_eq!(found["received"][field], 0, "{field}: {found}");
    }

    // Every tenth packet is dropped.
    net.run(&["nft", "add table ip t; add chain ip t c { type filter hook forward priority 0; }"]);
    net.run(&["nft", "add rule ip t c numgen inc mod 10 == 0 drop"]);
    let found = run(&["--size", "imix"]);
    assert_eq!(found["lost"], 300, "{found}");
    let received = &found["received"];
    // A drop before the first or behind the last is not missing between them.
    let missing = received["missing"].as_u64().unwrap();
    assert!((299..=300).contains(&missing), "{received}");
    assert_eq!((&received["packets"], &received["duplicates"]), (&2700.into(), &0.into()), "{received}");
}

#[test]
fn an_address_is_asked_for_and_a_search_finds_a_limit() {
    let net = Net::new("limit");
    let scratch = Scratch::new("limit");
    // 5,000 packets a second go through, the others are dropped; a sender that stood still and makes
    // up for it meanwhile is let through for a tenth of a second.
    net.run(&["nft", "add table ip t; add chain ip t c { type filter hook forward priority 0; }"]);
    net.run(&["nft", "add rule ip t c limit rate over 5000/second burst 500 packets drop"]);
    let ways = ["--next-hop", "10.9.0.1", "--address", "10.9.0.2/24"];
    let how =
        ["--duration", "1", "--first-duration", "0.3", "--max-rate", "40k", "--width", "5", "--drain", "0.3"];
    let plot = scratch.file("limit.svg");
    let found = json(&mut net.pktgen(&[&["search"], &PATH[..], &ways, &how, &["--plot", &plot]].concat()));
    let (ndr, pdr) = (&found["goals"][0], &found["goals"][1]);
    let rate = pdr["packets_per_second"].as_f64().unwrap();
    // Within a second, what the bucket holds goes through beside its rate. On a machine that stands
    // still for longer, less is found.
    assert!(rate > 0.0 && rate <= 5800.0, "{found}");
    assert!(ndr["packets_per_second"].as_f64().unwrap_or(0.0) <= rate, "{found}");
    assert!(pdr["upper"]["loss_ratio"].as_f64().unwrap() > 0.005, "{found}");
    assert!(std::fs::read_to_string(plot).unwrap().contains("pdr"));
}
