//! The closed set of kinds, their canonical text, and what only shows when resources stand together.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

use crate::ip_pool::{IpPool, overlapping};
use crate::metadata::Metadata;
use crate::problem::Problem;
use crate::route::Route;

/// The kinds of resources that this release reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// [`IpPool`].
    IpPool,
    /// [`Route`].
    Route,
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
const ELSEWHERE: [&str; 20] = [
    "BGPConfiguration",
    "BGPFilter",
    "BGPPeer",
    "BlockAffinity",
    "CalicoNodeStatus",
    "ClusterInformation",
    "FelixConfiguration",
    "GlobalNetworkPolicy",
    "GlobalNetworkSet",
    "HostEndpoint",
    "IPAMConfiguration",
    "IPReservation",
    "KubeControllersConfiguration",
    "NetworkPolicy",
    "NetworkSet",
    "Node",
    "Profile",
    "StagedNetworkPolicy",
    "Tier",
    "WorkloadEndpoint",
];

impl Kind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 2] = [Self::IpPool, Self::Route];

    /// The kind as it is written in a resource.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IpPool => "IPPool",
            Self::Route => "Route",
        }
    }

    /// The `apiVersion` of the kind.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::IpPool => "projectcalico.org/v3",
            Self::Route => "vrouter.io/v1",
        }
    }

    /// The kinds of this release, for a message.
    pub fn expected() -> String {
        Self::ALL.map(Self::as_str).join(" or ")
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
            let rest = text
                .get(..name.len())
                .filter(|head| head.eq_ignore_ascii_case(name))
                .map(|_| &text[name.len()..]);
            matches!(rest, Some("" | "s" | "S"))
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

/// A resource that is right in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// A range of pod addresses.
    IpPool(IpPool),
    /// A static route.
    Route(Route),
}

#[derive(Serialize)]
struct Canonical<'a, S> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    metadata: &'a Metadata,
    spec: &'a S,
}

impl Serialize for Resource {
    /// The canonical form: `apiVersion`, `kind`, `metadata`, `spec`, with every default written out.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, metadata) = (self.kind(), self.metadata());
        let (api_version, kind) = (kind.api_version(), kind.as_str());
        match self {
            Self::IpPool(pool) => {
                Canonical { api_version, kind, metadata, spec: &pool.spec }.serialize(serializer)
            }
            Self::Route(route) => {
                Canonical { api_version, kind, metadata, spec: &route.spec }.serialize(serializer)
            }
        }
    }
}

impl Resource {
    /// The resource's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::IpPool(_) => Kind::IpPool,
            Self::Route(_) => Kind::Route,
        }
    }

    /// The resource's metadata.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::IpPool(pool) => &pool.metadata,
            Self::Route(route) => &route.metadata,
        }
    }

    /// The resource's name, unique within its kind.
    pub fn name(&self) -> &str {
        &self.metadata().name
    }

    /// Canonical YAML, one document without separators.
    pub fn to_yaml(&self) -> String {
        serde_yaml_ng::to_string(self).expect("strings, numbers and lists always have a YAML form")
    }

    /// Canonical JSON.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("string keys and plain values always have a JSON form")
    }
}

/// Canonical YAML of several resources, separated by `---`.
pub fn to_yaml_documents<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> String {
    let documents: Vec<String> = resources.into_iter().map(Resource::to_yaml).collect();
    documents.join("---\n")
}

/// What is wrong with a set of resources that are each right in themselves: a name used twice within a
/// kind, pools that share addresses, two routes of one prefix and metric.
///
/// Call it on the whole set as it would be after a change. Each problem is tied to the later of the two
/// resources and names the other.
pub fn check_set<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Vec<Problem> {
    let mut out = Vec::new();
    let mut names: BTreeMap<(Kind, &str), ()> = BTreeMap::new();
    let mut pools: Vec<&IpPool> = Vec::new();
    let mut routes: BTreeMap<_, &str> = BTreeMap::new();
    for resource in resources {
        let (kind, name) = (resource.kind(), resource.name());
        if names.insert((kind, name), ()).is_some() {
            let problem =
                Problem::new("metadata.name", format!("{name:?} is used twice"), "a name of its own");
            out.push(problem.of(0, kind.as_str(), name));
        }
        match resource {
            Resource::IpPool(pool) => pools.push(pool),
            Resource::Route(route) => {
                let key = (route.spec.prefix, route.spec.metric);
                if let Some(other) = routes.insert(key, name).filter(|other| *other != name) {
                    let message =
                        format!("{} with metric {} is already the prefix of route {other:?}", key.0, key.1);
                    let problem = Problem::new("spec.prefix", message, "another prefix or metric");
                    out.push(problem.of(0, kind.as_str(), name));
                }
            }
        }
    }
    let ranges: Vec<_> = pools.iter().map(|pool| pool.spec.cidr).collect();
    for (earlier, later) in overlapping(&ranges) {
        let (one, other) = (pools[later], pools[earlier]);
        if one.metadata.name == other.metadata.name {
            continue;
        }
        let message =
            format!("{} overlaps {} of pool {:?}", one.spec.cidr, other.spec.cidr, other.metadata.name);
        let problem = Problem::new("spec.cidr", message, "ranges that share no address");
        out.push(problem.of(0, Kind::IpPool.as_str(), &one.metadata.name));
    }
    out
}
