//! What rules count, and what is told of packets that are denied or logged.

use acl::Direction;
use vrouter::pipeline::flow_log::{Entry, Event as Told};

use super::*;

/// Of every rule that counted anything: packets and bytes, by the rule's name.
fn counts(node: &Node) -> BTreeMap<String, (u64, u64)> {
    let names = node.lab.router.engine().policy().names().book();
    let numbers = (1..=names.len() as u32).map(acl::RuleId);
    let counted =
        numbers.map(|rule| (names.name(rule).unwrap().to_owned(), node.lab.router.rule_totals(rule)));
    counted.filter(|(_, sum)| sum.packets > 0).map(|(name, sum)| (name, (sum.packets, sum.bytes))).collect()
}

fn log(node: &Node) -> Vec<Entry> {
    std::iter::from_fn(|| node.lab.router.next_flow_log_entry()).collect()
}

fn expected(list: &[(&str, u64, u64)]) -> BTreeMap<String, (u64, u64)> {
    list.iter().map(|(name, packets, bytes)| ((*name).to_owned(), (*packets, *bytes))).collect()
}

const WEB: &str = "tier default KubernetesNetworkPolicy default/knp.default.web ingress[0]";

#[test]
fn rules_count_every_packet_of_their_flows() {
    let mut node = web();
    node.apply(WEB_POLICY);
    // 40 octets of headers each, then 3 and 5 of data.
    node.establish("client", "web", (1, 80));
    node.send("client", "web", TCP, &segment((1, 80), ACK, 1001, 5001, b"GET")).unwrap();
    node.send("web", "client", TCP, &segment((80, 1), ACK, 5001, 1004, b"hello")).unwrap();
    let client = "profile kns.default egress[0]";
    assert_eq!(counts(&node), expected(&[(WEB, 5, 208), (client, 5, 208)]));
    // What is denied, of a new flow; it passed its own egress.
    assert_eq!(node.syn("other", "web", (2, 80)), drop_of("policy-ingress"));
    let end = "tier default ingress default";
    assert_eq!(counts(&node), expected(&[(WEB, 5, 208), (client, 6, 248), (end, 1, 40)]));
    // What policy turns against, whichever way it goes.
    node.apply(&WEB_POLICY.replace("port: 80", "port: 81"));
    let data = segment((80, 1), ACK, 5006, 1004, b"late");
    assert_eq!(node.send("web", "client", TCP, &data), drop_of("policy-ingress"));
    assert_eq!(counts(&node)[end], (2, 84));
    assert_eq!(counts(&node)[WEB], (5, 208));
}

#[test]
fn packets_that_wait_are_counted_once() {
    let mut node = web();
    let (web, unknown) = (node.address("web"), "172.16.20.9".parse().unwrap());
    let frame = node.wrap("web", 0x0800, &ip(web, unknown, UDP, &datagram((1, 2), b"?")).1);
    node.lab.send("web", &frame);
    node.lab.run();
    let once = expected(&[("profile kns.default egress[0]", 1, 29)]);
    assert_eq!(counts(&node), once);
    let arp = packet::arp(2, FAR, "172.16.20.9".parse().unwrap(), UP, "172.16.20.1".parse().unwrap());
    node.lab.send("up", &packet::ethernet(UP, FAR, 0x0806, &arp));
    node.lab.run();
    assert_eq!(node.lab.router.engine().flows().len(), 1);
    assert_eq!(counts(&node), once);
}

#[test]
fn denials_are_told_with_the_rule_and_the_packet() {
    let mut node = web();
    node.apply(WEB_POLICY);
    node.establish("client", "web", (7, 80));
    node.syn("other", "web", (2, 80)).unwrap_err();
    node.send("other", "web", 1, &packet::icmp(8, 1, 7, b"")).unwrap_err();
    let book = |node: &Node, entry: &Entry| {
        node.lab.router.engine().rule_name(entry.rule.0).unwrap_or_default().to_owned()
    };
    let entries = log(&node);
    let first = Entry {
        at: node.lab.now,
        event: Told::Denied,
        direction: Direction::Ingress,
        port: node.lab.id("web"),
        rule: entries[0].rule,
        source: node.address("other"),
        destination: node.address("web"),
        protocol: TCP,
        transport: Some((2, 80)),
        len: 40,
    };
    assert_eq!(entries, [first, Entry { protocol: 1, transport: Some((8, 1)), len: 28, ..first }]);
    assert_eq!(book(&node, &first), "tier default ingress default");
    // An answer of a flow that policy has turned against: told as the rule saw the flow.
    node.apply(&WEB_POLICY.replace("port: 80", "port: 81"));
    node.send("web", "client", TCP, &segment((80, 7), ACK, 5001, 1001, b"")).unwrap_err();
    let turned = Entry { source: node.address("client"), transport: Some((7, 80)), ..first };
    assert_eq!(log(&node), [turned]);
}

#[test]
fn a_log_rule_logs_and_decides_nothing() {
    let mut node = web();
    node.apply(
        "
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: { name: web, namespace: default }
spec:
  selector: app == 'web'
  ingress:
  - { action: Log, protocol: UDP }
  - { action: Log, protocol: UDP }
  - { action: Allow, protocol: UDP, destination: { ports: [ 53 ] } }
",
    );
    let name = |index: usize| format!("tier default NetworkPolicy default/web ingress[{index}]");
    assert_eq!(node.send("client", "web", UDP, &datagram((1, 53), b"?")), Ok(()));
    assert_eq!(node.send("client", "web", UDP, &datagram((1, 54), b"?")), drop_of("policy-ingress"));
    let entries = log(&node);
    let events: Vec<_> = entries.iter().map(|entry| (entry.event, entry.transport.unwrap().1)).collect();
    assert_eq!(events, [(Told::Logged, 53), (Told::Logged, 54), (Told::Denied, 54)]);
    assert_eq!(node.lab.router.engine().rule_name(entries[0].rule.0), Some(&*name(0)));
    let counted = counts(&node);
    let packets = [0, 1, 2].map(|index| counted[&name(index)].0);
    assert_eq!(packets, [2, 2, 1]);
}

#[test]
fn staged_policies_count_what_they_would_have_decided() {
    let mut node = web();
    node.apply(
        "
apiVersion: projectcalico.org/v3
kind: StagedNetworkPolicy
metadata: { name: web, namespace: default }
spec:
  selector: app == 'web'
  ingress: [ { action: Deny, protocol: UDP } ]
",
    );
    assert_eq!(node.send("client", "web", UDP, &datagram((1, 53), b"?")), Ok(()));
    assert_eq!(node.syn("client", "web", (1, 80)), Ok(()));
    let staged = "tier default StagedNetworkPolicy default/web ingress";
    let counted = counts(&node);
    assert_eq!((counted[&format!("{staged}[0]")].0, counted[&format!("{staged} no rule")].0), (1, 1));
    assert!(log(&node).is_empty());
}

#[test]
fn a_flood_of_denials_leaves_room_for_others() {
    let mut node = web();
    node.apply(WEB_POLICY);
    for port in 0..2000 {
        let frame = node.frame("other", "web", TCP, &segment((port, 9), SYN, 1, 0, &[]));
        node.lab.send("other", &frame);
    }
    node.lab.run();
    let told = log(&node).len() as u64;
    assert!((1..2000).contains(&told), "{told}");
    assert_eq!(told + node.lab.router.flow_log_lost(), 2000);
    node.apply(&WEB_POLICY.replace("name: web", "name: client").replace("app: web", "role: client"));
    node.syn("other", "client", (1, 9)).unwrap_err();
    assert_eq!(log(&node).len(), 1);
}
