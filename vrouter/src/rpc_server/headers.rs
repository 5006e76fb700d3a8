//! Headers of packets and flows: shown, and compared with what a request asks for.

use std::net::IpAddr;

use ipnet::IpNet;
use tonic::Status;

use crate::control::policy::{EndpointKey, Packet, Questions};
use crate::daemon::Node;
use crate::rpc::v1;
use crate::rpc_server::filter::net;

/// Whether a protocol is ICMP of either family.
fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, 1 | 58)
}

/// A packet's headers, with the workloads that have the addresses.
pub(super) fn show(packet: &Packet, questions: &Questions<'_>) -> v1::Headers {
    let (first, second) = packet.transport.map(|(one, two)| (u32::from(one), u32::from(two))).unzip();
    let icmp = is_icmp(packet.protocol);
    let (ports, message) =
        if icmp { ((None, None), (first, second)) } else { ((first, second), (None, None)) };
    let pod = |address| questions.workload(address).map(ToString::to_string).unwrap_or_default();
    v1::Headers {
        source: packet.source.to_string(),
        destination: packet.destination.to_string(),
        protocol: packet.protocol.into(),
        source_port: ports.0,
        destination_port: ports.1,
        icmp_type: message.0,
        icmp_code: message.1,
        source_pod: pod(packet.source),
        destination_pod: pod(packet.destination),
    }
}

/// Questions to the policy in force, asked on this node.
pub(super) fn questions(node: &Node) -> Questions<'_> {
    let engine = node.router.engine();
    Questions::new(engine.policy())
        .on_node(engine.node_view())
        .by_routes(Box::new(|address| engine.way_to(address)))
}

/// Which packets a request asks for.
pub(super) struct Filter {
    source: Option<IpNet>,
    destination: Option<IpNet>,
    protocol: Option<u32>,
    source_port: Option<u32>,
    destination_port: Option<u32>,
    /// Addresses of the pod that must be one of the ends.
    pod: Option<Vec<IpAddr>>,
    /// Answers count as well.
    both_ways: bool,
}

impl Filter {
    pub(super) fn new(node: &Node, filter: Option<v1::PacketFilter>, pod: &str) -> Result<Self, Status> {
        let filter = filter.unwrap_or_default();
        if !filter.port.is_empty() || filter.drops_only {
            return Err(Status::invalid_argument("filter: port and drops_only have no meaning here"));
        }
        Ok(Filter {
            source: net(&filter.src)?,
            destination: net(&filter.dst)?,
            protocol: filter.protocol,
            source_port: filter.src_port,
            destination_port: filter.dst_port,
            pod: if pod.is_empty() { None } else { Some(addresses(node, pod)?) },
            both_ways: false,
        })
    }

    /// The same for either direction.
    pub(super) fn both_ways(mut self, both_ways: bool) -> Self {
        self.both_ways = both_ways;
        self
    }

    pub(super) fn wants(&self, packet: &Packet) -> bool {
        let turned = Packet {
            source: packet.destination,
            destination: packet.source,
            transport: packet.transport.map(|(one, two)| (two, one)),
            ..*packet
        };
        self.matches(packet) || (self.both_ways && self.matches(&turned))
    }

    fn matches(&self, packet: &Packet) -> bool {
        let ports = packet.transport.filter(|_| !is_icmp(packet.protocol)).unzip();
        let is = |wanted: Option<u32>, found: Option<u16>| {
            wanted.is_none_or(|wanted| found.is_some_and(|found| u32::from(found) == wanted))
        };
        self.source.is_none_or(|net| net.contains(&packet.source))
            && self.destination.is_none_or(|net| net.contains(&packet.destination))
            && self.protocol.is_none_or(|wanted| wanted == u32::from(packet.protocol))
            && is(self.source_port, ports.0)
            && is(self.destination_port, ports.1)
            && self
                .pod
                .as_ref()
                .is_none_or(|own| own.contains(&packet.source) || own.contains(&packet.destination))
    }
}

/// The addresses of a workload.
fn addresses(node: &Node, pod: &str) -> Result<Vec<IpAddr>, Status> {
    let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
    let found = node.router.engine().policy().endpoint(&EndpointKey::workload(namespace, name));
    match found {
        Some((_, endpoint)) => Ok(endpoint.addresses.clone()),
        None => Err(Status::not_found(format!("there is no pod {namespace}/{name}"))),
    }
}
