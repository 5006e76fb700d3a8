//! All of policy in the order in which it is asked: tiers, policies, rules with the numbers that verdicts
//! have, and the endpoints that each policy applies to.

use std::collections::{BTreeMap, BTreeSet};

use acl::{Direction, RuleId};
use api::{DefaultAction, Kind, Order, PolicyType, Rule};

use super::endpoint::{EndpointKey, direction, policy_type};
use super::rule_names::RuleName;
use super::selector_sets::Item;
use super::world::{ItemKey, PolicyKey, PolicyWorld, StoredPolicy};

/// A rule.
#[derive(Clone, Copy, Debug)]
pub struct RuleView<'a> {
    /// Which way.
    pub direction: Direction,
    /// Number of the rule in that direction, from 0; `None`: what stands for no rule of a staged policy.
    pub index: Option<usize>,
    /// The rule as it was written; `None` where the index is.
    pub rule: Option<&'a Rule>,
    /// What verdicts and counters name it.
    pub id: RuleId,
}

/// A policy.
#[derive(Clone, Debug)]
pub struct PolicyView<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, empty for a global one.
    pub namespace: &'a str,
    /// Its name in verdicts.
    pub name: &'a str,
    /// Its place in the tier.
    pub order: Option<Order>,
    /// It is evaluated and counted, not enforced.
    pub staged: bool,
    /// Labels of the endpoints that it applies to, namespace and service account included.
    pub selector: String,
    /// Its directions.
    pub types: &'a [PolicyType],
    /// Endpoints that it applies to.
    pub endpoints: BTreeSet<&'a EndpointKey>,
    /// Its rules, ingress first.
    pub rules: Vec<RuleView<'a>>,
}

/// What Calico puts before the name of a Kubernetes NetworkPolicy.
const KUBERNETES_PREFIX: &str = "knp.default.";

impl PolicyView<'_> {
    /// The name of the resource that it is, with its namespace.
    pub fn resource_name(&self) -> String {
        let kubernetes =
            matches!(self.kind, Kind::KubernetesNetworkPolicy | Kind::StagedKubernetesNetworkPolicy);
        let own = self.name.strip_prefix(KUBERNETES_PREFIX).filter(|_| kubernetes).unwrap_or(self.name);
        if self.namespace.is_empty() { own.to_owned() } else { format!("{}/{own}", self.namespace) }
    }
}

/// A tier.
#[derive(Clone, Debug)]
pub struct TierView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its place; `None`: behind those that have one. Also of a tier that policies name and nobody has
    /// defined.
    pub order: Option<Order>,
    /// What holds at its end; `None`: nobody has defined it, and it denies.
    pub default_action: Option<DefaultAction>,
    /// Its policies in order.
    pub policies: Vec<PolicyView<'a>>,
    /// What its ends are called, ingress first; `None` while no endpoint is denied by them.
    pub ends: [Option<RuleId>; 2],
}

/// A profile.
#[derive(Clone, Debug)]
pub struct ProfileView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Endpoints that have it.
    pub endpoints: BTreeSet<&'a EndpointKey>,
    /// Its rules, ingress first.
    pub rules: Vec<RuleView<'a>>,
}

const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

