//! The verbs that read: tables and JSON.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::mock::Server;
use crate::{command, good, vrctl};

#[test]
fn tables() {
    let server = Server::start("tables");
    let cases = [
        (
            "status",
            "\
Node:          node1
Ready:         no
Version:       0.1.0
Process:       4711, up 1h2m
Configuration: /etc/vrouter/node1.toml
Generation:    7
Workers:       1
Ports:         4 (1 down)
Pods:          2
Pools:         2
Routes:        9
Neighbors:     3
Tunnels:       1
Packets:       1000 in, 990 out, 10 dropped
Conditions:    uplink eth1: not ok the device is gone
",
        ),
        (
            "show ports",
            "\
ID  NAME     KIND    ROLE    STATE    MODE         MTU   RX   TX  DROPS  KERNEL-LOSS  POD
 1  eth1     af_xdp  uplink  up       generic     1500  120  110      3            2  -
12  tap-web  tap     pod     no link  read_write  1480    0    0      0            0  default/web
",
        ),
        (
            "show routes",
            "\
PREFIX             TYPE     NEXT-HOP            ENCAP  SOURCE  STATE       WHY
10.100.36.103/32   pod      direct dev tap-web  none   pod     active      -
10.100.169.128/26  unicast  172.16.20.253       ipip   config  unresolved  no route to 172.16.20.253
",
        ),
        (
            "show nexthops -o wide",
            "\
GROUP  ROUTES  NEXT-HOP                                                        SHARE         PACKETS  BYTES    WHY                    WAY                               VRF
    5  900000  172.16.20.253 dev eth1 weight 3, 172.16.20.1 dev eth1 weight 1  75.0%, 25.0%  30, 0    3000, 0  -                      192.0.2.9 by 192.0.2.0/24 config  blue
   12       1  192.0.2.1                                                       0.0%          0        0        no route to 192.0.2.1  -                                 -
",
        ),
        (
            "show neighbors",
            "\
ADDRESS        MAC                STATE       PORT  AGE    SOURCE
172.16.20.253  02:00:00:00:00:02  reachable   eth1  1m15s  kernel
fd00:20::253   -                  incomplete  eth1  0s     kernel
",
        ),
        (
            "show drops",
            "\
REASON    PORT     PACKETS  MEANING
no_route  tap-web       42  no route matches the destination
",
        ),
        (
            "show workers",
            "\
ID  CORE  STATE    IDLE       BUSY  PACKETS   MPPS  PER-BURST   HEADROOM  QUEUES
 0     1  running  adaptive  12.5%     1000  1.250        2.5  8.25 Mpps  eth1:0,eth1:1

Cycles a packet, by stage:
ID   ALL  RECEIVE  PARSE  DECAP  ANTI-SPOOF  FLOWS  SRC-POLICY  LOOKUP  DST-POLICY  TTL-MTU  ENCAP  REWRITE  OUTPUT  TRANSMIT
 0  93.5     31.5      -      -           -      -           -    62.0           -        -      -        -       -         -
",
        ),
        (
            "show memory",
            "\
Frames:            16384 of 2048 B, 12000 free
Held by:           port eth1 4096, worker 0 288
Frame area:        32.0 MiB, plain pages
Forwarding tables: 3.0 MiB
Resident:          80.0 MiB
",
        ),
        (
            "show tunnels",
            "\
KIND  LOCAL          REMOTE         STATE  PORT   MTU  PATH-MTU        RX  TX  NEIGHBOR
ipip  172.16.20.252  172.16.20.253  up     eth1  1480  1500 for 9m59s   4   5  172.16.20.253 reachable
",
        ),
        (
            "show pods",
            "\
NAME         ADDRESSES                      ATTACH  PORT     STATE  REASON
default/web  10.100.36.103,fd00:10:36::103  tap     tap-web  ready  -
",
        ),
        (
            "route get 10.100.169.176",
            "\
Address:       10.100.169.176
Verdict:       forward
Route:         10.100.169.128/26 unicast from config
Next hop:      172.16.20.253 dev eth1
Port:          eth1
Encapsulation: ipip 172.16.20.252 > 172.16.20.253
MTU:           1480
Neighbor:      172.16.20.253 at 02:00:00:00:00:02 stale
Not used:      bgp 172.16.20.1 dev eth1: distance 20 against 1 of config
",
        ),
        (
            "route get 198.51.100.7",
            "\
Address:  198.51.100.7
Verdict:  forward, by 1 of 2 hops
Route:    198.51.100.0/24 unicast from api
Hop:      25.0% drop: neighbor-failed by eth1, mtu 1500, neighbor 172.16.20.1 at - failed
Hop:      75.0% forward by eth2, ipip 172.16.20.252 > 172.16.20.253, mtu 1480, neighbor 172.16.20.253 at 02:00:00:00:00:02 reachable
Not used: config (old) 172.16.20.9: metric 7 against 5 of route resource new; and 3 more
",
        ),
        (
            "route get 192.0.2.1",
            "\
Address: 192.0.2.1
Verdict: drop: no_route
Route:   no route
",
        ),
        (
            "get ippools",
            "\
NAME  CIDR           IPIP   VXLAN  NAT    SOURCE
blue  10.100.0.0/16  Never  Never  false  config
",
        ),
        (
            "get route node2",
            "\
NAME   PREFIX             TYPE     VIA            ENCAP    SOURCE
node2  10.100.169.128/26  unicast  172.16.20.253  by pool  config
",
        ),
        (
            "show routes -o wide",
            "\
PREFIX             TYPE     NEXT-HOP            ENCAP  SOURCE  STATE       WHY                        WAY  DISTANCE  METRIC  GROUP  NAME   VRF
10.100.36.103/32   pod      direct dev tap-web  none   pod     active      -                          -           0       0      5  -      -
10.100.169.128/26  unicast  172.16.20.253       ipip   config  unresolved  no route to 172.16.20.253  -           1       0      0  node2  -
",
        ),
    ];
    for (verb, table) in cases {
        assert_eq!(good(&server, verb), table, "{verb}");
    }
}

