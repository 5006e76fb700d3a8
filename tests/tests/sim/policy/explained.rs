//! Answers of `explain` against packets: random worlds, and of each a few thousand random packets between
//! pods, the node itself and hosts behind its two uplinks, with and without host endpoints. Where a packet
//! goes, why it is dropped, and which rules counted it is what the answer said; and what it said from the
//! resources alone, where they tell enough.
//!
//! ```text
//!   12 pods --- router --- up, exclusive: 172.16.20.1/24, 10.99.0.0/16
//!      node ---'      '--- side, shared:  172.16.21.1/24, 10.98.0.0/16
//! ```
//!
//! 100,000 packets in all; `EXPLAINED_PACKETS` changes the number.

use std::collections::HashMap;

use serde_json::{Value, json};
use vrouter::control::policy::{Answer, NodeView, Query, Questions};
use vrouter::tables::NeighborState;
use vrouter_tests::lab::mac_text;

use super::*;

const PODS: usize = 12;
/// Hosts behind each uplink.
const FAR_HOSTS: usize = 3;
const HOST: Mac = [2, 0, 0, 0, 9, 1];
const STACK: Mac = [2, 0, 0, 0, 9, 2];
const SIDE: Mac = [2, 0, 0, 0, 0, 0xec];
const SIDE_FAR: Mac = [2, 0, 0, 0, 0, 0xed];
/// The node's address.
const NODE: &str = "172.16.20.1";
/// Packets of a world.
const PACKETS: usize = 5000;
/// Packets that are under way together.
const BATCH: usize = 1000;

/// A small generator of numbers (xorshift64*), so that a failure can be repeated.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

const APPS: [&str; 3] = ["a", "b", "c"];
const NAMESPACES: [&str; 3] = ["red", "blue", "green"];
const SELECTORS: [&str; 9] = [
    "all()",
    "app == 'a'",
    "app in {'a', 'b'}",
    "app != 'c'",
    "has(role)",
    "!has(role) && app == 'b'",
    "role == 'x' || app == 'c'",
    "app starts with 'a'",
    "kind == 'set'",
];
const NETS: [&str; 7] = [
    "10.1.0.0/24",
    "10.1.0.4/30",
    "10.99.0.0/16",
    "10.99.0.0/30",
    "0.0.0.0/0",
    "10.99.0.2/32",
    "fd00:1::/64",
];

fn pod_name(at: usize) -> String {
    format!("{}/p{at}", NAMESPACES[at % 3])
}

fn entity(dice: &mut Dice, namespaced: bool) -> Value {
    let mut out = json!({});
    if dice.once_in(2) {
        out["selector"] = json!(dice.of(&SELECTORS));
    }
    if dice.once_in(6) {
        out["notSelector"] = json!(dice.of(&SELECTORS));
    }
    if dice.once_in(if namespaced { 4 } else { 6 }) {
        out["namespaceSelector"] = json!(dice.of(&["team == 'one'", "all()", "global()", "has(team)"]));
    }
    if dice.once_in(4) {
        out["nets"] = json!([dice.of(&NETS), dice.of(&NETS)]);
    }
    if dice.once_in(6) {
        out["notNets"] = json!([dice.of(&NETS[..4])]);
    }
    out
}

