//! Objects that others have written: every valid one is read as it is (`tests/data/ORIGIN.md`).

use std::collections::BTreeSet;

use api::{Kind, Object, read};

/// Documents one by one: some of the examples are no YAML, which ends a text.
fn objects(text: &str) -> Vec<Object> {
    let documents = text.split("\n---").map(|document| document.trim_start_matches("---"));
    let holds_more =
        |document: &&str| document.lines().any(|line| !line.is_empty() && !line.starts_with('#'));
    documents.filter(holds_more).flat_map(read).collect()
}

/// Examples that Calico refuses too: parts left out, words where the reader is to fill in a value, and
/// oversights of the documentation.
const NOT_VALID: [(&str, &str); 16] = [
    ("", "mapping values are not allowed"),
    ("", "found character that cannot start any token"),
    ("", "could not find expected ':'"),
    ("", "containerID: invalid type: integer"),
    ("allow-ping-in-cluster", "icmp.type: found \"8  Ping request\""),
    ("allow-host-unreachable", "icmp.type: found \"3  Destination unreachable\""),
    ("k8s-worker", "nets[0]: \"<your management CIDR>\""),
    ("<log-everything-in-cluster>", "metadata.name"),
    ("log-everything-in-ns", "namespace: \"<namespace>\""),
    ("allow-tigera-gateway-proxy", "namespace: \"<gateway-namespace>\""),
    ("node1-eth0", "expectedIPs[0]: \"INSERT_IP_HERE\""),
    ("foo-and-bar", "ports are given without a protocol"),
    ("allow-to-pods", "nets[0]: \"192.168.0.0/16  Pod CIDR\""),
    ("allow-cluster-ips", "nets[0]: \"10.20.30.40/32  Cluster IP A\""),
    ("allow-cluster-internal-ingress-only", "nets[0]: 1.2.3.4/16 has bits set behind the prefix"),
    ("allow-traffic-hostendpoints", "types[1]: found a mapping"),
];

fn told_by(object: &Object) -> String {
    match &object.outcome {
        Ok(_) => String::new(),
        Err(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
    }
}

#[test]
fn every_valid_example_is_read() {
    let files = [
        (15, include_str!("data/policy-yaml/ahmetb-recipes.yaml")),
        (11, include_str!("data/policy-yaml/cyclonus-yaml.yaml")),
        (160, include_str!("data/policy-yaml/calico-docs.yaml")),
    ];
    let (mut read_well, mut elsewhere, mut not_built) = (0, 0, 0);
    let (mut refused, mut met) = (Vec::new(), BTreeSet::new());
    for (at_least, text) in files {
        let objects = objects(text);
        assert!(objects.len() >= at_least, "{}", objects.len());
        for object in &objects {
            let told = told_by(object);
            if object.outcome.is_ok() {
                read_well += 1;
            } else if told.contains("is not supported by this release") && !told.contains("unknown") {
                // A kind of another part, or a pool that asks for what is not built yet: named.
                match object.kind.parse::<Kind>() {
                    Ok(kind) => assert_eq!(kind, Kind::IpPool, "{told}"),
                    Err(_) => elsewhere += 1,
                }
                not_built += 1;
            } else {
                let known = |(name, part): &(&str, &str)| *name == object.name && told.contains(part);
                match NOT_VALID.iter().position(known) {
                    Some(at) => drop(met.insert(at)),
                    None if object.kind == "IPPool" => {}
                    None => refused.push(told),
                }
            }
        }
    }
    println!("{read_well} read, {not_built} not built, {elsewhere} of other kinds");
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert_eq!(met.len(), NOT_VALID.len(), "{met:?}");
    assert!(read_well >= 140, "{read_well}");
}

#[test]
fn what_was_read_is_written_and_read_again() {
    let texts = [
        include_str!("data/policy-yaml/ahmetb-recipes.yaml"),
        include_str!("data/policy-yaml/cyclonus-yaml.yaml"),
        include_str!("data/policy-yaml/calico-docs.yaml"),
    ];
    for object in texts.into_iter().flat_map(objects) {
        let Ok(resource) = object.outcome else { continue };
        let text = resource.to_yaml();
        let again = read(&text).remove(0);
        assert_eq!(again.outcome.as_ref(), Ok(&resource), "{text}");
    }
}
