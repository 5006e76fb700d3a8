//! The resource model: what `vrctl apply`, `get` and `delete` speak of.
//!
//! ```text
//!  YAML or JSON text                                   canonical YAML or JSON
//!        |  read(): one Object per document                    ^
//!        v                                                     |
//!  Object { document, kind, name, outcome: Result<Resource, Vec<Problem>> }
//!                                                |
//!                                check_set(): what only shows beside the others
//! ```
//!
//! | apiVersion | kind | module | source of the fields |
//! |---|---|---|---|
//! | `projectcalico.org/v3` | `IPPool` | [`ip_pool`] | Calico's IPPool, read unchanged |
//! | `projectcalico.org/v3`, `networking.k8s.io/v1` | policies, tiers, profiles, network sets | [`policy`] | Calico's and Kubernetes' references, read unchanged |
//! | `projectcalico.org/v3`, `v1`, `discovery.k8s.io/v1` | endpoints, pods, namespaces, service accounts | [`endpoint`] | the same |
//! | `vrouter.io/v1` | `Route` | [`route`] | a static route of one node |
//!
//! Selectors, the language in which policies name endpoints, are in [`selector`].
//!
//! Invariants: a [`Resource`] that left this crate holds only what this release enforces; a field that
//! it does not enforce, an unknown field and an unknown kind are [`Problem`]s that name it. All
//! problems of a document are reported together. Nothing here does I/O or reads a clock.

#![forbid(unsafe_code)]

mod document;
pub mod endpoint;
mod fields;
pub mod ip_pool;
mod kind;
mod metadata;
mod name;
pub mod policy;
mod problem;
mod resource;
pub mod route;
pub mod selector;

pub use document::{Object, ObjectRef, read, references};
pub use endpoint::{
    EndpointPort, EndpointSlice, HostEndpoint, Namespace, Pod, ServiceAccount, WorkloadEndpoint,
};
pub use ip_pool::{AllowedUse, AssignmentMode, EncapMode, IpPool, IpPoolSpec};
pub use metadata::Metadata;
pub use name::{NameError, check_dns_label, check_dns_name, check_label_key, check_label_value};
pub use policy::{
    Action, DefaultAction, EntityRule, FailsafePort, Icmp, KubernetesPolicy, NetworkSet, Order, Policy,
    PolicySpec, PolicyType, Port, Profile, Protocol, Rule, ServiceMatch, Tier,
};
pub use problem::Problem;
pub use resource::{Kind, Resource, UnknownKind, check_set, to_yaml_documents};
pub use route::{NextHop, Route, RouteEncap, RouteSpec, RouteType};
pub use selector::{Labels, Selector, SelectorError};
