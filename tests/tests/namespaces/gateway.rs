//! The gateway that no device has: ARP and neighbour discovery of pods, answered by the dataplane.

use std::time::Duration;

use vrouter_tests::testbed::{Attach, Pod, TwoNodes, ping, scapy, within};

const GATEWAY: &str = "ee:ee:ee:ee:ee:ee";

fn drops_grow(net: &TwoNodes, reason: &str, work: impl FnOnce()) {
    let router = &net.nodes[0].router;
    let before = router.drops(reason);
    work();
    within(Duration::from_secs(3), &format!("a drop for {reason}"), || {
        (router.drops(reason) > before).then_some(())
    });
}

fn pods(net: &TwoNodes) -> &[Pod] {
    &net.nodes[0].pods
}

#[test]
fn any_address_is_at_the_gateway_except_the_pods_own() {
    let net = TwoNodes::new([&Attach::ALL, &[]]).start();
    for pod in pods(&net) {
        for address in ["169.254.1.1", "10.77.1.33", "203.0.113.200"] {
            let said = pod.netns.run(&format!("arping -c 1 -w 3 -I eth0 {address}"));
            assert!(said.to_ascii_lowercase().contains(GATEWAY), "{address}: {said}");
        }
        // Duplicate address detection: status 0 when nobody answers.
        let detection = pod.netns.try_run(&format!("arping -D -c 1 -w 1 -I eth0 {}", pod.ip4));
        assert!(detection.status.success(), "{}", String::from_utf8_lossy(&detection.stdout));
        drops_grow(&net, "arp-own-address", || {
            pod.netns.try_run(&format!("arping -U -c 1 -w 1 -I eth0 {}", pod.ip4));
        });
    }
}

#[test]
fn neighbour_discovery_likewise() {
    let net = TwoNodes::new([&Attach::ALL, &[]]).start();
    for pod in pods(&net) {
        for address in ["fe80::ecee:eeff:feee:eeee", "fd00:77:1::33", "2001:db8::1"] {
            let said = scapy(
                &pod.netns,
                &format!(
                    "source = '{}'\n\
                 target = '{address}'\n\
                 group = inet_ntop(socket.AF_INET6, in6_getnsma(inet_pton(socket.AF_INET6, target)))\n\
                 mac = get_if_hwaddr('eth0')\n\
                 ask = Ether(src=mac, dst=in6_getnsmac(inet_pton(socket.AF_INET6, group))) / IPv6(src=source, dst=group) / ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr=mac)\n\
                 answer = srp1(ask, iface='eth0', timeout=3, verbose=0)\n\
                 print(answer[ICMPv6NDOptDstLLAddr].lladdr, answer[ICMPv6ND_NA].tgt, answer[IPv6].hlim)\n",
                    pod.ip6
                ),
            );
            assert_eq!(said.trim(), format!("{GATEWAY} {address} 255"), "{}", pod.attach.word());
        }
        // The pod takes another address by itself: its duplicate address detection must find nobody.
        drops_grow(&net, "nd-duplicate-probe", || {
            scapy(
                &pod.netns,
                &format!(
                    "target = '{}'\n\
                 group = inet_ntop(socket.AF_INET6, in6_getnsma(inet_pton(socket.AF_INET6, target)))\n\
                 ask = Ether(dst=in6_getnsmac(inet_pton(socket.AF_INET6, group))) / IPv6(src='::', dst=group) / ICMPv6ND_NS(tgt=target)\n\
                 assert srp1(ask, iface='eth0', timeout=1, verbose=0) is None\n",
                    pod.ip6
                ),
            );
        });
    }
}

#[test]
fn forged_and_broken_messages_are_dropped_by_name() {
    let net = TwoNodes::new([&Attach::ALL, &[]]).start();
    for pod in pods(&net) {
        let send = |frame: &str| {
            scapy(&pod.netns, &format!("sendp({frame}, iface='eth0', verbose=0)"));
        };
        drops_grow(&net, "arp-spoofed", || {
            send("Ether(dst='ff:ff:ff:ff:ff:ff') / ARP(op=1, psrc='10.77.1.61', pdst='169.254.1.1')");
        });
        drops_grow(&net, "arp-malformed", || {
            send("Ether(dst='ff:ff:ff:ff:ff:ff', type=0x0806) / Raw(bytes(ARP())[:10])");
        });
        drops_grow(&net, "nd-malformed", || {
            send(&format!(
                "Ether(dst='33:33:ff:00:00:33') / IPv6(src='{}', dst='ff02::1:ff00:33', hlim=64) / ICMPv6ND_NS(tgt='fd00:77:1::33')",
                pod.ip6
            ));
        });
        // And the pod is none the worse for it.
        assert_eq!(ping(&pod.netns, net.nodes[0].ip4, 1).received, 1);
    }
}
