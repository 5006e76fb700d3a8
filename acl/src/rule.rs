//! Rules by number: what a verdict names, and how the number is turned into words.

use std::collections::HashMap;
use std::fmt;

/// The way of a packet, seen from the endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// Toward the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        })
    }
}

/// What a rule does with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Let it pass.
    Allow,
    /// Drop it.
    Deny,
}

/// The number of a rule. [`RuleId::NONE`] means that no rule was asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RuleId(pub u32);

impl RuleId {
    /// No policy applied (the node's own packets, packets of the router itself).
    pub const NONE: RuleId = RuleId(0);
}

/// A decision and the rule that made it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Verdict {
    /// Pass or not.
    pub action: Action,
    /// Why.
    pub rule: RuleId,
}

/// Gives rules their numbers and keeps their names. The same name always gets
/// the same number; numbers are never used again, so that a trace stays readable
/// after the rule is gone.
#[derive(Clone, Debug, Default)]
pub struct RuleBook {
    names: Vec<String>,
    ids: HashMap<String, RuleId>,
}

impl RuleBook {
    /// The number of the rule with this name, made on first use.
    pub fn id(&mut self, name: &str) -> RuleId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        self.names.push(name.to_owned());
        // Number 0 is NONE, so the first name gets 1.
        let id = RuleId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// The number of the rule with this name, if it has one.
    pub fn find(&self, name: &str) -> Option<RuleId> {
        self.ids.get(name).copied()
    }

    /// How many rules have numbers: the last number.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no rule has a number.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of a rule; `None` for [`RuleId::NONE`] and unknown numbers.
    pub fn name(&self, id: RuleId) -> Option<&str> {
        let at = (id.0 as usize).checked_sub(1)?;
        self.names.get(at).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number() {
        let mut book = RuleBook::default();
        let a = book.id("a");
        let b = book.id("b");
        assert_ne!(a, b);
        assert_ne!(a, RuleId::NONE);
        assert_eq!(book.id("a"), a);
        assert_eq!(book.name(b), Some("b"));
        assert_eq!(book.name(RuleId::NONE), None);
        assert_eq!(book.name(RuleId(99)), None);
    }
}
