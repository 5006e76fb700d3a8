//! What the rule numbers in verdicts, counters and traces mean.

use std::collections::HashMap;
use std::fmt;

use acl::{Direction, RuleBook, RuleId};
use api::Kind;

/// A rule, or an end that decides where no rule does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum RuleName {
    /// A rule of a policy; `index: None`: a staged policy of which no rule decided.
    Policy {
        /// The policy's tier.
        tier: String,
        /// The policy's kind.
        kind: Kind,
        /// The policy's namespace, empty for a global one.
        namespace: String,
        /// The policy's name.
        name: String,
        /// Which way.
        direction: Direction,
        /// Number of the rule in that direction, from 0.
        index: Option<usize>,
    },
    /// The end of a tier that denies by default.
    TierEnd {
        /// The tier.
        tier: String,
        /// Which way.
        direction: Direction,
    },
    /// A rule of a profile.
    Profile {
        /// The profile.
        name: String,
        /// Which way.
        direction: Direction,
        /// Number of the rule in that direction, from 0.
        index: usize,
    },
    /// A port that is always open at host endpoints.
    Failsafe {
        /// Which way.
        direction: Direction,
    },
    /// Nothing has decided, which denies.
    NoMatch {
        /// Which way.
        direction: Direction,
    },
}

impl RuleName {
    /// The tier and the policy or profile, with its namespace, that a rule belongs to.
    pub fn tier_and_policy(&self) -> (Option<String>, Option<String>) {
        match self {
            RuleName::Policy { tier, namespace, name, .. } => {
                let full = if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") };
                (Some(tier.clone()), Some(full))
            }
            RuleName::TierEnd { tier, .. } => (Some(tier.clone()), None),
            RuleName::Profile { name, .. } => (None, Some(name.clone())),
            RuleName::Failsafe { .. } | RuleName::NoMatch { .. } => (None, None),
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleName::Policy { tier, kind, namespace, name, direction, index } => {
                write!(f, "tier {tier} {kind} ")?;
                if !namespace.is_empty() {
                    write!(f, "{namespace}/")?;
                }
                match index {
                    Some(index) => write!(f, "{name} {direction}[{index}]"),
                    None => write!(f, "{name} {direction} no rule"),
                }
            }
            RuleName::TierEnd { tier, direction } => write!(f, "tier {tier} {direction} default"),
            RuleName::Profile { name, direction, index } => write!(f, "profile {name} {direction}[{index}]"),
            RuleName::Failsafe { direction } => write!(f, "failsafe {direction}"),
            RuleName::NoMatch { direction } => write!(f, "no profile {direction}"),
        }
    }
}

/// Numbers of rules. A name keeps its number for ever.
#[derive(Clone, Debug, Default)]
pub struct RuleNames {
    book: RuleBook,
    names: HashMap<RuleId, RuleName>,
}

impl RuleNames {
    /// The number of a name, made on first use.
    pub fn id(&mut self, name: RuleName) -> RuleId {
        let id = self.book.id(&name.to_string());
        self.names.entry(id).or_insert(name);
        id
    }

    /// The number of a name, if it has one.
    pub fn find(&self, name: &RuleName) -> Option<RuleId> {
        self.book.find(&name.to_string())
    }

    /// The name of a number.
    pub fn name(&self, id: RuleId) -> Option<&RuleName> {
        self.names.get(&id)
    }

    /// The names as text, by number.
    pub fn book(&self) -> &RuleBook {
        &self.book
    }
}
