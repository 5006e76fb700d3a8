//! `HostEndpoint` and `WorkloadEndpoint` of `projectcalico.org/v3`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::fields::Fields;
use crate::metadata::Metadata;
use crate::policy::network_set::take_loose_nets;
use crate::policy::port::{Protocol, is_port_name};
use crate::problem::Problem;

/// A port that an endpoint gives a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct EndpointPort {
    /// The name.
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}

impl EndpointPort {
    /// Takes a list of named ports. A workload's port without a name serves a host port alone.
    fn take_list(fields: &mut Fields<'_>, workload: bool) -> Vec<EndpointPort> {
        let mut out = Vec::new();
        for mut part in fields.mappings("ports") {
            let name = part.string("name").unwrap_or_default().to_owned();
            let protocol = Protocol::take(&mut part, "protocol");
            let port = part.number("port", 1..=65535).map(|port| port as u16);
            if workload {
                part.number("hostPort", 0..=65535);
                part.string("hostIP");
            }
            if let Some(protocol) = protocol.filter(|protocol| !protocol.has_ports()) {
                part.problem("protocol", format!("{protocol} has no ports"), "TCP, UDP or SCTP");
            }
            for key in ["protocol", "port"] {
                if !part.has(key) {
                    part.problem(key, "is missing", "a value");
                }
            }
            let unnamed = name.is_empty() && workload && part.has("hostPort");
            if !unnamed && !is_port_name(&name) {
                part.problem("name", format!("found {name:?}"), "a port's name");
            }
            if let (Some(protocol), Some(port), false) = (protocol, port, unnamed) {
                out.push(EndpointPort { name, protocol, port });
            }
            fields.absorb(part.finish());
        }
        out
    }
}

/// A host endpoint: an interface of a node, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostEndpoint {
    /// Name and labels.
    pub metadata: Metadata,
    /// Where it is.
    pub spec: HostEndpointSpec,
}

/// Where a host endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HostEndpointSpec {
    /// The node.
    pub node: String,
    /// The interface; `*` is all interfaces; empty: the one that has an expected address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// Its addresses.
    #[serde(rename = "expectedIPs", skip_serializing_if = "Vec::is_empty")]
    pub expected_ips: Vec<IpAddr>,
    /// Profiles that are asked behind the last tier, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Named ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
}

impl HostEndpoint {
    pub(crate) fn read(metadata: Metadata, mut fields: Fields<'_>) -> (Self, Vec<Problem>) {
        let spec = HostEndpointSpec {
            node: fields.string("node").unwrap_or_default().to_owned(),
            interface_name: fields.string("interfaceName").unwrap_or_default().to_owned(),
            expected_ips: fields.parsed_list("expectedIPs", "an address"),
            profiles: take_names(&mut fields, "profiles"),
            ports: EndpointPort::take_list(&mut fields, false),
        };
        if spec.node.is_empty() && !fields.has_problem("node") {
            fields.problem("node", "is missing", "the name of a node");
        }
        if spec.interface_name.is_empty() && !fields.has("expectedIPs") {
            fields.problem("interfaceName", "is missing, and so is expectedIPs", "at least one of them");
        }
        let character = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let name = &spec.interface_name;
        if !name.is_empty() && name != "*" && (name.len() > 15 || !name.bytes().all(character)) {
            fields.problem("interfaceName", format!("found {name:?}"), "an interface's name, or *");
        }
        (HostEndpoint { metadata, spec }, fields.finish())
    }
}

/// A workload endpoint: a pod's port as Calico records it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkloadEndpoint {
    /// Name, namespace and labels.
    pub metadata: Metadata,
    /// What is known of it.
    pub spec: WorkloadEndpointSpec,
}

/// What is known of a workload endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WorkloadEndpointSpec {
    /// Who made it: `k8s`, `cni`, `openstack`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub orchestrator: String,
    /// The node it is on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The pod it belongs to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Its port in the pod, such as `eth0`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The service account of the pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// Its addresses, each as a full-length prefix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_networks: Vec<IpNet>,
    /// Profiles that are asked behind the last tier, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// The interface on the node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// Named ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
    /// Further prefixes that it may send from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_spoofed_source_prefixes: Vec<IpNet>,
}

impl WorkloadEndpoint {
    /// The name under which policy knows it: that of its pod, if it has one.
    pub fn pod_name(&self) -> &str {
        if self.spec.pod.is_empty() { &self.metadata.name } else { &self.spec.pod }
    }

    pub(crate) fn read(metadata: Metadata, mut fields: Fields<'_>) -> (Self, Vec<Problem>) {
        // Who carries the endpoint and how it is wired is no matter of policy.
        fields.ignore(&["workload", "containerID", "mac", "ipv4Gateway", "ipv6Gateway"]);
        for (key, what) in [("ipNATs", "floating addresses are"), ("qosControls", "QoS controls are")] {
            if fields.take(key).is_some() {
                fields.problem(key, format!("{what} not supported by this release"), "no such field");
            }
        }
        let mut text = |key| fields.string(key).unwrap_or_default().to_owned();
        let spec = WorkloadEndpointSpec {
            orchestrator: text("orchestrator"),
            node: text("node"),
            pod: text("pod"),
            endpoint: text("endpoint"),
            service_account_name: text("serviceAccountName"),
            interface_name: text("interfaceName"),
            ip_networks: take_loose_nets(&mut fields, "ipNetworks"),
            profiles: take_names(&mut fields, "profiles"),
            ports: EndpointPort::take_list(&mut fields, true),
            allow_spoofed_source_prefixes: take_loose_nets(&mut fields, "allowSpoofedSourcePrefixes"),
        };
        for (index, net) in spec.ip_networks.iter().enumerate() {
            if net.prefix_len() != net.max_prefix_len() {
                let key = format!("ipNetworks[{index}]");
                fields.problem(&key, format!("{net} holds several addresses"), "one address");
            }
        }
        (WorkloadEndpoint { metadata, spec }, fields.finish())
    }
}

fn take_names(fields: &mut Fields<'_>, key: &'static str) -> Vec<String> {
    fields.strings(key).unwrap_or_default().into_iter().map(str::to_owned).collect()
}
