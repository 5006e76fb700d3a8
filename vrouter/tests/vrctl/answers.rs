//! What the mock router knows: one node of the two-node walk-through.

use vrouter::rpc::v1::*;

pub(crate) use crate::policy_answers::*;

pub(crate) fn status() -> StatusReply {
    StatusReply {
        node: "node1".into(),
        version: "0.1.0".into(),
        pid: 4711,
        uptime_seconds: 3725,
        ready: false,
        generation: 7,
        conditions: vec![
            Condition { name: "metrics".into(), ok: true, message: String::new() },
            Condition { name: "uplink eth1".into(), ok: false, message: "the device is gone".into() },
        ],
        ports: 4,
        ports_down: 1,
        workers: 1,
        pods: 2,
        routes: 9,
        neighbors: 3,
        pools: 2,
        tunnels: 1,
        rx_packets: 1000,
        tx_packets: 990,
        drops: 10,
        config_file: "/etc/vrouter/node1.toml".into(),
    }
}

pub(crate) fn ports() -> Vec<Port> {
    vec![
        Port {
            id: 1,
            name: "eth1".into(),
            kind: PortKind::AfXdp.into(),
            role: PortRole::Uplink.into(),
            device: "eth1".into(),
            mac: "02:00:00:00:00:01".into(),
            mtu: 1500,
            admin_up: true,
            link_up: true,
            mode: PortMode::Generic.into(),
            mode_reason: "the driver has no XDP".into(),
            queues: 2,
            workers: vec![0, 1],
            rx_packets: 120,
            rx_bytes: 7680,
            tx_packets: 110,
            tx_bytes: 7040,
            drops: 3,
            kernel: Some(KernelLosses {
                rx_ring_full: 2,
                rx_fill_ring_empty: 1,
                xdp_passed: 500,
                ..KernelLosses::default()
            }),
            pod: String::new(),
            addresses: vec!["172.16.20.252/24".into()],
            frames_held: 4096,
            punts: 0,
            consumed: 0,
            originated: 0,
            vrf: "blue".into(),
        },
        Port {
            id: 12,
            name: "tap-web".into(),
            kind: PortKind::Tap.into(),
            role: PortRole::Pod.into(),
            mtu: 1480,
            admin_up: true,
            mode: PortMode::ReadWrite.into(),
            queues: 1,
            pod: "default/web".into(),
            ..Port::default()
        },
    ]
}

fn hop(address: &str, port: &str, encap: Encap) -> NextHop {
    NextHop {
        address: address.into(),
        port: port.into(),
        encap: encap.into(),
        mtu: 1480,
        weight: 1,
        ..NextHop::default()
    }
}

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route {
            prefix: "10.100.36.103/32".into(),
            source: "pod".into(),
            r#type: RouteType::Pod.into(),
            next_hops: vec![hop("", "tap-web", Encap::None)],
            selected: true,
            active: true,
            group: 5,
            ..Route::default()
        },
        Route {
            prefix: "10.100.169.128/26".into(),
            source: "config".into(),
            distance: 1,
            r#type: RouteType::Unicast.into(),
            next_hops: vec![hop("172.16.20.253", "", Encap::Ipip)],
            selected: true,
            name: "node2".into(),
            reason: "no route to 172.16.20.253".into(),
            ..Route::default()
        },
    ]
}

pub(crate) fn groups() -> Vec<NextHopGroup> {
    let far = NextHop {
        share: 0.75,
        weight: 3,
        tx_packets: 30,
        tx_bytes: 3000,
        ..hop("172.16.20.253", "eth1", Encap::None)
    };
    let way = vec![RouteLink {
        address: "192.0.2.9".into(),
        prefix: "192.0.2.0/24".into(),
        source: "config".into(),
    }];
    let near = NextHop { share: 0.25, way, ..hop("172.16.20.1", "eth1", Encap::None) };
    let lost = NextHop { problem: "no route to 192.0.2.1".into(), ..hop("192.0.2.1", "", Encap::None) };
    vec![
        NextHopGroup { id: 5, routes: 900_000, next_hops: vec![far, near], vrf: "blue".into() },
        NextHopGroup { id: 12, routes: 1, next_hops: vec![lost], vrf: String::new() },
    ]
}

/// Routes without end, but for a count.
pub(crate) fn many_routes(count: u32) -> Vec<Route> {
    let route = |number: u32| Route {
        prefix: format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + number)),
        source: "bgp".into(),
        ..Route::default()
    };
    (0..count).map(route).collect()
}

