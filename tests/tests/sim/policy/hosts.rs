//! Host endpoints: what enters and leaves the node, what it forwards, what pods send to it.

use vrouter_tests::lab::Lab;

use super::*;

const HOST: Mac = [2, 0, 0, 0, 9, 1];
const STACK: Mac = [2, 0, 0, 0, 9, 2];
/// The node's address on its uplink.
const NODE: &str = "172.16.20.1";

const ENDPOINT: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: up, labels: { host: up } }
spec: { node: n, interfaceName: up }
";

fn all_interfaces() -> String {
    ENDPOINT.replace("interfaceName: up", "interfaceName: '*'")
}

/// A global policy of the host endpoint.
fn policy(name: &str, options: &str, rules: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: {name} }}\n\
         spec:\n  selector: host == 'up'\n  {options}\n{rules}"
    )
}

fn with_host() -> Node {
    let mut node = web();
    node.lab.host("host", HOST, STACK, &["10.1.0.62"]);
    node.lab.apply([]);
    node
}

impl Node {
    /// Sends a packet between addresses from a port, and says where it left, or why it was dropped.
    fn across(&mut self, port: &str, from: &str, to: &str, protocol: u8, payload: &[u8]) -> String {
        let (ethertype, packet) = ip(from.parse().unwrap(), to.parse().unwrap(), protocol, payload);
        let frame = match port {
            "up" => packet::ethernet(UP, FAR, ethertype, &packet),
            "host" => packet::ethernet(HOST, STACK, ethertype, &packet),
            pod => packet::ethernet(GATEWAY_MAC, self.pods[pod].mac, ethertype, &packet),
        };
        outcome(&mut self.lab, port, &frame)
    }

    fn udp(&mut self, port: &str, from: &str, to: &str, ports: (u16, u16)) -> String {
        self.across(port, from, to, UDP, &datagram(ports, b"x"))
    }
}

fn outcome(lab: &mut Lab, port: &str, frame: &[u8]) -> String {
    let before = lab.counted();
    let sent = lab.exchange(port, frame);
    let moved = moved(&before, &lab.counted());
    let reason = moved.keys().find_map(|name| name.strip_prefix(&format!("{port}.drop.")));
    match (&sent[..], reason) {
        ([(out, _)], None) => out.clone(),
        ([], Some(reason)) => reason.to_owned(),
        _ => panic!("{sent:?} {moved:?}"),
    }
}

const WEB: &str = "10.1.0.1";
const FAR_HOST: &str = "10.99.0.2";

#[test]
fn forwarded_packets_meet_apply_on_forward() {
    let mut node = with_host();
    node.apply(ENDPOINT);
    // Without such a policy all is forwarded.
    assert_eq!(node.udp("up", FAR_HOST, WEB, (1, 9)), "web");
    node.apply(&policy("normal", "types: [Ingress, Egress]", ""));
    assert_eq!(node.udp("up", FAR_HOST, WEB, (2, 9)), "web");
    node.apply(&policy(
        "forward",
        "applyOnForward: true",
        "  ingress:\n  - { action: Deny, protocol: UDP, destination: { ports: [9] } }\n  - { action: Allow }\n  \
         egress:\n  - { action: Deny, protocol: UDP, destination: { ports: [99] } }\n  - { action: Allow }\n",
    ));
    assert_eq!(node.udp("up", FAR_HOST, WEB, (3, 9)), "policy-host");
    assert_eq!(node.udp("up", FAR_HOST, WEB, (3, 10)), "web");
    assert_eq!(node.udp("web", WEB, FAR_HOST, (10, 3)), "up", "the answer");
    assert_eq!(node.udp("web", WEB, FAR_HOST, (4, 99)), "policy-host");
    assert_eq!(node.udp("web", WEB, FAR_HOST, (4, 98)), "up");
    assert_eq!(node.udp("up", FAR_HOST, WEB, (98, 4)), "web", "the answer");
    // The flows of the first packets are asked about again.
    assert_eq!(node.udp("up", FAR_HOST, WEB, (1, 9)), "policy-host");
    assert_eq!(node.udp("web", WEB, FAR_HOST, (9, 2)), "policy-host", "its answers too");
    // Pods among themselves do not leave the node.
    assert_eq!(node.udp("client", "10.1.0.2", WEB, (5, 9)), "web");
    let log: Vec<_> = std::iter::from_fn(|| node.lab.router.next_flow_log_entry()).collect();
    let name = |rule: acl::RuleId| node.lab.router.engine().rule_name(rule.0).unwrap().to_owned();
    let names: Vec<String> = log.iter().map(|entry| name(entry.rule)).collect();
    let ingress = "tier default GlobalNetworkPolicy forward ingress[0]";
    let egress = "tier default GlobalNetworkPolicy forward egress[0]";
    assert_eq!(names, [ingress, egress, ingress, ingress]);
    assert!(log.iter().all(|entry| entry.port == node.lab.id("up")));
    assert_eq!(node.lab.router.rule_totals(log[0].rule).packets, 3);
    assert_eq!(log[3].source, FAR_HOST.parse::<IpAddr>().unwrap(), "as the flow was opened");
    // Without the endpoint all is as before.
    node.lab.apply(remove(ENDPOINT));
    assert_eq!(node.udp("up", FAR_HOST, WEB, (6, 9)), "web");
}