impl PolicyWorld {
    /// The tiers in order, each with its policies in order. Tiers without policies are there too.
    pub fn tiers(&self) -> Vec<TierView<'_>> {
        let mut endpoints: BTreeMap<&PolicyKey, BTreeSet<&EndpointKey>> = BTreeMap::new();
        for (endpoint, plans) in &self.plans {
            for (key, _) in plans.iter().flat_map(|plan| &plan.tiers).flat_map(|(_, _, policies)| policies) {
                endpoints.entry(key).or_default().insert(endpoint);
            }
        }
        let mut policies: BTreeMap<&str, Vec<(&PolicyKey, &StoredPolicy)>> =
            self.tiers.keys().map(|name| (name.as_str(), Vec::new())).collect();
        for (key, policy) in &self.policies {
            policies.entry(&policy.spec.tier).or_default().push((key, policy));
        }
        let mut tiers: Vec<TierView<'_>> = Vec::new();
        for (name, mut of_tier) in policies {
            of_tier.sort_by(|one, other| super::plan::policy_order(*one, *other));
            let tier = self.tiers.get(name);
            let end = |direction| self.names.find(&RuleName::TierEnd { tier: name.to_owned(), direction });
            tiers.push(TierView {
                name,
                order: tier.and_then(|tier| tier.order),
                default_action: tier.map(|tier| tier.default_action),
                policies: of_tier
                    .into_iter()
                    .map(|(key, policy)| self.view(key, policy, endpoints.remove(key).unwrap_or_default()))
                    .collect(),
                ends: BOTH.map(end),
            });
        }
        tiers.sort_by(|one, other| {
            Order::compare(one.order, other.order).then_with(|| one.name.cmp(other.name))
        });
        tiers
    }

    fn view<'a>(
        &'a self,
        key: &'a PolicyKey,
        policy: &'a StoredPolicy,
        endpoints: BTreeSet<&'a EndpointKey>,
    ) -> PolicyView<'a> {
        let mut rules = Vec::new();
        for kind in policy.spec.types.iter().copied() {
            let direction = direction(kind);
            let list = policy.spec.rules(policy_type(direction));
            let ids = policy.rules[direction as usize].rules.iter().map(|rule| rule.id);
            for (index, (rule, id)) in list.iter().zip(ids).enumerate() {
                rules.push(RuleView { direction, index: Some(index), rule: Some(rule), id });
            }
            let none = RuleName::Policy {
                tier: policy.spec.tier.clone(),
                kind: key.kind,
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                direction,
                index: None,
            };
            let end = self.names.find(&none).filter(|_| policy.staged);
            rules.extend(end.map(|id| RuleView { direction, index: None, rule: None, id }));
        }
        PolicyView {
            kind: key.kind,
            namespace: &key.namespace,
            name: &key.name,
            order: policy.spec.order,
            staged: policy.staged,
            selector: api::Selector::of(policy.selector.clone()).to_string(),
            types: &policy.spec.types,
            endpoints,
            rules,
        }
    }

    /// Policies of host endpoints alone (`doNotTrack`, `preDNAT`) whose selectors name workloads too, which
    /// they pass over: kind, name, the field that makes them so, and how many workloads.
    pub fn passing_over(&self) -> impl Iterator<Item = (Kind, &str, &'static str, usize)> {
        self.policies.iter().filter_map(|(key, policy)| {
            let field = match (policy.spec.do_not_track, policy.spec.pre_dnat) {
                (true, _) => "spec.doNotTrack",
                (_, true) => "spec.preDNAT",
                _ => return None,
            };
            let workload =
                |(key, _): &(&ItemKey, &Item)| matches!(key, ItemKey::Endpoint(EndpointKey::Workload { .. }));
            let count = self.items.matching(&policy.selector).filter(workload).count();
            (count > 0).then_some((key.kind, key.name.as_str(), field, count))
        })
    }

    /// The profiles that endpoints have, by name.
    pub fn profiles(&self) -> Vec<ProfileView<'_>> {
        let mut endpoints: BTreeMap<&str, BTreeSet<&EndpointKey>> = BTreeMap::new();
        for (key, endpoint) in &self.endpoints {
            for name in &endpoint.profiles {
                endpoints.entry(name).or_default().insert(key);
            }
        }
        let view = |(name, endpoints)| {
            let stored = self.profiles.get_key_value(name);
            let rules = stored.map(|(_, stored)| {
                let spec = &stored.profile.spec;
                let lists = [(Direction::Ingress, &spec.ingress), (Direction::Egress, &spec.egress)];
                lists.into_iter().flat_map(|(direction, list)| {
                    let ids = stored.rules[direction as usize].rules.iter().map(|rule| rule.id);
                    list.iter().zip(ids).enumerate().map(move |(index, (rule, id))| RuleView {
                        direction,
                        index: Some(index),
                        rule: Some(rule),
                        id,
                    })
                })
            });
            ProfileView { name, endpoints, rules: rules.into_iter().flatten().collect() }
        };
        endpoints.into_iter().map(view).collect()
    }

    /// The ends that decide where no tier and no profile does, ingress first; `None` while there are none.
    pub fn no_match(&self) -> [Option<RuleId>; 2] {
        BOTH.map(|direction| self.names.find(&RuleName::NoMatch { direction }))
    }
}
