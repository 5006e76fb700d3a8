//! Policy on pods: what passes, what is dropped and why, and what happens to flows when it changes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vrouter::control::{Encap, PortRole, RouteSpec, RouteTarget, Workload};
use vrouter::{Event, Router};
use vrouter_tests::lab::{Lab, moved, pod_spec};
use vrouter_tests::packet::{self, GATEWAY_MAC, Ip4, Mac};

mod counts;
mod explained;
mod flood;
mod hosts;
mod kubernetes;
mod odd_ways;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
/// The far end of the uplink.
const FAR: Mac = [2, 0, 0, 0, 0, 0xfd];
const UP: Mac = [2, 0, 0, 0, 0, 0xfc];

/// The resources of a text of YAML documents.
fn resources(text: &str) -> Vec<api::Resource> {
    let objects = api::read(text).into_iter();
    objects.map(|object| object.outcome.unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))).collect()
}

fn put(text: &str) -> Vec<Event> {
    resources(text).into_iter().map(|resource| Event::PutPolicy(Box::new(resource))).collect()
}

fn remove(text: &str) -> Vec<Event> {
    resources(text).into_iter().map(|resource| Event::RemovePolicy(Box::new(resource))).collect()
}

/// A TCP header and data.
fn segment(ports: (u16, u16), flags: u8, seq: u32, ack: u32, data: &[u8]) -> Vec<u8> {
    let mut out = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    out.extend(seq.to_be_bytes());
    out.extend(ack.to_be_bytes());
    out.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend(data);
    out
}

fn datagram(ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let len = (8 + data.len() as u16).to_be_bytes();
    [&ports.0.to_be_bytes()[..], &ports.1.to_be_bytes(), &len, &[0, 0], data].concat()
}

