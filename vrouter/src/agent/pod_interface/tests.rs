//! Against the kernel: pods in named namespaces, both kinds, both families.

use std::fs;

use serde_json::Value;

use super::*;
use crate::agent::test_net::{NamedNetns, in_node, ip, ip_json, names};

const KINDS: [Attach; 2] = [Attach::Tap, Attach::Veth];

fn spec(pod: &NamedNetns, attach: Attach, addresses: &[&str]) -> PodInterfaceSpec {
    PodInterfaceSpec {
        pod: "default/a".into(),
        netns: pod.path(),
        interface: "eth0".into(),
        attach,
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        mac: None,
        mtu: 1480,
        queues: 1,
    }
}

fn is_up(pod: &NamedNetns) -> bool {
    pod.ip_json("link show eth0")[0]["flags"].as_array().unwrap().contains(&"UP".into())
}

fn addresses(pod: &NamedNetns) -> Vec<String> {
    let shown = pod.ip_json("address show eth0 scope global");
    let infos = shown[0]["addr_info"].as_array();
    // ip(8) shows what it filtered out as empty objects.
    let mut addresses: Vec<String> = infos
        .into_iter()
        .flatten()
        .filter_map(|info| Some(format!("{}/{}", info["local"].as_str()?, info["prefixlen"])))
        .collect();
    addresses.sort();
    addresses
}

/// `dst via gateway scope` of the routes of the device, but for the kernel's own.
fn routes(pod: &NamedNetns) -> Vec<String> {
    let mut routes = Vec::new();
    for family in ["-4", "-6"] {
        for route in pod.ip_json(&format!("{family} route show dev eth0")).as_array().unwrap() {
            if route["protocol"] != "kernel" {
                let text = |key: &str| route[key].as_str().unwrap_or("-").to_owned();
                routes.push(format!("{} via {} {}", text("dst"), text("gateway"), text("scope")));
            }
        }
    }
    routes.sort();
    routes
}

/// What must not change when a router adopts: index, MAC, MTU, addresses, routes,
/// and the counters of carrier changes a veth pod would see.
fn identity(pod: &NamedNetns) -> (Value, Value, Value, Vec<String>, Vec<String>) {
    let link = &pod.ip_json("link show eth0")[0];
    (link["ifindex"].clone(), link["address"].clone(), link["mtu"].clone(), addresses(pod), routes(pod))
}

#[test]
fn an_interface_is_prepared_activated_adopted_and_removed() {
    in_node(async || {
        let node = Netlink::connect().unwrap();
        for attach in KINDS {
            for (given, addresses_wanted, routes_wanted) in [
                (
                    &["10.100.36.103"][..],
                    &["10.100.36.103/32"][..],
                    &["169.254.1.1 via - link", "default via 169.254.1.1 global"][..],
                ),
                (&["fd00:36::103"], &["fd00:36::103/128"], &["default via fe80::ecee:eeff:feee:eeee global"]),
                (
                    &["10.100.36.103", "fd00:36::103"],
                    &["10.100.36.103/32", "fd00:36::103/128"],
                    &[
                        "169.254.1.1 via - link",
                        "default via 169.254.1.1 global",
                        "default via fe80::ecee:eeff:feee:eeee global",
                    ],
                ),
            ] {
                let pod = NamedNetns::new("pod");
                // As container runtimes leave it.
                pod.sysctl("ipv6/conf/default/disable_ipv6", "1");
                let spec = spec(&pod, attach, given);
                let interface = PodInterface::prepare(&node, spec.clone()).await.unwrap();
                assert!(!interface.was_adopted() && !is_up(&pod));
                assert_eq!(addresses(&pod), Vec::<String>::new());
                let mac = interface.mac().unwrap();
                assert!(mac.is_unicast() && mac.0[0] & 2 == 2, "locally administered: {mac}");

                interface.activate().await.unwrap();
                assert!(is_up(&pod));
                assert_eq!(addresses(&pod), addresses_wanted);
                assert_eq!(routes(&pod), routes_wanted, "{attach:?}");
                for tentative in ["tentative", "dadfailed"] {
                    let left = pod.ip_json(&format!("-6 address show eth0 {tentative}"));
                    assert_eq!(names(&left), Vec::<String>::new(), "{tentative}");
                }
                let permanent = pod.ip_json("neigh show dev eth0 nud permanent");
                assert_eq!(permanent.as_array().unwrap().len(), 0);

                // A restart: the queues close, the device stays, nothing changes.
                let before = identity(&pod);
                drop(interface);
                for _ in 0..2 {
                    let again = PodInterface::prepare(&node, spec.clone()).await.unwrap();
                    assert!(again.was_adopted() && is_up(&pod));
                    assert_eq!((again.mac(), again.spec()), (Some(mac), &spec));
                    assert_eq!(identity(&pod), before);
                    again.activate().await.unwrap();
                    assert_eq!(identity(&pod), before);
                }

                let again = PodInterface::prepare(&node, spec).await.unwrap();
                let record = again.record();
                drop(again);
                for _ in 0..2 {
                    remove(&node, "default/a", &record).await.unwrap();
                    assert_eq!(pod.devices(), Vec::<String>::new());
                    assert_eq!(names(&ip_json("link show")), Vec::<String>::new());
                }
            }
        }
    });
}

