use super::super::ifreq::Interface;
use super::super::test_net::{PacketSocket, in_new_netns, ip, test_frame, veth_pair, within};
use super::super::umem::MemoryArea;
use super::super::xsk::{XskOptions, XskSocket};
use super::*;
use std::os::fd::AsFd;
use std::time::Duration;

fn ifindex(name: &str) -> u32 {
    Interface::open(name).unwrap().index().unwrap()
}

fn attached(name: &str) -> bool {
    ip(&format!("link show {name}")).contains("xdp")
}

#[test]
fn dropping_it_detaches_root() {
    in_new_netns(|| {
        veth_pair(1);
        let mut xdp = DeviceXdp::load(Sharing::Host, true).unwrap();
        assert_eq!(xdp.mode(), None);
        assert_eq!(xdp.attach(ifindex("va"), AttachMode::Auto).unwrap(), XdpMode::Native);
        assert!(attached("va"));
        xdp.detach();
        assert!(!attached("va"));
        xdp.attach(ifindex("va"), AttachMode::Generic).unwrap();
        assert_eq!(xdp.mode(), Some(XdpMode::Generic));
        assert!(ip("link show va").contains("xdpgeneric"));
        drop(xdp);
        assert!(!attached("va"));
    });
}

#[test]
fn auto_comes_down_to_generic_and_says_why_root() {
    in_new_netns(|| {
        veth_pair(1);
        ip("link add name br0 type bridge");
        let mut xdp = DeviceXdp::load(Sharing::Exclusive, false).unwrap();
        assert_eq!(xdp.attach(ifindex("br0"), AttachMode::Auto).unwrap(), XdpMode::Generic);
        let reason = xdp.native_refusal().unwrap().to_string();
        assert!(reason.contains("br0") && reason.contains("no native XDP"), "{reason}");
        let error = xdp.attach(ifindex("br0"), AttachMode::Native).unwrap_err();
        assert!(matches!(error, AttachError::Os(_)), "{error}");
        assert_eq!(xdp.attach(ifindex("va"), AttachMode::Auto).unwrap(), XdpMode::Native);
        assert!(xdp.native_refusal().is_none());
        assert!(!attached("br0"));
        let text = xdp.attach(12345, AttachMode::Native).unwrap_err().to_string();
        assert!(text.contains("no such device"), "{text}");
    });
}

#[test]
fn a_second_program_is_refused_by_name_root() {
    in_new_netns(|| {
        veth_pair(1);
        for (theirs, ours) in [
            (AttachMode::Native, AttachMode::Auto),
            (AttachMode::Native, AttachMode::Native),
            (AttachMode::Native, AttachMode::Generic),
            (AttachMode::Generic, AttachMode::Auto),
            (AttachMode::Generic, AttachMode::Generic),
        ] {
            let mut first = DeviceXdp::load(Sharing::Exclusive, false).unwrap();
            first.attach(ifindex("va"), theirs).unwrap();
            let mut second = DeviceXdp::load(Sharing::Host, false).unwrap();
            let error = second.attach(ifindex("va"), ours).unwrap_err();
            match &error {
                AttachError::AlreadyAttached { device } => assert_eq!(device, "va"),
                AttachError::Os(error) => panic!("{theirs:?} {ours:?}: {error}"),
            }
            assert!(attached("va"), "the first one stays");
        }
    });
}

/// The child of `a_killed_owner_leaves_no_program_root`.
#[test]
#[ignore = "run by a_killed_owner_leaves_no_program_root as a process of its own"]
fn attach_and_hang() {
    let mut xdp = DeviceXdp::load(Sharing::Exclusive, false).unwrap();
    xdp.attach(ifindex("va"), AttachMode::Native).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_owner_leaves_no_program_root() {
    in_new_netns(|| {
        veth_pair(1);
        let name = "attach_and_hang";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--quiet", name])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let seen = within(Duration::from_secs(10), || attached("va").then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen.is_some());
        assert!(within(Duration::from_secs(1), || (!attached("va")).then_some(())).is_some());
    });
}

#[test]
fn a_queue_without_a_socket_drops_and_counts_root() {
    in_new_netns(|| {
        veth_pair(1);
        let mut xdp = DeviceXdp::load(Sharing::Exclusive, false).unwrap();
        xdp.attach(ifindex("va"), AttachMode::Native).unwrap();
        let wire = PacketSocket::on("vb");
        let kernel = PacketSocket::on("va");
        (0..3).for_each(|_| wire.send(&test_frame(&[0; 50])));
        let want = XdpCounters { dropped_no_socket: 3, ..XdpCounters::default() };
        within(Duration::from_secs(2), || (xdp.counters().unwrap() == want).then_some(()))
            .unwrap_or_else(|| panic!("{:?}", xdp.counters()));
        drop(xdp);
        // The kernel's stack saw none of them: the first it sees is this one.
        let marker = test_frame(&[9; 50]);
        wire.send(&marker);
        assert_eq!(kernel.receive(|f| f[12..14] == [0x88, 0xb5]), marker);
    });
}

#[test]
fn a_closed_socket_leaves_the_map_root() {
    in_new_netns(|| {
        veth_pair(1);
        let area = MemoryArea::new(1 << 20).unwrap();
        let open = || XskSocket::open(&area, ifindex("va"), 0, &XskOptions::default(), None);
        let socket = open().unwrap();
        let xdp = DeviceXdp::load(Sharing::Exclusive, false).unwrap();
        let frame = test_frame(&[0; 50]);
        assert_eq!(xdp.test_run(&frame).unwrap(), 1);
        xdp.register_socket(0, socket.as_fd()).unwrap();
        assert_eq!(xdp.test_run(&frame).unwrap(), 4);
        drop(socket);
        let gone = within(Duration::from_secs(2), || (xdp.test_run(&frame).unwrap() == 1).then_some(()));
        assert!(gone.is_some());
        let socket = open().unwrap();
        xdp.register_socket(0, socket.as_fd()).unwrap();
        xdp.register_socket(0, socket.as_fd()).unwrap();
        assert_eq!(xdp.test_run(&frame).unwrap(), 4);
        xdp.unregister_socket(0).unwrap();
        assert_eq!(xdp.test_run(&frame).unwrap(), 1);
        assert!(xdp.register_socket(MAX_QUEUES, socket.as_fd()).is_err());
        assert!(xdp.register_socket(0, area.as_fd()).is_err());
    });
}
