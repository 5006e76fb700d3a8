//! What does a plain access list cost?
//!
//! `cargo bench -p vrouter-acl --bench list` measures generated lists; `-- make DIR` writes them, and headers for them,
//! as files; `-- run RULES HEADERS ROUNDS` measures files, as `bench/peers/acl` does beside DPDK's rte_acl. Each line
//! says: packets a second, time of the build, memory. FORM=trees, words, tables or vectors in the environment takes that form
//! instead of the one that is thought best.
//!
//! Lists are made at random after ClassBench's kinds: `acl` (long prefixes), `ipc` (the same with more prefixes and some
//! source ports) and `fw` (a third of the addresses are wildcards). Every packet matches some rule.

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Instant;

use acl::list::{BURST, ListKeys, ListRule, NO_RULE, RuleList};
use ipnet::Ipv4Net;

const PACKETS: usize = 1 << 14;
const KINDS: [&str; 3] = ["acl", "ipc", "fw"];
const COUNTS: [usize; 3] = [100, 1000, 10_000];

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

/// What a list compares of a packet: source, destination, source port, destination port, protocol.
#[derive(Clone, Copy)]
struct Header(u32, u32, u16, u16, u8);

/// Prefixes of which many share their first bits.
fn prefixes(random: &mut Random, count: usize, lengths: &[(u8, u64)]) -> Vec<Ipv4Net> {
    let all: u64 = lengths.iter().map(|(_, weight)| weight).sum();
    let mut out: Vec<Ipv4Net> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut left = random.below(all);
        let length = lengths.iter().find(|(_, weight)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        let near = !out.is_empty() && random.below(10) < 7;
        let kept = if near { u32::MAX.checked_shl(32 - random.below(24) as u32).unwrap_or(0) } else { 0 };
        let base = if near { u32::from(random.pick(&out).network()) } else { 0 };
        let address = (base & kept) | (random.next() as u32 & !kept);
        let length = length.map_or(32, |(length, _)| *length);
        out.push(Ipv4Net::new(address.into(), length).expect("a length of the table").trunc());
    }
    out
}

fn ports(random: &mut Random, any: u64) -> RangeInclusive<u16> {
    const USUAL: [u16; 14] = [80, 443, 53, 22, 1521, 1526, 1433, 25, 110, 8080, 3306, 5432, 6000, 1024];
    match (random.below(100) < any, random.below(10)) {
        (true, _) => 0..=u16::MAX,
        (false, 0..8) => {
            let port = random.pick(&USUAL);
            port..=port
        }
        (false, 8) => 1024..=u16::MAX,
        (false, _) => {
            let first = random.below(60_000) as u16;
            first..=first + random.below(2000) as u16
        }
    }
}

fn rules(kind: &str, count: usize, random: &mut Random) -> Vec<ListRule> {
    let lengths: &[(u8, u64)] = match kind {
        "fw" => &[(32, 40), (24, 10), (16, 10), (8, 5), (0, 35)],
        _ => &[(32, 50), (31, 20), (30, 5), (24, 8), (23, 7), (22, 4), (16, 2), (8, 1), (0, 2)],
    };
    let share = if kind == "acl" { 8 } else { 3 };
    let sources = prefixes(random, (count / share).max(8), lengths);
    let destinations = prefixes(random, (count / 3).max(8), lengths);
    (0..count)
        .map(|_| ListRule {
            source: random.pick(&sources),
            destination: random.pick(&destinations),
            source_ports: ports(random, if kind == "acl" { 100 } else { 85 }),
            destination_ports: ports(random, 28),
            protocol: match random.below(100) {
                0..85 => (6, 0xff),
                85..93 => (17, 0xff),
                93..96 => (1, 0xff),
                _ => (0, 0),
            },
        })
        .collect()
}

fn headers(rules: &[ListRule], random: &mut Random) -> Vec<Header> {
    let inside = |random: &mut Random, net: Ipv4Net| {
        u32::from(net.network()) | (random.next() as u32 & !u32::from(net.netmask()))
    };
    let port = |random: &mut Random, range: &RangeInclusive<u16>| {
        range.start() + random.below(u64::from(range.end() - range.start()) + 1) as u16
    };
    (0..PACKETS)
        .map(|_| {
            let rule = random.pick(rules);
            let addresses = (inside(random, rule.source), inside(random, rule.destination));
            let ports = (port(random, &rule.source_ports), port(random, &rule.destination_ports));
            let protocol = if rule.protocol.1 == 0 { 6 } else { rule.protocol.0 };
            Header(addresses.0, addresses.1, ports.0, ports.1, protocol)
        })
        .collect()
}