pub(crate) fn decision(address: &str) -> RouteDecision {
    if address == "192.0.2.1" {
        return RouteDecision {
            address: address.into(),
            verdict: VerdictKind::Drop.into(),
            drop_reason: "no_route".into(),
            ..RouteDecision::default()
        };
    }
    if address == "198.51.100.7" {
        let near = HopDecision {
            verdict: VerdictKind::Drop.into(),
            drop_reason: "neighbor-failed".into(),
            share: 0.25,
            port: "eth1".into(),
            encap: Encap::None.into(),
            mtu: 1500,
            neighbor: "172.16.20.1".into(),
            neighbor_state: NeighborState::Failed.into(),
            ..HopDecision::default()
        };
        let far = HopDecision {
            verdict: VerdictKind::Forward.into(),
            share: 0.75,
            port: "eth2".into(),
            encap: Encap::Ipip.into(),
            tunnel_local: "172.16.20.252".into(),
            tunnel_remote: "172.16.20.253".into(),
            mtu: 1480,
            neighbor: "172.16.20.253".into(),
            neighbor_mac: "02:00:00:00:00:02".into(),
            neighbor_state: NeighborState::Reachable.into(),
            ..HopDecision::default()
        };
        return RouteDecision {
            address: address.into(),
            verdict: VerdictKind::Forward.into(),
            prefix: "198.51.100.0/24".into(),
            source: "api".into(),
            r#type: RouteType::Unicast.into(),
            port: "eth2".into(),
            hops: vec![near, far],
            candidates: vec![Route {
                source: "config".into(),
                name: "old".into(),
                next_hops: vec![hop("172.16.20.9", "", Encap::None)],
                reason: "metric 7 against 5 of route resource new".into(),
                ..Route::default()
            }],
            candidates_left_out: 3,
            ..RouteDecision::default()
        };
    }
    RouteDecision {
        address: address.into(),
        verdict: VerdictKind::Forward.into(),
        prefix: "10.100.169.128/26".into(),
        source: "config".into(),
        r#type: RouteType::Unicast.into(),
        group: 6,
        next_hops: vec![hop("172.16.20.253", "eth1", Encap::Ipip)],
        port: "eth1".into(),
        encap: Encap::Ipip.into(),
        tunnel_local: "172.16.20.252".into(),
        tunnel_remote: "172.16.20.253".into(),
        mtu: 1480,
        neighbor: "172.16.20.253".into(),
        neighbor_mac: "02:00:00:00:00:02".into(),
        neighbor_state: NeighborState::Stale.into(),
        candidates: vec![Route {
            source: "bgp".into(),
            next_hops: vec![hop("172.16.20.1", "eth1", Encap::None)],
            reason: "distance 20 against 1 of config".into(),
            ..Route::default()
        }],
        ..RouteDecision::default()
    }
}

pub(crate) fn neighbors() -> Vec<Neighbor> {
    vec![
        Neighbor {
            address: "172.16.20.253".into(),
            mac: "02:00:00:00:00:02".into(),
            state: NeighborState::Reachable.into(),
            port: "eth1".into(),
            age_seconds: 75,
            source: "kernel".into(),
            queued: 0,
        },
        Neighbor {
            address: "fd00:20::253".into(),
            state: NeighborState::Incomplete.into(),
            port: "eth1".into(),
            source: "kernel".into(),
            queued: 2,
            ..Neighbor::default()
        },
    ]
}

pub(crate) fn drops() -> Vec<DropCount> {
    vec![DropCount {
        reason: "no_route".into(),
        description: "no route matches the destination".into(),
        port: "tap-web".into(),
        packets: 42,
    }]
}

pub(crate) fn workers() -> Vec<Worker> {
    vec![Worker {
        id: 0,
        core: 1,
        state: WorkerState::Running.into(),
        idle: IdleMode::Adaptive.into(),
        loops: 1_000_000,
        bursts: 400,
        packets: 1000,
        packets_per_burst: 2.5,
        busy: 0.125,
        queues: vec![QueueRef { port: "eth1".into(), queue: 0 }, QueueRef { port: "eth1".into(), queue: 1 }],
        handed_off: 0,
        packets_per_second: 1_250_000.0,
        capacity_packets_per_second: 9_500_000.0,
        capacity_at_least: false,
        headroom_mpps: 8.25,
        cycles_per_packet: 93.5,
        stages: vec![
            StageCycles { stage: "receive".into(), cycles_per_packet: 31.5 },
            StageCycles { stage: "lookup".into(), cycles_per_packet: 62.0 },
        ],
    }]
}

pub(crate) fn memory() -> MemoryReply {
    MemoryReply {
        frames_total: 16384,
        frames_free: 12000,
        held: vec![
            HeldFrames { place: "port eth1".into(), frames: 4096 },
            HeldFrames { place: "worker 0".into(), frames: 288 },
        ],
        frame_size: 2048,
        area_bytes: 32 << 20,
        huge_page_bytes: 0,
        fib_bytes: 3 << 20,
        rss_bytes: 80 << 20,
    }
}