/// An SCTP common header and an INIT or INIT-ACK chunk (RFC 9260 3.3.2).
fn sctp(ports: (u16, u16), chunk: u8, tag: u32, initiate_tag: u32) -> Vec<u8> {
    let mut out = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    out.extend(tag.to_be_bytes());
    out.extend([0, 0, 0, 0, chunk, 0, 0, 20]);
    out.extend(initiate_tag.to_be_bytes());
    out.extend([0, 0, 0x10, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    out
}

fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> (u16, Vec<u8>) {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (0x0800, Ip4::new(from, to, protocol).bytes(payload)),
        (IpAddr::V6(from), IpAddr::V6(to)) => (0x86dd, packet::ip6(from, to, protocol, 64, payload)),
        _ => panic!("two families"),
    }
}

/// A pod of the lab.
struct Pod {
    mac: Mac,
    address: IpAddr,
}

/// Pods behind a router, and an uplink.
struct Node {
    lab: Lab,
    pods: BTreeMap<String, Pod>,
}

impl Node {
    fn new() -> Self {
        Self::with(4096, 512)
    }

    /// A node with room for so many flows and packets.
    fn with(flows: u32, frames: u32) -> Self {
        let mut lab = Lab::new(Router::builder().frames(frames).flows(flows));
        lab.uplink("up", UP, &["172.16.20.1/24"], true);
        let target = RouteTarget::Via(vec!["172.16.20.2".parse().unwrap()], Encap::None);
        let prefix = "10.99.0.0/16".parse().unwrap();
        let source = fib::RouteSource::Static;
        lab.apply([Event::PutRoute(RouteSpec { prefix, source, target, metric: 0 })]);
        let arp = packet::arp(2, FAR, "172.16.20.2".parse().unwrap(), UP, "172.16.20.1".parse().unwrap());
        lab.run();
        lab.send("up", &packet::ethernet(UP, FAR, 0x0806, &arp));
        lab.run();
        lab.receive_all();
        Node { lab, pods: BTreeMap::new() }
    }

    /// Adds a pod, or changes its labels.
    fn pod(&mut self, name: &str, address: &str, labels: &[(&str, &str)]) {
        let known = self.pods.get(name).map(|pod| pod.mac);
        let mac = known.unwrap_or([2, 0, 0, 0, 2, self.pods.len() as u8]);
        let mut spec = pod_spec(name, mac, &[address]);
        if let PortRole::Pod { workload, .. } = &mut spec.role {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            *workload = Workload { labels: labels.collect(), ..workload.clone() };
        }
        if known.is_some() {
            self.lab.apply([Event::PutPort(spec)]);
        } else {
            self.lab.port(spec);
            self.lab.apply([]);
        }
        self.pods.insert(name.to_owned(), Pod { mac, address: address.parse().unwrap() });
    }

    fn apply(&mut self, text: &str) {
        self.lab.apply(put(text));
    }

    fn address(&self, name: &str) -> IpAddr {
        self.pods.get(name).map_or_else(|| "10.99.0.2".parse().unwrap(), |pod| pod.address)
    }

    /// A frame from a pod, or from a host behind the uplink, to a pod or there.
    fn frame(&self, from: &str, to: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let (ethertype, packet) = ip(self.address(from), self.address(to), protocol, payload);
        self.wrap(from, ethertype, &packet)
    }

    fn wrap(&self, from: &str, ethertype: u16, packet: &[u8]) -> Vec<u8> {
        match self.pods.get(from) {
            Some(pod) => packet::ethernet(GATEWAY_MAC, pod.mac, ethertype, packet),
            None => packet::ethernet(UP, FAR, ethertype, packet),
        }
    }

    /// Sends a frame and says what became of it: `Ok` if it left by the port of `to`, or the drop's reason.
    fn outcome(&mut self, from: &str, to: &str, frame: &[u8]) -> Result<(), String> {
        let port = |name: &str| if self.pods.contains_key(name) { name.to_owned() } else { "up".to_owned() };
        let (from, to) = (port(from), port(to));
        let before = self.lab.counted();
        let sent = self.lab.exchange(&from, frame);
        let moved = moved(&before, &self.lab.counted());
        let rx = (format!("{from}.rx"), 1);
        if sent.len() == 1 && sent[0].0 == to {
            assert_eq!(moved, BTreeMap::from([rx, (format!("{to}.tx"), 1)]));
            return Ok(());
        }
        assert!(sent.is_empty(), "{sent:?}");
        let prefix = format!("{from}.drop.");
        let reason = moved.keys().find_map(|name| name.strip_prefix(&prefix)).expect("a drop").to_owned();
        assert_eq!(moved, BTreeMap::from([rx, (format!("{prefix}{reason}"), 1)]), "one counter");
        Err(reason)
    }

    fn send(&mut self, from: &str, to: &str, protocol: u8, payload: &[u8]) -> Result<(), String> {
        let frame = self.frame(from, to, protocol, payload);
        self.outcome(from, to, &frame)
    }

    fn syn(&mut self, from: &str, to: &str, ports: (u16, u16)) -> Result<(), String> {
        self.send(from, to, TCP, &segment(ports, SYN, 1000, 0, &[]))
    }

    /// Completes the handshake of [`Node::syn`].
    fn establish(&mut self, from: &str, to: &str, ports: (u16, u16)) {
        self.syn(from, to, ports).unwrap();
        self.send(to, from, TCP, &segment((ports.1, ports.0), SYN_ACK, 5000, 1001, &[])).unwrap();
        self.send(from, to, TCP, &segment(ports, ACK, 1001, 5001, &[])).unwrap();
    }
}

fn drop_of(reason: &str) -> Result<(), String> {
    Err(reason.to_owned())
}

const WEB_POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web, namespace: default }
spec:
  podSelector: { matchLabels: { app: web } }
  policyTypes: [Ingress]
  ingress:
  - from: [ { podSelector: { matchLabels: { role: client } } } ]
    ports: [ { protocol: TCP, port: 80 }, { protocol: UDP, port: 53 } ]
";

fn web() -> Node {
    let mut node = Node::new();
    node.pod("web", "10.1.0.1", &[("app", "web")]);
    node.pod("client", "10.1.0.2", &[("role", "client")]);
    node.pod("other", "10.1.0.3", &[]);
    node
}

#[test]
fn a_policy_denies_what_it_does_not_allow() {
    let mut node = web();
    assert_eq!(node.syn("other", "web", (1, 80)), Ok(()));
    node.apply(WEB_POLICY);
    assert_eq!(node.syn("client", "web", (2, 80)), Ok(()));
    assert_eq!(node.syn("client", "web", (2, 81)), drop_of("policy-ingress"));
    assert_eq!(node.syn("other", "web", (2, 80)), drop_of("policy-ingress"));
    assert_eq!(node.send("client", "web", UDP, &datagram((3, 53), b"?")), Ok(()));
    assert_eq!(node.send("client", "web", UDP, &datagram((3, 80), b"?")), drop_of("policy-ingress"));
    assert_eq!(node.send("client", "web", 1, &packet::icmp(8, 0, 7, b"")), drop_of("policy-ingress"));
    assert_eq!(node.syn("far", "web", (2, 80)), drop_of("policy-ingress"));
    // Where no policy applies nothing has changed.
    assert_eq!(node.syn("web", "other", (4, 80)), Ok(()));
    assert_eq!(node.syn("far", "other", (4, 80)), Ok(()));
    node.lab.apply(remove(WEB_POLICY));
    assert_eq!(node.syn("other", "web", (5, 80)), Ok(()));
}

