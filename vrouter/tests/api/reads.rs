//! What can be asked of a node: `status`, `show ...`, `route get`, metrics and health.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::node::{Netns, Router, Site, pod, until};

/// A node with a tap pod and a veth pod that have spoken to each other.
fn two_pods(name: &str) -> (Router, Netns, Netns) {
    let site = Site::new(name);
    let (p1, p2) = (Netns::new("pod"), Netns::new("pod"));
    let pods = pod("a", &p1, "10.100.36.103/32", "tap") + &pod("b", &p2, "10.100.36.104/32", "veth");
    let router = site.start(&pods);
    assert!(p1.pings("10.100.36.104", 3));
    (router, p1, p2)
}

/// Waits until the kernel has told of the next hop's address.
fn until_neighbor_known(router: &Router) {
    until("the next hop is known", || router.json("show neighbors")[0]["state"] == "reachable");
}

#[test]
fn ports_count_what_pods_send() {
    let (router, p1, _p2) = two_pods("ports");
    let a = router.item("show ports", "name", "default/a");
    assert_eq!(a["kind"], "tap");
    assert_eq!(a["role"], "pod");
    assert_eq!(a["mode"], "read_write");
    assert_eq!(a["pod"], "default/a");
    assert_eq!(a["mtu"], 1480);
    assert_eq!(a["addresses"], json!(["10.100.36.103"]));
    assert_eq!((&a["admin_up"], &a["link_up"]), (&json!(true), &json!(true)));
    let b = router.item("show ports", "name", "default/b");
    assert_eq!(b["kind"], "veth");
    assert!(router.site.node.devices().contains(&b["device"].as_str().unwrap().to_owned()));
    assert_eq!(b["mode"], "native_copy");
    assert_eq!(b["mode_reason"], "the driver has no zero-copy AF_XDP");
    assert_eq!(b["kernel"]["rx_ring_full"], 0);
    let uplink = router.item("show ports", "name", "eth1");
    assert_eq!((&uplink["kind"], &uplink["role"]), (&json!("af_xdp"), &json!("uplink")));
    assert_eq!(uplink["addresses"], json!(["172.16.20.1/24", "fd00:20::1/64"]));
    assert_eq!(router.item("show ports", "name", "vrouter0")["role"], "host");

    // Ten echo requests more: ten in, ten out at least, all of 98 bytes.
    let packets = |port: &Value, field: &str| port[field].as_u64().unwrap();
    assert!(p1.pings("10.100.36.104", 10));
    let after = router.item("show ports", "name", "default/a");
    assert!(packets(&after, "rx_packets") >= packets(&a, "rx_packets") + 10);
    assert!(packets(&after, "tx_packets") >= packets(&a, "tx_packets") + 10);
    assert!(packets(&after, "rx_bytes") >= packets(&a, "rx_bytes") + 980);
    until("the worker surveyed its queues", || {
        router.item("show ports", "name", "eth1")["frames_held"].as_u64().unwrap() > 0
    });
}

