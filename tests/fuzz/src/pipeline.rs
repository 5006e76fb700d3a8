//! A whole router on memory ports, driven by a script of frames, events and time.
//!
//! ```text
//!  pod1 10.1.0.2 fd00::2        (carries partial checksums)   pod2 10.1.0.3 fd00::3  (MTU 576)
//!  up0  192.168.0.1/24          shared with the kernel        tunnel peer 192.168.0.2
//!  up1  172.16.0.1/24           exclusive, answers ARP if the first byte says so
//!  host                         the node's own stack
//! ```

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::sync::Arc;

use encap::MacAddr;
use fib::RouteSource;
use vrouter::burst::Checksum;
use vrouter::control::engine::net_prefix;
use vrouter::control::{Encap, IpipMode, Pool, PortRole, RouteSpec, RouteTarget};
use vrouter::counters::WorkerCounters;
use vrouter::frame::{FrameArea, FramePool, FrameStore, HEADROOM};
use vrouter::ids::{PortId, Timestamp};
use vrouter::pipeline::flow_log::FlowLog;
use vrouter::pipeline::punt::PuntSender;
use vrouter::pipeline::state::WorkerState;
use vrouter::port::memory::{MemoryHost, WirePacket};
use vrouter::port::messages::offload_of;
use vrouter::tables::{GATEWAY_V4, NeighborState, TraceFilter};
use vrouter::{Event, MemoryPort, PortSpec, Router};

use super::script::Script;

const FRAMES: u32 = 512;
const PORTS: usize = 5;
const POD1: usize = 0;
const POD2: usize = 1;
const UP0: usize = 2;
const UP1: usize = 3;
const GATEWAY: [u8; 6] = [0xee; 6];
/// Our MAC address on each port, and that of the station behind it.
const MACS: [([u8; 6], [u8; 6]); PORTS] = [
    (GATEWAY, [2, 0, 0, 0, 0, 1]),
    (GATEWAY, [2, 0, 0, 0, 0, 2]),
    ([2, 0, 0, 0, 1, 0], [2, 0, 0, 0, 2, 0]),
    ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 2, 1]),
    (GATEWAY, [2, 0, 0, 0, 3, 0]),
];
const POD_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 3)];
const NODE_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 0, 1), Ipv4Addr::new(172, 16, 0, 1)];

/// The state of a worker that belongs to no router, over `frames` frames of its own.
pub fn worker_state(frames: u32) -> WorkerState {
    let store = FrameStore::new(FrameArea::new(frames, 2048).expect("memory for frames"));
    WorkerState::new(
        FramePool::new(store),
        Arc::new(WorkerCounters::default()),
        PuntSender::new(Arc::new(crossbeam(64))),
        Arc::new(crossbeam(64)),
        FlowLog::new(Arc::new(crossbeam(64))),
        Vec::new(),
        1,
    )
}

fn crossbeam<T>(capacity: usize) -> crossbeam_queue::ArrayQueue<T> {
    crossbeam_queue::ArrayQueue::new(capacity)
}

/// Runs a script.
pub fn run(data: &[u8]) {
    let mut script = Script(data);
    let Some(first) = script.byte() else { return };
    let mut rig = Rig::new(first & 1 != 0);
    let mut last: Option<(usize, WirePacket)> = None;
    while let (Some(step), Some(arg)) = (script.byte(), script.byte()) {
        match step % 16 {
            port @ 0..=9 => {
                let Some(bytes) = script.bytes(1700) else { break };
                let port = usize::from(port) % PORTS;
                let packet = dress(port, bytes.to_vec(), arg);
                rig.receive(port, &packet, 1);
                last = Some((port, packet));
            }
            10 | 11 => rig.now = rig.now.after(Duration::from_millis(u64::from(arg) * 20)),
            12 => rig.neighbor_news(arg),
            13 => rig.toggle_port(usize::from(arg) % PORTS),
            14 => rig.change(arg),
            _ => {
                if let Some((port, packet)) = &last {
                    rig.receive(*port, packet, usize::from(arg) % 130);
                }
            }
        }
        rig.settle();
    }
    rig.end();
}

