//! Policies that Calico refuses, and the words in which they are refused here.

use api::{Resource, read};

fn told(kind: &str, spec: &str) -> Vec<String> {
    let text =
        format!("apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: p}}\nspec: {{{spec}}}\n");
    let object = read(&text).remove(0);
    let problems = object.outcome.err().unwrap_or_default();
    problems.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

#[test]
fn faults_of_rules() {
    for (rule, expected) in [
        ("{}", "action: is missing"),
        ("{action: allow}", "action: found \"allow\""),
        ("{action: Allow, protocol: tcp}", "protocol: found \"tcp\""),
        ("{action: Allow, protocol: 0}", "protocol: found 0"),
        ("{action: Allow, protocol: 256}", "protocol: found 256"),
        ("{action: Allow, ipVersion: 5}", "ipVersion: found 5"),
        (
            "{action: Allow, destination: {ports: [80]}}",
            "destination.ports: ports are given without a protocol that has them",
        ),
        (
            "{action: Allow, protocol: ICMP, source: {notPorts: [80]}}",
            "source.notPorts: ports are given without a protocol that has them",
        ),
        ("{action: Allow, protocol: TCP, destination: {ports: [0]}}", "destination.ports[0]: found 0"),
        (
            "{action: Allow, protocol: TCP, destination: {ports: ['9:8']}}",
            "destination.ports[0]: found \"9:8\"",
        ),
        (
            "{action: Allow, protocol: TCP, destination: {ports: [70000]}}",
            "destination.ports[0]: found 70000",
        ),
        (
            "{action: Allow, protocol: TCP, destination: {ports: ['a b']}}",
            "destination.ports[0]: found \"a b\"",
        ),
        ("{action: Allow, icmp: {type: 8}}", "icmp: is given without protocol ICMP or ICMPv6"),
        ("{action: Allow, protocol: ICMP, icmp: {code: 0}}", "icmp.code: is given without a type"),
        ("{action: Allow, protocol: ICMP, icmp: {type: 255}}", "icmp.type: found 255"),
        ("{action: Allow, protocol: ICMPv6, ipVersion: 4}", "ipVersion: 4 beside ICMPv6"),
        ("{action: Allow, notProtocol: ICMP, ipVersion: 6}", "ipVersion: 6 beside ICMP"),
        (
            "{action: Allow, source: {nets: [10.0.0.1/8]}}",
            "source.nets[0]: 10.0.0.1/8 has bits set behind the prefix",
        ),
        ("{action: Allow, source: {nets: [10.0.0.0/33]}}", "source.nets: \"10.0.0.0/33\""),
        (
            "{action: Allow, source: {nets: [10.0.0.0/8]}, destination: {notNets: ['fd00::/8']}}",
            "destination.notNets: IPv4 and IPv6 prefixes in one rule",
        ),
        (
            "{action: Allow, ipVersion: 6, source: {nets: [10.0.0.0/8]}}",
            "source.nets: prefixes of the other IP version",
        ),
        (
            "{action: Deny, source: {notNets: [0.0.0.0/0]}}",
            "source.notNets: 0.0.0.0/0 excludes every address",
        ),
        (
            "{action: Deny, destination: {notNets: ['2001:db8::/32', '::/0']}}",
            "destination.notNets: ::/0 excludes every address",
        ),
        ("{action: Allow, source: {nets: [10.0.0.0/8, 'fd00::/8']}}", "source.nets: IPv4 and IPv6 prefixes"),
        ("{action: Allow, source: {selector: 'a = b'}}", "source.selector: \"a = b\""),
        (
            "{action: Allow, source: {selector: 'global()'}}",
            "source.selector: global() stands only in the namespaceSelector of a rule",
        ),
        (
            "{action: Allow, source: {namespaceSelector: 'global() || has(a)'}}",
            "source.namespaceSelector: global() stands beside other terms",
        ),
        ("{action: Allow, source: {selektor: 'all()'}}", "source.selektor: unknown field"),
        ("{action: Deny, http: {methods: [GET]}}", "http: beside action Deny"),
        ("{action: Allow, protocol: UDP, http: {methods: [GET]}}", "protocol: another protocol beside http"),
        ("{action: Allow, http: {paths: [{exact: x}]}}", "http.paths[0].exact: found \"x\""),
        (
            "{action: Allow, source: {services: {name: s, namespace: n}, selector: has(a)}}",
            "source.selector: stands beside services",
        ),
        ("{action: Allow, source: {services: {namespace: n}}}", "source.services.name: is missing"),
        (
            "{action: Allow, destination: {services: {name: s, namespace: n}}}",
            "destination.services: stands at the policed endpoint itself",
        ),
        ("{action: Allow, source: {services: {name: s}}}", "source.services.namespace: is missing"),
    ] {
        let told = told("GlobalNetworkPolicy", &format!("ingress: [{rule}]"));
        let found = told.iter().any(|line| {
            let line = line.strip_prefix("spec.ingress[0].").unwrap_or(line);
            line.starts_with(expected) || line.replace("[0]:", ":").starts_with(expected)
        });
        assert!(found, "{rule}: expected {expected:?}, told {told:#?}");
    }
}

#[test]
fn faults_of_policies() {
    for (kind, spec, expected) in [
        ("GlobalNetworkPolicy", "types: [Ingress, Ingress]", "spec.types[1]: Ingress is there twice"),
        ("GlobalNetworkPolicy", "types: [ingress]", "spec.types[0]: found \"ingress\""),
        ("GlobalNetworkPolicy", "order: first", "spec.order: found \"first\""),
        ("GlobalNetworkPolicy", "selector: 'global()'", "spec.selector: global() stands only"),
        ("GlobalNetworkPolicy", "preDNAT: true", "spec.applyOnForward: false beside"),
        (
            "GlobalNetworkPolicy",
            "preDNAT: true, applyOnForward: true, egress: [{action: Allow}]",
            "spec.egress: egress rules beside preDNAT",
        ),
        (
            "GlobalNetworkPolicy",
            "preDNAT: true, applyOnForward: true, types: [Egress]",
            "spec.types: Egress beside preDNAT",
        ),
        (
            "GlobalNetworkPolicy",
            "preDNAT: true, doNotTrack: true, applyOnForward: true",
            "spec.preDNAT: true beside doNotTrack",
        ),
        ("GlobalNetworkPolicy", "performanceHints: [Hurry]", "spec.performanceHints[0]: found \"Hurry\""),
        ("GlobalNetworkPolicy", "egress: [{action: Allow, http: {methods: [GET]}}]", "spec.egress[0].http"),
        ("NetworkPolicy", "preDNAT: true", "spec.preDNAT: unknown field"),
        ("NetworkPolicy", "namespaceSelector: has(a)", "spec.namespaceSelector: unknown field"),
        ("NetworkPolicy", "stagedAction: Set", "spec.stagedAction: unknown field"),
        ("StagedNetworkPolicy", "stagedAction: Drop", "spec.stagedAction: found \"Drop\""),
        ("StagedNetworkPolicy", "stagedAction: Delete, order: 1", "spec.stagedAction: Delete beside"),
        ("Tier", "defaultAction: Allow", "spec.defaultAction: found \"Allow\""),
        ("HostEndpoint", "interfaceName: eth0", "spec.node: is missing"),
        ("HostEndpoint", "node: n", "spec.interfaceName: is missing"),
        (
            "WorkloadEndpoint",
            "node: n, ipNetworks: [10.0.0.0/24]",
            "spec.ipNetworks[0]: 10.0.0.0/24 holds several",
        ),
        ("Profile", "ingress: [{action: Allow, icmp: {type: 1}}]", "spec.ingress[0].icmp"),
        ("Profile", "egress: [{action: Allow, http: {methods: [GET]}}]", "spec.egress[0].http: in an egress"),
        (
            "Profile",
            "ingress: [{action: Allow, source: {services: {name: s}}}]",
            "spec.ingress[0].source.services.namespace: is missing",
        ),
        (
            "Profile",
            "egress: [{action: Allow, source: {services: {name: s, namespace: n}}}]",
            "spec.egress[0].source.services: stands at the policed endpoint itself",
        ),
        (
            "StagedKubernetesNetworkPolicy",
            "stagedAction: Delete, podSelector: {}, ingress: [{}]",
            "spec.stagedAction: Delete beside",
        ),
        (
            "StagedKubernetesNetworkPolicy",
            "stagedAction: Delete, podSelector: {matchLabels: {a: b}}",
            "spec.stagedAction: Delete beside",
        ),
        (
            "StagedKubernetesNetworkPolicy",
            "podSelector: {matchExpressions: [{key: a, operator: In}]}",
            "spec.podSelector.matchExpressions[0].values: is empty",
        ),
        (
            "StagedKubernetesNetworkPolicy",
            "ingress: [{from: [{}]}]",
            "spec.ingress[0].from[0].podSelector: the peer is empty",
        ),
        (
            "StagedKubernetesNetworkPolicy",
            "ingress: [{ports: [{endPort: 9}]}]",
            "spec.ingress[0].ports[0].endPort: needs a number",
        ),
        (
            "StagedKubernetesNetworkPolicy",
            "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]",
            "spec.ingress[0].from[0].ipBlock.except[0]: 11.0.0.0/8 is no part of cidr",
        ),
    ] {
        let told = told(kind, spec);
        assert!(told.iter().any(|line| line.starts_with(expected)), "{spec}: {expected:?} not in {told:#?}");
    }
    let tier =
        read("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: default}, spec: {order: 5}}");
    let told = tier[0].outcome.as_ref().expect_err("the order is fixed")[0].to_string();
    assert!(told.contains("spec.order: found 5 in tier default (expected 1000000)"), "{told}");
}

#[test]
fn policies_of_a_tier_that_is_not_there() {
    let text =
        "{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: a}, spec: {tier: t}}";
    let policy = read(text).remove(0).outcome.expect("a policy");
    let told: Vec<String> = api::check_set([&policy]).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["NetworkPolicy/a: spec.tier: there is no tier \"t\" (expected the name of a tier)"]);
    let tier = read("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: t}}").remove(0);
    assert_eq!(api::check_set([&policy, &tier.outcome.expect("a tier")]), []);
}

