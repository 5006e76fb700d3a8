//! What runs inside the namespaces of a measurement: a generator, or a router. Both say `ready` and
//! go on until their standard input ends.

use std::io::Read as _;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use encap::MacAddr;
use encap::wire::checksum;
use fib::RouteSource;
use ipnet::IpNet;
use vrouter::burst::{Checksum, Gso, TxPacket};
use vrouter::control::engine::net_prefix;
use vrouter::control::{Encap, RouteSpec, RouteTarget};
use vrouter::counters::WorkerCounters;
use vrouter::frame::{FrameArea, FramePool, FrameStore, HEADROOM};
use vrouter::ids::PortId;
use vrouter::port::QueueIo;
use vrouter::port::af_xdp::{Device, DeviceOptions, Sharing};
use vrouter::{Event, IdleMode, PortSpec, Router, clock};

use crate::failure::Failure;

/// How often the slow path of the router runs: ARP is all it has to do.
const TICK: Duration = Duration::from_millis(2);
const BATCH: usize = 64;
const FRAMES: u32 = 16_384;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Generator,
    Router,
}

#[derive(Args)]
pub(crate) struct Role {
    kind: Kind,
    /// The core of the router's worker.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Each device, and the address on it.
    #[arg(long = "device", value_parser = device)]
    devices: Vec<(String, IpNet)>,
    /// MAC address that the generator sends to.
    #[arg(long, default_value = "00:00:00:00:00:00")]
    to_mac: MacAddr,
    /// Prefix that packets go to, and the router behind which it is.
    #[arg(long)]
    route: IpNet,
    #[arg(long)]
    via: std::net::IpAddr,
}

fn device(text: &str) -> Result<(String, IpNet), String> {
    let (name, address) = text.split_once('=').ok_or("expected DEVICE=ADDRESS/LENGTH")?;
    Ok((name.to_owned(), address.parse().map_err(|error| format!("{address}: {error}"))?))
}

/// Runs a role to its end.
pub(crate) fn run(role: &Role) -> Result<(), Failure> {
    match role.kind {
        Kind::Generator => generate(role),
        Kind::Router => route(role),
    }
}

/// Ends when standard input does.
fn end_of_input() -> mpsc::Receiver<()> {
    let (ended, end) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        // What is read does not matter, and neither does an error: both mean the end.
        let _ = std::io::stdin().read(&mut [0]);
        drop(ended);
    });
    end
}

fn problem(error: &dyn std::fmt::Display) -> Failure {
    Failure::from(error.to_string())
}

fn generate(role: &Role) -> Result<(), Failure> {
    let (name, address) = role.devices.first().ok_or_else(|| problem(&"no device"))?;
    let area = FrameArea::new(FRAMES, 2048)?;
    let mut pool = FramePool::new(FrameStore::new(area.clone()));
    let options = DeviceOptions::uplink(Sharing::Exclusive);
    let (device, mut queues) = Device::open(&area, name, &options).map_err(|error| problem(&error))?;
    let counters = WorkerCounters::default();
    let mut frame = datagram(role.to_mac, device.mac(), *address, role.route);
    let mut batch = Vec::with_capacity(BATCH);
    let mut flow = 0u16;
    println!("ready");
    let end = end_of_input();
    while matches!(end.try_recv(), Err(TryRecvError::Empty)) {
        for _ in 0..BATCH {
            let Some(mut chunk) = pool.alloc() else { break };
            // The source port tells the flows apart.
            frame[34..36].copy_from_slice(&flow.to_be_bytes());
            flow = flow.wrapping_add(1);
            area.chunk_mut(&mut chunk)[HEADROOM..HEADROOM + frame.len()].copy_from_slice(&frame);
            batch.push(TxPacket {
                frame: chunk,
                offset: HEADROOM as u16,
                len: frame.len() as u16,
                in_port: PortId(0),
                checksum: Checksum::Complete,
                gso: Gso::default(),
            });
        }
        queues[0].tx_burst(&mut batch, &mut QueueIo { pool: &mut pool, counters: &counters });
    }
    queues.into_iter().for_each(|queue| queue.close(&mut pool));
    Ok(())
}

/// A UDP datagram to the first address of `to`, without checksum.
fn datagram(to_mac: MacAddr, from_mac: MacAddr, from: IpNet, to: IpNet) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&to_mac.0);
    frame[6..12].copy_from_slice(&from_mac.0);
    frame[12..14].copy_from_slice(&[8, 0]);
    let (ip, udp) = frame[14..].split_at_mut(20);
    ip[..10].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17]);
    let octets = |net: IpNet| match net {
        IpNet::V4(net) => net.addr().octets(),
        IpNet::V6(_) => [0; 4],
    };
    ip[12..16].copy_from_slice(&octets(from));
    ip[16..].copy_from_slice(&octets(to));
    ip[19] |= 1;
    let sum = checksum::checksum(ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    udp[2..6].copy_from_slice(&[0, 9, 0, 26]);
    frame
}

fn route(role: &Role) -> Result<(), Failure> {
    let builder = Router::builder().cores(&[role.core]).frames(FRAMES).idle(IdleMode::Adaptive);
    let mut router = builder.build().map_err(|error| problem(&error))?;
    let mut open = Vec::new();
    for (name, address) in &role.devices {
        let options = DeviceOptions::uplink(Sharing::Exclusive);
        let (device, queues) =
            Device::open(router.frames().area(), name, &options).map_err(|error| problem(&error))?;
        router
            .add_port(PortSpec::uplink(name, device.mac(), [*address]), queues)
            .map_err(|error| problem(&error))?;
        open.push(device);
    }
    let spec = RouteSpec {
        prefix: net_prefix(role.route),
        source: RouteSource::Static,
        target: RouteTarget::Via(vec![role.via], Encap::None),
        metric: 0,
    };
    router.apply(Event::PutRoute(spec)).map_err(|error| problem(&error))?;
    let workers = router.start().map_err(|error| problem(&error))?;
    router.commit().map_err(|error| problem(&error))?;
    println!("ready");
    let end = end_of_input();
    while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(TICK) {
        router.poll_slow_path(clock::now());
    }
    drop(workers);
    Ok(())
}
