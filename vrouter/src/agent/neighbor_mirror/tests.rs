//! Against the kernel: a peer behind a veth pair, IPv4 and IPv6 alike.

use std::fs;
use std::time::Instant;

use encap::MacAddr;
use tokio::time::timeout;

use super::*;
use crate::agent::test_net::{NamedNetns, in_node, ip, ip_json};

const ADDRESSES: [&str; 2] = ["10.9.0.2", "fd00:9::2"];
const FIRST: MacAddr = MacAddr([2, 0, 0, 0, 9, 1]);
const SECOND: MacAddr = MacAddr([2, 0, 0, 0, 9, 2]);

/// `up0` here, `peer0` with both addresses there; entries grow stale in a second.
fn peer() -> (NamedNetns, u32) {
    let peer = NamedNetns::new("neigh");
    ip(&format!("link add up0 type veth peer name peer0 address {FIRST} netns {}", peer.name));
    for family in ["ipv4", "ipv6"] {
        for (key, value) in [
            ("base_reachable_time_ms", 1000),
            ("gc_stale_time", 1),
            ("delay_first_probe_time", 1),
            ("retrans_time_ms", 200),
            // A busy machine may hold a probe's answer up.
            ("ucast_solicit", 8),
        ] {
            write_sysctl(&format!("{family}/neigh/up0/{key}"), value);
        }
    }
    ip("link set up0 up");
    ip("address add 10.9.0.1/24 dev up0");
    ip("address add fd00:9::1/64 dev up0 nodad");
    peer.ip("link set peer0 up");
    peer.ip("address add 10.9.0.2/24 dev peer0");
    peer.ip("address add fd00:9::2/64 dev peer0 nodad");
    let index = ip_json("link show up0")[0]["ifindex"].as_u64().unwrap();
    (peer, u32::try_from(index).unwrap())
}

fn write_sysctl(key: &str, value: u32) {
    fs::write(format!("/proc/sys/net/{key}"), value.to_string()).unwrap();
}

