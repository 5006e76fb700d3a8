//! What does a packet cost from receive to transmit, without a kernel?
//!
//! Packets a second by criterion; cycles per packet by the time stamp counter, printed
//! first. One route; destinations as named.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vrouter_bench::cycles;
use vrouter_bench::rig::{Ports, Rig};
use vrouter_bench::workload::Workload;

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
    for workload in Workload::ALL.into_iter().filter(|workload| *workload != Workload::Io) {
        let name = workload.name();
        let mut rig = Rig::new(workload, Ports::default());
        let (median, least) = cycles_per_packet(&mut rig);
        println!("pipeline/{name}: {median:.0} cycles per packet, {least:.0} in the best of 200 samples");
        group.bench_function(name, |bencher| bencher.iter(|| rig.turn()));
    }
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
