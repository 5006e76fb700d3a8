//! The packet path never allocates: forwarding, hand-over, policy, errors, waiting, fragments, answers,
//! super-packets, traces, the log of what is denied, and the adoption of new tables.
//!
//! A counting allocator watches the workers' threads alone. They are told apart by a
//! stage that the workers themselves run; what control and the test allocate does not count.
//! The buffers of the memory ports are made before, as a device's would be. That a scenario's events
//! have happened while it was watched is told by the router's counters.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use vrouter::burst::{Burst, Gso, GsoKind};
use vrouter::control::{Encap, RouteSpec, RouteTarget};
use vrouter::pipeline::hook::{HookContext, HookPoint, Stage};
use vrouter::port::memory::{MemoryHost, WirePacket};
use vrouter::router::Workers;
use vrouter::tables::TraceFilter;
use vrouter::{Event, IdleMode, MemoryPort, Router};
use vrouter_tests::lab::{Counted, DEPTH, Lab, moved, pod_spec};
use vrouter_tests::packet::{self, BROADCAST, GATEWAY_MAC, Ip4, Mac};

struct Counting;

static WATCHING: AtomicBool = AtomicBool::new(false);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);
/// Bytes of the first allocation that counted.
static FIRST_SIZE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

fn watched() -> bool {
    WATCHING.load(SeqCst) && IS_WORKER.try_with(Cell::get).unwrap_or(false)
}

// SAFETY: every call is passed on to the system's allocator as it came; counting
// touches atomics and a constant-initialised thread-local only, so it cannot recurse.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if watched() && ALLOCATED.fetch_add(1, SeqCst) == 0 {
            FIRST_SIZE.store(layout.size() as u64, SeqCst);
        }
        // SAFETY: the caller's promise about `layout` holds here too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if watched() {
            FREED.fetch_add(1, SeqCst);
        }
        // SAFETY: `pointer` came from `alloc` above, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Marks the thread that runs it as a worker's.
struct Mark;

impl Stage for Mark {
    fn run(&mut self, _: &mut Burst, _: &mut HookContext<'_>) {
        IS_WORKER.with(|worker| worker.set(true));
    }
}

const A: Mac = [2, 0, 0, 0, 1, 1];
const B: Mac = [2, 0, 0, 0, 1, 2];
const UP: Mac = [2, 0, 0, 0, 0, 0xfc];
const FAR: Mac = [2, 0, 0, 0, 0, 0xfd];
const C: Mac = [2, 0, 0, 0, 1, 3];
const D: Mac = [2, 0, 0, 0, 1, 4];
const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const LONG: Duration = Duration::from_secs(30);

/// The uplink as a host endpoint that forwards no datagrams to one port.
const HOST_ENDPOINT: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: up, labels: { host: up } }
spec: { node: n, interfaceName: up }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: forward }
spec:
  selector: host == 'up'
  applyOnForward: true
  ingress:
  - { action: Deny, protocol: UDP, destination: { ports: [99] } }
  - { action: Allow }
  egress:
  - { action: Allow }
";

fn a4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn a6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn from_a(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    packet::ethernet(GATEWAY_MAC, A, ethertype, payload)
}

fn route(prefix: &str, via: &str, encap: Encap) -> Event {
    let target = RouteTarget::Via(vec![via.parse().unwrap()], encap);
    let prefix = prefix.parse().unwrap();
    Event::PutRoute(RouteSpec { prefix, source: fib::RouteSource::Static, target, metric: 0 })
}

fn resources(text: &str) -> Vec<Event> {
    let read = api::read(text).into_iter();
    read.map(|resource| Event::PutPolicy(Box::new(resource.outcome.unwrap()))).collect()
}

/// A policy that lets pods receive everything but datagrams to one port.
fn policy(port: u16) -> Event {
    let text = format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: p }}\nspec:\n  \
         types: [Ingress]\n  selector: '!has(host)'\n  ingress:\n  \
         - {{ action: Deny, protocol: UDP, destination: {{ ports: [ {port} ] }} }}\n  - action: Allow\n"
    );
    resources(&text).remove(0)
}

/// The far side of every port: the name, and room for what a buffer has to carry.
const PORTS: [(&str, usize); 5] = [("a", 2048), ("b", 2048), ("up", 2048), ("c", WHOLE), ("d", WHOLE)];
/// Octets of the largest super-packet.
const WHOLE: usize = 66_000;

/// Two workers in threads. Pods `c` and `d` give and take super-packets.
struct Rig {
    lab: Lab,
    workers: Workers,
    whole: BTreeMap<&'static str, MemoryHost>,
    /// Traces and log entries that came from the workers.
    traced: u64,
    logged: u64,
}

