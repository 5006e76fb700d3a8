//! `explain` and `policy test`: no router, only files.

use std::fs;

use serde_json::{Value, json};

use crate::mock::Server;
use crate::{good, vrctl};

const RESOURCES: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {app: web}},
 spec: {nodeName: n}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x}, spec: {nodeName: n}, status: {podIP: 10.0.0.2}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web, namespace: x},
 spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]}}
";

fn with_resources(name: &str) -> Server {
    let server = Server::start(name);
    let directory = server.directory.join("resources");
    fs::create_dir_all(&directory).expect("the directory is ours");
    fs::write(directory.join("all.yaml"), RESOURCES).expect("the directory is ours");
    fs::write(directory.join("notes.txt"), "no resource").expect("the directory is ours");
    server
}

#[test]
fn one_packet_is_explained() {
    let server = with_resources("explain");
    let ask = "explain --resources resources --from x/b --to x/a --proto tcp --dport";
    assert_eq!(
        good(&server, &format!("{ask} 81")),
        "\
denied
egress   Allow  profile kns.x egress[0]
  profile kns.x egress[0]  matches: Allow
ingress  Deny   tier default ingress default
  tier default KubernetesNetworkPolicy x/knp.default.web ingress[0]  no: the destination port
"
    );
    let answer: Value = serde_json::from_str(&good(&server, &format!("{ask} 80 -o json"))).expect("JSON");
    assert_eq!(answer["allowed"], json!(true));
    assert_eq!(answer["ingress"]["policy"], json!("x/knp.default.web"));
}

#[test]
fn a_file_of_packets_is_answered_line_by_line() {
    let server = with_resources("batch");
    let lines = "\
{\"from\": \"x/b\", \"to\": \"x/a\", \"proto\": \"tcp\", \"dport\": 80}
{\"from\": \"192.0.2.1\", \"to\": \"x/a\", \"proto\": 6, \"dport\": 80}

{\"from\": \"x/b\", \"to\": \"10.0.0.1\", \"proto\": \"icmp\"}
";
    fs::write(server.directory.join("batch"), lines).expect("the directory is ours");
    let out = good(&server, "explain --resources resources --batch batch");
    let allowed: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["allowed"].clone())
        .collect();
    assert_eq!(allowed, [json!(true), json!(false), json!(false)]);
    fs::write(
        server.directory.join("batch"),
        "{\"from\": \"x/b\", \"to\": \"x/c\", \"proto\": \"tcp\", \"dport\": 1}",
    )
    .expect("the directory is ours");
    let run = vrctl(&server, "explain --resources resources --batch batch");
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("batch:1: \"x/c\" is neither an address, nor"), "{}", run.err);
}

#[test]
fn cases_are_compared() {
    let server = with_resources("policy-test");
    let case = |port: u16, expect: &str| {
        format!(
            "{{\"from\": \"x/b\", \"to\": \"x/a\", \"proto\": \"tcp\", \"dport\": {port}, \"expect\": {expect}}}\n"
        )
    };
    let good_cases =
        [case(80, "true"), case(81, "\"deny\""), case(81, "{\"ingress\": {\"tier\": \"default\"}}")];
    fs::write(server.directory.join("cases"), good_cases.concat()).expect("the directory is ours");
    assert_eq!(good(&server, "policy test cases --resources resources"), "3 cases, 0 wrong\n");
    fs::write(server.directory.join("cases"), case(80, "false")).expect("the directory is ours");
    let run = vrctl(&server, "policy test cases --resources resources");
    assert_eq!(run.code, Some(1));
    assert!(run.out.starts_with("cases:1: x/b to x/a: allowed: expected false, found true\n"), "{}", run.out);
    fs::write(server.directory.join("cases"), "{}").expect("the directory is ours");
    let run = vrctl(&server, "policy test cases --resources resources");
    assert_eq!((run.code, run.err.as_str()), (Some(1), "vrctl: cases:1: from: is missing\n"));
}

