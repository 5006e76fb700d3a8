//! Pools, routes and policy by name, from the configuration and from the API.
//!
//! What the API applies is kept in the durable state and is in force again after a
//! restart, above what the configuration file says under the same name. A text is
//! applied whole or not at all, judged as the set that would result.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use api::{Kind, Problem, Resource};
use fib::AnyPrefix;
use ipnet::IpNet;

use crate::config::Config;
use crate::control::Event;
use crate::control::engine::net_prefix;
use crate::daemon::node::{Node, NodeError};
use crate::daemon::pods::Origin;
use crate::daemon::resource_events::{announcement, removal};

/// A resource and who gave it.
#[derive(Clone, Debug)]
pub struct Given {
    /// The resource.
    pub resource: Resource,
    /// Who gave it.
    pub origin: Origin,
}

/// A route resource by what the engine knows it by, then by metric and name: the first of a VRF and
/// prefix is in force.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RouteKey {
    vrf: String,
    prefix: AnyPrefix,
    metric: u32,
    name: String,
}

impl RouteKey {
    /// Why another route resource of the prefix is not in force while this one is.
    pub fn keeps_out(&self, other: &RouteKey) -> String {
        if self.metric == other.metric {
            return format!("route resource {} comes first by name at equal metric", self.name);
        }
        format!("metric {} against {} of route resource {}", other.metric, self.metric, self.name)
    }
}

/// All resources.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// By kind and name: `namespace/name` where the kind belongs to namespaces.
    by_name: BTreeMap<(String, String), Given>,
    routes: BTreeSet<RouteKey>,
}

/// The resources that a configuration file gives.
fn named_by(config: &Config) -> impl Iterator<Item = Resource> {
    let pools = config.pools.iter().map(|pool| Resource::IpPool(pool.resource.clone()));
    pools.chain(config.routes.iter().map(|route| Resource::Route(route.resource.clone())))
}

impl Resources {
    /// Those of the configuration.
    pub fn of_config(config: &Config) -> Self {
        let mut out = Self::default();
        for resource in named_by(config) {
            out.put(resource, Origin::Config);
        }
        out
    }

    fn key(resource: &Resource) -> (String, String) {
        (resource.kind().as_str().to_owned(), resource.full_name())
    }

    /// The key of a name as people give it: a bare name is in namespace `default`.
    fn key_of(kind: Kind, name: &str) -> (String, String) {
        let bare = kind.is_namespaced() && !name.contains('/');
        let name = if bare { format!("default/{name}") } else { name.to_owned() };
        (kind.as_str().to_owned(), name)
    }

    fn route_key(resource: &Resource) -> Option<RouteKey> {
        let Resource::Route(route) = resource else { return None };
        let (vrf, prefix, metric) =
            (route.spec.vrf.clone(), net_prefix(route.spec.prefix), route.spec.metric);
        Some(RouteKey { vrf, prefix, metric, name: resource.name().to_owned() })
    }

    fn put(&mut self, resource: Resource, origin: Origin) -> Option<Given> {
        let route = Self::route_key(&resource);
        let former = self.by_name.insert(Self::key(&resource), Given { resource, origin });
        if let Some(former) = former.as_ref().and_then(|former| Self::route_key(&former.resource)) {
            self.routes.remove(&former);
        }
        self.routes.extend(route);
        former
    }

    /// Takes out the resource of this kind and name.
    fn remove(&mut self, kind: Kind, name: &str) -> Option<Given> {
        let removed = self.by_name.remove(&Self::key_of(kind, name))?;
        if let Some(route) = Self::route_key(&removed.resource) {
            self.routes.remove(&route);
        }
        Some(removed)
    }

