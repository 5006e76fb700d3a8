//! Resources, their canonical text, and what only shows when they stand together.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::ser::SerializeMap;

use crate::endpoint::{EndpointSlice, HostEndpoint, Namespace, Pod, ServiceAccount, WorkloadEndpoint};
use crate::ip_pool::{IpPool, overlapping};
use crate::metadata::Metadata;
use crate::policy::{KubernetesPolicy, NetworkSet, Policy, PolicySpec, Profile, Tier};
use crate::problem::Problem;
use crate::route::Route;

pub use crate::kind::{Kind, UnknownKind};

/// A resource that is right in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// A range of pod addresses.
    IpPool(IpPool),
    /// A static route.
    Route(Route),
    /// A tier of policies.
    Tier(Tier),
    /// A policy of one of Calico's four kinds.
    Policy(Policy),
    /// A policy in Kubernetes' words, staged or not.
    KubernetesPolicy(KubernetesPolicy),
    /// A network set, global or not.
    NetworkSet(NetworkSet),
    /// A profile.
    Profile(Profile),
    /// An interface of a node.
    HostEndpoint(HostEndpoint),
    /// A pod's port.
    WorkloadEndpoint(WorkloadEndpoint),
    /// A Kubernetes namespace.
    Namespace(Namespace),
    /// A Kubernetes pod.
    Pod(Pod),
    /// A Kubernetes service account.
    ServiceAccount(ServiceAccount),
    /// Endpoints of a Kubernetes service.
    EndpointSlice(EndpointSlice),
}

impl Serialize for Resource {
    /// The canonical form: `apiVersion`, `kind`, `metadata`, `spec`, with every default written out.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // YAML and JSON alone know how to flatten, so the body is a value where it is not one field.
        use serde::ser::Error;
        let kind = self.kind();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("apiVersion", kind.api_version())?;
        map.serialize_entry("kind", kind.written())?;
        map.serialize_entry("metadata", self.metadata())?;
        match self {
            Self::IpPool(pool) => map.serialize_entry("spec", &pool.spec)?,
            Self::Route(route) => map.serialize_entry("spec", &route.spec)?,
            Self::Tier(tier) => map.serialize_entry("spec", &tier.spec)?,
            Self::Policy(policy) => map.serialize_entry("spec", &policy.spec)?,
            Self::KubernetesPolicy(policy) => map.serialize_entry("spec", &policy.written)?,
            Self::NetworkSet(set) => map.serialize_entry("spec", &set.spec)?,
            Self::Profile(profile) => map.serialize_entry("spec", &profile.spec)?,
            Self::HostEndpoint(endpoint) => map.serialize_entry("spec", &endpoint.spec)?,
            Self::WorkloadEndpoint(endpoint) => map.serialize_entry("spec", &endpoint.spec)?,
            Self::Namespace(_) | Self::ServiceAccount(_) => {}
            Self::Pod(pod) => {
                entries(&mut map, serde_json::to_value(pod.written()).map_err(S::Error::custom)?)?
            }
            Self::EndpointSlice(slice) => {
                entries(&mut map, serde_json::to_value(slice.written()).map_err(S::Error::custom)?)?;
            }
        }
        map.end()
    }
}

fn entries<M: SerializeMap>(map: &mut M, value: serde_json::Value) -> Result<(), M::Error> {
    let serde_json::Value::Object(fields) = value else { return Ok(()) };
    fields.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))
}

