//! `NetworkPolicy`, `GlobalNetworkPolicy` and their staged kinds: who is policed, and by which rules.
//!
//! Policies of a tier are asked by rising `order`, one without an order last, and by name where orders
//! are equal. A policy applies to the directions in `types`; absent, these follow from the rules it has
//! (none at all: ingress). A staged policy is evaluated and reported, never enforced.

use std::cmp::Ordering;

use serde::{Serialize, Serializer};
use serde_yaml_ng::Value;

use super::rule::{Rule, take_selector};
use super::rule_lists::RuleLists;
use crate::fields::{Fields, show};
use crate::metadata::Metadata;
use crate::problem::Problem;
use crate::resource::Kind;
use crate::selector::Selector;

/// The place of a policy in its tier or of a tier among tiers: lower is asked first.
#[derive(Debug, Clone, Copy)]
pub struct Order(f64);

impl Order {
    /// An order. Not-a-number is none.
    pub fn new(value: f64) -> Option<Self> {
        (!value.is_nan()).then_some(Order(value))
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.0
    }

    pub(crate) fn take(fields: &mut Fields<'_>) -> Option<Order> {
        let value = fields.take("order")?;
        let order = value.as_f64().and_then(Order::new);
        if order.is_none() {
            fields.problem("order", format!("found {}", show(value)), "a number");
        }
        order
    }

    /// Compares orders, of which an absent one is the last.
    pub fn compare(one: Option<Order>, other: Option<Order>) -> Ordering {
        match (one, other) {
            (Some(one), Some(other)) => one.cmp(&other),
            (one, other) => one.is_none().cmp(&other.is_none()),
        }
    }
}

impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> Ordering {
        // Adding zero makes the two zeros one.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = self.0 as i64;
        if whole as f64 == self.0 {
            serializer.serialize_i64(whole)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// A direction, seen from the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum PolicyType {
    /// Toward the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

/// What is proposed for the enforced policy of the same name; only recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum StagedAction {
    /// To put this policy in its place.
    Set,
    /// To delete it.
    Delete,
    /// This policy is being learned.
    Learn,
    /// Nothing.
    Ignore,
}

/// What a policy asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PolicySpec {
    /// Staged kinds: the proposal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<StagedAction>,
    /// The tier it belongs to.
    pub tier: String,
    /// Its place there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Labels of the endpoints it applies to.
    pub selector: Selector,
    /// Global kinds: labels of the namespaces of those endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// Labels of the service accounts of those endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_selector: Option<Selector>,
    /// Directions it applies to; never empty.
    pub types: Vec<PolicyType>,
    /// Rules for packets toward the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for packets from the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Host endpoints: before connection tracking.
    #[serde(skip_serializing_if = "is_false")]
    pub do_not_track: bool,
    /// Host endpoints: before destination translation.
    #[serde(rename = "preDNAT", skip_serializing_if = "is_false")]
    pub pre_dnat: bool,
    /// Host endpoints: also what they forward.
    #[serde(skip_serializing_if = "is_false")]
    pub apply_on_forward: bool,
    /// Hints to Calico's own data planes, of no effect here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<String>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Types of a policy that names none.
pub(crate) fn default_types(ingress: bool, egress: bool) -> Vec<PolicyType> {
    match (ingress, egress) {
        (_, false) => vec![PolicyType::Ingress],
        (false, true) => vec![PolicyType::Egress],
        (true, true) => vec![PolicyType::Ingress, PolicyType::Egress],
    }
}

impl PolicySpec {
    /// A policy of the default tier without rules.
    pub fn new(selector: Selector, types: Vec<PolicyType>) -> Self {
        PolicySpec {
            staged_action: None,
            tier: "default".to_owned(),
            order: None,
            selector,
            namespace_selector: None,
            service_account_selector: None,
            types,
            ingress: Vec::new(),
            egress: Vec::new(),
            do_not_track: false,
            pre_dnat: false,
            apply_on_forward: false,
            performance_hints: Vec::new(),
        }
    }

    /// The rules of a direction.
    pub fn rules(&self, direction: PolicyType) -> &[Rule] {
        match direction {
            PolicyType::Ingress => &self.ingress,
            PolicyType::Egress => &self.egress,
        }
    }

    fn lists(&self) -> RuleLists<'_> {
        RuleLists { ingress: &self.ingress, egress: &self.egress }
    }

    /// What this policy asks for that a router of packets does not do, each with its path. The policy
    /// is right and in force nevertheless.
    pub fn not_enforced(&self) -> Vec<Problem> {
        let mut out = self.lists().not_enforced();
        if !self.performance_hints.is_empty() {
            out.push(Problem::new("spec.performanceHints", "has no effect here", ""));
        }
        out
    }

    /// What this policy says in vain, each with its path; the policy does all it means nevertheless.
    /// `types` is the field that names its directions.
    pub(crate) fn of_no_effect(&self, types: &str) -> Vec<Problem> {
        let lists =
            [("ingress", PolicyType::Ingress, &self.ingress), ("egress", PolicyType::Egress, &self.egress)];
        let unasked =
            lists.into_iter().filter(|(_, kind, rules)| !rules.is_empty() && !self.types.contains(kind));
        let told = unasked.map(|(list, kind, _)| {
            Problem::new(
                format!("spec.{list}"),
                format!("is never asked: {types} does not hold {kind:?}"),
                "",
            )
        });
        told.collect()
    }
}