fn rule(dice: &mut Dice, namespaced: bool) -> Value {
    let action = dice.of(&["Allow", "Allow", "Allow", "Deny", "Deny", "Pass", "Log"]);
    let mut out = json!({"action": action});
    let (mut source, mut destination) = (entity(dice, namespaced), entity(dice, namespaced));
    match dice.below(6) {
        0 => {}
        1 => {
            out["protocol"] = json!("ICMP");
            if dice.once_in(2) {
                out["icmp"] = json!({"type": dice.of(&[8, 13]), "code": 0});
            }
        }
        2 => out["notProtocol"] = json!(dice.of(&["TCP", "UDP"])),
        _ => {
            out["protocol"] = json!(dice.of(&["TCP", "UDP", "SCTP"]));
            let ports = [json!(80), json!("79:81"), json!("web"), json!(53), json!("0:1023")];
            if dice.once_in(2) {
                destination["ports"] = json!([dice.of(&ports), dice.of(&ports)]);
            }
            if dice.once_in(5) {
                destination["notPorts"] = json!([dice.of(&ports)]);
            }
            if dice.once_in(6) {
                source["ports"] = json!(["1024:30000"]);
            }
        }
    }
    if dice.once_in(8) {
        out["ipVersion"] = json!(dice.of(&[4, 4, 6]));
    }
    for (key, side) in [("source", source), ("destination", destination)] {
        if side.as_object().is_some_and(|fields| !fields.is_empty()) {
            out[key] = side;
        }
    }
    out
}

fn policy(dice: &mut Dice, number: usize) -> Value {
    let namespaced = dice.once_in(2);
    let staged = if dice.once_in(8) { "Staged" } else { "" };
    let kind = if namespaced { "NetworkPolicy" } else { "GlobalNetworkPolicy" };
    let mut metadata = json!({"name": format!("p{number}")});
    if namespaced {
        metadata["namespace"] = json!(dice.of(&NAMESPACES));
    }
    let types = dice.of(&[&["Ingress"][..], &["Egress"], &["Ingress", "Egress"]]).to_vec();
    let mut spec = json!({"selector": dice.of(&SELECTORS), "types": types});
    if dice.once_in(2) {
        spec["tier"] = json!(dice.of(&["first", "last"]));
    }
    if dice.once_in(2) {
        spec["order"] = json!(dice.below(4));
    }
    if !namespaced && dice.once_in(2) {
        spec["applyOnForward"] = json!(true);
        match dice.below(4) {
            0 => spec["doNotTrack"] = json!(true),
            1 if types == ["Ingress"] => spec["preDNAT"] = json!(true),
            _ => {}
        }
    }
    for (list, kind) in [("ingress", "Ingress"), ("egress", "Egress")] {
        if types.contains(&kind) {
            let count = dice.below(4);
            spec[list] = (0..count).map(|_| rule(dice, namespaced)).collect();
        }
    }
    json!({"apiVersion": "projectcalico.org/v3", "kind": format!("{staged}{kind}"), "metadata": metadata, "spec": spec})
}

/// The resources of a random world.
fn resources_of(dice: &mut Dice) -> Vec<Value> {
    let v3 = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let mut out = vec![
        v3("Tier", "first", json!({"order": 10, "defaultAction": dice.of(&["Deny", "Pass"])})),
        v3("Tier", "last", json!({"order": 5_000_000, "defaultAction": dice.of(&["Deny", "Pass"])})),
    ];
    for (name, team) in NAMESPACES.iter().zip(["one", "two", "one"]) {
        out.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}}));
    }
    for at in 0..3 {
        let mut set = v3(
            "GlobalNetworkSet",
            &format!("set{at}"),
            json!({"nets": [dice.of(&NETS), dice.of(&NETS[..6])]}),
        );
        set["metadata"]["labels"] = json!({"kind": "set", "app": dice.of(&APPS)});
        out.push(set);
    }
    out.extend(host_endpoints(dice));
    let count = 2 + dice.below(10);
    out.extend((0..count).map(|number| policy(dice, number)));
    out
}

