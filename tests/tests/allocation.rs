//! The packet path never allocates: forwarding, policy, errors, waiting, fragments, answers,
//! and the adoption of new tables.
//!
//! A counting allocator watches the worker's thread alone. The thread is told apart by a
//! stage that the worker itself runs; what control and the test allocate does not count.
//! The buffers of the memory ports are made before, as a device's would be.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use vrouter::burst::Burst;
use vrouter::control::{Encap, RouteSpec, RouteTarget};
use vrouter::pipeline::hook::{HookContext, HookPoint, Stage};
use vrouter::port::memory::WirePacket;
use vrouter::router::Workers;
use vrouter::{Event, IdleMode, Router};
use vrouter_tests::lab::{DEPTH, Lab, pod_spec};
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

/// Marks the thread that runs it as the worker's.
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
const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

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

/// A policy that lets pods receive everything but datagrams to one port.
fn policy(port: u16) -> Event {
    let text = format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: p }}\nspec:\n  \
         types: [Ingress]\n  ingress:\n  \
         - {{ action: Deny, protocol: UDP, destination: {{ ports: [ {port} ] }} }}\n  - action: Allow\n"
    );
    Event::PutPolicy(Box::new(api::read(&text).remove(0).outcome.unwrap()))
}

/// A router whose worker runs in a thread, and buffers for everything it will send.
fn start() -> (Lab, Workers) {
    let builder = Router::builder().frames(4096).idle(IdleMode::Adaptive);
    let mut lab = Lab::new(builder.stage(HookPoint::AfterParse, |_| Mark));
    lab.pod("a", A, &["10.1.0.1", "fd00:1::1"]);
    let mut narrow = pod_spec("b", B, &["10.1.0.2", "fd00:1::2"]);
    narrow.mtu = 600;
    lab.port(narrow);
    lab.uplink("up", UP, &["172.16.20.252/24"], true);
    lab.apply([
        route("10.2.0.0/16", "172.16.20.1", Encap::Ipip),
        route("10.3.0.0/16", "172.16.20.2", Encap::None),
        policy(9),
    ]);
    lab.run();
    let reply = packet::arp(2, FAR, a4("172.16.20.1"), UP, a4("172.16.20.252"));
    lab.send("up", &packet::ethernet(UP, FAR, 0x0806, &reply));
    lab.run();
    for port in ["a", "b", "up"] {
        for _ in 0..DEPTH {
            lab.wire(port).recycle(WirePacket { bytes: Vec::with_capacity(2048), ..WirePacket::default() });
        }
    }
    // Until now this thread was the worker.
    IS_WORKER.with(|worker| worker.set(false));
    let workers = lab.router.start().unwrap();
    (lab, workers)
}

/// Sends the frames over and over, with the slow path running, until the router has
/// taken them all; what leaves is taken and its buffers go back.
fn traffic(lab: &mut Lab, frames: &[(&str, Vec<u8>)], rounds: usize) {
    for _ in 0..rounds {
        let before = received(lab);
        for (port, frame) in frames {
            // With room for whatever the buffer will carry when it is used again.
            let mut bytes = Vec::with_capacity(2048);
            bytes.extend_from_slice(frame);
            assert!(lab.wire(port).send_packet(WirePacket { bytes, ..WirePacket::default() }));
        }
        let start = Instant::now();
        while received(lab) < before + frames.len() as u64 {
            assert!(start.elapsed() < Duration::from_secs(30), "the worker stands still");
            std::thread::yield_now();
        }
        lab.router.poll_slow_path(lab.now);
        for port in ["a", "b", "up"] {
            let wire = lab.wire(port);
            while let Some(packet) = wire.receive() {
                wire.recycle(packet);
            }
        }
    }
}

fn received(lab: &Lab) -> u64 {
    lab.counted().iter().filter(|(name, _)| name.ends_with(".rx")).map(|(_, n)| n).sum()
}

/// (allocations, releases) on the worker's thread while `what` runs.
fn watch(what: impl FnOnce()) -> (u64, u64) {
    ALLOCATED.store(0, SeqCst);
    FREED.store(0, SeqCst);
    WATCHING.store(true, SeqCst);
    what();
    // Longer than the worker spins, so that it has been to sleep and back.
    std::thread::sleep(Duration::from_millis(2));
    WATCHING.store(false, SeqCst);
    (ALLOCATED.load(SeqCst), FREED.load(SeqCst))
}

