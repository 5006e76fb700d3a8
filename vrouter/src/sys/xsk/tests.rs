use super::super::bpf::XdpMode;
use super::super::device_xdp::{AttachMode, DeviceXdp, Sharing};
use super::super::ifreq::Interface;
use super::super::test_net::{PacketSocket, in_new_netns, ip, test_frame, veth_pair, within};
use super::*;
use std::collections::HashSet;

const CHUNK: u64 = 2048;
const PATIENCE: Duration = Duration::from_secs(2);

fn ifindex(name: &str) -> u32 {
    Interface::open(name).unwrap().index().unwrap()
}

fn small() -> XskOptions {
    XskOptions { fill_size: 64, comp_size: 64, rx_size: 64, tx_size: 64, ..XskOptions::default() }
}

fn area() -> MemoryArea {
    MemoryArea::new(512 * CHUNK as usize).unwrap()
}

/// Writes a packet at `addr`.
fn put(area: &MemoryArea, addr: u64, packet: &[u8]) {
    assert!(addr as usize + packet.len() <= area.len());
    // SAFETY: inside the area; the tests write to frames that the kernel does not hold.
    unsafe {
        area.base()
            .add(addr as usize)
            .copy_from_nonoverlapping(std::ptr::NonNull::from(packet).cast(), packet.len());
    }
}

/// The packet of a received entry.
fn get_packet(area: &MemoryArea, desc: &Desc) -> Vec<u8> {
    assert!(desc.addr + u64::from(desc.len) <= area.len() as u64);
    // SAFETY: inside the area; the kernel has given the frame back.
    unsafe {
        let start = area.base().as_ptr().add(desc.addr as usize);
        std::slice::from_raw_parts(start, desc.len as usize).to_vec()
    }
}

fn receive(socket: &mut XskSocket, count: usize) -> Vec<Desc> {
    let mut all = Vec::new();
    within(PATIENCE, || {
        let mut out = [Desc::default(); 64];
        let got = socket.rx_peek(&mut out);
        all.extend_from_slice(&out[..got]);
        (all.len() >= count).then_some(())
    })
    .unwrap_or_else(|| panic!("{} of {count} packets; {:?}", all.len(), socket.statistics()));
    all
}

fn completed(socket: &mut XskSocket, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    within(PATIENCE, || {
        socket.kick_tx().unwrap();
        let mut out = [0; 64];
        let got = socket.completion_pop(&mut out);
        all.extend_from_slice(&out[..got]);
        (all.len() >= count).then_some(())
    })
    .unwrap_or_else(|| panic!("{} of {count} completions", all.len()));
    all
}

fn round_trip(mode: AttachMode) {
    veth_pair(1);
    let area = area();
    let mut socket = XskSocket::open(&area, ifindex("va"), 0, &small(), None).unwrap();
    assert!(!socket.zero_copy());
    assert_eq!((socket.queue(), socket.ifindex()), (0, ifindex("va")));
    assert_eq!(socket.fill_free(), 64);
    let frames: Vec<u64> = (0..80).map(|n| n * CHUNK).collect();
    assert_eq!(socket.fill_push(&frames), 64);
    assert_eq!(socket.fill_free(), 0);
    let mut xdp = DeviceXdp::load(Sharing::Exclusive, false).unwrap();
    xdp.register_socket(0, socket.as_fd()).unwrap();
    xdp.attach(ifindex("va"), mode).unwrap();
    let wire = PacketSocket::on("vb");

    for size in [14, 46, 1486] {
        let frame = test_frame(&vec![size as u8; size]);
        wire.send(&frame);
        let descs = receive(&mut socket, 1);
        assert_eq!(descs.len(), 1);
        assert_eq!(descs[0].addr % CHUNK, 256, "the kernel's headroom");
        assert!(!descs[0].more());
        assert_eq!(get_packet(&area, &descs[0]), frame);
    }
    assert_eq!(xdp.counters().unwrap().redirected, 3);
    socket.wake_rx().unwrap();

    let sent: Vec<Desc> = (100..140u64)
        .map(|n| {
            let frame = test_frame(&[n as u8; 60]);
            let addr = n * CHUNK + 300;
            put(&area, addr, &frame);
            Desc { addr, len: frame.len() as u32, options: 0 }
        })
        .collect();
    assert_eq!(socket.tx_push(&sent), 40);
    assert!(socket.tx_needs_wakeup());
    let done = completed(&mut socket, 40);
    assert_eq!(done, sent.iter().map(|desc| desc.addr).collect::<Vec<_>>());
    assert_eq!(socket.tx_free(), 64);
    for n in 100..140u64 {
        assert_eq!(wire.receive(|f| f[12..14] == [0x88, 0xb5] && f[14] >= 100)[14], n as u8);
    }
    let statistics = socket.statistics().unwrap();
    assert_eq!((statistics.rx_dropped, statistics.tx_invalid), (0, 0));
}

