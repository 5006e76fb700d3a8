//! What does a change of tables cost: the writer who publishes, the worker who adopts?

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use fib::RouteSource;
use vrouter::Event;
use vrouter::control::engine::net_prefix;
use vrouter::control::{RouteSpec, RouteTarget};
use vrouter::publish;
use vrouter_bench::rig::{Ports, Rig};
use vrouter_bench::workload::Workload;

fn publication(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    let (mut publisher, mut subscribers) = publish::channel(Arc::new(0u64), 1);
    let mut subscriber = subscribers.remove(0);
    subscriber.online();
    group.bench_function("nothing new: refresh, once a burst", |bencher| {
        bencher.iter(|| black_box(subscriber.refresh()));
    });
    let mut generation = 0;
    group.bench_function("new tables: publish, adopt, collect", |bencher| {
        bencher.iter(|| {
            generation += 1;
            publisher.publish(Arc::new(generation));
            subscriber.refresh();
            publisher.collect()
        });
    });

    let mut rig = Rig::new(Workload::Forward(1), Ports::default());
    let (mut number, mut present) = (0u32, false);
    group.bench_function("a route of a running router: apply, commit, a burst", |bencher| {
        bencher.iter(|| {
            let net =
                ipnet::IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::from(0x1400_0000 | number << 8), 24));
            let prefix = net_prefix(net);
            let event = if present {
                number = (number + 1) & 0xfff;
                Event::RemoveRoute(prefix, RouteSource::Static)
            } else {
                Event::PutRoute(RouteSpec {
                    prefix,
                    source: RouteSource::Static,
                    target: RouteTarget::Blackhole,
                    metric: 0,
                })
            };
            present = !present;
            rig.router().apply(event).expect("a right event");
            rig.router().commit().expect("a route fits");
            rig.turn()
        });
    });
    group.finish();
}

criterion_group!(benches, publication);
criterion_main!(benches);
