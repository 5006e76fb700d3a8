//! `ListPolicies`: tiers, policies and rules in the order in which they are asked.

use std::collections::BTreeSet;

use acl::{Action, Direction, RuleId};
use api::{DefaultAction, Kind};
use tonic::Status;

use crate::control::policy::overview::{PolicyView, RuleView, TierView};
use crate::control::policy::{self, EndpointKey};
use crate::daemon::Node;
use crate::daemon::not_enforced::NotEnforced;
use crate::rpc::v1;

/// The word of a direction.
pub(super) fn direction_word(direction: Direction) -> String {
    direction.to_string()
}

/// The word of a verdict.
pub(super) fn verdict_word(action: Action) -> &'static str {
    match action {
        Action::Allow => "Allow",
        Action::Deny => "Deny",
    }
}

/// What a request asks for.
struct Filter<'a>(&'a v1::ListPoliciesRequest);

impl Filter<'_> {
    /// Refuses values that name nothing.
    fn check(&self, node: &Node, tiers: &[TierView<'_>]) -> Result<(), Status> {
        let Filter(request) = self;
        let world = node.router.engine().policy();
        let policies = || tiers.iter().flat_map(|tier| &tier.policies);
        let has_namespace = || {
            let of_endpoint = |(key, _): (&EndpointKey, _)| match key {
                EndpointKey::Workload { namespace, .. } => *namespace == request.namespace,
                EndpointKey::Host { .. } => false,
            };
            policies().any(|policy| policy.namespace == request.namespace)
                || node.resources.get(Kind::Namespace, &request.namespace).is_some()
                || world.endpoints().any(of_endpoint)
        };
        let of = match request.namespace.as_str() {
            "" => String::new(),
            namespace => format!(" in namespace {namespace}"),
        };
        let known = [
            (&request.tier, "tier", "", tiers.iter().any(|tier| tier.name == request.tier)),
            (&request.namespace, "namespace", "", has_namespace()),
            (&request.name, "policy", of.as_str(), policies().any(|policy| self.names(policy))),
            (
                &request.endpoint,
                "endpoint",
                "",
                world.endpoints().any(|(key, _)| key.to_string() == request.endpoint),
            ),
        ];
        match known.into_iter().find(|(value, _, _, known)| !value.is_empty() && !known) {
            Some((value, what, of, _)) => Err(Status::not_found(format!("there is no {what} {value}{of}"))),
            None => Ok(()),
        }
    }

    fn wants(&self, policy: &PolicyView<'_>) -> bool {
        self.names(policy) && self.has_endpoint(&policy.endpoints)
    }

    /// Whether a policy has the name and namespace.
    fn names(&self, policy: &PolicyView<'_>) -> bool {
        let Filter(request) = self;
        let full = format!("{}/{}", policy.namespace, policy.name);
        let resource = policy.resource_name();
        let bare = resource.rsplit('/').next().unwrap_or_default();
        let names = [policy.name, bare, &full, &resource];
        (request.name.is_empty() || names.contains(&request.name.as_str()))
            && (request.namespace.is_empty() || request.namespace == policy.namespace)
    }

    fn has_endpoint(&self, endpoints: &BTreeSet<&EndpointKey>) -> bool {
        let Filter(request) = self;
        request.endpoint.is_empty() || endpoints.iter().any(|key| key.to_string() == request.endpoint)
    }

    /// Whether it asks for a policy or a tier, and so not for profiles.
    fn names_policies(&self) -> bool {
        let Filter(request) = self;
        ![&request.tier, &request.namespace, &request.name].into_iter().all(String::is_empty)
    }
}

