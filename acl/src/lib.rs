//! May this packet pass, and which rule says so?
//!
//! ```text
//!   source pod --egress policy--> [route] --ingress policy--> destination pod
//!                    |                            |
//!                 Verdict                      Verdict     (action + the id of the rule that made it)
//! ```
//!
//! This release knows profiles, the last of Calico's three kinds of policy: each
//! allows or denies a whole direction. An endpoint's profiles are asked in order
//! and the first one decides; an endpoint without a profile is denied both ways,
//! as in Calico. A pod that names none gets the profile of its namespace,
//! `kns.<namespace>`, which allows both ways ([`Profile::of_namespace`]).
//!
//! Tiers and ordered policies are not here yet; the packet path already carries a
//! verdict with a rule id for every packet, so they change this crate alone.
// The prefetch instruction is in `conntrack::prefetch`; nothing else may be unsafe.
#![deny(unsafe_code)]

pub mod conntrack;
mod endpoint;
mod rule;

pub use endpoint::{EndpointPolicy, Profile};
pub use rule::{Action, Direction, RuleBook, RuleId, Verdict};