/// None, or some that are at the uplinks, or at all interfaces.
fn host_endpoints(dice: &mut Dice) -> Vec<Value> {
    let mut out = Vec::new();
    let mut put = |dice: &mut Dice, name: &str, place: Value| {
        let mut labels = json!({"app": dice.of(&APPS)});
        if dice.once_in(2) {
            labels["role"] = json!("x");
        }
        let mut spec = place;
        spec["node"] = json!("n");
        if dice.once_in(2) {
            spec["profiles"] = json!(["projectcalico-default-allow"]);
        }
        out.push(json!({"apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint",
            "metadata": {"name": name, "labels": labels}, "spec": spec}));
    };
    match dice.below(5) {
        0 => {}
        1 => put(dice, "all", json!({"interfaceName": "*", "expectedIPs": [NODE]})),
        2 => put(dice, "expected", json!({"expectedIPs": [NODE]})),
        _ => put(dice, "up", json!({"interfaceName": "up", "expectedIPs": [NODE]})),
    }
    if dice.once_in(3) {
        put(dice, "side", json!({"interfaceName": "side"}));
    }
    out
}

fn node(dice: &mut Dice) -> (Node, Vec<api::Resource>) {
    let mut node = Node::with(1 << 17, 4096);
    node.lab.host("host", HOST, STACK, &["10.1.0.62"]);
    let side = node.lab.uplink("side", SIDE, &["172.16.21.1/24"], false);
    let via: IpAddr = "172.16.21.2".parse().unwrap();
    let target = RouteTarget::Via(vec![via], Encap::None);
    let prefix = "10.98.0.0/16".parse().unwrap();
    let source = fib::RouteSource::Static;
    let failsafe = ["tcp:22", "udp:53", "tcp:10.99.0.0/30:80"].map(|port| port.parse().unwrap());
    let (inbound, outbound) = (failsafe[..1 + dice.below(3)].to_vec(), failsafe[dice.below(3)..].to_vec());
    node.lab.apply([
        Event::SetNode("n".to_owned()),
        Event::PutRoute(RouteSpec { prefix, source, target, metric: 0 }),
        Event::SetFailsafe([inbound, outbound]),
    ]);
    node.lab.router.neighbor(side, via, NeighborState::Usable(mac_text(SIDE_FAR).parse().unwrap()));
    node.lab.run();
    node.lab.receive_all();
    for at in 0..PODS {
        let name = pod_name(at);
        let mac = [2, 0, 0, 0, 2, at as u8];
        let address = format!("10.1.0.{}", at + 1);
        let mut spec = pod_spec(&name, mac, &[&address]);
        if let PortRole::Pod { workload, .. } = &mut spec.role {
            workload.labels.insert("app".to_owned(), (*dice.of(&APPS)).to_owned());
            if dice.once_in(2) {
                workload.labels.insert("role".to_owned(), (*dice.of(&["x", "y"])).to_owned());
            }
            let (protocol, port) = *dice.of(&[(TCP, 80), (TCP, 8080), (UDP, 80)]);
            workload.ports =
                vec![api::EndpointPort { name: "web".to_owned(), protocol: api::Protocol(protocol), port }];
        }
        node.lab.port(spec);
        node.pods.insert(name, Pod { mac, address: address.parse().unwrap() });
    }
    // What Calico would refuse (a rule of both families, say) is no part of the world.
    let objects = resources_of(dice).into_iter().flat_map(|resource| api::read(&resource.to_string()));
    let taken: Vec<api::Resource> = objects.filter_map(|object| object.outcome.ok()).collect();
    let events = taken.iter().map(|resource| Event::PutPolicy(Box::new(resource.clone())));
    node.lab.apply(events);
    (node, taken)
}

/// A packet with the number that tells it apart from others: its source port or ICMP identifier.
struct Sent {
    query: Query,
    frame: Vec<u8>,
    in_port: String,
    out_port: String,
}

/// An end of a packet, in a question and in the packet.
struct End {
    name: String,
    port: String,
    address: IpAddr,
}

fn end(dice: &mut Dice, node: &Node) -> End {
    let far = |port: &str, net: u8, dice: &mut Dice| {
        let address = format!("10.{net}.0.{}", 2 + dice.below(FAR_HOSTS));
        End { name: address.clone(), port: port.to_owned(), address: address.parse().unwrap() }
    };
    match dice.below(PODS + 8) {
        at if at < PODS => {
            let name = pod_name(at);
            End { name: name.clone(), port: name.clone(), address: node.address(&name) }
        }
        at if at < PODS + 3 => far("up", 99, dice),
        at if at < PODS + 5 => far("side", 98, dice),
        _ => End { name: NODE.to_owned(), port: "host".to_owned(), address: NODE.parse().unwrap() },
    }
}