#[test]
fn a_running_router_explains_in_the_same_form() {
    let server = Server::start("explain-live");
    let ask = "explain --from 10.0.0.2 --to x/a --proto tcp --dport";
    assert_eq!(
        good(&server, &format!("{ask} 81")),
        "\
denied
egress   Allow  not policed
ingress  Deny   tier default ingress default
  tier default NetworkPolicy x/web ingress[0]  no: the destination port
"
    );
    assert!(server.requests()[0].contains("first: Some(49152), second: Some(81)"), "{:?}", server.requests());
    assert_eq!(
        good(&server, &format!("{ask} 80 --in eth1")),
        "\
allowed
egress   Allow  not policed
forward  Allow  nothing decides, which lets it pass (host endpoint up, ingress at eth1)
ingress  Allow  tier default NetworkPolicy x/web ingress[0]
  tier default NetworkPolicy x/web ingress[0]  matches: Allow
"
    );
    let run = vrctl(&server, &format!("{ask} 80 --node n"));
    assert_eq!(run.code, Some(2), "a node is named for files alone");
    let lines = "{\"from\": \"10.0.0.2\", \"to\": \"x/a\", \"proto\": \"tcp\", \"dport\": 80}\n".repeat(1500);
    fs::write(server.directory.join("batch"), &lines).expect("the directory is ours");
    let out = good(&server, "explain --batch batch");
    assert_eq!(out.lines().count(), 1500);
    let first: Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
    let side = json!({"verdict": "Allow", "tier": null, "policy": null, "rule": null});
    assert_eq!((&first["allowed"], &first["egress"]), (&json!(true), &side));
    fs::write(server.directory.join("batch"), lines + &lines_to_c()).expect("the directory is ours");
    let run = vrctl(&server, "explain --batch batch");
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("batch:1501: \"x/c\" is not known"), "{}", run.err);
}

fn lines_to_c() -> String {
    "{\"from\": \"x/a\", \"to\": \"x/c\", \"proto\": \"tcp\", \"dport\": 80}\n".to_owned()
}

#[test]
fn policy_flows_and_denials_are_shown() {
    let server = Server::start("show-policy");
    let cases = [
        (
            "show policy",
            "\
TIER     POLICY  RULE         ACTION  PACKETS  BYTES  ENDPOINTS  NOTES
default  x/web   ingress[0]   Allow         7    700          1  spec.ingress[0].http is not enforced
default  x/web   ingress[1]   Log           0      0          1  spec.ingress[0].http is not enforced
default  none    -            -             0      0          0  staged
default  -       ingress end  Deny          3    300          0  -
-        kns.x   egress[0]    Allow         0      0          2  -
-        -       ingress end  Deny          0      0          0  -
",
        ),
        (
            "show policy --counted",
            "\
TIER     POLICY  RULE         ACTION  PACKETS  BYTES  ENDPOINTS  NOTES
default  x/web   ingress[0]   Allow         7    700          1  spec.ingress[0].http is not enforced
default  -       ingress end  Deny          3    300          0  -
",
        ),
        (
            "show flows",
            "\
FROM            TO      PROTOCOL  PHASE            EXPIRES  PACKETS  REPLIES  EGRESS  INGRESS
10.0.0.2:40000  x/a:80  tcp       tcp-established  1h0m           4        3  -       tier default NetworkPolicy x/web ingress[0] (to be asked again)
",
        ),
    ];
    for (verb, expected) in cases {
        assert_eq!(good(&server, verb), expected, "{verb}");
    }
    let wide = good(&server, "show policy -o wide");
    let conditions = "protocol=TCP source.selector=role == \"client\" destination.ports=[80]; (app";
    let sorted = "destination.ports=[80] protocol=TCP source.selector=role == \"client\"; (app";
    assert!(wide.contains(conditions) || wide.contains(sorted), "{wide}");
    let shown: Value = serde_json::from_str(&good(&server, "show policy -o json")).expect("JSON");
    assert_eq!(shown["tiers"][1]["policies"][0]["rules"][0]["packets"], json!(7));
    let run = vrctl(&server, "show denials --pod x/a --dport 81 --rule default");
    assert_eq!(
        run.out,
        "\
TIME                EVENT   DIRECTION  FROM            TO       PROTOCOL      RULE
00:00:01.000000007  denied  ingress    10.0.0.2:40000  x/a:81   tcp           tier default ingress default
00:00:01.000000007  denied  ingress    fd00::2         fd00::1  icmpv6 128/0  tier default ingress default
"
    );
    assert_eq!(run.err, "vrctl: 5 more packets are not listed: there were too many at a time\n");
    let asked = server.requests().pop().expect("a request");
    assert!(asked.contains("pod: \"x/a\", rule: \"default\""), "{asked}");
    let followed = vrctl(&server, "show denials --follow").out;
    assert_eq!(
        followed.lines().next(),
        Some("00:00:01.000000007 denied ingress 10.0.0.2:40000 > x/a:81 tcp by tier default ingress default")
    );
}

