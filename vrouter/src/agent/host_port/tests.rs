//! Against the kernel, in namespaces of their own.

use std::fs;

use super::*;
use crate::agent::test_net::{NamedNetns, in_node, ip, ip_json};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);

fn spec() -> HostPortSpec {
    HostPortSpec { name: "vrouter0".into(), mac: MAC, mtu: 1480, queues: 1 }
}

fn route(prefix: &str, src: Option<&str>, mtu: Option<u32>) -> HostRoute {
    HostRoute { prefix: prefix.parse().unwrap(), src: src.map(|ip| ip.parse().unwrap()), mtu }
}

fn plan() -> HostPortPlan {
    HostPortPlan {
        addresses: vec!["10.100.36.64".parse().unwrap(), "fd00:36::1".parse().unwrap()],
        routes: vec![
            route("10.100.36.64/26", Some("10.100.36.64"), None),
            route("10.100.169.128/26", Some("10.100.36.64"), Some(1400)),
            route("fd00:36::/64", None, None),
            route("fd00:169::/64", Some("fd00:36::1"), Some(1400)),
        ],
    }
}

/// Routes of the device as `prefix via gateway src address mtu`, sorted.
fn shown() -> Vec<String> {
    let mut shown = Vec::new();
    for family in ["-4", "-6"] {
        for route in ip_json(&format!("{family} route show proto 196")).as_array().unwrap() {
            assert_eq!(route["dev"], "vrouter0");
            let text = |key: &str| route[key].as_str().unwrap_or("-").to_owned();
            let mtu = route["metrics"][0]["mtu"].as_u64().unwrap_or(0);
            shown.push(format!("{} via {} src {} mtu {mtu}", text("dst"), text("gateway"), text("prefsrc")));
        }
    }
    shown.sort();
    shown
}

#[test]
fn the_nodes_stack_has_what_is_planned() {
    in_node(async || {
        let netlink = Netlink::connect().unwrap();
        let mut port = HostPort::open(&netlink, &spec()).await.unwrap();
        let report = port.sync(&plan()).await.unwrap();
        assert_eq!((report.added, report.replaced, report.removed), (6, 0, 0));
        assert_eq!(
            shown(),
            [
                "10.100.169.128/26 via 169.254.1.1 src 10.100.36.64 mtu 1400",
                "10.100.36.64/26 via 169.254.1.1 src 10.100.36.64 mtu 0",
                "fd00:169::/64 via fe80::ecee:eeff:feee:eeee src fd00:36::1 mtu 1400",
                "fd00:36::/64 via fe80::ecee:eeff:feee:eeee src - mtu 0",
            ]
        );
        let link = &ip_json("address show vrouter0")[0];
        assert_eq!((&link["address"], &link["mtu"]), (&MAC.to_string().into(), &1480.into()));
        assert!(link["flags"].as_array().unwrap().contains(&"UP".into()));
        let addresses: Vec<&str> = link["addr_info"]
            .as_array()
            .unwrap()
            .iter()
            .map(|address| address["local"].as_str().unwrap())
            .collect();
        assert_eq!(addresses, ["10.100.36.64", "fd00:36::1"]);
        for family in ["-4", "-6"] {
            let neighbours = ip_json(&format!("{family} neigh show dev vrouter0 nud permanent"));
            assert_eq!(neighbours[0]["lladdr"], "ee:ee:ee:ee:ee:ee", "{neighbours}");
        }
        // The kernel agrees, whatever else it has.
        let way = &ip_json("route get 10.100.169.176")[0];
        assert_eq!((&way["gateway"], &way["prefsrc"]), (&"169.254.1.1".into(), &"10.100.36.64".into()));

        assert_eq!(port.sync(&plan()).await.unwrap(), SyncReport::default());
        port.remove().await.unwrap();
        assert!(link::find(&netlink, "vrouter0").await.unwrap().is_none());
    });
}

