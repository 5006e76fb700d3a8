//! Endpoints that changed get programs.
//!
//! A plan lists what applies to an endpoint in one stage and direction, in order. Equal plans are
//! compiled once; a program goes when its last endpoint has left it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use acl::model::{Policy, Ruleset, SetId, Tier, TierEnd};
use acl::{CompileError, Direction, ProgramId};
use api::{DefaultAction, Order};

use super::endpoint::{EndpointKey, EndpointPrograms, HostPrograms, Stage, policy_type};
use super::rule_names::RuleName;
use super::translate::Sources;
use super::world::{Change, ItemKey, PolicyKey, PolicyWorld, StoredPolicy};

/// A policy in a plan, with its version.
type PlannedPolicy = (PolicyKey, u64);

/// What a rule set is made of, by name and version.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Plan {
    pub(super) direction: Direction,
    pub(super) stage: Stage,
    /// Version of the failsafe ports; `None` where there are none.
    failsafe: Option<u64>,
    /// Tiers in order, each with its policies in order.
    pub(super) tiers: Vec<(String, u64, Vec<PlannedPolicy>)>,
    profiles: Vec<(String, u64)>,
}

/// A plan's program.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) id: ProgramId,
    users: BTreeSet<EndpointKey>,
    /// Why it only denies.
    refused: Option<CompileError>,
    /// Sets of the failsafe ports' prefixes.
    nets: Vec<SetId>,
}

/// The order in which policies of a tier are asked.
pub(super) fn policy_order(
    (one_key, one): (&PolicyKey, &StoredPolicy),
    (other_key, other): (&PolicyKey, &StoredPolicy),
) -> Ordering {
    let names = |key: &PolicyKey| (key.name.clone(), key.namespace.clone(), key.kind);
    Order::compare(one.spec.order, other.spec.order).then_with(|| names(one_key).cmp(&names(other_key)))
}

const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

impl PolicyWorld {
    /// Brings endpoints and programs up to date and yields what readers must be given.
    pub fn publish(&mut self) -> Change {
        let marked = std::mem::take(&mut self.marked);
        let mut endpoints = Vec::new();
        let mut left = Vec::new();
        for key in marked {
            let new = self.plans_of(&key);
            let old = self.plans.remove(&key).unwrap_or_default();
            if old == new {
                if !new.is_empty() {
                    self.plans.insert(key, new);
                }
                continue;
            }
            new.iter().filter(|plan| !old.contains(plan)).for_each(|plan| self.join(plan, &key));
            left.extend(old.into_iter().filter(|plan| !new.contains(plan)).map(|plan| (plan, key.clone())));
            if !new.is_empty() {
                self.plans.insert(key.clone(), new);
            }
            endpoints.push(key);
        }
        left.iter().for_each(|(plan, key)| self.leave(plan, key));
        let mut sources =
            Sources { engine: &mut self.engine, selectors: &mut self.items, services: &mut self.services };
        std::mem::take(&mut self.waste).into_iter().for_each(|rules| rules.release(&mut sources));
        Change { published: self.engine.publish(), endpoints }
    }

