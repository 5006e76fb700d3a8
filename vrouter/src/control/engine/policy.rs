//! Policy: resources become programs of pod ports, and changes reach flows that are open.
//!
//! ```text
//!   resources, pods --> PolicyWorld --publish--> programs, tries   in new tables
//!                                                generations of ports whose programs are others
//!                           every worker has adopted them
//!                   --settle--> addresses get their new classes, in place
//!                                                generations of ports whose sets have changed: tables again
//! ```
//!
//! A generation is raised with or after what it stands for, so a verdict that was made while classes
//! moved is asked for again. Flows of other ports are left alone.

mod left_flows;

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use acl::conntrack::PolicyGenerations;
use acl::model::Family;
use acl::{ProgramId, RuleId};
use api::{FailsafePort, Resource};
use ipnet::IpNet;

use super::host_endpoints;
use super::{Engine, EngineError};
use crate::control::desired::{PortRole, PortSpec};
use crate::control::policy::endpoint::Endpoint;
use crate::control::policy::host_places::{HostPlaces, Interface};
use crate::control::policy::{EndpointKey, NodeView, PolicyWorld};
use crate::counters::WorkerCounters;
use crate::ids::{MAX_PORTS, PortId};
use crate::publish::Epoch;
use crate::tables::{FlowTable, PolicyTables, Port, PortPolicy, Role};

/// The orchestrator of pods that are declared or attached by hand: that of Kubernetes, so that its
/// policies apply to them.
const ORCHESTRATOR: &str = "k8s";

/// Everything that is policy's in the engine.
pub(super) struct PolicySide {
    world: PolicyWorld,
    flows: Arc<FlowTable>,
    /// By port number; they never go back, whoever has the number.
    generations: Vec<PolicyGenerations>,
    /// The port of each endpoint that has one.
    ports: BTreeMap<EndpointKey, PortId>,
    /// Endpoints that resources describe; these win over what is known of the port.
    described: BTreeSet<EndpointKey>,
    /// Host endpoints, and where each is.
    pub(super) hosts: HostPlaces,
    /// Endpoints may send from the prefixes that resources allow them.
    source_spoofing: bool,
    /// Who counts rules: there must be room before a verdict can name one.
    counters: Vec<Arc<WorkerCounters>>,
    /// The world has changed since it was published.
    changed: bool,
    /// Tables that not every worker had adopted in time: addresses keep their classes until then.
    awaited: Option<Epoch>,
}

impl PolicySide {
    pub(super) fn new(flows: Arc<FlowTable>) -> Self {
        PolicySide {
            world: PolicyWorld::new(),
            flows,
            generations: vec![PolicyGenerations::default(); MAX_PORTS],
            ports: BTreeMap::new(),
            described: BTreeSet::new(),
            hosts: HostPlaces::default(),
            source_spoofing: false,
            counters: Vec::new(),
            changed: false,
            awaited: None,
        }
    }

    /// The policy part of the tables of these ports.
    pub(super) fn tables(&self, ports: &[Option<Arc<Port>>]) -> PolicyTables {
        let hosts = || ports.iter().flatten().filter_map(|port| port.host_policy.as_ref());
        let trie = |family| self.world.engine().trie(family).clone();
        PolicyTables {
            in_use: ports.iter().flatten().any(|port| port.role == Role::Pod || port.host_policy.is_some()),
            hosts: hosts().next().is_some(),
            untracked: hosts().any(|policy| policy.untracked.iter().any(Option::is_some)),
            classes4: trie(Family::V4),
            classes6: trie(Family::V6),
            generations: self.generations[..ports.len()].into(),
            flows: self.flows.clone(),
        }
    }

    pub(super) fn world(&self) -> &PolicyWorld {
        &self.world
    }

    /// Says that something which the world does not know of changes programs of ports.
    pub(super) fn touch(&mut self) {
        self.changed = true;
    }

    pub(super) fn raise(&mut self, id: PortId, egress: bool, ingress: bool) {
        let Some(generations) = self.generations.get_mut(id.index()) else { return };
        generations.egress = generations.egress.wrapping_add(u16::from(egress));
        generations.ingress = generations.ingress.wrapping_add(u16::from(ingress));
    }

