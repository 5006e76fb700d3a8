//! The verdicts of Kubernetes' end-to-end tests and of Cyclonus (`vrouter/tests/data/ORIGIN.md`): every
//! pod pair, port and protocol.

use std::collections::HashMap;
use std::io::Read;
use std::net::IpAddr;

use acl::model::Family;
use acl::{Action, Headers, RuleId, Verdict};
use api::read;
use serde_json::{Value, json};

use super::super::{EndpointKey, PolicyWorld};

fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).expect("the file is whole");
    text
}

/// A world of the namespaces, pods and policies of one case, and the pods' addresses.
fn world(case: &Value) -> (PolicyWorld, HashMap<String, IpAddr>) {
    let mut objects: Vec<Value> = Vec::new();
    for (name, labels) in case["namespaces"].as_object().expect("namespaces") {
        objects.push(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        );
    }
    let mut addresses = HashMap::new();
    for pod in case["pods"].as_array().expect("pods") {
        let text = |key: &str| pod[key].as_str().expect("a text");
        let key = format!("{}/{}", text("ns"), text("name"));
        addresses.insert(key, text("ip").parse().expect("an address"));
        // The tests' pods serve each protocol on each port, under such a name.
        let mut ports = Vec::new();
        for port in [80, 81] {
            for protocol in ["TCP", "UDP", "SCTP"] {
                let name = format!("serve-{port}-{}", protocol.to_lowercase());
                ports.push(json!({"name": name, "containerPort": port, "protocol": protocol}));
            }
        }
        objects.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": text("name"), "namespace": text("ns"), "labels": pod["labels"]},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i", "ports": ports}]},
            "status": {"phase": "Running", "podIPs": [{"ip": text("ip")}]},
        }));
    }
    for policy in case["policies"].as_array().expect("policies") {
        let mut policy = policy.clone();
        policy["apiVersion"] = json!("networking.k8s.io/v1");
        policy["kind"] = json!("NetworkPolicy");
        objects.push(policy);
    }
    let mut world = PolicyWorld::new();
    for object in objects {
        let text = object.to_string();
        let resource = read(&text).remove(0).outcome;
        world.apply(&resource.unwrap_or_else(|problems| panic!("{} {problems:#?} {text}", case["id"])));
    }
    world.publish();
    world.settle();
    (world, addresses)
}

/// Egress of the source, ingress of the destination.
fn verdicts(world: &PolicyWorld, addresses: &HashMap<String, IpAddr>, row: &[Value]) -> [bool; 2] {
    let text = |at: usize| row[at].as_str().expect("a text");
    let (from, to) = (text(0), text(1));
    let class = |pod: &str| match addresses[pod] {
        IpAddr::V4(address) => world.engine().trie(Family::V4).lookup4(address.into()),
        IpAddr::V6(address) => world.engine().trie(Family::V6).lookup6(address.into()),
    };
    let protocol = match text(2) {
        "TCP" => 6,
        "UDP" => 17,
        "SCTP" => 132,
        other => panic!("protocol {other}"),
    };
    let port = row[3].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let mut headers = Headers::new();
    headers.set(0, addresses[to].is_ipv6(), (class(from), class(to)), protocol, Some((40_000, port)));
    let key = |pod: &str| {
        let (namespace, name) = pod.split_once('/').expect("namespace/name");
        EndpointKey::workload(namespace, name)
    };
    let egress = world.programs(&key(from)).expect("the pod exists").egress;
    let ingress = world.programs(&key(to)).expect("the pod exists").ingress;
    [egress, ingress].map(|program| {
        let mut verdicts = [Verdict { action: Action::Deny, rule: RuleId::NONE }; 64];
        let program = world.engine().program(program).expect("the program exists");
        let decided = program.decide(&headers, 1, &mut verdicts);
        assert_eq!(decided.open, 0);
        assert!(world.names().name(verdicts[0].rule).is_some());
        decided.allowed == 1
    })
}

fn check(text: &str) -> (usize, usize) {
    let (mut cases, mut rows) = (0, 0);
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("the line is JSON");
        let (world, addresses) = world(&case);
        let separate = case["verdict_columns"][4] == json!("egress_allowed");
        for row in case["verdicts"].as_array().expect("verdicts") {
            let row = row.as_array().expect("a row");
            if row[0] == row[1] {
                continue;
            }
            let [egress, ingress] = verdicts(&world, &addresses, row);
            let expected = |at: usize| row[at].as_u64() == Some(1);
            let right = match separate {
                true => egress == expected(4) && ingress == expected(5),
                false => (egress && ingress) == expected(4),
            };
            assert!(right, "{} {}: {row:?}, found {egress} {ingress}", case["id"], case["description"]);
            rows += 1;
        }
        cases += 1;
    }
    (cases, rows)
}

#[test]
fn verdicts_of_the_end_to_end_tests() {
    let text = unpacked(include_bytes!("../../../../tests/data/k8s-e2e-truth.jsonl.gz"));
    assert_eq!(check(&text), (58, 506));
}

#[test]
fn verdicts_of_cyclonus() {
    let text = unpacked(include_bytes!("../../../../tests/data/cyclonus-truth-third.jsonl.gz"));
    let (cases, rows) = check(&text);
    assert_eq!(cases, 89);
    assert!(rows > 30_000, "{rows}");
}