#[test]
fn egress_policy_names_types_of_icmp_and_nets() {
    let mut node = web();
    node.apply(
        "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: out }
spec:
  selector: app == 'web'
  types: [Egress]
  egress:
  - { action: Allow, protocol: ICMP, icmp: { type: 8 } }
  - { action: Allow, destination: { nets: [ 10.99.0.0/16 ], notNets: [ 10.99.128.0/17 ] } }
",
    );
    assert_eq!(node.send("web", "client", 1, &packet::icmp(8, 0, 7, b"")), Ok(()));
    assert_eq!(node.send("web", "client", 1, &packet::icmp(13, 0, 7, &[0; 12])), drop_of("policy-egress"));
    assert_eq!(node.syn("web", "client", (1, 80)), drop_of("policy-egress"));
    assert_eq!(node.syn("web", "far", (1, 80)), Ok(()));
    // The answers are the flows'.
    assert_eq!(node.send("client", "web", 1, &packet::icmp(0, 0, 7, b"")), Ok(()));
    assert_eq!(node.send("far", "web", TCP, &segment((80, 1), SYN_ACK, 1, 1001, &[])), Ok(()));
}

#[test]
fn answers_pass_and_nothing_else_comes_back() {
    let mut node = web();
    node.apply(
        "
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: { name: closed, namespace: default }
spec: { selector: role == 'client', types: [Ingress] }
",
    );
    let question = datagram((1000, 53), b"?");
    assert_eq!(node.send("client", "web", UDP, &question), Ok(()));
    assert_eq!(node.send("web", "client", UDP, &datagram((53, 1000), b"!")), Ok(()));
    assert_eq!(node.send("web", "client", UDP, &datagram((53, 1001), b"!")), drop_of("policy-ingress"));
    // An error about the question is the flow's; one about a question that nobody asked is not.
    let quote = |ports| ip(node.address("client"), node.address("web"), UDP, &datagram(ports, b"?")).1;
    let (right, wrong) = (quote((1000, 53)), quote((1001, 53)));
    assert_eq!(node.send("web", "client", 1, &packet::icmp(3, 3, 0, &right)), Ok(()));
    assert_eq!(node.send("far", "client", 1, &packet::icmp(11, 0, 0, &right)), Ok(()));
    assert_eq!(node.send("web", "client", 1, &packet::icmp(3, 3, 0, &wrong)), drop_of("flow-unrelated"));
    node.establish("client", "web", (2000, 80));
    assert_eq!(node.send("web", "client", TCP, &segment((80, 2000), ACK, 5001, 1001, b"data")), Ok(()));
    // Data far beyond what was offered.
    let beyond = segment((80, 2000), ACK, 5_000_000, 1001, b"data");
    assert_eq!(node.send("web", "client", TCP, &beyond), drop_of("flow-invalid"));
}

#[test]
fn a_change_stops_live_flows_and_leaves_the_allowed_alone() {
    let mut node = web();
    node.establish("client", "web", (1, 80));
    node.establish("other", "web", (2, 80));
    node.apply(WEB_POLICY);
    // The very next packet, in both directions; the allowed connection goes on.
    let data = |ports| segment(ports, ACK, 1001, 5001, b"GET");
    let answer = |ports| segment(ports, ACK, 5001, 1001, b"200");
    assert_eq!(node.send("web", "other", TCP, &answer((80, 2))), drop_of("policy-ingress"));
    assert_eq!(node.send("other", "web", TCP, &data((2, 80))), drop_of("policy-ingress"));
    assert_eq!(node.send("client", "web", TCP, &data((1, 80))), Ok(()));
    assert_eq!(node.send("web", "client", TCP, &answer((80, 1))), Ok(()));
    node.lab.apply(remove(WEB_POLICY));
    assert_eq!(node.send("other", "web", TCP, &data((2, 80))), Ok(()));
}

#[test]
fn labels_that_change_reach_live_flows() {
    let mut node = web();
    node.apply(WEB_POLICY);
    node.establish("client", "web", (1, 80));
    let data = segment((1, 80), ACK, 1001, 5001, b"GET");
    assert_eq!(node.send("client", "web", TCP, &data), Ok(()));
    node.pod("client", "10.1.0.2", &[("role", "stranger")]);
    assert_eq!(node.send("client", "web", TCP, &data), drop_of("policy-ingress"));
    assert_eq!(node.syn("client", "web", (2, 80)), drop_of("policy-ingress"));
    node.pod("client", "10.1.0.2", &[("role", "client")]);
    assert_eq!(node.send("client", "web", TCP, &data), Ok(()));
    node.pod("other", "10.1.0.3", &[("role", "client")]);
    assert_eq!(node.syn("other", "web", (3, 80)), Ok(()));
}

