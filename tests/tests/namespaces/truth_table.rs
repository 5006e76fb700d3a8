//! The verdicts of Kubernetes' end-to-end tests (`vrouter/tests/data/ORIGIN.md`) as real packets between
//! real pods: a connection comes about, a datagram arrives, or neither.
//!
//! Eight pods serve all cases: each case gives them its labels and policies by the API, sends its probes at
//! once, and waits for those that must arrive. What must not has then had as long.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, sendto,
    socket_with,
};
use serde_json::{Value, json};
use vrouter_tests::testbed::{Attach, Netns, Node, Pool, TwoNodes};

const PODS: [(&str, &str, [u8; 4]); 8] = [
    ("x", "a", [10, 244, 1, 10]),
    ("x", "b", [10, 244, 1, 11]),
    ("x", "c", [10, 244, 1, 12]),
    ("y", "a", [10, 244, 2, 10]),
    ("y", "b", [10, 244, 2, 11]),
    ("y", "c", [10, 244, 2, 12]),
    ("z", "a", [10, 244, 3, 10]),
    ("z", "b", [10, 244, 3, 11]),
];
const PORTS: [u16; 2] = [80, 81];
const SCTP: Protocol = ipproto::SCTP;
/// How long what must arrive may take, and how long what must not is given behind it.
const PATIENCE: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_millis(100);

/// What listens in a pod.
struct Servers {
    tcp: Vec<TcpListener>,
    udp: Vec<(u16, UdpSocket)>,
    sctp: OwnedFd,
}

impl Servers {
    fn start(netns: &Netns, address: Ipv4Addr) -> Self {
        netns.enter(|| {
            let tcp = PORTS.map(|port| TcpListener::bind((address, port)).unwrap());
            tcp.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
            let udp = PORTS.map(|port| (port, UdpSocket::bind((address, port)).unwrap()));
            udp.iter().for_each(|(_, socket)| socket.set_nonblocking(true).unwrap());
            Servers { tcp: tcp.into(), udp: udp.into(), sctp: raw_sctp() }
        })
    }

    /// Takes what has arrived: of datagrams and SCTP packets the numbers of the probes.
    fn take(&self, arrived: &mut Vec<u16>) {
        for listener in &self.tcp {
            // The probe's own end says that it is connected.
            while listener.accept().is_ok() {}
        }
        let mut buffer = [0; 256];
        for (_, socket) in &self.udp {
            while let Ok(2) = socket.recv(&mut buffer) {
                arrived.push(u16::from_be_bytes([buffer[0], buffer[1]]));
            }
        }
        while let Ok((len, _)) = recv(&self.sctp, &mut buffer, RecvFlags::empty()) {
            // Behind the IP header, the source port.
            if let Some([a, b]) = buffer[..len].get(20..22) {
                arrived.push(u16::from_be_bytes([*a, *b]));
            }
        }
    }
}

fn raw_sctp() -> OwnedFd {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(SCTP)).unwrap()
}

/// One verdict to be tried.
struct Probe {
    /// Its row, for the report.
    row: String,
    to: SocketAddrV4,
    number: u16,
    allowed: bool,
    kind: Kind,
}

enum Kind {
    Tcp(Option<TcpStream>),
    Udp(Option<UdpSocket>),
    Sctp,
}

impl Probe {
    /// Sends it, from inside the pod.
    fn send(&mut self) {
        match &mut self.kind {
            Kind::Tcp(stream) => {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
                let begun = connect(&socket, &SocketAddr::V4(self.to));
                assert!(matches!(begun, Ok(()) | Err(rustix::io::Errno::INPROGRESS)), "{begun:?}");
                *stream = Some(socket.into());
            }
            Kind::Udp(socket) => {
                let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                own.send_to(&self.number.to_be_bytes(), self.to).unwrap();
                *socket = Some(own);
            }
            Kind::Sctp => {
                // RFC 9260 3.3.2: common header and an INIT chunk.
                let mut packet = [self.number.to_be_bytes(), self.to.port().to_be_bytes()].concat();
                packet.extend([0; 8]);
                packet.extend([1, 0, 0, 20, 0, 0, 0, 77, 0, 0, 0x10, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
                let to = SocketAddr::V4(SocketAddrV4::new(*self.to.ip(), 0));
                sendto(raw_sctp(), &packet, SendFlags::empty(), &to).unwrap();
            }
        }
    }

    fn has_arrived(&self, arrived: &[u16]) -> bool {
        match &self.kind {
            Kind::Tcp(stream) => stream.as_ref().is_some_and(|stream| stream.peer_addr().is_ok()),
            Kind::Udp(_) | Kind::Sctp => arrived.contains(&self.number),
        }
    }
}

fn network() -> TwoNodes {
    let mut net = TwoNodes::new([&[Attach::Tap; 8], &[]]);
    let node = &mut net.nodes[0];
    node.config.pools.push(Pool {
        name: "cases".to_owned(),
        cidr: "10.244.0.0/16".to_owned(),
        ipip_mode: "Never".to_owned(),
    });
    node.config.blocks.push("10.244.0.0/16".to_owned());
    for (config, (namespace, name, address)) in node.config.pods.iter_mut().zip(PODS) {
        config.name = format!("{namespace}/{name}");
        config.addresses = vec![Ipv4Addr::from(address).to_string()];
    }
    node.start();
    net
}

/// The resources of a case: namespaces and pods as it has them, and its policies.
fn resources(case: &Value) -> (Vec<Value>, Vec<Value>) {
    let mut world = Vec::new();
    for (name, labels) in case["namespaces"].as_object().unwrap() {
        world.push(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        );
    }
    for pod in case["pods"].as_array().unwrap() {
        let ports: Vec<Value> = PORTS
            .iter()
            .flat_map(|port| {
                ["tcp", "udp", "sctp"].map(|word| {
                    json!({"name": format!("serve-{port}-{word}"), "containerPort": port,
                           "protocol": word.to_uppercase()})
                })
            })
            .collect();
        world.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod["name"], "namespace": pod["ns"], "labels": pod["labels"]},
            "spec": {"nodeName": "node1", "containers": [{"name": "serve", "ports": ports}]},
            "status": {"podIP": pod["ip"]},
        }));
    }
    let policies = case["policies"].as_array().unwrap().iter().map(|policy| {
        let mut policy = policy.clone();
        policy["apiVersion"] = json!("networking.k8s.io/v1");
        policy["kind"] = json!("NetworkPolicy");
        policy
    });
    (world, policies.collect())
}

