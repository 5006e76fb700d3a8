//! `explain`, from files and of a router, and what else is shown of policy.

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

/// A server with a directory of resources.
pub(crate) fn with_resources(name: &str) -> Server {
    let server = Server::start(name);
    let directory = server.directory.join("resources");
    fs::create_dir_all(&directory).expect("the directory is ours");
    fs::write(directory.join("all.yaml"), RESOURCES).expect("the directory is ours");
    server
}

#[test]
fn one_packet_is_explained() {
    let server = with_resources("explain");
    let ask = "explain --resources resources --from x/b --to x/a --proto tcp --dport";
    let out = good(&server, &format!("{ask} 81"));
    let (lines, [rule]) = shown(&out);
    assert_eq!(
        lines,
        "\
denied
egress   Allow  profile kns.x egress[0]
  profile kns.x egress[0]  matches: Allow
ingress  Deny   tier default ingress default
  tier default KubernetesNetworkPolicy x/knp.default.web ingress[0]  no: the destination port: wanted 80, found 81
"
    );
    // All that the rule asks for stands behind it.
    for condition in
        ["protocol=TCP", "destination.ports=[80]", "source.selector=projectcalico.org/orchestrator"]
    {
        assert!(rule.contains(condition), "{rule}");
    }
    let answer: Value = serde_json::from_str(&good(&server, &format!("{ask} 80 -o json"))).expect("JSON");
    assert_eq!(answer["allowed"], json!(true));
    assert_eq!(answer["ingress"]["policy"], json!("x/knp.default.web"));
    let step = &answer["ingress"]["steps"][0];
    assert_eq!((&step["action"], &step["failed"]), (&json!("Allow"), &json!(null)));
    assert_eq!(step["conditions"]["destination"], json!({"ports": [80]}));
    let other = good(
        &server,
        "explain --resources resources --from 10.9.9.9 --to x/a --proto tcp --dport 80 -o json",
    );
    let answer: Value = serde_json::from_str(&other).expect("JSON");
    let step = &answer["ingress"]["steps"][0];
    assert_eq!((&step["failed"], &step["found"]), (&json!("the source"), &json!("10.9.9.9")));
    assert!(
        step["wanted"].as_str().expect("a text").contains("projectcalico.org/namespace == \"x\""),
        "{step}"
    );
    let udp = good(&server, "explain --resources resources --from x/b --to x/a --proto udp --dport 80");
    assert!(udp.contains("no: the protocol: wanted TCP, found UDP"), "{udp}");
}

/// What `explain` prints, apart from the conditions of rules, whose order is no matter.
fn shown<const N: usize>(out: &str) -> (String, [String; N]) {
    let (mut lines, mut conditions) = (String::new(), Vec::new());
    for line in out.lines() {
        match line.split_once("  [") {
            Some((line, rest)) => {
                lines += line;
                conditions.push(rest.to_owned());
            }
            None => lines += line,
        }
        lines.push('\n');
    }
    (lines, conditions.try_into().expect("so many rules have conditions"))
}

#[test]
fn what_is_not_read_or_said_in_vain_is_noted() {
    let server = with_resources("notes");
    let path = server.directory.join("resources");
    fs::create_dir_all(path.join("more.yaml")).expect("the directory is ours");
    fs::write(path.join("notes.txt"), "no resource").expect("the directory is ours");
    let more = "{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: kns.x}, \
                spec: {ingress: [{action: Allow, http: {methods: [GET]}}]}}\n---\n\
                {apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: early}, \
                spec: {preDNAT: true, applyOnForward: true}}\n---\n\
                {apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: vain}, \
                spec: {selector: has(y), types: [Ingress], egress: [{action: Deny}]}}\n";
    fs::write(path.join("more.json.yml"), more).expect("the directory is ours");
    let run = vrctl(&server, "explain --resources resources --from x/a --to x/b --proto tcp --dport 80");
    assert_eq!(run.code, Some(0), "{}", run.err);
    for note in [
        "resources: 2 not read, which are no .yaml, .yml or .json files: more.yaml, notes.txt",
        "Profile/kns.x: spec.ingress[0].http: is not enforced",
        "GlobalNetworkPolicy/vain: spec.egress: is never asked: types does not hold Egress",
        "GlobalNetworkPolicy/early: spec.preDNAT: is of host endpoints alone: 2 workloads",
    ] {
        assert!(run.err.contains(note), "{note:?} is not in {}", run.err);
    }
}

#[test]
fn each_icmp_keeps_to_its_ip_version() {
    let server = with_resources("icmp");
    let dual = "{apiVersion: v1, kind: Pod, metadata: {name: c, namespace: x}, spec: {nodeName: n}, \
                status: {podIPs: [{ip: 10.0.0.3}, {ip: 'fd00::3'}]}}\n---\n\
                {apiVersion: v1, kind: Pod, metadata: {name: d, namespace: x, labels: {app: d}}, \
                spec: {nodeName: n}, status: {podIPs: [{ip: 10.0.0.4}, {ip: 'fd00::4'}]}}\n---\n\
                {apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: d, namespace: x}, \
                spec: {selector: app == 'd', ingress: [{action: Allow, protocol: ICMPv6, icmp: {type: 128}}]}}";
    fs::write(server.directory.join("resources/dual.yaml"), dual).expect("the directory is ours");
    let ask = |to: &str, proto: &str| {
        vrctl(&server, &format!("explain --resources resources --from x/c --to {to} --proto {proto}"))
    };
    assert!(ask("x/d", "icmpv6").out.starts_with("allowed"));
    assert!(ask("x/d", "icmp").out.starts_with("denied"));
    let run = ask("x/b", "icmpv6");
    assert_eq!(run.code, Some(1));
    assert!(
        run.err.contains("ICMPv6 is IPv6's, of which x/c and x/b do not both have an address"),
        "{}",
        run.err
    );
    let run = ask("fd00::4", "icmp");
    assert!(run.code == Some(1) && run.err.contains("ICMP is IPv4's"), "{}", run.err);
}

#[test]
fn a_running_router_explains_in_the_same_form() {
    let server = Server::start("explain-live");
    let ask = "explain --from 10.0.0.2 --to x/a --proto tcp --dport";
    let (lines, [rule]) = shown(&good(&server, &format!("{ask} 81")));
    assert_eq!(
        lines,
        "\
denied
egress   Allow  not policed
ingress  Deny   tier default ingress default
  tier default NetworkPolicy x/web ingress[0]  no: the destination port: wanted 80, found 81
"
    );
    assert!(rule.contains("protocol=TCP") && rule.contains("destination.ports=[80]"), "{rule}");
    assert!(server.requests()[0].contains("first: Some(49152), second: Some(81)"), "{:?}", server.requests());
    let (lines, [_]) = shown(&good(&server, &format!("{ask} 80 --in eth1")));
    assert_eq!(
        lines,
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
    assert!(run.err.contains("1 of 1501 packets have no answer"), "{}", run.err);
    assert!(run.err.contains("batch:1501: \"x/c\" is not known"), "{}", run.err);
    assert_eq!(run.out.lines().count(), 1501);
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
-        kns.x   egress[0]    Allow         0      0          2  spec.egress[0].http is not enforced
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
    let ask = "explain --resources resources --from x/b --to 203.0.113.9 --proto tcp --dport 25";
    let (lines, [_]) = shown(&good(&server, ask));
    assert_eq!(
        lines,
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
