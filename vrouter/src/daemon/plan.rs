//! What a node will take of memory, before it takes it.
//!
//! Two questions with two answers:
//!
//! * *Does the configuration fit?* `check` and `run` add up what is taken at start whatever
//!   comes ([`fixed_bytes`]) and refuse more than the machine has.
//! * *What does each table take at this size?* `plan` makes the tables, of the sizes asked
//!   for, in its own process and looks at what that took: no list of bytes per route that
//!   grows old beside the code.

use std::net::{IpAddr, Ipv4Addr};

use acl::conntrack::Capacity;
use encap::MacAddr;
use fib::RouteSource;

use crate::config::Config;
use crate::control::engine::net_prefix;
use crate::control::{Encap, Event, PortRole, PortSpec, RouteSpec, RouteTarget};
use crate::counters::WorkerCounters;
use crate::daemon::check;
use crate::daemon::node::NodeError;
use crate::daemon::resources::Resources;
use crate::ids::{MAX_PORTS, Timestamp};
use crate::port::memory::MemoryPort;
use crate::router::{Router, RouterError};

/// Bytes of a frame beside its own: links, free list.
const FRAME_BOOK: u64 = 8 + 16;
/// Bytes of a flow, with its share of the buckets (measured by a test of `acl`: at most 128).
const FLOW: u64 = 128;
/// What a running node takes beside its tables and this program: sockets' rings, threads,
/// API, netlink.
const AGENT: u64 = 5 << 20;
/// Most routes and pods that are made to see what they take.
const MOST_ROUTES: u32 = 4_000_000;

/// The sizes to plan for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Demand {
    /// Pods, those of the configuration included.
    pub pods: u32,
    /// Workers.
    pub workers: u16,
    /// Routes.
    pub routes: u32,
    /// Flows.
    pub flows: u32,
}

impl Demand {
    /// What the configuration itself names.
    pub fn of(config: &Config) -> Self {
        Demand {
            pods: config.pods.len() as u32,
            workers: config.workers.cores.len().max(1) as u16,
            routes: config.routes.len() as u32,
            flows: *config.memory.flows,
        }
    }
}

/// A table and what it takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What it is, with its size.
    pub name: String,
    /// Bytes in memory.
    pub bytes: u64,
}

/// The outcome of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The parts, large or small.
    pub parts: Vec<Part>,
    /// What the machine, and the control group of this process, have left.
    pub available: u64,
    /// Frames that the ports need at least, beside those that the configuration has.
    pub frames: (u32, u32),
}

impl Plan {
    /// All parts.
    pub fn total(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// Bytes that a node of this configuration takes at start, whatever comes.
pub fn fixed_bytes(config: &Config) -> u64 {
    let frames = u64::from(*config.memory.frames);
    let workers = config.workers.cores.len().max(1) as u64;
    frames * (u64::from(*config.memory.frame_size) + FRAME_BOOK)
        + u64::from(*config.memory.flows) * FLOW
        + workers * WorkerCounters::BYTES as u64
}

/// Bytes that this process may still take: of the machine, and of its control group.
pub fn available_bytes() -> u64 {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let meminfo = text("/proc/meminfo");
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| number(line.trim().trim_end_matches(" kB")));
    let machine = kilobytes.map_or(u64::MAX, |kilobytes| kilobytes * 1024);
    let groups = text("/proc/self/cgroup");
    let left = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (dir, limit, used) = match controllers {
            "" => ("/sys/fs/cgroup".to_owned(), "memory.max", "memory.current"),
            "memory" => {
                let files = ("memory.limit_in_bytes", "memory.usage_in_bytes");
                ("/sys/fs/cgroup/memory".to_owned(), files.0, files.1)
            }
            _ => return None,
        };
        let read = |file: &str| number(&text(&format!("{dir}{path}/{file}")));
        Some(read(limit)?.saturating_sub(read(used)?))
    });
    left.fold(machine, u64::min)
}

