//! Workers in threads: who owns which queue, hand-off, order, idle modes, a clean stop.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use vrouter::ids::WorkerId;
use vrouter::port::PortQueue;
use vrouter::port::memory::MemoryHost;
use vrouter::{IdleMode, MemoryPort, Router};
use vrouter_tests::lab::{Lab, pod_spec};
use vrouter_tests::packet::{self, GATEWAY_MAC, Mac};

const DEPTH: usize = 8192;
const FRAMES: u32 = 16_384;
const LONG: Duration = Duration::from_secs(60);

fn mac(pod: u8) -> Mac {
    [2, 0, 0, 0, 1, pod]
}

fn address(pod: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, pod)
}

/// A router whose two pods have so many queues each, and their far ends.
fn router(workers: u16, queues: usize, idle: IdleMode) -> (Lab, [Vec<MemoryHost>; 2]) {
    let mut lab = Lab::new(Router::builder().workers(workers).frames(FRAMES).idle(idle));
    let ends = [1, 2].map(|pod| {
        let (near, far): (Vec<Box<dyn PortQueue>>, Vec<_>) = (0..queues)
            .map(|_| MemoryPort::with_host(DEPTH))
            .map(|(port, host)| (Box::new(port) as Box<dyn PortQueue>, host))
            .unzip();
        lab.queues(pod_spec(&format!("pod{pod}"), mac(pod), &[&address(pod).to_string()]), near);
        far
    });
    lab.apply([]);
    (lab, ends)
}

/// A datagram of flow `flow` from one pod to the other, with a number.
fn datagram(from: u8, flow: u16, number: u32) -> Vec<u8> {
    let to = 3 - from;
    let packet = packet::udp4((address(from), 1000 + flow), (address(to), 53), &number.to_be_bytes());
    packet::ethernet(GATEWAY_MAC, mac(from), 0x0800, &packet)
}

/// Sends `count` datagrams of `flows` flows both ways, each flow by one queue, and checks
/// that all arrive, those of a flow in order.
fn exchange(ends: &[Vec<MemoryHost>; 2], flows: u16, count: u32) {
    let mut next: HashMap<(usize, u16), u32> = HashMap::new();
    let mut arrived = 0;
    let mut sent = 0;
    let start = Instant::now();
    let in_flight = 512;
    while arrived < 2 * count {
        assert!(start.elapsed() < LONG, "{arrived} of {} arrived", 2 * count);
        // Never more on the way than the smallest ring holds.
        while sent < count && 2 * sent < arrived + in_flight {
            let flow = (sent % u32::from(flows)) as u16;
            for from in [1, 2] {
                let queues = &ends[usize::from(from) - 1];
                let frame = datagram(from, flow, sent / u32::from(flows));
                assert!(queues[usize::from(flow) % queues.len()].send(&frame), "the wire is full");
            }
            sent += 1;
        }
        let before = arrived;
        for (at, queues) in ends.iter().enumerate() {
            for packet in queues.iter().flat_map(|queue| std::iter::from_fn(|| queue.receive())) {
                let bytes = packet.bytes;
                let flow = u16::from_be_bytes([bytes[34], bytes[35]]) - 1000;
                let number = u32::from_be_bytes([bytes[42], bytes[43], bytes[44], bytes[45]]);
                let expected = next.entry((at, flow)).or_insert(0);
                assert_eq!(number, *expected, "flow {flow} is out of order");
                *expected += 1;
                arrived += 1;
            }
        }
        if arrived == before {
            std::thread::yield_now();
        }
    }
}

fn run(workers: u16, queues: usize, idle: IdleMode, count: u32) -> Lab {
    let (mut lab, ends) = router(workers, queues, idle);
    let threads = lab.router.start().unwrap();
    exchange(&ends, 16, count);
    drop(threads);
    lab.check_conservation();
    assert_eq!(lab.router.frames().free_frames() as u32, FRAMES, "a stop gives every frame back");
    lab
}

