//! Pools and routes by name, from the configuration and from the API.
//!
//! What the API applies is kept in the durable state and is in force again after a
//! restart, above what the configuration file says under the same name. A text is
//! applied whole or not at all, judged as the set that would result.

use std::collections::BTreeMap;

use api::{EncapMode, Kind, Problem, Resource, RouteEncap, RouteType};
use fib::RouteSource;

use crate::control::engine::net_prefix;
use crate::control::{Encap, Event, IpipMode, Pool, RouteSpec, RouteTarget};
use crate::daemon::node::{Node, NodeError};
use crate::daemon::pods::Origin;

/// A resource and who gave it.
#[derive(Clone, Debug)]
pub struct Given {
    /// The resource.
    pub resource: Resource,
    /// Who gave it.
    pub origin: Origin,
}

/// All resources, by kind and name.
#[derive(Clone, Debug, Default)]
pub struct Resources(pub BTreeMap<(String, String), Given>);

impl Resources {
    fn key(resource: &Resource) -> (String, String) {
        (resource.kind().as_str().to_owned(), resource.name().to_owned())
    }

    fn put(&mut self, resource: Resource, origin: Origin) -> Option<Given> {
        self.0.insert(Self::key(&resource), Given { resource, origin })
    }

    /// The resource of this kind and name.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Given> {
        self.0.get(&(kind.as_str().to_owned(), name.to_owned()))
    }

    /// Every resource of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Given> {
        self.0.iter().filter(move |((of, _), _)| of == kind.as_str()).map(|(_, given)| given)
    }

    fn problems(&self) -> Vec<Problem> {
        api::check_set(self.0.values().map(|given| &given.resource))
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
    /// Takes the resources of the configuration and of the durable state.
    pub(super) fn load_resources(&mut self) -> Result<(), NodeError> {
        let mut next = Resources::default();
        for pool in &self.config.pools {
            next.put(Resource::IpPool(pool.resource.clone()), Origin::Config);
        }
        for route in &self.config.routes {
            next.put(Resource::Route(route.resource.clone()), Origin::Config);
        }
        let applied: Vec<(String, String)> = self
            .store
            .state()
            .resources
            .values()
            .flat_map(|of_kind| of_kind.iter().map(|(name, text)| (name.clone(), text.clone())))
            .collect();
        for (name, text) in applied {
            for object in api::read(&text) {
                match object.outcome {
                    Ok(resource) => drop(next.put(resource, Origin::Api)),
                    Err(problems) => {
                        let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
                        self.note_problem(&format!("resource {name}"), Some(words.join("; ")));
                    }
                }
            }
        }
        self.put_in_force(next)
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
        let mut next = self.resources.clone();
        let mut applied = Vec::with_capacity(resources.len());
        for resource in &resources {
            applied.push(match next.get(resource.kind(), resource.name()) {
                None => Applied::Created,
                Some(old) if old.resource == *resource => Applied::Unchanged,
                Some(_) => Applied::Replaced,
            });
            next.put(resource.clone(), Origin::Api);
        }
        let problems = next.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        self.check_pods_in_pools(&next)?;
        if dry_run {
            return Ok((applied, self.router.engine().generation()));
        }
        let failed = |error: NodeError| vec![Problem::new("", error.to_string(), "")];
        self.store
            .update(|state| {
                for resource in &resources {
                    state
                        .resources
                        .entry(resource.kind().as_str().to_owned())
                        .or_default()
                        .insert(resource.name().to_owned(), resource.to_yaml());
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
        if next.0.remove(&(kind.as_str().to_owned(), name.to_owned())).is_none() {
            return Err(NodeError::NotFound(format!("there is no {} {name}", kind.as_str())));
        }
        self.check_pods_in_pools(&next).map_err(|problems| {
            NodeError::Invalid(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        self.store.update(|state| {
            if let Some(of_kind) = state.resources.get_mut(kind.as_str()) {
                of_kind.remove(name);
            }
        })?;
        self.put_in_force(next)?;
        self.commit().await
    }

    /// Every attached pod must keep a pool that holds its addresses.
    fn check_pods_in_pools(&self, next: &Resources) -> Result<(), Vec<Problem>> {
        let pools: Vec<ipnet::IpNet> = next
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
        for (key, old) in &self.resources.0 {
            let kept = next.0.get(key).is_some_and(|new| same_key(&old.resource, &new.resource));
            if !kept && let Some(event) = removal(&old.resource) {
                self.router.apply(event)?;
            }
        }
        for (key, new) in &next.0 {
            let unchanged = self.resources.0.get(key).is_some_and(|old| old.resource == new.resource);
            if !unchanged {
                self.router.apply(announcement(&new.resource))?;
            }
        }
        self.resources = next;
        Ok(())
    }
}

/// Whether two resources of one name are the same object to the engine.
fn same_key(old: &Resource, new: &Resource) -> bool {
    match (old, new) {
        (Resource::IpPool(old), Resource::IpPool(new)) => old.spec.cidr == new.spec.cidr,
        (Resource::Route(old), Resource::Route(new)) => old.spec.prefix == new.spec.prefix,
        _ => false,
    }
}

fn removal(resource: &Resource) -> Option<Event> {
    match resource {
        Resource::IpPool(pool) => Some(Event::RemovePool(pool.spec.cidr)),
        Resource::Route(route) => {
            Some(Event::RemoveRoute(net_prefix(route.spec.prefix), RouteSource::Static))
        }
        _ => None,
    }
}

fn announcement(resource: &Resource) -> Event {
    match resource {
        Resource::Route(route) => {
            let encap = match route.spec.encap {
                None => Encap::Pool,
                Some(RouteEncap::Ipip) => Encap::Ipip,
                Some(_) => Encap::None,
            };
            let target = match (route.spec.kind, route.spec.via) {
                (RouteType::Unicast, Some(via)) => RouteTarget::Via(vec![via], encap),
                (RouteType::Blackhole, _) => RouteTarget::Blackhole,
                (RouteType::Prohibit, _) => RouteTarget::Prohibit,
                _ => RouteTarget::Unreachable,
            };
            Event::PutRoute(RouteSpec {
                prefix: net_prefix(route.spec.prefix),
                source: RouteSource::Static,
                target,
                metric: route.spec.metric,
            })
        }
        Resource::IpPool(pool) => Event::PutPool(Pool {
            name: pool.metadata.name.clone(),
            cidr: pool.spec.cidr,
            ipip_mode: match pool.spec.ipip_mode {
                EncapMode::Always => IpipMode::Always,
                EncapMode::CrossSubnet => IpipMode::CrossSubnet,
                _ => IpipMode::Never,
            },
        }),
        // A kind that this release does not read cannot have been applied.
        other => unreachable!("{} is not a kind of this release", other.kind().as_str()),
    }
}