impl Rig {
    /// The router, and buffers for everything it will send.
    fn start() -> Self {
        let builder = Router::builder().workers(2).frames(4096).idle(IdleMode::Adaptive);
        let mut lab = Lab::new(builder.stage(HookPoint::AfterParse, |_| Mark));
        lab.pod("a", A, &["10.1.0.1", "fd00:1::1"]);
        let mut narrow = pod_spec("b", B, &["10.1.0.2", "fd00:1::2"]);
        narrow.mtu = 600;
        lab.port(narrow);
        lab.uplink("up", UP, &["172.16.20.252/24"], true);
        let whole = [("c", C, "10.1.0.3"), ("d", D, "10.1.0.4")].map(|(name, mac, address)| {
            let (port, host) = MemoryPort::with_host(64);
            lab.port_on(pod_spec(name, mac, &[address]), port.carrying_super_packets());
            (name, host)
        });
        lab.apply([
            route("10.2.0.0/16", "172.16.20.1", Encap::Ipip),
            route("10.3.0.0/16", "172.16.20.2", Encap::None),
            policy(9),
        ]);
        lab.apply(resources(HOST_ENDPOINT));
        lab.run();
        let reply = packet::arp(2, FAR, a4("172.16.20.1"), UP, a4("172.16.20.252"));
        lab.send("up", &packet::ethernet(UP, FAR, 0x0806, &reply));
        lab.run();
        // Until now this thread was the workers.
        IS_WORKER.with(|worker| worker.set(false));
        let workers = lab.router.start().unwrap();
        let rig = Rig { lab, workers, whole: whole.into(), traced: 0, logged: 0 };
        for (port, room) in PORTS {
            // A wire keeps twice its depth: those of all that is sent have room beside these.
            for _ in 0..if room == WHOLE { 64 } else { DEPTH / 4 } {
                rig.wire(port)
                    .recycle(WirePacket { bytes: Vec::with_capacity(room), ..WirePacket::default() });
            }
        }
        rig
    }

    fn wire(&self, port: &str) -> &MemoryHost {
        self.whole.get(port).unwrap_or_else(|| self.lab.wire(port))
    }

    /// Sends the packets over and over, with the slow path running, until the router has
    /// taken them all; what leaves is taken and its buffers go back.
    fn traffic(&mut self, packets: &[(&str, WirePacket)], rounds: usize) {
        for _ in 0..rounds {
            let before = self.received();
            for (port, packet) in packets {
                // With room for whatever the buffer will carry when it is used again.
                let room = PORTS.iter().find(|(name, _)| name == port).unwrap().1;
                let mut bytes = Vec::with_capacity(room);
                bytes.extend_from_slice(&packet.bytes);
                assert!(self.wire(port).send_packet(WirePacket { bytes, ..packet.clone() }));
            }
            let start = Instant::now();
            while self.received() < before + packets.len() as u64 {
                assert!(start.elapsed() < LONG, "the workers stand still");
                std::thread::yield_now();
            }
            self.tend();
        }
    }

    /// What control does beside the workers, and what is behind the wires.
    fn tend(&mut self) {
        self.lab.router.poll_slow_path(self.lab.now);
        while let Some(record) = self.lab.router.next_record() {
            self.traced += 1;
            self.lab.router.recycle(record);
        }
        while self.lab.router.next_flow_log_entry().is_some() {
            self.logged += 1;
        }
        for (port, _) in PORTS {
            let wire = self.wire(port);
            while let Some(packet) = wire.receive() {
                wire.recycle(packet);
            }
        }
    }

    fn received(&self) -> u64 {
        self.lab.counted().iter().filter(|(name, _)| name.ends_with(".rx")).map(|(_, n)| n).sum()
    }

    /// All counters by which events are told.
    fn counted(&self) -> Counted {
        let mut counted = self.lab.counted();
        let handed = self.lab.router.workers().iter().map(|worker| worker.counters.run.handoffs.get()).sum();
        for (name, value) in [("handed-over", handed), ("traced", self.traced), ("logged", self.logged)] {
            counted.insert(name.to_owned(), value);
        }
        counted
    }

    /// Watches the workers until all of `events`, names of counters, have happened: allocations, releases.
    fn watch(&mut self, name: &str, events: &[&str], what: impl FnOnce(&mut Self)) -> (u64, u64) {
        let before = self.counted();
        watch(|| {
            what(self);
            let start = Instant::now();
            loop {
                let moved = moved(&before, &self.counted());
                let missing: Vec<_> = events.iter().filter(|event| !moved.contains_key(**event)).collect();
                if missing.is_empty() {
                    break;
                }
                assert!(start.elapsed() < LONG, "{name}: no {missing:?} happened: {moved:#?}");
                std::thread::sleep(Duration::from_millis(1));
                self.tend();
            }
        })
    }
}

