//! `Namespace`, `Pod` and `ServiceAccount` of Kubernetes' `v1`: their labels, and of pods the addresses
//! and named ports.
//!
//! | Kubernetes | what Calico makes of it |
//! |---|---|
//! | Namespace `ns` | profile `kns.ns`: allows, gives labels `pcns.KEY` and `pcns.projectcalico.org/name` |
//! | ServiceAccount `sa` | profile `ksa.ns.sa`: no rules, gives labels `pcsa.KEY` and `pcsa.projectcalico.org/name` |
//! | Pod | a workload endpoint of both profiles, unless it runs on the host's network or has finished |

use std::net::IpAddr;

use serde::Serialize;

use super::calico::EndpointPort;
use crate::fields::Fields;
use crate::metadata::Metadata;
use crate::policy::port::Protocol;
use crate::problem::Problem;

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Namespace {
    /// Name and labels.
    pub metadata: Metadata,
}

impl Namespace {
    /// A namespace as if it had been read.
    pub fn new(metadata: Metadata) -> Self {
        Namespace { metadata }
    }
}

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceAccount {
    /// Name, namespace and labels.
    pub metadata: Metadata,
}

impl ServiceAccount {
    /// A service account as if it had been read.
    pub fn new(metadata: Metadata) -> Self {
        ServiceAccount { metadata }
    }
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pod {
    /// Name, namespace and labels.
    pub metadata: Metadata,
    /// What policy needs to know.
    pub spec: PodSpec,
}

/// What policy needs to know of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PodSpec {
    /// The node it was put on; empty: none yet.
    pub node_name: String,
    /// Its service account.
    pub service_account_name: String,
    /// It has no port of its own.
    pub host_network: bool,
    /// Its named ports.
    pub ports: Vec<EndpointPort>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// It has run to its end and holds its addresses no longer.
    pub finished: bool,
}

impl Pod {
    /// A pod as if it had been read.
    pub fn new(metadata: Metadata, spec: PodSpec) -> Self {
        Pod { metadata, spec }
    }

    /// Whether policy applies to it: it has a port and addresses of its own.
    pub fn is_endpoint(&self) -> bool {
        !self.spec.host_network && !self.spec.finished && !self.spec.addresses.is_empty()
    }

    /// Reads `spec` and `status`; other fields of them are not judged.
    pub(crate) fn read(
        metadata: Metadata,
        spec: Option<Fields<'_>>,
        status: Option<Fields<'_>>,
    ) -> (Self, Vec<Problem>) {
        let mut out = PodSpec::default();
        let mut problems = Vec::new();
        if let Some(mut spec) = spec {
            out.node_name = spec.string("nodeName").unwrap_or_default().to_owned();
            out.service_account_name = spec
                .string("serviceAccountName")
                .filter(|name| !name.is_empty())
                .unwrap_or("default")
                .to_owned();
            out.host_network = spec.boolean("hostNetwork");
            for list in ["containers", "initContainers"] {
                for mut container in spec.mappings(list) {
                    for port in container.mappings("ports") {
                        let (port, found) = read_port(port);
                        out.ports.extend(port);
                        container.absorb(found);
                    }
                    spec.absorb(container.into_problems());
                }
            }
            problems.extend(spec.into_problems());
        }
        if let Some(mut status) = status {
            out.finished = matches!(status.string("phase"), Some("Succeeded" | "Failed" | "Completed"));
            for mut part in status.mappings("podIPs") {
                out.addresses.extend(part.parsed::<IpAddr>("ip", "an address"));
                status.absorb(part.into_problems());
            }
            let only: Option<IpAddr> = status.parsed("podIP", "an address");
            out.addresses.extend(only.filter(|ip| !out.addresses.contains(ip)));
            problems.extend(status.into_problems());
        }
        if out.service_account_name.is_empty() {
            out.service_account_name = "default".to_owned();
        }
        (Pod { metadata, spec: out }, problems)
    }
}

/// A container's port; one without a name is no matter of policy.
fn read_port(mut part: Fields<'_>) -> (Option<EndpointPort>, Vec<Problem>) {
    let name = part.string("name").unwrap_or_default().to_owned();
    let words = [("TCP", Protocol::TCP), ("UDP", Protocol::UDP), ("SCTP", Protocol::SCTP)];
    let protocol = part.word("protocol", &words, Protocol::TCP);
    let port = part.number("containerPort", 1..=65535).map(|port| port as u16);
    let port = port.filter(|_| !name.is_empty()).map(|port| EndpointPort { name, protocol, port });
    (port, part.into_problems())
}

/// The canonical form of a pod: what was read, in Kubernetes' own fields.
#[derive(Serialize)]
pub(crate) struct WrittenPod<'a> {
    spec: WrittenPodSpec<'a>,
    status: WrittenPodStatus,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPodSpec<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    node_name: &'a str,
    service_account_name: &'a str,
    host_network: bool,
    containers: Vec<WrittenContainer<'a>>,
}

#[derive(Serialize)]
struct WrittenContainer<'a> {
    ports: Vec<WrittenPort<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPort<'a> {
    name: &'a str,
    protocol: Protocol,
    container_port: u16,
}

#[derive(Serialize)]
struct WrittenPodStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<WrittenPodIp>,
}

#[derive(Serialize)]
struct WrittenPodIp {
    ip: IpAddr,
}

impl Pod {
    pub(crate) fn written(&self) -> WrittenPod<'_> {
        let port = |port: &EndpointPort| (port.protocol, port.port);
        WrittenPod {
            spec: WrittenPodSpec {
                node_name: &self.spec.node_name,
                service_account_name: &self.spec.service_account_name,
                host_network: self.spec.host_network,
                containers: vec![WrittenContainer {
                    ports: self
                        .spec
                        .ports
                        .iter()
                        .map(|named| {
                            let (protocol, container_port) = port(named);
                            WrittenPort { name: &named.name, protocol, container_port }
                        })
                        .collect(),
                }],
            },
            status: WrittenPodStatus {
                phase: self.spec.finished.then_some("Succeeded"),
                pod_ips: self.spec.addresses.iter().map(|ip| WrittenPodIp { ip: *ip }).collect(),
            },
        }
    }
}
