//! Policy on a running router: what is shown of it, of its flows, of what it denies, and what a change
//! would do.

use serde_json::{Value, json};

use crate::node::{Netns, Router, Site, finish, pod, until};

/// Only UDP port 53 and echo requests reach pod b.
const POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: { name: b, namespace: default }
spec:
  selector: app == 'b'
  ingress:
  - { action: Log, protocol: ICMP }
  - { action: Allow, protocol: ICMP, icmp: { type: 8 } }
  - { action: Allow, protocol: UDP, destination: { ports: [ 53 ] } }
";

fn start(name: &str) -> (Router, Netns, Netns) {
    let site = Site::new(name);
    let (p1, p2) = (Netns::new("pod"), Netns::new("pod"));
    let pods = pod("a", &p1, "10.100.36.103/32", "tap")
        + &pod("b", &p2, "10.100.36.104/32", "tap")
        + "labels = { app = \"b\" }\n";
    let router = site.start(&pods);
    let applied = router.apply(POLICY, "");
    assert_eq!(applied.code, Some(0), "{}", applied.err);
    (router, p1, p2)
}

fn connect(from: &Netns) -> bool {
    from.run("timeout 1 bash -c :>/dev/tcp/10.100.36.104/81").code == Some(0)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// The counted rules of `show policy`: place, packets.
fn counted(router: &Router, words: &str) -> Vec<(String, u64)> {
    let shown = router.json(&format!("show policy --counted {words}"));
    let mut out = Vec::new();
    let mut add = |name: &str, rules: &Value| {
        for rule in list(rules) {
            let index = rule.get("index").map_or("end".to_owned(), ToString::to_string);
            let place = format!("{name} {} {index}", text(&rule["direction"]));
            out.push((place, rule["packets"].as_u64().expect("a number")));
        }
    };
    for tier in list(&shown["tiers"]) {
        list(&tier["policies"]).for_each(|policy| add(text(&policy["name"]), &policy["rules"]));
        add(text(&tier["name"]), &tier["ends"]);
    }
    list(&shown["profiles"]).for_each(|profile| add(text(&profile["name"]), &profile["rules"]));
    out
}

#[test]
fn rules_are_shown_with_what_they_counted() {
    let (router, p1, _p2) = start("policy-show");
    assert!(p1.pings("10.100.36.104", 3));
    assert!(!connect(&p1));
    let found = counted(&router, "");
    let of = |place: &str| found.iter().find(|(name, _)| name == place).map_or(0, |(_, packets)| *packets);
    // Three questions and three answers of one flow; the log rule was asked about the first alone.
    assert_eq!((of("b ingress 0"), of("b ingress 1"), of("b ingress 2")), (1, 6, 0), "{found:?}");
    assert!(of("default ingress end") >= 1, "{found:?}");
    assert!(of("kns.default egress 0") >= 7, "{found:?}");
    let shown = router.json("show policy default/b");
    let policy = &shown["tiers"][0]["policies"][0];
    assert_eq!(policy["endpoints"], json!(["default/b"]));
    assert_eq!(policy["types"], json!(["ingress"]));
    assert_eq!(shown["profiles"], json!([]));
    let of_a: Vec<String> =
        counted(&router, "--endpoint default/a").into_iter().map(|(name, _)| name).collect();
    assert_eq!(of_a, ["kns.default egress 0"]);
    let metrics = router.http("GET", "/metrics").1;
    let line = "vrouter_policy_rule_packets_total{tier=\"default\",policy=\"NetworkPolicy default/b\",\
                direction=\"ingress\",rule=\"1\",action=\"Allow\"} 6";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    assert!(metrics.lines().any(|found| found == "vrouter_flows_capacity 262144"), "{metrics}");
    // Nothing of it is said not to be enforced.
    let status = router.json("status");
    assert!(!status["conditions"].to_string().contains("NetworkPolicy"), "{status:#}");
}

#[test]
fn denials_name_the_rule_and_flows_the_rules_that_let_them_pass() {
    let (router, p1, _p2) = start("policy-flows");
    let follow = router.begin("show denials --follow --logged -o json");
    assert!(p1.pings("10.100.36.104", 2));
    assert!(!connect(&p1));
    until("the denial is told", || !router.json("show denials").as_array().unwrap().is_empty());
    let denial = &router.json("show denials --dport 81")[0];
    assert_eq!(denial["rule"], "tier default ingress default");
    assert_eq!((&denial["event"], &denial["direction"]), (&json!("denied"), &json!("ingress")));
    assert_eq!(denial["headers"]["source_pod"], "default/a");
    assert_eq!(denial["headers"]["destination"], "10.100.36.104");
    assert_eq!(router.json("show denials --dport 82"), json!([]));
    assert_eq!(router.json("show denials --pod default/b --rule nothing"), json!([]));
    let logged = router.json("show denials --logged --proto icmp");
    assert_eq!(logged[0]["policy"], "default/b");
    let flow = &router.json("show flows --proto icmp --src 10.100.36.103")[0];
    assert_eq!(flow["phase"], "icmp-replied");
    assert_eq!((&flow["packets"], &flow["reply_packets"]), (&json!(2), &json!(2)));
    assert_eq!(flow["ingress"]["rule"], "tier default NetworkPolicy default/b ingress[1]");
    assert_eq!(flow["egress"]["rule"], "profile kns.default egress[0]");
    assert_eq!(router.json("show flows --proto icmp --dst 10.100.36.103"), json!([]));
    assert_eq!(
        router.json("show flows --proto icmp --dst 10.100.36.103 --both-ways").as_array().unwrap().len(),
        1
    );
    assert!(router.refusal("show flows --phase whatever").contains("tcp-established"));
    assert!(router.refusal("show flows --pod default/c").contains("there is no pod default/c"));
    // The follower has seen both.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let pid = rustix::process::Pid::from_child(&follow);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let seen = finish(follow).out;
    assert!(seen.contains("\"logged\"") && seen.contains("\"denied\""), "{seen}");
}

#[test]
fn a_running_router_explains_and_compares() {
    let (router, p1, _p2) = start("policy-explain");
    let ask = |words: &str| router.json(&format!("explain --from default/a --to default/b {words}"));
    let (open, closed) = (ask("--proto udp --dport 53"), ask("--proto tcp --dport 81"));
    assert_eq!((&open["allowed"], &closed["allowed"]), (&json!(true), &json!(false)));
    assert_eq!(open["ingress"]["rule"], "tier default NetworkPolicy default/b ingress[2]");
    // The node itself is let in.
    let own = router.json("explain --from 172.16.20.1 --to default/b --proto tcp --dport 81");
    assert_eq!(own["allowed"], json!(true));
    assert!(router.refusal("explain --from default/a --to default/c --proto icmp").contains("default/c"));

    // A flow that a new policy would stop, and a denial that it would let pass.
    assert!(p1.pings("10.100.36.104", 1));
    assert!(!connect(&p1));
    let new = POLICY.replace("type: 8", "type: 13").replace("UDP", "TCP").replace("53", "81");
    std::fs::write(router.site.directory.join("new.yaml"), new).unwrap();
    let compared = router.json("policy diff new.yaml");
    assert_eq!((&compared["stopped"], &compared["opened"]), (&json!(1), &json!(1)), "{compared:#}");
    let differences = compared["differences"].as_array().unwrap();
    let flow = differences.iter().find(|found| found["of"] == "flow").unwrap();
    assert_eq!(flow["now"]["ingress"]["rule"], "tier default NetworkPolicy default/b ingress[1]");
    assert_eq!(flow["then"]["ingress"]["rule"], "tier default ingress default");
    // Nothing has changed, and what cannot be applied is refused.
    assert_eq!(ask("--proto udp --dport 53")["allowed"], json!(true));
    let gone = router.json("policy diff --delete networkpolicy/default/b");
    assert_eq!((&gone["stopped"], &gone["opened"]), (&json!(0), &json!(1)));
    assert!(
        router.refusal("policy diff --delete networkpolicy/default/c").contains("there is no NetworkPolicy")
    );
    std::fs::write(router.site.directory.join("bad.yaml"), POLICY.replace("Allow", "Perhaps")).unwrap();
    assert!(router.refusal("policy diff bad.yaml").contains("Perhaps"));
}

/// A host endpoint of all interfaces, and two policies of it.
const HOST: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: node1, labels: { host: node1 } }
spec: { node: node1, interfaceName: '*' }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: forward }
spec:
  selector: host == 'node1'
  applyOnForward: true
  ingress: [ { action: Allow, protocol: TCP } ]