#[test]
fn a_change_is_compared_before_it_is_made() {
    let server = Server::start("diff");
    fs::write(server.directory.join("new.yaml"), RESOURCES).expect("the directory is ours");
    assert_eq!(
        good(&server, "policy diff new.yaml --delete networkpolicy/x/web"),
        "\
CHANGE   OF    FROM            TO      PROTOCOL  PACKETS  THEN
stopped  flow  10.0.0.2:40000  x/a:80  tcp             7  tier default ingress default
12 flows and 2 denials compared: 3 would be stopped, 0 would pass, 2 of them not listed
"
    );
    let asked = server.requests().pop().expect("a request");
    assert!(asked.contains("deletions: [\"networkpolicy/x/web\"]"), "{asked}");
    fs::write(server.directory.join("bad.yaml"), "kind: What").expect("the directory is ours");
    let run = vrctl(&server, "policy diff bad.yaml");
    assert_eq!(run.code, Some(1));
    assert!(run.err.starts_with("vrctl: refused, nothing was compared"), "{}", run.err);
    assert_eq!(vrctl(&server, "policy diff").code, Some(2));
}

const HOSTS: &str = "
{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: n-eth0, labels: {host: eth0}},
 spec: {node: n, interfaceName: eth0, expectedIPs: [192.0.2.1]}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: own},
 spec: {selector: host == 'eth0', types: [Ingress, Egress],
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [9100]}}]}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: forwarded},
 spec: {selector: host == 'eth0', applyOnForward: true, types: [Egress], order: 5,
  egress: [{action: Deny, protocol: TCP, destination: {ports: [25]}}, {action: Allow}]}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: early},
 spec: {selector: host == 'eth0', applyOnForward: true, preDNAT: true,
  ingress: [{action: Deny, source: {nets: [198.51.100.0/24]}}]}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: fast},
 spec: {selector: host == 'eth0', applyOnForward: true, doNotTrack: true, types: [Ingress, Egress],
  ingress: [{action: Allow, protocol: UDP, destination: {ports: [514]}}]}}
";