#[test]
fn two_workers_with_one_queue_each_hand_over() {
    let lab = run(2, 1, IdleMode::Adaptive, 20_000);
    let owners: Vec<_> = lab.router.placements().iter().map(|port| port.queues.clone()).collect();
    assert_eq!(owners, [vec![WorkerId(0)], vec![WorkerId(1)]]);
    let handed: u64 = lab.router.workers().iter().map(|worker| worker.counters.run.handoffs.get()).sum();
    assert_eq!(handed, 40_000, "each packet leaves by the other worker's queue");
}

#[test]
fn one_worker_with_many_queues_on_each_port() {
    let lab = run(1, 6, IdleMode::Adaptive, 20_000);
    assert!(lab.router.placements().iter().all(|port| port.queues == [WorkerId(0); 6]));
}

#[test]
fn two_workers_with_two_queues_need_no_hand_off() {
    let lab = run(2, 2, IdleMode::Adaptive, 20_000);
    let handed: u64 = lab.router.workers().iter().map(|worker| worker.counters.run.handoffs.get()).sum();
    assert_eq!(handed, 0);
}

#[test]
fn every_idle_mode_makes_progress() {
    for idle in [IdleMode::Adaptive, IdleMode::Interrupt, IdleMode::Poll] {
        let (mut lab, ends) = router(2, 1, idle);
        let threads = lab.router.start().unwrap();
        for round in 0..20 {
            // Long enough to go to sleep in between.
            std::thread::sleep(Duration::from_millis(3));
            assert!(ends[0][0].send(&datagram(1, 0, round)));
            let start = Instant::now();
            while ends[1][0].receive().is_none() {
                assert!(start.elapsed() < LONG, "{idle:?}");
                std::thread::yield_now();
            }
        }
        drop(threads);
        assert_eq!(lab.router.frames().free_frames() as u32, FRAMES, "{idle:?}");
    }
}

/// The packet that ends a worker's sleep meets what control has changed meanwhile.
#[test]
fn a_change_is_in_force_for_the_packet_that_ends_a_sleep() {
    for idle in [IdleMode::Adaptive, IdleMode::Interrupt] {
        let (mut lab, ends) = router(2, 1, idle);
        let threads = lab.router.start().unwrap();
        let to = Ipv4Addr::new(10, 1, 0, 50);
        for round in 0..60_u32 {
            let start = Instant::now();
            // Memory ports make a sleep a nap: the worker is between two of them, or in one.
            let naps = || lab.router.workers()[0].counters.run.sleeps.get();
            let before = naps();
            while naps() < before + 2 {
                assert!(start.elapsed() < LONG, "{idle:?}: the worker does not sleep");
                std::thread::yield_now();
            }
            let second = to.to_string();
            let own = address(2).to_string();
            let addresses = [own.as_str(), second.as_str()];
            let has = round % 2 == 0;
            lab.apply([vrouter::Event::PutPort(pod_spec(
                "pod2",
                mac(2),
                &addresses[..1 + usize::from(has)],
            ))]);
            // The second one shows that the first has been dealt with.
            for (to, number) in [(to, 2 * round), (address(2), 2 * round + 1)] {
                let packet = packet::udp4((address(1), 1000), (to, 53), &number.to_be_bytes());
                let frame = packet::ethernet(GATEWAY_MAC, mac(1), 0x0800, &packet);
                assert!(ends[0][0].send(&frame));
            }
            let mut came = Vec::new();
            while came.last() != Some(&(2 * round + 1)) {
                assert!(start.elapsed() < LONG, "{idle:?}: {came:?}");
                match ends[1][0].receive() {
                    Some(packet) => came.push(u32::from_be_bytes(packet.bytes[42..46].try_into().unwrap())),
                    None => std::thread::yield_now(),
                }
            }
            assert_eq!(came.len(), 1 + usize::from(has), "{idle:?}, round {round}: {came:?}");
        }
        drop(threads);
        lab.check_conservation();
    }
}

