//! The policy of one workload endpoint, compiled to one verdict a direction.

use crate::rule::{Action, Direction, RuleBook, RuleId, Verdict};

/// A profile: what holds for an endpoint where no policy has decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Its name, such as `kns.default`.
    pub name: String,
    /// What happens to packets toward the endpoint.
    pub ingress: Action,
    /// What happens to packets from the endpoint.
    pub egress: Action,
}

impl Profile {
    /// The profile that Calico synthesises for a Kubernetes namespace: allow.
    pub fn of_namespace(namespace: &str) -> Self {
        Profile { name: format!("kns.{namespace}"), ingress: Action::Allow, egress: Action::Allow }
    }
}

/// What the packet path asks: one verdict for each direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndpointPolicy {
    ingress: Verdict,
    egress: Verdict,
}

impl EndpointPolicy {
    /// The policy of a port that is no workload endpoint: everything passes, and
    /// no rule is named.
    pub const NOT_POLICED: EndpointPolicy = {
        let pass = Verdict { action: Action::Allow, rule: RuleId::NONE };
        EndpointPolicy { ingress: pass, egress: pass }
    };

    /// Compiles the profiles of an endpoint: the first one decides, and without
    /// any the endpoint is denied both ways.
    pub fn compile(profiles: &[Profile], book: &mut RuleBook) -> Self {
        let mut verdict = |direction| match profiles.first() {
            Some(profile) => Verdict {
                action: match direction {
                    Direction::Ingress => profile.ingress,
                    Direction::Egress => profile.egress,
                },
                rule: book.id(&format!("profile {} {direction}", profile.name)),
            },
            None => Verdict { action: Action::Deny, rule: book.id(&format!("no profile {direction}")) },
        };
        EndpointPolicy { ingress: verdict(Direction::Ingress), egress: verdict(Direction::Egress) }
    }

    /// The verdict for a direction.
    #[inline]
    pub fn verdict(&self, direction: Direction) -> Verdict {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_profile_allows_both_ways_and_is_named() {
        let mut book = RuleBook::default();
        let policy = EndpointPolicy::compile(&[Profile::of_namespace("default")], &mut book);
        for (direction, name) in [
            (Direction::Ingress, "profile kns.default ingress"),
            (Direction::Egress, "profile kns.default egress"),
        ] {
            let verdict = policy.verdict(direction);
            assert_eq!(verdict.action, Action::Allow);
            assert_eq!(book.name(verdict.rule), Some(name));
        }
    }

    #[test]
    fn an_endpoint_without_a_profile_is_denied() {
        let mut book = RuleBook::default();
        let policy = EndpointPolicy::compile(&[], &mut book);
        assert_eq!(policy.verdict(Direction::Ingress).action, Action::Deny);
        assert_eq!(policy.verdict(Direction::Egress).action, Action::Deny);
        assert_ne!(policy.verdict(Direction::Egress).rule, RuleId::NONE);
    }

    #[test]
    fn the_first_profile_decides() {
        let mut book = RuleBook::default();
        let closed = Profile { name: "closed".into(), ingress: Action::Deny, egress: Action::Allow };
        let policy = EndpointPolicy::compile(&[closed, Profile::of_namespace("x")], &mut book);
        assert_eq!(policy.verdict(Direction::Ingress).action, Action::Deny);
        assert_eq!(policy.verdict(Direction::Egress).action, Action::Allow);
    }
}