fn packet(dice: &mut Dice, node: &Node, number: u16) -> Sent {
    let (from, to) = loop {
        let (from, to) = (end(dice, node), end(dice, node));
        // What is for the node itself does not come by an uplink that the kernel shares.
        if from.port != to.port && (&*from.port, &*to.port) != ("side", "host") {
            break (from, to);
        }
    };
    let End { name: from, port: in_port, address: source } = from;
    let End { name: to, port: out_port, address: destination } = to;
    let port = *dice.of(&[22, 53, 79, 80, 81, 8080, 9000]);
    let ports = (number, port);
    let (protocol, payload, transport) = match dice.below(7) {
        0..=2 => (TCP, segment(ports, SYN, 1, 0, &[]), ports),
        3..=4 => (UDP, datagram(ports, b"?"), ports),
        5 => (SCTP, sctp(ports, 1, 0, 77), ports),
        _ => {
            // The router answers echo requests to the node itself.
            let kind = if out_port == "host" { 13 } else { *dice.of(&[8_u8, 13]) };
            (1, packet::icmp(kind, 0, u32::from(number) << 16 | 1, &[0; 12]), (u16::from(kind), 0))
        }
    };
    let (ethertype, bytes) = ip(source, destination, protocol, &payload);
    let frame = match node.pods.get(&in_port) {
        Some(pod) => packet::ethernet(GATEWAY_MAC, pod.mac, ethertype, &bytes),
        None if in_port == "host" => packet::ethernet(HOST, STACK, ethertype, &bytes),
        None if in_port == "side" => packet::ethernet(SIDE, SIDE_FAR, ethertype, &bytes),
        None => packet::ethernet(UP, FAR, ethertype, &bytes),
    };
    let transport = Some(transport);
    let query = Query { from, to, protocol, transport, entering: None, leaving: None };
    Sent { query, frame, in_port, out_port }
}