    /// The programs of an endpoint.
    fn programs(&self, key: &EndpointKey) -> Option<PortPolicy> {
        let ids = self.world.programs(key)?;
        let program = |id: ProgramId| self.world.engine().program(id).cloned();
        let allowed = self.world.endpoint(key).filter(|_| self.source_spoofing);
        let sources = allowed.map(|(_, endpoint)| endpoint.spoofable.as_slice()).unwrap_or_default();
        Some(PortPolicy {
            egress: program(ids.egress)?,
            ingress: program(ids.ingress)?,
            sources: sources.into(),
        })
    }
}

/// The endpoint of a pod port: `namespace/name` is its port's name, and a bare name is one of
/// namespace `default`.
fn endpoint_key(port: &str) -> EndpointKey {
    let (namespace, name) = port.split_once('/').unwrap_or(("default", port));
    EndpointKey::workload(namespace, name)
}

fn endpoint(spec: &PortSpec) -> Option<Endpoint> {
    let PortRole::Pod { addresses, workload } = &spec.role else { return None };
    Some(Endpoint {
        labels: workload.labels.clone(),
        orchestrator: ORCHESTRATOR.to_owned(),
        service_account: workload.service_account.clone(),
        profiles: workload.profiles.clone(),
        addresses: addresses.clone(),
        ports: workload.ports.clone(),
        spoofable: Vec::new(),
    })
}

/// What a policy world is made of, on its own.
#[derive(Clone, Debug)]
pub struct PolicyParts {
    resources: Vec<Resource>,
    endpoints: Vec<(EndpointKey, Endpoint)>,
    failsafe: [Vec<FailsafePort>; 2],
    node: Option<String>,
    devices: Vec<Interface>,
    own: Vec<IpAddr>,
    local: BTreeSet<EndpointKey>,
}

impl PolicyParts {
    /// The node around the world.
    pub fn view(&self) -> NodeView {
        let mut hosts = HostPlaces::new(self.node.clone());
        self.resources.iter().for_each(|resource| hosts.put(resource));
        NodeView::new(self.devices.iter().cloned(), &hosts, self.own.clone(), self.local.clone())
    }

    /// The world, settled.
    pub fn world(self) -> PolicyWorld {
        let mut world = PolicyWorld::new();
        world.set_failsafe(self.failsafe);
        self.resources.iter().for_each(|resource| world.apply(resource));
        self.endpoints.into_iter().for_each(|(key, endpoint)| world.put_endpoint(key, Some(endpoint)));
        world.publish();
        world.settle();
        world
    }
}