#[test]
fn wide_shows_more() {
    let server = Server::start("wide");
    for (verb, head, cell) in [
        ("show ports", "WHY-MODE", "the driver has no XDP"),
        ("show neighbors", "QUEUED", "2"),
        ("show workers", "HANDED-OFF", "1000000"),
        ("show tunnels", "RX-BYTES", "peer,route"),
        ("show pods", "LABELS", "app=web,tier=a"),
        ("get ippool", "BLOCK", "26"),
    ] {
        let wide = good(&server, &format!("{verb} -o wide"));
        assert!(wide.lines().next().unwrap_or_default().contains(head), "{wide}");
        assert!(wide.contains(cell), "{wide}");
        assert!(!good(&server, verb).contains(head), "{verb}");
    }
    assert!(good(&server, "status -o wide").contains("metrics: ok"));
}

fn json(server: &Server, verb: &str) -> Value {
    serde_json::from_str(&good(server, &format!("{verb} -o json"))).expect("vrctl writes JSON")
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("a message is an object");
    object.keys().map(String::as_str).collect()
}

#[test]
fn json_of_every_read() {
    let server = Server::start("json");
    let port = &json(&server, "show ports")[0];
    assert_eq!(
        *port,
        json!({
            "id": 1, "name": "eth1", "kind": "af_xdp", "role": "uplink", "device": "eth1",
            "mac": "02:00:00:00:00:01", "mtu": 1500, "admin_up": true, "link_up": true,
            "mode": "generic", "mode_reason": "the driver has no XDP", "queues": 2,
            "vrf": "blue", "workers": [0, 1], "rx_packets": 120, "rx_bytes": 7680, "tx_packets": 110,
            "tx_bytes": 7040, "drops": 3,
            "kernel": {
                "rx_dropped": 0, "rx_ring_full": 2, "rx_fill_ring_empty": 1, "rx_invalid": 0,
                "tx_invalid": 0, "tx_ring_empty": 0, "xdp_passed": 500, "xdp_dropped": 0
            },
            "pod": "", "addresses": ["172.16.20.252/24"], "frames_held": 4096,
            "punts": 0, "consumed": 0, "originated": 0
        })
    );
    assert_eq!(json(&server, "show ports")[1].get("kernel"), None);
    let route = &json(&server, "show routes")[1];
    assert_eq!(route["next_hops"][0]["encap"], "ipip");
    assert_eq!((&route["type"], &route["active"]), (&json!("unicast"), &json!(false)));
    assert_eq!(json(&server, "show neighbors")[1]["state"], "incomplete");
    assert_eq!(
        json(&server, "show drops"),
        json!([{
            "reason": "no_route", "description": "no route matches the destination",
            "port": "tap-web", "packets": 42
        }])
    );
    let workers = good(&server, "show workers");
    assert!(workers.contains("8.25 Mpps") && workers.contains("62.0"), "{workers}");
    let worker = &json(&server, "show workers")[0];
    assert_eq!(worker["stages"][1], json!({ "stage": "lookup", "cycles_per_packet": 62.0 }));
    assert_eq!((&worker["state"], &worker["busy"]), (&json!("running"), &json!(0.125)));
    assert_eq!(json(&server, "show memory")["held"][1]["place"], "worker 0");
    assert_eq!(json(&server, "show tunnels")[0]["state"], "up");
    let pod = &json(&server, "show pods")[0];
    assert_eq!((&pod["labels"]["app"], &pod["state"]), (&json!("web"), &json!("ready")));
    let status = json(&server, "status");
    assert_eq!((&status["ready"], &status["generation"]), (&json!(false), &json!(7)));
    assert_eq!(keys(&status["conditions"][1]), ["message", "name", "ok"]);
    let decision = json(&server, "route get 10.100.169.176");
    assert_eq!(decision["neighbor_state"], "stale");
    assert_eq!(json(&server, "get ippool")[0]["spec"]["ipipMode"], "Never");
    assert_eq!(json(&server, "get ippool blue")["metadata"]["name"], "blue");
}