fn documents(values: &[Value]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n")
}

/// The probes of a case, by the pod that sends.
fn probes(case: &Value, next: &mut u16) -> BTreeMap<usize, Vec<Probe>> {
    let place = |name: &str| PODS.iter().position(|(ns, pod, _)| format!("{ns}/{pod}") == name).unwrap();
    let separate = case["verdict_columns"][4] == json!("egress_allowed");
    let mut out: BTreeMap<usize, Vec<Probe>> = BTreeMap::new();
    for row in case["verdicts"].as_array().unwrap() {
        let (from, to) = (place(row[0].as_str().unwrap()), place(row[1].as_str().unwrap()));
        let is = |at: usize| row[at].as_u64() == Some(1);
        // Source ports of SCTP packets, contents of datagrams.
        *next += 1;
        let kind = match row[2].as_str().unwrap() {
            "TCP" => Kind::Tcp(None),
            "UDP" => Kind::Udp(None),
            "SCTP" => Kind::Sctp,
            other => panic!("protocol {other}"),
        };
        let port = u16::try_from(row[3].as_u64().unwrap()).unwrap();
        out.entry(from).or_default().push(Probe {
            row: format!("{} {}: {row}", case["id"], case["description"]),
            to: SocketAddrV4::new(PODS[to].2.into(), port),
            number: *next,
            allowed: is(4) && (!separate || is(5)),
            kind,
        });
    }
    out
}

/// Sends the probes of a case and compares; how many were allowed and denied.
fn try_case(node: &Node, servers: &[Servers], case: &Value, next: &mut u16) -> (usize, usize) {
    let before = node.router.drops("policy-ingress") + node.router.drops("policy-egress");
    let mut probes = probes(case, next);
    for (pod, probes) in &mut probes {
        node.pods[*pod].netns.enter(|| probes.iter_mut().for_each(Probe::send));
    }
    let (mut arrived, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    let all = || probes.values().flatten();
    let look = |arrived: &mut Vec<u16>| servers.iter().for_each(|servers| servers.take(arrived));
    loop {
        look(&mut arrived);
        let late = all().find(|probe| probe.allowed && !probe.has_arrived(&arrived));
        let Some(late) = late else { break };
        assert!(Instant::now() < deadline, "did not arrive: {}", late.row);
        std::thread::sleep(Duration::from_millis(5));
    }
    // The router has dropped what it was to drop.
    let denied = all().filter(|probe| !probe.allowed).count();
    let dropped = || node.router.drops("policy-ingress") + node.router.drops("policy-egress") - before;
    while dropped() < denied as u64 {
        assert!(Instant::now() < deadline, "fewer than {denied} packets were denied: {}", case["id"]);
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(GRACE);
    look(&mut arrived);
    for probe in all() {
        assert_eq!(probe.has_arrived(&arrived), probe.allowed, "{}", probe.row);
    }
    (all().count() - denied, denied)
}

#[test]
fn real_packets_meet_the_verdicts_of_the_end_to_end_tests() {
    let net = network();
    let node = &net.nodes[0];
    let servers: Vec<Servers> =
        node.pods.iter().zip(PODS).map(|(pod, (_, _, at))| Servers::start(&pod.netns, at.into())).collect();
    let mut lines = String::new();
    let bytes: &[u8] = include_bytes!("../../../vrouter/tests/data/k8s-e2e-truth.jsonl.gz");
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut lines).unwrap();
    let (mut allowed, mut denied, mut next) = (0, 0, 20_000);
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (world, policies) = resources(&case);
        node.router.apply(&documents(&[world, policies.clone()].concat()));
        let counts = try_case(node, &servers, &case, &mut next);
        (allowed, denied) = (allowed + counts.0, denied + counts.1);
        for policy in &policies {
            let metadata = &policy["metadata"];
            let name =
                [&metadata["namespace"], &metadata["name"]].map(|part| part.as_str().unwrap()).join("/");
            node.router.vrctl(&["delete", "kubernetesnetworkpolicy", &name]);
        }
    }
    assert_eq!(allowed + denied, 506);
    assert!(allowed > 100 && denied > 100, "{allowed} {denied}");
}