pub(crate) fn tunnels() -> Vec<Tunnel> {
    vec![Tunnel {
        kind: Encap::Ipip.into(),
        local: "172.16.20.252".into(),
        remote: "172.16.20.253".into(),
        state: TunnelState::Up.into(),
        neighbor: "172.16.20.253".into(),
        neighbor_state: NeighborState::Reachable.into(),
        port: "eth1".into(),
        mtu: 1480,
        tx_packets: 5,
        tx_bytes: 500,
        rx_packets: 4,
        rx_bytes: 400,
        source: "peer,route".into(),
        path_mtu: 1500,
        path_mtu_seconds: 599,
    }]
}

pub(crate) fn pods() -> Vec<Pod> {
    vec![Pod {
        name: "default/web".into(),
        netns: "/run/netns/web".into(),
        interface: "eth0".into(),
        addresses: vec!["10.100.36.103".into(), "fd00:10:36::103".into()],
        attach: AttachKind::Tap.into(),
        labels: [("tier", "a"), ("app", "web")].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        port: "tap-web".into(),
        mac: "02:00:00:00:00:10".into(),
        state: PodState::Ready.into(),
        reason: String::new(),
        source: "api".into(),
    }]
}

pub(crate) fn resources(kind: api::Kind) -> Vec<Resource> {
    let pool = api::IpPool::new("blue", "10.100.0.0/16".parse().expect("a prefix"));
    let route = api::Route::unicast(
        "node2",
        "10.100.169.128/26".parse().expect("a prefix"),
        "172.16.20.253".parse().expect("an address"),
    );
    [api::Resource::IpPool(pool), api::Resource::Route(route)]
        .into_iter()
        .filter(|resource| resource.kind() == kind)
        .map(|resource| Resource {
            kind: kind.to_string(),
            name: resource.name().to_owned(),
            source: "config".into(),
            json: resource.to_json().to_string(),
        })
        .collect()
}

/// All or nothing, as the service promises.
pub(crate) fn apply(objects: Vec<api::Object>) -> ApplyReply {
    let all_right = objects.iter().all(|object| object.outcome.is_ok());
    let results = objects.into_iter().map(|object| {
        let (outcome, problems) = match object.outcome {
            Ok(_) if all_right => (ApplyOutcome::Created, Vec::new()),
            Ok(_) => (ApplyOutcome::Skipped, Vec::new()),
            Err(problems) => (ApplyOutcome::Refused, problems),
        };
        ApplyResult {
            document: object.document as u32,
            kind: object.kind,
            name: object.name,
            outcome: outcome.into(),
            problems: problems
                .into_iter()
                .map(|problem| Problem {
                    path: problem.path,
                    message: problem.message,
                    expected: problem.expected,
                })
                .collect(),
        }
    });
    ApplyReply { results: results.collect(), generation: 8 }
}

/// An ICMP echo request from 10.0.0.1 to 10.0.0.2, the rest of its 98 bytes cut off.
pub(crate) fn echo() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 84, 0, 1, 0x40, 0, 64, 1, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([8, 0, 0, 0, 0, 1, 0, 1]);
    frame
}

pub(crate) fn trace() -> Vec<TraceRecord> {
    let stage = |stage: &str, note: &str| TraceStage { stage: stage.into(), note: note.into() };
    vec![
        TraceRecord {
            timestamp_ns: 1_767_312_001_000_000_007,
            port: "tap-web".into(),
            head: echo(),
            length: 98,
            stages: vec![
                stage("parse", "ipv4 icmp"),
                stage("lookup", "10.0.0.2/32 pod"),
                stage("output", ""),
            ],
            verdict: VerdictKind::Forward.into(),
            route: "10.0.0.2/32".into(),
            out_port: "tap-db".into(),
            ..TraceRecord::default()
        },
        TraceRecord {
            timestamp_ns: 1_767_312_001_000_001_000,
            port: "eth1".into(),
            head: vec![0; 14],
            length: 60,
            stages: vec![stage("parse", "ethertype 0")],
            verdict: VerdictKind::Drop.into(),
            reason: "unknown_ethertype".into(),
            missed: 3,
            ..TraceRecord::default()
        },
    ]
}

pub(crate) fn captured() -> Vec<CapturedPacket> {
    let packet = |port: &str, direction: Direction, nanos: u64| CapturedPacket {
        timestamp_ns: 1_767_312_001_000_000_000 + nanos,
        port: port.into(),
        direction: direction.into(),
        data: echo(),
        original_len: 98,
        verdict: VerdictKind::Forward.into(),
        ..CapturedPacket::default()
    };
    vec![
        CapturedPacket { out_ports: vec!["eth1".into()], ..packet("tap-web", Direction::Rx, 7) },
        packet("eth1", Direction::Tx, 8),
        CapturedPacket {
            verdict: VerdictKind::Drop.into(),
            reason: "no_route".into(),
            missed: 5,
            data: echo()[..13].to_vec(),
            ..packet("tap-web", Direction::Rx, 1_000_000_009)
        },
    ]
}
