//! The policy resources: what may talk to what.
//!
//! | kind | module | source of the fields |
//! |---|---|---|
//! | `Tier` | [`tier`] | Calico |
//! | `NetworkPolicy`, `GlobalNetworkPolicy`, `StagedNetworkPolicy`, `StagedGlobalNetworkPolicy` | [`spec`] | Calico |
//! | `NetworkPolicy` of `networking.k8s.io/v1`, `StagedKubernetesNetworkPolicy` | [`kubernetes`] | Kubernetes |
//! | `Profile` | [`profile`] | Calico |
//! | `NetworkSet`, `GlobalNetworkSet` | [`network_set`] | Calico |
//!
//! All of them come to one form, [`PolicySpec`], made of [`Rule`]s; what it means is decided elsewhere.
//! Two fields cannot be enforced by a router of packets and are reported by
//! [`Resource::not_enforced`](crate::Resource::not_enforced): `http` of rules, whose layer 3 and 4 part is
//! enforced, and performance hints. What a policy says in vain, such as rules of a direction that its
//! types do not hold, [`Resource::of_no_effect`](crate::Resource::of_no_effect) reports.

pub mod failsafe;
pub mod kubernetes;
pub mod network_set;
pub mod port;
pub mod profile;
pub mod rule;
mod rule_lists;
pub mod spec;
pub mod tier;

pub use failsafe::FailsafePort;
pub use kubernetes::KubernetesPolicy;
pub use network_set::NetworkSet;
pub use port::{Icmp, Port, Protocol};
pub use profile::Profile;
pub use rule::{Action, EntityRule, Http, HttpPath, Rule, ServiceAccountMatch, ServiceMatch};
pub use spec::{Order, Policy, PolicySpec, PolicyType, StagedAction};
pub use tier::{DefaultAction, Tier};
