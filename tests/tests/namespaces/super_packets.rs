//! Super-packets with the kernel at both ends: it cuts them up as we do, and what its stacks exchange
//! through the router travels in them.

use std::io::{BufReader, BufWriter, Read, Write};
use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

use encap::segment::Segmenter;
use vrouter_tests::packet::{Ip4, ethernet, internet_checksum, ip6, pseudo_sum4, pseudo_sum6};
use vrouter_tests::testbed::{Attach, Capture, Testbed, TwoNodes, checksum_errors, ping, tcp_transfer};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// One super-packet: what the script is told, the packet from its network header on, the bytes of a segment.
fn super_packet(number: u32) -> (Vec<u8>, Vec<u8>, u16) {
    let mut state = number.wrapping_mul(0x9e37_79b9) | 1;
    let mut random = move |below: u32| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % below
    };
    let (v6, protocol) = (random(2) == 1, if random(3) == 0 { UDP } else { TCP });
    let size = 100 + random(1300) as u16;
    let segments = 2 + random(if protocol == UDP { 30 } else { 45 });
    let len = (u32::from(size) * (segments - 1) + 1 + random(u32::from(size))).min(64_000);
    let options = if protocol == TCP { 4 * random(11) as usize } else { 0 };
    let mut transport = vec![0x9c, 0x40, 0x01, 0xbb];
    if protocol == TCP {
        transport.extend((random(1 << 31) << 1).to_be_bytes());
        transport.extend(random(1 << 31).to_be_bytes());
        // Any flags but SYN, RST and URG.
        let flags = [0x10, 0x18, 0x11, 0x90, 0xd8, 0x50][random(6) as usize];
        transport.extend([((5 + options / 4) << 4) as u8, flags, 1, 2, 0, 0, 0, 0]);
        transport.extend(vec![1; options]);
    } else {
        transport.extend(((8 + len) as u16).to_be_bytes());
        transport.extend([0, 0]);
    }
    let header = transport.len();
    transport.extend((0..len).map(|i| (i.wrapping_mul(number) >> 3) as u8));
    let field = if protocol == TCP { 16 } else { 6 };
    let (from4, to4) = ([10, 0, 0, 1].into(), [10, 0, 1, 2].into());
    let (from6, to6) = ("fd10::1".parse().unwrap(), "fd11::2".parse().unwrap());
    let pseudo = if v6 {
        pseudo_sum6(from6, to6, protocol, transport.len())
    } else {
        pseudo_sum4(from4, to4, protocol, transport.len())
    };
    let sum = !internet_checksum(pseudo, &[]);
    transport[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    let (ethertype, packet) = if v6 {
        (0x86dd, ip6(from6, to6, protocol, 64, &transport))
    } else {
        let fragment = if random(2) == 0 { 0 } else { 0x4000 };
        let header = Ip4 {
            id: random(65_536) as u16,
            tos: random(256) as u8,
            fragment,
            ..Ip4::new(from4, to4, protocol)
        };
        (0x0800, header.bytes(&transport))
    };
    let start = 14 + packet.len() - transport.len();
    let ecn = if protocol == TCP && transport[13] & 0x80 != 0 { 0x80 } else { 0 };
    let kind = if protocol == UDP {
        5
    } else if v6 {
        4
    } else {
        1
    };
    let frame = ethernet([0; 6], [2, 0, 0, 0, 0, 1], ethertype, &packet);
    let segments = len.div_ceil(u32::from(size));
    let (kind, header, bytes) = (kind | ecn, start + header, frame.len());
    let line = format!("{kind} {header} {size} {start} {field} {segments} {bytes}\n");
    ([line.as_bytes(), &frame].concat(), packet, size)
}