#[test]
fn adoption_repairs_what_is_missing() {
    in_node(async || {
        let node = Netlink::connect().unwrap();
        for attach in KINDS {
            let pod = NamedNetns::new("pod");
            let spec = spec(&pod, attach, &["10.100.36.103", "fd00:36::103"]);
            let interface = PodInterface::prepare(&node, spec.clone()).await.unwrap();
            interface.activate().await.unwrap();
            let before = identity(&pod);
            drop(interface);
            pod.ip("address del 10.100.36.103/32 dev eth0");
            pod.ip("-6 route del default");
            pod.ip("link set eth0 mtu 1300");
            pod.ip("address add 10.77.0.1/32 dev eth0");
            assert_ne!(identity(&pod), before);

            let again = PodInterface::prepare(&node, spec).await.unwrap();
            again.activate().await.unwrap();
            pod.ip("address del 10.77.0.1/32 dev eth0");
            assert_eq!(identity(&pod), before, "and the pod's own address stayed");
        }
    });
}

#[test]
fn a_given_mac_is_set_and_queues_are_handed_over() {
    in_node(async || {
        let node = Netlink::connect().unwrap();
        let mac = MacAddr([2, 0, 0, 0, 1, 3]);
        for (attach, queues, taken) in
            [(Attach::Tap, 1, 1), (Attach::Tap, 2, 2), (Attach::Veth, 1, 0), (Attach::Veth, 2, 0)]
        {
            let pod = NamedNetns::new("pod");
            let spec = PodInterfaceSpec { mac: Some(mac), queues, ..spec(&pod, attach, &["10.1.0.1"]) };
            let mut interface = PodInterface::prepare(&node, spec.clone()).await.unwrap();
            assert_eq!(interface.mac(), Some(mac));
            assert_eq!(pod.ip_json("link show eth0")[0]["address"], mac.to_string());
            let held = interface.take_queues();
            assert_eq!(held.len(), taken);
            if attach == Attach::Tap {
                let error = PodInterface::prepare(&node, spec).await.unwrap_err().to_string();
                assert!(error.contains("another process holds"), "{error}");
            } else {
                let (name, index) = interface.host_device().unwrap();
                let host = &ip_json(&format!("link show {name}"))[0];
                assert_eq!(host["ifindex"], index);
                assert_eq!(
                    (&host["num_rx_queues"], &host["num_tx_queues"]),
                    (&queues.into(), &queues.into())
                );
                let forwarding = format!("/proc/sys/net/ipv4/conf/{name}/forwarding");
                assert_eq!(fs::read_to_string(forwarding).unwrap().trim(), "0");
            }
            remove(&node, "default/a", &interface.record()).await.unwrap();
        }
    });
}

#[test]
fn a_failed_activation_leaves_the_interface_as_it_was() {
    in_node(async || {
        let node = Netlink::connect().unwrap();
        for attach in KINDS {
            for (family, default) in [
                ("-4", "default via 10.8.0.2 dev other"),
                ("-6", "default via fd08::2 dev other metric 1024"),
            ] {
                let pod = NamedNetns::new("pod");
                pod.ip("link add other type veth peer name other1");
                pod.ip("link set other1 up");
                pod.ip("link set other up");
                pod.ip("address add 10.8.0.1/24 dev other");
                pod.ip("address add fd08::1/64 dev other nodad");
                pod.ip(&format!("{family} route add {default}"));
                let spec = spec(&pod, attach, &["10.100.36.103", "fd00:36::103"]);
                let interface = PodInterface::prepare(&node, spec).await.unwrap();
                let error = interface.activate().await.unwrap_err();
                assert!(matches!(error, PodInterfaceError::RouteTaken { .. }), "{error}");
                assert!(!is_up(&pod));
                assert_eq!((addresses(&pod), routes(&pod)), (Vec::new(), Vec::new()), "{attach:?}");
                pod.ip(&format!("{family} route del {default}"));
                interface.activate().await.unwrap();
                assert!(is_up(&pod));
                remove(&node, "default/a", &interface.record()).await.unwrap();
            }
        }
    });
}

#[test]
fn a_failed_preparation_leaves_nothing() {
    in_node(async || {
        let node = Netlink::connect().unwrap();
        for (attach, mtu) in [(Attach::Tap, 65_530), (Attach::Veth, 70_000)] {
            let pod = NamedNetns::new("pod");
            let spec = PodInterfaceSpec { mtu, ..spec(&pod, attach, &["10.1.0.1"]) };
            PodInterface::prepare(&node, spec).await.unwrap_err();
            assert_eq!(pod.devices(), Vec::<String>::new());
            assert_eq!(names(&ip_json("link show")), Vec::<String>::new());
        }
    });
}