#[test]
fn routes_are_printed_as_they_come() {
    let server = Server::start("many");
    let table = good(&server, "show routes --source many-3000");
    assert_eq!(table.lines().count(), 3001);
    let state = |line: &str| line.find("standby");
    assert_eq!(table.lines().nth(1).and_then(state), table.lines().nth(2000).and_then(state));
    let list: Value =
        serde_json::from_str(&good(&server, "show routes --source many-3000 -o json")).expect("JSON");
    assert_eq!(
        (list.as_array().map(Vec::len), &list[2999]["prefix"]),
        (Some(3000), &json!("10.0.11.183/32"))
    );
    let list: Value =
        serde_yaml_ng::from_str(&good(&server, "show routes --source many-3 -o yaml")).expect("YAML");
    assert_eq!((list.as_array().map(Vec::len), &list[2]["source"]), (Some(3), &json!("bgp")));
    for form in ["json", "yaml"] {
        assert_eq!(good(&server, &format!("show routes --source many-0 -o {form}")), "[]\n");
    }
}

/// How much memory `vrctl` has had at most, in KiB.
fn peak_kib(process: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_long_list_takes_no_more_memory_than_a_short_one() {
    const ROUTES: usize = 150_000;
    let server = Server::start("long");
    for form in ["wide", "json", "yaml"] {
        let mut vrctl = command(&server, &format!("show routes --source many-{ROUTES} -o {form}"));
        let mut vrctl = vrctl.stdout(Stdio::piped()).spawn().expect("vrctl starts");
        let mut lines = BufReader::new(vrctl.stdout.take().expect("piped")).lines();
        // A pipe holds less than what is left to print at either time.
        let mut peaks = Vec::new();
        for _ in 0..2 {
            lines.by_ref().take(ROUTES / 3).for_each(|line| drop(line.expect("text")));
            peaks.push(peak_kib(&vrctl));
        }
        assert!(lines.by_ref().count() >= ROUTES / 3);
        assert!(vrctl.wait().expect("it ends").success());
        // A third of the routes are some 10 MB.
        assert!(peaks[1] < peaks[0] + 2048, "{form}: {peaks:?} KiB");
    }
}

#[test]
fn yaml_of_a_resource_can_be_applied_again() {
    let server = Server::start("yaml");
    let yaml = good(&server, "get route node2 -o yaml");
    let objects = api::read(&yaml);
    assert_eq!(objects.len(), 1);
    assert_eq!(objects[0].outcome.as_ref().map(|r| r.name().to_owned()), Ok("node2".to_owned()));
    let list: Value =
        serde_yaml_ng::from_str(&good(&server, "show drops -o yaml")).expect("vrctl writes YAML");
    assert_eq!(list[0]["packets"], 42);
}

#[test]
fn filters_of_lists_reach_the_router() {
    let server = Server::start("filters");
    good(&server, "show routes --within 10.0.0.0/8 --source pod --selected");
    good(&server, "show routes 10.0.0.0/8 --longer --best");
    good(&server, "show routes 10.0.0.1");
    good(&server, "show routes --within 10.0.0.1");
    good(&server, "show routes --vrf blue");
    good(&server, "show drops --all");
    assert_eq!(
        server.requests(),
        [
            "ListRoutesRequest { within: \"10.0.0.0/8\", source: \"pod\", selected_only: true, prefix: \"\", vrf: \"\" }",
            "ListRoutesRequest { within: \"10.0.0.0/8\", source: \"\", selected_only: true, prefix: \"\", vrf: \"\" }",
            "ListRoutesRequest { within: \"\", source: \"\", selected_only: false, prefix: \"10.0.0.1/32\", vrf: \"\" }",
            "ListRoutesRequest { within: \"10.0.0.1/32\", source: \"\", selected_only: false, prefix: \"\", vrf: \"\" }",
            "ListRoutesRequest { within: \"\", source: \"\", selected_only: false, prefix: \"\", vrf: \"blue\" }",
            "ListDropsRequest { include_zero: true }",
        ]
    );
}

#[test]
fn refusals_are_status_1_and_usage_is_status_2() {
    let server = Server::start("refusals");
    for (verb, code, message) in [
        ("get ippool red", 1, "vrctl: there is no IPPool red\n"),
        ("get bgppeer", 1, "vrctl: kind BGPPeer is not supported by this release\n"),
        ("get", 2, "<KIND>"),
        ("show everything", 2, "unrecognized subcommand 'everything'"),
        ("route get node2", 2, "invalid IP address syntax"),
        ("route get", 2, "<ADDRESS>"),
        ("route get --batch -", 2, "--routes <FILE>"),
        ("show routes --longer", 2, "required"),
        ("show routes 10.0.0.1/8", 2, "10.0.0.1/8 has host bits set; the prefix is 10.0.0.0/8"),
        ("show routes --within 10.0.0.1/8", 2, "10.0.0.1/8 has host bits set; the prefix is 10.0.0.0/8"),
        ("show ports -o xml", 2, "[possible values: table, wide, json, yaml]"),
        ("--api tcp:1 status", 2, "it begins with unix:"),
        ("trace --proto foo", 2, "a number from 0 to 255, or one of icmp"),
        ("trace --timeout 0", 2, "a number of seconds above 0"),
        ("capture", 2, "--write <FILE>"),
    ] {
        let run = vrctl(&server, verb);
        assert_eq!(run.code, Some(code), "{verb}: {}", run.err);
        assert!(run.err.contains(message), "{verb}: {}", run.err);
        assert_eq!(run.out, "", "{verb}");
    }
}

#[test]
fn without_a_router_the_socket_is_named() {
    let server = Server::start("nobody");
    let dead = server.directory.join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).expect("the directory is new"));
    for (socket, why) in [("none.sock", "no such socket"), ("dead.sock", "nobody listens on the socket")] {
        let path = server.directory.join(socket);
        let run = vrctl(&server, &format!("status --api unix:{}", path.display()));
        assert_eq!(run.code, Some(1));
        assert_eq!(
            run.err,
            format!(
                "vrctl: no router at {}: {why}; start the router with `vrouter run --config FILE`, \
                 or name the socket of a running one with --api unix:PATH\n",
                path.display()
            )
        );
    }
}

#[test]
fn completions_need_no_router() {
    let server = Server::start("completions");
    for shell in ["bash", "zsh", "fish"] {
        let run = vrctl(&server, &format!("--api unix:/none completions {shell}"));
        assert_eq!(run.code, Some(0), "{}", run.err);
        assert!(run.out.contains("neighbors"), "{shell}");
    }
}