/// A name, and frames with the ports they enter by.
type Scenario = (&'static str, Vec<(&'static str, Vec<u8>)>);

/// All in one test: the allocator is one for the whole process.
#[test]
fn the_worker_allocates_nothing() {
    let (mut lab, workers) = start();
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
    let scenarios: [Scenario; 7] = [
        (
            "policy and flows",
            vec![
                ("a", datagram(7)),
                ("a", datagram(9)),
                ("a", from_a(0x0800, &Ip4::new(POD, a4("10.1.0.2"), 6).bytes(&syn))),
                ("a", from_a(0x0800, &unasked)),
                ("a", from_a(0x0800, &unrelated)),
                ("a", fragment(0x2000, &[0, 5, 0, 6, 0, 24, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])),
                ("a", fragment(2, &[1; 8])),
                ("a", fragment(0x2007, &[1; 8])),
            ],
        ),
        (
            "forwarding, in tunnels and out of them",
            vec![
                ("a", ping("10.1.0.2", 64)),
                ("a", ping6("fd00:1::2", 64)),
                ("a", ping("10.2.0.1", 64)),
                ("up", packet::ethernet(UP, FAR, 0x0800, &tunnelled)),
                ("a", ping("169.254.1.1", 64)),
                ("a", ping6("fe80::ecee:eeff:feee:eeee", 64)),
            ],
        ),
        (
            "errors",
            vec![
                ("a", ping("10.1.0.2", 1)),
                ("a", ping6("fd00:1::2", 1)),
                ("a", ping("192.168.0.1", 64)),
                ("a", from_a(0x0800, &dont_fragment.bytes(&[0; 800]))),
                ("a", vec![0; 9]),
            ],
        ),
        ("neighbours that are not there", vec![("a", ping("10.3.0.1", 64)), ("a", ping("172.16.20.9", 64))]),
        ("fragments", vec![("a", from_a(0x0800, &Ip4::new(POD, a4("10.1.0.2"), 17).bytes(&[0; 1400])))]),
        (
            "answers to pods",
            vec![
                ("a", packet::ethernet(BROADCAST, A, 0x0806, &ask("169.254.1.1"))),
                ("a", from_a(0x86dd, &packet::solicit(own6, gateway6, gateway6, Some(A)))),
            ],
        ),
        (
            "punts",
            vec![(
                "up",
                packet::ethernet(
                    BROADCAST,
                    FAR,
                    0x0806,
                    &packet::arp(1, FAR, a4("172.16.20.1"), [0; 6], a4("172.16.20.252")),
                ),
            )],
        ),
    ];
    for (name, frames) in &scenarios {
        traffic(&mut lab, frames, 40);
        let (allocated, _) = watch(|| traffic(&mut lab, frames, 100));
        assert_eq!(allocated, 0, "{name}: first of {} bytes", FIRST_SIZE.load(SeqCst));
    }
    // Time passes for those that wait.
    lab.pass(Duration::from_secs(1));

    // New tables under traffic: neither memory taken nor the last handle of old ones dropped.
    // Only such as leave again, whose buffers come back. Policy is asked about their flows anew each time.
    let mut frames = scenarios[1].1.clone();
    frames.push(("a", datagram(20)));
    let frames = &frames[..];
    traffic(&mut lab, frames, 20);
    let before = lab.router.workers()[0].counters.run.adoptions.get();
    let (allocated, freed) = watch(|| {
        for n in 0..50u8 {
            lab.apply([
                Event::PutPeer(Ipv4Addr::new(172, 16, 21, n)),
                route(&format!("10.50.{n}.0/24"), "172.16.20.1", Encap::None),
                policy(9 - u16::from(n) % 4),
            ]);
            traffic(&mut lab, frames, 2);
        }
    });
    assert!(lab.router.workers()[0].counters.run.adoptions.get() >= before + 50, "tables were adopted");
    assert_eq!((allocated, freed), (0, 0), "first of {} bytes", FIRST_SIZE.load(SeqCst));
    drop(workers);
    lab.check_conservation();
}
