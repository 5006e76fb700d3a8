//! What resources ask for that this router does not do, though it accepts them: said in status, refused
//! under `fail_closed`.
//!
//! | what | enforced |
//! |---|---|
//! | HTTP matches of policies and profiles, performance hints | not |
//! | `allowSpoofedSourcePrefixes` | where `[policy] workload_source_spoofing` is `Any` |
//! | a host endpoint without a device here | nothing of it |
//! | a host endpoint at a shared uplink | `applyOnForward`, on what is forwarded; what pods send to the node, where it is all interfaces |
//! | ... at an exclusive uplink | all |
//!
//! Notes, for which nothing is refused, tell of what is said in vain here as in Calico: rules of a direction
//! that the types do not hold, and workloads that a policy of host endpoints names.

use api::{Kind, PolicyType, Problem, Resource};

use crate::control::engine::HostPorts;
use crate::control::policy::{EndpointKey, PolicyWorld};
use crate::daemon::Node;
use crate::daemon::node::NodeError;
use crate::daemon::resources::Resources;

/// Something that is not done.
#[derive(Clone, Debug)]
pub struct NotEnforced {
    /// The resource, the field, and what of it.
    pub problem: Problem,
    /// The host endpoint that it is about, if it is.
    pub endpoint: Option<String>,
    /// It is a note, and nothing is refused for it.
    pub note: bool,
}

impl NotEnforced {
    /// Whether it is about a resource.
    pub fn is_of(&self, kind: Kind, name: &str) -> bool {
        self.problem.kind == kind.as_str() && self.problem.name == name
    }

    fn comes_with(&self, resource: &Resource) -> bool {
        self.is_of(resource.kind(), &resource.full_name())
            || (resource.kind() == Kind::HostEndpoint && self.endpoint.as_deref() == Some(resource.name()))
    }
}

impl Node {
    /// All of the resources in force.
    pub fn not_enforced(&self) -> Vec<NotEnforced> {
        self.not_enforced_of(&self.resources, self.router.engine().policy())
    }

    /// Refuses a start under `fail_closed` with resources of which something is not enforced. To be called
    /// when the uplinks are known.
    pub(super) fn refuse_unenforced(&self, unread: &[String]) -> Result<(), NodeError> {
        if !*self.config.policy.fail_closed {
            return Ok(());
        }
        let all: Vec<Resource> = self.resources.of_policy().map(|(_, resource)| resource.clone()).collect();
        let refused = self.refused(&self.resources, &all).into_iter().map(|problem| problem.to_string());
        let told: Vec<String> = unread.iter().cloned().chain(refused).collect();
        if told.is_empty() {
            return Ok(());
        }
        Err(NodeError::Invalid(format!(
            "policy.fail_closed refuses resources that were applied before: {}; start once with fail_closed = \
             false, delete or mend them, and start again",
            told.join("; ")
        )))
    }

    /// What would have to be refused if these resources were new among `next`.
    pub(super) fn refused(&self, next: &Resources, new: &[Resource]) -> Vec<Problem> {
        let engine = self.router.engine();
        let mut all = match next.of_kind(Kind::HostEndpoint).next() {
            // Which policies select a host endpoint is known when all is in its place.
            Some(_) => {
                let parts = engine.policy_parts(next.of_policy().map(|(_, resource)| resource));
                self.not_enforced_of(next, &parts.world())
            }
            None => self.not_enforced_of(next, engine.policy()),
        };
        all.retain(|told| !told.note && new.iter().any(|resource| told.comes_with(resource)));
        all.into_iter().map(|told| told.problem).collect()
    }

