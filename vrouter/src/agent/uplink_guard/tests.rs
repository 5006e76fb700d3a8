use super::*;
use crate::agent::link::Master;
use crate::agent::test_net::{in_node, ip};
use crate::sys::device_xdp::{AttachMode, DeviceXdp, Sharing};

async fn refusal(netlink: &Netlink, device: &str) -> String {
    claim(netlink, device).await.expect_err("a refusal").to_string()
}

#[test]
fn a_device_serves_one_router_at_a_time() {
    in_node(async || {
        ip("link add v0 type veth peer name v1");
        let netlink = Netlink::connect().unwrap();
        let first = claim(&netlink, "v0").await.unwrap();
        assert_eq!((first.link.name.as_str(), first.guard.device()), ("v0", "v0"));
        let error = claim(&netlink, "v0").await.unwrap_err();
        let ours = i32::try_from(std::process::id()).unwrap();
        assert!(
            matches!(error, UplinkRefused::AlreadyHeld { holder: Some(pid), .. } if pid == ours),
            "{error}"
        );
        claim(&netlink, "v1").await.unwrap();
        drop(first);
        claim(&netlink, "v0").await.unwrap();
    });
}

#[test]
fn the_lock_belongs_to_the_network_namespace() {
    let _here = in_node(async || UplinkGuard::lock("eth1").unwrap());
    in_node(async || UplinkGuard::lock("eth1").unwrap());
}

#[test]
fn unfit_devices_are_refused_by_name() {
    in_node(async || {
        ip("link add v0 type veth peer name v1");
        ip("link add br0 type bridge");
        ip("link set v1 master br0");
        ip("tuntap add t0 mode tun");
        let netlink = Netlink::connect().unwrap();
        assert_eq!(
            refusal(&netlink, "eth9").await,
            "there is no device `eth9`; the devices here are: lo, v1, v0, br0, t0"
        );
        for (device, reason) in [
            ("lo", "loopback"),
            ("br0", "it is a bridge"),
            ("v1", "it is a port of bridge `br0`"),
            ("t0", "tun device"),
        ] {
            let text = refusal(&netlink, device).await;
            assert!(text.contains(device) && text.contains(reason), "{text}");
        }
    });
}

/// Kinds that the kernel at hand may not have.
#[test]
fn vlan_and_bond_devices_are_refused() {
    in_node(async || {
        ip("link add v0 type veth peer name v1");
        let plain = link::find(&Netlink::connect().unwrap(), "v0").await.unwrap().unwrap();
        check_kind(&plain, None).unwrap();
        for (kind, master, reason) in [
            (LinkKind::Vlan, None, "VLAN"),
            (LinkKind::Bond, None, "it is a bond"),
            (LinkKind::Plain, Some(MasterKind::Bond), "slave of bond `bond0`"),
            (LinkKind::Plain, Some(MasterKind::Other), "master device `bond0`"),
        ] {
            let mut link = plain.clone();
            link.kind = kind;
            link.master = master.map(|kind| Master { index: 9, kind });
            let text = check_kind(&link, Some("bond0")).unwrap_err().to_string();
            assert!(text.contains("`v0`") && text.contains(reason), "{text}");
        }
    });
}

#[test]
fn another_xdp_program_is_refused_until_it_is_gone() {
    in_node(async || {
        ip("link add v0 type veth peer name v1");
        let netlink = Netlink::connect().unwrap();
        let index = link::find(&netlink, "v0").await.unwrap().unwrap().index;
        for mode in [AttachMode::Native, AttachMode::Generic] {
            let mut foreign = DeviceXdp::load(Sharing::Exclusive, false).unwrap();
            foreign.attach(index, mode).unwrap();
            let error = claim(&netlink, "v0").await.unwrap_err();
            assert!(matches!(error, UplinkRefused::ForeignXdp { program, .. } if program != 0), "{error}");
            drop(foreign);
            claim(&netlink, "v0").await.unwrap();
        }
    });
}
