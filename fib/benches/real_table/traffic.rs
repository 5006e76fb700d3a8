//! The full Internet table, and the addresses that it is asked about.
//!
//! | traffic | what |
//! |---|---|
//! | uniform | any address |
//! | in-prefix | a random route, then a random address in it |
//! | zipf | 65,536 destinations drawn as in-prefix; the n-th gets 1/n of what the first gets |

use fib::{Address, Prefix};
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

#[path = "../../tests/real_table/mod.rs"]
mod real_table;

pub(crate) use real_table::routes;

/// Addresses of a trace: more than any cache holds the paths of.
const ADDRESSES: usize = 1 << 20;
const DESTINATIONS: usize = 1 << 16;

pub(crate) const KINDS: [&str; 3] = ["uniform", "in-prefix", "zipf"];

/// xorshift64*: the same numbers in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What a measurement needs to know of an address family.
pub(crate) trait Family: Address {
    const NUMBER: u32;
    /// The address `first + (random masked to the host bits)`.
    fn random_in(route: &Prefix<Self>, random: &mut Random) -> Self;
    /// Host order for IPv4, network order for IPv6, as the peers take them.
    fn write(self, to: &mut impl Write) -> std::io::Result<()>;
}

impl Family for Ipv4Addr {
    const NUMBER: u32 = 4;

    fn random_in(route: &Prefix<Self>, random: &mut Random) -> Self {
        let (first, last) = (route.first().to_bits(), route.last().to_bits());
        Self::from_bits(first | (random.next() >> 32) as u32 & (last - first))
    }

    fn write(self, to: &mut impl Write) -> std::io::Result<()> {
        to.write_all(&self.to_bits().to_ne_bytes())
    }
}

impl Family for Ipv6Addr {
    const NUMBER: u32 = 6;

    fn random_in(route: &Prefix<Self>, random: &mut Random) -> Self {
        let (first, last) = (route.first().to_bits(), route.last().to_bits());
        let any = u128::from(random.next()) << 64 | u128::from(random.next());
        Self::from_bits(first | any & (last - first))
    }

    fn write(self, to: &mut impl Write) -> std::io::Result<()> {
        to.write_all(&self.octets())
    }
}

/// One trace for each of [`KINDS`].
pub(crate) fn traces<A: Family>(routes: &[Prefix<A>]) -> [Vec<A>; 3] {
    let mut random = Random::new();
    let uniform = (0..ADDRESSES).map(|_| A::random_in(&Prefix::DEFAULT, &mut random)).collect();
    let any = |random: &mut Random| {
        let route = &routes[random.below(routes.len())];
        A::random_in(route, random)
    };
    let in_prefix = (0..ADDRESSES).map(|_| any(&mut random)).collect();
    let destinations: Vec<A> = (0..DESTINATIONS).map(|_| any(&mut random)).collect();
    // A rank that is exponential in a uniform number has density 1/rank: Zipf's law.
    let rank = |unit: f64| ((DESTINATIONS as f64 + 1.0).powf(unit) as usize - 1).min(DESTINATIONS - 1);
    let zipf = (0..ADDRESSES).map(|_| destinations[rank(random.unit())]).collect();
    [uniform, in_prefix, zipf]
}

/// Writes routes and traces for a peer in another language.
pub(crate) fn export<A: Family>(directory: &Path) -> std::io::Result<()> {
    let routes = routes::<A>();
    let open = |name: String| std::fs::File::create(directory.join(name)).map(BufWriter::new);
    let mut file = open(format!("prefixes{}.txt", A::NUMBER))?;
    for route in &routes {
        writeln!(file, "{route}")?;
    }
    file.flush()?;
    for (kind, trace) in KINDS.iter().zip(traces(&routes)) {
        let mut file = open(format!("{kind}{}.bin", A::NUMBER))?;
        for addr in trace {
            addr.write(&mut file)?;
        }
        file.flush()?;
    }
    Ok(())
}