#[test]
fn the_nodes_own_packets_on_an_exclusive_uplink_meet_normal_policy() {
    let mut node = with_host();
    let syn = |ports| segment(ports, SYN, 1, 0, &[]);
    let echo = packet::icmp(8, 0, 7, b"");
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &syn((1, 80))), "host");
    assert_eq!(node.across("up", FAR_HOST, NODE, 1, &echo), "up", "the router answers");
    node.apply(ENDPOINT);
    // Nothing allows but the failsafe ports; answers pass.
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &syn((2, 80))), "policy-host");
    assert_eq!(node.across("up", FAR_HOST, NODE, 1, &echo), "policy-host");
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &syn((2, 22))), "host");
    let answer = segment((22, 2), SYN_ACK, 5, 2, &[]);
    assert_eq!(node.across("host", NODE, FAR_HOST, TCP, &answer), "up");
    assert_eq!(node.udp("host", NODE, FAR_HOST, (3, 53)), "up");
    assert_eq!(node.udp("host", NODE, FAR_HOST, (3, 54)), "policy-host");
    assert_eq!(node.udp("up", FAR_HOST, NODE, (53, 3)), "host", "the answer");
    // What the node and its pods say to each other is no matter of the uplink's endpoint.
    assert_eq!(node.udp("host", NODE, WEB, (4, 9)), "web");
    assert_eq!(node.udp("web", WEB, NODE, (5, 9)), "host");
    node.apply(&policy(
        "some",
        "types: [Ingress, Egress]",
        "  ingress:\n  - { action: Allow, protocol: TCP, destination: { ports: [80] } }\n  \
         - { action: Allow, protocol: ICMP, icmp: { type: 8 } }\n  \
         egress:\n  - { action: Allow, protocol: UDP, destination: { ports: [54] } }\n",
    ));
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &syn((6, 80))), "host");
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &syn((6, 81))), "policy-host");
    assert_eq!(node.across("up", FAR_HOST, NODE, 1, &echo), "up");
    assert_eq!(node.udp("host", NODE, FAR_HOST, (7, 54)), "up");
    // Forwarding is another matter.
    assert_eq!(node.udp("up", FAR_HOST, WEB, (8, 9)), "web");
    // Another node's endpoint is not here.
    node.lab.apply([Event::SetNode("other".to_owned())]);
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &syn((9, 81))), "host");
}

