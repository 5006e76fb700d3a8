//! A router under test: memory ports, a clock that only the test moves, and a
//! snapshot of every counter.
//!
//! ```text
//!   Lab --send(port, frame)--> wire --> Router::poll(now) --> wire --receive(port)--> test
//!    '--- run(): polls until nothing moves, then checks the conservation law
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use vrouter::control::PortRole;
use vrouter::drop_reason::DropReason;
use vrouter::ids::{PortId, Timestamp};
use vrouter::port::PortQueue;
use vrouter::port::memory::MemoryHost;
use vrouter::router::RouterBuilder;
use vrouter::{Event, MemoryPort, PortSpec, Router};

use crate::packet::Mac;

/// Packets that a wire of the lab holds each way.
pub const DEPTH: usize = 4096;
/// Rounds of polling after which a lab that still moves packets is declared to loop.
const PATIENCE: usize = 10_000;

/// A router, the far ends of its wires, and its clock.
pub struct Lab {
    /// The router under test.
    pub router: Router,
    /// The clock.
    pub now: Timestamp,
    wires: BTreeMap<String, MemoryHost>,
    ids: BTreeMap<String, PortId>,
}

/// Every counter that is not zero, by `port.counter` or `port.drop.reason`.
pub type Counted = BTreeMap<String, u64>;

impl Lab {
    /// A lab around a router to be; its clock starts at one second.
    pub fn new(builder: RouterBuilder) -> Self {
        let router = builder.build().expect("memory and descriptors for a router");
        Lab { router, now: Timestamp::from_millis(1000), wires: BTreeMap::new(), ids: BTreeMap::new() }
    }

    /// Adds a port with a wire whose far end the lab holds.
    pub fn port(&mut self, spec: PortSpec) -> PortId {
        let (wire, host) = MemoryPort::with_host(DEPTH);
        self.wires.insert(spec.name.clone(), host);
        self.port_on(spec, wire)
    }

    /// Adds a port with a wire of the test's own.
    pub fn port_on(&mut self, spec: PortSpec, wire: impl PortQueue + 'static) -> PortId {
        self.queues(spec, vec![Box::new(wire)])
    }

    /// Adds a port with several queues of the test's own.
    pub fn queues(&mut self, spec: PortSpec, queues: Vec<Box<dyn PortQueue>>) -> PortId {
        let name = spec.name.clone();
        let id = self.router.add_port(spec, queues).expect("the port is valid");
        self.ids.insert(name, id);
        id
    }

    /// Adds a pod.
    pub fn pod(&mut self, name: &str, mac: Mac, addresses: &[&str]) -> PortId {
        self.port(pod_spec(name, mac, addresses))
    }

    /// Adds an uplink.
    pub fn uplink(&mut self, name: &str, mac: Mac, addresses: &[&str], exclusive: bool) -> PortId {
        self.port(uplink_spec(name, mac, addresses, exclusive))
    }

    /// Adds the host port.
    pub fn host(&mut self, name: &str, mac: Mac, peer: Mac, addresses: &[&str]) -> PortId {
        self.port(host_spec(name, mac, peer, addresses))
    }

