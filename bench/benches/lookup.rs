//! What does a longest-prefix match cost in a full Internet table, in bursts of 64?
//!
//! | addresses | what |
//! |---|---|
//! | uniform | any address: IPv4 finds a route mostly, IPv6 hardly ever |
//! | in-prefix | a random route, then a random address in it |
//! | Zipf | in-prefix, but few routes get most of the traffic, as in real networks |

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fib::{Address, Fib, FibWriter, GroupId, NO_ROUTE, Prefix};
use vrouter_bench::internet;
use vrouter_bench::random::Random;

/// Addresses of one run: more than the caches hold the paths of.
const ADDRESSES: usize = 1 << 16;

fn table<A: Address>() -> (Vec<Prefix<A>>, Arc<Fib<A>>) {
    let routes = internet::routes::<A>();
    let mut writer = FibWriter::<A>::new();
    for (position, route) in routes.iter().enumerate() {
        let group = GroupId::new(position as u32 & 0xffff).expect("16 bits fit");
        writer.insert(*route, group).expect("the table fits");
    }
    (routes, writer.reader())
}

fn measure<A: Address>(criterion: &mut Criterion, family: &str, random_in: fn(&Prefix<A>, u64, u64) -> A) {
    let (routes, fib) = table::<A>();
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let mut choose = |pick: &mut dyn FnMut(&mut Random) -> Prefix<A>| -> Vec<A> {
        (0..ADDRESSES)
            .map(|_| {
                let route = pick(&mut random);
                random_in(&route, random.next(), random.next())
            })
            .collect()
    };
    let any = |random: &mut Random| routes[(random.next() % routes.len() as u64) as usize];
    // The rank is exponential in a uniform number: density 1/rank, Zipf's law.
    let zipf = |random: &mut Random| {
        let rank = (routes.len() as f64).powf(random.unit()) as usize;
        routes[rank.wrapping_mul(0x9e37_79b1) % routes.len()]
    };
    let runs = [
        ("uniform", choose(&mut |_| Prefix::DEFAULT)),
        ("in-prefix", choose(&mut |random| any(random))),
        ("Zipf", choose(&mut |random| zipf(random))),
    ];
    let mut group = criterion.benchmark_group(format!("lookup {family}, {} routes", routes.len()));
    group.throughput(Throughput::Elements(ADDRESSES as u64));
    for (name, addresses) in &runs {
        let (bursts, _) = addresses.as_chunks::<64>();
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let mut out = [NO_ROUTE; 64];
                for burst in bursts {
                    fib.lookup_burst(black_box(burst), u64::MAX, &mut out);
                    black_box(&out);
                }
            });
        });
    }
    group.finish();
}

fn lookup(criterion: &mut Criterion) {
    measure::<Ipv4Addr>(criterion, "IPv4", |route, random, _| {
        let (first, last) = (u32::from(route.first()), u32::from(route.last()));
        Ipv4Addr::from(first | random as u32 & (last - first))
    });
    measure::<Ipv6Addr>(criterion, "IPv6", |route, high, low| {
        let (first, last) = (u128::from(route.first()), u128::from(route.last()));
        Ipv6Addr::from(first | (u128::from(high) << 64 | u128::from(low)) & (last - first))
    });
}

criterion_group!(benches, lookup);
criterion_main!(benches);