/// Gives a frame what it takes to get past the first checks, as far as `arg` says.
fn dress(port: usize, mut bytes: Vec<u8>, arg: u8) -> WirePacket {
    let (ours, theirs) = MACS[port];
    if arg & 1 != 0 && bytes.len() >= 14 {
        bytes[..6].copy_from_slice(&ours);
        bytes[6..12].copy_from_slice(&theirs);
    }
    let is_v4 = bytes.len() >= 34 && bytes[12..14] == [8, 0];
    if arg & 2 != 0 && is_v4 && port <= POD2 {
        bytes[26..30].copy_from_slice(&POD_ADDRESSES[port].octets());
    }
    if arg & 4 != 0 && is_v4 {
        let header_len = usize::from(bytes[14] & 15) * 4;
        if let Some(header) = bytes.get_mut(14..14 + header_len.max(20)) {
            header[10..12].fill(0);
            let sum = !ones_sum(header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }
    let partial_checksum = match *bytes {
        [.., start, field] if arg & 8 != 0 => Some((u16::from(start), u16::from(field))),
        _ => None,
    };
    // What stands in front of it on a tap or packet socket may say anything; the corpus has two bytes behind it.
    if let (true, Some((_, [header @ .., _, _]))) = (arg & 16 != 0, bytes.split_last_chunk::<12>()) {
        let (checksum, gso) = offload_of(header);
        let partial_checksum = match checksum {
            Checksum::Partial { start, field } => Some((start - HEADROOM as u16, field)),
            Checksum::Complete => None,
        };
        return WirePacket { bytes, partial_checksum, gso };
    }
    WirePacket { bytes, partial_checksum, ..WirePacket::default() }
}

/// RFC 1071 the slow way: shares no code with what it checks.
fn ones_sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

struct Rig {
    router: Router,
    specs: Vec<PortSpec>,
    ids: Vec<PortId>,
    hosts: Vec<MemoryHost>,
    now: Timestamp,
    answers_arp: bool,
    /// Only a pod has sent since everything was quiet.
    from_pod: Option<usize>,
}

impl Rig {
    fn new(answers_arp: bool) -> Self {
        let mut router = Router::builder().frames(FRAMES).flows(1024).build().expect("memory for frames");
        let specs = specs();
        let (mut ids, mut hosts) = (Vec::new(), Vec::new());
        for (at, spec) in specs.iter().enumerate() {
            let (mut port, host) = MemoryPort::with_host(128);
            if at == POD1 {
                port = port.carrying_partial_checksums();
            }
            ids.push(router.add_port(spec.clone(), vec![Box::new(port)]).expect("the port is right"));
            hosts.push(host);
        }
        for event in events() {
            router.apply(event).expect("the event is right");
        }
        router.commit().expect("the FIB has room");
        let now = Timestamp::from_millis(1000);
        let mut rig = Rig { router, specs, ids, hosts, now, answers_arp, from_pod: None };
        rig.router.neighbor(
            rig.ids[UP0],
            address("192.168.0.2"),
            NeighborState::Usable(MacAddr(MACS[UP0].1)),
        );
        rig.settle();
        rig
    }

    fn receive(&mut self, port: usize, packet: &WirePacket, times: usize) {
        let quiet = self.held() == 0;
        self.from_pod = (quiet && port <= POD2).then_some(port);
        for _ in 0..times {
            if !self.hosts[port].send_packet(packet.clone()) {
                break;
            }
        }
    }

    fn neighbor_news(&mut self, arg: u8) {
        let at = address(["192.168.0.2", "192.168.0.3", "fd01::2", "192.168.0.77"][usize::from(arg & 3)]);
        let state = match arg >> 2 & 3 {
            0 => NeighborState::Unresolved,
            1 => NeighborState::Failed,
            _ => NeighborState::Usable(MacAddr(MACS[UP0].1)),
        };
        self.from_pod = None;
        self.router.neighbor(self.ids[UP0], at, state);
    }

    fn toggle_port(&mut self, port: usize) {
        self.from_pod = None;
        self.specs[port].up = !self.specs[port].up;
        self.router.apply(Event::PutPort(self.specs[port].clone())).expect("the port is right");
        self.router.commit().expect("the FIB has room");
    }

    fn change(&mut self, arg: u8) {
        self.from_pod = None;
        let event = match arg % 4 {
            0 => Event::PutPool(pool(
                [IpipMode::Never, IpipMode::Always, IpipMode::CrossSubnet][usize::from(arg >> 2) % 3],
            )),
            1 => Event::SetTrace(vec![TraceFilter::default(); usize::from(arg >> 2 & 3)]),
            2 => Event::RemoveRoute(prefix("20.0.0.0/8"), RouteSource::Static),
            _ => route("20.0.0.0/8", &["172.16.0.9"], Encap::Pool),
        };
        // A route that is not there cannot be removed: refused, and nothing changes.
        let _ = self.router.apply(event);
        self.router.commit().expect("the FIB has room");
        while let Some(record) = self.router.next_record() {
            self.router.recycle(record);
        }
    }

    /// Lets the router work until nothing is left to do, then checks the books.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 1000, "the router does not come to rest");
            let moved = self.router.poll(self.now).expect("the workers are here");
            while self.router.next_kernel_request().is_some() {}
            let answered = self.drain();
            if moved == 0 && !answered {
                break;
            }
        }
        self.check_books();
    }

    /// Looks at everything that came out; returns whether something was sent in answer.
    fn drain(&mut self) -> bool {
        let mut answered = false;
        for port in 0..PORTS {
            while let Some(packet) = self.hosts[port].receive() {
                self.check_output(port, &packet);
                if self.answers_arp && port == UP1 {
                    answered |= arp_answer(&packet.bytes).is_some_and(|answer| self.hosts[UP1].send(&answer));
                }
                self.hosts[port].recycle(packet);
            }
        }
        answered
    }

    fn check_output(&self, port: usize, packet: &WirePacket) {
        let bytes = &packet.bytes;
        assert!(bytes.len() >= 14, "a frame without a header");
        assert_eq!(bytes[6..12], MACS[port].0, "our source address");
        if port <= POD2 {
            assert!(bytes[..6] == MACS[port].1 || bytes[0] & 1 == 1, "a foreign frame toward a pod");
        }
        if bytes[12..14] != [8, 0] {
            return;
        }
        let header_len = usize::from(bytes[14] & 15) * 4;
        let header = &bytes[14..14 + header_len];
        assert_eq!(ones_sum(header), 0xffff, "the IPv4 checksum is wrong");
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        assert_eq!(bytes.len(), 14 + total, "the frame is not the packet");
        assert!(total <= self.specs[port].mtu as usize, "larger than the MTU");
        let Some(pod) = self.from_pod else { return };
        let source = |ip: &[u8]| Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]);
        let ours = |from| NODE_ADDRESSES.contains(&from) || from == GATEWAY_V4;
        let allowed = |from| from == POD_ADDRESSES[pod] || ours(from);
        assert!(allowed(source(header)), "a pod's packet left with source {}", source(header));
        if header[9] == 4 && NODE_ADDRESSES.contains(&source(header)) {
            let inner = &bytes[14 + header_len..];
            assert!(allowed(source(inner)), "a pod's packet left with inner source {}", source(inner));
        }
    }

    fn held(&self) -> u64 {
        self.router.workers()[0].counters.run.held.get()
    }

    /// Every packet is in exactly one counter, every frame in one place.
    fn check_books(&self) {
        let counters = &self.router.workers()[0].counters;
        let (mut came, mut went) = (0, self.held());
        for &id in &self.ids {
            let port = counters.port(id);
            came += port.rx_packets.get() + port.originated.get();
            went += port.tx_packets.get() + port.punts.get() + port.consumed.get() + counters.drops_of(id);
        }
        assert_eq!(came, went, "packets are lost or counted twice");
        let free = self.router.frames().free_frames() as u64 + counters.run.free_frames.get();
        assert_eq!(free + self.held(), u64::from(FRAMES), "frames are lost");
    }

    /// What waits gives up in the end.
    fn end(mut self) {
        for _ in 0..3 {
            self.now = self.now.after(Duration::from_secs(4));
            self.settle();
        }
        assert_eq!(self.held(), 0, "a packet waits for ever");
    }
}

