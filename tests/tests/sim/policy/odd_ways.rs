//! Packets that take odd ways or look odd: a pod's to itself, codes of ICMP, extension headers of IPv6,
//! sources beside a pod's own.

use super::*;

/// What reaches `web`: by a policy of ingress that names these rules.
fn ingress(node: &mut Node, rules: &str) {
    node.apply(&format!(
        "{{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {{name: in, namespace: default}}, \
         spec: {{selector: app == 'web', types: [Ingress], ingress: [{rules}]}}}}"
    ));
}

#[test]
fn a_pod_meets_its_own_policy_on_the_way_to_itself() {
    let mut node = web();
    // By the router and back by the same port: egress and ingress are both asked.
    assert_eq!(node.syn("web", "web", (1, 80)), Ok(()));
    ingress(&mut node, "{action: Allow, protocol: TCP, source: {selector: role == 'client'}}");
    assert_eq!(node.syn("web", "web", (2, 80)), drop_of("policy-ingress"));
    assert_eq!(node.syn("client", "web", (2, 80)), Ok(()));
    ingress(&mut node, "{action: Allow, protocol: TCP, source: {selector: app == 'web'}}");
    assert_eq!(node.syn("web", "web", (3, 80)), Ok(()));
    assert_eq!(node.send("web", "web", TCP, &segment((80, 3), SYN_ACK, 5000, 1001, &[])), Ok(()));
    assert_eq!(node.send("web", "web", TCP, &segment((3, 80), ACK, 1001, 5001, b"GET")), Ok(()));
    let out = "{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: out, namespace: default}, \
               spec: {selector: app == 'web', types: [Egress], egress: []}}";
    node.apply(out);
    assert_eq!(node.syn("web", "web", (4, 80)), drop_of("policy-egress"));
    assert_eq!(
        node.send("web", "web", TCP, &segment((3, 80), ACK, 1004, 5001, b"GET")),
        drop_of("policy-egress")
    );
}

#[test]
fn codes_of_icmp_decide() {
    let mut node = web();
    // Each with an identifier of its own, and so of a flow of its own.
    let question = |kind, code, id: u32| packet::icmp(kind, code, id << 16, &[0; 12]);
    ingress(
        &mut node,
        "{action: Deny, protocol: ICMP, icmp: {type: 8, code: 5}}, {action: Allow, protocol: ICMP, icmp: {type: 8}}",
    );
    assert_eq!(node.send("client", "web", 1, &question(8, 0, 7)), Ok(()));
    assert_eq!(node.send("client", "web", 1, &question(8, 5, 8)), drop_of("policy-ingress"));
    assert_eq!(node.send("client", "web", 1, &question(13, 0, 9)), drop_of("policy-ingress"));
    ingress(&mut node, "{action: Allow, protocol: ICMP, icmp: {type: 8, code: 0}}");
    assert_eq!(node.send("client", "web", 1, &question(8, 0, 17)), Ok(()));
    assert_eq!(node.send("client", "web", 1, &question(8, 1, 18)), drop_of("policy-ingress"));
    ingress(&mut node, "{action: Allow, protocol: ICMP, notICMP: {type: 8, code: 0}}");
    assert_eq!(node.send("client", "web", 1, &question(8, 0, 27)), drop_of("policy-ingress"));
    assert_eq!(node.send("client", "web", 1, &question(8, 1, 28)), Ok(()));
}

#[test]
fn the_code_that_opened_a_flow_counts_when_policy_changes() {
    for (mut node, protocol, kind) in [(web(), 1, 8), (web6(), 58, 128)] {
        let name = if protocol == 1 { "ICMP" } else { "ICMPv6" };
        let rule =
            |code: u8| format!("{{action: Allow, protocol: {name}, icmp: {{type: {kind}, code: {code}}}}}");
        let question = |node: &Node, code: u8, id: u32| match (node.address("client"), node.address("web")) {
            (IpAddr::V6(from), IpAddr::V6(to)) => packet::icmp6(from, to, kind, code, id << 16, b"?"),
            _ => packet::icmp(kind, code, id << 16, b"?"),
        };
        let (plain, coded) = (question(&node, 0, 1), question(&node, 5, 2));
        assert_eq!(node.send("client", "web", protocol, &plain), Ok(()));
        assert_eq!(node.send("client", "web", protocol, &coded), Ok(()));
        // Both flows are asked about again, each as it was opened.
        ingress(&mut node, &rule(5));
        assert_eq!(node.send("client", "web", protocol, &coded), Ok(()));
        assert_eq!(node.send("client", "web", protocol, &plain), drop_of("policy-ingress"));
        ingress(&mut node, &rule(0));
        assert_eq!(node.send("client", "web", protocol, &coded), drop_of("policy-ingress"));
        assert_eq!(node.send("client", "web", protocol, &plain), Ok(()));
    }
}

