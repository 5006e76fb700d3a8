//! Two routers joined by a wire: pods on each, exclusive uplinks, both families.

use std::time::Duration;

use ipnet::IpNet;
use vrouter::burst::{Burst, TxPacket};
use vrouter::control::{Encap, IpipMode, Pool, RouteSpec, RouteTarget};
use vrouter::frame::FramePool;
use vrouter::ids::PortId;
use vrouter::port::{PortQueue, QueueIo};
use vrouter::{Event, MemoryPort, Router};
use vrouter_tests::lab::{Lab, moved, uplink_spec};
use vrouter_tests::packet::{self, GATEWAY_MAC, Mac};

use std::sync::{Arc, Mutex};

const POD: [Mac; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 2, 1]];
const NODE: [Mac; 2] = [[2, 0, 0, 0, 0, 0xfc], [2, 0, 0, 0, 0, 0xfd]];
const POD4: [&str; 2] = ["10.100.36.103", "10.100.169.176"];
const POD6: [&str; 2] = ["fd00:10:36::103", "fd00:10:169::176"];
const NODE4: [&str; 2] = ["172.16.20.252", "172.16.20.253"];
const NODE6: [&str; 2] = ["fd00:20::252", "fd00:20::253"];
const BLOCK: [&str; 2] = ["10.100.36.64/26", "10.100.169.128/26"];
const BLOCK6: [&str; 2] = ["fd00:10:36::/64", "fd00:10:169::/64"];

/// A queue that notes everything it sends.
struct Tapped {
    inner: MemoryPort,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl PortQueue for Tapped {
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        self.inner.rx_burst(port, burst, io)
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        let area = io.pool.area();
        let frames = batch.iter().map(|packet| area.bytes(&packet.frame, packet.offset, packet.len).to_vec());
        self.seen.lock().unwrap().extend(frames);
        self.inner.tx_burst(batch, io)
    }

    fn close(self: Box<Self>, pool: &mut FramePool) {
        Box::new(self.inner).close(pool);
    }
}

/// Two nodes, and everything that was on the wire between them.
pub(crate) struct TwoNodes {
    pub(crate) node: [Lab; 2],
    wire: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl TwoNodes {
    pub(crate) fn new(ipip_mode: IpipMode) -> Self {
        let wire = Arc::new(Mutex::new(Vec::new()));
        let (a, b) = MemoryPort::pair(1024);
        let mut ends = [Some(a), Some(b)];
        let node = [0, 1].map(|n| {
            let mut lab = Lab::new(Router::builder().frames(1024).seed(n as u64));
            lab.pod("pod", POD[n], &[POD4[n], POD6[n]]);
            let spec = uplink_spec(
                "eth1",
                NODE[n],
                &[&format!("{}/24", NODE4[n]), &format!("{}/64", NODE6[n])],
                true,
            );
            let queue = Tapped { inner: ends[n].take().unwrap(), seen: wire.clone() };
            lab.port_on(spec, queue);
            let far = 1 - n;
            lab.apply([
                pool(ipip_mode),
                Event::SetBlocks(vec![net(BLOCK[n]), net(BLOCK6[n])]),
                route(BLOCK[far], NODE4[far]),
                route(BLOCK6[far], NODE6[far]),
            ]);
            lab
        });
        TwoNodes { node, wire }
    }

    /// Runs both nodes until nothing moves on either.
    pub(crate) fn run(&mut self) {
        for _ in 0..1000 {
            let now = self.node[0].now;
            let moved: usize = self.node.iter_mut().map(|lab| lab.router.poll(now).unwrap()).sum();
            if moved == 0 {
                self.node.iter().for_each(Lab::check_conservation);
                return;
            }
        }
        panic!("the nodes never come to rest");
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.node.iter_mut().for_each(|lab| lab.pass(time));
    }

    /// What was on the wire since the last call.
    pub(crate) fn wire(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.wire.lock().unwrap())
    }