fn specs() -> Vec<PortSpec> {
    let [pod1, pod2] = POD_ADDRESSES.map(IpAddr::from);
    let mut specs = vec![
        PortSpec::pod("pod1", MacAddr(MACS[POD1].1), [pod1, address("fd00::2")]),
        PortSpec::pod("pod2", MacAddr(MACS[POD2].1), [pod2, address("fd00::3")]),
        PortSpec::uplink("up0", MacAddr(MACS[UP0].0), [net("192.168.0.1/24"), net("fd01::1/64")]),
        PortSpec::uplink("up1", MacAddr(MACS[UP1].0), [net("172.16.0.1/24"), net("fd02::1/64")]),
        PortSpec::pod("host", MacAddr(MACS[4].1), []),
    ];
    specs[POD2].mtu = 576;
    if let PortRole::Uplink { exclusive, .. } = &mut specs[UP0].role {
        *exclusive = false;
    }
    specs[4].role = PortRole::Host { addresses: vec![address("10.1.0.1")] };
    specs
}

fn events() -> Vec<Event> {
    vec![
        Event::PutPool(pool(IpipMode::Always)),
        Event::SetBlocks(vec![net("10.1.0.0/26"), net("fd00::/64")]),
        Event::PutPeer(Ipv4Addr::new(192, 168, 0, 2)),
        route("10.2.0.0/24", &["192.168.0.2"], Encap::Pool),
        route("10.3.0.0/24", &["172.16.0.2"], Encap::Pool),
        route("20.0.0.0/8", &["192.168.0.3", "172.16.0.3"], Encap::None),
        route("0.0.0.0/0", &["172.16.0.9"], Encap::Pool),
        route("::/0", &["fd02::9"], Encap::Pool),
        target("30.0.0.0/8", RouteTarget::Blackhole),
        target("31.0.0.0/8", RouteTarget::Prohibit),
        target("32.0.0.0/8", RouteTarget::Unreachable),
    ]
}

