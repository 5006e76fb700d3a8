//! Two nodes with pods on a switch, as most tests want it.
//!
//! ```text
//!   node1 172.30.5.11, fd00:30:5::11 ─── switch ─── node2 172.30.5.12, fd00:30:5::12
//!   block 10.77.1.0/26, fd00:77:1::/112             block 10.77.2.0/26, fd00:77:2::/112
//!   pods 10.77.1.10, .11, ...                       pods 10.77.2.10, .11, ...
//!        fd00:77:1::10, ::11, ...                        fd00:77:2::10, ::11, ...
//! ```
//!
//! IPv4 travels by IPIP unless [`TwoNodes::ipip_mode`] is told otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Attach, Config, Netns, PodConfig, Pool, Route, Router, Switch, Testbed, Uplink};

/// A node: a namespace with the device `eth1`, and its router.
pub struct Node {
    /// Its namespace.
    pub netns: Netns,
    /// Address on the switch.
    pub ip4: Ipv4Addr,
    /// IPv6 address on the switch.
    pub ip6: Ipv6Addr,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// What its router is configured with; a test may change it before the start.
    pub config: Config,
    /// Its router.
    pub router: Router,
}

impl Node {
    /// Starts the router and waits until it is ready.
    #[track_caller]
    pub fn start(&mut self) {
        self.router.start(&self.config);
    }
}

/// A pod: a namespace in which the router makes `eth0`.
pub struct Pod {
    /// Its namespace.
    pub netns: Netns,
    /// namespace/name.
    pub name: String,
    /// Its address.
    pub ip4: Ipv4Addr,
    /// Its IPv6 address.
    pub ip6: Ipv6Addr,
    /// How it hangs on the router.
    pub attach: Attach,
}

impl Pod {
    /// Both its addresses.
    pub fn ips(&self) -> [IpAddr; 2] {
        [self.ip4.into(), self.ip6.into()]
    }
}

/// The network of this module.
pub struct TwoNodes {
    /// The nodes; before the switch, so that routers end before their devices do.
    pub nodes: [Node; 2],
    /// What joins them.
    pub switch: Switch,
    /// Where it all lives.
    pub testbed: Testbed,
}

impl TwoNodes {
    /// The range of pod addresses.
    pub const POOL: &str = "10.77.0.0/16";

    /// Builds namespaces and cables for one pod per entry of `attach` on each node; no router runs.
    pub fn new(attach: [&[Attach]; 2]) -> Self {
        Self::with_queues(attach, 1)
    }

    /// The same with so many queues on each device to the switch.
    pub fn with_queues(attach: [&[Attach]; 2], queues: u32) -> Self {
        let testbed = Testbed::new();
        let switch = testbed.switch("switch");
        let nodes = [1, 2].map(|number: u8| {
            let netns = testbed.netns(&format!("node{number}"));
            switch.plug(&format!("node{number}"), &netns, "eth1", queues);
            node(&testbed, netns, number, attach[usize::from(number) - 1])
        });
        Self { nodes, switch, testbed }
    }

    /// Sets the pool's `ipip_mode` on both nodes, before they start.
    pub fn ipip_mode(mut self, mode: &str) -> Self {
        for node in &mut self.nodes {
            mode.clone_into(&mut node.config.pools[0].ipip_mode);
        }
        self
    }

    /// Has the kernel finish checksums and segmentation in front of the devices to the switch, which as
    /// veths leave both undone: what a capture sees is then what a wire would carry.
    pub fn without_offloads(self) -> Self {
        for node in &self.nodes {
            node.netns.run("ethtool -K eth1 tx off");
        }
        self
    }

    /// Starts both routers and waits until they are ready.
    #[track_caller]
    pub fn start(mut self) -> Self {
        for node in &mut self.nodes {
            node.router.launch(&node.config, &[]);
        }
        for node in &mut self.nodes {
            node.router.wait_until_ready();
        }
        self
    }

    /// The pool with another `ipipMode`, as `vrctl apply` takes it.
    pub fn pool_yaml(mode: &str) -> String {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{ name: pods4 }}\n\
             spec: {{ cidr: {}, ipipMode: {mode} }}\n",
            Self::POOL
        )
    }
}

fn node(testbed: &Testbed, netns: Netns, number: u8, attach: &[Attach]) -> Node {
    let ip4 = |number: u8| Ipv4Addr::new(172, 30, 5, 10 + number);
    let ip6 = |number: u8| Ipv6Addr::new(0xfd00, 0x30, 5, 0, 0, 0, 0, 0x10 + u16::from(number));
    let blocks = |number: u8| [format!("10.77.{number}.0/26"), format!("fd00:77:{number}::/112")];
    let other = 3 - number;
    netns.ip(&format!("addr add {}/24 dev eth1", ip4(number)));
    netns.ip(&format!("addr add {}/64 dev eth1 nodad", ip6(number)));
    let pods: Vec<Pod> = attach
        .iter()
        .zip(0_u8..)
        .map(|(attach, index)| Pod {
            netns: testbed.netns(&format!("pod{number}{index}")),
            name: format!("test/pod{number}-{index}"),
            ip4: Ipv4Addr::new(10, 77, number, 10 + index),
            ip6: format!("fd00:77:{number}::{}", 10 + index).parse().expect("an address"),
            attach: *attach,
        })
        .collect();
    let pool = |name: &str, cidr: &str, mode: &str| Pool {
        name: name.to_owned(),
        cidr: cidr.to_owned(),
        ipip_mode: mode.to_owned(),
    };
    let config = Config {
        name: format!("node{number}"),
        blocks: blocks(number).into(),
        workers: format!("cores = [{}]", number - 1),
        uplinks: vec![Uplink { device: "eth1".to_owned(), lines: String::new() }],
        pools: vec![pool("pods4", TwoNodes::POOL, "Always"), pool("pods6", "fd00:77::/32", "Never")],
        peers: vec![ip4(other).to_string()],
        routes: blocks(other)
            .into_iter()
            .zip([ip4(other).to_string(), ip6(other).to_string()])
            .map(|(prefix, via)| Route { prefix, via })
            .collect(),
        pods: pods
            .iter()
            .map(|pod| PodConfig {
                name: pod.name.clone(),
                netns: pod.netns.path(),
                addresses: pod.ips().map(|ip| ip.to_string()).into(),
                attach: pod.attach,
            })
            .collect(),
        ..Config::default()
    };
    let router = Router::new(&netns, testbed.dir().join(format!("node{number}")));
    Node { netns, ip4: ip4(number), ip6: ip6(number), pods, config, router }
}