#[test]
fn receives_and_transmits_native_root() {
    in_new_netns(|| round_trip(AttachMode::Native));
}

#[test]
fn receives_and_transmits_generic_root() {
    in_new_netns(|| round_trip(AttachMode::Generic));
}

#[test]
fn queues_of_a_device_share_memory_root() {
    in_new_netns(|| {
        veth_pair(2);
        let area = area();
        let index = ifindex("va");
        let first = XskSocket::open(&area, index, 0, &small(), None).unwrap();
        let second = XskSocket::open(&area, index, 1, &small(), Some(&first)).unwrap();
        let mut sockets = [first, second];
        let mut xdp = DeviceXdp::load(Sharing::Exclusive, false).unwrap();
        for (queue, socket) in sockets.iter_mut().enumerate() {
            let frames: Vec<u64> = (0..64).map(|n| (queue as u64 * 64 + n) * CHUNK).collect();
            assert_eq!(socket.fill_push(&frames), 64);
            xdp.register_socket(queue as u32, socket.as_fd()).unwrap();
        }
        xdp.attach(index, AttachMode::Native).unwrap();

        // Different flows, which the sender's end spreads over its queues.
        let wire = PacketSocket::on("vb");
        let count = 60;
        let mut expected = HashSet::new();
        for n in 0..count {
            let mut frame = test_frame(&[0; 28]);
            frame[12..14].copy_from_slice(&[8, 0]);
            frame[14..24].copy_from_slice(&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17]);
            frame[26..36].copy_from_slice(&[10, 0, 0, n, 10, 0, 0, 1, 9, n]);
            wire.send(&frame);
            expected.insert(frame);
        }
        let mut per_queue = [0; 2];
        let mut received = Vec::new();
        within(PATIENCE, || {
            for (queue, socket) in sockets.iter_mut().enumerate() {
                let mut out = [Desc::default(); 64];
                let got = socket.rx_peek(&mut out);
                per_queue[queue] += got;
                received.extend_from_slice(&out[..got]);
            }
            (received.len() == usize::from(count)).then_some(())
        })
        .unwrap_or_else(|| panic!("{per_queue:?} {:?}", xdp.counters()));
        assert!(per_queue.iter().all(|&n| n > 5), "{per_queue:?}");
        let got: HashSet<_> = received.iter().map(|desc| get_packet(&area, desc)).collect();
        assert_eq!(got, expected);

        // A frame received on one queue goes out on the other as it is.
        assert_eq!(sockets[1].tx_push(&received[..1]), 1);
        assert_eq!(completed(&mut sockets[1], 1), [received[0].addr]);
    });
}

