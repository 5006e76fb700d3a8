//! What does the flow table cost?
//!
//! `cargo bench -p vrouter-acl --bench conntrack -- [--rounds N] [--pages huge|small] [NAME...]` prints one line a
//! measurement: name, million operations a second, nanoseconds and time stamp counter cycles each. `bench/peers/conntrack/run`
//! alternates it with DPDK's rte_hash.
//!
//! | name | what |
//! |---|---|
//! | `lookup-uniform`, `lookup-zipf` | bursts of 64 that hit, among 1,000,000 flows in a table for 1,048,576 |
//! | `lookup-cached` | the same, 256 flows that stay in the cache |
//! | `lookup-v6` | the same over IPv6 |
//! | `lookup-miss` | bursts of 64 that miss |
//! | `lookup-90-churn` | 90 % full, after every flow was replaced once |
//! | `create`, `remove` | opening flows in an empty table until 1,000,000; removing them |
//! | `stage-udp`, `stage-tcp` | lookup and tracking, 256 flows that stay in the cache |
//! | `stage-tcp-1m` | the same, uniform among 1,000,000 |
//! | `expire` | the sweep, for each entry that it looks at, nothing to remove |
//! | `two-threads` | uniform lookups on two threads at a time, rate of both |
//! | `churn-two` | two workers on a table that stays about 90 % full by expiry: a quarter of the packets opens flows |
#![allow(unsafe_code)]

mod churn;

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use acl::conntrack::{
    Addresses, Capacity, Conntrack, Found, Headers, LANES, Line, PolicyGenerations, Settings, SideVerdict,
    TcpSegment, Tick, Tuple,
};
use acl::{Action, RuleId, Verdict};

const FLOWS: u32 = 1_000_000;
const CAPACITY: Capacity = Capacity { flows: 1 << 20, endpoints: 2048 };
const SEED: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345];
const NOW: Tick = Tick::from_millis(1_000_000);

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The tuple of flow `n`: pods of one node toward services.
#[derive(Clone, Copy)]
struct Query {
    src: u32,
    dst: u32,
    sport: u16,
    dport: u16,
}

fn query(n: u32) -> Query {
    Query {
        src: 0x0a64_2400 + (n & 0xff),
        dst: 0x0a60_0000 + (n >> 8 & 0x3ff),
        sport: 32768 + (n >> 18 & 0x3fff) as u16,
        dport: 80 + (n >> 16 & 3) as u16,
    }
}

/// The headers of a burst.
struct Queries {
    src: [u32; LANES],
    dst: [u32; LANES],
    sport: [u16; LANES],
    dport: [u16; LANES],
}

impl Queries {
    fn of(burst: &[Query; LANES]) -> Self {
        Queries {
            src: burst.map(|query| query.src),
            dst: burst.map(|query| query.dst),
            sport: burst.map(|query| query.sport),
            dport: burst.map(|query| query.dport),
        }
    }

    fn fill(&self, headers: &mut Headers) {
        headers.src4 = self.src;
        headers.dst4 = self.dst;
        headers.src_port = self.sport;
        headers.dst_port = self.dport;
    }
}

struct Rig {
    table: Conntrack,
    headers: Box<Headers>,
    found: Box<Found>,
    generations: Vec<PolicyGenerations>,
    protocol: u8,
}

impl Rig {
    fn new(huge: bool, protocol: u8) -> Self {
        let memory = Line::boxed(CAPACITY.lines().expect("the capacity is right"));
        if huge {
            collapse(&memory);
        }
        let settings = Settings::of(CAPACITY);
        let table = Conntrack::create(memory, CAPACITY, SEED, &relaxed(settings)).expect("it fits");
        let mut headers = Box::<Headers>::default();
        headers.protocol = [protocol; LANES];
        headers.kind = [0x10; LANES];
        headers.window = [1000; LANES];
        headers.len = [64; LANES];
        let generations = vec![PolicyGenerations::default(); 2048];
        Rig { table, headers, found: Box::default(), generations, protocol }
    }

