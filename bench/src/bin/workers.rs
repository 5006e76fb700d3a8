//! Workers in threads between ports in memory, generator and sink inside of them: what a second
//! core brings, and whether the head-room that a worker reports is there.
//!
//! ```text
//! workers scale    --rounds 7         packets a second with one worker and with two, alternating
//! workers headroom --idle poll        at 5, 10, 25, 50, 75 % load: the capacity it reports, then the real one
//! ```
//!
//! Each worker receives from a queue of its own that copies 64 bytes into a fresh frame, and
//! sends to one that keeps 16,384 frames before it frees the oldest, as a device would.
//! Numbers go to standard output, and as JSON to standard error.

use core::net::{IpAddr, Ipv4Addr};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use encap::MacAddr;
use encap::wire::checksum;
use fib::RouteSource;
use serde_json::json;
use vrouter::burst::{Burst, LANES, TxPacket};
use vrouter::control::engine::net_prefix;
use vrouter::control::{Encap, PortRole, RouteSpec, RouteTarget};
use vrouter::frame::FramePool;
use vrouter::ids::PortId;
use vrouter::port::synthetic::{Packet, ROTATION, Sink, Source};
use vrouter::port::{PortQueue, QueueIo};
use vrouter::tables::NeighborState;
use vrouter::worker::load::LoadMeter;
use vrouter::{Event, IdleMode, PortSpec, Router, clock};
use vrouter_bench::cycles;
use vrouter_bench::idle::Idle;

/// Bytes of a frame without FCS.
const LEN: usize = 60;
/// Packets that wait in a source at most, as in the ring of a device.
const RING: f64 = 2048.0;
/// No limit of a source's rate.
const UNLIMITED: u64 = 0;

#[derive(Parser)]
#[command(about = "Measures workers in threads between ports in memory", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Destinations, over one route.
    #[arg(long, default_value_t = 4096, global = true)]
    destinations: u32,
    /// Length of one measurement.
    #[arg(long, default_value_t = 1.0, global = true)]
    seconds: f64,
}

