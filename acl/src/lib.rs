//! May this packet pass, and which rule says so?
//!
//! ```text
//!   source pod --egress policy--> [route] --ingress policy--> destination pod
//!                    |                            |
//!                 Verdict                      Verdict     (action + the id of the rule that made it)
//! ```
//!
//! | part | what it does |
//! |---|---|
//! | [`model`] | rules in numbers: tiers, policies, profiles, sets |
//! | [`Engine`] | control side: sets and rule sets come, change and go; compiles, publishes |
//! | [`AddressTrie`] | packet path: from an address to its class (which sets hold it) |
//! | [`Program`] | packet path: from the classes of a burst's headers to verdicts |
//! | [`explain`] | control side: the rules that a packet was asked about, and why each matched or not |
//! | [`conntrack`] | packet path: the flows that packets belong to, what policy said of them |
//! | [`list`] | a plain access list over addresses and ports, without endpoints |
//! | `oracle` | the plain interpreter that decides every test |
//!
//! The packet path reads immutable programs and two tries that change in place; it never locks and never
//! allocates.
// Unsafe are the prefetch instruction in `conntrack::prefetch` and the vector instructions in `list::avx512`.
#![deny(unsafe_code)]

mod bits;
pub mod conntrack;
mod engine;
pub mod explain;
mod headers;
pub mod list;
pub mod model;
#[cfg(any(test, feature = "oracle"))]
pub mod oracle;
mod program;
mod ranges;
mod rule;
mod sets;
#[cfg(test)]
mod tests;
mod trie;

pub use engine::{Engine, ProgramId, Published};
pub use headers::Headers;
pub use program::{CompileError, Decided, Note, Program};
pub use rule::{Action, Direction, RuleBook, RuleId, Verdict};
pub use trie::AddressTrie;