    fn lookup(&mut self, burst: &Queries) {
        burst.fill(&mut self.headers);
        self.table.lookup(&self.headers, u64::MAX, &self.generations, NOW, &mut self.found);
    }

    fn stage(&mut self, burst: &Queries) {
        self.lookup(burst);
        self.table.track(&self.headers, self.found.hit, NOW, &mut self.found);
    }

    /// Opens the flows of a burst as the packet path does: a lookup, then an insertion for each miss.
    fn create(&mut self, burst: &Queries) {
        self.lookup(burst);
        let side = |endpoint| SideVerdict {
            endpoint,
            verdict: Verdict { action: Action::Allow, rule: RuleId(7) },
            generation: 0,
        };
        for lane in 0..LANES {
            if self.found.first >> lane & 1 != 0 {
                let opened =
                    self.table.insert(&self.headers, lane, side(3), SideVerdict::NONE, NOW, &self.found);
                opened.expect("the table has room");
            }
        }
    }

    fn establish(&mut self, burst: &Queries) {
        if self.protocol == 17 {
            return self.create(burst);
        }
        self.headers.kind = [0x02; LANES];
        self.create(burst);
        for lane in 0..LANES {
            let tuple = Tuple {
                addresses: Addresses::V4(Ipv4Addr::from(burst.dst[lane]), Ipv4Addr::from(burst.src[lane])),
                src_port: burst.dport[lane],
                dst_port: burst.sport[lane],
                protocol: 6,
                icmp_type: 0,
                zone: 0,
            };
            self.headers.set(lane, &tuple);
            let segment = TcpSegment { flags: 0x12, seq: 0, ack: 1, window: 1000, payload: 0, scale: None };
            self.headers.set_tcp(lane, &segment);
        }
        self.table.lookup(&self.headers, u64::MAX, &self.generations, NOW, &mut self.found);
        self.table.track(&self.headers, u64::MAX, NOW, &mut self.found);
        self.headers.kind = [0x10; LANES];
        self.headers.seq = [1; LANES];
        self.headers.ack = [1; LANES];
        self.headers.len = [64; LANES];
        self.stage(burst);
        assert_eq!(self.found.hit, u64::MAX, "the handshake is complete");
    }
}

/// No endpoint limits: the bench has one endpoint.
fn relaxed(mut settings: Settings) -> Settings {
    settings.limits.evictable = u32::MAX;
    settings.limits.evictable_under_pressure = u32::MAX;
    settings
}

/// Puts a table on huge pages, now (MADV_COLLAPSE, Linux 6.1).
fn collapse(memory: &[Line]) {
    const HUGE: usize = 2 << 20;
    let start = memory.as_ptr() as usize;
    let end = start + size_of_val(memory);
    let (from, to) = (start.next_multiple_of(HUGE), end & !(HUGE - 1));
    // The kernel asks to be called again where it could not lock what it needs at once.
    for _ in 0..20 {
        // SAFETY: the range lies within the allocation of `memory`, and the advice changes no content.
        if unsafe { libc::madvise(from as *mut libc::c_void, to - from, 25) } == 0 {
            return;
        }
    }
    eprintln!("no huge pages: {}", std::io::Error::last_os_error());
}

fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC exists on every x86-64 processor and reads no memory.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

/// Times `rounds` runs, each of `operations`, and prints their median.
fn measure(name: &str, operations: u64, rounds: u32, mut run: impl FnMut()) {
    let mut times: Vec<(f64, f64)> = (0..rounds)
        .map(|_| {
            let (start, from) = (Instant::now(), cycles());
            run();
            let ns = start.elapsed().as_nanos() as f64 / operations as f64;
            (ns, (cycles() - from) as f64 / operations as f64)
        })
        .collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ns, spent) = times[times.len() / 2];
    println!("{name} {:.2} M/s {ns:.2} ns {spent:.1} cycles (least {:.2} ns)", 1000.0 / ns, times[0].0);
}

