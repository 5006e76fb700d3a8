//! Each rule of the program for shared uplinks, on hand-made frames.

use super::super::device_xdp::{DeviceXdp, Sharing};
use super::super::ifreq::Interface;
use super::super::test_net::{in_new_netns, veth_pair};
use super::super::umem::MemoryArea;
use super::super::xsk::{XskOptions, XskSocket};
use std::os::fd::AsFd;

mod frames;
use frames::{ethernet, extension, fragment4, fragment6, frame, frame_with, icmp, packet, udp};

const PASS: u32 = super::XDP_PASS as u32;
const TAKE: u32 = super::XDP_REDIRECT as u32;

// Our tunnel address, another address of the node, a peer, a foreign tunnel's end.
const OURS: &str = "172.16.20.252";
const NODE: &str = "172.16.20.1";
const PEER: &str = "172.16.20.253";
const FOREIGN: &str = "172.16.20.99";
const OURS6: &str = "fd00:20::252";
const NODE6: &str = "fd00:20::1";
const PEER6: &str = "fd00:20::253";
const FOREIGN6: &str = "fd00:20::99";
const VXLAN: u16 = 4789;

/// Gives a program the addresses above.
fn configure(xdp: &mut DeviceXdp) {
    let parse = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<_>>();
    xdp.set_tunnel_local(&parse(&[OURS, OURS6])).unwrap();
    xdp.set_foreign_tunnels(&parse(&[FOREIGN, FOREIGN6])).unwrap();
    xdp.set_vxlan_port(VXLAN).unwrap();
    for prefix in ["10.100.36.64/26", "192.0.2.0/24", "fd00:100:36::/64"] {
        xdp.take(prefix.parse().unwrap()).unwrap();
    }
    for prefix in ["192.0.2.128/25", "fd00:100:36::1/128"] {
        xdp.pass(prefix.parse().unwrap()).unwrap();
    }
}

/// Runs `test` on a loaded program with a socket on queue 0 and the addresses above.
fn with_program(test: impl FnOnce(&mut DeviceXdp) + Send) {
    in_new_netns(|| {
        veth_pair(1);
        let area = MemoryArea::new(1 << 20).unwrap();
        let index = Interface::open("va").unwrap().index().unwrap();
        let socket = XskSocket::open(&area, index, 0, &XskOptions::default(), None).unwrap();
        let mut xdp = DeviceXdp::load(Sharing::Host, true).unwrap();
        xdp.register_socket(0, socket.as_fd()).unwrap();
        configure(&mut xdp);
        test(&mut xdp);
    });
}