/// Every tier, policy and rule that a request asks for.
///
/// # Errors
/// There is no such tier, namespace, policy or endpoint.
pub(super) fn list(node: &Node, request: &v1::ListPoliciesRequest) -> Result<v1::ListPoliciesReply, Status> {
    let (filter, world) = (Filter(request), node.router.engine().policy());
    let (told, all) = (node.not_enforced(), world.tiers());
    filter.check(node, &all)?;
    let mut tiers = Vec::new();
    for tier in all {
        if !request.tier.is_empty() && request.tier != tier.name {
            continue;
        }
        let wanted = tier.policies.iter().filter(|policy| filter.wants(policy));
        let policies: Vec<v1::Policy> = wanted.map(|policy| show(node, &told, policy)).collect();
        // A tier without policies is shown where all are, or where it is asked for.
        let narrowed =
            ![&request.namespace, &request.name, &request.endpoint].into_iter().all(String::is_empty);
        if narrowed && policies.is_empty() {
            continue;
        }
        tiers.push(v1::PolicyTier {
            name: tier.name.to_owned(),
            order: tier.order.map(api::Order::value),
            default_action: match tier.default_action {
                Some(DefaultAction::Deny) => "Deny",
                Some(DefaultAction::Pass) => "Pass",
                None => "",
            }
            .to_owned(),
            policies,
            ends: ends(node, tier.ends),
        });
    }
    let mut profiles = Vec::new();
    if !filter.names_policies() {
        for profile in world.profiles() {
            if filter.has_endpoint(&profile.endpoints) {
                profiles.push(v1::PolicyProfile {
                    name: profile.name.to_owned(),
                    endpoints: profile.endpoints.iter().map(ToString::to_string).collect(),
                    rules: profile.rules.iter().map(|rule| show_rule(node, rule)).collect(),
                    conditions: conditions(&told, Kind::Profile, profile.name),
                });
            }
        }
    }
    let problems = node.router.engine().policy_problems().into_iter();
    Ok(v1::ListPoliciesReply {
        tiers,
        profiles,
        ends: if filter.names_policies() { Vec::new() } else { ends(node, world.no_match()) },
        conditions: problems
            .map(|message| v1::Condition { name: "policy".to_owned(), ok: false, message })
            .collect(),
    })
}

fn ends(node: &Node, ids: [Option<RuleId>; 2]) -> Vec<v1::PolicyRule> {
    let show = |(id, direction): (Option<RuleId>, Direction)| {
        let counted = node.router.rule_totals(id?);
        Some(v1::PolicyRule {
            direction: direction_word(direction),
            index: None,
            action: "Deny".to_owned(),
            conditions: String::new(),
            packets: counted.packets,
            bytes: counted.bytes,
        })
    };
    ids.into_iter().zip([Direction::Ingress, Direction::Egress]).filter_map(show).collect()
}

fn show_rule(node: &Node, view: &RuleView<'_>) -> v1::PolicyRule {
    let counted = node.router.rule_totals(view.id);
    let conditions = view.rule.and_then(policy::conditions::conditions);
    v1::PolicyRule {
        direction: direction_word(view.direction),
        index: view.index.and_then(|index| u32::try_from(index).ok()),
        action: view.rule.map(|rule| rule.action.as_str()).unwrap_or_default().to_owned(),
        conditions: conditions.map(|value| value.to_string()).unwrap_or_default(),
        packets: counted.packets,
        bytes: counted.bytes,
    }
}

fn show(node: &Node, told: &[NotEnforced], policy: &PolicyView<'_>) -> v1::Policy {
    let types = policy.types.iter().map(|kind| match kind {
        api::PolicyType::Ingress => "ingress",
        api::PolicyType::Egress => "egress",
    });
    v1::Policy {
        kind: policy.kind.to_string(),
        namespace: policy.namespace.to_owned(),
        name: policy.name.to_owned(),
        order: policy.order.map(api::Order::value),
        staged: policy.staged,
        selector: policy.selector.clone(),
        types: types.map(str::to_owned).collect(),
        endpoints: policy.endpoints.iter().map(ToString::to_string).collect(),
        rules: policy.rules.iter().map(|rule| show_rule(node, rule)).collect(),
        conditions: conditions(told, policy.kind, &policy.resource_name()),
    }
}

/// What a policy or profile asks for that is not enforced.
fn conditions(told: &[NotEnforced], kind: Kind, name: &str) -> Vec<v1::Condition> {
    let show = |told: &NotEnforced| v1::Condition {
        name: told.problem.path.clone(),
        ok: told.note,
        message: told.problem.message.clone(),
    };
    told.iter().filter(|told| told.is_of(kind, name)).map(show).collect()
}