";
const OWN: &str = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: own }
spec:
  selector: host == 'node1'
  types: [Ingress, Egress]
  ingress: [ { action: Allow, protocol: UDP } ]
";

#[test]
fn what_of_host_endpoints_is_not_enforced_is_told() {
    let (router, p1, _p2) = start("policy-host");
    assert!(p1.pings("172.16.20.1", 1), "the node answers its pods");
    let applied = router.apply(&format!("{HOST}---{OWN}"), "");
    assert_eq!(applied.code, Some(0), "{}", applied.err);
    // What pods send to the node is asked about.
    assert!(!p1.pings("172.16.20.1", 1));
    until("the denial is told", || {
        let denials = router.json("show denials --dst 172.16.20.1");
        list(&denials).any(|denial| denial["rule"] == "tier default ingress default")
    });
    let shown = router.json("show policy own");
    let conditions = &shown["tiers"][0]["policies"][0]["conditions"];
    let told: Vec<(&str, bool)> =
        list(conditions).map(|told| (text(&told["name"]), told["ok"] == json!(true))).collect();
    assert_eq!(told, [("spec.ingress", true), ("spec.egress", false)], "{conditions:#}");
    assert_eq!(shown["tiers"][0]["policies"][0]["endpoints"], json!(["node1"]));
    assert_eq!(router.json("show policy forward")["tiers"][0]["policies"][0]["conditions"], json!([]));
    let status = router.json("status")["conditions"].to_string();
    assert!(status.contains("HostEndpoint node1") && status.contains("eth1"), "{status}");
    // Questions are answered with it: what is for the node itself, what it forwards, what a change would do.
    let own = router.json("explain --from default/a --to eth1 --proto icmp");
    assert_eq!((&own["allowed"], &own["ingress"]["host_endpoint"]), (&json!(false), &json!("node1")));
    assert_eq!(own["ingress"]["rule"], "tier default ingress default");
    let through = router.json("explain --from 172.16.20.2 --to default/b --proto udp --dport 53");
    let at = &through["forward"][0];
    assert_eq!((&at["interface"], &at["direction"]), (&json!("eth1"), &json!("ingress")), "{through:#}");
    assert_eq!((&at["verdict"], &through["ingress"]["verdict"]), (&json!("Deny"), &json!("Allow")));
    let gone = router.json("policy diff --delete hostendpoint/node1");
    // The packet that was denied, and the flow that was open before there was a host endpoint.
    assert_eq!((&gone["stopped"], &gone["opened"]), (&json!(0), &json!(2)), "{gone:#}");
    let differences = || list(&gone["differences"]);
    let mut subjects: Vec<&str> = differences().map(|difference| text(&difference["of"])).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["denial", "flow"]);
    assert!(differences().all(|one| one["now"]["ingress"]["host"]["host_endpoint"] == "node1"), "{gone:#}");
}