    fn not_enforced_of(&self, resources: &Resources, world: &PolicyWorld) -> Vec<NotEnforced> {
        let of_resource = |(_, resource): (_, &Resource)| resource.not_enforced();
        let told = resources.of_policy().flat_map(of_resource);
        let mut out: Vec<NotEnforced> =
            told.map(|problem| NotEnforced { problem, endpoint: None, note: false }).collect();
        if !*self.config.policy.workload_source_spoofing {
            let spoofing = resources.of_policy().filter_map(|(_, resource)| spoofing(resource));
            out.extend(spoofing.map(|problem| NotEnforced { problem, endpoint: None, note: false }));
        }
        let in_vain = resources.of_policy().flat_map(|(_, resource)| resource.of_no_effect());
        let passed_over = world.passing_over().map(|(kind, name, field, count)| {
            let message = format!(
                "is of host endpoints alone: {count} workloads that the selector names are passed over"
            );
            Problem::new(field, message, "").of(0, kind.as_str(), name)
        });
        let notes = in_vain.chain(passed_over);
        out.extend(notes.map(|problem| NotEnforced { problem, endpoint: None, note: true }));
        let hosts = resources.of_kind(Kind::HostEndpoint).filter_map(|given| match &given.resource {
            Resource::HostEndpoint(endpoint) => Some(endpoint),
            _ => None,
        });
        for (name, place) in self.router.engine().host_ports(hosts) {
            of_endpoint(&name, &place, resources, world, &mut out);
        }
        out
    }
}

/// What is to be said of a workload that may send from more than its addresses, where none may.
fn spoofing(resource: &Resource) -> Option<Problem> {
    let Resource::WorkloadEndpoint(workload) = resource else { return None };
    let asks = !workload.spec.allow_spoofed_source_prefixes.is_empty();
    let message = "is not enforced: policy.workload_source_spoofing is Disabled, and what it sends from them is dropped";
    let problem = Problem::new("spec.allowSpoofedSourcePrefixes", message, "");
    asks.then(|| problem.of(0, Kind::WorkloadEndpoint.as_str(), &resource.full_name()))
}

fn of_endpoint(
    name: &str,
    place: &HostPorts,
    resources: &Resources,
    world: &PolicyWorld,
    out: &mut Vec<NotEnforced>,
) {
    let mut tell = |kind: Kind, of: &str, path: &str, message: String, note: bool| {
        let problem = Problem::new(path, message, "").of(0, kind.as_str(), of);
        out.push(NotEnforced { problem, endpoint: Some(name.to_owned()), note });
    };
    let host = Kind::HostEndpoint;
    if place.shared.is_empty() && place.exclusive.is_empty() && !place.is_all {
        let message = "is not enforced: no uplink of this router is that interface, or has such an address";
        tell(host, name, "spec", message.to_owned(), false);
        return;
    }
    if place.shared.is_empty() {
        return;
    }
    let devices = place.shared.join(", ");
    let message = format!(
        "the node's own packets by {devices} do not pass this router: policy of them is not enforced"
    );
    tell(host, name, "spec", message, true);
    if let Some(Resource::HostEndpoint(endpoint)) = resources.get(host, name).map(|given| &given.resource)
        && !endpoint.spec.profiles.is_empty()
    {
        let message =
            format!("are not enforced: the node's own packets by {devices} do not pass this router");
        tell(host, name, "spec.profiles", message, false);
    }
    let key = EndpointKey::Host { name: name.to_owned() };
    for tier in world.tiers() {
        for policy in tier.policies.iter().filter(|policy| policy.endpoints.contains(&key)) {
            let of = policy.resource_name();
            let spec = resources.get(policy.kind, &of).and_then(|given| given.resource.policy_spec());
            let Some(spec) = spec.filter(|_| !policy.staged) else { continue };
            let own = format!("host endpoint {name}, whose packets by {devices} do not pass this router");
            if spec.apply_on_forward {
                if spec.do_not_track || spec.pre_dnat {
                    let message = format!("is enforced on forwarded packets alone at {own}");
                    tell(policy.kind, &of, "spec.applyOnForward", message, true);
                }
                continue;
            }
            // What pods send to the node is asked about where the endpoint is all interfaces.
            if place.is_all && spec.types.contains(&PolicyType::Ingress) {
                let message = format!("is enforced on what pods send to the node alone at {own}");
                tell(policy.kind, &of, "spec.ingress", message, true);
            } else {
                tell(policy.kind, &of, "spec", format!("is not enforced at {own}"), false);
            }
            if place.is_all && spec.types.contains(&PolicyType::Egress) {
                tell(policy.kind, &of, "spec.egress", format!("is not enforced at {own}"), false);
            }
        }
    }
}