#[test]
fn a_stop_under_load_gives_every_frame_back() {
    for _ in 0..10 {
        let (mut lab, ends) = router(2, 1, IdleMode::Adaptive);
        let threads = lab.router.start().unwrap();
        for number in 0..2000 {
            for (at, queues) in ends.iter().enumerate() {
                queues[0].send(&datagram(at as u8 + 1, 0, number));
            }
        }
        drop(threads);
        assert_eq!(lab.router.frames().free_frames() as u32, FRAMES);
    }
}

#[test]
fn ports_come_and_go_while_the_workers_run() {
    let (mut lab, ends) = router(2, 1, IdleMode::Adaptive);
    let threads = lab.router.start().unwrap();
    for n in 0..50u8 {
        lab.pod("guest", [2, 0, 0, 3, 0, n], &[&format!("10.1.1.{n}")]);
        lab.apply([]);
        let packet = packet::ping4(Ipv4Addr::new(10, 1, 1, n), address(1), 64, n.into());
        lab.send("guest", &packet::ethernet(GATEWAY_MAC, [2, 0, 0, 3, 0, n], 0x0800, &packet));
        let start = Instant::now();
        while ends[0][0].receive().is_none() {
            assert!(start.elapsed() < LONG, "pod {n} is not heard");
            std::thread::yield_now();
        }
        lab.router.remove_port("guest").unwrap();
    }
    drop(threads);
    assert_eq!(lab.router.frames().free_frames() as u32, FRAMES);
}

#[test]
fn a_whole_internet_table_comes_and_goes_under_traffic() {
    let (mut lab, ends) = router(1, 1, IdleMode::Adaptive);
    lab.uplink("up", [2, 0, 0, 0, 0, 9], &["172.16.20.252/24"], false);
    lab.apply([]);
    let prefixes = internet_prefixes();
    let threads = lab.router.start().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut rounds = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                exchange(&ends, 1, 200);
                rounds += 1;
            }
            rounds
        });
        for (n, chunk) in prefixes.chunks(10_000).enumerate() {
            for prefix in chunk {
                let next = Ipv4Addr::new(172, 16, 20, 1 + (n % 100) as u8);
                lab.router.apply(static_route(*prefix, next)).unwrap();
            }
            lab.router.commit().unwrap();
        }
        for chunk in prefixes.chunks(10_000) {
            for prefix in chunk {
                lab.router.apply(vrouter::Event::RemoveRoute(*prefix, fib::RouteSource::Static)).unwrap();
            }
            lab.router.commit().unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(traffic.join().unwrap() > 0);
    });
    drop(threads);
    lab.check_conservation();
    assert_eq!(lab.router.frames().free_frames() as u32, FRAMES);
}

fn static_route(prefix: fib::AnyPrefix, next: Ipv4Addr) -> vrouter::Event {
    vrouter::Event::PutRoute(vrouter::control::RouteSpec {
        prefix,
        source: fib::RouteSource::Static,
        target: vrouter::control::RouteTarget::Via(vec![next.into()], vrouter::control::Encap::None),
        metric: 0,
    })
}

/// A fifth of the IPv4 prefixes of a real table, those that do not cover the pods.
fn internet_prefixes() -> Vec<fib::AnyPrefix> {
    let text = crate::real_table::text();
    let prefixes = text.lines().filter(|line| !line.contains(':')).step_by(5);
    let prefixes: Vec<fib::AnyPrefix> = prefixes.map(|line| line.parse().unwrap()).collect();
    assert!(prefixes.len() > 150_000);
    prefixes
}