type Cases = Vec<(&'static str, Vec<u8>, u32)>;

fn check(xdp: &DeviceXdp, cases: &Cases) {
    let mut wrong = Vec::new();
    for (name, frame, want) in cases {
        let got = xdp.test_run(frame).unwrap();
        if got != *want {
            wrong.push(format!("{name}: {got}, not {want}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    check_ingress(cases);
}

/// In front of packet sockets the same is the router's.
fn check_ingress(cases: &Cases) {
    let mut program = DeviceXdp::load_ingress(Sharing::Host).unwrap();
    configure(&mut program);
    let mut wrong = Vec::new();
    for (name, frame, want) in cases {
        let Ok((verdict, mark)) = program.test_run_ingress(frame) else {
            // The kernel runs such a program on no frame that is shorter than its headers.
            assert!(frame.len() < 14 + 40 && *want == PASS, "{name}: not run");
            continue;
        };
        assert_eq!(verdict, super::super::tc_program::NEXT, "{name}");
        if (mark == super::super::tc_program::MARK) != (*want == TAKE) {
            wrong.push(format!("{name}: mark {mark:#x}"));
        }
    }
    assert!(wrong.is_empty(), "at the ingress: {wrong:#?}");
    let taken = cases.iter().filter(|(.., want)| *want == TAKE).count() as u64;
    assert_eq!(program.counters().unwrap().redirected, taken);
}

#[test]
fn an_exclusive_ingress_drops_all_root() {
    let program = DeviceXdp::load_ingress(Sharing::Exclusive).unwrap();
    for bytes in [14, 60, 1500] {
        let (verdict, ..) = program.test_run_ingress(&vec![2; bytes]).unwrap();
        assert_eq!(verdict, super::super::tc_program::DROP);
    }
    assert_eq!(program.counters().unwrap().redirected, 3);
}

#[test]
fn ipv4_root() {
    let inner = packet("10.1.1.1", "10.100.36.70", 17, &[], &udp(53));
    let quote = |src, protocol, options: &[u8]| packet(src, PEER, protocol, options, &udp(VXLAN));
    let (three, eleven) = (icmp(3, &quote(OURS, 4, &[])), icmp(11, &quote(OURS, 41, &[])));
    let quoted_vxlan = icmp(3, &quote(OURS, 17, &[1, 1, 1, 0]));
    let quoted_other = icmp(3, &packet(OURS, PEER, 17, &[], &udp(53)));
    let to_ours = |protocol, payload: &[u8]| frame(PEER, OURS, protocol, payload);
    let cases: Cases = vec![
        ("ipip from a peer", to_ours(4, &inner), TAKE),
        ("6in4 from a peer", to_ours(41, &inner), TAKE),
        ("ipip from anybody", frame("198.51.100.7", OURS, 4, &inner), TAKE),
        ("ipip with options", frame_with(PEER, OURS, 4, &[1; 40], &inner), TAKE),
        ("ipip without a payload", to_ours(4, &[]), TAKE),
        ("ipip from a foreign tunnel", frame(FOREIGN, OURS, 4, &inner), PASS),
        ("ipip to the node's other address", frame(PEER, NODE, 4, &inner), PASS),
        ("ipip, first fragment", fragment4(to_ours(4, &inner), 0, true), TAKE),
        ("ipip, later fragment", fragment4(to_ours(4, &inner), 100, true), TAKE),
        ("ipip, last fragment", fragment4(to_ours(41, &inner), 200, false), TAKE),
        ("foreign, later fragment", fragment4(frame(FOREIGN, OURS, 4, &inner), 9, false), PASS),
        ("vxlan", to_ours(17, &udp(VXLAN)), TAKE),
        ("vxlan with options", frame_with(PEER, OURS, 17, &[1; 8], &udp(VXLAN)), TAKE),
        ("vxlan from a foreign tunnel", frame(FOREIGN, OURS, 17, &udp(VXLAN)), PASS),
        ("vxlan port of another address", frame(PEER, NODE, 17, &udp(VXLAN)), PASS),
        ("other udp", to_ours(17, &udp(53)), PASS),
        ("udp port 0", to_ours(17, &udp(0)), PASS),
        ("udp cut short", to_ours(17, &udp(VXLAN)[..3]), PASS),
        ("udp, later fragment", fragment4(to_ours(17, &udp(VXLAN)), 5, false), PASS),
        ("tcp", to_ours(6, &udp(VXLAN)), PASS),
        ("unreachable that quotes ipip", to_ours(1, &three), TAKE),
        ("time exceeded that quotes 6in4", to_ours(1, &eleven), TAKE),
        ("parameter problem", to_ours(1, &icmp(12, &quote(OURS, 4, &[]))), TAKE),
        ("unreachable, options outside", frame_with(PEER, OURS, 1, &[1; 4], &three), TAKE),
        ("unreachable that quotes vxlan", to_ours(1, &quoted_vxlan), TAKE),
        ("unreachable that quotes dns", to_ours(1, &quoted_other), PASS),
        ("unreachable that quotes tcp", to_ours(1, &icmp(3, &quote(OURS, 6, &[]))), PASS),
        ("quote of another's tunnel", to_ours(1, &icmp(3, &quote(NODE, 4, &[]))), PASS),
        ("quote cut short", to_ours(1, &three[..27]), PASS),
        ("quoted udp cut short", to_ours(1, &quoted_other[..30]), PASS),
        ("redirect", to_ours(1, &icmp(5, &quote(OURS, 4, &[]))), PASS),
        ("echo request", to_ours(1, &icmp(8, &quote(OURS, 4, &[]))), PASS),
        ("error to the node's other address", frame(PEER, NODE, 1, &three), PASS),
        ("error, later fragment", fragment4(to_ours(1, &three), 3, false), PASS),
        ("pod of the block", frame(PEER, "10.100.36.103", 6, &[0; 20]), TAKE),
        ("first of the block", frame(PEER, "10.100.36.64", 1, &[8, 0]), TAKE),
        ("last of the block", frame(PEER, "10.100.36.127", 1, &[8, 0]), TAKE),
        ("before the block", frame(PEER, "10.100.36.63", 6, &[0; 20]), PASS),
        ("after the block", frame(PEER, "10.100.36.128", 6, &[0; 20]), PASS),
        ("fragment to a pod", fragment4(frame(PEER, "10.100.36.103", 17, &[0; 8]), 7, true), TAKE),
        ("ipip to a pod", frame(FOREIGN, "10.100.36.103", 4, &inner), TAKE),
        ("forward prefix", frame(PEER, "192.0.2.127", 6, &[0; 20]), TAKE),
        ("exception of the prefix", frame(PEER, "192.0.2.128", 6, &[0; 20]), PASS),
        ("to the node", frame(PEER, NODE, 6, &[0; 20]), PASS),
        ("multicast", frame(PEER, "224.0.0.5", 89, &[0; 20]), PASS),
    ];
    with_program(|xdp| check(xdp, &cases));
}

#[test]
fn ipv6_root() {
    let pod = "fd00:100:36::67";
    let inner = packet("fd00:1::1", pod, 17, &[], &udp(53));
    let quote = |src, protocol| packet(src, PEER6, protocol, &[], &udp(VXLAN));
    let too_big = icmp(2, &quote(OURS6, 41));
    let to_ours = |protocol, payload: &[u8]| frame(PEER6, OURS6, protocol, payload);
    let limited = extension(41, 1, &inner);
    let three = extension(60, 1, &extension(43, 3, &extension(4, 2, &inner)));
    let four = extension(60, 1, &three);
    let huge = extension(4, 180, &inner);
    let first = fragment6(41, 0, true, &inner);
    let cases: Cases = vec![
        ("4in6", to_ours(4, &inner), TAKE),
        ("6in6", to_ours(41, &inner), TAKE),
        ("6in6 with an encapsulation limit", to_ours(60, &limited), TAKE),
        ("foreign 6in6 with a limit", frame(FOREIGN6, OURS6, 60, &limited), PASS),
        ("three extension headers", to_ours(0, &three), TAKE),
        ("four extension headers", to_ours(0, &four), PASS),
        ("a long extension header", to_ours(60, &huge), TAKE),
        ("extension header cut short", to_ours(60, &limited[..7]), PASS),
        ("extension header past the end", to_ours(60, &[17, 200, 0, 0, 0, 0, 0, 0]), PASS),
        ("tunnel to the node's other address", frame(PEER6, NODE6, 41, &inner), PASS),
        ("foreign tunnel", frame(FOREIGN6, OURS6, 4, &inner), PASS),
        ("first fragment", to_ours(44, &first), TAKE),
        ("atomic fragment", to_ours(44, &fragment6(4, 0, false, &inner)), TAKE),
        ("later fragment", to_ours(44, &fragment6(41, 90, true, &inner)), TAKE),
        ("later fragment of 4in6", to_ours(44, &fragment6(4, 90, false, &inner)), TAKE),
        ("later fragment of a limited one", to_ours(44, &fragment6(60, 9, false, &inner)), TAKE),
        ("later fragment, foreign", frame(FOREIGN6, OURS6, 44, &fragment6(4, 9, true, &[])), PASS),
        ("later fragment of udp", to_ours(44, &fragment6(17, 90, true, &udp(VXLAN))), PASS),
        ("fragment header cut short", to_ours(44, &first[..7]), PASS),
        ("vxlan", to_ours(17, &udp(VXLAN)), TAKE),
        ("vxlan in a first fragment", to_ours(44, &fragment6(17, 0, true, &udp(VXLAN))), TAKE),
        ("foreign vxlan", frame(FOREIGN6, OURS6, 17, &udp(VXLAN)), PASS),
        ("other udp", to_ours(17, &udp(546)), PASS),
        ("unreachable", to_ours(58, &icmp(1, &quote(OURS6, 4))), TAKE),
        ("too big", to_ours(58, &too_big), TAKE),
        ("time exceeded", to_ours(58, &icmp(3, &quote(OURS6, 41))), TAKE),
        ("parameter problem that quotes vxlan", to_ours(58, &icmp(4, &quote(OURS6, 17))), TAKE),
        ("quote of tcp", to_ours(58, &icmp(2, &quote(OURS6, 6))), PASS),
        ("quote of another's tunnel", to_ours(58, &icmp(2, &quote(NODE6, 41))), PASS),
        ("quote cut short", to_ours(58, &too_big[..47]), PASS),
        ("echo request", to_ours(58, &icmp(128, &quote(OURS6, 41))), PASS),
        ("neighbour solicitation", to_ours(58, &icmp(135, &quote(OURS6, 41))), PASS),
        ("solicitation to a group", frame(PEER6, "ff02::1:ff00:252", 58, &icmp(135, &[])), PASS),
        ("pod", frame(PEER6, pod, 6, &[0; 20]), TAKE),
        ("exception of the prefix", frame(PEER6, "fd00:100:36::1", 6, &[0; 20]), PASS),
        ("next to the block", frame(PEER6, "fd00:100:37::67", 6, &[0; 20]), PASS),
        ("fragment to a pod", frame(PEER6, pod, 44, &fragment6(17, 5, true, &[])), TAKE),
        ("tcp to the node", frame(PEER6, OURS6, 6, &[0; 20]), PASS),
        ("link-local", frame("fe80::1", "fe80::2", 58, &icmp(136, &[])), PASS),
    ];
    with_program(|xdp| check(xdp, &cases));
}

#[test]
fn what_is_not_plain_ip_passes_root() {
    let pod = frame(PEER, "10.100.36.103", 6, &[0; 20]);
    let pod6 = frame(PEER6, "fd00:100:36::67", 6, &[0; 20]);
    let with = |frame: &[u8], at: usize, byte: u8| {
        let mut frame = frame.to_vec();
        frame[at] = byte;
        frame
    };
    let mut vlan = pod.clone();
    vlan.splice(12..12, [0x81, 0, 0, 7]);
    let mut cases: Cases = vec![
        ("the frame itself", pod.clone(), TAKE),
        ("the v6 frame itself", pod6.clone(), TAKE),
        ("multicast MAC", with(&pod, 0, 0x01), PASS),
        ("broadcast MAC", [&[0xff; 6], &pod[6..]].concat(), PASS),
        ("vlan", vlan, PASS),
        ("arp", with(&pod, 13, 6), PASS),
        ("lldp", ethernet(0x88cc, &pod[14..]), PASS),
        ("802.3 length", ethernet(40, &pod[14..]), PASS),
        ("version 6 in 0800", ethernet(0x0800, &pod6[14..]), PASS),
        ("version 4 in 86dd", ethernet(0x86dd, &[&pod[14..], &[0; 20]].concat()), PASS),
        ("header of 16 bytes", with(&pod, 14, 0x44), PASS),
    ];
    for len in 14..54 {
        let want = if len >= 34 { TAKE } else { PASS };
        cases.push(("v4 cut short", pod[..len].to_vec(), want));
        cases.push(("v6 cut short", pod6[..len].to_vec(), PASS));
    }
    cases.push(("v6 header alone", pod6[..54].to_vec(), TAKE));
    with_program(|xdp| check(xdp, &cases));
}

#[test]
fn maps_decide_and_counters_count_root() {
    with_program(|xdp| {
        let vxlan = frame(PEER, OURS, 17, &udp(VXLAN));
        let other = frame(PEER, OURS, 17, &udp(8472));
        let port_zero = frame(PEER, OURS, 17, &udp(0));
        let tunnel = frame(PEER, OURS, 4, &[]);
        let tunnel6 = frame(PEER6, OURS6, 41, &[]);
        let pod = frame(PEER, "10.100.36.103", 6, &[]);
        let run = |xdp: &DeviceXdp, frame: &[u8]| xdp.test_run(frame).unwrap();

        assert_eq!((run(xdp, &vxlan), run(xdp, &other)), (TAKE, PASS));
        xdp.set_vxlan_port(8472).unwrap();
        assert_eq!((run(xdp, &vxlan), run(xdp, &other)), (PASS, TAKE));
        xdp.set_vxlan_port(0).unwrap();
        assert_eq!((run(xdp, &other), run(xdp, &port_zero)), (PASS, PASS));

        xdp.forget("10.100.36.64/26".parse().unwrap()).unwrap();
        xdp.forget("10.100.36.64/26".parse().unwrap()).unwrap();
        assert_eq!(run(xdp, &pod), PASS);
        xdp.take("0.0.0.0/0".parse().unwrap()).unwrap();
        assert_eq!(run(xdp, &pod), TAKE);
        xdp.forget("0.0.0.0/0".parse().unwrap()).unwrap();

        xdp.set_foreign_tunnels(&[PEER.parse().unwrap()]).unwrap();
        assert_eq!((run(xdp, &tunnel), run(xdp, &tunnel6)), (PASS, TAKE));
        xdp.set_foreign_tunnels(&[]).unwrap();
        xdp.set_tunnel_local(&[OURS.parse().unwrap()]).unwrap();
        assert_eq!((run(xdp, &tunnel), run(xdp, &tunnel6)), (TAKE, PASS));

        let before = xdp.counters().unwrap();
        run(xdp, &tunnel);
        run(xdp, &pod);
        run(xdp, &pod);
        xdp.unregister_socket(0).unwrap();
        assert_eq!(run(xdp, &tunnel), super::XDP_DROP as u32);
        let after = xdp.counters().unwrap();
        assert_eq!(after.redirected - before.redirected, 1);
        assert_eq!(after.passed - before.passed, 2);
        assert_eq!((before.dropped_no_socket, after.dropped_no_socket), (0, 1));
    });
}
