//! Packets as they are followed: `trace` and `capture`.

use serde_json::{Value, json};

use crate::node::{Netns, Router, Site, finish, pod, run, until};

fn two_pods(name: &str) -> (Router, Netns, Netns) {
    let site = Site::new(name);
    let (p1, p2) = (Netns::new("pod"), Netns::new("pod"));
    let pods = pod("a", &p1, "10.100.36.103/32", "tap") + &pod("b", &p2, "10.100.36.104/32", "veth");
    let router = site.start(&pods);
    assert!(p1.pings("10.100.36.104", 1));
    (router, p1, p2)
}

/// The records of `trace -o json`, one a line.
fn records(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Sends pings until a program that follows them has all it wants.
fn while_pinging(from: &Netns, to: &str, mut child: std::process::Child) -> crate::node::Run {
    until("the follower has seen enough", || {
        from.pings(to, 1);
        child.try_wait().expect("it can be waited for").is_some()
    });
    finish(child)
}

fn now_ns() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64
}

#[test]
fn a_trace_tells_what_each_stage_decided() {
    let (router, p1, p2) = two_pods("trace");
    let start = now_ns();
    let child = router.begin("trace --src 10.100.36.103 --dst 10.100.36.104 --proto icmp --count 2 -o json");
    let seen = records(&while_pinging(&p1, "10.100.36.104", child).out);
    assert_eq!(seen.len(), 2);
    for record in &seen {
        assert_eq!((&record["verdict"], &record["port"]), (&json!("forward"), &json!("default/a")));
        assert_eq!(
            (&record["out_port"], &record["route"]),
            (&json!("default/b"), &json!("10.100.36.104/32"))
        );
        assert_eq!((&record["length"], &record["missed"]), (&json!(98), &json!(0)));
        assert!(record["rule"].as_str().unwrap().contains("kns.default"));
        assert!((start..now_ns()).contains(&record["timestamp_ns"].as_u64().unwrap()));
        let stages: Vec<&str> = record["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stage| stage["stage"].as_str().unwrap())
            .collect();
        assert_eq!(stages, ["parse", "source-policy", "lookup", "dest-policy", "ttl-mtu", "rewrite"]);
        assert_eq!(record["stages"][0]["note"], "ipv4, protocol 1");
        assert_eq!(record["stages"][2]["note"], "10.100.36.104/32 dev default/b");
        assert_eq!(record["stages"][4]["note"], "84 bytes fit");
    }

    // Of a packet to nowhere, only the drop; of a port, what comes in and what goes out.
    let drops = router.begin("trace --drops-only --port default/a --proto icmp --count 1 -o json");
    let port = router.begin("trace --port default/b --proto icmp --count 2 -o json");
    p1.pings("192.0.2.1", 1);
    let seen = records(&while_pinging(&p1, "192.0.2.1", drops).out);
    assert_eq!((&seen[0]["verdict"], &seen[0]["reason"]), (&json!("drop"), &json!("no-route")));
    let seen = records(&while_pinging(&p2, "10.100.36.103", port).out);
    assert_eq!((&seen[0]["port"], &seen[0]["out_port"]), (&json!("default/b"), &json!("default/a")));
    assert_eq!((&seen[1]["port"], &seen[1]["out_port"]), (&json!("default/a"), &json!("default/b")));

    // Into a tunnel.
    let tunnel = router.begin("trace --dst 10.100.169.130 --count 1 -o json");
    let seen = records(&while_pinging(&p1, "10.100.169.130", tunnel).out);
    assert_eq!((&seen[0]["out_port"], &seen[0]["route"]), (&json!("eth1"), &json!("10.100.169.128/26")));
    let stages = seen[0]["stages"].as_array().unwrap();
    let encap = json!({"stage": "encap", "note": "ipip to 172.16.20.2, 84 bytes inside"});
    assert!(stages.contains(&encap), "{stages:#?}");

    assert!(router.refusal("trace --port nowhere").contains("there is no port nowhere"));
}

#[test]
fn traces_run_side_by_side_and_leave_their_place() {
    let (router, p1, p2) = two_pods("slots");
    let a = router.begin("trace --src 10.100.36.103 --proto icmp --count 3 -o json");
    let b = router.begin("trace --src 10.100.36.104 --proto icmp --count 3 -o json");
    let a = records(&while_pinging(&p1, "10.100.36.104", a).out);
    let b = records(&while_pinging(&p2, "10.100.36.103", b).out);
    assert!(a.iter().all(|record| record["port"] == "default/a"), "{a:#?}");
    assert!(b.iter().all(|record| record["port"] == "default/b"), "{b:#?}");

    // Each filter that comes into force is a generation.
    let generation = || router.json("status")["generation"].as_u64().unwrap();
    let mut all = Vec::new();
    for _ in 0..8 {
        let before = generation();
        all.push(router.begin("trace --dst 198.51.100.1 --count 0"));
        until("the trace is under way", || generation() > before);
    }
    let refused = router.refusal("trace --dst 198.51.100.2 --count 1 --timeout 1");
    assert!(refused.contains("8 traces and captures are under way: end one first"), "{refused}");
    all[0].kill().expect("it runs");
    until("a place is free again", || {
        let run = router.vrctl("trace --dst 198.51.100.2 --count 1 --timeout 0.1");
        run.err.contains("no packet matched")
    });
    for child in &mut all {
        child.kill().expect("it runs or has ended");
        child.wait().expect("it ends");
    }
}

#[test]
fn a_capture_is_a_file_with_verdicts() {
    let (router, p1, _p2) = two_pods("capture");
    let file = router.site.directory.join("c.pcapng");
    let child =
        router.begin(&format!("capture -w {} --proto icmp --port default/a --count 4", file.display()));
    let told = while_pinging(&p1, "10.100.36.104", child).err;
    assert!(told.contains("4 packets"), "{told}");
    let cut = router.site.directory.join("cut.pcapng");
    let child = router.begin(&format!("capture -w {} --dst 192.0.2.1 --count 1 --snaplen 42", cut.display()));
    while_pinging(&p1, "192.0.2.1", child);

    if run("which tshark").code != Some(0) {
        eprintln!("tshark is not installed: the files are not read");
        return;
    }
    let fields = "-T fields -e frame.interface_name -e ip.src -e ip.dst -e icmp.type -e frame.comment";
    let read = run(&format!("tshark -r {} {fields}", file.display()));
    let lines: Vec<Vec<&str>> = read.out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 4, "{read:?}");
    for line in &lines {
        match line[0] {
            "default/a" => assert_eq!(
                line[1..],
                ["10.100.36.103", "10.100.36.104", "8", "verdict=forward out=default/b"]
            ),
            _ => assert_eq!(
                line[..],
                ["default/b", "10.100.36.104", "10.100.36.103", "0", "verdict=forward out=default/a"]
            ),
        }
    }
    let fields = "-T fields -e frame.cap_len -e frame.len -e frame.comment";
    let read = run(&format!("tshark -r {} {fields}", cut.display()));
    assert_eq!(read.out.trim(), "42\t98\tverdict=drop reason=no-route");
}