#[test]
fn devices_register_the_same_memory_and_forward_in_place_root() {
    in_new_netns(|| {
        veth_pair(1);
        ip("link add name vc type veth peer name vd");
        ip("link set vc up");
        ip("link set vd up");
        let area = area();
        let mut from = XskSocket::open(&area, ifindex("va"), 0, &small(), None).unwrap();
        let mut to = XskSocket::open(&area, ifindex("vc"), 0, &small(), None).unwrap();
        let mut xdp = DeviceXdp::load(Sharing::Exclusive, false).unwrap();
        xdp.register_socket(0, from.as_fd()).unwrap();
        xdp.attach(ifindex("va"), AttachMode::Native).unwrap();
        from.fill_push(&[0, CHUNK]);
        let frame = test_frame(&[0x77; 100]);
        let sink = PacketSocket::on("vd");
        PacketSocket::on("vb").send(&frame);
        let descs = receive(&mut from, 1);
        assert_eq!(to.tx_push(&descs), 1);
        assert_eq!(completed(&mut to, 1), [descs[0].addr]);
        assert_eq!(sink.receive(|f| f[12..14] == [0x88, 0xb5]), frame);
    });
}

#[test]
fn packets_of_several_frames_root() {
    in_new_netns(|| {
        veth_pair(1);
        ip("link set va mtu 9000");
        ip("link set vb mtu 9000");
        let options = XskOptions { multi_buffer: true, ..small() };
        let area = area();
        let index = ifindex("va");
        let mut socket = XskSocket::open(&area, index, 0, &options, None).unwrap();
        socket.fill_push(&(0..64).map(|n| n * CHUNK).collect::<Vec<_>>());
        let single = DeviceXdp::load(Sharing::Exclusive, false).unwrap();
        let text = { single }.attach(index, AttachMode::Native).unwrap_err().to_string();
        assert!(text.contains("MTU is too large"), "{text}");
        let mut xdp = DeviceXdp::load(Sharing::Exclusive, true).unwrap();
        xdp.register_socket(0, socket.as_fd()).unwrap();
        assert_eq!(xdp.attach(index, AttachMode::Auto).unwrap(), XdpMode::Native);

        let payload: Vec<u8> = (0..8000u32).map(|n| (n % 251) as u8).collect();
        let frame = test_frame(&payload);
        let wire = PacketSocket::on("vb");
        wire.send(&frame);
        let descs = receive(&mut socket, 5);
        let more: Vec<bool> = descs.iter().map(Desc::more).collect();
        assert_eq!(more.iter().filter(|m| !**m).count(), 1);
        assert!(!more[more.len() - 1]);
        let joined: Vec<u8> = descs.iter().flat_map(|desc| get_packet(&area, desc)).collect();
        assert_eq!(joined, frame);

        assert_eq!(socket.tx_push(&descs), descs.len());
        assert_eq!(completed(&mut socket, descs.len()).len(), descs.len());
        assert_eq!(wire.receive(|f| f[12..14] == [0x88, 0xb5]), frame);
    });
}

#[test]
fn the_kernel_completes_a_checksum_on_request_root() {
    in_new_netns(|| {
        veth_pair(1);
        ip("addr add 10.0.0.2/24 dev vb");
        let area = area();
        let options = XskOptions { tx_metadata: true, ..small() };
        let mut socket = XskSocket::open(&area, ifindex("va"), 0, &options, None).unwrap();
        let receiver = std::net::UdpSocket::bind("10.0.0.2:7").unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();

        let mut frame = vec![2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa, 8, 0];
        frame.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0x66, 0xcb]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0, 9, 0, 7, 0, 12]);
        // The folded pseudo-header sum: addresses, protocol, UDP length.
        let sum = 0x0a00u16 + 1 + 0x0a00 + 2 + 17 + 12;
        frame.extend(sum.to_be_bytes());
        frame.extend([1, 2, 3, 4]);
        let addr = 512;
        put(&area, addr, &frame);
        put(&area, addr - TX_METADATA_LEN as u64, &tx_checksum_request(34, 6));
        let desc = Desc { addr, len: frame.len() as u32, options: Desc::TX_METADATA };
        assert_eq!(socket.tx_push(&[desc]), 1);
        assert_eq!(completed(&mut socket, 1), [addr]);
        let mut buffer = [0; 64];
        let len = receiver.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..len], [1, 2, 3, 4]);
    });
}

