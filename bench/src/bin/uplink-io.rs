//! What crosses a veth by the ways an uplink has: AF_XDP in copy mode, and packet sockets.
//!
//! ```text
//!   unshare -n target/release/uplink-io [ROUNDS]       as root
//!
//!   queue --> va ~~~~ vb --> queue      AF_XDP            one thread sends and receives, so that a figure
//!   queue --> vc ~~~~ vd --> queue      packet sockets    is the cost of both ends and of the kernel between
//! ```
//!
//! Small packets go 64 at a time. Super-packets of 64,000 bytes of TCP data go one by one: AF_XDP cuts them
//! up into frames of 1,514 bytes, packet sockets carry them whole. The ways alternate; medians.

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use encap::wire::checksum;
use vrouter::burst::{Burst, Checksum, Gso, GsoKind, TxPacket};
use vrouter::counters::WorkerCounters;
use vrouter::frame::chain::Chain;
use vrouter::frame::{FrameArea, FramePool, FrameStore, HEADROOM};
use vrouter::ids::PortId;
use vrouter::port::af_xdp::{Device, DeviceOptions, Mode, Sharing};
use vrouter::port::{PortQueue, QueueIo};

/// Packets of a turn.
const BATCH: usize = 64;
/// Bytes of TCP data in a super-packet, and in a segment.
const DATA: usize = 64_000;
const SEGMENT: u16 = 1448;
/// What is not there by then is lost.
const PATIENCE: Duration = Duration::from_millis(50);

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(300), |text| text.parse())?;
    let mut ways = [
        Way::open("AF_XDP", Mode::Auto, "va", "vb")?,
        Way::open("packet sockets", Mode::PacketSocket, "vc", "vd")?,
    ];
    println!("{:<16} {:<18} {:>10} {:>10} {:>8}", "way", "what", "ns each", "Gbit/s", "lost");
    let small = small();
    let whole = super_packet();
    for (what, count, bytes) in [("64 of 60 bytes", BATCH, &small), ("64,000 in one", 1, &whole)] {
        let gso = if count == 1 { Gso { kind: GsoKind::Tcp4, size: SEGMENT } } else { Gso::NONE };
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..rounds {
            for (way, times) in ways.iter_mut().zip(&mut times) {
                times.push(way.turn(count, bytes, gso)?);
            }
        }
        for (way, mut times) in ways.iter().zip(times) {
            let lost = times.iter().filter(|time| time.is_none()).count();
            times.retain(Option::is_some);
            times.sort_unstable();
            let Some(Some(median)) = times.get(times.len() / 2) else {
                return Err("everything is lost".into());
            };
            let each = median.as_nanos() as f64 / count as f64;
            let rate = bytes.len() as f64 * 8.0 / each;
            println!("{:<16} {what:<18} {each:>10.0} {rate:>10.2} {lost:>8}", way.name);
        }
    }
    Ok(())
}

/// A pair of devices with a queue on each.
struct Way {
    name: &'static str,
    pool: FramePool,
    counters: WorkerCounters,
    from: Box<dyn PortQueue>,
    to: Box<dyn PortQueue>,
    _devices: [Device; 2],
}

impl Way {
    fn open(name: &'static str, mode: Mode, from: &str, to: &str) -> Result<Self, Box<dyn Error>> {
        ip(&format!(
            "link add {from} address 02:00:00:00:00:0a type veth peer name {to} address 02:00:00:00:00:0b"
        ))?;
        let area = FrameArea::new(16384, 2048)?;
        let mut pool = FramePool::new(FrameStore::new(area.clone()));
        let counters = WorkerCounters::default();
        let mut open = |device: &str| -> Result<_, Box<dyn Error>> {
            // No packets of the kernel's own.
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1")?;
            ip(&format!("link set {device} up"))?;
            let options = DeviceOptions { mode, ..DeviceOptions::uplink(Sharing::Exclusive) };
            let (device, mut queues) = Device::open(&area, device, &options)?;
            let mut queue = queues.pop().ok_or("a device without queues")?;
            // Gives the kernel frames to receive into.
            queue.rx_burst(
                PortId(0),
                &mut Burst::default(),
                &mut QueueIo { pool: &mut pool, counters: &counters },
            );
            Ok((device, queue))
        };
        let ((one, from), (two, to)) = (open(from)?, open(to)?);
        Ok(Way { name, pool, counters, from, to, _devices: [one, two] })
    }

    /// Sends packets and receives them; how long that took, `None` where some did not arrive.
    fn turn(&mut self, count: usize, bytes: &[u8], gso: Gso) -> Result<Option<Duration>, Box<dyn Error>> {
        let mut batch = Vec::with_capacity(count);
        for _ in 0..count {
            batch.push(packet(&mut self.pool, bytes, gso).ok_or("no frames")?);
        }
        let wanted = if gso == Gso::NONE { count * bytes.len() } else { DATA };
        let mut burst = Burst::default();
        let start = Instant::now();
        let mut io = QueueIo { pool: &mut self.pool, counters: &self.counters };
        self.from.tx_burst(&mut batch, &mut io);
        let mut got = 0;
        while got < wanted && start.elapsed() < PATIENCE {
            let received = self.to.rx_burst(PortId(1), &mut burst, &mut io);
            for lane in 0..received {
                let packet = burst.take_tx(lane);
                let len = usize::from(packet.len) + io.pool.area().chained_bytes(&packet.frame);
                got += if gso == Gso::NONE { len } else { len.saturating_sub(54) };
                io.pool.free(packet.frame);
            }
            burst.clear();
            self.from.drain(&mut io);
        }
        Ok((got >= wanted).then(|| start.elapsed()))
    }
}

/// A packet in frames.
fn packet(pool: &mut FramePool, bytes: &[u8], gso: Gso) -> Option<TxPacket> {
    let mut pieces = bytes.chunks(pool.area().capacity());
    let mut one = |piece: &[u8]| {
        let mut frame = pool.alloc()?;
        pool.area().bytes_mut(&mut frame, HEADROOM as u16, piece.len() as u16).copy_from_slice(piece);
        Some(frame)
    };
    let first = pieces.next()?;
    let mut chain = Chain::new(one(first)?);
    let rest: Option<Vec<_>> = pieces.map(|piece| Some((one(piece)?, piece.len() as u16))).collect();
    for (frame, len) in rest? {
        chain.append(pool.area(), frame, HEADROOM as u16, len);
    }
    let whole = gso != Gso::NONE;
    let partial = Checksum::Partial { start: HEADROOM as u16 + 34, field: 16 };
    Some(TxPacket {
        frame: chain.finish(),
        offset: HEADROOM as u16,
        len: first.len() as u16,
        in_port: PortId(0),
        checksum: if whole { partial } else { Checksum::Complete },
        gso,
    })
}

const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa, 8, 0];

fn small() -> Vec<u8> {
    let mut bytes =
        [&ETHERNET[..], &[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]].concat();
    bytes.resize(60, 0);
    bytes
}

fn super_packet() -> Vec<u8> {
    let total = (40 + DATA) as u16;
    let mut ip = [0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    let sum = checksum::checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = checksum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6, total - 20);
    let mut tcp = [0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0];
    tcp[16..18].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    [&ETHERNET[..], &ip, &tcp, &vec![7; DATA]].concat()
}

fn ip(arguments: &str) -> Result<(), Box<dyn Error>> {
    let status = Command::new("ip").args(arguments.split_whitespace()).status()?;
    if status.success() { Ok(()) } else { Err(format!("ip {arguments}: {status}").into()) }
}
