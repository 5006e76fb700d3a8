//! What resources ask for that this router does not do, though it accepts them: said in status, refused
//! under `fail_closed`.
//!
//! | what | enforced |
//! |---|---|
//! | HTTP matches, performance hints | not |
//! | a host endpoint without a device here | nothing of it |
//! | a host endpoint at a shared uplink | `applyOnForward`, on what is forwarded; what pods send to the node, where it is all interfaces |
//! | ... at an exclusive uplink | all |

use api::{Kind, PolicyType, Problem, Resource};

use crate::control::engine::HostPorts;
use crate::control::policy::{EndpointKey, PolicyWorld};
use crate::daemon::Node;
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