/// A list's sum of what it finds, as `rte_acl.c` makes it: it counts rules from 1.
fn measure(name: &str, rules: &[ListRule], headers: &[Header], rounds: usize) {
    let start = Instant::now();
    let list = match std::env::var("FORM").as_deref() {
        Ok("trees") => RuleList::of_trees(rules),
        Ok("words") => RuleList::of_words(rules),
        Ok("tables") => RuleList::of_tables(rules),
        Ok("vectors") => RuleList::of_vectors(rules),
        _ => RuleList::new(rules),
    };
    let build = start.elapsed();
    let keys: Vec<(ListKeys, usize)> = headers
        .chunks(BURST)
        .map(|burst| {
            let mut keys = ListKeys::new();
            for (lane, Header(source, destination, sport, dport, protocol)) in burst.iter().enumerate() {
                keys.set_addresses(lane, *source, *destination);
                keys.set_layer4(lane, *protocol, *sport, *dport);
            }
            (keys, burst.len())
        })
        .collect();
    let mut first = [NO_RULE; BURST];
    let mut times: Vec<f64> = (0..rounds.max(1))
        .map(|_| {
            let start = Instant::now();
            keys.iter().for_each(|(keys, count)| list.lookup(black_box(keys), *count, black_box(&mut first)));
            start.elapsed().as_nanos() as f64 / headers.len() as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let mut sum = 0_u64;
    for (keys, count) in &keys {
        list.lookup(keys, *count, &mut first);
        for rule in &first[..*count] {
            sum = sum.wrapping_mul(31).wrapping_add(u64::from(rule.wrapping_add(1)));
        }
    }
    println!(
        "{name} {:.1} M/s build {:.3} s memory {} KiB found {sum:016x}",
        1000.0 / times[times.len() / 2],
        build.as_secs_f64(),
        list.memory() / 1024
    );
}

/// Each generated list with its headers.
fn generated(mut each: impl FnMut(&str, &[ListRule], &[Header])) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for kind in KINDS {
        for count in COUNTS {
            let rules = rules(kind, count, &mut random);
            let headers = headers(&rules, &mut random);
            each(&format!("{kind}-{count}"), &rules, &headers);
        }
    }
}

fn make(dir: &Path) -> std::io::Result<()> {
    let mut result = Ok(());
    generated(|name, rules, headers| {
        let mut text = String::new();
        for ListRule { source, destination, source_ports, destination_ports, protocol } in rules {
            let (sp, dp) = (source_ports, destination_ports);
            let ports = format!("{} : {}\t{} : {}", sp.start(), sp.end(), dp.start(), dp.end());
            let _ = writeln!(
                text,
                "@{source}\t{destination}\t{ports}\t0x{:02x}/0x{:02X}",
                protocol.0, protocol.1
            );
        }
        let mut packets = String::new();
        for Header(source, destination, sport, dport, protocol) in headers {
            let _ = writeln!(packets, "{source}\t{destination}\t{sport}\t{dport}\t{protocol}");
        }
        let written = std::fs::write(dir.join(format!("{name}.rules")), text)
            .and_then(|()| std::fs::write(dir.join(format!("{name}.headers")), packets));
        if result.is_ok() {
            result = written;
        }
    });
    result
}

/// A rule of ClassBench's form.
fn rule(line: &str) -> Option<ListRule> {
    let mut columns = line.strip_prefix('@')?.split('\t');
    let mut next = || columns.next();
    let (source, destination) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let ports = |text: &str| {
        let (low, high) = text.split_once(" : ")?;
        Some(low.parse().ok()?..=high.parse().ok()?)
    };
    let (source_ports, destination_ports) = (ports(next()?)?, ports(next()?)?);
    let (protocol, mask) = next()?.split_once('/')?;
    let hex = |text: &str| u8::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    Some(ListRule {
        source,
        destination,
        source_ports,
        destination_ports,
        protocol: (hex(protocol)?, hex(mask)?),
    })
}

fn header(line: &str) -> Option<Header> {
    let mut columns = line.split('\t');
    let mut next = || columns.next();
    let address = |text: &str| text.parse::<u32>().ok().map(|address| u32::from(Ipv4Addr::from(address)));
    Some(Header(
        address(next()?)?,
        address(next()?)?,
        next()?.parse().ok()?,
        next()?.parse().ok()?,
        next()?.parse().ok()?,
    ))
}

fn lines<T>(path: &str, of: fn(&str) -> Option<T>) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines().map(|line| of(line).unwrap_or_else(|| panic!("{path}: {line}"))).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["make", dir] => make(Path::new(dir)).unwrap_or_else(|error| panic!("{dir}: {error}")),
        ["run", rules, headers, rounds] => {
            let rounds = rounds.parse().expect("ROUNDS is a number");
            measure("list", &lines(rules, rule), &lines(headers, header), rounds);
        }
        _ => generated(|name, rules, headers| measure(name, rules, headers, 101)),
    }
}