#[test]
fn names_are_unique_within_kind_and_namespace() {
    let policy = |api: &str, namespace: &str| -> Resource {
        let text = format!(
            "{{apiVersion: {api}, kind: NetworkPolicy, metadata: {{name: a, namespace: {namespace}}}, spec: {{}}}}"
        );
        read(&text).remove(0).outcome.expect("a policy")
    };
    let (calico, kubernetes) = ("projectcalico.org/v3", "networking.k8s.io/v1");
    let set = [policy(calico, "x"), policy(calico, "y"), policy(kubernetes, "x")];
    assert_eq!(api::check_set(&set), []);
    assert_eq!(set[1].full_name(), "y/a");
    assert_eq!(api::check_set([&set[0], &set[0]]).len(), 1);
}

#[test]
fn what_is_accepted_but_not_enforced_is_named() {
    let text = "{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: a}, \
                spec: {ingress: [{action: Allow, http: {methods: [GET]}}], \
                performanceHints: [AssumeNeededOnEveryNode]}}";
    let policy = read(text).remove(0).outcome.expect("a policy");
    let told: Vec<String> = policy.not_enforced().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2);
    assert!(
        told[0].starts_with("NetworkPolicy/default/a: spec.ingress[0].http: is not enforced"),
        "{told:?}"
    );
}