impl Engine {
    /// What the policy world would be made of, if these were the resources of policy.
    pub fn policy_parts<'a>(&self, resources: impl Iterator<Item = &'a Resource>) -> PolicyParts {
        let resources: Vec<Resource> = resources.cloned().collect();
        let described: BTreeSet<EndpointKey> = resources.iter().filter_map(described).collect();
        let specs = self.desired.ports.values();
        let endpoints = specs.filter_map(|spec| Some((endpoint_key(&spec.name), endpoint(spec)?)));
        let endpoints = endpoints.filter(|(key, _)| !described.contains(key)).collect();
        PolicyParts {
            resources,
            endpoints,
            failsafe: self.policy.world.failsafe().clone(),
            node: self.policy.hosts.node().cloned(),
            devices: self.desired.ports.values().filter_map(host_endpoints::interface).collect(),
            own: self.own_addresses(),
            local: self.policy.ports.keys().cloned().collect(),
        }
    }

    /// The node around the policy in force.
    pub fn node_view(&self) -> NodeView {
        let devices = self.desired.ports.values().filter_map(host_endpoints::interface);
        let local = self.policy.ports.keys().cloned().collect();
        NodeView::new(devices, &self.policy.hosts, self.own_addresses(), local)
    }

    /// The port by which packets to an address leave, the first of several; and whether by a tunnel.
    pub fn way_to(&self, address: IpAddr) -> Option<(String, bool)> {
        let (port, tunnelled) = self.adjacency_to(address)?;
        Some((self.port_name(port)?.to_owned(), tunnelled))
    }

    /// The port by which packets to an address leave, the first of several.
    fn port_toward(&self, address: IpAddr) -> Option<PortId> {
        let (port, _) = self.adjacency_to(address)?;
        self.port_name(port).map(|_| port)
    }

    fn adjacency_to(&self, address: IpAddr) -> Option<(PortId, bool)> {
        let tables = self.tables();
        let group = match address {
            IpAddr::V4(address) => tables.fib4.lookup(address),
            IpAddr::V6(address) => tables.fib6.lookup(address),
        };
        let group = tables.groups.get(group?.index())?;
        let adjacency = &tables.adjacencies[group.pick(|| 0).index()];
        Some((adjacency.port, adjacency.tunnel.is_some()))
    }

    /// Sets the ports that no policy of a host endpoint closes.
    pub(super) fn set_failsafe(&mut self, ports: [Vec<FailsafePort>; 2]) {
        self.policy.world.set_failsafe(ports);
        self.policy.changed = true;
    }

    /// Sets whether endpoints may send from the prefixes that resources allow them.
    pub(super) fn set_source_spoofing(&mut self, allowed: bool) {
        self.policy.source_spoofing = allowed;
        self.policy.changed = true;
    }

    /// Addresses of the node itself.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let roles = self.desired.ports.values().map(|spec| &spec.role);
        let addresses = roles.flat_map(|role| match role {
            PortRole::Uplink { addresses, .. } => addresses.iter().map(IpNet::addr).collect(),
            PortRole::Host { addresses } => addresses.clone(),
            PortRole::Pod { .. } => Vec::new(),
        });
        addresses.collect()
    }

    /// A resource exists, or says something else.
    pub(super) fn put_policy(&mut self, resource: &Resource) {
        self.policy.described.extend(described(resource));
        self.policy.hosts.put(resource);
        self.policy.world.apply(resource);
        self.policy.changed = true;
    }

    /// A resource is gone.
    pub(super) fn remove_policy(&mut self, resource: &Resource) {
        self.policy.world.remove(resource);
        self.policy.hosts.remove(resource);
        if let Some(key) = described(resource)
            && self.policy.described.remove(&key)
            && let Some(id) = self.policy.ports.get(&key)
            && let Some(port) = self.ports.get(id.index()).and_then(Option::as_ref)
            && let Some(spec) = self.desired.ports.get(&*port.name)
        {
            // What is known of the port itself is in force again.
            self.policy.world.put_endpoint(key, endpoint(spec));
        }
        self.policy.changed = true;
    }

    /// Refuses a pod port whose endpoint another port has.
    pub(super) fn check_endpoint(&self, spec: &PortSpec) -> Result<(), EngineError> {
        if !matches!(spec.role, PortRole::Pod { .. }) {
            return Ok(());
        }
        let owner = self.policy.ports.get(&endpoint_key(&spec.name)).and_then(|id| self.port_name(*id));
        match owner.filter(|owner| *owner != spec.name) {
            Some(owner) => Err(EngineError::EndpointTaken(spec.name.clone(), owner.to_owned())),
            None => Ok(()),
        }
    }

    /// A port has come or changed.
    pub(super) fn police_port(&mut self, spec: &PortSpec, id: PortId) {
        let key = endpoint_key(&spec.name);
        let endpoint = endpoint(spec);
        // Another host endpoint may be at the port now.
        self.policy.changed |= endpoint.is_none() && !self.policy.hosts.is_empty();
        if endpoint.is_some() {
            self.policy.ports.insert(key.clone(), id);
        } else if self.policy.ports.get(&key) == Some(&id) {
            self.policy.ports.remove(&key);
        } else {
            return;
        }
        if !self.policy.described.contains(&key) {
            self.policy.world.put_endpoint(key, endpoint);
        }
        self.policy.changed = true;
    }

    /// A port is gone: flows that its endpoint has let pass are no longer anyone's.
    pub(super) fn release_port(&mut self, spec: &PortSpec, id: PortId) {
        self.policy.raise(id, true, true);
        let key = endpoint_key(&spec.name);
        if !matches!(spec.role, PortRole::Pod { .. }) || self.policy.ports.get(&key) != Some(&id) {
            return;
        }
        self.policy.ports.remove(&key);
        if !self.policy.described.contains(&key) {
            self.policy.world.put_endpoint(key, None);
        }
        self.policy.changed = true;
    }

    /// Compiles what changed and gives ports their programs. Returns whether tables must be published.
    pub(super) fn renew_policy(&mut self) -> bool {
        if !core::mem::take(&mut self.policy.changed) {
            return false;
        }
        let mut publish = self.policy.world.publish().published.tries.is_some();
        let last = self.policy.world.names().book().len();
        self.policy.counters.iter().for_each(|worker| worker.rules.reserve(last));
        let ports: Vec<(EndpointKey, PortId)> =
            self.policy.ports.iter().map(|(key, id)| (key.clone(), *id)).collect();
        for (key, id) in ports {
            let Some(port) = self.ports.get(id.index()).and_then(Option::as_ref) else { continue };
            let new = self.policy.programs(&key);
            let changed = |of: fn(&PortPolicy) -> &Arc<acl::Program>| match (&port.policy, &new) {
                (Some(old), Some(new)) => !Arc::ptr_eq(of(old), of(new)),
                (None, None) => false,
                _ => true,
            };
            let (egress, ingress) = (changed(|policy| &policy.egress), changed(|policy| &policy.ingress));
            let sources = |policy: &Option<PortPolicy>| policy.as_ref().map(|policy| policy.sources.clone());
            if !egress && !ingress && sources(&port.policy) == sources(&new) {
                continue;
            }
            self.ports[id.index()] = Some(Arc::new(Port { policy: new, ..(**port).clone() }));
            self.policy.raise(id, egress, ingress);
            publish = true;
        }
        publish | self.renew_host_policy()
    }

    /// Gives addresses their new classes, once every worker has the tables that were published last.
    /// Flows whose verdicts that may change are asked about again.
    pub(super) fn settle_policy(&mut self) {
        if self.policy.changed || self.policy.world.engine().is_settled() {
            return;
        }
        if self.policy.awaited.is_some_and(|epoch| !self.publisher.passed(epoch)) {
            return;
        }
        self.policy.awaited = None;
        let concerned = self.policy.world.settle();
        let mut ids: Vec<PortId> =
            concerned.iter().filter_map(|key| self.policy.ports.get(key)).copied().collect();
        ids.extend(self.ports_of_hosts(&concerned));
        if ids.is_empty() {
            return;
        }
        ids.into_iter().for_each(|id| self.policy.raise(id, true, true));
        self.publish();
    }

    /// Notes tables that some worker has not adopted in time.
    pub(super) fn await_policy(&mut self, epoch: Option<Epoch>) {
        self.policy.awaited = epoch;
    }

    /// Has one more worker count what rules decide. To be called before it runs.
    pub fn count_rules_in(&mut self, worker: Arc<WorkerCounters>) {
        worker.rules.reserve(self.policy.world.names().book().len());
        self.policy.counters.push(worker);
    }

    /// The policy of the router.
    pub fn policy(&self) -> &PolicyWorld {
        &self.policy.world
    }

    /// The name of a policy rule.
    pub fn rule_name(&self, id: u32) -> Option<&str> {
        self.policy.world.names().book().name(RuleId(id))
    }

    /// What of policy is not in force as it was meant, by endpoint.
    pub fn policy_problems(&self) -> Vec<String> {
        let show = |(key, problem): (&EndpointKey, String)| match key {
            EndpointKey::Workload { namespace, name } => {
                format!("workload {namespace}/{name} is denied: {problem}")
            }
            EndpointKey::Host { name } => format!("host endpoint {name} is denied: {problem}"),
        };
        self.policy.world.refused().map(show).collect()
    }

    /// The flows of the router.
    pub fn flows(&self) -> &Arc<FlowTable> {
        &self.policy.flows
    }
}

/// The endpoint that a resource describes.
fn described(resource: &Resource) -> Option<EndpointKey> {
    match resource {
        Resource::Pod(pod) => Some(EndpointKey::workload(&pod.metadata.namespace, &pod.metadata.name)),
        Resource::WorkloadEndpoint(workload) => Some(EndpointKey::of_workload(workload)),
        _ => None,
    }
}
