//! What policy exports. Rules without a packet are left out: most of a large site's never meet one.

use acl::RuleId;

use super::families::{Family, Labels};
use crate::control::policy::overview::RuleView;
use crate::counters::RuleTotals;
use crate::daemon::Node;

/// A rule that counted something.
type Counted = (Labels, RuleTotals);

fn labels(tier: &str, policy: &str, direction: &str, rule: &str, action: &str) -> Labels {
    [("tier", tier), ("policy", policy), ("direction", direction), ("rule", rule), ("action", action)]
        .map(|(name, value)| (name, value.to_owned()))
        .into()
}

fn rule_of(node: &Node, tier: &str, policy: &str, staged: bool, view: &RuleView<'_>) -> Option<Counted> {
    let counted = node.router.rule_totals(view.id);
    let index = view.index.map_or_else(|| "end".to_owned(), |index| index.to_string());
    let action = view.rule.map(|rule| rule.action.as_str()).unwrap_or_default();
    let action = if staged { format!("Staged{action}") } else { action.to_owned() };
    let labels = labels(tier, policy, &view.direction.to_string(), &index, &action);
    (counted.packets > 0).then_some((labels, counted))
}

fn end_of(node: &Node, tier: &str, id: Option<RuleId>, direction: &str) -> Option<Counted> {
    let counted = node.router.rule_totals(id?);
    (counted.packets > 0).then(|| (labels(tier, "", direction, "end", "Deny"), counted))
}

/// The families of policy.
pub(super) fn of_policy(node: &Node, out: &mut Vec<Family>) {
    let world = node.router.engine().policy();
    let mut rules: Vec<Counted> = Vec::new();
    for tier in world.tiers() {
        for policy in &tier.policies {
            let name = match policy.namespace {
                "" => format!("{} {}", policy.kind, policy.name),
                namespace => format!("{} {namespace}/{}", policy.kind, policy.name),
            };
            let counted = policy.rules.iter();
            rules.extend(counted.filter_map(|rule| rule_of(node, tier.name, &name, policy.staged, rule)));
        }
        let ends = tier.ends.into_iter().zip(["ingress", "egress"]);
        rules.extend(ends.filter_map(|(id, direction)| end_of(node, tier.name, id, direction)));
    }
    for profile in world.profiles() {
        let name = format!("Profile {}", profile.name);
        rules.extend(profile.rules.iter().filter_map(|rule| rule_of(node, "", &name, false, rule)));
    }
    let ends = world.no_match().into_iter().zip(["ingress", "egress"]);
    rules.extend(ends.filter_map(|(id, direction)| end_of(node, "", id, direction)));
    let flows = node.router.engine().flows();
    let packets = rules.iter().map(|(labels, counted)| (labels.clone(), counted.packets));
    let bytes = rules.iter().map(|(labels, counted)| (labels.clone(), counted.bytes));
    out.extend([
        Family::counter("policy_rule_packets", "Packets that a rule let pass, denied or logged", packets),
        Family::counter("policy_rule_bytes", "Bytes of their IP packets", bytes),
        Family::counter(
            "flow_log_lost",
            "Packets that were denied or logged and found no room in the flow log",
            [(Labels::new(), node.router.flow_log_lost())],
        ),
        Family::gauge("flows", "Flows that are open", [(Labels::new(), flows.len() as u64)]),
        Family::gauge(
            "flows_capacity",
            "Flows that can be open",
            [(Labels::new(), u64::from(flows.capacity().flows))],
        ),
    ]);
}