fn one(text: &str) -> Resource {
    read(text).remove(0).outcome.expect("a resource")
}

#[test]
fn http_in_a_profile_is_named_too() {
    let profile = one("{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: p}, \
                       spec: {ingress: [{action: Deny}, {action: Allow, http: {methods: [GET]}}]}}");
    let told: Vec<String> = profile.not_enforced().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("Profile/p: spec.ingress[1].http: is not enforced"), "{told:?}");
}

#[test]
fn rules_of_a_direction_that_is_never_asked_are_named() {
    let told =
        |text: &str| -> Vec<String> { one(text).of_no_effect().iter().map(ToString::to_string).collect() };
    let calico = |spec: &str| {
        told(&format!(
            "{{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {{name: a}}, spec: {{{spec}}}}}"
        ))
    };
    assert_eq!(
        calico("types: [Egress], ingress: [{action: Allow}]"),
        ["NetworkPolicy/default/a: spec.ingress: is never asked: types does not hold Ingress"]
    );
    assert_eq!(calico("types: [Ingress, Egress], ingress: [{action: Allow}]"), [""; 0]);
    assert_eq!(calico("ingress: [{action: Allow}], egress: [{action: Allow}]"), [""; 0]);
    assert_eq!(
        told(
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, \
             spec: {podSelector: {}, policyTypes: [Ingress], egress: [{}]}}"
        ),
        ["KubernetesNetworkPolicy/default/a: spec.egress: is never asked: policyTypes does not hold Egress"]
    );
    let delete = one("{apiVersion: projectcalico.org/v3, kind: StagedKubernetesNetworkPolicy, \
                      metadata: {name: a}, spec: {stagedAction: Delete, podSelector: {}}}");
    assert!(delete.of_no_effect().is_empty());
}

#[test]
fn a_pod_is_described_once() {
    let pod = one("{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x}}");
    let workload = |name: &str, namespace: &str, pod: &str| {
        one(&format!(
            "{{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, \
             metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{pod}}}}}"
        ))
    };
    let (named, unnamed, other) =
        (workload("n-a-eth0", "x", "pod: a"), workload("a", "x", ""), workload("a", "y", ""));
    assert_eq!(api::check_set([&pod, &other]), []);
    for (first, second) in [(&pod, &named), (&named, &pod), (&pod, &unnamed), (&named, &unnamed)] {
        let told: Vec<String> = api::check_set([first, second]).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("describes the same pod"), "{told:?}");
    }
}
