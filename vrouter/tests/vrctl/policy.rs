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
    assert!(run.err.contains("batch:1: \"x/c\" is neither an address nor"), "{}", run.err);
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