/// (allocations, releases) on the workers' threads while `what` runs.
fn watch(what: impl FnOnce()) -> (u64, u64) {
    ALLOCATED.store(0, SeqCst);
    FREED.store(0, SeqCst);
    WATCHING.store(true, SeqCst);
    what();
    // Longer than a worker spins, so that each has been to sleep and back.
    std::thread::sleep(Duration::from_millis(2));
    WATCHING.store(false, SeqCst);
    (ALLOCATED.load(SeqCst), FREED.load(SeqCst))
}

/// What is sent, and what is to become of it.
struct Scenario {
    name: &'static str,
    /// Packets with the ports they enter by.
    packets: Vec<(&'static str, WirePacket)>,
    /// Counters that move.
    events: &'static [&'static str],
}

fn plain(bytes: Vec<u8>) -> WirePacket {
    WirePacket { bytes, ..WirePacket::default() }
}

/// A datagram of 40 segments from pod `c`, its checksum left to be finished.
fn super_packet(to: &str) -> WirePacket {
    let datagram = packet::udp4((a4("10.1.0.3"), 5), (a4(to), 6), &[7; 20_000]);
    WirePacket {
        bytes: packet::ethernet(GATEWAY_MAC, C, 0x0800, &datagram),
        partial_checksum: Some((34, 6)),
        gso: Gso { kind: GsoKind::Udp, size: 500 },
    }
}

