//! A policy on real pods: applied, in force, kept over a restart, removed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use vrouter_tests::testbed::{Attach, Netns, TcpSession, TwoNodes, tcp_transfer};

/// Only `from` may open connections to pods of the namespace `test`.
fn only_from(from: Ipv4Addr) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{ name: one, namespace: test }}\n\
         spec:\n  podSelector: {{}}\n  policyTypes: [Ingress]\n  ingress:\n  \
         - from: [ {{ ipBlock: {{ cidr: {from}/32 }} }} ]\n"
    )
}

/// Whether a connection to a listening port comes about within a second.
fn connects(from: &Netns, to: &Netns, address: Ipv4Addr) -> bool {
    let listener = to.enter(|| TcpListener::bind((address, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    from.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(1))).is_ok()
}

#[test]
fn a_network_policy_denies_new_connections_and_lets_the_allowed_go_on() {
    let mut net = TwoNodes::new([&[Attach::Tap, Attach::Veth], &[Attach::Tap]]).start();
    let [one, two] = &mut net.nodes;
    let [allowed, server] = &one.pods[..] else { panic!("two pods") };
    let stranger = &two.pods[0];
    let mut session = TcpSession::open(&allowed.netns, &server.netns, server.ip4);
    session.exchange(10_000);
    tcp_transfer(&stranger.netns, &server.netns, server.ip4, 10_000);
    assert_eq!(one.router.drops("policy-ingress"), 0);

    one.router.apply(&only_from(allowed.ip4));
    session.exchange(10_000);
    assert!(connects(&allowed.netns, &server.netns, server.ip4));
    assert!(!connects(&stranger.netns, &server.netns, server.ip4));
    assert!(one.router.drops("policy-ingress") > 0);
    // What the pods open themselves is not the policy's, and its answers come back.
    tcp_transfer(&server.netns, &stranger.netns, stranger.ip4, 10_000);
    let kept = one.router.vrctl_json(&["get", "kubernetesnetworkpolicy"]);
    assert_eq!(kept[0]["metadata"]["name"], "one", "{kept:#}");

    one.router.terminate();
    one.start();
    let [allowed, server] = &one.pods[..] else { panic!("two pods") };
    assert!(!connects(&stranger.netns, &server.netns, server.ip4), "it is in force after a restart");
    assert!(connects(&allowed.netns, &server.netns, server.ip4));

    one.router.vrctl(&["delete", "kubernetesnetworkpolicy", "test/one"]);
    assert!(connects(&stranger.netns, &server.netns, server.ip4));
    let denied = one.router.drops("policy-ingress");
    tcp_transfer(&stranger.netns, &server.netns, server.ip4, 10_000);
    assert_eq!(one.router.drops("policy-ingress"), denied);
}

/// A connection that policy lets one pod open, and the other not, goes on when the router has died: after it has come
/// back, the other pod speaks first, which only those may whose flow is known.
#[test]
fn flows_outlive_kill_9() {
    let mut net = TwoNodes::new([&[Attach::Tap, Attach::Veth], &[Attach::Tap]]).start();
    let [one, two] = &mut net.nodes;
    one.router.apply(&only_from(one.pods[0].ip4));
    let (opener, stranger) = (&one.pods[1], &two.pods[0]);
    assert!(!connects(&stranger.netns, &opener.netns, opener.ip4));
    let listener = stranger.netns.enter(|| TcpListener::bind((stranger.ip4, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let mut ours = opener.netns.enter(|| TcpStream::connect(address)).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for round in 0..3_u8 {
        theirs.write_all(&[round; 1000]).unwrap();
        let mut data = [0; 1000];
        ours.read_exact(&mut data)
            .unwrap_or_else(|error| panic!("round {round}: {error}\n{}", one.router.log()));
        assert_eq!(data, [round; 1000]);
        one.router.kill();
        one.router.start(&one.config);
    }
    assert!(one.router.log().contains("flows taken over"), "{}", one.router.log());
    assert!(!connects(&stranger.netns, &opener.netns, opener.ip4), "the policy is in force");

    // Without what was left, nobody would know.
    one.router.kill();
    one.router.forget_flows();
    one.router.start(&one.config);
    theirs.write_all(&[9; 1000]).unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert!(ours.read(&mut [0; 1000]).is_err());
    assert!(one.router.drops("policy-ingress") > 0);
}
