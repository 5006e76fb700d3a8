//! `Tier`: policies that are asked together, before those of later tiers.
//!
//! A packet that policies of a tier apply to and none decides meets the tier's default action. The
//! tier `default` is always there, and so are Calico's two for cluster-wide Kubernetes policies.

use serde::Serialize;

use super::spec::Order;
use crate::fields::Fields;
use crate::metadata::Metadata;
use crate::name::check_dns_label;
use crate::problem::Problem;

/// What becomes of a packet that a tier's policies apply to but do not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum DefaultAction {
    /// It is dropped.
    #[default]
    Deny,
    /// The next tier is asked.
    Pass,
}

/// A tier.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tier {
    /// Its name.
    pub metadata: Metadata,
    /// Its place and its end.
    pub spec: TierSpec,
}

/// Place and end of a tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TierSpec {
    /// Lower is asked first; absent: last. By name where orders are equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// What becomes of undecided packets.
    pub default_action: DefaultAction,
}

/// Tiers that are there without being defined: name, order and default action.
const BUILT_IN: [(&str, f64, DefaultAction); 3] = [
    ("kube-admin", 1_000.0, DefaultAction::Pass),
    ("default", 1_000_000.0, DefaultAction::Deny),
    ("kube-baseline", 10_000_000.0, DefaultAction::Pass),
];

impl Tier {
    /// A tier.
    pub fn new(name: impl Into<String>, order: Option<Order>, default_action: DefaultAction) -> Self {
        Tier { metadata: Metadata::named(name), spec: TierSpec { order, default_action } }
    }

    /// The tiers that are there without being defined.
    pub fn built_in() -> Vec<Tier> {
        BUILT_IN.iter().map(|(name, order, action)| Tier::new(*name, Order::new(*order), *action)).collect()
    }

    pub(crate) fn read(metadata: Metadata, mut fields: Fields<'_>) -> (Self, Vec<Problem>) {
        let order = Order::take(&mut fields);
        let words = [("Deny", DefaultAction::Deny), ("Pass", DefaultAction::Pass)];
        let default_action = fields.word("defaultAction", &words, DefaultAction::Deny);
        if let Some((name, fixed, _)) = BUILT_IN.iter().find(|(name, ..)| *name == metadata.name)
            && order != Order::new(*fixed)
        {
            let found = order.map_or("nothing".to_owned(), |order| order.value().to_string());
            fields.problem("order", format!("found {found} in tier {name}"), fixed.to_string());
        }
        let mut problems = fields.finish();
        if let Err(error) = check_dns_label(&metadata.name)
            && !metadata.name.is_empty()
        {
            let message = format!("{:?} {error}", metadata.name);
            problems.push(Problem::new("metadata.name", message, "a name without dots"));
        }
        (Tier { metadata, spec: TierSpec { order, default_action } }, problems)
    }
}