#[test]
fn a_changed_plan_changes_only_what_is_ours() {
    in_node(async || {
        let netlink = Netlink::connect().unwrap();
        let mut port = HostPort::open(&netlink, &spec()).await.unwrap();
        let _ = port.sync(&plan()).await.unwrap();
        ip("route add 10.7.0.0/16 dev vrouter0");
        ip("address add 10.7.0.1/32 dev vrouter0");
        let next = HostPortPlan {
            addresses: vec!["10.100.36.65".parse().unwrap()],
            routes: vec![
                route("10.100.36.64/26", Some("10.100.36.65"), Some(1300)),
                route("fd00:36::/64", None, Some(1300)),
                // Taken above.
                route("10.7.0.0/16", None, None),
            ],
        };
        let report = port.sync(&next).await.unwrap();
        assert_eq!((report.added, report.replaced, report.removed), (1, 2, 4));
        assert_eq!(report.taken, ["10.7.0.0/16".parse().unwrap()]);
        assert_eq!(
            shown(),
            [
                "10.100.36.64/26 via 169.254.1.1 src 10.100.36.65 mtu 1300",
                "fd00:36::/64 via fe80::ecee:eeff:feee:eeee src - mtu 1300",
            ]
        );
        let addresses = device_route::addresses(&netlink, port.link().index).await.unwrap();
        let mut addresses: Vec<String> = addresses.iter().map(|(net, _)| net.to_string()).collect();
        addresses.sort();
        assert_eq!(addresses, ["10.100.36.65/32", "10.7.0.1/32"]);
        assert_eq!(ip_json("route show 10.7.0.0/16")[0]["protocol"], "boot");
    });
}

#[test]
fn a_restarted_router_adopts_and_repairs() {
    in_node(async || {
        let netlink = Netlink::connect().unwrap();
        for queues in [1, 2] {
            let spec = HostPortSpec { queues, ..spec() };
            let mut first = HostPort::open(&netlink, &spec).await.unwrap();
            let _ = first.sync(&plan()).await.unwrap();
            let error = HostPort::open(&netlink, &spec).await.unwrap_err();
            assert!(matches!(error, HostPortError::Busy { .. }), "{error}");
            let before = (first.link().index, shown());
            drop(first);
            assert_eq!(shown(), before.1, "routes stay without a router");

            let mut second = HostPort::open(&netlink, &spec).await.unwrap();
            assert_eq!(second.take_queues().len(), usize::from(queues));
            let mut second = {
                drop(second);
                HostPort::open(&netlink, &spec).await.unwrap()
            };
            assert_eq!((second.link().index, second.link().mac), (before.0, Some(MAC)));
            assert_eq!(second.sync(&plan()).await.unwrap(), SyncReport::default());

            ip("link set vrouter0 down");
            assert_eq!(shown(), Vec::<String>::new());
            let _ = second.sync(&plan()).await.unwrap();
            assert_eq!(shown(), before.1);
            drop(second);
            remove(&netlink, "vrouter0").await.unwrap();
            assert!(link::find(&netlink, "vrouter0").await.unwrap().is_none());
        }
    });
}

#[test]
fn a_failure_leaves_no_device_and_another_kind_is_refused() {
    in_node(async || {
        let netlink = Netlink::connect().unwrap();
        // More than a tap can have.
        let too_big = HostPortSpec { mtu: 65_530, ..spec() };
        HostPort::open(&netlink, &too_big).await.unwrap_err();
        assert!(link::find(&netlink, "vrouter0").await.unwrap().is_none());

        let other = NamedNetns::new("other");
        ip(&format!("link add vrouter0 type veth peer name x netns {}", other.name));
        let error = HostPort::open(&netlink, &spec()).await.unwrap_err().to_string();
        assert!(error.contains("`vrouter0` is a veth device"), "{error}");
        remove(&netlink, "vrouter0").await.unwrap();
        assert!(link::find(&netlink, "vrouter0").await.unwrap().is_some());
    });
}

#[test]
fn strict_source_validation_is_loosened_and_reported() {
    in_node(async || {
        let netlink = Netlink::connect().unwrap();
        for (all, loosened) in [("0", false), ("1", true), ("2", false)] {
            fs::write("/proc/sys/net/ipv4/conf/default/rp_filter", "0").unwrap();
            fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", all).unwrap();
            let port = HostPort::open(&netlink, &spec()).await.unwrap();
            assert_eq!(port.loosened_reverse_path_filter(), loosened, "{all}");
            assert_ne!(reverse_path_filter("vrouter0").unwrap(), ReversePathFilter::Strict);
            port.remove().await.unwrap();
        }
    });
}