/// Events until `wanted` holds for one.
async fn until(
    mirror: &mut NeighborMirror,
    limit: u64,
    wanted: impl Fn(&NeighborEvent) -> bool,
) -> NeighborEvent {
    timeout(Duration::from_secs(limit), async {
        loop {
            let event = mirror.next().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
    .expect("the event comes in time")
}

async fn stays_resolved_and_follows_the_mac(keep: KeepResolved) {
    let (peer, index) = peer();
    let mut mirror = NeighborMirror::start(keep).unwrap();
    for address in ADDRESSES {
        mirror.ensure(index, address.parse().unwrap()).await.unwrap();
    }
    for address in ADDRESSES {
        let address: IpAddr = address.parse().unwrap();
        if mirror.table.event((index, address)).is_none_or(|event| event.mac != Some(FIRST)) {
            until(&mut mirror, 8, |event| event.ip == address && event.mac == Some(FIRST)).await;
        }
    }

    // Past several base_reachable_time, with nobody sending: usable throughout.
    let start = Instant::now();
    let mut confirmed = [0; 2];
    while start.elapsed() < Duration::from_secs(12) {
        let Ok(event) = timeout(Duration::from_millis(500), mirror.next()).await else {
            continue;
        };
        let event = event.unwrap();
        for (count, address) in confirmed.iter_mut().zip(ADDRESSES) {
            if event.ip == address.parse::<IpAddr>().unwrap() {
                assert_eq!(event.mac, Some(FIRST), "{event:?}");
                *count += u32::from(event.state == NeighborState::Reachable);
            }
        }
    }
    assert!(confirmed.iter().all(|count| *count >= 1), "reconfirmed {confirmed:?} times");

    peer.ip(&format!("link set peer0 address {SECOND}"));
    let mut left: Vec<IpAddr> = ADDRESSES.iter().map(|a| a.parse().unwrap()).collect();
    while !left.is_empty() {
        let event = until(&mut mirror, 20, |event| event.mac == Some(SECOND)).await;
        left.retain(|address| *address != event.ip);
    }

    for address in ADDRESSES {
        mirror.release(index, address.parse().unwrap()).await.unwrap();
        assert_eq!(ip_json(&format!("neigh show to {address} dev up0")).as_array().unwrap().len(), 0);
    }
}

#[test]
fn managed_next_hops_stay_resolved_and_follow_the_mac() {
    in_node(async || stays_resolved_and_follows_the_mac(KeepResolved::Managed).await);
}

#[test]
fn probed_next_hops_stay_resolved_and_follow_the_mac() {
    in_node(async || stays_resolved_and_follows_the_mac(KeepResolved::Probing).await);
}

#[test]
fn what_the_kernel_flushed_comes_back() {
    in_node(async || {
        let (_peer, index) = peer();
        let address: IpAddr = ADDRESSES[0].parse().unwrap();
        let mut mirror = NeighborMirror::start(KeepResolved::Managed).unwrap();
        // The device is down at first.
        ip("link set up0 down");
        mirror.ensure(index, address).await.unwrap();
        ip("link set up0 up");
        until(&mut mirror, 5, |e| e.ip == address && e.mac == Some(FIRST)).await;

        ip("link set up0 down");
        until(&mut mirror, 5, |e| e.ip == address && e.mac.is_none()).await;
        ip("link set up0 up");
        until(&mut mirror, 5, |e| e.ip == address && e.mac == Some(FIRST)).await;
        assert!(mirror.table.is_ours((index, address)));
    });
}

#[test]
fn an_administrators_entry_is_used_and_left_alone() {
    in_node(async || {
        let (_peer, index) = peer();
        for address in ADDRESSES {
            ip(&format!("neigh add {address} lladdr {SECOND} dev up0 nud permanent"));
            let ip_address: IpAddr = address.parse().unwrap();
            let mut mirror = NeighborMirror::start(KeepResolved::Managed).unwrap();
            mirror.ensure(index, ip_address).await.unwrap();
            let event = until(&mut mirror, 1, |e| e.ip == ip_address).await;
            assert_eq!((event.mac, event.state), (Some(SECOND), NeighborState::Permanent));
            mirror.release(index, ip_address).await.unwrap();
            mirror.sweep().await.unwrap();
            let entry = &ip_json(&format!("neigh show to {address} dev up0"))[0];
            assert_eq!(entry["state"][0], "PERMANENT");
            assert_eq!(entry["lladdr"], SECOND.to_string());
        }
    });
}

#[test]
fn an_entry_managed_for_another_program_is_used_and_left_alone() {
    in_node(async || {
        let (_peer, index) = peer();
        for address in ADDRESSES {
            ip(&format!("neigh add {address} dev up0 managed"));
            let ip_address: IpAddr = address.parse().unwrap();
            let mut mirror = NeighborMirror::start(KeepResolved::Managed).unwrap();
            mirror.ensure(index, ip_address).await.unwrap();
            until(&mut mirror, 8, |e| e.ip == ip_address && e.mac == Some(FIRST)).await;
            mirror.release(index, ip_address).await.unwrap();
            let entry = &ip_json(&format!("neigh show to {address} dev up0"))[0];
            assert_eq!(entry["lladdr"], FIRST.to_string(), "{entry}");
        }
    });
}

#[test]
fn a_former_routers_entries_are_adopted_or_swept() {
    in_node(async || {
        let (_peer, index) = peer();
        let mut former = NeighborMirror::start(KeepResolved::Managed).unwrap();
        for address in ["10.9.0.2", "10.9.0.3"] {
            former.ensure(index, address.parse().unwrap()).await.unwrap();
        }
        drop(former);
        let mut mirror = NeighborMirror::start(KeepResolved::Managed).unwrap();
        mirror.ensure(index, "10.9.0.2".parse().unwrap()).await.unwrap();
        mirror.sweep().await.unwrap();
        assert_eq!(mirror.table.ours().len(), 2);
        mirror.refresh().await.unwrap();
        assert_eq!(mirror.table.ours(), [(index, "10.9.0.2".parse().unwrap())]);
    });
}
