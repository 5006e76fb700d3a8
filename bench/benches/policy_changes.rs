//! What does a change of policy cost, from a resource to programs and sets that workers could adopt?
//!
//! | change | beside it |
//! |---|---|
//! | a pod joins a set of `members` pods that 1,000 policies ask for, and leaves it | 100, 1,000, 10,000 members |
//! | one label of a pod changes, and changes back: it leaves the set and joins it | the same |
//! | one policy of `policies` gets another rule | 10, 100, 1,000 policies, 1,000 pods |
//! | a namespace of 10 pods gets another label | 1,000, 10,000, 100,000 pods of other namespaces |
//!
//! Each with publishing and settling, without a router around it. Work in proportion to what changed
//! shows as times that hardly move with the number beside it.

use std::time::Duration;

use api::Resource;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use vrouter::control::policy::endpoint::Endpoint;
use vrouter::control::policy::{EndpointKey, PolicyWorld};

/// Pods that policies apply to; members come on top.
const SERVERS: usize = 100;

fn resource(text: &str) -> Resource {
    let object = api::read(text).pop().expect("a text has an object");
    object.outcome.unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// A policy of one server, open to all clients and one port.
fn policy(number: usize, port: usize) -> Resource {
    let server = number % SERVERS;
    resource(&format!(
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\n\
         metadata: {{ name: p{number}, namespace: x }}\nspec:\n  selector: app == 's{server}'\n  ingress:\n  \
         - action: Allow\n    protocol: TCP\n    source: {{ selector: role == 'client' }}\n    \
         destination: {{ ports: [ {port} ] }}\n"
    ))
}

fn pod(address: u32, key: &str, value: &str) -> Endpoint {
    Endpoint {
        labels: [(key.to_owned(), value.to_owned())].into(),
        orchestrator: "k8s".to_owned(),
        profiles: vec!["kns.x".to_owned()],
        addresses: vec![std::net::Ipv4Addr::from(address).into()],
        ..Endpoint::default()
    }
}

fn publish(world: &mut PolicyWorld) {
    world.publish();
    world.settle();
}

/// A world of so many policies and clients.
fn world(policies: usize, members: usize) -> PolicyWorld {
    let mut world = PolicyWorld::new();
    (0..policies).for_each(|number| world.apply(&policy(number, 1000 + number)));
    for server in 0..SERVERS {
        let key = EndpointKey::workload("x", format!("s{server}"));
        world.put_endpoint(key, Some(pod(0x0a01_0000 + server as u32, "app", &format!("s{server}"))));
    }
    for member in 0..members {
        let key = EndpointKey::workload("x", format!("c{member}"));
        world.put_endpoint(key, Some(pod(0x0a80_0000 + member as u32, "role", "client")));
    }
    publish(&mut world);
    world
}

fn changes(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy change");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for members in [100, 1000, 10_000] {
        let mut world = world(1000, members);
        let newcomer = EndpointKey::workload("x", "newcomer");
        group.bench_function(BenchmarkId::new("a pod comes and goes, members", members), |b| {
            b.iter(|| {
                world.put_endpoint(newcomer.clone(), Some(pod(0x0aff_0001, "role", "client")));
                publish(&mut world);
                world.put_endpoint(newcomer.clone(), None);
                publish(&mut world);
            });
        });
        let changing = EndpointKey::workload("x", "c0");
        group.bench_function(BenchmarkId::new("a label changes and back, members", members), |b| {
            b.iter(|| {
                for role in ["other", "client"] {
                    world.put_endpoint(changing.clone(), Some(pod(0x0a80_0000, "role", role)));
                    publish(&mut world);
                }
            });
        });
    }
    for policies in [10, 100, 1000] {
        let mut world = world(policies, 1000);
        let mut port = 20_000;
        group.bench_function(BenchmarkId::new("one policy changes, policies", policies), |b| {
            b.iter(|| {
                port = if port == 60_000 { 20_000 } else { port + 1 };
                world.apply(&policy(policies / 2, port));
                publish(&mut world);
            });
        });
    }
    for others in [1000, 10_000, 100_000] {
        let mut world = world(100, others);
        for number in 0..10 {
            let pod =
                Endpoint { profiles: vec!["kns.y".to_owned()], ..pod(0x0a02_0000 + number, "app", "y") };
            world.put_endpoint(EndpointKey::workload("y", format!("p{number}")), Some(pod));
        }
        let mut stage = 0;
        group.bench_function(BenchmarkId::new("a namespace changes, other pods", others), |b| {
            b.iter(|| {
                stage += 1;
                world.apply(&resource(&format!(
                    "apiVersion: v1\nkind: Namespace\nmetadata: {{ name: y, labels: {{ stage: s{} }} }}\n",
                    stage % 2
                )));
                publish(&mut world);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, changes);
criterion_main!(benches);
