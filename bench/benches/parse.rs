//! What does it cost to look at a packet: the wire views, and the pipeline's whole parse stage?

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use encap::wire::{ethernet, ipv4, ipv6, ipv6_ext};

fn frames() -> [(&'static str, Vec<u8>); 3] {
    let ethernet = |kind: [u8; 2], packet: Vec<u8>| [vec![2; 12], kind.to_vec(), packet].concat();
    let mut v4 = vec![0; 46];
    v4[0] = 0x45;
    v4[3] = 46;
    v4[8..10].copy_from_slice(&[64, 17]);
    v4[12..16].copy_from_slice(&Ipv4Addr::new(198, 18, 0, 1).octets());
    v4[16..20].copy_from_slice(&Ipv4Addr::new(198, 19, 0, 1).octets());
    let sum = encap::wire::checksum::checksum(&v4[..20]);
    v4[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut v6 = vec![0; 64];
    v6[0] = 0x60;
    v6[5] = 24;
    v6[6..8].copy_from_slice(&[17, 64]);
    let mut extended = v6.clone();
    // Hop-by-hop options of 8 bytes in front of UDP.
    extended[6] = 0;
    extended[40] = 17;
    [
        ("IPv4", ethernet([8, 0], v4)),
        ("IPv6", ethernet([0x86, 0xdd], v6)),
        ("IPv6 with an extension header", ethernet([0x86, 0xdd], extended)),
    ]
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    for (name, frame) in frames() {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let frame = ethernet::Ethernet::new_checked(black_box(&frame[..])).ok()?;
                if frame.ethertype() == ethernet::EtherType::IPV4 {
                    let ip = ipv4::Ipv4::new_checked(frame.payload()).ok()?;
                    return ip.verify_checksum().then(|| (ip.protocol(), ip.header_len()));
                }
                let ip = ipv6::Ipv6::new_checked(frame.payload()).ok()?;
                let upper = ipv6_ext::walk(ip.next_header(), ip.payload()).ok()?;
                Some((upper.protocol, upper.offset))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
