//! A router between ports without a kernel: a source that makes packets and a sink that
//! frees them, for cycles per packet of the whole path.
//!
//! ```text
//!   Source: copies 64 bytes into a fresh frame, other destination each time
//!      -> parse ... lookup ... rewrite ->  Sink: frees the frame, counts
//! ```
//!
//! Frames rotate through the whole store, so that their memory is as cold as it would
//! be behind a device.

use core::net::{IpAddr, Ipv4Addr};
use encap::MacAddr;
use encap::wire::checksum;
use fib::RouteSource;
use vrouter::burst::{Burst, TxPacket};
use vrouter::control::engine::net_prefix;
use vrouter::control::{Encap, IpipMode, Pool, RouteSpec, RouteTarget};
use vrouter::frame::{Frame, FramePool};
use vrouter::ids::{PortId, Timestamp};
use vrouter::port::{PortQueue, QueueIo};
use vrouter::tables::NeighborState;
use vrouter::{Event, PortSpec, Router};

/// Packets that the sink keeps before it frees them: with the frames of the pools, the
/// frames in rotation.
const ROTATION: usize = 16_384;
/// Frames of the rig's router.
const FRAMES: u32 = ROTATION as u32 + 4096;
/// Bytes of a frame without FCS.
const LEN: usize = 60;

/// What the packets of a rig go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// IPv4 over one route.
    Forward,
    /// IPv4, into an IPIP tunnel.
    Encap,
    /// Out of an IPIP tunnel, then IPv4 over one route.
    Decap,
}

/// A router with a source on one uplink and a sink on another.
pub struct Rig {
    router: Router,
    clock: Timestamp,
    sink: PortId,
}

impl Rig {
    /// A rig for packets to `destinations`, one after the other.
    ///
    /// # Panics
    /// Where the router cannot be built: there is no memory for it.
    pub fn new(path: Path, destinations: &[Ipv4Addr]) -> Self {
        let mut router = Router::builder().frames(FRAMES).build().expect("memory for the frames");
        let (near, far) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let templates = destinations.iter().map(|to| template(path, near, *to)).collect();
        let spec = |name: &str, mac, net: &str| PortSpec::uplink(name, mac, [net.parse().expect("a prefix")]);
        let source = Source { templates, next: 0 };
        router.add_port(spec("in", near, "172.16.1.1/24"), vec![Box::new(source)]).expect("a right port");
        // The kernel's neighbours, so that no ARP is in the way.
        let mut out = spec("out", far, "172.16.2.1/24");
        if let vrouter::control::PortRole::Uplink { exclusive, .. } = &mut out.role {
            *exclusive = false;
        }
        let sink = router.add_port(out, vec![Box::new(Sink::new())]).expect("a right port");
        let next_hop: IpAddr = Ipv4Addr::new(172, 16, 2, 2).into();
        let ipip_mode = if path == Path::Encap { IpipMode::Always } else { IpipMode::Never };
        let everything = "0.0.0.0/0".parse().expect("a prefix");
        let events = [
            Event::PutPool(Pool { name: "pool".to_owned(), cidr: everything, ipip_mode }),
            Event::PutPeer(Ipv4Addr::new(172, 16, 1, 9)),
            Event::PutRoute(RouteSpec {
                prefix: net_prefix(everything),
                source: RouteSource::Static,
                target: RouteTarget::Via(vec![next_hop], Encap::Pool),
                metric: 0,
            }),
        ];
        events.into_iter().for_each(|event| router.apply(event).expect("a right event"));
        router.commit().expect("one route fits");
        router.neighbor(sink, next_hop, NeighborState::Usable(MacAddr([2, 0, 0, 0, 0, 3])));
        let mut rig = Rig { router, clock: Timestamp::from_millis(1000), sink };
        (0..2 * ROTATION / 64).for_each(|_| {
            rig.turn();
        });
        let sent = rig.sent();
        rig.turn();
        assert_eq!(rig.sent() - sent, 64, "every packet is forwarded");
        rig
    }

    /// The router, to change its tables.
    pub fn router(&mut self) -> &mut Router {
        &mut self.router
    }

    /// One turn of the worker, as its thread runs it (control has a thread of its own): a burst of 64 packets. Returns how many came in.
    pub fn turn(&mut self) -> usize {
        self.clock.0 += 1000;
        self.router.poll_workers(self.clock).unwrap_or(0)
    }

    fn sent(&self) -> u64 {
        self.router.workers()[0].counters.port(self.sink).tx_packets.get()
    }
}

fn template(path: Path, mac: MacAddr, to: Ipv4Addr) -> [u8; LEN] {
    let mut frame = [0; LEN];
    frame[..6].copy_from_slice(&mac.0);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let (outer, inner) = frame[14..].split_at_mut(if path == Path::Decap { 20 } else { 0 });
    let inner_len = inner.len() as u16;
    ipv4(inner, Ipv4Addr::new(198, 18, 0, 1), to, 17, inner_len);
    if path == Path::Decap {
        ipv4(outer, Ipv4Addr::new(172, 16, 1, 9), Ipv4Addr::new(172, 16, 1, 1), 4, 20 + inner_len);
    }
    frame
}

fn ipv4(header: &mut [u8], from: Ipv4Addr, to: Ipv4Addr, protocol: u8, total: u16) {
    header[..2].copy_from_slice(&[0x45, 0]);
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[6] = 0x40;
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = checksum::checksum(&header[..20]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Receives the templates in turn, a burst at a time.
struct Source {
    templates: Vec<[u8; LEN]>,
    next: usize,
}

impl PortQueue for Source {
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        let mut received = 0;
        io.pool.warm(LEN);
        while burst.room() > 0 {
            let Some(mut frame) = io.pool.alloc() else { break };
            let template = &self.templates[self.next];
            self.next = if self.next + 1 == self.templates.len() { 0 } else { self.next + 1 };
            let at = io.pool.area().landing(&frame, LEN);
            if let Some(bytes) = io.pool.area().header_mut(&mut frame, at) {
                *bytes = *template;
            }
            if let Err(frame) = burst.push(frame, at, LEN as u16, port) {
                io.pool.free(frame);
                break;
            }
            received += 1;
        }
        received
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        let count = batch.len() as u64;
        batch.drain(..).for_each(|packet| io.pool.free(packet.frame));
        (count, 0)
    }

    fn close(self: Box<Self>, _pool: &mut FramePool) {}
}

/// Keeps packets as a device would, and frees the oldest.
struct Sink {
    /// As a ring: `next` is the oldest once it is full.
    kept: Vec<Frame>,
    next: usize,
}

impl Sink {
    fn new() -> Self {
        Sink { kept: Vec::with_capacity(ROTATION), next: 0 }
    }
}

impl PortQueue for Sink {
    fn rx_burst(&mut self, _port: PortId, _burst: &mut Burst, _io: &mut QueueIo<'_>) -> usize {
        0
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        let (mut packets, mut bytes) = (0, 0);
        for packet in batch.drain(..) {
            packets += 1;
            bytes += u64::from(packet.len);
            if self.kept.len() < ROTATION {
                self.kept.push(packet.frame);
                continue;
            }
            io.pool.free(core::mem::replace(&mut self.kept[self.next], packet.frame));
            self.next = if self.next + 1 == ROTATION { 0 } else { self.next + 1 };
        }
        (packets, bytes)
    }

    fn close(self: Box<Self>, pool: &mut FramePool) {
        self.kept.into_iter().for_each(|frame| pool.free(frame));
    }
}
