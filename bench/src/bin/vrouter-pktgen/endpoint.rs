//! The port that packets are sent on or received from.
//!
//! A device is received from on all its queues, and sent on by all: flow number n takes queue n modulo
//! their number, so that the packets of a flow have one way.

use core::net::IpAddr;
use core::str::FromStr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use encap::MacAddr;
use vrouter::MemoryPort;
use vrouter::burst::{Burst, Checksum, Gso, TxPacket, lanes};
use vrouter::clock;
use vrouter::counters::WorkerCounters;
use vrouter::frame::{FrameArea, FramePool, FrameStore, HEADROOM};
use vrouter::ids::{PortId, Timestamp};
use vrouter::neighbor::{Cache, Config, Event};
use vrouter::port::af_xdp::{Device, DeviceOptions, Sharing};
use vrouter::port::{PortQueue, QueueIo};

use crate::capture::{Reader, Writer};

/// How long a next hop has time to answer.
const RESOLVE_PATIENCE: Duration = Duration::from_millis(3500);
/// Packets on a memory wire.
const WIRE_DEPTH: usize = 4096;
const PORT: PortId = PortId(0);
/// Of ports that have none.
const OWN_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// `KIND:NAME` of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PortName {
    /// A network device under AF_XDP, all of it ours.
    AfXdp(String),
    /// One end of a wire within this process; the first use of a name is one end, the second the other.
    Memory(String),
    /// A capture file, written by a sender and read by a receiver.
    Pcap(PathBuf),
}

/// What a port is opened for; matters where it is a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// To send.
    Send,
    /// To receive.
    Receive,
}

impl FromStr for PortName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((_, "")) => Err(format!("a name is missing behind {text}")),
            Some(("af_xdp", name)) => Ok(PortName::AfXdp(name.to_owned())),
            Some(("memory", name)) => Ok(PortName::Memory(name.to_owned())),
            Some(("pcap", path)) => Ok(PortName::Pcap(path.into())),
            Some((kind @ ("tap" | "packet_socket" | "memif"), _)) => {
                Err(format!("{kind}: this release sends and receives on af_xdp, memory and pcap ports only"))
            }
            _ => Err(format!("{text}: expected af_xdp:DEVICE, memory:NAME or pcap:FILE")),
        }
    }
}

/// Opens ports over one set of frames.
pub(crate) struct Ports {
    store: Arc<FrameStore>,
    wires: BTreeMap<String, MemoryPort>,
}

impl Ports {
    /// Frames for `frames` packets.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(crate) fn new(frames: u32) -> Result<Self, String> {
        let area =
            FrameArea::new(frames, 2048).map_err(|error| format!("{frames} packet frames: {error}"))?;
        Ok(Ports { store: FrameStore::new(area), wires: BTreeMap::new() })
    }

    /// Opens a port.
    ///
    /// # Errors
    /// Why the device cannot be opened.
    pub(crate) fn open(&mut self, name: &PortName, direction: Direction) -> Result<Endpoint, String> {
        let (queues, device, mac) = match name {
            PortName::Pcap(path) if direction == Direction::Send => {
                return Ok(Endpoint::Write(Writer::create(path)?));
            }
            PortName::Pcap(path) => return Ok(Endpoint::Read(Box::new(Reader::open(path)?))),
            PortName::AfXdp(device) => {
                let options = DeviceOptions::uplink(Sharing::Exclusive);
                let (device, queues) =
                    Device::open(self.store.area(), device, &options).map_err(|error| error.to_string())?;
                let mac = device.mac();
                (queues, Some(device), mac)
            }
            PortName::Memory(name) => {
                let end = self.wires.remove(name).unwrap_or_else(|| {
                    let (one, other) = MemoryPort::pair(WIRE_DEPTH);
                    self.wires.insert(name.clone(), other);
                    one
                });
                (vec![Box::new(end) as Box<dyn PortQueue>], None, OWN_MAC)
            }
        };
        let queue_count = queues.len();
        Ok(Endpoint::Port(Box::new(OpenPort {
            queues,
            _device: device,
            mac,
            pool: FramePool::new(self.store.clone()),
            counters: Box::default(),
            burst: Box::default(),
            batches: (0..queue_count).map(|_| Vec::with_capacity(64)).collect(),
        })))
    }
}

/// Where packets go to or come from.
pub(crate) enum Endpoint {
    /// A port of the router's kinds.
    Port(Box<OpenPort>),
    /// A file that is read.
    Read(Box<Reader>),
    /// A file that is written.
    Write(Writer),
}

impl Endpoint {
    /// The port's own MAC address.
    pub(crate) fn mac(&self) -> MacAddr {
        match self {
            Endpoint::Port(port) => port.mac,
            _ => OWN_MAC,
        }
    }

    /// Sends `count` packets (at most 64 are sensible) at time `now` that `write` puts into frames,
    /// telling the length and the number of the flow; returns how many the port took, with their bytes.
    pub(crate) fn send(
        &mut self,
        count: usize,
        now: Timestamp,
        write: impl FnMut(&mut [u8]) -> (usize, u64),
    ) -> (u64, u64) {
        match self {
            Endpoint::Port(port) => port.send(count, write),
            Endpoint::Write(file) => file.send(count, now.0, write),
            Endpoint::Read(_) => (0, 0),
        }
    }

    /// Receives what is there at time `now` on all queues; returns how many frames `take` was called
    /// with. Beside each it gets the time in nanoseconds.
    pub(crate) fn receive(&mut self, now: Timestamp, mut take: impl FnMut(&[u8], u64)) -> usize {
        match self {
            Endpoint::Port(port) => port.receive(|frame| take(frame, now.0)),
            Endpoint::Read(file) => file.receive(64, take),
            Endpoint::Write(_) => 0,
        }
    }