impl Resource {
    /// The resource's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::IpPool(_) => Kind::IpPool,
            Self::Route(_) => Kind::Route,
            Self::Tier(_) => Kind::Tier,
            Self::Policy(policy) => policy.kind,
            Self::KubernetesPolicy(policy) => policy.kind,
            Self::NetworkSet(set) => set.kind,
            Self::Profile(_) => Kind::Profile,
            Self::HostEndpoint(_) => Kind::HostEndpoint,
            Self::WorkloadEndpoint(_) => Kind::WorkloadEndpoint,
            Self::Namespace(_) => Kind::Namespace,
            Self::Pod(_) => Kind::Pod,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
        }
    }

    /// The resource's metadata.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::IpPool(pool) => &pool.metadata,
            Self::Route(route) => &route.metadata,
            Self::Tier(tier) => &tier.metadata,
            Self::Policy(policy) => &policy.metadata,
            Self::KubernetesPolicy(policy) => &policy.metadata,
            Self::NetworkSet(set) => &set.metadata,
            Self::Profile(profile) => &profile.metadata,
            Self::HostEndpoint(endpoint) => &endpoint.metadata,
            Self::WorkloadEndpoint(endpoint) => &endpoint.metadata,
            Self::Namespace(namespace) => &namespace.metadata,
            Self::Pod(pod) => &pod.metadata,
            Self::ServiceAccount(account) => &account.metadata,
            Self::EndpointSlice(slice) => &slice.metadata,
        }
    }

    /// The resource's name; for a namespaced kind unique within the namespace only.
    pub fn name(&self) -> &str {
        &self.metadata().name
    }

    /// The resource's name within its kind: `NAMESPACE/NAME` for a namespaced kind.
    pub fn full_name(&self) -> String {
        let Metadata { name, namespace, .. } = self.metadata();
        if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") }
    }

    /// What the resource asks for that this router does not do though it accepts the resource.
    pub fn not_enforced(&self) -> Vec<Problem> {
        let told = match self {
            Self::Policy(policy) => policy.spec.not_enforced(),
            Self::KubernetesPolicy(policy) => policy.spec.not_enforced(),
            Self::Profile(profile) => profile.spec.not_enforced(),
            _ => Vec::new(),
        };
        self.named(told)
    }

    /// What the resource says in vain though all that it means is done, here as in Calico.
    pub fn of_no_effect(&self) -> Vec<Problem> {
        let told = match self {
            Self::Policy(policy) => policy.spec.of_no_effect("types"),
            Self::KubernetesPolicy(policy) => policy.spec.of_no_effect("policyTypes"),
            _ => Vec::new(),
        };
        self.named(told)
    }

    /// Problems, with the name of the resource.
    fn named(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let (kind, name) = (self.kind().as_str(), self.full_name());
        problems.into_iter().map(|problem| problem.of(0, kind, &name)).collect()
    }

    /// Tier and rules, where the resource is a policy.
    pub fn policy_spec(&self) -> Option<&PolicySpec> {
        match self {
            Self::Policy(policy) => Some(&policy.spec),
            Self::KubernetesPolicy(policy) => Some(&policy.spec),
            _ => None,
        }
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
/// kind (and namespace), pools that share addresses, two routes of one prefix and metric, a policy of a
/// tier that is not there, two descriptions of one pod.
///
/// Call it on the whole set as it would be after a change. Each problem is tied to the later of the two
/// resources and names the other.
pub fn check_set<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Vec<Problem> {
    let mut out = Vec::new();
    let mut names: BTreeSet<(Kind, &str, &str)> = BTreeSet::new();
    let built_in = Tier::built_in();
    let mut tiers: BTreeSet<&str> = built_in.iter().map(|tier| tier.metadata.name.as_str()).collect();
    let mut policies: Vec<(&Resource, &str)> = Vec::new();
    let mut pools: Vec<&IpPool> = Vec::new();
    let mut routes: BTreeMap<_, &str> = BTreeMap::new();
    let mut workloads: BTreeMap<(&str, &str), &Resource> = BTreeMap::new();
    for resource in resources {
        let (kind, name) = (resource.kind(), resource.name());
        if !names.insert((kind, &resource.metadata().namespace, name)) {
            let problem =
                Problem::new("metadata.name", format!("{name:?} is used twice"), "a name of its own");
            out.push(problem.of(0, kind.as_str(), name));
        }
        match resource {
            Resource::IpPool(pool) => pools.push(pool),
            Resource::Route(route) => {
                let key = (route.spec.prefix, route.spec.metric, &route.spec.vrf);
                if let Some(other) = routes.insert(key, name).filter(|other| *other != name) {
                    let of = if key.2.is_empty() { String::new() } else { format!(" of VRF {}", key.2) };
                    let message = format!(
                        "{}{of} with metric {} is already the prefix of route {other:?}",
                        key.0, key.1
                    );
                    let problem = Problem::new("spec.prefix", message, "another prefix or metric");
                    out.push(problem.of(0, kind.as_str(), name));
                }
            }
            Resource::Tier(tier) => {
                tiers.insert(&tier.metadata.name);
            }
            Resource::Pod(_) | Resource::WorkloadEndpoint(_) => {
                let of = match resource {
                    Resource::WorkloadEndpoint(workload) => workload.pod_name(),
                    _ => name,
                };
                let other = workloads.insert((&resource.metadata().namespace, of), resource);
                // Two of one kind and name were told above.
                if let Some(other) = other.filter(|other| (other.kind(), other.name()) != (kind, name)) {
                    let message = format!("{} {} describes the same pod", other.kind(), other.full_name());
                    let problem = Problem::new("metadata.name", message, "one description of a pod");
                    out.push(problem.of(0, kind.as_str(), &resource.full_name()));
                }
            }
            other => policies.extend(other.policy_spec().map(|spec| (other, spec.tier.as_str()))),
        }
    }
    for (policy, tier) in policies.into_iter().filter(|(_, tier)| !tiers.contains(tier)) {
        let problem = Problem::new("spec.tier", format!("there is no tier {tier:?}"), "the name of a tier");
        out.push(problem.of(0, policy.kind().as_str(), policy.name()));
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