/// Times parts of `queries`, each short enough to run without interruption, and prints the median.
fn measure_bursts(name: &str, queries: &[Query], rounds: u32, mut run: impl FnMut(&Queries)) {
    let bursts = bursts(queries);
    let parts: Vec<&[Queries]> = bursts.chunks(512).collect();
    let mut at = 0;
    measure(name, 512 * LANES as u64, rounds * parts.len() as u32, || {
        parts[at % parts.len()].iter().for_each(&mut run);
        at += 1;
    });
}

fn bursts(queries: &[Query]) -> Vec<Queries> {
    queries.as_chunks().0.iter().map(Queries::of).collect()
}

fn uniform(count: usize) -> Vec<Query> {
    let mut random = Random(1);
    (0..count).map(|_| query((random.next() % u64::from(FLOWS)) as u32)).collect()
}

fn zipf(count: usize) -> Vec<Query> {
    let mut random = Random(2);
    // The rank is exponential in a uniform number: density 1/rank, Zipf's law.
    let rank = |random: &mut Random| f64::from(FLOWS).powf(random.unit()) as u64;
    (0..count)
        .map(|_| query((rank(&mut random).wrapping_mul(0x9e37_79b1) % u64::from(FLOWS)) as u32))
        .collect()
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let rounds = arguments.windows(2).find(|pair| pair[0] == "--rounds").map(|pair| pair[1].clone());
    let rounds = rounds.map_or(7, |rounds| rounds.parse().expect("--rounds takes a number"));
    let huge = !arguments.windows(2).any(|pair| pair == ["--pages", "small"]);
    arguments.retain(|a| a.starts_with(|first: char| first.is_alphabetic()) && a != "huge" && a != "small");
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|a| a == name);
    let count = 1 << 20;

    let all: Vec<Query> = (0..FLOWS).map(query).collect();
    if ["lookup-cached", "lookup-uniform", "lookup-zipf", "lookup-miss", "expire", "two-threads"]
        .iter()
        .any(|n| wanted(n))
    {
        let mut rig = Rig::new(huge, 17);
        bursts(&all).iter().for_each(|burst| rig.create(burst));
        for (name, queries) in [
            ("lookup-cached", (0..count as u32).map(|n| query(n & 0xff)).collect()),
            ("lookup-uniform", uniform(count)),
            ("lookup-zipf", zipf(count)),
        ] {
            if wanted(name) {
                measure_bursts(name, &queries, rounds, |burst| {
                    rig.lookup(burst);
                    black_box(&rig.found);
                });
                assert_eq!(rig.found.hit, u64::MAX);
            }
        }
        if wanted("lookup-miss") {
            let mut absent = uniform(count);
            absent.iter_mut().for_each(|query| query.dport = 443);
            measure_bursts("lookup-miss", &absent, rounds, |burst| {
                rig.lookup(burst);
                black_box(&rig.found);
            });
            assert_eq!(rig.found.hit, 0);
        }
        if wanted("two-threads") {
            two_threads(&rig, &uniform(count), rounds);
        }
        if wanted("expire") {
            measure("expire", u64::from(CAPACITY.flows), rounds, || {
                for _ in 0..CAPACITY.flows / 32 {
                    black_box(rig.table.expire(NOW, 32, &rig.generations));
                }
            });
        }
    }
    if wanted("lookup-90-churn") {
        churn(huge, rounds, count);
    }
    if wanted("lookup-v6") {
        lookup_v6(huge, rounds, count);
    }
    if wanted("churn-two") {
        churn::run(huge, rounds);
    }
    if wanted("create") || wanted("remove") {
        create(huge, rounds, &all);
    }
    for (name, protocol, queries) in [
        ("stage-udp", 17, (0..256).map(query).collect::<Vec<_>>()),
        ("stage-tcp", 6, (0..256).map(query).collect()),
        ("stage-tcp-1m", 6, uniform(count)),
    ] {
        if wanted(name) {
            let mut rig = Rig::new(huge, protocol);
            let flows = if name == "stage-tcp-1m" { &all } else { &queries };
            bursts(flows).iter().for_each(|burst| rig.establish(burst));
            let queries: Vec<Query> = queries.iter().copied().cycle().take(count).collect();
            measure_bursts(name, &queries, rounds, |burst| {
                rig.stage(burst);
                black_box(&rig.found);
            });
            assert_eq!(rig.found.hit, u64::MAX);
        }
    }
}

