//! A router between exclusive uplinks, for measurements: no configuration file, no API.
//!
//! ```text
//! forwarder --uplink eth1=10.9.0.1/24 --uplink eth2=10.9.1.1/24 --core 0 --idle interrupt
//! ```
//!
//! Prints `ready` when every port is in force, runs until its standard input ends, and then
//! prints what it counted as one JSON object. With `--watch` it prints a JSON object every second
//! before: what the worker carried, and what it says that it can carry.

use std::error::Error;
use std::io::Read;
use std::time::Duration;

use clap::Parser;
use ipnet::IpNet;
use vrouter::drop_reason::DropReason;
use vrouter::port::af_xdp::{Device, DeviceOptions, Sharing, Tuning};
use vrouter::worker::load::LoadMeter;
use vrouter::{PortSpec, Router, clock};
use vrouter_bench::idle::Idle;

/// How often the slow path runs: ARP is all it has to do here.
const SLOW_PATH_TICK: Duration = Duration::from_millis(2);
/// How often the worker's load is told.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(about = "Forwards between exclusive AF_XDP uplinks on one core, for measurements")]
struct Arguments {
    /// An uplink and our address there, such as eth1=10.9.0.1/24; repeat it.
    #[arg(long = "uplink", required = true, value_name = "DEV=ADDRESS/LENGTH", value_parser = uplink)]
    uplinks: Vec<(String, IpNet)>,
    /// The core that the worker is pinned to.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// What the worker does without packets.
    #[arg(long, value_enum, default_value_t = Idle::Adaptive)]
    idle: Idle,
    /// Frames that each queue keeps with the kernel.
    #[arg(long, default_value_t = 2048)]
    fill_depth: u32,
    /// Entries of each ring, a power of two.
    #[arg(long, default_value_t = 2048)]
    ring_size: u32,
    /// Packet frames in all.
    #[arg(long, default_value_t = 16384)]
    frames: u32,
    /// Do not let the kernel sleep until it is woken.
    #[arg(long)]
    no_need_wakeup: bool,
    /// Receive processing in the worker's system calls: MICROSECONDS:PACKETS.
    #[arg(long, value_parser = busy_poll)]
    busy_poll: Option<(u32, u32)>,
    /// Packets sent by one system call, in copy mode.
    #[arg(long, default_value_t = Tuning::default().tx_budget)]
    tx_budget: u32,
    /// Packets received at a time, 1 to 64.
    #[arg(long, default_value_t = Tuning::default().batch)]
    batch: usize,
    /// Tell every second what the worker carries and can carry.
    #[arg(long)]
    watch: bool,
}

fn uplink(text: &str) -> Result<(String, IpNet), String> {
    let (device, address) = text.split_once('=').ok_or("expected DEV=ADDRESS/LENGTH")?;
    Ok((device.to_owned(), address.parse().map_err(|error| format!("{address}: {error}"))?))
}

fn busy_poll(text: &str) -> Result<(u32, u32), String> {
    let (micros, packets) = text.split_once(':').ok_or("expected MICROSECONDS:PACKETS")?;
    let number = |part: &str| part.parse().map_err(|error| format!("{part}: {error}"));
    Ok((number(micros)?, number(packets)?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut router = Router::builder()
        .cores(&[arguments.core])
        .frames(arguments.frames)
        .idle(arguments.idle.into())
        .build()?;
    let mut devices = Vec::new();
    for (name, address) in &arguments.uplinks {
        let mut options = DeviceOptions::uplink(Sharing::Exclusive);
        options.fill_depth = arguments.fill_depth;
        options.ring_size = arguments.ring_size;
        options.rx_ring_size = arguments.ring_size;
        options.tuning.need_wakeup = !arguments.no_need_wakeup;
        options.tuning.busy_poll = arguments.busy_poll;
        options.tuning.tx_budget = arguments.tx_budget;
        options.tuning.batch = arguments.batch;
        let (device, queues) = Device::open(router.frames().area(), name, &options)?;
        let port = router.add_port(PortSpec::uplink(name, device.mac(), [*address]), queues)?;
        eprintln!("{name}: {} queue(s), {}", device.queues(), device.crossing());
        devices.push((name, port, device));
    }
    let workers = router.start()?;
    router.commit()?;
    println!("ready");

    let (ended, end) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        // What is read does not matter, and neither does an error: both mean the end.
        let _ = std::io::stdin().read(&mut [0]);
        drop(ended);
    });
    let (mut meter, mut looked) = (LoadMeter::default(), clock::now());
    while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = end.recv_timeout(SLOW_PATH_TICK) {
        let now = clock::now();
        router.poll_slow_path(now);
        if arguments.watch && now.since(looked) >= LOOK {
            looked = now;
            meter.look(now, &router.workers()[0].counters.run);
            let load = meter.load();
            let told = serde_json::json!({
                "packets_per_second": load.packets_per_second, "packets_per_burst": load.packets_per_burst,
                "busy": load.busy, "capacity": load.capacity.map(|capacity| capacity.packets_per_second),
                "at_least": load.capacity.is_some_and(|capacity| capacity.at_least),
            });
            println!("{told}");
        }
    }
    report(&router, &devices);
    drop(workers);
    Ok(())
}

fn report(router: &Router, devices: &[(&String, vrouter::ids::PortId, Device)]) {
    let counters = &router.workers()[0].counters;
    let mut ports = serde_json::Map::new();
    for (name, port, device) in devices {
        let (passed, redirected, no_socket) = device.program_counters();
        let drops: serde_json::Map<_, _> = DropReason::ALL
            .iter()
            .map(|reason| (reason.name(), counters.drops(*port, *reason).get()))
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_owned(), count.into()))
            .collect();
        let at = counters.port(*port);
        let value = serde_json::json!({
            "rx": at.rx_packets.get(), "tx": at.tx_packets.get(), "drops": drops,
            "kernel_rx_lost": at.kernel_rx_ring_full.get() + at.kernel_fill_empty.get() + at.kernel_rx_dropped.get(),
            "kernel_tx_lost": at.kernel_tx_invalid.get(),
            "xdp": { "passed": passed, "redirected": redirected, "no_socket": no_socket },
        });
        ports.insert((*name).clone(), value);
    }
    let run = &counters.run;
    let all = serde_json::json!({
        "ports": ports,
        "loops": run.loops.get(), "busy_loops": run.busy_loops.get(), "bursts": run.bursts.get(),
        "sleeps": run.sleeps.get(), "busy_ns": run.busy_ns.get(), "total_ns": run.total_ns.get(),
    });
    println!("{all}");
}
