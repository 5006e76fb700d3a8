//! What do Internet checksums cost: a header, a full packet, an update by difference?

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use encap::wire::checksum;

fn sums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for len in [20usize, 64, 1460, 9000] {
        let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len} bytes"), |bencher| {
            bencher.iter(|| checksum::checksum(black_box(&bytes)))
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("update of 16 bits", |bencher| {
        bencher.iter(|| checksum::update16(black_box(0x1234), black_box(0x4011), black_box(0x3f11)));
    });
    group.finish();
}

criterion_group!(benches, sums);
criterion_main!(benches);