fn two_threads(rig: &Rig, queries: &[Query], rounds: u32) {
    let bursts = &bursts(queries);
    let (table, generations) = (&rig.table, &rig.generations);
    measure("two-threads", 2 * queries.len() as u64, rounds, || {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(move || {
                    let (mut headers, mut found) = (Box::<Headers>::default(), Box::<Found>::default());
                    headers.protocol = [17; LANES];
                    for burst in bursts {
                        burst.fill(&mut headers);
                        table.lookup(&headers, u64::MAX, generations, NOW, &mut found);
                        black_box(&found);
                    }
                });
            }
        });
    });
}

/// Fills the table to 90 %, replaces every flow by another, then looks up.
fn churn(huge: bool, rounds: u32, count: usize) {
    let mut rig = Rig::new(huge, 17);
    let live = (CAPACITY.flows as usize * 9 / 10) / LANES * LANES;
    let number = |n: usize| query(n as u32);
    let first: Vec<Query> = (0..live).map(number).collect();
    bursts(&first).iter().for_each(|burst| rig.create(burst));
    let second: Vec<Query> = (live..2 * live).map(number).collect();
    for (old, new) in bursts(&first).iter().zip(&bursts(&second)) {
        rig.lookup(old);
        for lane in 0..LANES {
            assert!(rig.table.remove(rig.found.flow[lane]));
        }
        rig.create(new);
    }
    let mut random = Random(3);
    let queries: Vec<Query> = (0..count).map(|_| second[(random.next() % live as u64) as usize]).collect();
    measure_bursts("lookup-90-churn", &queries, rounds, |burst| {
        rig.lookup(burst);
        black_box(&rig.found);
    });
    assert_eq!(rig.found.hit, u64::MAX);
}

fn lookup_v6(huge: bool, rounds: u32, count: usize) {
    let mut rig = Rig::new(huge, 17);
    rig.headers.v6 = u64::MAX;
    let address = |n: u32| 0xfd00_0010_u128 << 96 | u128::from(n);
    let mut run = |burst: &Queries, create: bool| {
        for lane in 0..LANES {
            rig.headers.src6[lane] = address(burst.src[lane]);
            rig.headers.dst6[lane] = address(burst.dst[lane]);
        }
        if create {
            rig.create(burst);
        } else {
            rig.lookup(burst);
            assert_eq!(rig.found.hit, u64::MAX);
        }
    };
    let all: Vec<Query> = (0..FLOWS).map(query).collect();
    bursts(&all).iter().for_each(|burst| run(burst, true));
    measure_bursts("lookup-v6", &uniform(count), rounds, |burst| run(burst, false));
}

fn create(huge: bool, rounds: u32, all: &[Query]) {
    let mut best = [f64::MAX; 2];
    let mut rig = Rig::new(huge, 17);
    let all = bursts(all);
    for _ in 0..rounds {
        let start = Instant::now();
        all.iter().for_each(|burst| rig.create(burst));
        best[0] = best[0].min(start.elapsed().as_nanos() as f64 / f64::from(FLOWS));
        let start = Instant::now();
        for burst in &all {
            rig.lookup(burst);
            (0..LANES).for_each(|lane| assert!(rig.table.remove(rig.found.flow[lane])));
        }
        best[1] = best[1].min(start.elapsed().as_nanos() as f64 / f64::from(FLOWS));
        assert!(rig.table.is_empty());
    }
    println!("create {:.2} M/s {:.2} ns", 1000.0 / best[0], best[0]);
    println!("remove {:.2} M/s {:.2} ns", 1000.0 / best[1], best[1]);
}
