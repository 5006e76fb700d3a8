use super::super::ifreq::Interface;
use super::super::netns::Netns;
use super::super::test_net::{PacketSocket, in_new_netns, ip, within};
use super::super::wait::WaitSet;
use super::*;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

fn frame(kind: u8) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.extend([kind; 46]);
    frame
}

fn up_without_chatter(name: &str) {
    for key in ["all", "default"] {
        // A kernel without IPv6 sends none.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{key}/disable_ipv6"), "1");
    }
    Interface::open(name).unwrap().set_up(true).unwrap();
}

#[test]
fn frames_pass_both_ways_with_their_header_root() {
    in_new_netns(|| {
        let tap = Tap::open("t0", false).unwrap();
        tap.set_offload(TapOffload::TSO_USO).unwrap();
        up_without_chatter("t0");
        let socket = PacketSocket::on("t0");

        let header = VirtioHeader::default().to_bytes();
        let sent = [header.as_slice(), &frame(1)].concat();
        assert_eq!(tap.write(&sent).unwrap(), sent.len());
        assert_eq!(socket.receive(|f| f[12..14] == [0x88, 0xb5]), frame(1));
        let two = frame(2);
        let parts = [IoSlice::new(&header), IoSlice::new(&two[..20]), IoSlice::new(&[9; 40])];
        assert_eq!(tap.writev(&parts).unwrap(), 70);
        assert_eq!(socket.receive(|f| f[12..14] == [0x88, 0xb5])[20..], [9; 40]);

        let mut buffer = [0; 2048];
        assert_eq!(tap.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut set = WaitSet::new(1).unwrap();
        set.add(tap.as_fd(), 3).unwrap();
        socket.send(&frame(3));
        let mut ready = Vec::new();
        set.wait(Some(PATIENCE), &mut ready).unwrap();
        assert_eq!(ready, [3]);
        let len = tap.read(&mut buffer).unwrap();
        assert_eq!(buffer[VIRTIO_HEADER_LEN..len], frame(3));

        socket.send(&frame(4));
        let (mut first, mut rest) = ([0; VIRTIO_HEADER_LEN], [0; 100]);
        let len = within(PATIENCE, || {
            tap.readv(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut rest)]).ok()
        });
        assert_eq!(len, Some(70));
        assert_eq!(rest[..60], frame(4));
    });
}

#[test]
fn offloads_leave_the_checksum_to_us_root() {
    in_new_netns(|| {
        let tap = Tap::open("t0", true).unwrap();
        tap.set_hardware_address([2, 0, 0, 0, 0, 7]).unwrap();
        up_without_chatter("t0");
        ip("addr add 10.0.0.1/24 dev t0");
        ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:08 dev t0 nud permanent");
        let socket = std::net::UdpSocket::bind("10.0.0.1:0").unwrap();
        let received = |offload| {
            tap.set_offload(offload).unwrap();
            socket.send_to(&[0x55; 100], "10.0.0.2:5000").unwrap();
            let mut buffer = vec![0; 4096];
            within(PATIENCE, || {
                let len = tap.read(&mut buffer).ok()?;
                let (header, frame) = buffer[..len].split_first_chunk().unwrap();
                let ours = frame[12..14] == [8, 0] && frame.len() == 14 + 28 + 100;
                ours.then(|| VirtioHeader::from_bytes(header))
            })
            .unwrap()
        };
        let partial = received(TapOffload::TSO);
        assert_eq!(partial.flags, VirtioHeader::NEEDS_CHECKSUM);
        assert_eq!((partial.csum_start, partial.csum_offset), (34, 6));
        assert_eq!(partial.gso_type, VirtioHeader::GSO_NONE);
        let complete = received(TapOffload::NONE);
        assert_eq!(complete.flags & VirtioHeader::NEEDS_CHECKSUM, 0);
    });
}

#[test]
fn a_persistent_tap_is_adopted_as_it_was_root() {
    in_new_netns(|| {
        let tap = Tap::open("t0", false).unwrap();
        tap.set_persistent(true).unwrap();
        tap.set_hardware_address([2, 0, 0, 0, 0, 9]).unwrap();
        up_without_chatter("t0");
        ip("addr add 10.0.0.1/32 dev t0");
        let index = Interface::open("t0").unwrap().index().unwrap();
        assert!(matches!(Tap::open("t0", false), Err(TapError::Busy { name }) if name == "t0"));
        drop(tap);

        // A child that another test is starting may hold a copy for a moment.
        let tap = within(PATIENCE, || Tap::open("t0", false).ok()).unwrap();
        assert_eq!(tap.hardware_address().unwrap(), [2, 0, 0, 0, 0, 9]);
        let device = Interface::open("t0").unwrap();
        assert_eq!(device.index().unwrap(), index);
        assert!(ip("addr show t0").contains("10.0.0.1/32"));
        assert_eq!(device.hardware_address().unwrap(), [2, 0, 0, 0, 0, 9]);

        tap.set_persistent(false).unwrap();
        drop(tap);
        assert!(within(PATIENCE, || Interface::open("t0").err()).is_some());
    });
}

#[test]
fn made_inside_a_namespace_and_used_outside_root() {
    let netns = in_new_netns(|| Netns::current().unwrap());
    let tap = netns
        .run_in(|| {
            let tap = Tap::open("eth0", false).unwrap();
            up_without_chatter("eth0");
            tap
        })
        .unwrap();
    let here = Interface::open("eth0").and_then(|device| device.hardware_address());
    let address = tap.hardware_address().unwrap();
    assert_ne!(here.ok(), Some(address));
    netns
        .run_in(|| {
            assert_eq!(Interface::open("eth0").unwrap().hardware_address().unwrap(), address);
            ip("link set eth0 down");
            ip("link set eth0 name pod0");
            ip("link set pod0 up");
        })
        .unwrap();
    assert_eq!(tap.name().unwrap(), "pod0");
    let sent = [VirtioHeader::default().to_bytes().as_slice(), &frame(1)].concat();
    assert_eq!(tap.write(&sent).unwrap(), sent.len());
}

#[test]
fn refusals_are_explained_root() {
    in_new_netns(|| {
        ip("link add name v0 type veth peer name v1");
        let text = Tap::open("v0", false).unwrap_err().to_string();
        assert!(text.contains("no tap"), "{text}");
        let _single = Tap::open("t0", false).unwrap();
        let text = Tap::open("t0", true).unwrap_err().to_string();
        assert!(text.contains("t0"), "{text}");
        let text = Tap::open("name-of-16-bytes", true).unwrap_err().to_string();
        assert!(text.contains("1 to 15 bytes"), "{text}");
        let queues: Vec<_> = (0..4).map(|_| Tap::open("t1", true).unwrap()).collect();
        assert!(queues.iter().all(|queue| queue.name().unwrap() == "t1"));
    });
}

#[test]
fn header_bytes() {
    let header = VirtioHeader {
        flags: 1,
        gso_type: VirtioHeader::GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1460,
        csum_start: 34,
        csum_offset: 16,
    };
    let bytes = header.to_bytes();
    assert_eq!(bytes[..2], [1, 1]);
    assert_eq!(bytes[4..6], 1460u16.to_ne_bytes());
    assert_eq!(VirtioHeader::from_bytes(&bytes), header);
}