    /// Gives addresses their new classes, when every reader has adopted what was published last.
    /// Returns the endpoints whose verdicts may be others from now on.
    pub fn settle(&mut self) -> Vec<EndpointKey> {
        let programs = self.engine.settle();
        let plans = programs.iter().filter_map(|id| self.by_program.get(id));
        let users = plans.filter_map(|plan| self.compiled.get(plan)).flat_map(|compiled| &compiled.users);
        users.collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    /// Endpoints that are denied because what applies to them could not be compiled.
    pub fn refused(&self) -> impl Iterator<Item = (&EndpointKey, String)> {
        self.plans.iter().filter_map(|(key, plans)| {
            let refused = plans.iter().find_map(|plan| self.compiled.get(plan)?.refused)?;
            Some((key, refused.to_string()))
        })
    }

    /// The programs of a workload.
    pub fn programs(&self, key: &EndpointKey) -> Option<EndpointPrograms> {
        let of = |direction| self.program(key, Stage::Normal, direction);
        Some(EndpointPrograms { ingress: of(Direction::Ingress)?, egress: of(Direction::Egress)? })
    }

    /// The programs of a host endpoint.
    pub fn host_programs(&self, name: &str) -> Option<HostPrograms> {
        let key = EndpointKey::Host { name: name.to_owned() };
        let both = |stage| BOTH.map(|direction| self.program(&key, stage, direction));
        let [Some(ingress), Some(egress)] = both(Stage::Normal) else { return None };
        Some(HostPrograms {
            normal: [ingress, egress],
            forward: both(Stage::Forward),
            untracked: both(Stage::Untracked),
            pre_dnat: self.program(&key, Stage::PreDnat, Direction::Ingress),
        })
    }

    fn program(&self, key: &EndpointKey, stage: Stage, direction: Direction) -> Option<ProgramId> {
        let plan =
            self.plans.get(key)?.iter().find(|plan| plan.stage == stage && plan.direction == direction)?;
        self.compiled.get(plan).map(|compiled| compiled.id)
    }

    /// Everything that applies to an endpoint; nothing if it is not there.
    fn plans_of(&self, key: &EndpointKey) -> Vec<Plan> {
        if !self.endpoints.contains_key(key) {
            return Vec::new();
        }
        let host = matches!(key, EndpointKey::Host { .. });
        let stages: &[Stage] = match host {
            true => &[Stage::Normal, Stage::Forward, Stage::Untracked, Stage::PreDnat],
            false => &[Stage::Normal],
        };
        let selecting = self.selecting(key);
        let plan = |stage, direction| self.plan(key, host, (stage, direction), &selecting);
        let plans = stages.iter().flat_map(|stage| BOTH.map(|direction| plan(*stage, direction)));
        plans.filter(|plan| plan.stage.is_closed() || !plan.tiers.is_empty()).collect()
    }

    /// The policies that select an endpoint.
    fn selecting(&self, key: &EndpointKey) -> Vec<(&PolicyKey, &StoredPolicy)> {
        let Some(item) = self.items.item(&ItemKey::Endpoint(key.clone())) else { return Vec::new() };
        let candidates = self.policy_index.candidates(&item.labels);
        let stored = candidates.filter_map(|key| self.policies.get_key_value(key));
        stored.filter(|(_, policy)| policy.selector.matches(&item.labels)).collect()
    }

    fn plan(
        &self,
        key: &EndpointKey,
        host: bool,
        (stage, direction): (Stage, Direction),
        selecting: &[(&PolicyKey, &StoredPolicy)],
    ) -> Plan {
        let endpoint = self.endpoints.get(key);
        let applies = |policy: &StoredPolicy| {
            stage.takes(&policy.spec) && policy.spec.types.contains(&policy_type(direction))
        };
        let mut tiers: BTreeMap<&str, Vec<(&PolicyKey, &StoredPolicy)>> = BTreeMap::new();
        for (key, policy) in selecting.iter().copied().filter(|(_, policy)| applies(policy)) {
            tiers.entry(&policy.spec.tier).or_default().push((key, policy));
        }
        let mut ordered: Vec<_> = tiers
            .into_iter()
            .map(|(name, mut policies)| {
                policies.sort_by(|one, other| policy_order(*one, *other));
                let policies =
                    policies.into_iter().map(|(key, policy)| (key.clone(), policy.version)).collect();
                (name, self.tiers.get(name), policies)
            })
            .collect();
        ordered.sort_by(|(one_name, one, _), (other_name, other, _)| {
            let order = |tier: &Option<&super::world::StoredTier>| tier.and_then(|tier| tier.order);
            Order::compare(order(one), order(other)).then_with(|| one_name.cmp(other_name))
        });
        let profiles = endpoint.filter(|_| stage.is_closed()).map(|endpoint| endpoint.profiles.as_slice());
        Plan {
            direction,
            stage,
            failsafe: (host && stage.has_failsafe()).then_some(self.failsafe_version),
            tiers: ordered
                .into_iter()
                .map(|(name, tier, policies)| {
                    (name.to_owned(), tier.map_or(0, |tier| tier.version), policies)
                })
                .collect(),
            profiles: profiles
                .unwrap_or_default()
                .iter()
                .map(|name| (name.clone(), self.profiles.get(name).map_or(0, |profile| profile.version)))
                .collect(),
        }
    }

    fn join(&mut self, plan: &Plan, key: &EndpointKey) {
        if let Some(compiled) = self.compiled.get_mut(plan) {
            compiled.users.insert(key.clone());
            return;
        }
        let mut nets = Vec::new();
        let ruleset = self.ruleset(plan, &mut nets);
        // More ports than 16 bits can number are refused where resources are taken; if it happens all
        // the same, the endpoint is denied rather than open.
        let mut refused = None;
        let compiled = self.engine.compile(ruleset).or_else(|error| {
            refused = Some(error);
            let rule = self.names.id(RuleName::NoMatch { direction: plan.direction });
            self.engine.compile(Ruleset { tiers: Vec::new(), profiles: Vec::new(), no_match: Some(rule) })
        });
        if let Ok(id) = compiled {
            let users = BTreeSet::from([key.clone()]);
            self.compiled.insert(plan.clone(), Compiled { id, users, refused, nets });
            self.by_program.insert(id, plan.clone());
        }
    }

    fn leave(&mut self, plan: &Plan, key: &EndpointKey) {
        let Some(compiled) = self.compiled.get_mut(plan) else { return };
        compiled.users.remove(key);
        if compiled.users.is_empty()
            && let Some(compiled) = self.compiled.remove(plan)
        {
            self.by_program.remove(&compiled.id);
            self.engine.remove_program(compiled.id);
            compiled.nets.into_iter().for_each(|id| self.engine.release_nets(id));
        }
    }

    fn ruleset(&mut self, plan: &Plan, nets: &mut Vec<SetId>) -> Ruleset {
        let direction = plan.direction;
        let at = direction as usize;
        let mut tiers = Vec::with_capacity(plan.tiers.len() + 1);
        if plan.failsafe.is_some() {
            tiers.extend(self.failsafe_tier(direction, plan.stage, nets));
        }
        for (name, _, policies) in &plan.tiers {
            let mut made = Vec::with_capacity(policies.len());
            for key in policies.iter().map(|(key, _)| key) {
                let Some(policy) = self.policies.get(key) else { continue };
                let end = self.names.id(RuleName::Policy {
                    tier: name.clone(),
                    kind: key.kind,
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                    direction,
                    index: None,
                });
                made.push(Policy { staged: policy.staged, end, rules: policy.rules[at].rules.clone() });
            }
            // A tier that nobody has defined denies: what belongs to it must not fail open.
            let passes = self.tiers.get(name).is_some_and(|tier| tier.default_action == DefaultAction::Pass);
            let end = if passes || !plan.stage.tiers_end() { TierEnd::Pass } else { TierEnd::Deny };
            let end_id = self.names.id(RuleName::TierEnd { tier: name.clone(), direction });
            tiers.push(Tier { policies: made, end, end_id });
        }
        let profiles = plan.profiles.iter().filter_map(|(name, _)| self.profiles.get(name));
        let profiles = profiles.map(|profile| profile.rules[at].rules.clone()).collect();
        let no_match = plan.stage.is_closed().then(|| self.names.id(RuleName::NoMatch { direction }));
        Ruleset { tiers, profiles, no_match }
    }
}
