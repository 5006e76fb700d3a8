//! Which policies apply to an endpoint, and in which order.
//!
//! | stage | endpoints | policies | if nothing decides |
//! |---|---|---|---|
//! | normal | workloads | neither `doNotTrack` nor `preDNAT` | profiles, then denied |
//! | normal | hosts | the same, behind failsafe ports | profiles, then denied |
//! | forward | hosts | of those, the ones with `applyOnForward` | the packet goes on |
//! | untracked | hosts | `doNotTrack`, behind failsafe ports | the packet goes on |
//! | pre-DNAT | hosts, ingress | `preDNAT`, behind failsafe ports | the packet goes on |
//!
//! Forward, untracked and pre-DNAT stages without a policy are not there at all. In the last two the end
//! of a tier never denies.

use std::fmt;
use std::net::IpAddr;

use acl::{Direction, ProgramId};
use api::{EndpointPort, PolicySpec, PolicyType};
use ipnet::IpNet;

use super::labels::{LabelMap, account_profile_name, namespace_profile_name};

/// An endpoint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EndpointKey {
    /// A pod, or another workload.
    Workload {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A host endpoint.
    Host {
        /// Its name.
        name: String,
    },
}

impl EndpointKey {
    /// A workload.
    pub fn workload(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        EndpointKey::Workload { namespace: namespace.into(), name: name.into() }
    }
}

/// When a rule set is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stage {
    /// For what goes to or comes from the endpoint itself.
    Normal,
    /// For what a host forwards.
    Forward,
    /// Before connection tracking.
    Untracked,
    /// Before destination translation.
    PreDnat,
}

impl Stage {
    /// Whether a policy belongs to the stage.
    pub fn takes(self, spec: &PolicySpec) -> bool {
        match self {
            Stage::Normal => !spec.do_not_track && !spec.pre_dnat,
            Stage::Forward => !spec.do_not_track && !spec.pre_dnat && spec.apply_on_forward,
            Stage::Untracked => spec.do_not_track,
            Stage::PreDnat => spec.pre_dnat,
        }
    }

    /// Whether profiles and the final denial follow.
    pub fn is_closed(self) -> bool {
        self == Stage::Normal
    }

    /// Whether the end of a tier may deny.
    pub fn tiers_end(self) -> bool {
        matches!(self, Stage::Normal | Stage::Forward)
    }

    /// Whether failsafe ports come first.
    pub fn has_failsafe(self) -> bool {
        self != Stage::Forward
    }
}

/// The direction of a policy type.
pub fn direction(kind: PolicyType) -> Direction {
    match kind {
        PolicyType::Ingress => Direction::Ingress,
        PolicyType::Egress => Direction::Egress,
    }
}

/// The policy type of a direction.
pub fn policy_type(direction: Direction) -> PolicyType {
    match direction {
        Direction::Ingress => PolicyType::Ingress,
        Direction::Egress => PolicyType::Egress,
    }
}

/// An endpoint as it was given.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Endpoint {
    /// Its own labels.
    pub labels: LabelMap,
    /// Who made it.
    pub orchestrator: String,
    /// Its service account.
    pub service_account: String,
    /// Its profiles, in order.
    pub profiles: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its named ports.
    pub ports: Vec<EndpointPort>,
    /// Prefixes beside its addresses that it asks to send from.
    pub spoofable: Vec<IpNet>,
}

/// The programs of a workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndpointPrograms {
    /// For packets toward it.
    pub ingress: ProgramId,
    /// For packets from it.
    pub egress: ProgramId,
}

/// The programs of a host endpoint, ingress first. `None`: no policy, the packet goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostPrograms {
    /// For the host's own packets.
    pub normal: [ProgramId; 2],
    /// For forwarded packets.
    pub forward: [Option<ProgramId>; 2],
    /// Before connection tracking.
    pub untracked: [Option<ProgramId>; 2],
    /// Before destination translation.
    pub pre_dnat: Option<ProgramId>,
}

impl Endpoint {
    /// A Kubernetes pod: of the profiles of its namespace and its service account.
    pub fn of_pod(pod: &api::Pod) -> Self {
        let (namespace, account) = (&pod.metadata.namespace, &pod.spec.service_account_name);
        Endpoint {
            labels: pod.metadata.labels.clone(),
            orchestrator: "k8s".to_owned(),
            service_account: account.clone(),
            profiles: vec![namespace_profile_name(namespace), account_profile_name(namespace, account)],
            addresses: pod.spec.addresses.clone(),
            ports: pod.spec.ports.clone(),
            spoofable: Vec::new(),
        }
    }

    /// A workload as Calico records it.
    pub fn of_workload(workload: &api::WorkloadEndpoint) -> Self {
        let spec = &workload.spec;
        Endpoint {
            labels: workload.metadata.labels.clone(),
            orchestrator: spec.orchestrator.clone(),
            service_account: spec.service_account_name.clone(),
            profiles: spec.profiles.clone(),
            addresses: spec.ip_networks.iter().map(IpNet::addr).collect(),
            ports: spec.ports.clone(),
            spoofable: spec.allow_spoofed_source_prefixes.clone(),
        }
    }

    /// A host endpoint.
    pub fn of_host(host: &api::HostEndpoint) -> Self {
        Endpoint {
            labels: host.metadata.labels.clone(),
            profiles: host.spec.profiles.clone(),
            addresses: host.spec.expected_ips.clone(),
            ports: host.spec.ports.clone(),
            ..Endpoint::default()
        }
    }
}

impl EndpointKey {
    /// The key of a workload as Calico records it: that of its pod, if it has one.
    pub fn of_workload(workload: &api::WorkloadEndpoint) -> Self {
        EndpointKey::workload(&workload.metadata.namespace, workload.pod_name())
    }
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointKey::Workload { namespace, name } => write!(f, "{namespace}/{name}"),
            EndpointKey::Host { name } => f.write_str(name),
        }
    }
}