    /// Applies events and commits.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.router.apply(event).expect("the event is valid");
        }
        self.router.commit().expect("the tables have room");
    }

    /// The number of a port.
    pub fn id(&self, port: &str) -> PortId {
        self.ids[port]
    }

    /// The far end of a port's wire.
    pub fn wire(&self, port: &str) -> &MemoryHost {
        &self.wires[port]
    }

    /// Puts a frame on a port's wire.
    pub fn send(&self, port: &str, frame: &[u8]) {
        assert!(self.wires[port].send(frame), "the wire of {port} is full");
    }

    /// Polls until nothing moves, and checks that no packet was lost without a counter.
    pub fn run(&mut self) {
        self.poll_until_quiet();
        self.check_conservation();
    }

    /// Polls until nothing moves.
    pub fn poll_until_quiet(&mut self) {
        for _ in 0..PATIENCE {
            if self.router.poll(self.now).expect("the workers are here") == 0 {
                return;
            }
        }
        panic!("the router never comes to rest");
    }

    /// Moves the clock.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// Moves the clock in steps of 100 ms, running after each.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.now < end {
            self.pass(Duration::from_millis(100));
            self.run();
        }
    }

    /// Sends, runs, and takes what came out anywhere.
    pub fn exchange(&mut self, port: &str, frame: &[u8]) -> Vec<(String, Vec<u8>)> {
        self.send(port, frame);
        self.run();
        self.receive_all()
    }

    /// Takes the frames that left by a port.
    pub fn receive(&self, port: &str) -> Vec<Vec<u8>> {
        let wire = &self.wires[port];
        std::iter::from_fn(|| wire.receive()).map(|packet| packet.bytes).collect()
    }

    /// Takes the frames that left by any port.
    pub fn receive_all(&self) -> Vec<(String, Vec<u8>)> {
        let frames =
            |name: &String| self.receive(name).into_iter().map(|frame| (name.clone(), frame)).collect();
        self.wires.keys().flat_map(|name| -> Vec<_> { frames(name) }).collect()
    }

    /// All counters of packets.
    pub fn counted(&self) -> Counted {
        let mut counted = Counted::new();
        let mut add = |name: String, value: u64| {
            if value > 0 {
                *counted.entry(name).or_insert(0) += value;
            }
        };
        for worker in self.router.workers() {
            for (name, id) in &self.ids {
                let port = worker.counters.port(*id);
                for (what, counter) in [
                    ("rx", &port.rx_packets),
                    ("tx", &port.tx_packets),
                    ("punts", &port.punts),
                    ("consumed", &port.consumed),
                    ("originated", &port.originated),
                    ("decapsulated", &port.decapsulated),
                ] {
                    add(format!("{name}.{what}"), counter.get());
                }
                for reason in DropReason::ALL {
                    add(format!("{name}.drop.{}", reason.name()), worker.counters.drops(*id, *reason).get());
                }
            }
            add("held".to_owned(), worker.counters.run.held.get());
        }
        counted
    }

    /// rx + originated = tx + drops + punts + consumed + held.
    pub fn check_conservation(&self) {
        let counted = self.counted();
        let sum = |suffix: &str| -> u64 {
            counted.iter().filter(|(name, _)| name.ends_with(suffix)).map(|(_, n)| n).sum()
        };
        let drops: u64 = counted.iter().filter(|(name, _)| name.contains(".drop.")).map(|(_, n)| n).sum();
        let came = sum(".rx") + sum(".originated");
        let went = sum(".tx") + drops + sum(".punts") + sum(".consumed") + sum("held");
        assert_eq!(came, went, "packets appeared or vanished: {counted:?}");
    }

    /// Frames that are free, wherever they are.
    pub fn free_frames(&self) -> u64 {
        let in_pools: u64 = self.router.workers().iter().map(|w| w.counters.run.free_frames.get()).sum();
        in_pools + self.router.frames().free_frames() as u64
    }
}

/// What changed between two snapshots.
pub fn moved(before: &Counted, after: &Counted) -> BTreeMap<String, i64> {
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let value = |counted: &Counted, name: &String| counted.get(name).map_or(0, |n| *n as i64);
    let change = |name: &String| value(after, name) - value(before, name);
    names.into_iter().map(|name| (name.clone(), change(name))).filter(|(_, change)| *change != 0).collect()
}

/// A MAC address as configuration writes it.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A pod port.
pub fn pod_spec(name: &str, mac: Mac, addresses: &[&str]) -> PortSpec {
    let addresses = addresses.iter().map(|address| address.parse::<IpAddr>().expect("an address"));
    PortSpec::pod(name, mac_text(mac).parse().expect("a MAC address"), addresses)
}

/// An uplink port; addresses with prefix lengths.
pub fn uplink_spec(name: &str, mac: Mac, addresses: &[&str], exclusive: bool) -> PortSpec {
    let addresses: Vec<IpNet> =
        addresses.iter().map(|net| net.parse().expect("an address with length")).collect();
    let spec = PortSpec::uplink(name, mac_text(mac).parse().expect("a MAC address"), []);
    PortSpec { role: PortRole::Uplink { exclusive, addresses }, ..spec }
}

/// A host port.
pub fn host_spec(name: &str, mac: Mac, peer: Mac, addresses: &[&str]) -> PortSpec {
    let addresses: Vec<IpAddr> =
        addresses.iter().map(|address| address.parse().expect("an address")).collect();
    let mac = mac_text(mac).parse().expect("a MAC address");
    let peer_mac = mac_text(peer).parse().expect("a MAC address");
    PortSpec { role: PortRole::Host { addresses }, mac, peer_mac, ..PortSpec::uplink(name, mac, []) }
}