#[test]
fn host_endpoints_are_asked_from_files() {
    let server = with_resources("explain-hosts");
    fs::write(server.directory.join("resources/hosts.yaml"), HOSTS).expect("the directory is ours");
    assert_eq!(
        good(&server, "explain --resources resources --from x/b --to 203.0.113.9 --proto tcp --dport 25"),
        "\
denied
egress   Allow  profile kns.x egress[0]
  profile kns.x egress[0]  matches: Allow
forward  Deny   tier default GlobalNetworkPolicy forwarded egress[0] (host endpoint n-eth0, egress at eth0)
  tier default GlobalNetworkPolicy forwarded egress[0]  matches: Deny
ingress  Allow  not policed
"
    );
    let case = |from: &str, to: &str, proto: &str, port: u16, expect: &str| {
        format!(
            "{{\"from\": \"{from}\", \"to\": \"{to}\", \"proto\": \"{proto}\", \"dport\": {port}, \"expect\": {expect}}}\n"
        )
    };
    let side =
        |policy: &str| format!("{{\"ingress\": {{\"policy\": {policy}, \"host_endpoint\": \"n-eth0\"}}}}");
    let far = "203.0.113.9";
    let cases = [
        case(
            "x/b",
            far,
            "tcp",
            26,
            r#"{"allowed": true, "forward": [{"policy": "forwarded", "interface": "eth0"}]}"#,
        ),
        // The node itself: by its address, its device and its endpoint.
        case(far, "192.0.2.1", "tcp", 9100, &side("\"own\"")),
        case(far, "eth0", "tcp", 9101, r#"{"allowed": false, "ingress": {"tier": "default"}}"#),
        case(far, "n-eth0", "tcp", 22, r#"{"allowed": true, "ingress": {"rule": "failsafe ingress"}}"#),
        case(far, "eth0", "udp", 514, &side("\"fast\"")),
        case("198.51.100.7", "eth0", "tcp", 9100, &side("\"early\"")),
        case("198.51.100.7", "eth0", "tcp", 22, "true"),
        case("eth0", far, "udp", 53, r#"{"allowed": true, "egress": {"rule": "failsafe egress"}}"#),
        case("eth0", far, "udp", 54, r#"{"allowed": true, "egress": {"policy": "forwarded"}}"#),
        case("eth0", far, "tcp", 25, "false"),
        // The node to its pods, and pods to the node.
        case("eth0", "x/a", "tcp", 81, "true"),
        case("x/b", "eth0", "tcp", 9101, "true"),
        // Through the node: what is not here is behind its only uplink.
        case("198.51.100.7", "x/b", "tcp", 80, r#"{"allowed": false, "forward": [{"policy": "early"}]}"#),
        case(far, "x/a", "udp", 514, r#"{"forward": [{"policy": "fast"}], "ingress": {"verdict": "Deny"}}"#),
    ];
    fs::write(server.directory.join("cases"), cases.concat()).expect("the directory is ours");
    assert_eq!(good(&server, "policy test cases --resources resources"), "14 cases, 0 wrong\n");
    let ask = "explain --resources resources --from 203.0.113.9 --to eth0 --proto tcp --dport";
    assert!(good(&server, &format!("{ask} 22 --failsafe-inbound none")).starts_with("denied"));
    assert!(
        good(&server, &format!("{ask} 2222 --failsafe-inbound tcp:203.0.113.0/24:2222"))
            .starts_with("allowed")
    );
    let run = vrctl(&server, &format!("{ask} 22 --failsafe-inbound 22"));
    assert!(run.code == Some(2) && run.err.contains("PROTOCOL:PORT"), "{}", run.err);
    let run = vrctl(&server, &format!("{ask} 22 --in eth7"));
    assert!(run.code == Some(1) && run.err.contains("\"eth7\" is no uplink or host endpoint"), "{}", run.err);
    // Endpoints of two nodes, then two uplinks of one.
    let other = HOSTS.split("---").next().expect("a document");
    let other =
        other.replace("n-eth0", "m-eth0").replace("node: n", "node: m").replace("192.0.2.1", "192.0.2.2");
    fs::write(server.directory.join("resources/other.yaml"), &other).expect("the directory is ours");
    let run = vrctl(&server, &format!("{ask} 22"));
    assert!(run.code == Some(1) && run.err.contains("--node says of which node, m, n"), "{}", run.err);
    assert!(good(&server, &format!("{ask} 22 --node n")).starts_with("allowed"));
    let other = other.replace("node: m", "node: n").replace("interfaceName: eth0", "interfaceName: eth1");
    fs::write(server.directory.join("resources/other.yaml"), other).expect("the directory is ours");
    let ask = "explain --resources resources --from x/b --to 203.0.113.9 --proto tcp --dport 25";
    let run = vrctl(&server, ask);
    assert!(run.code == Some(1) && run.err.contains("behind any of eth0, eth1"), "{}", run.err);
    assert!(good(&server, &format!("{ask} --out eth1")).starts_with("denied"));
}
