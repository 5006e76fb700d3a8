//! The closed set of kinds.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The kinds of resources that this release reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// [`IpPool`](crate::IpPool).
    IpPool,
    /// [`Route`](crate::Route).
    Route,
    /// [`Tier`](crate::Tier).
    Tier,
    /// [`Policy`](crate::Policy) of a namespace.
    NetworkPolicy,
    /// [`Policy`](crate::Policy) of all namespaces and host endpoints.
    GlobalNetworkPolicy,
    /// A [`Policy`](crate::Policy) of a namespace that is not enforced.
    StagedNetworkPolicy,
    /// A global [`Policy`](crate::Policy) that is not enforced.
    StagedGlobalNetworkPolicy,
    /// [`KubernetesPolicy`](crate::KubernetesPolicy); written `NetworkPolicy` of `networking.k8s.io/v1`.
    KubernetesNetworkPolicy,
    /// A [`KubernetesPolicy`](crate::KubernetesPolicy) that is not enforced.
    StagedKubernetesNetworkPolicy,
    /// [`NetworkSet`](crate::NetworkSet) of a namespace.
    NetworkSet,
    /// [`NetworkSet`](crate::NetworkSet) of none.
    GlobalNetworkSet,
    /// [`Profile`](crate::Profile).
    Profile,
    /// [`HostEndpoint`](crate::HostEndpoint).
    HostEndpoint,
    /// [`WorkloadEndpoint`](crate::WorkloadEndpoint).
    WorkloadEndpoint,
    /// [`Namespace`](crate::Namespace) of Kubernetes.
    Namespace,
    /// [`Pod`](crate::Pod) of Kubernetes.
    Pod,
    /// [`ServiceAccount`](crate::ServiceAccount) of Kubernetes.
    ServiceAccount,
    /// [`EndpointSlice`](crate::EndpointSlice) of Kubernetes.
    EndpointSlice,
}

/// A kind that this release does not read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnknownKind {
    /// A kind of Calico or Kubernetes that a later release may read.
    #[error("kind {0} is not supported by this release")]
    Unsupported(String),
    /// No kind anyone knows.
    #[error("unknown kind {0:?}")]
    Unknown(String),
}

/// Kinds that users of Calico have in their files.
const ELSEWHERE: [&str; 17] = [
    "BGPConfiguration",
    "BGPFilter",
    "BGPPeer",
    "BlockAffinity",
    "CalicoAPIConfig",
    "CalicoNodeStatus",
    "ClusterInformation",
    "ClusterNetworkPolicy",
    "DatastoreMigration",
    "FelixConfiguration",
    "IPAMConfig",
    "IPAMConfiguration",
    "IPReservation",
    "KubeControllersConfiguration",
    "LiveMigration",
    "Node",
    "Service",
];

const CALICO: &str = "projectcalico.org/v3";
const CORE: &str = "v1";

impl Kind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 18] = [
        Self::IpPool,
        Self::Route,
        Self::Tier,
        Self::NetworkPolicy,
        Self::GlobalNetworkPolicy,
        Self::StagedNetworkPolicy,
        Self::StagedGlobalNetworkPolicy,
        Self::KubernetesNetworkPolicy,
        Self::StagedKubernetesNetworkPolicy,
        Self::NetworkSet,
        Self::GlobalNetworkSet,
        Self::Profile,
        Self::HostEndpoint,
        Self::WorkloadEndpoint,
        Self::Namespace,
        Self::Pod,
        Self::ServiceAccount,
        Self::EndpointSlice,
    ];

    /// The kind's name, which no other kind has.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KubernetesNetworkPolicy => "KubernetesNetworkPolicy",
            other => other.written(),
        }
    }

    /// The kind as it is written in a resource; beside the `apiVersion` it is unique.
    pub fn written(self) -> &'static str {
        match self {
            Self::IpPool => "IPPool",
            Self::Route => "Route",
            Self::Tier => "Tier",
            Self::NetworkPolicy | Self::KubernetesNetworkPolicy => "NetworkPolicy",
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::StagedNetworkPolicy => "StagedNetworkPolicy",
            Self::StagedGlobalNetworkPolicy => "StagedGlobalNetworkPolicy",
            Self::StagedKubernetesNetworkPolicy => "StagedKubernetesNetworkPolicy",
            Self::NetworkSet => "NetworkSet",
            Self::GlobalNetworkSet => "GlobalNetworkSet",
            Self::Profile => "Profile",
            Self::HostEndpoint => "HostEndpoint",
            Self::WorkloadEndpoint => "WorkloadEndpoint",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::ServiceAccount => "ServiceAccount",
            Self::EndpointSlice => "EndpointSlice",
        }
    }

    /// The `apiVersion` of the kind.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Route => "vrouter.io/v1",
            Self::KubernetesNetworkPolicy => "networking.k8s.io/v1",
            Self::Namespace | Self::Pod | Self::ServiceAccount => CORE,
            Self::EndpointSlice => "discovery.k8s.io/v1",
            _ => CALICO,
        }
    }

    /// Whether objects of the kind belong to a namespace.
    pub fn is_namespaced(self) -> bool {
        matches!(
            self,
            Self::NetworkPolicy
                | Self::StagedNetworkPolicy
                | Self::KubernetesNetworkPolicy
                | Self::StagedKubernetesNetworkPolicy
                | Self::NetworkSet
                | Self::WorkloadEndpoint
                | Self::Pod
                | Self::ServiceAccount
                | Self::EndpointSlice
        )
    }

    /// Whether an object of the kind says nothing without a `spec`.
    pub(crate) fn needs_spec(self) -> bool {
        matches!(self, Self::IpPool | Self::Route | Self::HostEndpoint | Self::WorkloadEndpoint)
    }

    /// The kinds of this release, for a message.
    pub fn expected() -> String {
        let names = Self::ALL.map(Self::as_str);
        let (last, rest) = names.split_last().expect("there are kinds");
        format!("{} or {last}", rest.join(", "))
    }

    /// The kind that is written so; of two written alike, the one of this `apiVersion`.
    pub(crate) fn find(written: &str, api_version: &str) -> Option<Kind> {
        let alike = || Self::ALL.into_iter().filter(|kind| kind.written() == written);
        alike().find(|kind| kind.api_version() == api_version).or_else(|| alike().next())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Reads a kind as people type it: any case, singular or plural.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        // The word of the configuration file for the kind.
        if matches!(text.to_ascii_lowercase().as_str(), "pool" | "pools") {
            return Ok(Self::IpPool);
        }
        let is = |name: &str| {
            let plural = match name.strip_suffix('y') {
                Some(stem) => format!("{stem}ies"),
                None => format!("{name}s"),
            };
            text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&plural)
        };
        if let Some(kind) = Self::ALL.into_iter().find(|kind| is(kind.as_str())) {
            return Ok(kind);
        }
        Err(match ELSEWHERE.iter().find(|name| is(name)) {
            Some(name) => UnknownKind::Unsupported((*name).to_owned()),
            None => UnknownKind::Unknown(text.to_owned()),
        })
    }
}