/// A policy of one of Calico's four kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Which kind.
    pub kind: Kind,
    /// Name and, for namespaced kinds, namespace.
    pub metadata: Metadata,
    /// What it asks for.
    pub spec: PolicySpec,
}

impl Policy {
    /// A policy as if it had been read.
    pub fn new(kind: Kind, metadata: Metadata, spec: PolicySpec) -> Self {
        Policy { kind, metadata, spec }
    }

    /// Whether it is evaluated but not enforced.
    pub fn is_staged(&self) -> bool {
        matches!(self.kind, Kind::StagedNetworkPolicy | Kind::StagedGlobalNetworkPolicy)
    }

    pub(crate) fn read(kind: Kind, metadata: Metadata, mut fields: Fields<'_>) -> (Self, Vec<Problem>) {
        const TYPES: [(&str, PolicyType); 2] =
            [("Ingress", PolicyType::Ingress), ("Egress", PolicyType::Egress)];
        let staged = matches!(kind, Kind::StagedNetworkPolicy | Kind::StagedGlobalNetworkPolicy);
        let global = matches!(kind, Kind::GlobalNetworkPolicy | Kind::StagedGlobalNetworkPolicy);
        let staged_action = staged.then(|| take_staged_action(&mut fields));
        let tier = fields.string("tier").filter(|tier| !tier.is_empty()).unwrap_or("default").to_owned();
        let order = Order::take(&mut fields);
        let has_selector = fields.has("selector");
        let selector = take_selector(&mut fields, "selector").unwrap_or_else(Selector::all);
        let namespace_selector = global.then(|| take_selector(&mut fields, "namespaceSelector")).flatten();
        let service_account_selector = take_selector(&mut fields, "serviceAccountSelector");
        let mut types: Vec<PolicyType> = Vec::new();
        for (index, value) in
            fields.list("types", "Ingress and Egress").unwrap_or_default().iter().enumerate()
        {
            let key = format!("types[{index}]");
            match TYPES.iter().find(|(name, _)| value.as_str() == Some(name)) {
                Some((_, found)) if types.contains(found) => {
                    fields.problem(&key, format!("{found:?} is there twice"), "once");
                }
                Some((_, found)) => types.push(*found),
                None => fields.problem(&key, format!("found {}", show(value)), "Ingress or Egress"),
            }
        }
        let ingress = Rule::take_list(&mut fields, "ingress");
        let egress = Rule::take_list(&mut fields, "egress");
        let mut flag = |key| global && fields.boolean(key);
        let (do_not_track, pre_dnat, apply_on_forward) =
            (flag("doNotTrack"), flag("preDNAT"), flag("applyOnForward"));
        let performance_hints = take_hints(&mut fields);
        if types.is_empty() {
            types = default_types(!ingress.is_empty(), !egress.is_empty());
        }
        types.sort_unstable();
        let spec = PolicySpec {
            staged_action,
            tier,
            order,
            selector,
            namespace_selector,
            service_account_selector,
            types,
            ingress,
            egress,
            do_not_track,
            pre_dnat,
            apply_on_forward,
            performance_hints,
        };
        if staged_action == Some(StagedAction::Delete) {
            let asks = has_selector || !spec.ingress.is_empty() || !spec.egress.is_empty();
            if asks || spec.order.is_some() || fields.has("types") {
                let message = "Delete beside other fields: a deletion names the tier alone";
                fields.problem("stagedAction", message, "stagedAction and tier");
            }
        } else {
            spec.check(global, &mut fields);
        }
        (Policy { kind, metadata, spec }, fields.finish())
    }
}

impl PolicySpec {
    /// What only shows across rules and fields.
    fn check(&self, global: bool, fields: &mut Fields<'_>) {
        self.lists().check(global, fields);
        if self.do_not_track && self.pre_dnat {
            fields.problem("preDNAT", "true beside doNotTrack", "at most one of them");
        }
        if (self.do_not_track || self.pre_dnat) && !self.apply_on_forward {
            fields.problem("applyOnForward", "false beside doNotTrack or preDNAT", "true");
        }
        if self.pre_dnat {
            if !self.egress.is_empty() {
                fields.problem("egress", "egress rules beside preDNAT", "ingress rules only");
            }
            if self.types.contains(&PolicyType::Egress) && self.egress.is_empty() {
                fields.problem("types", "Egress beside preDNAT", "[Ingress]");
            }
        }
    }
}

pub(crate) fn take_staged_action(fields: &mut Fields<'_>) -> StagedAction {
    const ACTIONS: [(&str, StagedAction); 4] = [
        ("Set", StagedAction::Set),
        ("Delete", StagedAction::Delete),
        ("Learn", StagedAction::Learn),
        ("Ignore", StagedAction::Ignore),
    ];
    fields.word("stagedAction", &ACTIONS, StagedAction::Set)
}

fn take_hints(fields: &mut Fields<'_>) -> Vec<String> {
    const KNOWN: &str = "AssumeNeededOnEveryNode";
    let mut out = Vec::new();
    for (index, value) in fields.list("performanceHints", "hints").unwrap_or_default().iter().enumerate() {
        match value {
            Value::String(hint) if hint == KNOWN && !out.contains(hint) => out.push(hint.clone()),
            other => {
                fields.problem(
                    &format!("performanceHints[{index}]"),
                    format!("found {}", show(other)),
                    KNOWN,
                );
            }
        }
    }
    out
}
