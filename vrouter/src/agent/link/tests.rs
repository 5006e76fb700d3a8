//! Against the kernel, in namespaces of their own.

use std::fs;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::agent::test_net::{NamedNetns, in_node, ip};

async fn until(watch: &mut LinkWatch, wanted: impl Fn(&LinkEvent) -> bool) -> LinkEvent {
    timeout(Duration::from_secs(5), async {
        loop {
            let event = watch.next().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
    .expect("the event comes in time")
}

/// No IPv6 link-local addresses, which come and go by themselves.
fn without_ipv6() {
    fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
}

#[test]
fn devices_are_described() {
    in_node(async || {
        let pod = NamedNetns::new("link");
        ip(&format!(
            "link add v0 mtu 1400 numrxqueues 3 numtxqueues 2 address 02:00:00:00:00:01 \
             type veth peer name v1 netns {}",
            pod.name
        ));
        ip("link add br0 type bridge");
        ip("link add v2 type veth peer name v3");
        ip("link set v2 master br0");
        ip("tuntap add t0 mode tap multi_queue");
        ip("tuntap add t1 mode tap");
        ip("tuntap add t2 mode tun");
        ip("address add 10.1.0.1/24 dev v0");
        ip("address add fd00::1/64 dev v0 nodad");
        let netlink = Netlink::connect().unwrap();

        let v0 = find(&netlink, "v0").await.unwrap().unwrap();
        assert_eq!((v0.name.as_str(), &v0.kind, v0.mtu), ("v0", &LinkKind::Veth, 1400));
        assert_eq!(v0.mac, Some(MacAddr([2, 0, 0, 0, 0, 1])));
        assert_eq!((v0.rx_queues, v0.tx_queues), (3, 2));
        assert!(!v0.admin_up && !v0.carrier && v0.xdp_prog_id.is_none() && v0.master.is_none());
        let addresses: Vec<IpNet> = vec!["10.1.0.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap()];
        assert_eq!(v0.addresses, addresses);

        let all = list(&netlink).await.unwrap();
        let by_name = |name: &str| all.iter().find(|link| link.name == name).unwrap();
        assert_eq!(*by_name("v0"), v0);
        assert_eq!(by_name("lo").kind, LinkKind::Loopback);
        assert_eq!(by_name("br0").kind, LinkKind::Bridge);
        let bridge = Master { index: by_name("br0").index, kind: MasterKind::Bridge };
        assert_eq!(by_name("v2").master, Some(bridge));
        assert_eq!(by_name("t0").kind, LinkKind::Tap { multi_queue: true, attached: Some(0) });
        assert_eq!(by_name("t1").kind, LinkKind::Tap { multi_queue: false, attached: None });
        assert_eq!(by_name("t2").kind, LinkKind::Tun);

        assert_eq!(find(&netlink, "absent").await.unwrap(), None);
        delete(&netlink, v0.index).await.unwrap();
        delete(&netlink, v0.index).await.unwrap();
        assert_eq!(find(&netlink, "v0").await.unwrap(), None);
    });
}

#[test]
fn changes_are_reported_in_order() {
    in_node(async || {
        without_ipv6();
        let mut watch = LinkWatch::start().unwrap();
        until(&mut watch, |e| matches!(e, LinkEvent::Appeared(l) if l.name == "lo")).await;

        ip("link add v0 type veth peer name v1");
        let event = until(&mut watch, |e| matches!(e, LinkEvent::Appeared(l) if l.name == "v0")).await;
        let LinkEvent::Appeared(first) = event else { panic!("no link appeared: {event:?}") };
        assert!(!first.is_running());

        ip("link set v1 up");
        ip("link set v0 up");
        until(&mut watch, |e| {
            matches!(e, LinkEvent::Changed { link, change } if link.name == "v0" && change.running && link.is_running())
        })
        .await;
        ip("link set v1 down");
        until(&mut watch, |e| {
            matches!(e, LinkEvent::Changed { link, change } if link.name == "v0" && change.running && !link.carrier)
        })
        .await;
        ip("link set v0 mtu 1300");
        until(&mut watch, |e| {
            matches!(e, LinkEvent::Changed { link, change } if link.name == "v0" && change.mtu && link.mtu == 1300)
        })
        .await;
        let address: IpNet = "10.2.0.1/24".parse().unwrap();
        let index = first.index;
        ip("address add 10.2.0.1/24 dev v0");
        until(&mut watch, |e| *e == LinkEvent::AddressAdded { index, address }).await;
        ip("address del 10.2.0.1/24 dev v0");
        until(&mut watch, |e| *e == LinkEvent::AddressRemoved { index, address }).await;

        ip("link del v0");
        until(&mut watch, |e| *e == LinkEvent::Removed { index, name: "v0".into() }).await;
        ip("link add v0 type veth peer name v1");
        let event = until(&mut watch, |e| matches!(e, LinkEvent::Appeared(l) if l.name == "v0")).await;
        let LinkEvent::Appeared(second) = event else { panic!("no link appeared: {event:?}") };
        assert_ne!(second.index, index);
    });
}

#[test]
fn lost_notifications_are_made_up_for() {
    in_node(async || {
        without_ipv6();
        // The kernel's least receive buffer holds one or two link messages.
        let mut watch = LinkWatch::with_buffer(1).unwrap();
        until(&mut watch, |e| matches!(e, LinkEvent::Appeared(l) if l.name == "lo")).await;
        // This runtime has one thread: while these run, nobody reads the socket.
        for i in 0..20 {
            ip(&format!("link add a{i} type veth peer name b{i}"));
        }
        ip("link del a3");
        ip("link set a19 mtu 1300");
        until(&mut watch, |e| matches!(e, LinkEvent::Appeared(l) if l.name == "a19" && l.mtu == 1300)).await;
        while timeout(Duration::from_millis(200), watch.next()).await.is_ok() {}
        let mut known: Vec<LinkInfo> = watch.links().cloned().collect();
        let mut actual = list(&Netlink::connect().unwrap()).await.unwrap();
        for link in known.iter_mut().chain(&mut actual) {
            link.peer_index = None;
        }
        assert!(watch.overruns() > 0);
        assert_eq!(known.len(), 1 + 2 * 19);
        assert_eq!(known, actual);
    });
}
