//! The whole packet path between a source and a sink in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use encap::MacAddr;
use encap::wire::checksum;
use fib::RouteSource;
use vrouter::control::engine::net_prefix;
use vrouter::control::{Encap, IpipMode, Pool, PortRole, RouteSpec, RouteTarget};
use vrouter::port::synthetic::{Packet, ROTATION, Sink, Source};
use vrouter::tables::NeighborState;
use vrouter::{Event, IdleMode, PortSpec, Router};

use super::Spread;
use crate::failure::Failure;

/// Different destinations.
const DESTINATIONS: u32 = 4096;
/// Windows that a measurement is made of.
const WINDOWS: u32 = 10;
const NEAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const FAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const NEXT_HOP: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 16, 2, 2));

/// Rates by name of what was measured.
pub(super) fn measure(core: usize, duration: Duration) -> Result<Vec<(&'static str, Spread)>, Failure> {
    [("IPv4 forward", IpipMode::Never), ("IPv4 into IPIP", IpipMode::Always)]
        .into_iter()
        .map(|(name, ipip)| Ok((name, rate(core, ipip, duration)?)))
        .collect()
}

fn rate(core: usize, ipip: IpipMode, duration: Duration) -> Result<Spread, Failure> {
    let problem = |error: &dyn std::fmt::Display| Failure::from(format!("a router in memory: {error}"));
    let frames = ROTATION as u32 + 4096;
    let builder = Router::builder().cores(&[core]).frames(frames).idle(IdleMode::Poll);
    let mut router = builder.build().map_err(|error| problem(&error))?;
    let net = |text: &str| text.parse().map_err(|error| problem(&error));
    let near = PortSpec::uplink("in", NEAR, [net("172.16.1.1/24")?]);
    let source = Source::new((0..DESTINATIONS).map(packet).collect(), 64);
    router.add_port(near, vec![Box::new(source)]).map_err(|error| problem(&error))?;
    // The neighbour is told, as the kernel tells it: no ARP is in the way.
    let mut far = PortSpec::uplink("out", FAR, [net("172.16.2.1/24")?]);
    if let PortRole::Uplink { exclusive, .. } = &mut far.role {
        *exclusive = false;
    }
    let sink = router.add_port(far, vec![Box::new(Sink::new(ROTATION))]).map_err(|error| problem(&error))?;
    let everything = net("0.0.0.0/0")?;
    let events = [
        Event::PutPool(Pool { name: String::new(), cidr: everything, ipip_mode: ipip }),
        Event::PutRoute(RouteSpec {
            prefix: net_prefix(everything),
            source: RouteSource::Static,
            target: RouteTarget::Via(vec![NEXT_HOP], Encap::Pool),
            metric: 0,
        }),
    ];
    for event in events {
        router.apply(event).map_err(|error| problem(&error))?;
    }
    router.commit().map_err(|error| problem(&error))?;
    router.neighbor(sink, NEXT_HOP, NeighborState::Usable(MacAddr([2, 0, 0, 0, 0, 3])));
    router.commit().map_err(|error| problem(&error))?;

    let workers = router.start().map_err(|error| problem(&error))?;
    let sent = || router.workers()[0].counters.port(sink).tx_packets.get();
    std::thread::sleep(duration / WINDOWS);
    let rates = (0..WINDOWS).map(|_| {
        let (before, start) = (sent(), Instant::now());
        std::thread::sleep(duration / WINDOWS);
        (sent() - before) as f64 / start.elapsed().as_secs_f64()
    });
    let spread = Spread::of(rates.collect());
    drop(workers);
    match spread {
        Some(spread) if spread.median > 0.0 => Ok(spread),
        _ => Err(problem(&"it forwards nothing")),
    }
}

/// A UDP packet to one of the destinations.
fn packet(number: u32) -> Packet {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&NEAR.0);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let (ip, udp) = frame[14..].split_at_mut(20);
    ip[..10].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17]);
    ip[12..16].copy_from_slice(&[198, 18, 0, 1]);
    ip[16..].copy_from_slice(&(0x1400_0001 + number * 0x1_0107).to_be_bytes());
    let sum = checksum::checksum(ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    udp[..6].copy_from_slice(&[4, 0, 0, 9, 0, 26]);
    Packet::new(&frame)
}
