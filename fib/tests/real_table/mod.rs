//! The routes of the Internet, as tests and benches of every crate read them (`#[path]`):
//! `fib/tests/data/ORIGIN.md` says where they come from.

#![allow(dead_code, reason = "who wants the text does not want the routes")]

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