/// All in one test: the allocator is one for the whole process.
#[test]
fn the_workers_allocate_nothing() {
    let mut rig = Rig::start();
    let own6 = a6("fd00:1::1");
    let gateway6 = a6("fe80::ecee:eeff:feee:eeee");
    let ping = |to: &str, ttl: u8| from_a(0x0800, &packet::ping4(POD, a4(to), ttl, 1));
    let ping6 = |to: &str, hops: u8| from_a(0x86dd, &packet::ping6(own6, a6(to), hops, 1));
    let tunnelled = Ip4::new(a4("172.16.20.1"), a4("172.16.20.252"), 4);
    let tunnelled = tunnelled.bytes(&packet::ping4(a4("10.2.0.1"), POD, 64, 1));
    let dont_fragment = Ip4 { fragment: 0x4000, ..Ip4::new(POD, a4("10.1.0.2"), 17) };
    let ask = |target: &str| packet::arp(1, A, POD, [0; 6], a4(target));
    let datagram = |port| from_a(0x0800, &packet::udp4((POD, 5), (a4("10.1.0.2"), port), b"?"));
    let unasked = Ip4::new(POD, a4("10.1.0.2"), 1).bytes(&packet::icmp(0, 0, 0x9_0001, b"yes"));
    let quoted = packet::udp4((a4("10.1.0.2"), 7), (POD, 8), b"");
    let unrelated = Ip4::new(POD, a4("10.1.0.2"), 1).bytes(&packet::icmp(3, 3, 0, &quoted));
    let fragment = |word, data: &[u8]| {
        let header = Ip4 { fragment: word, ..Ip4::new(POD, a4("10.1.0.2"), 17) };
        from_a(0x0800, &header.bytes(data))
    };
    let mut syn = vec![0, 7, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff];
    syn.resize(20, 0);
    let frames = |list: Vec<(&'static str, Vec<u8>)>| -> Vec<(&'static str, WirePacket)> {
        list.into_iter().map(|(port, frame)| (port, plain(frame))).collect()
    };
    let request = packet::arp(1, FAR, a4("172.16.20.1"), [0; 6], a4("172.16.20.252"));
    let from_outside =
        |port| packet::ethernet(UP, FAR, 0x0800, &packet::udp4((a4("10.99.0.2"), 5), (POD, port), b"?"));
    let scenarios = [
        Scenario {
            name: "policy and flows",
            packets: frames(vec![
                ("a", datagram(7)),
                ("a", datagram(9)),
                ("a", from_a(0x0800, &Ip4::new(POD, a4("10.1.0.2"), 6).bytes(&syn))),
                ("a", from_a(0x0800, &unasked)),
                ("a", from_a(0x0800, &unrelated)),
                ("a", fragment(0x2000, &[0, 5, 0, 6, 0, 24, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])),
                ("a", fragment(2, &[1; 8])),
                ("a", fragment(0x2007, &[1; 8])),
            ]),
            events: &[
                "b.tx",
                "a.drop.policy-ingress",
                "a.drop.flow-invalid",
                "a.drop.flow-unrelated",
                "logged",
                "handed-over",
            ],
        },
        Scenario {
            name: "forwarding, in tunnels and out of them",
            packets: frames(vec![
                ("a", ping("10.1.0.2", 64)),
                ("a", ping6("fd00:1::2", 64)),
                ("a", ping("10.2.0.1", 64)),
                ("up", packet::ethernet(UP, FAR, 0x0800, &tunnelled)),
                ("a", ping("169.254.1.1", 64)),
                ("a", ping6("fe80::ecee:eeff:feee:eeee", 64)),
            ]),
            events: &["a.tx", "b.tx", "up.tx", "up.decapsulated", "handed-over"],
        },
        Scenario {
            name: "errors",
            packets: frames(vec![
                ("a", ping("10.1.0.2", 1)),
                ("a", ping6("fd00:1::2", 1)),
                ("a", ping("192.168.0.1", 64)),
                ("a", from_a(0x0800, &dont_fragment.bytes(&[0; 800]))),
                ("a", vec![0; 9]),
            ]),
            events: &[
                "a.originated",
                "a.drop.ttl-expired",
                "a.drop.hop-limit-expired",
                "a.drop.no-route",
                "a.drop.fragmentation-needed",
                "a.drop.frame-too-short",
            ],
        },
        Scenario {
            name: "neighbours that are not there",
            packets: frames(vec![("a", ping("10.3.0.1", 64)), ("a", ping("172.16.20.9", 64))]),
            // The last after some seconds.
            events: &["a.drop.hold-full", "a.drop.hold-expired", "a.originated"],
        },
        Scenario {
            name: "fragments",
            packets: frames(vec![(
                "a",
                from_a(0x0800, &Ip4::new(POD, a4("10.1.0.2"), 17).bytes(&[0; 1400])),
            )]),
            events: &["b.tx", "a.originated"],
        },
        Scenario {
            name: "answers to pods",
            packets: frames(vec![
                ("a", packet::ethernet(BROADCAST, A, 0x0806, &ask("169.254.1.1"))),
                ("a", from_a(0x86dd, &packet::solicit(own6, gateway6, gateway6, Some(A)))),
            ]),
            events: &["a.tx"],
        },
        Scenario {
            name: "punts",
            packets: frames(vec![("up", packet::ethernet(BROADCAST, FAR, 0x0806, &request))]),
            events: &["up.punts", "up.originated"],
        },
        Scenario {
            name: "a host endpoint",
            packets: frames(vec![("up", from_outside(99)), ("up", from_outside(98))]),
            events: &["up.drop.policy-host", "a.tx", "logged"],
        },
        Scenario {
            name: "super-packets, whole and cut up",
            packets: vec![("c", super_packet("10.1.0.4")), ("c", super_packet("10.1.0.2"))],
            events: &["b.tx", "c.originated", "d.tx"],
        },
    ];
    for Scenario { name, packets, events } in &scenarios {
        rig.traffic(packets, 40);
        // As many ICMP errors as may be sent at once may be sent again.
        std::thread::sleep(Duration::from_millis(110));
        let (allocated, _) = rig.watch(name, events, |rig| rig.traffic(packets, 100));
        assert_eq!(allocated, 0, "{name}: first of {} bytes", FIRST_SIZE.load(SeqCst));
    }

    // All that passes is followed.
    rig.lab.apply([Event::SetTrace(vec![TraceFilter::default()])]);
    for Scenario { name, packets, .. } in &scenarios {
        rig.traffic(packets, 20);
        let (allocated, _) = rig.watch(name, &["traced"], |rig| rig.traffic(packets, 20));
        assert_eq!(allocated, 0, "traced, {name}: first of {} bytes", FIRST_SIZE.load(SeqCst));
    }
    rig.lab.apply([Event::SetTrace(Vec::new())]);

    // New tables under traffic: neither memory taken nor the last handle of old ones dropped.
    // Only such as leave again, whose buffers come back. Policy is asked about their flows anew each time.
    let mut packets = scenarios[1].packets.clone();
    packets.push(("a", plain(datagram(20))));
    let packets = &packets[..];
    rig.traffic(packets, 20);
    let adoptions = |rig: &Rig| -> Vec<u64> {
        rig.lab.router.workers().iter().map(|worker| worker.counters.run.adoptions.get()).collect()
    };
    let before = adoptions(&rig);
    let (allocated, freed) = rig.watch("adoption", &["a.tx", "b.tx", "up.tx"], |rig| {
        for n in 0..50u8 {
            rig.lab.apply([
                Event::PutPeer(Ipv4Addr::new(172, 16, 21, n)),
                route(&format!("10.50.{n}.0/24"), "172.16.20.1", Encap::None),
                policy(9 - u16::from(n) % 4),
            ]);
            rig.traffic(packets, 2);
        }
    });
    for (before, now) in before.into_iter().zip(adoptions(&rig)) {
        assert!(now >= before + 50, "tables were adopted");
    }
    assert_eq!((allocated, freed), (0, 0), "first of {} bytes", FIRST_SIZE.load(SeqCst));
    let Rig { lab, workers, .. } = rig;
    drop(workers);
    lab.check_conservation();
}