/// The number of a packet that has left.
fn number_of(frame: &[u8]) -> u16 {
    let at = if frame[23] == 1 { 38 } else { 34 };
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

fn rule_counts(node: &Node) -> HashMap<String, u64> {
    let names = node.lab.router.engine().policy().names().book();
    let count = |number| {
        let rule = acl::RuleId(number);
        let packets = node.lab.router.rule_totals(rule).packets;
        (packets > 0).then(|| (names.name(rule).unwrap().to_owned(), packets))
    };
    (1..=names.len() as u32).filter_map(count).collect()
}

/// The rules that decided, in the packet's order, to the one that denies; and the reason of a drop.
fn decided(answer: &Answer) -> (Vec<&str>, Option<&'static str>) {
    let mut rules = Vec::new();
    let between = answer.forward.iter().map(|side| (side, "policy-host"));
    let egress = [(&answer.egress, "policy-egress")].into_iter();
    for (side, reason) in egress.chain(between).chain([(&answer.ingress, "policy-ingress")]) {
        rules.extend(side.rule.as_deref());
        if side.verdict == "Deny" {
            return (rules, Some(if side.host.is_some() { "policy-host" } else { reason }));
        }
    }
    (rules, None)
}

/// Sends packets, and compares where they went with the answers. `offline`: what resources tell of the node.
fn check(node: &mut Node, offline: Option<&NodeView>, batch: &[Sent], first: u16, context: &str) {
    let mut expected: HashMap<String, i64> = HashMap::new();
    let mut rules: HashMap<String, u64> = HashMap::new();
    let mut answers = Vec::new();
    {
        let engine = node.lab.router.engine();
        let questions = Questions::new(engine.policy())
            .on_node(engine.node_view())
            .by_routes(Box::new(|address| engine.way_to(address)));
        let from_resources = offline.map(|view| Questions::new(engine.policy()).on_node(view.clone()));
        for sent in batch {
            let answer = questions.ask(&sent.query).unwrap();
            let (asked, dropped) = decided(&answer);
            for rule in asked {
                *rules.entry(rule.to_owned()).or_default() += 1;
            }
            assert_eq!(answer.allowed, dropped.is_none());
            let counter = match dropped {
                Some(reason) => format!("{}.drop.{reason}", sent.in_port),
                None => format!("{}.tx", sent.out_port),
            };
            // Of an uplink without a host endpoint resources tell nothing.
            if let Some(offline) = &from_resources
                && ![&sent.in_port, &sent.out_port].contains(&&"side".to_owned())
            {
                let told = offline.ask(&sent.query).unwrap();
                assert_eq!(decided(&told), decided(&answer), "{context}: {:?}", sent.query);
            }
            *expected.entry(counter).or_default() += 1;
            *expected.entry(format!("{}.rx", sent.in_port)).or_default() += 1;
            answers.push(answer);
        }
    }
    let (before, rules_before) = (node.lab.counted(), rule_counts(node));
    batch.iter().for_each(|sent| node.lab.send(&sent.in_port, &sent.frame));
    node.lab.run();
    let mut left: HashMap<u16, String> = HashMap::new();
    for (port, frame) in node.lab.receive_all() {
        assert!(left.insert(number_of(&frame), port).is_none(), "one packet left twice");
    }
    for (at, (sent, answer)) in batch.iter().zip(&answers).enumerate() {
        let gone = left.get(&(first + at as u16));
        assert_eq!(gone, answer.allowed.then_some(&sent.out_port), "{context}: {:?} {answer:?}", sent.query);
    }
    let moved: HashMap<String, i64> = moved(&before, &node.lab.counted()).into_iter().collect();
    assert_eq!(moved, expected, "{context}");
    let mut counted = rule_counts(node);
    for (rule, packets) in rules_before {
        *counted.get_mut(&rule).unwrap() -= packets;
    }
    // Log rules and staged policies count too, and are no part of answers.
    counted.retain(|rule, packets| *packets > 0 && rules.contains_key(rule));
    assert_eq!(counted, rules, "{context}");
}

#[test]
fn answers_are_what_packets_meet() {
    let wanted = std::env::var("EXPLAINED_PACKETS").map_or(100_000, |text| text.parse().unwrap());
    let (mut sent, mut allowed, mut seed) = (0_usize, 0_usize, 0);
    while sent < wanted {
        seed += 1;
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let (mut node, resources) = node(&mut dice);
        // Two endpoints would be two uplinks, and which is crossed the routes say, not the resources.
        let hosts = resources.iter().filter(|resource| resource.kind() == api::Kind::HostEndpoint).count();
        let offline = NodeView::of_resources(&resources, Some("n")).unwrap();
        let offline =
            Some(&offline).filter(|_| hosts == 1 && !resources.iter().any(|one| one.name() == "side"));
        for batch in 0..PACKETS / BATCH {
            let first = (10_000 + batch * BATCH) as u16;
            let packets: Vec<Sent> =
                (0..BATCH).map(|at| packet(&mut dice, &node, first + at as u16)).collect();
            let before: u64 =
                node.lab.counted().iter().filter(|(name, _)| name.ends_with(".tx")).map(|(_, n)| n).sum();
            check(&mut node, offline, &packets, first, &format!("world {seed}"));
            let after: u64 =
                node.lab.counted().iter().filter(|(name, _)| name.ends_with(".tx")).map(|(_, n)| n).sum();
            sent += BATCH;
            allowed += (after - before) as usize;
        }
    }
    assert!(allowed > sent / 10 && allowed < sent * 9 / 10, "{allowed} of {sent} were allowed");
}