#[derive(Subcommand)]
enum Command {
    /// One worker beside two.
    Scale {
        /// Alternations.
        #[arg(long, default_value_t = 7)]
        rounds: u32,
        /// The cores.
        #[arg(long, value_delimiter = ',', default_values_t = [0, 1])]
        cores: Vec<usize>,
    },
    /// The head-room that one worker reports beside what it then carries.
    Headroom {
        /// What it does without packets.
        #[arg(long, value_enum, default_value_t = Idle::Poll)]
        idle: Idle,
        /// The core.
        #[arg(long, default_value_t = 0)]
        core: usize,
        /// Loads at which it is asked, in percent of what it carries.
        #[arg(long, value_delimiter = ',', default_values_t = [5, 10, 25, 50, 75])]
        loads: Vec<u64>,
        /// Seconds for which the worker is looked at before it is asked.
        #[arg(long, default_value_t = 4)]
        watch: u64,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let window = Duration::from_secs_f64(arguments.seconds);
    match &arguments.command {
        Command::Scale { rounds, cores } => scale(cores, *rounds, arguments.destinations, window),
        Command::Headroom { idle, core, loads, watch } => {
            let watch = Duration::from_secs(*watch);
            headroom(*idle, *core, loads, watch, arguments.destinations, window)
        }
    }
}

fn scale(cores: &[usize], rounds: u32, destinations: u32, window: Duration) -> Result<(), Box<dyn Error>> {
    let [mut rates, mut of_own_cores, mut shares] = [const { [const { Vec::new() }; 2] }; 3];
    for _ in 0..rounds {
        for (at, cores) in [&cores[..1], cores].into_iter().enumerate() {
            let (rates, of_own_cores, shares) = (&mut rates[at], &mut of_own_cores[at], &mut shares[at]);
            let mut bench = Bench::new(cores, IdleMode::Poll, destinations)?;
            let threads = bench.router.start()?;
            std::thread::sleep(window / 4);
            let (ran, sent, start) = (workers_ran()?, bench.sent_by_worker(), Instant::now());
            std::thread::sleep(window);
            let (ran, passed) = (since(&workers_ran()?, &ran), start.elapsed().as_secs_f64());
            let sent = since(&bench.sent_by_worker(), &sent);
            rates.push(sent.iter().sum::<f64>() / passed);
            // What each would have carried with a core of its own.
            let own = sent.iter().zip(&ran).map(|(sent, ran)| sent * 1e9 / ran).sum::<f64>();
            of_own_cores.push(own);
            shares.push(ran.iter().map(|ran| ran / 1e9 / passed).sum::<f64>() / cores.len() as f64);
            drop(threads);
        }
    }
    let many = cores.len();
    println!("           Mpps   if each had had its core alone   share of their cores that they had");
    for (workers, at) in [(1, 0), (many, 1)] {
        let (rate, own) = (median(&rates[at]) / 1e6, median(&of_own_cores[at]) / 1e6);
        println!("{workers} worker(s) {rate:6.2}  {own:6.2}  {:26.1}%", 100.0 * median(&shares[at]));
    }
    let [ratios, own_ratios] = [&rates, &of_own_cores]
        .map(|rates| -> Vec<f64> { rates[0].iter().zip(&rates[1]).map(|(one, all)| all / one).collect() });
    let [ratio, own_ratio] = [median(&ratios), median(&own_ratios)];
    println!("ratio       {ratio:6.2}  {own_ratio:6.2}  (medians of {rounds} pairs)");
    let found = json!({
        "schema": 2, "workers": many, "rates": rates, "ratios": ratios, "ratio": ratio,
        "rates_of_own_cores": of_own_cores, "ratio_of_own_cores": own_ratio, "shares_of_cores": shares,
    });
    eprintln!("{found}");
    Ok(())
}

/// Nanoseconds for which each worker has run, in their order.
fn workers_ran() -> Result<Vec<f64>, Box<dyn Error>> {
    let mut found = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let path = thread?.path();
        let name = std::fs::read_to_string(path.join("comm"))?;
        if name.starts_with("worker") {
            let ran = std::fs::read_to_string(path.join("schedstat"))?;
            found.push((name, ran.split(' ').next().unwrap_or_default().parse()?));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found.into_iter().map(|(_, ran)| ran).collect())
}

fn since(now: &[f64], before: &[f64]) -> Vec<f64> {
    now.iter().zip(before).map(|(now, before)| now - before).collect()
}

fn headroom(
    idle: Idle,
    core: usize,
    loads: &[u64],
    watch: Duration,
    destinations: u32,
    window: Duration,
) -> Result<(), Box<dyn Error>> {
    let full = |bench: &Bench| {
        bench.pace.store(UNLIMITED, Relaxed);
        std::thread::sleep(window / 4);
        bench.rate(window)
    };
    let mut bench = Bench::new(&[core], idle.into(), destinations)?;
    let threads = bench.router.start()?;
    let most = full(&bench);
    drop(threads);
    let mut rows = Vec::new();
    println!("load  Mpps   per burst  busy    reported Mpps  then carried  reported / carried");
    for load in loads {
        // A router of its own: a former look at full bursts would tell it everything.
        let mut bench = Bench::new(&[core], idle.into(), destinations)?;
        bench.pace.store((most * *load as f64 / 100.0) as u64, Relaxed);
        let threads = bench.router.start()?;
        let run = bench.router.workers()[0].counters.clone();
        std::thread::sleep(window / 4);
        let mut meter = LoadMeter::default();
        meter.look(clock::now(), &run.run);
        std::thread::sleep(watch);
        meter.look(clock::now(), &run.run);
        let told = meter.load().clone();
        let carried = full(&bench);
        drop(threads);
        let capacity = told.packets_per_second + told.headroom().unwrap_or(0.0);
        let at_least = told.capacity.is_some_and(|capacity| capacity.at_least);
        println!(
            "{load:3}%  {:5.2}  {:9.1}  {:5.1}%  {}{:13.2}  {:12.2}  {:.2}",
            told.packets_per_second / 1e6,
            told.packets_per_burst,
            told.busy * 100.0,
            if at_least { ">" } else { " " },
            capacity / 1e6,
            carried / 1e6,
            capacity / carried
        );
        rows.push(json!({
            "load_percent": load, "packets_per_second": told.packets_per_second,
            "packets_per_burst": told.packets_per_burst, "busy": told.busy, "at_least": at_least,
            "reported": capacity, "carried": carried, "ratio": capacity / carried,
        }));
    }
    eprintln!("{}", json!({ "schema": 1, "idle": format!("{idle:?}").to_lowercase(), "rows": rows }));
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// A router with a source and a sink for each worker.
struct Bench {
    router: Router,
    sink: PortId,
    /// Packets a second of each source.
    pace: Arc<AtomicU64>,
}

impl Bench {
    fn new(cores: &[usize], idle: IdleMode, destinations: u32) -> Result<Self, Box<dyn Error>> {
        let frames = u32::try_from(cores.len() * (ROTATION + 4096))?;
        let mut router = Router::builder().cores(cores).frames(frames).idle(idle).build()?;
        let (near, far) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let spec = |name: &str, mac, net: &str| -> Result<PortSpec, Box<dyn Error>> {
            let mut spec = PortSpec::uplink(name, mac, [net.parse()?]);
            if let PortRole::Uplink { exclusive, .. } = &mut spec.role {
                // The kernel's neighbours, so that no ARP is in the way.
                *exclusive = false;
            }
            Ok(spec)
        };
        let pace = Arc::new(AtomicU64::new(UNLIMITED));
        let sources = (0..cores.len()).map(|queue| -> Box<dyn PortQueue> {
            Box::new(Paced::new(near, queue as u32, destinations, pace.clone()))
        });
        let sinks = cores.iter().map(|_| -> Box<dyn PortQueue> { Box::new(Sink::new(ROTATION)) });
        router.add_port(spec("in", near, "172.16.1.1/24")?, sources.collect())?;
        let sink = router.add_port(spec("out", far, "172.16.2.1/24")?, sinks.collect())?;
        let next_hop: IpAddr = Ipv4Addr::new(172, 16, 2, 2).into();
        router.apply(Event::PutRoute(RouteSpec {
            prefix: net_prefix("0.0.0.0/0".parse()?),
            source: RouteSource::Static,
            target: RouteTarget::Via(vec![next_hop], Encap::None),
            metric: 0,
        }))?;
        router.commit()?;
        router.neighbor(sink, next_hop, NeighborState::Usable(MacAddr([2, 0, 0, 0, 0, 3])));
        router.commit()?;
        Ok(Bench { router, sink, pace })
    }

    fn sent_by_worker(&self) -> Vec<f64> {
        let workers = self.router.workers().iter();
        workers.map(|worker| worker.counters.port(self.sink).tx_packets.get() as f64).collect()
    }

    /// Packets a second that are forwarded.
    fn rate(&self, window: Duration) -> f64 {
        let (before, start) = (self.sent_by_worker(), Instant::now());
        std::thread::sleep(window);
        let after = self.sent_by_worker();
        since(&after, &before).iter().sum::<f64>() / start.elapsed().as_secs_f64()
    }
}

fn datagram(mac: MacAddr, source: Ipv4Addr, to: Ipv4Addr) -> Packet {
    let mut frame = [0; LEN];
    frame[..6].copy_from_slice(&mac.0);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let header = &mut frame[14..34];
    header[..2].copy_from_slice(&[0x45, 0]);
    header[2..4].copy_from_slice(&(LEN as u16 - 14).to_be_bytes());
    header[6] = 0x40;
    header[8] = 64;
    header[9] = 17;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = checksum::checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Packet::new(&frame)
}

/// Makes packets, all that are due by its pace or as many as are asked for.
struct Paced {
    source: Source,
    pace: Arc<AtomicU64>,
    cycles_per_second: f64,
    last: u64,
    due: f64,
}

impl Paced {
    fn new(mac: MacAddr, queue: u32, destinations: u32, pace: Arc<AtomicU64>) -> Self {
        let from = Ipv4Addr::new(198, 18, 0, 1 + queue as u8);
        let to = |n: u32| Ipv4Addr::from(0x1400_0001 + n * 0x1_0107);
        let source = Source::new((0..destinations).map(|n| datagram(mac, from, to(n))).collect(), LANES);
        let (start, before) = (Instant::now(), cycles::now());
        std::thread::sleep(Duration::from_millis(20));
        let cycles_per_second = (cycles::now() - before) as f64 / start.elapsed().as_secs_f64();
        Paced { source, pace, cycles_per_second, last: cycles::now(), due: 0.0 }
    }

    /// Packets that have come and were not taken yet.
    fn come(&mut self) -> usize {
        let now = cycles::now();
        let passed = (now - core::mem::replace(&mut self.last, now)) as f64;
        let rate = match self.pace.load(Relaxed) {
            UNLIMITED => f64::INFINITY,
            pace => pace as f64 / self.cycles_per_second,
        };
        self.due = (self.due + passed * rate).min(RING);
        self.due as usize
    }
}

impl PortQueue for Paced {
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        let quota = self.come().min(burst.room());
        self.due -= quota as f64;
        self.source.receive(quota, port, burst, io)
    }

    fn is_half_full(&mut self) -> bool {
        2 * self.come() >= RING as usize
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        self.source.tx_burst(batch, io)
    }

    fn close(self: Box<Self>, _pool: &mut FramePool) {}
}
