//! From resources to what the policy engine compiles: labels, namespaces and names become sets and
//! numbers.
//!
//! ```text
//!  api::Resource --apply--> PolicyWorld
//!     pods, endpoints, network sets --labels--> selector sets (acl::SetId)
//!     tiers, policies, profiles ---------rules--> acl::Ruleset of each endpoint and direction
//!                                                     |
//!                   publish() -> programs, tries, endpoints that changed -> tables
//! ```
//!
//! | part | what it does |
//! |---|---|
//! | [`labels`] | labels that selectors see; selectors narrowed to namespaces and service accounts |
//! | `label_index` | which selectors and items may fit, without asking all |
//! | [`selector_sets`] | one address set for each distinct selector, kept up to date |
//! | [`services`] | sets of the endpoints of services |
//! | [`translate`] | a rule of a resource as a rule in numbers |
//! | [`rule_names`] | what the numbers in verdicts mean |
//! | [`endpoint`] | which policies apply to an endpoint, and the rule sets made of them |
//! | [`plan`] | endpoints that changed get programs, shared where they are alike |
//! | [`overview`] | all of it in order, for people |
//! | `failsafe` | ports that no policy of a host endpoint closes |
//! | [`host_places`] | which host endpoint is at which device |
//! | [`path`] | who is asked about a packet, and in which order |
//! | [`query`] | what policy says of a packet, and why |
//! | [`conditions`] | what rules ask for and packets have, for people |
//! | [`world`] | all of it, changed by one resource at a time |
//!
//! The module is pure: no I/O, no clock, and nothing of the router but the engine's and the resource
//! model's crates.

pub mod conditions;
pub mod endpoint;
mod failsafe;
pub mod host_places;
mod keys_by_name;
mod label_index;
pub mod labels;
pub mod overview;
pub mod path;
pub mod plan;
pub mod query;
pub mod rule_names;
pub mod selector_sets;
pub mod services;
pub mod translate;
pub mod world;

#[cfg(test)]
mod tests;

pub use endpoint::{EndpointKey, EndpointPrograms, HostPrograms};
pub use path::{HostPoint, NodeView, Path, Way};
pub use query::{Answer, Packet, Query, QueryError, Questions, SideAnswer, StepText, Verdicts};
pub use rule_names::{RuleName, RuleNames};
pub use world::{Change, PolicyWorld};