#[test]
fn what_cannot_be_enforced_is_refused_where_all_must_be() {
    let site = Site::new("policy-closed");
    let router = site.start("[policy]\nfail_closed = true\n");
    let applied = router.apply(HOST, "");
    assert_eq!(applied.code, Some(0), "{}", applied.err);
    let refused = router.apply(OWN, "");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("spec.egress") && refused.err.contains("is not enforced"),
        "{}",
        refused.err
    );
    let elsewhere = HOST.replace("'*'", "eth9").replace("name: node1,", "name: other,");
    let refused = router.apply(&elsewhere, "");
    assert!(refused.err.contains("no uplink of this router"), "{}", refused.err);
    // Another node's is no matter of this one.
    let applied = router.apply(&elsewhere.replace("node: node1", "node: node2"), "");
    assert_eq!(applied.code, Some(0), "{}", applied.err);
}

#[test]
fn what_show_policy_is_asked_for_must_be_there() {
    let (router, _p1, _p2) = start("policy-filter");
    for (words, told) in [
        ("--tier nowhere", "there is no tier nowhere"),
        ("-n nowhere", "there is no namespace nowhere"),
        ("nothing", "there is no policy nothing"),
        ("b -n kube-system", "there is no namespace kube-system"),
        ("--endpoint default/c", "there is no endpoint default/c"),
    ] {
        let refused = router.refusal(&format!("show policy {words}"));
        assert!(refused.contains(told), "{words}: {refused}");
    }
    let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: kube-system}}";
    assert_eq!(router.apply(namespace, "").code, Some(0));
    assert!(
        router
            .refusal("show policy b -n kube-system")
            .contains("there is no policy b in namespace kube-system")
    );
    assert_eq!(router.json("show policy -n kube-system")["tiers"], json!([]));
    assert_eq!(list(&router.json("show policy b -n default --tier default")["tiers"]).count(), 1);
    assert_eq!(router.json("show policy --endpoint default/a")["tiers"], json!([]));
}

/// A profile and a policy of which something is said in vain, or not enforced.
const UNENFORCED: &str = "
apiVersion: projectcalico.org/v3
kind: Profile
metadata: { name: kns.default }
spec: { ingress: [ { action: Allow, http: { methods: [ GET ] } } ], egress: [ { action: Allow } ] }
";
const VAIN: &str = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: vain }
spec: { selector: app == 'x', types: [ Ingress ], ingress: [ { action: Allow } ], egress: [ { action: Deny } ] }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: untracked }
spec: { selector: app == 'b', doNotTrack: true, applyOnForward: true, ingress: [ { action: Deny } ] }
";