#[test]
fn a_foreign_device_of_the_name_is_refused_and_untouched() {
    in_node(async || {
        let node = Netlink::connect().unwrap();
        for (attach, reason) in
            [(Attach::Tap, "it is a veth device, not a tap"), (Attach::Veth, "not the peer of `vr")]
        {
            let pod = NamedNetns::new("pod");
            pod.ip("link add eth0 type veth peer name eth1");
            let before = pod.ip("link show");
            let error = PodInterface::prepare(&node, spec(&pod, attach, &["10.1.0.1"])).await.unwrap_err();
            let text = error.to_string();
            assert!(text.contains("`eth0`") && text.contains(reason), "{text}");
            assert_eq!(pod.ip("link show"), before);
        }
    });
}

#[test]
fn a_vanished_namespace_is_no_error_to_remove_and_a_clear_one_to_prepare() {
    in_node(async || {
        let node = Netlink::connect().unwrap();
        for attach in KINDS {
            let pod = NamedNetns::new("pod");
            let spec = spec(&pod, attach, &["10.1.0.1"]);
            let interface = PodInterface::prepare(&node, spec.clone()).await.unwrap();
            interface.activate().await.unwrap();
            let record = interface.record();
            let host_device = record.host_device.clone();
            // The path goes; the namespace itself lives on as long as the interface
            // value holds it open.
            ip(&format!("netns del {}", pod.name));
            let error = PodInterface::prepare(&node, spec).await.unwrap_err().to_string();
            assert!(error.contains(pod.path().to_str().unwrap()), "{error}");
            remove(&node, "default/a", &record).await.unwrap();
            if let Some(name) = host_device {
                assert!(link::find(&node, &name).await.unwrap().is_none());
            }
            drop(interface);
            remove(&node, "default/a", &record).await.unwrap();
        }
    });
}

#[test]
fn a_new_namespace_at_the_old_path_is_not_touched() {
    in_node(async || {
        let node = Netlink::connect().unwrap();
        let pod = NamedNetns::new("pod");
        let spec = spec(&pod, Attach::Tap, &["10.1.0.1"]);
        let old = PodInterface::prepare(&node, spec.clone()).await.unwrap();
        let record = old.record();
        ip(&format!("netns del {}", pod.name));
        ip(&format!("netns add {}", pod.name));
        let _new = PodInterface::prepare(&node, spec).await.unwrap();
        remove(&node, "default/a", &record).await.unwrap();
        assert_eq!(pod.devices(), ["eth0"]);
    });
}

#[test]
fn attaching_and_detaching_leaks_nothing() {
    in_node(async || {
        let node = Netlink::connect().unwrap();
        let pod = NamedNetns::new("pod");
        let descriptors = || fs::read_dir("/proc/thread-self/fd").unwrap().count();
        let mut before = None;
        for round in 0..60 {
            for attach in KINDS {
                let spec = spec(&pod, attach, &["10.1.0.1", "fd00::1"]);
                let interface = PodInterface::prepare(&node, spec).await.unwrap();
                interface.activate().await.unwrap();
                remove(&node, "default/a", &interface.record()).await.unwrap();
            }
            tokio::task::yield_now().await;
            if round == 1 {
                before = Some(descriptors());
            }
        }
        // Other tests share this process's descriptors: the bound is loose, a leak
        // of one a round and kind is not.
        assert!(descriptors() < before.unwrap() + 30, "{before:?} {}", descriptors());
        assert_eq!(pod.devices(), Vec::<String>::new());
    });
}

#[test]
fn nonsense_is_refused_with_the_reason() {
    in_node(async || {
        let node = Netlink::connect().unwrap();
        let pod = NamedNetns::new("pod");
        let good = spec(&pod, Attach::Tap, &["10.1.0.1"]);
        let with = |addresses: &[&str]| spec(&pod, Attach::Tap, addresses);
        for (spec, reason) in [
            (with(&[]), "no address"),
            (with(&["10.1.0.1", "10.1.0.1"]), "10.1.0.1 is given twice"),
            (with(&["169.254.1.1"]), "the gateway's"),
            (with(&["fe80::ecee:eeff:feee:eeee"]), "the gateway's"),
            (with(&["ff02::1"]), "cannot be a pod's address"),
            (with(&["127.0.0.1"]), "cannot be a pod's address"),
            (PodInterfaceSpec { mtu: 1279, ..with(&["fd00::1"]) }, "IPv6 needs 1280"),
            (PodInterfaceSpec { mac: Some(MacAddr([0xff; 6])), ..good.clone() }, "MAC address"),
            (PodInterfaceSpec { netns: "/etc/passwd".into(), ..good.clone() }, "not a network namespace"),
            (PodInterfaceSpec { interface: "a/b".into(), ..good }, "device name"),
        ] {
            let text = PodInterface::prepare(&node, spec).await.unwrap_err().to_string();
            assert!(text.contains("default/a") && text.contains(reason), "{text}");
        }
        assert_eq!(pod.devices(), Vec::<String>::new());
    });
}