/// Makes the tables and looks at what each took.
///
/// # Errors
/// What cannot be made: too many of something, or no memory for it.
pub fn plan(config: &Config, demand: Demand) -> Result<Plan, NodeError> {
    let invalid = |what: &str, most: u64| NodeError::Invalid(format!("at most {most} {what} can be planned"));
    if demand.pods as usize >= MAX_PORTS {
        return Err(invalid("pods", MAX_PORTS as u64 - 1));
    }
    if demand.routes > MOST_ROUTES {
        return Err(invalid("routes", MOST_ROUTES.into()));
    }
    if !(1..=Capacity::MAX_FLOWS).contains(&demand.flows) {
        let most = Capacity::MAX_FLOWS;
        return Err(NodeError::Invalid(format!(
            "flows: {} cannot be planned, but 1 to {most}",
            demand.flows
        )));
    }
    let available = available_bytes();
    let frame_bytes = u64::from(*config.memory.frames) * (u64::from(*config.memory.frame_size) + FRAME_BOOK);
    let flow_bytes = u64::from(demand.flows) * FLOW;
    // Beyond this nothing can be tried out.
    if frame_bytes + flow_bytes > available {
        return Err(NodeError::Invalid(format!(
            "{} MiB of frames and {} MiB of flows are more than the {} MiB that are available",
            frame_bytes >> 20,
            flow_bytes >> 20,
            available >> 20
        )));
    }
    let mut parts = vec![Part { name: "program and agent".to_owned(), bytes: resident_bytes() + AGENT }];
    let mut last = resident_bytes();
    let mut grown = || {
        let now = resident_bytes();
        now.saturating_sub(core::mem::replace(&mut last, now))
    };
    // The node keeps them by name, beside the tables made of them.
    let named = Resources::of_config(config);
    parts.push(Part { name: format!("{} pools and routes of the file", named.count()), bytes: grown() });
    let mut router = Router::builder()
        .workers(demand.workers)
        .frames(*config.memory.frames)
        .frame_size(*config.memory.frame_size)
        .flows(demand.flows)
        .build()?;
    let made = grown();
    let flow_bytes = flow_bytes.min(made.saturating_sub(frame_bytes));
    let mut add = |name: String, bytes: u64| parts.push(Part { name, bytes });
    add(
        format!("{} frames of {} B", *config.memory.frames, *config.memory.frame_size),
        frame_bytes.min(made),
    );
    add(format!("{} flows", demand.flows), flow_bytes);
    let rest = made.saturating_sub(frame_bytes + flow_bytes);
    add(format!("{} workers, empty tables", demand.workers), rest);
    add_pods(&mut router, demand.pods)?;
    add(format!("{} pods", demand.pods), grown());
    add_routes(&mut router, demand.routes)?;
    add(format!("{} routes", demand.routes), grown());
    drop(named);
    let needed = check::frames_needed(config);
    Ok(Plan { parts, available, frames: (needed, *config.memory.frames) })
}

fn add_pods(router: &mut Router, pods: u32) -> Result<(), RouterError> {
    for pod in 0..pods {
        let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + pod));
        let mac = MacAddr([2, 0, 0, 0, (pod >> 8) as u8, pod as u8]);
        let spec = PortSpec::pod(&format!("plan/pod{pod}"), mac, [address]);
        // A wire without depth: what it would hold is no part of a tap.
        router.add_port(spec, vec![Box::new(MemoryPort::with_host(1).0)])?;
        if pod % 64 == 0 {
            // Workers take what they were told, so that there is room to tell them more.
            router.poll(Timestamp::default())?;
        }
    }
    router.commit()?;
    router.poll(Timestamp::default())?;
    Ok(())
}

fn add_routes(router: &mut Router, routes: u32) -> Result<(), RouterError> {
    if routes == 0 {
        return Ok(());
    }
    let net = "172.31.255.1/24".parse().map_err(|_| RouterError::NotHere)?;
    let mut uplink = PortSpec::uplink("plan", MacAddr([2, 0, 0, 0, 0, 1]), [net]);
    if let PortRole::Uplink { exclusive, .. } = &mut uplink.role {
        *exclusive = false;
    }
    router.add_port(uplink, vec![Box::new(MemoryPort::with_host(1).0)])?;
    let via: Vec<IpAddr> = vec![Ipv4Addr::new(172, 31, 255, 2).into()];
    for route in 0..routes {
        // One /24 in four, about as dense as a table of the Internet.
        let network = Ipv4Addr::from(0x0100_0000_u32.wrapping_add(route << 10));
        let Ok(prefix) = ipnet::Ipv4Net::new(network, 24) else { continue };
        router.apply(Event::PutRoute(RouteSpec {
            prefix: net_prefix(prefix.into()),
            source: RouteSource::Static,
            target: RouteTarget::Via(via.clone(), Encap::None),
            metric: 0,
        }))?;
    }
    router.commit()?;
    router.poll(Timestamp::default())?;
    Ok(())
}

/// The process's resident set (proc(5): `VmRSS`, in units of 1024 bytes).
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