/// The packet one hop on.
fn aged(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
    } else {
        packet[8] -= 1;
        packet[10..12].fill(0);
        let sum = internet_checksum(0, &packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

#[test]
fn the_kernel_cuts_them_up_the_same() {
    // `SUPER_PACKETS=1000000` for the long form.
    let count = std::env::var("SUPER_PACKETS").map_or(2000, |text| text.parse().expect("a number"));
    let testbed = Testbed::new();
    let netns = testbed.netns("segments");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/namespaces/kernel_segments.py");
    let mut child = netns
        .command("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 can be started");
    let mut input = BufWriter::new(child.stdin.take().expect("it is piped"));
    let writer = std::thread::spawn(move || {
        (0..count).try_for_each(|number| input.write_all(&super_packet(number).0))?;
        input.flush()
    });
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut next_frame = move |number: u32| {
        let ended = |error| panic!("the script ends at super-packet {number}: {error}");
        let mut len = [0; 2];
        output.read_exact(&mut len).unwrap_or_else(ended);
        let mut frame = vec![0; u16::from_le_bytes(len).into()];
        output.read_exact(&mut frame).unwrap_or_else(ended);
        frame
    };
    let mut wrong = 0;
    for number in 0..count {
        let (_, packet, size) = super_packet(number);
        let packet = aged(packet);
        let plan = Segmenter::new(&packet, packet.len(), size).expect("a good super-packet");
        for segment in plan.segments() {
            let data = plan.header_len() + segment.offset;
            let mut ours = vec![0; plan.header_len()];
            ours.extend_from_slice(&packet[data..data + segment.len]);
            plan.finish(&segment, &mut ours).expect("one of its segments");
            let frame = next_frame(number);
            let theirs = frame.get(14..).expect("a segment");
            if theirs != ours {
                // The kernel makes the checksum by difference, which once in some ten thousand packets
                // comes out as one that no receiver takes.
                assert!(sums_up(&ours) && !sums_up(theirs), "super-packet {number}, {segment:?}");
                let (start, protocol) = transport(&packet);
                let at = start + if protocol == TCP { 16 } else { 6 };
                let but_for_it = |packet: &[u8]| [&packet[..at], &packet[at + 2..]].concat();
                assert_eq!(but_for_it(theirs), but_for_it(&ours), "super-packet {number}, {segment:?}");
                wrong += 1;
            }
        }
        assert!(next_frame(number).is_empty(), "super-packet {number} has no more segments");
    }
    writer.join().expect("no panic").expect("the script reads all");
    assert!(child.wait().expect("our own child").success());
    println!("of {count} super-packets {wrong} segments have a wrong checksum by the kernel");
    assert!(wrong <= count / 1000);
}

/// Where the transport header of a packet without IP options begins, and its protocol.
fn transport(packet: &[u8]) -> (usize, u8) {
    if packet[0] >> 4 == 6 { (40, packet[6]) } else { (20, packet[9]) }
}

/// Whether a packet's transport checksum is right.
fn sums_up(packet: &[u8]) -> bool {
    let (start, protocol) = transport(packet);
    let len = packet.len() - start;
    let pseudo = if start == 40 {
        let [from, to] = [8, 24].map(|at| *packet[at..].first_chunk::<16>().expect("an address"));
        pseudo_sum6(from.into(), to.into(), protocol, len)
    } else {
        let [from, to] = [12, 16].map(|at| *packet[at..].first_chunk::<4>().expect("an address"));
        pseudo_sum4(from.into(), to.into(), protocol, len)
    };
    internet_checksum(pseudo, &packet[start..]) == 0
}

/// Frames and bytes that came in at a pod's port.
fn received(net: &TwoNodes, node: usize, pod: &str) -> (u64, u64) {
    let port = net.nodes[node].router.port(|port| port["name"] == pod);
    let number = |key: &str| {
        let value = &port[key];
        value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or_default()
    };
    (number("rx_packets"), number("rx_bytes"))
}

fn transferred(attach: [&[Attach]; 2], across: bool, mode: &str) {
    let net = TwoNodes::new(attach).ipip_mode(mode).without_offloads().start();
    let from = &net.nodes[0].pods[0];
    let to = if across { &net.nodes[1].pods[0] } else { &net.nodes[0].pods[1] };
    let capture = Capture::start(&net.testbed, &net.switch.netns, "node1", "ip or ip6");
    for ip in to.ips() {
        tcp_transfer(&from.netns, &to.netns, ip, 20_000_000);
        let back = from.ips()[usize::from(ip.is_ipv6())];
        tcp_transfer(&to.netns, &from.netns, back, 5_000_000);
    }
    for pod in [from, to] {
        assert_eq!(checksum_errors(&pod.netns), 0, "{} refused packets", pod.name);
    }
    if from.attach == Attach::Tap {
        let (packets, bytes) = received(&net, 0, &from.name);
        assert!(bytes / packets.max(1) > 3000, "{bytes} bytes in {packets} packets: not whole");
    }
    if across {
        capture.wait_for(1000, Duration::from_secs(5));
    }
    let packets = capture.stop(&["frame.len", "ip.checksum.status", "tcp.checksum.status"]);
    for packet in &packets {
        for len in packet.all("frame.len") {
            assert!(len.parse::<u32>().expect("a number") <= 1514, "a frame of {len} bytes on the wire");
        }
        for field in ["ip.checksum.status", "tcp.checksum.status"] {
            assert!(packet.all(field).iter().all(|status| *status != "0"), "bad {field} on the wire");
        }
    }
    for node in &net.nodes {
        for reason in
            ["bad-segmentation-offload", "too-big-for-port", "length-mismatch", "no-frame", "port-down"]
        {
            assert_eq!(node.router.drops(reason), 0, "{reason}");
        }
    }
}

#[test]
fn streams_from_tap_to_tap() {
    transferred([&[Attach::Tap, Attach::Tap], &[]], false, "Never");
}

#[test]
fn streams_from_tap_to_veth() {
    transferred([&[Attach::Tap, Attach::Veth], &[]], false, "Never");
}

#[test]
fn streams_across_nodes_plain() {
    transferred([&[Attach::Tap], &[Attach::Tap]], true, "Never");
}

#[test]
fn streams_across_nodes_in_ipip() {
    transferred([&[Attach::Tap], &[Attach::Tap]], true, "Always");
}

#[test]
fn a_veth_takes_them_whole() {
    let net = TwoNodes::new([&[Attach::Tap], &[Attach::Veth]]).ipip_mode("Never").start();
    let (from, to) = (&net.nodes[0].pods[0], &net.nodes[1].pods[0]);
    let capture = Capture::start(&net.testbed, &net.switch.netns, "node1", "tcp");
    for ip in to.ips() {
        tcp_transfer(&from.netns, &to.netns, ip, 5_000_000);
    }
    capture.wait_for(100, Duration::from_secs(5));
    let packets = capture.stop(&["frame.len"]);
    let len = |text: &&str| text.parse::<u32>().expect("a number");
    let longest = packets.iter().flat_map(|packet| packet.all("frame.len")).map(|text| len(&text)).max();
    assert!(longest > Some(10_000), "the longest frame to a switch that could take more has {longest:?}");
    for pod in [from, to] {
        assert_eq!(checksum_errors(&pod.netns), 0, "{} refused packets", pod.name);
    }
    for node in &net.nodes {
        for reason in ["bad-segmentation-offload", "too-big-for-port", "tx-full", "no-frame"] {
            assert_eq!(node.router.drops(reason), 0, "{reason}");
        }
    }
}

/// Sends of twenty datagrams at once (`UDP_SEGMENT`), as QUIC senders make them: each datagram arrives by itself
/// at a receiver that knows nothing of this.
fn datagrams_of_one_send(attach: [&[Attach]; 2], across: bool, mode: &str) {
    const SENDS: usize = 10;
    const DATAGRAMS: usize = 20;
    const SIZE: usize = 1200;
    const LAST: usize = 700;
    let net = TwoNodes::new(attach).ipip_mode(mode).start();
    let from = &net.nodes[0].pods[0];
    let to = if across { &net.nodes[1].pods[0] } else { &net.nodes[0].pods[1] };
    for ip in to.ips() {
        assert_eq!(ping(&from.netns, ip, 1).received, 1, "neighbours know each other");
        let receiver = to.netns.enter(|| UdpSocket::bind((ip, 0))).expect("any port is free");
        receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout above 0");
        let port = receiver.local_addr().expect("it is bound").port();
        let family = if ip.is_ipv6() { "AF_INET6" } else { "AF_INET" };
        let script = format!(
            "import socket, time\n\
             out = socket.socket(socket.{family}, socket.SOCK_DGRAM)\n\
             out.setsockopt(17, 103, {SIZE})\n\
             data = bytes((i * 7 + i // 251) % 256 for i in range({}))\n\
             for number in range({SENDS}):\n\
             \x20   out.sendto(bytes([number]) + data[1:], ('{ip}', {port}))\n\
             \x20   time.sleep(0.02)\n",
            (DATAGRAMS - 1) * SIZE + LAST
        );
        let mut sender = from.netns.command("python3").args(["-c", &script]).spawn().expect("python3 starts");
        for number in 0..SENDS * DATAGRAMS {
            let (send, first) = (number / DATAGRAMS, number % DATAGRAMS * SIZE);
            let len = if number % DATAGRAMS == DATAGRAMS - 1 { LAST } else { SIZE };
            let mut wanted: Vec<u8> = (first..first + len).map(|i| (i * 7 + i / 251) as u8).collect();
            if first == 0 {
                wanted[0] = send as u8;
            }
            let mut datagram = [0; 2 * SIZE];
            let got = receiver.recv(&mut datagram);
            let got = got.unwrap_or_else(|error| panic!("datagram {number} to {ip}: {error}"));
            assert!(
                datagram[..got] == wanted,
                "datagram {number} to {ip} has {got} bytes, or others than sent"
            );
        }
        assert!(sender.wait().expect("our own child").success());
    }
    for pod in [from, to] {
        assert_eq!(checksum_errors(&pod.netns), 0, "{} refused packets", pod.name);
    }
    let (packets, bytes) = received(&net, 0, &from.name);
    assert!(bytes / packets.max(1) > 5000, "{bytes} bytes in {packets} packets: not whole");
    for node in &net.nodes {
        for reason in
            ["bad-segmentation-offload", "too-big-for-port", "length-mismatch", "no-frame", "tx-full"]
        {
            assert_eq!(node.router.drops(reason), 0, "{reason}");
        }
    }
}

#[test]
fn datagrams_of_one_send_on_one_node() {
    datagrams_of_one_send([&[Attach::Tap, Attach::Tap], &[]], false, "Never");
    datagrams_of_one_send([&[Attach::Tap, Attach::Veth], &[]], false, "Never");
}

#[test]
fn datagrams_of_one_send_across_nodes() {
    for mode in ["Never", "Always"] {
        datagrams_of_one_send([&[Attach::Tap], &[Attach::Tap]], true, mode);
    }
    datagrams_of_one_send([&[Attach::Tap], &[Attach::Veth]], true, "Never");
}
