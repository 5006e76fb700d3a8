//! All resources of policy, and the programs of the endpoints that they make.
//!
//! ```text
//!  apply, remove ...   change labels, sets and rules; mark the endpoints that they touch
//!  publish()           plan marked endpoints, compile what no endpoint had yet, hand over
//!  settle()            when every worker has adopted it
//! ```
//!
//! An endpoint's plan is the list of tiers, policies and profiles that apply to it, by name and version.
//! Endpoints of one plan share a program.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use acl::{Direction, Engine, ProgramId, Published};
use api::selector::Expr;
use api::{DefaultAction, FailsafePort, Kind, Order, PolicySpec, Profile, Resource};

use super::endpoint::{Endpoint, EndpointKey, policy_type};
use super::failsafe;
use super::keys_by_name::KeysByName;
use super::label_index::SelectorIndex;
use super::labels::{self, endpoint_labels, implied_profile, namespace_profile_name, policy_selector};
use super::plan::{Compiled, Plan};
use super::rule_names::{RuleName, RuleNames};
use super::selector_sets::{Item, SelectorSets};
use super::services::Services;
use super::translate::{Sources, Translation};

/// Something that selectors may name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ItemKey {
    /// An endpoint.
    Endpoint(EndpointKey),
    /// A network set; a global one has no namespace.
    NetworkSet {
        /// Its namespace, empty for a global one.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Kind, namespace and name of a policy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct PolicyKey {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Debug)]
pub(super) struct StoredPolicy {
    pub(super) spec: PolicySpec,
    pub(super) staged: bool,
    pub(super) selector: Expr,
    /// Ingress, egress.
    pub(super) rules: [Translation; 2],
    pub(super) version: u64,
}

#[derive(Debug)]
pub(super) struct StoredProfile {
    pub(super) profile: Profile,
    pub(super) rules: [Translation; 2],
    pub(super) version: u64,
}

#[derive(Debug)]
pub(super) struct StoredTier {
    pub(super) order: Option<Order>,
    pub(super) default_action: DefaultAction,
    pub(super) version: u64,
}

/// What readers must be given after a change.
#[derive(Debug, Default)]
pub struct Change {
    /// Programs and tries; see [`acl::Published`].
    pub published: Published,
    /// Endpoints whose programs are others now, or that are new or gone.
    pub endpoints: Vec<EndpointKey>,
}

/// All resources of policy.
#[derive(Debug)]
pub struct PolicyWorld {
    pub(super) engine: Engine,
    pub(super) names: RuleNames,
    pub(super) items: SelectorSets<ItemKey>,
    pub(super) services: Services,
    pub(super) endpoints: BTreeMap<EndpointKey, Endpoint>,
    pub(super) network_sets: BTreeMap<(String, String), api::NetworkSet>,
    pub(super) tiers: BTreeMap<String, StoredTier>,
    pub(super) policies: BTreeMap<PolicyKey, StoredPolicy>,
    pub(super) policy_index: SelectorIndex<PolicyKey>,
    /// Policies by tier.
    pub(super) of_tier: KeysByName<PolicyKey>,
    /// Endpoints by profile.
    pub(super) of_profile: KeysByName<EndpointKey>,
    pub(super) profiles: BTreeMap<String, StoredProfile>,
    /// Inbound, outbound.
    pub(super) failsafe: [Vec<FailsafePort>; 2],
    pub(super) failsafe_version: u64,
    pub(super) plans: BTreeMap<EndpointKey, Vec<Plan>>,
    pub(super) compiled: HashMap<Plan, Compiled>,
    pub(super) by_program: HashMap<ProgramId, Plan>,
    pub(super) marked: BTreeSet<EndpointKey>,
    /// Rules that programs may name until the marked endpoints are planned anew.
    pub(super) waste: Vec<Translation>,
    pub(super) version: u64,
}

impl Default for PolicyWorld {
    fn default() -> Self {
        Self::new()
    }
}

impl PolicyWorld {
    /// A world of the tiers that are always there.
    pub fn new() -> Self {
        let mut world = PolicyWorld {
            engine: Engine::new(),
            names: RuleNames::default(),
            items: SelectorSets::default(),
            services: Services::default(),
            endpoints: BTreeMap::new(),
            network_sets: BTreeMap::new(),
            tiers: BTreeMap::new(),
            policies: BTreeMap::new(),
            policy_index: SelectorIndex::default(),
            of_tier: KeysByName::default(),
            of_profile: KeysByName::default(),
            profiles: BTreeMap::new(),
            failsafe: failsafe::defaults(),
            failsafe_version: 0,
            plans: BTreeMap::new(),
            compiled: HashMap::new(),
            by_program: HashMap::new(),
            marked: BTreeSet::new(),
            waste: Vec::new(),
            version: 0,
        };
        for tier in api::Tier::built_in() {
            world.put_tier(&tier.metadata.name, Some(&tier.spec));
        }
        world
    }

    /// The engine, for lookups.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What rule numbers mean.
    pub fn names(&self) -> &RuleNames {
        &self.names
    }

    /// Labels and addresses of everything that selectors may name.
    pub fn items(&self) -> &SelectorSets<ItemKey> {
        &self.items
    }

    /// The endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = (&EndpointKey, &Endpoint)> {
        self.endpoints.iter()
    }

    /// Adds or changes a resource. Resources that are no matter of policy change nothing.
    pub fn apply(&mut self, resource: &Resource) {
        let metadata = resource.metadata();
        let (namespace, name) = (metadata.namespace.as_str(), metadata.name.as_str());
        match resource {
            Resource::Tier(tier) => self.put_tier(name, Some(&tier.spec)),
            Resource::Policy(policy) => {
                let key = PolicyKey { kind: policy.kind, namespace: namespace.into(), name: name.into() };
                self.put_policy(key, Some((policy.spec.clone(), policy.is_staged())));
            }
            Resource::KubernetesPolicy(policy) => {
                let key =
                    PolicyKey { kind: policy.kind, namespace: namespace.into(), name: policy.policy_name() };
                self.put_policy(key, Some((policy.spec.clone(), policy.is_staged())));
            }
            Resource::Profile(profile) => self.put_profile(name, Some(profile.clone())),
            Resource::Namespace(ns) => {
                let profile = labels::namespace_profile(&ns.metadata);
                self.put_profile(&profile.metadata.name.clone(), Some(profile));
            }
            Resource::ServiceAccount(account) => {
                let profile = labels::account_profile(&account.metadata);
                self.put_profile(&profile.metadata.name.clone(), Some(profile));
            }
            Resource::NetworkSet(set) => self.put_network_set(namespace, name, Some(set.clone())),
            Resource::EndpointSlice(slice) => {
                self.services.put(&mut self.engine, namespace, name, Some(slice.clone()));
            }
            Resource::Pod(pod) => {
                let key = EndpointKey::workload(namespace, name);
                self.put_endpoint(key, pod.is_endpoint().then(|| Endpoint::of_pod(pod)));
            }
            Resource::WorkloadEndpoint(workload) => {
                let key = EndpointKey::of_workload(workload);
                self.put_endpoint(key, Some(Endpoint::of_workload(workload)));
            }
            Resource::HostEndpoint(host) => {
                let key = EndpointKey::Host { name: name.into() };
                self.put_endpoint(key, Some(Endpoint::of_host(host)));
            }
            _ => {}
        }
    }

    /// Removes a resource.
    pub fn remove(&mut self, resource: &Resource) {
        let metadata = resource.metadata();
        let (namespace, name) = (metadata.namespace.as_str(), metadata.name.as_str());
        match resource {
            Resource::Tier(_) => self.put_tier(name, None),
            Resource::Policy(policy) => {
                let key = PolicyKey { kind: policy.kind, namespace: namespace.into(), name: name.into() };
                self.put_policy(key, None);
            }
            Resource::KubernetesPolicy(policy) => {
                let key =
                    PolicyKey { kind: policy.kind, namespace: namespace.into(), name: policy.policy_name() };
                self.put_policy(key, None);
            }
            Resource::Profile(_) => self.put_profile(name, None),
            Resource::Namespace(_) => self.put_profile(&namespace_profile_name(name), None),
            Resource::ServiceAccount(_) => {
                self.put_profile(&labels::account_profile_name(namespace, name), None);
            }
            Resource::NetworkSet(_) => self.put_network_set(namespace, name, None),
            Resource::EndpointSlice(_) => self.services.put(&mut self.engine, namespace, name, None),
            Resource::Pod(_) => self.put_endpoint(EndpointKey::workload(namespace, name), None),
            Resource::WorkloadEndpoint(workload) => {
                self.put_endpoint(EndpointKey::of_workload(workload), None)
            }
            Resource::HostEndpoint(_) => self.put_endpoint(EndpointKey::Host { name: name.into() }, None),
            _ => {}
        }
    }

    /// Adds, changes or (with `None`) removes an endpoint.
    pub fn put_endpoint(&mut self, key: EndpointKey, endpoint: Option<Endpoint>) {
        let profiles = endpoint.as_ref().map(|endpoint| endpoint.profiles.clone()).unwrap_or_default();
        let old = match endpoint {
            Some(endpoint) => self.endpoints.insert(key.clone(), endpoint),
            None => self.endpoints.remove(&key),
        };
        let left = old.map(|old| old.profiles).unwrap_or_default();
        left.iter().for_each(|profile| self.of_profile.remove(profile, &key));
        profiles.iter().for_each(|profile| self.of_profile.insert(profile, &key));
        self.refresh_item(&key);
        self.marked.insert(key);
    }

    /// Marks every host endpoint.
    pub(super) fn mark_hosts(&mut self) {
        // Hosts come last.
        let hosts = self.endpoints.range(EndpointKey::Host { name: String::new() }..);
        self.marked.extend(hosts.map(|(key, _)| key.clone()));
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn put_tier(&mut self, name: &str, spec: Option<&api::policy::tier::TierSpec>) {
        let built_in = api::Tier::built_in();
        let fallback = built_in.iter().find(|tier| tier.metadata.name == name).map(|tier| &tier.spec);
        let version = self.next_version();
        match spec.or(fallback) {
            Some(spec) => {
                let tier = StoredTier { order: spec.order, default_action: spec.default_action, version };
                self.tiers.insert(name.to_owned(), tier);
            }
            None => drop(self.tiers.remove(name)),
        }
        let of_tier = self.of_tier.of(name).filter_map(|key| self.policies.get(key));
        let of_tier: Vec<Expr> = of_tier.map(|policy| policy.selector.clone()).collect();
        of_tier.iter().for_each(|selector| self.mark(selector));
    }

    /// Marks the endpoints that a policy's selector names.
    fn mark(&mut self, selector: &Expr) {
        let endpoint = |(key, _): (&ItemKey, &Item)| match key {
            ItemKey::Endpoint(key) => Some(key.clone()),
            ItemKey::NetworkSet { .. } => None,
        };
        self.marked.extend(self.items.matching(selector).filter_map(endpoint));
    }

    fn put_policy(&mut self, key: PolicyKey, new: Option<(PolicySpec, bool)>) {
        if let Some(old) = self.policies.remove(&key) {
            self.mark(&old.selector);
            self.policy_index.remove(&old.selector, &key);
            self.of_tier.remove(&old.spec.tier, &key);
            self.waste.extend(old.rules);
        }
        let Some((spec, staged)) = new else { return };
        if matches!(
            spec.staged_action,
            Some(api::policy::StagedAction::Delete | api::policy::StagedAction::Ignore)
        ) {
            return;
        }
        let version = self.next_version();
        let selector = policy_selector(&spec, &key.namespace);
        let rules = [Direction::Ingress, Direction::Egress].map(|direction| {
            let names = &mut self.names;
            let id = |index| {
                names.id(RuleName::Policy {
                    tier: spec.tier.clone(),
                    kind: key.kind,
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                    direction,
                    index: Some(index),
                })
            };
            let mut sources = Sources {
                engine: &mut self.engine,
                selectors: &mut self.items,
                services: &mut self.services,
            };
            Translation::new(spec.rules(policy_type(direction)), &key.namespace, id, &mut sources)
        });
        self.mark(&selector);
        self.policy_index.insert(&selector, &key);
        self.of_tier.insert(&spec.tier, &key);
        self.policies.insert(key, StoredPolicy { spec, staged, selector, rules, version });
    }

    fn put_profile(&mut self, name: &str, profile: Option<Profile>) {
        if let Some(old) = self.profiles.remove(name) {
            self.waste.extend(old.rules);
        }
        if let Some(profile) = profile.or_else(|| implied_profile(name)) {
            self.store_profile(profile);
        }
        let of_profile: Vec<EndpointKey> = self.of_profile.of(name).cloned().collect();
        for key in of_profile {
            self.refresh_item(&key);
            self.marked.insert(key);
        }
        if let Some(namespace) = name.strip_prefix("kns.") {
            let sets = self.network_sets.range((namespace.to_owned(), String::new())..);
            let sets: Vec<_> =
                sets.map(|(key, _)| key).take_while(|(of, _)| of == namespace).cloned().collect();
            sets.iter().for_each(|(namespace, name)| self.refresh_network_set(namespace, name));
        }
    }

    fn store_profile(&mut self, profile: Profile) {
        let version = self.next_version();
        let name = profile.metadata.name.clone();
        let rules = [Direction::Ingress, Direction::Egress].map(|direction| {
            let names = &mut self.names;
            let id = |index| names.id(RuleName::Profile { name: name.clone(), direction, index });
            let mut sources = Sources {
                engine: &mut self.engine,
                selectors: &mut self.items,
                services: &mut self.services,
            };
            let rules = match direction {
                Direction::Ingress => &profile.spec.ingress,
                Direction::Egress => &profile.spec.egress,
            };
            Translation::new(rules, "", id, &mut sources)
        });
        self.profiles.insert(name, StoredProfile { profile, rules, version });
    }

    /// Makes sure that profiles which exist by their name alone are there.
    fn imply_profiles(&mut self, names: &[String]) {
        for name in names {
            if !self.profiles.contains_key(name)
                && let Some(profile) = implied_profile(name)
            {
                self.store_profile(profile);
            }
        }
    }

    fn refresh_item(&mut self, key: &EndpointKey) {
        let profiles = self.endpoints.get(key).map(|endpoint| endpoint.profiles.clone()).unwrap_or_default();
        self.imply_profiles(&profiles);
        let item = self.endpoints.get(key).map(|endpoint| {
            let profiles = endpoint.profiles.iter().filter_map(|name| self.profiles.get(name));
            let namespace = match key {
                EndpointKey::Workload { namespace, .. } => namespace.as_str(),
                EndpointKey::Host { .. } => "",
            };
            let set = [
                (labels::NAMESPACE, namespace),
                (labels::ORCHESTRATOR, &endpoint.orchestrator),
                (labels::SERVICE_ACCOUNT, &endpoint.service_account),
            ];
            Item {
                labels: endpoint_labels(&endpoint.labels, profiles.map(|stored| &stored.profile), &set),
                nets: endpoint.addresses.iter().map(|address| (*address).into()).collect(),
                ports: endpoint.ports.clone(),
            }
        });
        self.items.put(&mut self.engine, &ItemKey::Endpoint(key.clone()), item);
    }

    fn put_network_set(&mut self, namespace: &str, name: &str, set: Option<api::NetworkSet>) {
        let key = (namespace.to_owned(), name.to_owned());
        match set {
            Some(set) => drop(self.network_sets.insert(key, set)),
            None => drop(self.network_sets.remove(&key)),
        }
        self.refresh_network_set(namespace, name);
    }

    /// A network set of a namespace has the namespace's labels, as a pod does.
    fn refresh_network_set(&mut self, namespace: &str, name: &str) {
        let profile = namespace_profile_name(namespace);
        if !namespace.is_empty() {
            self.imply_profiles(std::slice::from_ref(&profile));
        }
        let set = self.network_sets.get(&(namespace.to_owned(), name.to_owned()));
        let item = set.map(|set| {
            let profiles = self.profiles.get(&profile).filter(|_| !namespace.is_empty());
            let labels = endpoint_labels(
                &set.metadata.labels,
                profiles.map(|stored| &stored.profile).into_iter(),
                &[(labels::NAMESPACE, namespace)],
            );
            Item { labels, nets: set.spec.nets.clone(), ports: Vec::new() }
        });
        let key = ItemKey::NetworkSet { namespace: namespace.to_owned(), name: name.to_owned() };
        self.items.put(&mut self.engine, &key, item);
    }
}