#[test]
fn losses_are_counted_root() {
    in_new_netns(|| {
        veth_pair(1);
        let area = area();
        let options = XskOptions { rx_size: 2, ..small() };
        let mut socket = XskSocket::open(&area, ifindex("va"), 0, &options, None).unwrap();
        socket.fill_push(&[0, CHUNK, 2 * CHUNK, 3 * CHUNK, 4 * CHUNK]);
        let mut xdp = DeviceXdp::load(Sharing::Exclusive, false).unwrap();
        xdp.register_socket(0, socket.as_fd()).unwrap();
        xdp.attach(ifindex("va"), AttachMode::Native).unwrap();
        let wire = PacketSocket::on("vb");
        (0..3).for_each(|_| wire.send(&test_frame(&[1; 50])));
        let lost = within(PATIENCE, || {
            let statistics = socket.statistics().unwrap();
            (statistics.rx_ring_full > 0).then_some(statistics)
        });
        assert_eq!(lost.unwrap().rx_ring_full, 1);
        assert_eq!(receive(&mut socket, 2).len(), 2);

        socket.tx_push(&[Desc { addr: u64::MAX / 2, len: 60, options: 0 }]);
        socket.kick_tx().unwrap();
        assert_eq!(socket.statistics().unwrap().tx_invalid, 1);
    });
}

#[test]
fn options_are_set_or_explained_root() {
    in_new_netns(|| {
        veth_pair(1);
        let area = area();
        let index = ifindex("va");
        let open = |options: &XskOptions, queue| {
            XskSocket::open(&area, index, queue, options, None).map_err(|error| error.to_string())
        };
        let mode = |mode| XskOptions { mode, ..small() };
        let text = open(&mode(BindMode::ZeroCopy), 0).unwrap_err();
        assert!(text.contains("queue 0 of va") && text.contains("cannot do this mode"), "{text}");
        drop(open(&mode(BindMode::Copy), 0).unwrap());
        let text = open(&small(), 7).unwrap_err();
        assert!(text.contains("no such queue"), "{text}");
        let text = open(&XskOptions { rx_size: 100, ..small() }, 0).unwrap_err();
        assert!(text.contains("powers of two"), "{text}");
        let text = open(&XskOptions { chunk_size: 8192, ..small() }, 0).unwrap_err();
        assert!(text.contains("bad frame size"), "{text}");
        let text = open(&XskOptions { tx_budget: Some(4096), ..small() }, 0).unwrap_err();
        assert!(text.contains("transmit budget"), "{text}");

        let busy_poll = Some(BusyPoll { micros: 20, budget: 64 });
        let options = XskOptions { busy_poll, tx_budget: Some(64), ..small() };
        let first = open(&options, 0).unwrap();
        assert!([32, 64].contains(&first.tx_budget()));
        let again = XskSocket::open(&area, index, 0, &small(), Some(&first)).unwrap_err();
        assert!(again.to_string().contains("another queue of the same device"), "{again}");
        let start = Instant::now();
        let text = open(&small(), 0).unwrap_err();
        assert!(text.contains("another AF_XDP socket"), "{text}");
        assert!(start.elapsed() >= BIND_PATIENCE);
    });
}

#[test]
fn a_socket_can_be_opened_again_at_once_root() {
    in_new_netns(|| {
        veth_pair(1);
        let area = area();
        for _ in 0..20 {
            XskSocket::open(&area, ifindex("va"), 0, &small(), None).unwrap();
        }
    });
}

#[test]
fn a_device_that_went_down_is_an_error_root() {
    in_new_netns(|| {
        veth_pair(1);
        let area = area();
        let mut socket = XskSocket::open(&area, ifindex("va"), 0, &small(), None).unwrap();
        ip("link set va down");
        socket.tx_push(&[Desc { addr: 0, len: 60, options: 0 }]);
        assert_eq!(socket.kick_tx().unwrap_err().raw_os_error(), Some(libc::ENETDOWN));
        ip("link del va");
        assert!(socket.kick_tx().is_err());
    });
}
