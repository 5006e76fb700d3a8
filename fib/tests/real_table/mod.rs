//! The routes of the Internet, as tests and benches of every crate read them (`#[path]`):
//! `fib/tests/data/ORIGIN.md` says where they come from. And addresses to ask about, with the
//! answers, by a sweep over the sorted routes that shares no code with the table.

#![allow(dead_code, reason = "each user wants a part")]

use core::net::{Ipv4Addr, Ipv6Addr};
use fib::{Address, Prefix};
use std::io::Read;

/// IPv4 and IPv6 routes, one a line.
pub(crate) fn text() -> String {
    let packed = include_bytes!("../data/bart-prefixes.txt.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).expect("gzipped text");
    text
}

/// The routes of one family in ascending order; no default route.
pub(crate) fn routes<A: Address>() -> Vec<Prefix<A>> {
    // Lines of the other family do not parse.
    let mut routes: Vec<Prefix<A>> = text().lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(routes.len(), if A::BITS == 32 { 901_899 } else { 160_147 });
    routes.sort_unstable();
    routes
}

/// First and last address of every route and the addresses beside them, and random ones: half
/// anywhere, half in a route. Ascending.
pub(crate) fn probes<A: Address>(
    routes: &[Prefix<A>],
    count: usize,
    random_in: fn(&Prefix<A>, [u64; 2]) -> A,
) -> Vec<A> {
    let mut probes = Vec::with_capacity(count);
    for route in routes {
        for edge in [route.first(), route.last()] {
            probes.push(edge);
            probes.extend(edge.successor());
            probes.extend(edge.predecessor());
        }
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    while probes.len() < count {
        let route = routes[random() as usize % routes.len()];
        probes.push(random_in(&route, [random(), random()]));
        probes.push(random_in(&Prefix::DEFAULT, [random(), random()]));
    }
    probes.sort_unstable();
    probes
}

/// For each probe, the position of the longest route that contains it.
pub(crate) fn expected<A: Address>(routes: &[Prefix<A>], probes: &[A]) -> Vec<Option<usize>> {
    let mut next = 0;
    let mut open: Vec<usize> = Vec::new();
    let answer = |&probe: &A| {
        while next < routes.len() && routes[next].first() <= probe {
            while open.last().is_some_and(|&last| routes[last].last() < routes[next].first()) {
                open.pop();
            }
            open.push(next);
            next += 1;
        }
        while open.last().is_some_and(|&last| routes[last].last() < probe) {
            open.pop();
        }
        open.last().copied()
    };
    probes.iter().map(answer).collect()
}

/// A random address of a prefix.
pub(crate) fn random_v4(route: &Prefix<Ipv4Addr>, random: [u64; 2]) -> Ipv4Addr {
    let (first, last) = (route.first().to_bits(), route.last().to_bits());
    Ipv4Addr::from_bits(first | random[0] as u32 & (last - first))
}

/// As [`random_v4`].
pub(crate) fn random_v6(route: &Prefix<Ipv6Addr>, random: [u64; 2]) -> Ipv6Addr {
    let (first, last) = (route.first().to_bits(), route.last().to_bits());
    let random = u128::from(random[0]) << 64 | u128::from(random[1]);
    Ipv6Addr::from_bits(first | random & (last - first))
}