    /// The resource of this kind and name.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Given> {
        self.by_name.get(&Self::key_of(kind, name))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_name.len()
    }

    /// Every resource of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Given> {
        self.by_name.iter().filter(move |((of, _), _)| of == kind.as_str()).map(|(_, given)| given)
    }

    /// What the engine is told of: every pool, and of each prefix the route with the
    /// lowest metric. By VRF and prefix, which is what the engine knows them by.
    fn in_force(&self) -> BTreeMap<(&str, &str, IpNet), &Resource> {
        let mut out: BTreeMap<(&str, &str, IpNet), &Resource> = BTreeMap::new();
        for ((kind, _), given) in &self.by_name {
            match &given.resource {
                Resource::IpPool(pool) => drop(out.insert((kind, "", pool.spec.cidr), &given.resource)),
                Resource::Route(route) => {
                    let key = (kind.as_str(), route.spec.vrf.as_str(), route.spec.prefix);
                    let best = out.entry(key).or_insert(&given.resource);
                    if matches!(best, Resource::Route(other) if route.spec.metric < other.spec.metric) {
                        *best = &given.resource;
                    }
                }
                _ => {}
            }
        }
        out
    }

    /// The route resource that stands behind the engine's static route to a prefix.
    pub fn route_in_force(&self, vrf: &str, prefix: &AnyPrefix) -> Option<&Given> {
        self.get(Kind::Route, &self.first_route(vrf, prefix)?.name)
    }

    /// Which route resource is in force for a prefix.
    pub fn first_route(&self, vrf: &str, prefix: &AnyPrefix) -> Option<&RouteKey> {
        let least = RouteKey { vrf: vrf.to_owned(), prefix: *prefix, metric: 0, name: String::new() };
        self.routes.range(least..).next().filter(|key| key.vrf == vrf && key.prefix == *prefix)
    }

    /// The route resources of the same prefix that come after one, which keep out of the engine.
    pub fn routes_after<'a>(
        &'a self,
        key: &'a RouteKey,
    ) -> impl Iterator<Item = (&'a RouteKey, &'a Given)> + use<'a> {
        let after = self.routes.range((Bound::Excluded(key), Bound::Unbounded));
        let same = after.take_while(move |other| other.vrf == key.vrf && other.prefix == key.prefix);
        same.filter_map(|other| Some((other, self.get(Kind::Route, &other.name)?)))
    }

    /// Resources of policy, by key.
    pub fn of_policy(&self) -> impl Iterator<Item = (&(String, String), &Resource)> {
        let all = self.by_name.iter().map(|(key, given)| (key, &given.resource));
        all.filter(|(_, resource)| !matches!(resource, Resource::IpPool(_) | Resource::Route(_)))
    }

    fn problems(&self) -> Vec<Problem> {
        api::check_set(self.by_name.values().map(|given| &given.resource))
    }
}

/// What became of one object of an applied text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// It is new.
    Created,
    /// It replaced another of its name.
    Replaced,
    /// It was there already, word for word.
    Unchanged,
}

impl Node {
    /// Takes the resources of the configuration and of the durable state; yields why some are left out.
    pub(super) fn load_resources(&mut self) -> Result<Vec<String>, NodeError> {
        // Routes name VRFs, which come to be with their uplinks.
        for uplink in &self.config.uplinks {
            if let Some(vrf) = &uplink.vrf {
                let (port, vrf) = (uplink.device.value.clone(), vrf.value.clone());
                self.router.apply(Event::BindPort { port, vrf })?;
            }
        }
        let mut next = Resources::of_config(&self.config);
        let applied: Vec<(String, String)> = self
            .store
            .state()
            .resources
            .values()
            .flat_map(|of_kind| of_kind.iter().map(|(name, text)| (name.clone(), text.clone())))
            .collect();
        let mut unread = Vec::new();
        for (name, text) in applied {
            for object in api::read(&text) {
                let outcome = object.outcome.and_then(|resource| match self.vrf_problem(&resource) {
                    None => Ok(resource),
                    Some(problem) => Err(vec![problem]),
                });
                match outcome {
                    Ok(resource) => drop(next.put(resource, Origin::Api)),
                    Err(problems) => {
                        self.note_problem(&format!("resource {name}"), Some(words(&problems)));
                        unread.push(words(&problems));
                    }
                }
            }
        }
        self.put_in_force(next)?;
        Ok(unread)
    }

    fn configured(&self, kind: Kind, name: &str) -> Option<Resource> {
        named_by(&self.config).find(|resource| resource.kind() == kind && resource.name() == name)
    }

    /// The resources in force with others among them, and what becomes of each of these.
    fn with_resources(&self, resources: &[Resource]) -> (Resources, Vec<Applied>) {
        let mut next = self.resources.clone();
        let mut applied = Vec::with_capacity(resources.len());
        for resource in resources {
            let outcome = match next.get(resource.kind(), &resource.full_name()) {
                None => Applied::Created,
                Some(old) if old.resource == *resource => Applied::Unchanged,
                Some(_) => Applied::Replaced,
            };
            applied.push(outcome);
            // What says the same as the configuration file stays the file's.
            if outcome != Applied::Unchanged {
                next.put(resource.clone(), Origin::Api);
            }
        }
        (next, applied)
    }

