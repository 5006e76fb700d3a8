//! The resources that say who is who: addresses, labels and named ports of endpoints.
//!
//! | kind | module |
//! |---|---|
//! | `HostEndpoint`, `WorkloadEndpoint` of `projectcalico.org/v3` | [`calico`] |
//! | `Namespace`, `Pod`, `ServiceAccount` of `v1` | [`kubernetes`] |
//! | `EndpointSlice` of `discovery.k8s.io/v1` | [`mod@slice`] |
//!
//! Of the Kubernetes kinds only what policy needs is read. Their other fields ask nothing of a router
//! and are neither judged nor kept; the fields of Calico's kinds are all judged.

pub mod calico;
pub mod kubernetes;
pub mod slice;

pub use calico::{EndpointPort, HostEndpoint, WorkloadEndpoint};
pub use kubernetes::{Namespace, Pod, ServiceAccount};
pub use slice::EndpointSlice;