#[test]
fn a_pod_that_takes_an_address_over_does_not_take_its_flows() {
    let mut node = web();
    node.apply(WEB_POLICY);
    node.establish("client", "web", (1, 80));
    node.lab.router.remove_port("client").unwrap();
    node.lab.apply([]);
    node.pods.remove("client");
    node.pod("heir", "10.1.0.2", &[]);
    let data = segment((1, 80), ACK, 1001, 5001, b"GET");
    assert_eq!(node.send("heir", "web", TCP, &data), drop_of("policy-ingress"));
}

#[test]
fn fragments_share_the_lot_of_the_first() {
    let mut node = web();
    node.apply(WEB_POLICY);
    let whole = datagram((1000, 53), &[7; 40]);
    let fragment = |node: &Node, from: &str, id: u16, word: u16, payload: &[u8]| {
        let (IpAddr::V4(source), IpAddr::V4(to)) = (node.address(from), node.address("web")) else {
            panic!("IPv4")
        };
        node.wrap(from, 0x0800, &Ip4 { id, fragment: word, ..Ip4::new(source, to, UDP) }.bytes(payload))
    };
    const MORE: u16 = 0x2000;
    for (from, first, later) in [
        ("client", Ok(()), Ok(())),
        ("other", drop_of("policy-ingress"), drop_of("fragment-unknown")),
        ("far", drop_of("policy-ingress"), drop_of("fragment-unknown")),
    ] {
        let frames =
            [fragment(&node, from, 9, MORE, &whole[..24]), fragment(&node, from, 9, 3, &whole[24..])];
        assert_eq!(node.outcome(from, "web", &frames[0]), first, "{from}");
        assert_eq!(node.outcome(from, "web", &frames[1]), later, "{from}");
    }
    // Another packet's, one that comes first, and one that comes too late.
    let stray = fragment(&node, "client", 10, 3, &whole[24..]);
    assert_eq!(node.outcome("client", "web", &stray), drop_of("fragment-unknown"));
    node.lab.pass(std::time::Duration::from_secs(31));
    node.lab.run();
    node.lab.receive_all();
    let late = fragment(&node, "client", 9, 3, &whole[24..]);
    assert_eq!(node.outcome("client", "web", &late), drop_of("fragment-unknown"));
    // Both in one burst.
    let frames =
        [fragment(&node, "client", 11, MORE, &whole[..24]), fragment(&node, "client", 11, 3, &whole[24..])];
    frames.iter().for_each(|frame| node.lab.send("client", frame));
    node.lab.run();
    assert_eq!(node.lab.receive("web").len(), 2);
}

#[test]
fn the_node_reaches_its_pods_and_they_answer() {
    let mut node = web();
    node.lab.host("host", [2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 9, 2], &["10.1.0.62"]);
    node.lab.apply(put("
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: nothing }
spec: { selector: all(), types: [Ingress, Egress] }
"));
    let (host, web) = ("10.1.0.62".parse().unwrap(), node.address("web"));
    let to_web = ip(host, web, UDP, &datagram((1, 2), b"?")).1;
    let frame = packet::ethernet([2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 9, 2], 0x0800, &to_web);
    assert_eq!(node.lab.exchange("host", &frame)[0].0, "web");
    let back = |ports| node.wrap("web", 0x0800, &ip(web, host, UDP, &datagram(ports, b"!")).1);
    let (answer, other) = (back((2, 1)), back((2, 3)));
    assert_eq!(node.lab.exchange("web", &answer)[0].0, "host");
    assert!(node.lab.exchange("web", &other).is_empty(), "its own egress policy denies what is no answer");
    assert_eq!(node.lab.counted()["web.drop.policy-egress"], 1);
}

#[test]
fn packets_that_wait_for_a_neighbour_open_their_flow_when_they_go() {
    let mut node = web();
    let unknown: IpAddr = "172.16.20.9".parse().unwrap();
    let web = node.address("web");
    let frame = node.wrap("web", 0x0800, &ip(web, unknown, UDP, &datagram((1, 2), b"?")).1);
    node.lab.send("web", &frame);
    node.lab.run();
    assert!(node.lab.router.engine().flows().is_empty());
    let arp = packet::arp(2, FAR, "172.16.20.9".parse().unwrap(), UP, "172.16.20.1".parse().unwrap());
    node.lab.send("up", &packet::ethernet(UP, FAR, 0x0806, &arp));
    node.lab.run();
    assert_eq!(node.lab.router.engine().flows().len(), 1);
}