    /// Whether a set of resources may be in force, some of which are new.
    fn judge(&self, next: &Resources, new: &[Resource]) -> Result<(), Vec<Problem>> {
        let problems = next.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        self.check_pods_in_pools(next)?;
        let lost: Vec<Problem> = new.iter().filter_map(|resource| self.vrf_problem(resource)).collect();
        if !lost.is_empty() {
            return Err(lost);
        }
        if *self.config.policy.fail_closed {
            let refused = self.refused(next, new);
            if !refused.is_empty() {
                return Err(refused);
            }
        }
        Ok(())
    }

    /// The resources that would be in force if well-formed ones were applied and others deleted.
    ///
    /// # Errors
    /// What is wrong with the set that would result.
    pub fn judge_resources(
        &self,
        resources: &[Resource],
        deleted: &[(Kind, &str)],
    ) -> Result<Resources, Vec<Problem>> {
        let (mut next, _) = self.with_resources(resources);
        for (kind, name) in deleted {
            if next.remove(*kind, name).is_none() {
                return Err(vec![Problem::new("", format!("there is no {kind} {name}"), "")]);
            }
        }
        self.judge(&next, resources)?;
        Ok(next)
    }

    /// Applies well-formed resources together.
    ///
    /// # Errors
    /// What is wrong with the set that would result; nothing has changed then.
    pub async fn apply_resources(
        &mut self,
        resources: Vec<Resource>,
        dry_run: bool,
    ) -> Result<(Vec<Applied>, u64), Vec<Problem>> {
        let (next, applied) = self.with_resources(&resources);
        self.judge(&next, &resources)?;
        if dry_run {
            return Ok((applied, self.router.engine().generation()));
        }
        let failed = |error: NodeError| vec![Problem::new("", error.to_string(), "")];
        self.store
            .update(|state| {
                for (resource, _) in
                    resources.iter().zip(&applied).filter(|(_, outcome)| **outcome != Applied::Unchanged)
                {
                    state
                        .resources
                        .entry(resource.kind().as_str().to_owned())
                        .or_default()
                        .insert(resource.full_name(), resource.to_yaml());
                }
            })
            .map_err(|error| failed(error.into()))?;
        self.put_in_force(next).map_err(failed)?;
        let generation = self.commit().await.map_err(failed)?;
        Ok((applied, generation))
    }

    /// Removes a resource.
    ///
    /// # Errors
    /// There is none, or something needs it.
    pub async fn delete_resource(&mut self, kind: Kind, name: &str) -> Result<u64, NodeError> {
        let mut next = self.resources.clone();
        let removed = next
            .remove(kind, name)
            .ok_or_else(|| NodeError::NotFound(format!("there is no {kind} {name}")))?;
        if removed.origin == Origin::Config {
            return Err(NodeError::InUse(format!(
                "{kind} {name} is of the configuration file {}: remove it there",
                self.config_file
            )));
        }
        // What the API replaced is there again.
        if let Some(resource) = self.configured(kind, name) {
            next.put(resource, Origin::Config);
        }
        let problems = next.problems();
        if !problems.is_empty() {
            return Err(NodeError::InUse(words(&problems)));
        }
        self.check_pods_in_pools(&next).map_err(|problems| NodeError::InUse(words(&problems)))?;
        self.store.update(|state| {
            if let Some(of_kind) = state.resources.get_mut(kind.as_str()) {
                of_kind.remove(&removed.resource.full_name());
            }
        })?;
        self.put_in_force(next)?;
        self.commit().await
    }

    /// What is wrong with a route whose VRF no uplink is in.
    fn vrf_problem(&self, resource: &Resource) -> Option<Problem> {
        let Resource::Route(route) = resource else { return None };
        if self.router.engine().desired().vrf(&route.spec.vrf).is_some() {
            return None;
        }
        let message = format!("no uplink is in VRF {}", route.spec.vrf);
        Some(Problem::new("spec.vrf", message, "the vrf of an [[uplink]]").of(0, "Route", resource.name()))
    }

