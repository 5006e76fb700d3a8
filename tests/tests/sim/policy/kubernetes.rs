//! The verdicts of Kubernetes' end-to-end tests (`vrouter/tests/data/ORIGIN.md`) as packets between pods:
//! the first of a flow, and the answer.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value, json};
use vrouter::control::{PortRole, Workload};
use vrouter_tests::lab::pod_spec;

use super::*;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

/// The pods of a case on ports, its namespaces and policies applied.
fn node(case: &Value) -> Node {
    let mut node = Node::new();
    let mut events = Vec::new();
    for (name, labels) in case["namespaces"].as_object().unwrap() {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        events.extend(put(&namespace.to_string()));
    }
    for pod in case["pods"].as_array().unwrap() {
        let name = format!("{}/{}", text(pod, "ns"), text(pod, "name"));
        let mac = [2, 0, 0, 0, 2, node.pods.len() as u8];
        let mut spec = pod_spec(&name, mac, &[text(pod, "ip")]);
        if let PortRole::Pod { workload, .. } = &mut spec.role {
            let labels: BTreeMap<String, String> = serde_json::from_value(pod["labels"].clone()).unwrap();
            let ports = [80, 81].into_iter().flat_map(|port| {
                [("tcp", TCP), ("udp", UDP), ("sctp", SCTP)].map(|(word, protocol)| api::EndpointPort {
                    name: format!("serve-{port}-{word}"),
                    protocol: api::Protocol(protocol),
                    port,
                })
            });
            *workload = Workload { labels, ports: ports.collect(), ..workload.clone() };
        }
        node.lab.port(spec);
        node.pods.insert(name, Pod { mac, address: text(pod, "ip").parse().unwrap() });
    }
    for policy in case["policies"].as_array().unwrap() {
        let mut policy = policy.clone();
        policy["apiVersion"] = json!("networking.k8s.io/v1");
        policy["kind"] = json!("NetworkPolicy");
        events.extend(put(&policy.to_string()));
    }
    node.lab.apply(events);
    node
}

#[test]
fn packets_meet_the_verdicts_of_the_end_to_end_tests() {
    let mut lines = String::new();
    let bytes: &[u8] = include_bytes!("../../../../vrouter/tests/data/k8s-e2e-truth.jsonl.gz");
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut lines).unwrap();
    let (mut allowed, mut denied) = (0, 0);
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let mut node = node(&case);
        let separate = case["verdict_columns"][4] == json!("egress_allowed");
        for (number, row) in case["verdicts"].as_array().unwrap().iter().enumerate() {
            let (from, to) = (row[0].as_str().unwrap().to_owned(), row[1].as_str().unwrap().to_owned());
            if from == to {
                continue;
            }
            let port = row[3].as_u64().unwrap() as u16;
            let own = 40_000 + number as u16;
            let (protocol, question, answer) = match row[2].as_str().unwrap() {
                "TCP" => {
                    (TCP, segment((own, port), SYN, 1, 0, &[]), segment((port, own), SYN_ACK, 9, 2, &[]))
                }
                "UDP" => (UDP, datagram((own, port), b"?"), datagram((port, own), b"!")),
                "SCTP" => (SCTP, sctp((own, port), 1, 0, 77), sctp((port, own), 2, 77, 88)),
                other => panic!("protocol {other}"),
            };
            let is = |at: usize| row[at].as_u64() == Some(1);
            let context = format!("{} {}: {row}", case["id"], case["description"]);
            let outcome = node.send(&from, &to, protocol, &question);
            match (separate, is(4), separate && is(5)) {
                (true, false, _) => assert_eq!(outcome, drop_of("policy-egress"), "{context}"),
                (true, true, false) => assert_eq!(outcome, drop_of("policy-ingress"), "{context}"),
                (false, false, _) => {
                    let reason = outcome.expect_err(&context);
                    assert!(reason.starts_with("policy-"), "{context}: {reason}");
                }
                _ => {
                    assert_eq!(outcome, Ok(()), "{context}");
                    assert_eq!(node.send(&to, &from, protocol, &answer), Ok(()), "answer of {context}");
                    allowed += 1;
                    continue;
                }
            }
            denied += 1;
        }
    }
    assert_eq!(allowed + denied, 506);
    assert!(allowed > 100 && denied > 100, "{allowed} {denied}");
}
