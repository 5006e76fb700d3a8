//! What does a longest-prefix match cost in a full Internet table?
//!
//! ```text
//! cargo bench -p vrouter-fib --bench real_table                 the library, the structures that
//!                                                               it was chosen from, other crates
//! cargo bench -p vrouter-fib --bench real_table -- --sizes      rates and memory by table size
//! cargo bench -p vrouter-fib --bench real_table -- --updates    lookups while routes change
//! ```
//!
//! `--json` writes one JSON object a line. `bench/peers/fib/compare` runs the library beside DPDK,
//! by `--export DIR` and `--serve [huge-pages]`.

#![allow(missing_docs, reason = "a program")]

#[cfg(target_arch = "x86_64")]
mod candidates;
mod crates;
mod huge_pages;
mod library;
mod report;
mod traffic;

use fib::{GroupId, Kernel, Prefix};
use library::{Library, group};
use report::Report;
use std::net::{Ipv4Addr, Ipv6Addr};
use traffic::Family;

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let count = args.len();
    args.retain(|arg| arg != "--json");
    let json = args.len() < count;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => {
            all::<Ipv4Addr>(json, [24, 16, 20], crates::ipv4);
            all::<Ipv6Addr>(json, [24, 16, 20], crates::ipv6);
        }
        ["--sizes"] => {
            sizes::<Ipv4Addr>(json);
            sizes::<Ipv6Addr>(json);
        }
        ["--updates"] => {
            Library::<Ipv4Addr>::new(json).lookups_during_updates();
            Library::<Ipv6Addr>::new(json).lookups_during_updates();
        }
        ["--export", directory] => {
            traffic::export::<Ipv4Addr>(directory.as_ref()).expect("the directory is writable");
            traffic::export::<Ipv6Addr>(directory.as_ref()).expect("the directory is writable");
        }
        ["--serve"] => serve(Library::new(true), Library::new(true)),
        ["--serve", "huge-pages"] => serve(Library::in_huge_pages(true), Library::in_huge_pages(true)),
        _ => panic!("arguments: [--sizes | --updates | --export DIR | --serve [huge-pages]] [--json]"),
    }
}

/// One round of measurements for each line of standard input, each ended by an empty line. A line
/// `bulk` asks for bursts by the best kernel alone.
fn serve(mut v4: Library<Ipv4Addr>, mut v6: Library<Ipv6Addr>) {
    println!();
    for line in std::io::stdin().lines() {
        if line.expect("text") == "bulk" {
            v4.bursts(Kernel::best::<Ipv4Addr>());
            v6.bursts(Kernel::best::<Ipv6Addr>());
        } else {
            v4.round();
            v6.round();
        }
        println!();
    }
}

type Crates<A> = fn(&Report, &[Prefix<A>], &[Vec<A>; 3]);

fn all<A: Family>(json: bool, roots: [u8; 3], crates: Crates<A>) {
    Library::<A>::new(json).round();
    let routes = traffic::routes::<A>();
    if A::BITS == 32 {
        // Without room for the front; and with more groups than it can name.
        let limit = 60_000_000;
        Library::of(json, routes.clone(), limit, "vrouter, lines only", group).bursts(Kernel::best::<A>());
        let each = |i| GroupId::new(i as u32).expect("in range");
        Library::of(json, routes.clone(), usize::MAX, "vrouter, a group a route", each)
            .bursts(Kernel::best::<A>());
    }
    let traces = traffic::traces(&routes);
    let report = Report { json, who: String::new(), family: A::NUMBER, routes: routes.len() };
    #[cfg(target_arch = "x86_64")]
    if candidates::can_run() {
        let table: Vec<_> = routes.iter().enumerate().map(|(i, &route)| (route, group(i))).collect();
        for root in roots {
            let rest = if root == 20 { 4 } else { 8 };
            candidates::measure(&report, &candidates::Multibit::new(&table, root, rest), &traces);
        }
        candidates::measure(&report, &candidates::LeafVectors::new(&table, 18), &traces);
    }
    crates(&report, &routes, &traces);
}

/// Tables of so many routes, drawn from the full one.
fn sizes<A: Family>(json: bool) {
    let all = traffic::routes::<A>();
    for count in [1, 10, 100, 1000, 10_000, 30_000, 100_000, 300_000, 1_000_000] {
        let count = count.min(all.len());
        let mut random = traffic::Random::new();
        let mut routes = all.clone();
        for i in 0..count {
            let other = i + random.below(all.len() - i);
            routes.swap(i, other);
        }
        routes.truncate(count);
        routes.sort_unstable();
        let library = Library::of(json, routes, usize::MAX, "vrouter", group);
        library.bursts(Kernel::best::<A>());
        library.singles();
        if count == all.len() {
            break;
        }
    }
}
