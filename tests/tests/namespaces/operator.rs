//! What an operator types and reads: every verb of vrctl, metrics, a capture, a trace.

use std::time::Duration;

use serde_json::Value;
use vrouter_tests::testbed::{Attach, Pinger, TwoNodes, ping};

#[test]
fn every_list_is_shown_as_a_table_and_as_json() {
    let net = TwoNodes::new([&Attach::ALL, &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    assert_eq!(ping(&one.pods[0].netns, two.pods[0].ip4, 2).received, 2);
    let router = &one.router;
    for (what, key) in [
        ("ports", "eth1"),
        ("routes", "10.77.2.0/26"),
        ("neighbors", "172.30.5.12"),
        ("workers", "0"),
        ("tunnels", "172.30.5.12"),
        ("pods", "test/pod1-0"),
    ] {
        let table = router.vrctl(&["show", what]);
        assert!(table.contains(key), "{what}: {table}");
        let json = router.vrctl_json(&["show", what]);
        let rows = json.as_array().unwrap_or_else(|| panic!("{what}: {json}"));
        assert!(rows.iter().any(|row| row.to_string().contains(key)), "{what}: {json}");
    }
    let memory = router.vrctl_json(&["show", "memory"]);
    let held: u64 =
        memory["held"].as_array().unwrap().iter().filter_map(|place| place["frames"].as_u64()).sum();
    assert_eq!(
        Some(held + memory["frames_free"].as_u64().unwrap()),
        memory["frames_total"].as_u64(),
        "{memory:#}"
    );
    let status = router.vrctl_json(&["status"]);
    assert_eq!((&status["ready"], &status["pods"]), (&Value::Bool(true), &Value::from(2)), "{status}");

    let decision = router.vrctl_json(&["route", "get", &two.pods[0].ip4.to_string()]);
    assert_eq!(decision["verdict"], "forward", "{decision}");
    assert_eq!(decision["encap"], "ipip", "{decision}");
    assert_eq!(decision["tunnel_local"], "172.30.5.11", "{decision}");
    assert_eq!(decision["tunnel_remote"], "172.30.5.12", "{decision}");
    assert_eq!(decision["neighbor_mac"], two.netns.mac("eth1"), "{decision}");
    assert_eq!(decision["mtu"], 1480, "{decision}");
    let nowhere = router.vrctl_json(&["route", "get", "198.51.100.1"]);
    assert_eq!(
        (&nowhere["verdict"], &nowhere["drop_reason"]),
        (&"drop".into(), &"no-route".into()),
        "{nowhere}"
    );
}

#[test]
fn resources_are_applied_shown_and_deleted() {
    let net = TwoNodes::new([&[Attach::Tap], &[]]).start();
    let router = &net.nodes[0].router;
    router.apply(
        "apiVersion: vrouter.io/v1\nkind: Route\nmetadata: { name: net }\n\
         spec: { prefix: 192.0.2.0/24, type: unreachable }\n",
    );
    let routes = router.vrctl_json(&["get", "route"]);
    assert!(routes.to_string().contains("192.0.2.0/24"), "{routes}");
    let decision = router.vrctl_json(&["route", "get", "192.0.2.1"]);
    assert_eq!(decision["drop_reason"], "unreachable", "{decision}");
    router.vrctl(&["delete", "route", "net"]);
    let decision = router.vrctl_json(&["route", "get", "192.0.2.1"]);
    assert_eq!(decision["drop_reason"], "no-route", "{decision}");
    let again = router.try_vrctl(&["delete", "route", "net"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("net"));
}

#[test]
fn metrics_count_what_ports_carry_and_why_packets_were_dropped() {
    let net = TwoNodes::new([&[Attach::Tap], &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    let pod = &one.pods[0].netns;
    assert_eq!(ping(pod, two.pods[0].ip4, 5).received, 5);
    ping(pod, std::net::Ipv4Addr::new(198, 51, 100, 1), 2);
    let text = one.router.metrics(&one.netns);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let value = |name: &str, labels: &[&str]| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with(name));
        let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    assert!(value("vrouter_drops_total", &["reason=\"no-route\""]) >= 2.0, "{text}");
    let port = one.router.port(|port| port["role"] == "uplink");
    assert!(port["rx_packets"].as_u64().unwrap() >= 5 && port["tx_packets"].as_u64().unwrap() >= 5, "{port}");
    assert!(text.contains("eth1"), "{text}");
}

#[test]
fn a_trace_tells_the_stages_and_a_capture_the_verdicts() {
    let net = TwoNodes::new([&[Attach::Tap], &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    let pod = &one.pods[0].netns;
    let target = two.pods[0].ip4.to_string();
    let pings = Pinger::start(pod, two.pods[0].ip4, Duration::from_millis(20));
    let lost = Pinger::start(pod, std::net::Ipv4Addr::new(198, 51, 100, 1), Duration::from_millis(20));

    let trace =
        one.router.vrctl(&["-o", "json", "trace", "--dst", &target, "--count", "3", "--timeout", "10"]);
    let records: Vec<Value> = trace.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(records.len(), 3, "{trace}");
    let stages: Vec<&str> =
        records[0]["stages"].as_array().unwrap().iter().filter_map(|stage| stage["stage"].as_str()).collect();
    for stage in ["parse", "source-policy", "lookup", "ttl-mtu", "encap", "rewrite"] {
        assert!(stages.contains(&stage), "{stages:?}");
    }
    assert_eq!(records[0]["verdict"], "forward");

    let file = net.testbed.dir().join("annotated.pcapng");
    one.router.vrctl(&["capture", "-w", &file.to_string_lossy(), "--count", "40", "--timeout", "10"]);
    let mut tshark = std::process::Command::new("tshark");
    let output = tshark
        .arg("-r")
        .arg(&file)
        .args(["-T", "fields", "-e", "frame.comment", "-e", "ip.dst"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("verdict=forward"), "{text}");
    assert!(
        text.lines().any(|line| line.contains("reason=no-route") && line.contains("198.51.100.1")),
        "{text}"
    );
    drop((pings, lost));
}