/// Pods of IPv6.
fn web6() -> Node {
    let mut node = Node::new();
    node.pod("web", "fd00:10::1", &[("app", "web")]);
    node.pod("client", "fd00:10::2", &[("role", "client")]);
    node
}

/// Options of padding alone (RFC 8200 4.2), before a header of this protocol.
fn padding(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

/// A routing header without segments left (RFC 8200 4.4).
fn routing(next: u8) -> [u8; 8] {
    [next, 0, 2, 0, 0, 0, 0, 0]
}

#[test]
fn policy_reads_behind_extension_headers() {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const OPTIONS: u8 = 60;
    let mut node = web6();
    ingress(
        &mut node,
        "{action: Allow, protocol: UDP, destination: {ports: [53]}}, {action: Deny, protocol: 60}",
    );
    let chains: [(u8, Vec<u8>); 4] = [
        (OPTIONS, padding(UDP).to_vec()),
        (HOP_BY_HOP, padding(UDP).to_vec()),
        (ROUTING, routing(UDP).to_vec()),
        (HOP_BY_HOP, [padding(OPTIONS), padding(ROUTING), routing(UDP)].concat()),
    ];
    for (at, (first, chain)) in chains.into_iter().enumerate() {
        let from = 1000 + at as u16;
        let behind = |port: u16| [chain.clone(), datagram((from, port), b"?")].concat();
        assert_eq!(node.send("client", "web", first, &behind(53)), Ok(()), "{first} {chain:?}");
        assert_eq!(
            node.send("client", "web", first, &behind(54)),
            drop_of("policy-ingress"),
            "{first} {chain:?}"
        );
        // The flow is that of the datagram, whatever headers stand before it.
        assert_eq!(node.send("web", "client", UDP, &datagram((53, from), b"!")), Ok(()));
    }
}

/// `web` asks for its gateway from this address.
fn asks4(node: &Node, source: &str) -> Vec<u8> {
    let mac = node.pods["web"].mac;
    let gateway = "169.254.1.1".parse().unwrap();
    node.wrap("web", 0x0806, &packet::arp(1, mac, source.parse().unwrap(), [0; 6], gateway))
}

fn asks6(node: &Node, source: &str) -> Vec<u8> {
    let gateway = "fe80::ecee:eeff:feee:eeee".parse().unwrap();
    let mac = Some(node.pods["web"].mac);
    node.wrap("web", 0x86dd, &packet::solicit(source.parse().unwrap(), gateway, gateway, mac))
}

#[test]
fn sources_beside_a_pods_own_need_a_resource_and_the_nodes_consent() {
    for (mut node, own, nets, inside, outside) in [
        (web(), "10.1.0.1/32", "10.50.0.0/16", "10.50.0.9", "10.51.0.9"),
        (web6(), "fd00:10::1/128", "fd00:50::/64", "fd00:50::9", "fd00:51::9"),
    ] {
        let workload = |nets: &str| {
            format!(
                "{{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {{name: web, namespace: default}}, \
                 spec: {{orchestrator: k8s, profiles: [kns.default], ipNetworks: ['{own}'], \
                 allowSpoofedSourcePrefixes: [{nets}]}}}}"
            )
        };
        let frame = |node: &Node, source: &str| {
            let (ethertype, packet) =
                ip(source.parse().unwrap(), node.address("client"), UDP, &datagram((1, 53), b"?"));
            node.wrap("web", ethertype, &packet)
        };
        // A stack asks for its gateway from the address that it is about to send from.
        let (asks, not_answered) = match own.contains(':') {
            false => (asks4 as fn(&Node, &str) -> Vec<u8>, drop_of("arp-spoofed")),
            true => (asks6 as fn(&Node, &str) -> Vec<u8>, drop_of("nd-spoofed")),
        };
        let (asks_inside, asks_outside) = (asks(&node, inside), asks(&node, outside));
        let (inside, outside) = (frame(&node, inside), frame(&node, outside));
        node.apply(&workload(&format!("'{nets}'")));
        assert_eq!(node.outcome("web", "client", &inside), drop_of("spoofed-source"));
        assert_eq!(node.outcome("web", "web", &asks_inside), not_answered);
        node.lab.apply([Event::SetSourceSpoofing(true)]);
        assert_eq!(node.outcome("web", "client", &inside), Ok(()));
        assert_eq!(node.outcome("web", "web", &asks_inside), Ok(()));
        assert_eq!(node.outcome("web", "client", &outside), drop_of("spoofed-source"));
        assert_eq!(node.outcome("web", "web", &asks_outside), not_answered);
        // A pod that asks for nothing may not.
        let other = [&inside[..6], &node.pods["client"].mac, &inside[12..]].concat();
        assert_eq!(node.outcome("client", "client", &other), drop_of("spoofed-source"));
        node.apply(&workload(""));
        assert_eq!(node.outcome("web", "client", &inside), drop_of("spoofed-source"));
    }
}