    /// Sends a ping from a pod and answers it as the other pod's stack would. Returns
    /// the request as it arrived and the reply as it arrived.
    pub(crate) fn ping4(&mut self, from: usize, sequence: u16) -> Option<(Vec<u8>, Vec<u8>)> {
        let to = 1 - from;
        let (source, destination) = (POD4[from].parse().unwrap(), POD4[to].parse().unwrap());
        let request = packet::ping4(source, destination, 64, sequence);
        self.node[from].send("pod", &packet::ethernet(GATEWAY_MAC, POD[from], 0x0800, &request));
        self.run();
        let arrived = self.node[to].receive("pod").pop()?;
        let reply = packet::icmp(0, 0, 0x7e57_0000 | u32::from(sequence), b"are you there?");
        let reply = packet::Ip4::new(destination, source, 1).bytes(&reply);
        self.node[to].send("pod", &packet::ethernet(GATEWAY_MAC, POD[to], 0x0800, &reply));
        self.run();
        Some((arrived, self.node[from].receive("pod").pop()?))
    }
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn pool(ipip_mode: IpipMode) -> Event {
    Event::PutPool(Pool { name: "pods".to_owned(), cidr: net("10.100.0.0/16"), ipip_mode })
}

pub(crate) fn route(prefix: &str, via: &str) -> Event {
    Event::PutRoute(RouteSpec {
        prefix: prefix.parse().unwrap(),
        source: fib::RouteSource::Static,
        target: RouteTarget::Via(vec![via.parse().unwrap()], Encap::Pool),
        metric: 0,
    })
}

#[test]
fn a_ping_crosses_in_the_tunnel_with_ttl_62() {
    let mut nodes = TwoNodes::new(IpipMode::Always);
    let (request, reply) = nodes.ping4(0, 1).expect("an answer");
    for (arrived, to) in [(&request, 1), (&reply, 0)] {
        assert_eq!(arrived[..12], [POD[to], GATEWAY_MAC].concat(), "the pod sees the gateway's MAC");
        assert_eq!(arrived[14 + 8], 62, "time to live");
        assert_eq!(packet::internet_checksum(0, &arrived[14..34]), 0, "header checksum");
    }
    let tunnelled: Vec<_> = nodes.wire().into_iter().filter(|frame| frame[12..14] == [8, 0]).collect();
    assert_eq!(tunnelled.len(), 2);
    let outer = &tunnelled[0];
    assert_eq!(outer[..12], [NODE[1], NODE[0]].concat());
    assert_eq!((outer[14], outer[14 + 9], outer[14 + 8]), (0x45, 4, 64), "IPIP with TTL 64");
    assert_eq!(outer[14 + 12..14 + 20], [172, 16, 20, 252, 172, 16, 20, 253]);
    assert_eq!(packet::internet_checksum(0, &outer[14..34]), 0, "outer header checksum");
    assert_eq!(outer[34 + 8], 63, "the inner TTL went down once on the first node");
    assert_eq!(outer[34 + 12..34 + 20], [10, 100, 36, 103, 10, 100, 169, 176]);
}

#[test]
fn without_the_tunnel_the_wire_shows_the_nodes_macs() {
    let mut nodes = TwoNodes::new(IpipMode::Never);
    nodes.ping4(0, 1).expect("an answer");
    let plain: Vec<_> = nodes.wire().into_iter().filter(|frame| frame[12..14] == [8, 0]).collect();
    assert_eq!(plain.len(), 2);
    assert_eq!(plain[0][..12], [NODE[1], NODE[0]].concat());
    assert_eq!(plain[0][14 + 9], 1);
}

#[test]
fn ipv6_is_carried_plainly_in_both_modes() {
    for mode in [IpipMode::Always, IpipMode::Never] {
        let mut nodes = TwoNodes::new(mode);
        let (source, destination) = (POD6[0].parse().unwrap(), POD6[1].parse().unwrap());
        let request = packet::ping6(source, destination, 64, 1);
        nodes.node[0].send("pod", &packet::ethernet(GATEWAY_MAC, POD[0], 0x86dd, &request));
        nodes.run();
        let arrived = nodes.node[1].receive("pod").pop().expect("the request arrives");
        assert_eq!(arrived[14 + 7], 62, "hop limit");
        assert_eq!(arrived[54..], request[40..]);
        let on_wire = nodes.wire();
        let carried =
            on_wire.iter().find(|frame| frame[14 + 24..].starts_with(&destination.octets())).unwrap();
        assert_eq!(carried[..14], [&NODE[1][..], &NODE[0], &[0x86, 0xdd]].concat());
    }
}

#[test]
fn the_pings_go_on_while_the_pool_changes_between_always_and_never() {
    let mut nodes = TwoNodes::new(IpipMode::Always);
    let mut sequence = 0;
    for mode in [IpipMode::Never, IpipMode::Always, IpipMode::CrossSubnet, IpipMode::Always, IpipMode::Never]
    {
        // One node after the other, as an operator's command reaches them.
        for n in [0, 1] {
            for from in [0, 1, 0] {
                sequence += 1;
                assert!(nodes.ping4(from, sequence).is_some(), "ping {sequence} was lost");
            }
            nodes.node[n].apply([pool(mode)]);
        }
        for _ in 0..10 {
            nodes.pass(Duration::from_millis(100));
            sequence += 1;
            assert!(nodes.ping4(0, sequence).is_some(), "ping {sequence} was lost");
        }
    }
}

#[test]
fn a_former_tunnel_is_taken_for_a_minute_and_no_longer() {
    let mut nodes = TwoNodes::new(IpipMode::Always);
    assert!(nodes.ping4(0, 1).is_some());
    nodes.node[0].apply([pool(IpipMode::Never)]);
    let mut ping = |seconds: u16, sequence| {
        for _ in 0..seconds {
            nodes.pass(Duration::from_secs(1));
            nodes.run();
        }
        nodes.ping4(1, sequence).is_some()
    };
    assert!(ping(58, 2), "the other node does not know yet");
    assert!(!ping(4, 3));
    assert_eq!(nodes.node[0].counted().get("eth1.drop.tunnel-unknown-peer"), Some(&1));
}

#[test]
fn the_counters_tell_the_whole_way() {
    let mut nodes = TwoNodes::new(IpipMode::Always);
    nodes.ping4(0, 1).expect("an answer");
    let before = [0, 1].map(|n| nodes.node[n].counted());
    nodes.ping4(0, 2).expect("an answer");
    let step = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 1)).collect();
    for n in [0, 1] {
        let all = ["pod.rx", "pod.tx", "eth1.rx", "eth1.tx", "eth1.decapsulated"];
        assert_eq!(moved(&before[n], &nodes.node[n].counted()), step(&all));
    }
}