    /// Whether nothing can be received or sent any more.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Endpoint::Port(_) => false,
            Endpoint::Read(file) => file.has_ended(),
            Endpoint::Write(file) => file.failure.is_some(),
        }
    }

    /// Closes it.
    ///
    /// # Errors
    /// What went wrong with a file, now or before.
    pub(crate) fn close(self) -> Result<(), String> {
        match self {
            Endpoint::Port(_) => Ok(()),
            Endpoint::Read(file) => file.failure.map_or(Ok(()), Err),
            Endpoint::Write(file) => file.finish(),
        }
    }

    /// Asks by ARP or neighbour discovery for the MAC address of `next_hop`, as `own`.
    ///
    /// # Errors
    /// Nobody answered, or the addresses do not fit each other.
    pub(crate) fn resolve(&mut self, own: (IpAddr, u8), next_hop: IpAddr) -> Result<MacAddr, String> {
        match self {
            Endpoint::Port(port) => port.resolve(own, next_hop),
            _ => Err("in a file, nobody answers: give --dst-mac".to_owned()),
        }
    }

    /// Packets that the kernel lost on its side: on receive, on transmit.
    pub(crate) fn kernel_losses(&self) -> (u64, u64) {
        match self {
            Endpoint::Port(port) => port.kernel_losses(),
            _ => (0, 0),
        }
    }
}

/// An open port with everything that its queues need.
pub(crate) struct OpenPort {
    queues: Vec<Box<dyn PortQueue>>,
    /// Dropped last: it holds the XDP program.
    _device: Option<Device>,
    mac: MacAddr,
    pool: FramePool,
    counters: Box<WorkerCounters>,
    burst: Box<Burst>,
    /// What is to be sent, by queue.
    batches: Vec<Vec<TxPacket>>,
}

impl OpenPort {
    /// Sends `count` packets (at most 64 are sensible) that `write` puts into frames, telling the length
    /// and the number of the flow; returns how many the port took, with their bytes.
    fn send(&mut self, count: usize, mut write: impl FnMut(&mut [u8]) -> (usize, u64)) -> (u64, u64) {
        for _ in 0..count {
            let Some(mut frame) = self.pool.alloc() else { break };
            let (len, flow) = write(&mut self.pool.area().chunk_mut(&mut frame)[HEADROOM..]);
            let queue = (flow % self.batches.len() as u64) as usize;
            self.batches[queue].push(TxPacket {
                frame,
                offset: HEADROOM as u16,
                len: len as u16,
                in_port: PORT,
                checksum: Checksum::Complete,
                gso: Gso::default(),
            });
        }
        let (mut packets, mut bytes) = (0, 0);
        for (queue, batch) in self.queues.iter_mut().zip(&mut self.batches) {
            let mut io = QueueIo { pool: &mut self.pool, counters: &self.counters };
            let sent = queue.tx_burst(batch, &mut io);
            (packets, bytes) = (packets + sent.0, bytes + sent.1);
        }
        (packets, bytes)
    }

    /// Receives what is there on all queues; returns how many frames `take` was called with.
    fn receive(&mut self, mut take: impl FnMut(&[u8])) -> usize {
        let mut received = 0;
        for queue in &mut self.queues {
            let mut io = QueueIo { pool: &mut self.pool, counters: &self.counters };
            received += queue.rx_burst(PORT, &mut self.burst, &mut io);
            for lane in lanes(self.burst.alive) {
                take(self.burst.bytes(lane, self.pool.area()));
                let frame = self.burst.take(lane);
                self.pool.free(frame);
            }
            self.burst.clear();
        }
        received
    }

    /// Asks by ARP or neighbour discovery for the MAC address of `next_hop`, as `own`.
    ///
    /// # Errors
    /// Nobody answered, or the addresses do not fit each other.
    fn resolve(&mut self, own: (IpAddr, u8), next_hop: IpAddr) -> Result<MacAddr, String> {
        let mut config = Config::new(self.mac);
        match own {
            (IpAddr::V4(address), len) => config.addresses4.push((address, len)),
            (IpAddr::V6(address), len) => config.addresses6.push((address, len)),
        }
        let mut cache = Cache::new(config, 1).map_err(|error| error.to_string())?;
        let start = clock::now();
        cache.resolve(next_hop, start).map_err(|error| format!("{next_hop}: {error}"))?;
        loop {
            let now = clock::now();
            self.receive(|frame| {
                // Other traffic is ignored, with a reason that nobody needs here.
                let _ = cache.handle_frame(frame, now);
            });
            if cache.poll_timeout().is_some_and(|due| due <= now) {
                cache.handle_timeout(now);
            }
            while let Some(event) = cache.poll_event() {
                match event {
                    Event::Resolved { address, mac } if address == next_hop => return Ok(mac),
                    Event::Failed { .. } => return Err(format!("{next_hop} does not answer on this port")),
                    _ => {}
                }
            }
            let mut out = [0; 256];
            while let Some(len) = cache.poll_transmit(&mut out) {
                self.send(1, |chunk| {
                    chunk[..len].copy_from_slice(&out[..len]);
                    (len, 0)
                });
            }
            if now.since(start) > RESOLVE_PATIENCE {
                return Err(format!("{next_hop} does not answer on this port"));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Packets that the kernel lost on its side of the queues: on receive, on transmit.
    fn kernel_losses(&self) -> (u64, u64) {
        self.queues.iter().map(|queue| queue.kernel_losses()).fold((0, 0), |(rx, tx), losses| {
            (rx + losses.rx_ring_full + losses.rx_fill_empty + losses.rx_dropped, tx + losses.tx_invalid)
        })
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        for queue in self.queues.drain(..) {
            queue.close(&mut self.pool);
        }
    }
}
