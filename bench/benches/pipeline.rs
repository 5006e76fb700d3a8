//! What does a packet cost from receive to transmit, without a kernel?
//!
//! Packets a second by criterion; cycles per packet by the time stamp counter, printed
//! first. One route; destinations as named.

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vrouter_bench::cycles;
use vrouter_bench::rig::{Path, Rig};

const BURST: u64 = 64;

/// Median and least of 200 samples of 50 bursts each.
fn cycles_per_packet(rig: &mut Rig) -> (f64, f64) {
    let mut samples: Vec<u64> = (0..200)
        .map(|_| {
            let start = cycles::now();
            for _ in 0..50 {
                black_box(rig.turn());
            }
            cycles::now() - start
        })
        .collect();
    samples.sort_unstable();
    let each = |sample: u64| sample as f64 / (50 * BURST) as f64;
    (each(samples[100]), each(samples[0]))
}

fn pipeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(BURST));
    for (name, path, destinations) in [
        ("forward, 1 destination", Path::Forward, 1),
        ("forward, 4096 destinations", Path::Forward, 4096),
        ("IPIP encap", Path::Encap, 4096),
        ("IPIP decap", Path::Decap, 4096),
    ] {
        let to: Vec<_> = (0..destinations).map(|n| Ipv4Addr::from(0x1400_0001 + n * 0x1_0107)).collect();
        let mut rig = Rig::new(path, &to);
        let (median, least) = cycles_per_packet(&mut rig);
        println!("pipeline/{name}: {median:.0} cycles per packet, {least:.0} in the best of 200 samples");
        group.bench_function(name, |bencher| bencher.iter(|| rig.turn()));
    }
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