#[test]
fn profiles_and_what_is_said_in_vain_are_told_of() {
    let (router, _p1, _p2) = start("policy-profile");
    let applied = router.apply(&format!("{UNENFORCED}---{VAIN}"), "");
    assert_eq!(applied.code, Some(0), "{}", applied.err);
    let shown = router.json("show policy");
    let profile = list(&shown["profiles"]).find(|profile| profile["name"] == "kns.default").unwrap();
    let told = &profile["conditions"][0];
    assert_eq!((&told["name"], &told["ok"]), (&json!("spec.ingress[0].http"), &json!(false)), "{profile:#}");
    let conditions = |name: &str| {
        router.json(&format!("show policy {name}"))["tiers"][0]["policies"][0]["conditions"].clone()
    };
    for (name, path, message) in [
        ("vain", "spec.egress", "types does not hold Egress"),
        ("untracked", "spec.doNotTrack", "1 workloads that the selector names are passed over"),
    ] {
        let told = conditions(name);
        assert_eq!((&told[0]["name"], &told[0]["ok"]), (&json!(path), &json!(true)), "{told:#}");
        assert!(text(&told[0]["message"]).contains(message), "{told:#}");
    }
    let status = router.json("status")["conditions"].to_string();
    assert!(
        status.contains("Profile kns.default") && status.contains("GlobalNetworkPolicy vain"),
        "{status}"
    );
}

#[test]
fn a_start_refuses_what_is_not_enforced_where_all_must_be() {
    let site = Site::new("policy-restart");
    let mut router = site.start("");
    let applied = router.apply(&format!("{UNENFORCED}---{VAIN}"), "");
    assert_eq!(applied.code, Some(0), "{}", applied.err);
    assert_eq!(router.stop(), Some(0));
    let closed = "[policy]\nfail_closed = true\n";
    let refused = router.site.run(&router.site.config(closed));
    assert_eq!(refused.code, Some(1));
    for told in ["policy.fail_closed refuses", "Profile/kns.default: spec.ingress[0].http: is not enforced"] {
        assert!(refused.err.contains(told), "{}", refused.err);
    }
    // Notes refuse nothing.
    assert!(!refused.err.contains("vain"), "{}", refused.err);
    router.site.config("");
    router.start_again();
    assert_eq!(router.vrctl("delete profile kns.default").code, Some(0));
    assert_eq!(router.stop(), Some(0));
    router.site.config(closed);
    router.start_again();
    assert!(
        router.apply(UNENFORCED, "").err.contains("spec.ingress[0].http"),
        "refused when it is applied, too"
    );
}

#[test]
fn a_workload_sends_from_further_prefixes_where_it_may() {
    let workload = "
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: { name: a, namespace: default }
spec:
  orchestrator: k8s
  profiles: [ kns.default ]
  ipNetworks: [ 10.100.36.103/32 ]
  allowSpoofedSourcePrefixes: [ 10.100.50.0/24 ]
";
    let (p1, p2) = (Netns::new("pod"), Netns::new("pod"));
    let pods = pod("a", &p1, "10.100.36.103/32", "tap") + &pod("b", &p2, "10.100.36.104/32", "tap");
    let mut router = Site::new("policy-spoof").start(&pods);
    assert_eq!(router.apply(workload, "").code, Some(0));
    let twice = "{apiVersion: v1, kind: Pod, metadata: {name: a}, status: {podIP: 10.100.36.103}}";
    assert!(router.apply(twice, "").err.contains("describes the same pod"));
    p1.ip("addr add 10.100.50.7/32 dev eth0");
    let spoof = || p1.run("ping -c 1 -W 1 -I 10.100.50.7 10.100.36.104");
    let dropped = |router: &Router| {
        let drops = router.json("show drops");
        let of = list(&drops).find(|drop| drop["reason"] == "spoofed-source");
        of.and_then(|drop| drop["packets"].as_u64()).unwrap_or(0)
    };
    // The gateway is asked for from the pod's own address alone.
    assert!(p1.pings("10.100.36.104", 1));
    spoof();
    assert_eq!(dropped(&router), 1);
    let status = router.json("status")["conditions"].to_string();
    assert!(status.contains("spec.allowSpoofedSourcePrefixes is not enforced"), "{status}");
    assert_eq!(router.stop(), Some(0));
    router.site.config(&format!("{pods}[policy]\nworkload_source_spoofing = \"Any\"\nfail_closed = true\n"));
    router.start_again();
    assert!(p1.pings("10.100.36.104", 1));
    spoof();
    assert_eq!(dropped(&router), 0);
    assert!(!router.json("status")["conditions"].to_string().contains("allowSpoofedSourcePrefixes"));
}