#[test]
fn untracked_packets_belong_to_no_flow() {
    let mut node = with_host();
    node.apply(ENDPOINT);
    node.apply(&policy(
        "fast",
        "doNotTrack: true\n  applyOnForward: true\n  types: [Ingress, Egress]",
        "  ingress:\n  - { action: Allow, protocol: UDP, destination: { ports: [5000] } }\n  \
         - { action: Deny, protocol: UDP, destination: { ports: [5001] } }\n  \
         egress:\n  - { action: Allow, protocol: UDP, source: { ports: [5000] } }\n",
    ));
    let flows = |node: &Node| node.lab.router.engine().flows().len();
    assert_eq!(node.udp("up", FAR_HOST, NODE, (1, 5000)), "host", "no normal policy is asked");
    assert_eq!(node.udp("host", NODE, FAR_HOST, (5000, 1)), "up");
    assert_eq!(node.udp("up", FAR_HOST, NODE, (1, 5001)), "policy-host");
    assert_eq!(flows(&node), 0);
    // What it does not decide goes the usual way.
    assert_eq!(node.udp("up", FAR_HOST, NODE, (1, 5002)), "policy-host");
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &segment((2, 80), SYN, 1, 0, &[])), "policy-host");
    // Failsafe connections are untracked here, both ways.
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &segment((2, 22), SYN, 1, 0, &[])), "host");
    assert_eq!(node.across("host", NODE, FAR_HOST, TCP, &segment((22, 2), SYN_ACK, 1, 2, &[])), "up");
    assert_eq!(flows(&node), 0);
    // Forwarded ones: the pod's own policy decides about each packet.
    assert_eq!(node.udp("up", FAR_HOST, WEB, (1, 5000)), "web");
    assert_eq!(flows(&node), 0);
    node.apply(WEB_POLICY);
    assert_eq!(node.udp("up", FAR_HOST, WEB, (1, 5000)), "policy-ingress");
}

#[test]
fn policy_before_translation_comes_first() {
    let mut node = with_host();
    node.apply(ENDPOINT);
    node.apply(&policy(
        "early",
        "preDNAT: true\n  applyOnForward: true",
        "  ingress:\n  - { action: Allow, protocol: UDP, destination: { ports: [80] } }\n  \
         - { action: Deny, protocol: UDP, destination: { ports: [81] } }\n",
    ));
    node.apply(&policy("forward", "applyOnForward: true\n  types: [Ingress]", ""));
    assert_eq!(node.udp("up", FAR_HOST, WEB, (1, 80)), "web", "it decides for the endpoint");
    assert_eq!(node.udp("up", FAR_HOST, NODE, (1, 80)), "host");
    assert_eq!(node.udp("up", FAR_HOST, WEB, (1, 81)), "policy-host");
    assert_eq!(node.udp("up", FAR_HOST, WEB, (1, 82)), "policy-host", "the end of the forward tier");
    node.lab.apply(remove(&policy("early", "preDNAT: true\n  applyOnForward: true", "")));
    assert_eq!(node.udp("up", FAR_HOST, WEB, (1, 80)), "policy-host", "a live flow");
}

#[test]
fn a_shared_uplink_enforces_what_passes_the_router() {
    let mut lab = Lab::new(Router::builder().frames(512).flows(4096));
    lab.uplink("up", UP, &["172.16.20.1/24"], false);
    let mut node = Node { lab, pods: BTreeMap::new() };
    node.pod("web", WEB, &[("app", "web")]);
    node.lab.host("host", HOST, STACK, &["10.1.0.62"]);
    node.lab.apply([]);
    node.lab.run();
    node.lab.receive_all();
    node.apply(&all_interfaces());
    // The normal policy of all interfaces: nothing allows what pods send to the node.
    assert_eq!(node.udp("web", WEB, NODE, (1, 80)), "policy-host");
    assert_eq!(node.across("web", WEB, NODE, TCP, &segment((1, 22), SYN, 1, 0, &[])), "host", "failsafe");
    assert_eq!(node.udp("host", NODE, WEB, (1, 80)), "web", "the node's way to its pods is open");
    assert_eq!(node.udp("up", FAR_HOST, WEB, (2, 80)), "web", "and so is the way of others");
    node.apply(&policy("some", "types: [Ingress]", "  ingress:\n  - { action: Allow, protocol: UDP }\n"));
    assert_eq!(node.udp("web", WEB, NODE, (3, 80)), "host");
    assert_eq!(node.udp("host", NODE, WEB, (80, 3)), "web");
    node.apply(&policy("forward", "applyOnForward: true\n  types: [Ingress]", ""));
    assert_eq!(node.udp("up", FAR_HOST, WEB, (3, 80)), "policy-host");
    // An endpoint of one interface is not asked about what pods send to the node.
    node.lab.apply(remove(&policy("some", "types: [Ingress]", "")));
    assert_eq!(node.udp("web", WEB, NODE, (4, 80)), "policy-host");
    node.apply(ENDPOINT);
    assert_eq!(node.udp("web", WEB, NODE, (4, 80)), "host");
}