fn pool(ipip_mode: IpipMode) -> Pool {
    Pool { name: "pool".to_owned(), cidr: net("10.0.0.0/8"), ipip_mode }
}

fn route(to: &str, via: &[&str], encap: Encap) -> Event {
    target(to, RouteTarget::Via(via.iter().map(|hop| address(hop)).collect(), encap))
}

fn target(to: &str, target: RouteTarget) -> Event {
    Event::PutRoute(RouteSpec { prefix: prefix(to), source: RouteSource::Static, target, metric: 0 })
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().expect("a prefix")
}

fn prefix(text: &str) -> fib::AnyPrefix {
    net_prefix(net(text))
}

/// What the station on up1 says to an ARP request.
fn arp_answer(frame: &[u8]) -> Option<Vec<u8>> {
    if frame.get(12..14)? != [8, 6] || frame.get(20..22)? != [0, 1] {
        return None;
    }
    let mut answer = frame.to_vec();
    let (asker, station) = MACS[UP1];
    answer[..6].copy_from_slice(&asker);
    answer[6..12].copy_from_slice(&station);
    answer[21] = 2;
    answer[22..28].copy_from_slice(&station);
    answer[28..32].copy_from_slice(&frame[38..42]);
    answer[32..38].copy_from_slice(&asker);
    answer[38..42].copy_from_slice(&frame[28..32]);
    Some(answer)
}