#[test]
fn status_workers_and_memory_agree_with_each_other() {
    let (router, _p1, _p2) = two_pods("status");
    let status = router.json("status");
    assert_eq!(status["node"], "node1");
    assert_eq!(status["pid"], router.pid());
    assert_eq!((&status["ready"], &status["ports"]), (&json!(true), &json!(4)));
    assert_eq!((&status["pods"], &status["pools"]), (&json!(2), &json!(2)));
    assert_eq!((&status["ports_down"], &status["tunnels"]), (&json!(0), &json!(1)));
    assert!(status["generation"].as_u64().unwrap() > 0);
    let parts: Vec<&str> =
        status["conditions"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert!(parts.contains(&"uplink eth1") && parts.contains(&"worker 0"), "{parts:?}");

    // The load is looked at once a second.
    until("the worker's load is known", || {
        router.json("show workers")[0]["packets_per_burst"].as_f64().unwrap() >= 1.0
    });
    let worker = &router.json("show workers")[0];
    assert_eq!(worker["idle"], "adaptive");
    assert!(["running", "sleeping"].contains(&worker["state"].as_str().unwrap()));
    assert!(worker["packets"].as_u64().unwrap() >= 6 && worker["loops"].as_u64().unwrap() > 0);
    assert!((0.0..=1.0).contains(&worker["busy"].as_f64().unwrap()));
    assert!(worker["packets_per_burst"].as_f64().unwrap() >= 1.0);
    let all_queues: usize = router
        .json("show workers")
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["queues"].as_array().unwrap().len())
        .sum();
    assert_eq!(all_queues, 4);

    until("every frame is accounted for", || {
        let memory = router.json("show memory");
        let held: u64 =
            memory["held"].as_array().unwrap().iter().map(|held| held["frames"].as_u64().unwrap()).sum();
        let known = memory["held"].as_array().unwrap().iter().all(|held| held["place"] != "under way");
        known && memory["frames_free"].as_u64().unwrap() + held == 4096
    });
    let memory = router.json("show memory");
    assert_eq!((&memory["frames_total"], &memory["frame_size"]), (&json!(4096), &json!(2048)));
    assert!(memory["area_bytes"].as_u64().unwrap() >= 4096 * 2048);
    assert!(memory["rss_bytes"].as_u64().unwrap() > memory["area_bytes"].as_u64().unwrap());
    assert!(memory["fib_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn routes_neighbors_and_tunnels() {
    let (router, p1, _p2) = two_pods("routes");
    until_neighbor_known(&router);
    let far_mac = router.site.far.ip("-j link show dev eth1");
    let far_mac = serde_json::from_str::<Value>(&far_mac).unwrap()[0]["address"].clone();

    let remote = router.item("show routes", "prefix", "10.100.169.128/26");
    assert_eq!((&remote["source"], &remote["type"]), (&json!("config"), &json!("unicast")));
    assert_eq!((&remote["selected"], &remote["active"]), (&json!(true), &json!(true)));
    let hop = &remote["next_hops"][0];
    assert_eq!((&hop["port"], &hop["encap"], &hop["mtu"]), (&json!("eth1"), &json!("ipip"), &json!(1480)));
    assert_eq!((&hop["tunnel_remote"], &hop["neighbor_state"]), (&json!("172.16.20.2"), &json!("reachable")));
    let pod = router.item("show routes", "prefix", "10.100.36.103/32");
    assert_eq!(
        (&pod["type"], &pod["source"], &pod["name"]),
        (&json!("pod"), &json!("pod"), &json!("default/a"))
    );
    assert_eq!(router.item("show routes", "prefix", "172.16.20.0/24")["type"], "connected");
    let block = router.item("show routes", "prefix", "10.100.36.64/26");
    assert_eq!((&block["type"], &block["source"]), (&json!("unreachable"), &json!("block")));
    assert_eq!(block["next_hops"], json!([]));
    let within = router.json("show routes --within 10.100.36.64/26 --source pod");
    let prefixes: Vec<&Value> = within.as_array().unwrap().iter().map(|route| &route["prefix"]).collect();
    assert_eq!(prefixes, ["10.100.36.103/32", "10.100.36.104/32"]);

    let decision = router.json("route get 10.100.169.130");
    assert_eq!((&decision["verdict"], &decision["encap"]), (&json!("forward"), &json!("ipip")));
    assert_eq!(decision["tunnel_local"], "172.16.20.1");
    assert_eq!((&decision["neighbor"], &decision["neighbor_mac"]), (&json!("172.16.20.2"), &far_mac));
    let decision = router.json("route get 10.100.36.103");
    assert_eq!((&decision["port"], &decision["mtu"]), (&json!("default/a"), &json!(1480)));
    let decision = router.json("route get 10.100.36.99");
    assert_eq!((&decision["verdict"], &decision["drop_reason"]), (&json!("drop"), &json!("unreachable")));
    let decision = router.json("route get 2001:db8::1");
    assert_eq!((&decision["verdict"], &decision["drop_reason"]), (&json!("drop"), &json!("no-route")));
    assert_eq!(router.json("route get 169.254.1.1")["verdict"], "punt");
    let decision = router.json("route get fd00:20::77");
    assert_eq!((&decision["type"], &decision["verdict"]), (&json!("connected"), &json!("punt")));
    assert_eq!(
        (&decision["neighbor"], &decision["neighbor_state"]),
        (&json!("fd00:20::77"), &json!("unknown"))
    );

    let neighbor = router.item("show neighbors", "address", "172.16.20.2");
    assert_eq!((&neighbor["mac"], &neighbor["source"]), (&far_mac, &json!("kernel")));
    assert_eq!((&neighbor["port"], &neighbor["queued"]), (&json!("eth1"), &json!(0)));

    assert!(!p1.pings("10.100.169.130", 2), "nobody is there");
    let tunnel = router.item("show tunnels", "remote", "172.16.20.2");
    assert_eq!((&tunnel["local"], &tunnel["state"]), (&json!("172.16.20.1"), &json!("up")));
    assert_eq!((&tunnel["source"], &tunnel["mtu"]), (&json!("peer,route"), &json!(1480)));
    assert_eq!((&tunnel["tx_packets"], &tunnel["tx_bytes"]), (&json!(2), &json!(168)));
    assert_eq!(tunnel["rx_packets"], 0);
}

#[test]
fn drops_have_a_reason_and_a_port() {
    let (router, p1, _p2) = two_pods("drops");
    let no_route = || {
        let drops = router.json("show drops");
        let drops = drops.as_array().unwrap().iter();
        drops
            .filter(|drop| drop["reason"] == "no-route" && drop["port"] == "default/a")
            .map(|drop| drop["packets"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(no_route(), 0);
    assert!(!p1.pings("192.0.2.1", 3));
    assert_eq!(no_route(), 3);
    let all = router.json("show drops --all");
    let zero =
        all.as_array().unwrap().iter().find(|drop| drop["reason"] == "blackhole" && drop["port"] == "eth1");
    assert_eq!(zero.expect("reasons without a packet")["packets"], 0);
    let in_status = router.json("status")["drops"].as_u64().unwrap();
    let listed = router.json("show drops");
    let listed: u64 = listed.as_array().unwrap().iter().map(|drop| drop["packets"].as_u64().unwrap()).sum();
    assert!(in_status <= listed, "{in_status} > {listed}");
}

/// The samples of a metrics text: name and labels to value. Every line is checked.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut out = BTreeMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            assert_eq!(lines.peek(), None, "nothing follows the end");
            return out;
        }
        if let Some(comment) = line.strip_prefix("# ") {
            assert!(comment.starts_with("HELP vrouter_") || comment.starts_with("TYPE vrouter_"), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(name.starts_with("vrouter_"), "{line}");
        let former = out.insert(name.to_owned(), value.parse().expect("a number"));
        assert_eq!(former, None, "{name} is there twice");
    }
    panic!("the text has no end");
}

#[test]
fn metrics_and_health() {
    let (router, p1, _p2) = two_pods("metrics");
    assert!(!p1.pings("192.0.2.1", 2));
    until_neighbor_known(&router);
    let (status, text) = router.http("GET", "/metrics");
    assert_eq!(status, 200);
    let samples = samples(&text);
    let at = |name: &str| samples.get(name).copied().unwrap_or_else(|| panic!("no {name} in\n{text}"));
    assert!(at("vrouter_port_rx_packets_total{port=\"default/a\",role=\"pod\"}") >= 5.0);
    assert!(at("vrouter_port_tx_bytes_total{port=\"default/b\",role=\"pod\"}") >= 294.0);
    assert_eq!(at("vrouter_drops_total{port=\"default/a\",reason=\"no-route\"}"), 2.0);
    assert_eq!(at("vrouter_drops_total{port=\"eth1\",reason=\"tunnel-unknown-peer\"}"), 0.0);
    assert_eq!(at("vrouter_port_up{port=\"eth1\",role=\"uplink\"}"), 1.0);
    assert_eq!(at("vrouter_port_kernel_lost_total{port=\"eth1\",reason=\"rx_ring_full\"}"), 0.0);
    assert_eq!(at("vrouter_frames"), 4096.0);
    assert!(at("vrouter_frames_free") > 0.0);
    assert!(at("vrouter_worker_loops_total{worker=\"0\"}") > 0.0);
    assert!(at("vrouter_worker_busy_seconds_total{worker=\"0\"}") > 0.0);
    assert_eq!(at("vrouter_worker_icmp_suppressed_total{worker=\"0\"}"), 0.0);
    assert_eq!(at("vrouter_worker_held_packets{worker=\"0\"}"), 0.0);
    assert_eq!(at("vrouter_neighbors{state=\"reachable\"}"), 1.0);
    assert_eq!(at("vrouter_tunnel_up{remote=\"172.16.20.2\"}"), 1.0);
    assert_eq!(at("vrouter_fib_routes{family=\"4\"}") + at("vrouter_fib_routes{family=\"6\"}"), {
        router.json("status")["routes"].as_f64().unwrap()
    });
    assert_eq!(at(&format!("vrouter_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1.0);
    assert!(at("vrouter_generation") > 0.0);

    assert_eq!(router.http("GET", "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(router.http("GET", "/").0, 404);
    assert_eq!(router.http("POST", "/metrics").0, 405);

    router.site.node.ip("link set eth1 down");
    until("the router is not well", || router.http("GET", "/healthz").0 == 503);
    assert!(router.http("GET", "/healthz").1.contains("uplink eth1: the link is down\n"));
    let status = router.json("status");
    assert_eq!((&status["ready"], &status["ports_down"]), (&json!(false), &json!(1)));
    assert_eq!(router.item("show ports", "name", "eth1")["admin_up"], false);
    router.site.node.ip("link set eth1 up");
    until("the router is well again", || router.http("GET", "/healthz").0 == 200);
}