    /// Every attached pod must keep a pool that holds its addresses.
    fn check_pods_in_pools(&self, next: &Resources) -> Result<(), Vec<Problem>> {
        let pools: Vec<IpNet> = next
            .of_kind(Kind::IpPool)
            .filter_map(|given| match &given.resource {
                Resource::IpPool(pool) => Some(pool.spec.cidr),
                _ => None,
            })
            .collect();
        let orphans: Vec<Problem> = self
            .pods
            .iter()
            .flat_map(|(name, pod)| pod.spec.addresses.iter().map(move |address| (name, address)))
            .filter(|(_, address)| !pools.iter().any(|pool| pool.contains(*address)))
            .map(|(name, address)| {
                Problem::new(
                    "spec.cidr",
                    format!("pod {name} has {address}, which no pool would hold"),
                    "a pool for every pod's address",
                )
            })
            .collect();
        if orphans.is_empty() { Ok(()) } else { Err(orphans) }
    }

    /// Tells the engine what changed between the resources in force and `next`.
    fn put_in_force(&mut self, next: Resources) -> Result<(), NodeError> {
        let (old, new) = (self.resources.in_force(), next.in_force());
        for (key, resource) in &old {
            if !new.contains_key(key)
                && let Some(event) = removal(resource)
            {
                self.router.apply(event)?;
            }
        }
        for (key, resource) in &new {
            if old.get(key) != Some(resource) {
                self.router.apply(announcement(resource))?;
            }
        }
        let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (self.resources.of_policy().collect(), next.of_policy().collect());
        for (key, resource) in &old {
            if !new.contains_key(key) {
                self.router.apply(Event::RemovePolicy(Box::new((*resource).clone())))?;
            }
        }
        for (key, resource) in &new {
            if old.get(key) != Some(resource) {
                self.router.apply(Event::PutPolicy(Box::new((*resource).clone())))?;
            }
        }
        self.resources = next;
        Ok(())
    }
}

fn words(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, prefix: &str, metric: u32) -> Resource {
        let text = format!(
            "apiVersion: vrouter.io/v1\nkind: Route\nmetadata:\n  name: {name}\nspec:\n  prefix: {prefix}\n  \
             type: blackhole\n  metric: {metric}\n"
        );
        api::read(&text).remove(0).outcome.unwrap()
    }

    #[test]
    fn of_the_routes_to_a_prefix_the_lowest_metric_is_in_force_and_the_first_name() {
        let mut resources = Resources::default();
        let in_force = |resources: &Resources, prefix: &str| {
            let given = resources.route_in_force("", &net_prefix(prefix.parse().unwrap()));
            given.map(|given| given.resource.name().to_owned())
        };
        let shadowed = |resources: &Resources| -> Vec<String> {
            let first = resources.first_route("", &net_prefix("10.0.0.0/8".parse().unwrap())).unwrap();
            resources.routes_after(first).map(|(_, given)| given.resource.name().to_owned()).collect()
        };
        for (name, prefix, metric) in
            [("c", "10.0.0.0/8", 5), ("b", "10.0.0.0/8", 5), ("d", "10.0.0.0/8", 7), ("a", "10.0.0.0/16", 9)]
        {
            resources.put(route(name, prefix, metric), Origin::Config);
        }
        assert_eq!(in_force(&resources, "10.0.0.0/8").as_deref(), Some("b"));
        assert_eq!(in_force(&resources, "10.0.0.0/16").as_deref(), Some("a"));
        assert_eq!(in_force(&resources, "10.0.0.0/12"), None);
        assert_eq!(shadowed(&resources), ["c", "d"]);
        let first = resources.first_route("", &net_prefix("10.0.0.0/8".parse().unwrap())).unwrap();
        let reasons: Vec<String> =
            resources.routes_after(first).map(|(key, _)| first.keeps_out(key)).collect();
        assert_eq!(reasons[0], "route resource b comes first by name at equal metric");
        assert_eq!(reasons[1], "metric 7 against 5 of route resource b");
        // Another metric, another prefix, gone.
        resources.put(route("d", "10.0.0.0/8", 1), Origin::Api);
        assert_eq!(in_force(&resources, "10.0.0.0/8").as_deref(), Some("d"));
        assert_eq!(shadowed(&resources), ["b", "c"]);
        resources.put(route("d", "10.0.0.0/12", 1), Origin::Api);
        assert!(resources.remove(Kind::Route, "b").is_some());
        assert_eq!(in_force(&resources, "10.0.0.0/8").as_deref(), Some("c"));
        assert_eq!(in_force(&resources, "10.0.0.0/12").as_deref(), Some("d"));
        assert!(shadowed(&resources).is_empty() && resources.remove(Kind::Route, "b").is_none());
        let engine: Vec<&str> = resources.in_force().values().map(|resource| resource.name()).collect();
        assert_eq!(engine, ["c", "d", "a"]);
    }
}
