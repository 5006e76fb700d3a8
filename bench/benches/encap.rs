//! What does an IPIP tunnel header cost, on and off?

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use encap::tunnel::ipip::{self, OVERHEAD, OuterIpv4};
use encap::wire::checksum;

fn tunnels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("IPIP");
    group.throughput(Throughput::Elements(1));
    let outer = OuterIpv4::new(Ipv4Addr::new(172, 16, 20, 252), Ipv4Addr::new(172, 16, 20, 253));
    let mut inner = vec![0u8; 46];
    inner[0] = 0x45;
    inner[3] = 46;
    inner[8..10].copy_from_slice(&[64, 17]);
    inner[12..20].copy_from_slice(&[10, 100, 36, 103, 10, 100, 169, 176]);
    let sum = checksum::checksum(&inner[..20]);
    inner[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut space = [0; OVERHEAD];
    group.bench_function("push", |bencher| {
        bencher.iter(|| outer.push(black_box(&mut space), black_box(&inner), 46, 1));
    });
    outer.push(&mut space, &inner, 46, 1).expect("the packet is right");
    let mut packet = [space.to_vec(), inner].concat();
    group.bench_function("pop", |bencher| bencher.iter(|| ipip::pop(black_box(&mut packet)).is_ok()));
    group.finish();
}

criterion_group!(benches, tunnels);
criterion_main!(benches);