#[test]
fn flows_that_host_endpoints_were_asked_about_outlive_the_process() {
    const FORWARD: &str = "applyOnForward: true\n  types: [Ingress, Egress]";
    let rules = |port: u16| {
        format!(
            "  egress:\n  - {{ action: Allow, protocol: UDP, destination: {{ ports: [{port}, 54] }} }}\n  \
             ingress:\n  - {{ action: Allow, protocol: UDP, destination: {{ ports: [55] }} }}\n"
        )
    };
    let start = |port: u16| {
        let mut node = with_host();
        node.apply(&all_interfaces());
        node.apply(&policy("some", FORWARD, &rules(port)));
        node
    };
    let mut before = start(53);
    // A pod's to a far host, a far host's to the node, the node's own, a pod's to the node.
    assert_eq!(before.udp("web", WEB, FAR_HOST, (1, 53)), "up");
    assert_eq!(before.udp("up", FAR_HOST, NODE, (2, 55)), "host");
    assert_eq!(before.udp("host", NODE, FAR_HOST, (3, 54)), "up");
    assert_eq!(before.udp("web", WEB, NODE, (4, 55)), "host");
    let left = before.lab.router.engine().flows().clone();
    // The answers of these alone would pass: policy opens nothing in their direction.
    let answers = |node: &mut Node| {
        [
            node.udp("up", FAR_HOST, WEB, (53, 1)),
            node.udp("host", NODE, FAR_HOST, (55, 2)),
            node.udp("up", FAR_HOST, NODE, (54, 3)),
            node.udp("host", NODE, WEB, (55, 4)),
        ]
    };
    let denied = "policy-host";
    assert_eq!(answers(&mut start(53)), [denied, denied, denied, "web"], "nobody knows the flows");
    let mut after = start(53);
    let done =
        after.lab.router.take_over_flows(Some(left.memory()), after.lab.now).unwrap().unwrap().unwrap();
    assert_eq!((done.flows, done.unwanted), (4, 0), "{done:?}");
    assert_eq!(answers(&mut after), ["web", "up", "host", "web"]);
    // Policy is asked again: it is another one now.
    let mut after = start(52);
    after.lab.router.take_over_flows(Some(left.memory()), after.lab.now).unwrap().unwrap().unwrap();
    assert_eq!(answers(&mut after), [denied, "up", "host", "web"]);
    // Without the endpoint the flow is open.
    let mut after = with_host();
    after.apply(WEB_POLICY);
    after.lab.router.take_over_flows(Some(left.memory()), after.lab.now).unwrap().unwrap().unwrap();
    assert_eq!(after.udp("up", FAR_HOST, WEB, (53, 1)), "web");
    assert_eq!(after.udp("up", FAR_HOST, WEB, (53, 9)), "policy-ingress");
}

#[test]
fn failsafe_ports_are_those_of_the_configuration() {
    let mut node = with_host();
    node.apply(ENDPOINT);
    let syn = |port| segment((2, port), SYN, 1, 0, &[]);
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &syn(22)), "host");
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &syn(2222)), "policy-host");
    let ports = |list: &[&str]| list.iter().map(|port| port.parse().unwrap()).collect();
    let set = Event::SetFailsafe([ports(&["tcp:10.99.0.0/30:2222", "sctp:5"]), ports(&["udp:9999"])]);
    node.lab.apply([set]);
    // The flow of the first connection is asked about again.
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &syn(22)), "policy-host");
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &syn(2222)), "host");
    assert_eq!(node.across("up", "10.99.0.4", NODE, TCP, &syn(2222)), "policy-host", "of elsewhere");
    assert_eq!(node.across("up", FAR_HOST, NODE, SCTP, &sctp((1, 5), 1, 0, 77)), "host");
    assert_eq!(node.udp("host", NODE, FAR_HOST, (3, 53)), "policy-host");
    assert_eq!(node.udp("host", NODE, FAR_HOST, (3, 9999)), "up");
    node.lab.apply([Event::SetFailsafe([Vec::new(), Vec::new()])]);
    assert_eq!(node.across("up", FAR_HOST, NODE, TCP, &syn(2223)), "policy-host");
    assert_eq!(node.udp("host", NODE, FAR_HOST, (4, 9999)), "policy-host");
}
