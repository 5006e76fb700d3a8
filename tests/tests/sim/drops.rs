//! One way to reach every drop reason, and the exact counters that move on it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use vrouter::burst::{Burst, Checksum, Gso, GsoKind, lanes};
use vrouter::drop_reason::DropReason::{self, *};
use vrouter::pipeline::hook::{HookContext, HookPoint, Stage};
use vrouter::port::PortQueue;
use vrouter::port::memory::WirePacket;
use vrouter::{MemoryPort, Router};
use vrouter_tests::lab::{Lab, moved, pod_spec, uplink_spec};
use vrouter_tests::packet::{self, BROADCAST, GATEWAY_MAC, Ip4, Mac};

use crate::world;

const P1: Mac = [2, 0, 0, 0, 1, 1];
const P3: Mac = [2, 0, 0, 0, 1, 3];
const ETH0: Mac = [2, 0, 0, 0, 1, 0xe0];
const OTHER: Mac = [2, 9, 9, 9, 9, 9];
const POD1: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);

/// A frame on a port, and what moves beside `rx` and the drop itself.
struct Case(DropReason, &'static str, Vec<u8>, &'static [&'static str]);

/// An ICMP error went back to pod1.
const ANSWERED: &[&str] = &["pod1.originated", "pod1.tx"];

fn a4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn a6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn from_pod(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    packet::ethernet(GATEWAY_MAC, P1, ethertype, payload)
}

fn pod_ping(destination: &str) -> Vec<u8> {
    from_pod(0x0800, &packet::ping4(POD1, a4(destination), 64, 1))
}

fn pod_ping6(destination: &str) -> Vec<u8> {
    from_pod(0x86dd, &packet::ping6(a6("fd00:1::1"), a6(destination), 64, 1))
}

/// A ping from pod1 with one byte of its IPv4 header changed.
fn dented4(at: usize, value: u8) -> Vec<u8> {
    let mut frame = pod_ping("10.1.0.2");
    frame[14 + at] = value;
    frame
}

fn pod_arp(operation: u16, sender: &str, target: &str) -> Vec<u8> {
    let arp = packet::arp(operation, P1, a4(sender), [0; 6], a4(target));
    packet::ethernet(BROADCAST, P1, 0x0806, &arp)
}

fn pod_nd(message: &[u8]) -> Vec<u8> {
    from_pod(0x86dd, message)
}

fn tunnel(remote: &str, header: impl Fn(Ip4) -> Ip4, inner: &[u8]) -> Vec<u8> {
    let outer = header(Ip4::new(a4(remote), NODE, 4)).bytes(inner);
    packet::ethernet(ETH0, world::NEIGHBOR, 0x0800, &outer)
}

fn cases() -> Vec<Case> {
    let own6 = a6("fd00:1::1");
    let gateway6 = a6("fe80::ecee:eeff:feee:eeee");
    let solicit = packet::solicit(own6, gateway6, gateway6, Some(P1));
    let mut routed_solicit = solicit.clone();
    routed_solicit[7] = 64;
    let probe_node = packet::solicited_node(own6);
    let probe = packet::solicit(Ipv6Addr::UNSPECIFIED, probe_node, own6, None);
    let advert = packet::advert(own6, gateway6, 0x2000_0000, own6, P1);
    let spoofed_solicit = packet::solicit(a6("fd00:1::2"), gateway6, gateway6, Some(P1));
    let router_solicit = packet::icmp6(own6, a6("ff02::2"), 133, 0, 0, &[]);
    let router_solicit = packet::ip6(own6, a6("ff02::2"), 58, 255, &router_solicit);
    let inner = packet::ping4(a4("10.2.0.1"), POD1, 64, 1);
    let big = |flags: u16| Ip4 { fragment: flags, ..Ip4::new(POD1, a4("10.1.0.2"), 17) }.bytes(&[0; 1400]);
    let mut short6 = pod_ping6("fd00:1::2");
    short6.truncate(60);
    let mut version6 = pod_ping6("fd00:1::2");
    version6[14] = 0x40;
    let bad_extension = packet::ip6(own6, a6("fd00:1::2"), 60, 64, &[17, 9, 0, 0, 0, 0, 0, 0]);
    let source6 = packet::ping6(Ipv6Addr::LOCALHOST, a6("fd00:1::2"), 64, 1);
    let route_option =
        Ip4 { options: vec![131, 3, 4, 0], ..Ip4::new(POD1, a4("10.1.0.2"), 17) }.bytes(&[0; 8]);
    let mut broken_ping = pod_ping("192.0.2.2");
    broken_ping[14 + 20 + 3] ^= 1;
    let tunnelled_solicit = tunnel("172.16.0.2", |outer| Ip4 { protocol: 41, ..outer }, &solicit);
    let pod2 = a4("10.1.0.2");
    let unasked = Ip4::new(POD1, pod2, 1).bytes(&packet::icmp(0, 0, 0x1_0001, b"yes"));
    let quoted = packet::udp4((pod2, 7), (POD1, 8), b"");
    let unrelated = Ip4::new(POD1, pod2, 1).bytes(&packet::icmp(3, 3, 0, &quoted));
    let later_fragment = Ip4 { fragment: 1, ..Ip4::new(POD1, pod2, 17) }.bytes(&[0; 8]);
    vec![
        Case(FrameTooShort, "pod1", vec![0; 13], &[]),
        Case(VlanTagged, "pod1", from_pod(0x8100, &[0; 46]), &[]),
        Case(EthertypeUnknown, "pod1", from_pod(0x88cc, &[0; 46]), &[]),
        Case(NotOurMac, "pod1", packet::ethernet(OTHER, P1, 0x0800, &[]), &[]),
        Case(SpoofedMac, "pod1", packet::ethernet(GATEWAY_MAC, OTHER, 0x0800, &[]), &[]),
        Case(ArpMalformed, "pod1", from_pod(0x0806, &[0; 27]), &[]),
        Case(ArpOwnAddress, "pod1", pod_arp(1, "0.0.0.0", "10.1.0.1"), &[]),
        Case(ArpReplyIgnored, "pod1", pod_arp(2, "10.1.0.1", "169.254.1.1"), &[]),
        Case(ArpSpoofed, "pod1", pod_arp(1, "10.1.0.2", "169.254.1.1"), &[]),
        Case(ArpNotForUs, "eth0", packet::ethernet(BROADCAST, world::NEIGHBOR, 0x0806, &[0; 28]), &[]),
        Case(NdMalformed, "pod1", pod_nd(&routed_solicit), &[]),
        Case(NdDuplicateProbe, "pod1", pod_nd(&probe), &[]),
        Case(NdAdvertIgnored, "pod1", pod_nd(&advert), &[]),
        Case(NdSpoofed, "pod1", pod_nd(&spoofed_solicit), &[]),
        Case(NdNotForUs, "eth0", packet::ethernet(ETH0, world::NEIGHBOR, 0x86dd, &solicit), &[]),
        Case(NdRouterMessage, "pod1", pod_nd(&router_solicit), &[]),
        Case(Ipv4Truncated, "pod1", pod_ping("10.1.0.2")[..50].to_vec(), &[]),
        Case(Ipv4BadVersion, "pod1", dented4(0, 0x65), &[]),
        Case(Ipv4BadHeaderLength, "pod1", dented4(0, 0x44), &[]),
        Case(Ipv4BadChecksum, "pod1", dented4(10, 0), &[]),
        Case(Ipv4SourceRoute, "pod1", from_pod(0x0800, &route_option), &[]),
        Case(Ipv4BadSource, "pod1", from_pod(0x0800, &packet::ping4(a4("127.0.0.1"), POD1, 64, 1)), &[]),
        Case(Ipv4BadDestination, "pod1", pod_ping("127.0.0.1"), &[]),
        Case(Ipv6Truncated, "pod1", short6, &[]),
        Case(Ipv6BadVersion, "pod1", version6, &[]),
        Case(Ipv6BadExtension, "pod1", from_pod(0x86dd, &bad_extension), &[]),
        Case(Ipv6BadSource, "pod1", from_pod(0x86dd, &source6), &[]),
        Case(Ipv6BadDestination, "pod1", pod_ping6("::1"), &[]),
        Case(LinkLocal, "pod1", pod_ping("169.254.7.7"), &[]),
        Case(Multicast, "pod1", pod_ping("224.0.0.5"), &[]),
        Case(TunnelUnknownPeer, "eth0", tunnel("172.16.0.3", |outer| outer, &inner), &[]),
        Case(
            TunnelFragment,
            "eth0",
            tunnel("172.16.0.2", |outer| Ip4 { fragment: 0x2000, ..outer }, &inner),
            &[],
        ),
        Case(TunnelBadInner, "eth0", tunnelled_solicit, &[]),
        Case(TunnelEcn, "eth0", tunnel("172.16.0.2", |outer| Ip4 { tos: 3, ..outer }, &inner), &[]),
        Case(SpoofedSource, "pod1", from_pod(0x0800, &packet::ping4(a4("10.1.0.2"), POD1, 64, 1)), &[]),
        Case(
            PolicyEgress,
            "pod3",
            packet::ethernet(GATEWAY_MAC, P3, 0x0800, &packet::ping4(a4("10.1.0.3"), POD1, 64, 1)),
            &[],
        ),
        Case(PolicyIngress, "pod1", pod_ping("10.1.0.3"), &[]),
        Case(FlowInvalid, "pod1", from_pod(0x0800, &unasked), &[]),
        Case(FlowUnrelated, "pod1", from_pod(0x0800, &unrelated), &[]),
        Case(FragmentUnknown, "pod1", from_pod(0x0800, &later_fragment), &[]),
        Case(NoRoute, "pod1", pod_ping("192.168.3.4"), ANSWERED),
        Case(Blackhole, "pod1", pod_ping("10.7.0.1"), &[]),
        Case(Unreachable, "pod1", pod_ping("10.8.0.1"), ANSWERED),
        Case(Prohibit, "pod1", pod_ping("10.9.0.1"), ANSWERED),
        Case(NextHopUnresolved, "pod1", pod_ping("10.10.0.1"), ANSWERED),
        Case(NotLocal, "pod1", from_pod(0x0800, &packet::udp4((POD1, 9), (NODE, 53), b"?")), ANSWERED),
        Case(IcmpMalformed, "pod1", broken_ping, &[]),
        Case(NeighborFailed, "pod1", pod_ping("10.5.0.1"), ANSWERED),
        Case(TtlExpired, "pod1", from_pod(0x0800, &packet::ping4(POD1, a4("10.1.0.2"), 1, 1)), ANSWERED),
        Case(
            HopLimitExpired,
            "pod1",
            from_pod(0x86dd, &packet::ping6(own6, a6("fd00:1::2"), 1, 1)),
            ANSWERED,
        ),
        Case(FragmentationNeeded, "pod1", from_pod(0x0800, &big(0x4000)), ANSWERED),
        Case(
            PacketTooBig,
            "pod1",
            from_pod(0x86dd, &packet::ip6(own6, a6("fd00:1::2"), 17, 9, &[0; 1400])),
            ANSWERED,
        ),
        Case(PortDown, "pod1", pod_ping("10.1.0.4"), &[]),
    ]
}

/// Reasons that a frame alone does not reach; each has a test of its own below.
const BY_CIRCUMSTANCE: [DropReason; 15] = [
    // policy::hosts
    PolicyHost,
    FlowTableFull,
    FlowLimit,
    BadChecksumOffload,
    HoldFull,
    HoldExpired,
    NoHeadroom,
    TxFull,
    HandoffFull,
    TooBigForPort,
    BadSegmentationOffload,
    LengthMismatch,
    NoFrame,
    PuntFull,
    Hook,
];

fn counters(list: &[(&str, i64)]) -> BTreeMap<String, i64> {
    list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

#[test]
fn every_reason_has_its_case() {
    let mut reached: Vec<_> = cases().iter().map(|case| case.0).chain(BY_CIRCUMSTANCE).collect();
    reached.sort_unstable();
    assert_eq!(reached, DropReason::ALL);
}

#[test]
fn each_frame_moves_its_counters_and_no_other() {
    for Case(reason, port, frame, beside) in cases() {
        let mut lab = world::lab(&world::model(false), world::builder());
        let before = lab.counted();
        lab.exchange(port, &frame);
        let mut expected =
            counters(&[(&format!("{port}.rx"), 1), (&format!("{port}.drop.{}", reason.name()), 1)]);
        expected.extend(beside.iter().map(|name| ((*name).to_owned(), 1)));
        assert_eq!(moved(&before, &lab.counted()), expected, "{reason:?}");
    }
}

#[test]
fn bad_checksum_offload_outside_the_transport_part() {
    let mut lab = world::lab(&world::model(false), world::builder());
    for place in [(20, 6), (34, 900), (u16::MAX, 0)] {
        let before = lab.counted();
        let packet = WirePacket {
            bytes: pod_ping("10.1.0.2"),
            partial_checksum: Some(place),
            ..WirePacket::default()
        };
        assert!(lab.wire("pod1").send_packet(packet));
        lab.run();
        let expected = counters(&[("pod1.rx", 1), ("pod1.drop.bad-checksum-offload", 1)]);
        assert_eq!(moved(&before, &lab.counted()), expected, "{place:?}");
    }
}

#[test]
fn hold_full_and_hold_expired() {
    let mut lab = world::lab(&world::model(false), world::builder());
    let before = lab.counted();
    (0..17).for_each(|_| lab.send("pod1", &pod_ping("10.4.0.1")));
    lab.run();
    let held = counters(&[("pod1.rx", 17), ("pod1.drop.hold-full", 1), ("held", 16)]);
    assert_eq!(moved(&before, &lab.counted()), held);
    let before = lab.counted();
    lab.pass(Duration::from_secs(4));
    lab.run();
    let expired = [("held", -16), ("pod1.drop.hold-expired", 16), ("pod1.originated", 16), ("pod1.tx", 16)];
    let mut moved = moved(&before, &lab.counted());
    moved.retain(|name, _| !name.starts_with("eth"));
    assert_eq!(moved, counters(&expired), "what uplinks ask and announce is not the subject");
    let errors = lab.receive("pod1");
    assert!(errors.iter().all(|error| error[34..36] == [3, 1]), "host unreachable");
}

/// Opens flows between pod1 and pod2, each answered, so that none may be evicted.
fn fill_flows(lab: &mut Lab, from: u8, to: u8, count: u16) {
    let address = |n: u8| Ipv4Addr::new(10, 1, 0, n);
    let frame = |from: u8, sport: u16, to: u8, dport: u16| {
        let packet = packet::udp4((address(from), sport), (address(to), dport), b"?");
        packet::ethernet(GATEWAY_MAC, [2, 0, 0, 0, 1, from], 0x0800, &packet)
    };
    for port in 0..count {
        lab.exchange(&format!("pod{from}"), &frame(from, 1000 + port, to, u16::from(from)));
        lab.exchange(&format!("pod{to}"), &frame(to, u16::from(from), from, 1000 + port));
    }
}

#[test]
fn flow_limit_of_an_endpoint_that_has_all_of_them() {
    let mut lab = world::lab(&world::model(false), world::builder().flows(16));
    fill_flows(&mut lab, 1, 2, 16);
    let before = lab.counted();
    lab.exchange("pod1", &pod_ping("10.1.0.2"));
    let expected = counters(&[("pod1.rx", 1), ("pod1.drop.flow-limit", 1)]);
    assert_eq!(moved(&before, &lab.counted()), expected);
}

#[test]
fn flow_table_full_of_answered_flows() {
    let mut lab = world::lab(&world::model(false), world::builder().flows(16));
    fill_flows(&mut lab, 1, 2, 8);
    fill_flows(&mut lab, 2, 1, 8);
    let before = lab.counted();
    lab.exchange("pod1", &pod_ping("10.1.0.2"));
    let expected = counters(&[("pod1.rx", 1), ("pod1.drop.flow-table-full", 1)]);
    assert_eq!(moved(&before, &lab.counted()), expected);
}

/// A stage that does something to every packet.
struct Meddler(fn(&mut Burst, usize, &mut HookContext<'_>));

impl Stage for Meddler {
    fn run(&mut self, burst: &mut Burst, context: &mut HookContext<'_>) {
        lanes(burst.alive).for_each(|lane| (self.0)(burst, lane, context));
    }
}

fn meddled(point: HookPoint, how: fn(&mut Burst, usize, &mut HookContext<'_>)) -> BTreeMap<String, i64> {
    let builder = world::builder().stage(point, move |_| Meddler(how));
    let mut lab = world::lab(&world::model(false), builder);
    let before = lab.counted();
    lab.exchange("pod1", &pod_ping("10.2.0.1"));
    moved(&before, &lab.counted())
}

#[test]
fn hook() {
    let by_stage = meddled(HookPoint::AfterParse, |burst, lane, context| context.drop(burst, lane));
    assert_eq!(by_stage, counters(&[("pod1.rx", 1), ("pod1.drop.hook", 1)]));
}

#[test]
fn no_headroom_behind_a_stage_that_used_it_up() {
    // The packet is moved to the very start of its frame.
    let by_stage = meddled(HookPoint::BeforeLookup, |burst, lane, context| {
        let bytes = context.bytes(burst, lane).to_vec();
        burst.meta.offset[lane] = 0;
        burst.meta.l3[lane] = 14;
        burst.meta.l4[lane] = 34;
        context.bytes_mut(burst, lane).copy_from_slice(&bytes);
    });
    assert_eq!(by_stage, counters(&[("pod1.rx", 1), ("pod1.drop.no-headroom", 1)]));
}

#[test]
fn bad_segmentation_offload_where_a_stage_leaves_what_cannot_be_done() {
    let by_stage = meddled(HookPoint::BeforeOutput, |burst, lane, _| {
        burst.set_offload(lane, Checksum::Complete, Gso { kind: GsoKind::Udp, size: 8 });
    });
    assert_eq!(by_stage, counters(&[("pod1.rx", 1), ("pod1.drop.bad-segmentation-offload", 1)]));
}

#[test]
fn tx_full() {
    let mut lab = Lab::new(Router::builder().frames(256));
    lab.pod("a", P1, &["10.1.0.1"]);
    let (wire, _far_end) = MemoryPort::with_host(4);
    lab.port_on(pod_spec("b", P3, &["10.1.0.3"]), wire);
    lab.apply([]);
    (0..6).for_each(|_| lab.send("a", &pod_ping("10.1.0.3")));
    lab.run();
    assert_eq!(
        moved(&BTreeMap::new(), &lab.counted()),
        counters(&[("a.rx", 6), ("b.tx", 4), ("a.drop.tx-full", 2)])
    );
}

#[test]
fn no_frame_for_a_fragment() {
    let mut lab = Lab::new(Router::builder().frames(2));
    lab.pod("a", P1, &["10.1.0.1"]);
    let mut narrow = pod_spec("b", P3, &["10.1.0.3"]);
    narrow.mtu = 600;
    lab.port(narrow);
    lab.apply([]);
    let big = Ip4::new(POD1, a4("10.1.0.3"), 17).bytes(&[0; 1000]);
    lab.send("a", &from_pod(0x0800, &big));
    lab.run();
    let expected = counters(&[("a.rx", 1), ("a.originated", 1), ("b.tx", 1), ("a.drop.no-frame", 1)]);
    assert_eq!(moved(&BTreeMap::new(), &lab.counted()), expected);
    assert_eq!(lab.free_frames(), 2);
}

/// Wires to a port of `count` queues.
fn queues(count: usize) -> (Vec<Box<dyn PortQueue>>, Vec<vrouter::port::memory::MemoryHost>) {
    (0..count)
        .map(|_| MemoryPort::with_host(64))
        .map(|(port, host)| (Box::new(port) as Box<dyn PortQueue>, host))
        .unzip()
}

#[test]
fn punt_full() {
    let mut lab = Lab::new(Router::builder().frames(4096));
    let (ports, far_ends) = queues(17);
    let spec = uplink_spec("up", ETH0, &["172.16.0.1/24"], true);
    lab.queues(spec, ports);
    lab.apply([]);
    lab.run();
    let before = lab.counted();
    let arp = packet::arp(1, OTHER, a4("172.16.0.7"), [0; 6], a4("172.16.0.8"));
    let frame = packet::ethernet(BROADCAST, OTHER, 0x0806, &arp);
    far_ends.iter().for_each(|wire| (0..64).for_each(|_| assert!(wire.send(&frame))));
    lab.run();
    let expected = counters(&[("up.rx", 17 * 64), ("up.punts", 1024), ("up.drop.punt-full", 64)]);
    assert_eq!(moved(&before, &lab.counted()), expected);
}

#[test]
fn handoff_full() {
    let mut lab = Lab::new(Router::builder().frames(8192).workers(2));
    // A port with one queue is worker 0's; of a port with many, every other queue is worker 1's.
    lab.pod("b", P3, &["10.1.0.3"]);
    let (ports, far_ends) = queues(34);
    lab.queues(pod_spec("a", P1, &["10.1.0.1"]), ports);
    lab.apply([]);
    let of_worker_1 = far_ends.iter().skip(1).step_by(2);
    of_worker_1.for_each(|wire| (0..64).for_each(|_| assert!(wire.send(&pod_ping("10.1.0.3")))));
    lab.run();
    let expected = counters(&[("a.rx", 17 * 64), ("b.tx", 1024), ("a.drop.handoff-full", 64)]);
    assert_eq!(moved(&BTreeMap::new(), &lab.counted()), expected);
}
