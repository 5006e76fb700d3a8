//! Errors that a pod's kernel understands: time exceeded, fragmentation needed, unreachable.

use std::net::{IpAddr, Ipv4Addr};

use vrouter_tests::testbed::{Attach, Netns, TwoNodes, ping};

fn said(netns: &Netns, line: &str) -> String {
    String::from_utf8_lossy(&netns.try_run(line).stdout).into_owned()
}

#[test]
fn time_exceeded_at_each_router_of_the_way() {
    let net = TwoNodes::new([&Attach::ALL, &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    for pod in &one.pods {
        for ip in two.pods[0].ips() {
            let first = said(&pod.netns, &format!("ping -n -c 1 -W 2 -t 1 {ip}"));
            assert!(first.to_lowercase().contains("time"), "{first}");
            assert!(first.contains("ceeded"), "{first}");
            let second = said(&pod.netns, &format!("ping -n -c 1 -W 2 -t 2 {ip}"));
            assert!(second.contains("ceeded"), "{second}");
            let third = said(&pod.netns, &format!("ping -n -c 1 -W 2 -t 3 {ip}"));
            assert!(third.contains(" 1 received"), "{third}");
        }
    }
}

#[test]
fn a_pod_learns_the_mtu_of_a_path() {
    let net = TwoNodes::new([&[Attach::Tap], &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    let (from, to) = (&one.pods[0].netns, &two.pods[0]);
    // A pod that thinks that more fits than does.
    from.ip("link set eth0 mtu 1600");
    let sized = |size: u32, flag: &str, ip: IpAddr| {
        said(from, &format!("ping -n -c 1 -W 2 -M {flag} -s {size} {ip}"))
    };
    // 28 bytes of headers for IPv4, 48 for IPv6. The tunnel's 20 are missing from IPv4's way; IPv6 has
    // all of the uplink's MTU, and then the other pod's own.
    let [ip4, ip6] = to.ips();
    for (ip, size, mtu) in [
        (ip4, 1480 - 28 + 1, "mtu = 1480"),
        (ip6, 1500 - 48 + 1, "mtu=1500"),
        (ip6, 1480 - 48 + 1, "mtu=1480"),
    ] {
        let text = sized(size, "do", ip);
        assert!(text.contains(mtu), "{text}");
        from.ip("route flush cache");
    }
    for (ip, size) in [(ip4, 1480 - 28), (ip6, 1480 - 48)] {
        let text = sized(size, "do", ip);
        assert!(text.contains(" 1 received"), "{text}");
    }
    // Without don't-fragment the router cuts.
    from.ip("route flush cache");
    let text = sized(1500, "dont", to.ip4.into());
    assert!(text.contains(" 1 received"), "{text}");
}

#[test]
fn unreachable_where_no_route_leads() {
    let net = TwoNodes::new([&Attach::ALL, &[]]).start();
    let one = &net.nodes[0];
    for pod in &one.pods {
        let nowhere: [IpAddr; 2] = [Ipv4Addr::new(198, 51, 100, 1).into(), "2001:db8::1".parse().unwrap()];
        for ip in nowhere {
            let text = said(&pod.netns, &format!("ping -n -c 2 -i 1.2 -W 2 {ip}"));
            assert!(text.contains("nreachable"), "{} {text}", pod.attach.word());
        }
        // An address of the node's own block that no pod has must not loop.
        let text = said(&pod.netns, "ping -n -c 1 -W 2 10.77.1.62");
        assert!(text.contains("nreachable"), "{} {text}", pod.attach.word());
    }
}

#[test]
fn the_router_answers_echo_to_its_own_addresses() {
    let net = TwoNodes::new([&Attach::ALL, &[]]).start();
    for pod in &net.nodes[0].pods {
        assert_eq!(ping(&pod.netns, Ipv4Addr::new(169, 254, 1, 1), 2).received, 2, "{}", pod.attach.word());
    }
}