/// Takes the workers up and down while datagrams flow; every one arrives, those of a flow in order.
fn moves_under_load(workers: u16, queues: usize, counts: &[usize]) {
    let mut lab = Lab::new(Router::builder().workers(workers).most_workers(3).frames(FRAMES));
    let ends = [1, 2].map(|pod| {
        let (near, far): (Vec<Box<dyn PortQueue>>, Vec<_>) = (0..queues)
            .map(|_| MemoryPort::with_host(DEPTH))
            .map(|(port, host)| (Box::new(port) as Box<dyn PortQueue>, host))
            .unzip();
        lab.queues(pod_spec(&format!("pod{pod}"), mac(pod), &[&address(pod).to_string()]), near);
        far
    });
    lab.apply([]);
    let threads = lab.router.start().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let moved: usize = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                exchange(&ends, 16, 5_000);
            }
        });
        let moved = counts.iter().map(|count| {
            std::thread::sleep(Duration::from_millis(20));
            lab.router.set_workers(*count).unwrap()
        });
        let moved = moved.sum();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        traffic.join().unwrap();
        moved
    });
    assert!(moved > 0);
    assert_eq!(lab.router.active_workers(), *counts.last().unwrap());
    drop(threads);
    lab.check_conservation();
    assert_eq!(lab.router.frames().free_frames() as u32, FRAMES, "a stop gives every frame back");
}

/// One queue on each port: what leaves is handed over or not, as ownership has it.
#[test]
fn queues_move_under_load_where_packets_are_handed_over() {
    moves_under_load(1, 1, &[2, 1, 2, 3, 1, 3, 2, 1, 2, 1]);
}

/// Four queues on each port. A flow leaves by another queue when its worker changes, and the far end
/// could not tell which of two queues was written first: so they move between exchanges here.
#[test]
fn queues_move_between_bursts_of_traffic_and_none_is_lost() {
    let (mut lab, ends) = router(2, 4, IdleMode::Adaptive);
    let threads = lab.router.start().unwrap();
    for count in [1, 2, 1, 2, 1] {
        lab.router.set_workers(count).unwrap();
        let owners: std::collections::BTreeSet<_> =
            lab.router.placements().iter().flat_map(|port| port.queues.clone()).collect();
        assert_eq!(owners.len(), count);
        exchange(&ends, 16, 2_000);
    }
    drop(threads);
    lab.check_conservation();
    assert_eq!(lab.router.frames().free_frames() as u32, FRAMES);
}

/// Where the caller owns the clock: one worker, then three, then one, and packets that wait for a
/// neighbour go with their port and keep their order.
#[test]
fn what_waits_for_a_neighbour_moves_with_its_port() {
    let mut lab = Lab::new(Router::builder().workers(1).most_workers(3).frames(4096));
    lab.pod("pod1", mac(1), &["10.1.0.1"]);
    lab.uplink("up", [2, 0, 0, 0, 0, 9], &["172.16.20.252/24"], true);
    lab.apply([static_route("10.2.0.0/16".parse().unwrap(), Ipv4Addr::new(172, 16, 20, 1))]);
    let to = Ipv4Addr::new(10, 2, 0, 1);
    let send = |lab: &Lab, number: u32| {
        let packet = packet::udp4((address(1), 1000), (to, 53), &number.to_be_bytes());
        lab.send("pod1", &packet::ethernet(GATEWAY_MAC, mac(1), 0x0800, &packet));
    };
    let mut number = 0;
    for count in [3, 2, 3, 1, 2] {
        send(&lab, number);
        number += 1;
        lab.run();
        assert!(lab.router.set_workers(count).is_ok());
    }
    assert!(lab.router.set_workers(0).is_err() && lab.router.set_workers(4).is_err());
    assert_eq!(lab.counted()["held"], u64::from(number));
    let peer = [2, 0, 0, 0, 0, 1];
    lab.receive_all();
    let up = [2, 0, 0, 0, 0, 9];
    let reply = packet::arp(2, peer, Ipv4Addr::new(172, 16, 20, 1), up, Ipv4Addr::new(172, 16, 20, 252));
    lab.send("up", &packet::ethernet(up, peer, 0x0806, &reply));
    lab.run();
    let numbers: Vec<u32> = lab
        .receive("up")
        .iter()
        .filter(|frame| frame[12..14] == [8, 0])
        .map(|frame| u32::from_be_bytes([frame[42], frame[43], frame[44], frame[45]]))
        .collect();
    assert_eq!(numbers, (0..number).collect::<Vec<_>>());
}
