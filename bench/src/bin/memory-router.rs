//! The whole packet path without a kernel, on named workloads.
//!
//! ```text
//! memory-router list
//! memory-router serve forward-4096      runs; for each line of standard input one of JSON:
//!                                       packets until now, time stamp counter, nanoseconds
//! memory-router count forward-4096      a fixed number of bursts, for callgrind and quick comparisons
//! memory-router export forward-4096 DIR the packets (pcap) and routes, for other programs
//! ```
//!
//! `bench/instructions` counts the instructions per packet by it.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use fib::AnyPrefix;
use vrouter::clock;
use vrouter::port::synthetic::{Packet, ROTATION};
use vrouter_bench::cycles;
use vrouter_bench::rig::{Floor, Ports, Rig};
use vrouter_bench::workload::Workload;

/// Bursts that are timed at once. Where others take the core away, few slices notice.
const SLICE: usize = 64;

#[derive(Parser)]
#[command(about = "A router between a packet source and a sink in memory, for measurements")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Name the workloads
    List,
    /// Run in a thread; for each line of standard input, print what was forwarded until now
    Serve(What),
    /// Forward a fixed number of bursts
    Count {
        /// How many
        #[arg(long, default_value_t = 2000)]
        bursts: usize,
        #[command(flatten)]
        what: What,
    },
    /// Write the packets as NAME.pcap and the routes as NAME.routes
    Export {
        /// The workload
        #[arg(value_parser = workload)]
        workload: Workload,
        /// The directory to write to
        directory: PathBuf,
    },
}

#[derive(Args)]
struct What {
    /// The workload
    #[arg(value_parser = workload)]
    workload: Workload,
    /// Packets received at a time, 1 to 64
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=64))]
    burst: u8,
    /// Frames in rotation; 0: the frame freed last is used next
    #[arg(long, default_value_t = ROTATION)]
    rotation: usize,
}

impl What {
    fn ports(&self) -> Ports {
        Ports { burst: self.burst.into(), rotation: self.rotation }
    }
}

fn workload(name: &str) -> Result<Workload, String> {
    Workload::find(name).ok_or_else(|| format!("no such workload; there are {}", names().join(", ")))
}

fn names() -> Vec<String> {
    Workload::ALL.iter().map(|workload| workload.name()).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    match Arguments::parse().command {
        Command::List => println!("{}", names().join("\n")),
        Command::Serve(what) if what.workload == Workload::Io => {
            let running = Floor::new(what.ports()).start();
            serve(|| running.sent())?;
        }
        Command::Serve(what) => {
            let running = Rig::new(what.workload, what.ports()).start();
            serve(|| running.sent())?;
        }
        Command::Count { bursts, what } if what.workload == Workload::Io => {
            let mut floor = Floor::new(what.ports());
            count(bursts, || floor.turn());
        }
        Command::Count { bursts, what } => {
            let mut rig = Rig::new(what.workload, what.ports());
            count(bursts, || rig.turn());
        }
        Command::Export { workload, directory } => export(workload, &directory)?,
    }
    Ok(())
}

fn serve(sent: impl Fn() -> u64) -> Result<(), Box<dyn Error>> {
    println!("ready");
    for line in std::io::stdin().lines() {
        line?;
        let (packets, tsc, ns) = (sent(), cycles::now(), clock::now().0);
        println!("{}", serde_json::json!({ "packets": packets, "tsc": tsc, "ns": ns }));
    }
    Ok(())
}

fn count(bursts: usize, mut turn: impl FnMut() -> usize) {
    let mut packets = 0;
    let mut rates = Vec::with_capacity(bursts.div_ceil(SLICE));
    let start = cycles::now();
    for slice in (0..bursts).step_by(SLICE) {
        let start = cycles::now();
        let forwarded: usize = (slice..bursts.min(slice + SLICE)).map(|_| turn()).sum();
        rates.push((cycles::now() - start) as f64 / forwarded as f64);
        packets += forwarded;
    }
    let mean = (cycles::now() - start) as f64 / packets as f64;
    rates.sort_unstable_by(f64::total_cmp);
    let median = rates.get(rates.len() / 2).copied().unwrap_or_default();
    println!("{packets} packets, {mean:.1} cycles each, median of slices {median:.1}");
}

fn export(workload: Workload, directory: &Path) -> Result<(), Box<dyn Error>> {
    let file = |suffix: &str| -> Result<_, Box<dyn Error>> {
        let path = directory.join(format!("{}.{suffix}", workload.name()));
        let file = File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(BufWriter::new(file))
    };
    write_pcap(file("pcap")?, &workload.packets())?;
    let mut routes = file("routes")?;
    for (prefix, next_hop) in workload.routes() {
        match prefix {
            AnyPrefix::V4(prefix) => writeln!(routes, "{prefix} {next_hop}")?,
            AnyPrefix::V6(prefix) => writeln!(routes, "{prefix} {next_hop}")?,
        }
    }
    routes.flush()?;
    Ok(())
}

/// The format of libpcap: microseconds, Ethernet.
fn write_pcap(mut out: impl Write, packets: &[Packet]) -> std::io::Result<()> {
    let header = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1];
    out.write_all(&header.map(u32::to_ne_bytes).concat())?;
    for packet in packets {
        let len = packet.bytes().len() as u32;
        out.write_all(&[0, 0, len, len].map(u32::to_ne_bytes).concat())?;
        out.write_all(packet.bytes())?;
    }
    out.flush()
}
