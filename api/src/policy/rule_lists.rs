//! The two rule lists of a policy or profile: what only shows by the direction of a rule.

use super::rule::Rule;
use crate::fields::Fields;
use crate::problem::Problem;

/// Rules of both directions.
#[derive(Clone, Copy)]
pub(super) struct RuleLists<'a> {
    /// For packets toward the endpoint.
    pub(super) ingress: &'a [Rule],
    /// For packets from the endpoint.
    pub(super) egress: &'a [Rule],
}

impl<'a> RuleLists<'a> {
    /// Both lists, each under its field's name.
    fn named(self) -> [(&'static str, &'a [Rule]); 2] {
        [("ingress", self.ingress), ("egress", self.egress)]
    }

    /// Checks each rule against its direction. `global`: whose rules they are has no namespace.
    pub(super) fn check(self, global: bool, fields: &mut Fields<'_>) {
        for (list, rules) in self.named() {
            for (index, rule) in rules.iter().enumerate() {
                // A service stands at the far end of the packets.
                let (near, far) = match list {
                    "ingress" => (("destination", &rule.destination), ("source", &rule.source)),
                    _ => (("source", &rule.source), ("destination", &rule.destination)),
                };
                if near.1.services.is_some() {
                    let key = format!("{list}[{index}].{}.services", near.0);
                    fields.problem(&key, "stands at the policed endpoint itself", format!("it in {}", far.0));
                }
                if global && far.1.services.as_ref().is_some_and(|service| service.namespace.is_empty()) {
                    let key = format!("{list}[{index}].{}.services.namespace", far.0);
                    fields.problem(&key, "is missing where nothing else names a namespace", "a namespace");
                }
                if list == "egress" && rule.http.is_some() {
                    let key = format!("egress[{index}].http");
                    fields.problem(&key, "in an egress rule", "ingress rules only");
                }
            }
        }
    }

    /// What the rules ask for that a router of packets does not do, each with its path.
    pub(super) fn not_enforced(self) -> Vec<Problem> {
        let rules = self
            .named()
            .into_iter()
            .flat_map(|(list, rules)| rules.iter().enumerate().map(move |at| (list, at)));
        let asking = rules.filter(|(_, (_, rule))| rule.http.is_some());
        let told = asking.map(|(list, (index, _))| {
            Problem::new(
                format!("spec.{list}[{index}].http"),
                "is not enforced: the rule allows whatever its other conditions match",
                "",
            )
        });
        told.collect()
    }
}
