//! From text to resources: YAML documents, JSON (which YAML contains), and the lists that
//! `calicoctl get -o yaml` prints.
//!
//! ```text
//! kind: IPPool ...            -> one object
//! ---                         -> an empty document is skipped
//! kind: IPPoolList            -> one object per item, paths begin with items[n]
//! items: [...]
//! ```

use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Mapping, Value};

use crate::endpoint::{EndpointSlice, HostEndpoint, Namespace, Pod, ServiceAccount, WorkloadEndpoint};
use crate::fields::{Fields, join, show};
use crate::ip_pool::IpPool;
use crate::metadata::Metadata;
use crate::policy::{KubernetesPolicy, NetworkSet, Policy, Profile, Tier};
use crate::problem::Problem;
use crate::resource::{Kind, Resource};
use crate::route::Route;

/// One object of a text: a resource, or everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Object {
    /// Number of its YAML document, from 1.
    pub document: usize,
    /// Its kind as written; empty when it has none.
    pub kind: String,
    /// Its name as written; empty when it has none.
    pub name: String,
    /// The resource, or its problems (at least one).
    pub outcome: Result<Resource, Vec<Problem>>,
}

/// Kind and name of an object, which is all that a deletion needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectRef {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: String,
    /// The namespace; empty for kinds that belong to none.
    pub namespace: String,
}

/// Reads every object of a text. A fault of syntax ends the text: what follows it cannot be told apart.
/// A text without any object is a fault too, so that an empty file is not taken for success.
pub fn read(text: &str) -> Vec<Object> {
    let mut objects = Vec::new();
    for_each_mapping(text, &mut |place| objects.push(place.read()));
    objects
}

/// Reads kind and name of every object of a text, whatever its `spec` says.
pub fn references(text: &str) -> Result<Vec<ObjectRef>, Vec<Problem>> {
    let (mut references, mut problems) = (Vec::new(), Vec::new());
    for_each_mapping(text, &mut |place| match place.reference() {
        Ok(reference) => references.push(reference),
        Err(mut found) => problems.append(&mut found),
    });
    if problems.is_empty() { Ok(references) } else { Err(problems) }
}

/// One object's place in a text; `content` is a fault where there is no object to read.
struct Place<'a> {
    document: usize,
    path: &'a str,
    content: Result<&'a Mapping, Problem>,
}

fn for_each_mapping(text: &str, visit: &mut dyn FnMut(Place<'_>)) {
    let mut objects = 0_usize;
    let mut count = |place: Place<'_>| {
        objects += 1;
        visit(place);
    };
    for (index, document) in Deserializer::from_str(text).enumerate() {
        let document_number = index + 1;
        let value = match Value::deserialize(document) {
            Ok(Value::Null) => continue,
            Ok(value) => value,
            Err(error) => {
                // A fault deeper than syntax (a key used twice) does not stop the stream, but the
                // reader cannot tell the two apart, and a broken stream would repeat its fault.
                count(Place {
                    document: document_number,
                    path: "",
                    content: Err(Problem::new("", error.to_string(), "a YAML or JSON document")),
                });
                return;
            }
        };
        match value.as_mapping() {
            Some(mapping) => visit_mapping(document_number, mapping, &mut count),
            None => count(Place {
                document: document_number,
                path: "",
                content: Err(Problem::new("", format!("found {}", show(&value)), "a resource")),
            }),
        }
    }
    if objects == 0 {
        visit(Place {
            document: 0,
            path: "",
            content: Err(Problem::new("", "there is no resource in this text", "")),
        });
    }
}

/// Visits a mapping, or each item of it when it is a list.
fn visit_mapping(document: usize, mapping: &Mapping, visit: &mut dyn FnMut(Place<'_>)) {
    let kind = mapping.get("kind").and_then(Value::as_str).unwrap_or_default();
    let items = mapping.get("items").and_then(Value::as_sequence);
    let (true, Some(items)) = (kind.ends_with("List"), items) else {
        return visit(Place { document, path: "", content: Ok(mapping) });
    };
    for (index, item) in items.iter().enumerate() {
        let path = format!("items[{index}]");
        let content = item
            .as_mapping()
            .ok_or_else(|| Problem::new(path.clone(), format!("found {}", show(item)), "a resource"));
        visit(Place { document, path: &path, content });
    }
}

/// The outer fields of an object.
struct Envelope<'a> {
    kind: Option<Kind>,
    kind_text: String,
    name: String,
    fields: Fields<'a>,
}

impl<'a> Envelope<'a> {
    fn open(path: &str, mapping: &'a Mapping) -> Self {
        let mut fields = Fields::new(path, mapping);
        let kind_text = fields.string("kind").unwrap_or_default().to_owned();
        let api_version = fields.string("apiVersion").unwrap_or_default();
        let mut kind = Kind::find(&kind_text, api_version);
        if kind_text.is_empty() {
            if !fields.has_problem("kind") {
                fields.problem("kind", "is missing", Kind::expected());
            }
        } else if kind.is_none() {
            let message = match kind_text.parse::<Kind>() {
                Ok(near) => {
                    kind = Some(near);
                    format!("found {kind_text:?}")
                }
                Err(error) => error.to_string(),
            };
            fields.problem("kind", message, Kind::expected());
        }
        if let Some(kind) = kind.filter(|kind| kind.api_version() != api_version)
            && !fields.has_problem("apiVersion")
        {
            let message = if api_version.is_empty() {
                "is missing".to_owned()
            } else {
                format!("found {api_version:?}")
            };
            fields.problem("apiVersion", message, kind.api_version());
        }
        let name = mapping
            .get("metadata")
            .and_then(|metadata| metadata.get("name"))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        Self { kind, kind_text, name, fields }
    }
}

impl Place<'_> {
    fn read(self) -> Object {
        let document = self.document;
        let mapping = match self.content {
            Ok(mapping) => mapping,
            Err(problem) => {
                return Object {
                    document,
                    kind: String::new(),
                    name: String::new(),
                    outcome: Err(vec![problem.of(document, "", "")]),
                };
            }
        };
        let Envelope { kind, kind_text, name, mut fields } = Envelope::open(self.path, mapping);
        let (resource, problems) = match kind {
            // The fields of a kind that is not known cannot be judged.
            None => (None, fields.into_problems()),
            Some(kind) => {
                let metadata = fields.mapping("metadata", true).map(|part| {
                    let (metadata, problems) = Metadata::read(part, kind.is_namespaced());
                    fields.absorb(problems);
                    metadata
                });
                let metadata = metadata.unwrap_or_default();
                let (resource, mut problems) = read_body(kind, metadata, &mut fields);
                for problem in &mut problems {
                    // Rules that span fields speak of spec.*, wherever the object stands.
                    let whole = ["spec.", "metadata."].iter().any(|part| problem.path.starts_with(part));
                    if whole && !self.path.is_empty() {
                        problem.path = join(self.path, &problem.path);
                    }
                }
                fields.absorb(problems);
                (resource, fields.finish())
            }
        };
        let outcome = match resource {
            Some(resource) if problems.is_empty() => Ok(resource),
            _ => Err(problems.into_iter().map(|problem| problem.of(document, &kind_text, &name)).collect()),
        };
        Object { document, kind: kind_text, name, outcome }
    }

    fn reference(self) -> Result<ObjectRef, Vec<Problem>> {
        let mapping = self.content.map_err(|problem| vec![problem.of(self.document, "", "")])?;
        let Envelope { kind, kind_text, name, mut fields } = Envelope::open(self.path, mapping);
        if name.is_empty() {
            fields.problem("metadata.name", "is missing", "the name of the resource");
        }
        let problems = fields.into_problems();
        match kind {
            Some(kind) if problems.is_empty() => {
                let written = mapping.get("metadata").and_then(|part| part.get("namespace"));
                let namespace = match written.and_then(Value::as_str) {
                    _ if !kind.is_namespaced() => "",
                    None | Some("") => "default",
                    Some(namespace) => namespace,
                };
                Ok(ObjectRef { kind, name, namespace: namespace.to_owned() })
            }
            _ => Err(problems
                .into_iter()
                .map(|problem| problem.of(self.document, &kind_text, &name))
                .collect()),
        }
    }
}

/// Reads what stands beside `metadata`. Problems carry their whole path, but for rules that span fields.
fn read_body(kind: Kind, metadata: Metadata, fields: &mut Fields<'_>) -> (Option<Resource>, Vec<Problem>) {
    match kind {
        Kind::Namespace | Kind::ServiceAccount => {
            // Secrets, finalizers and the like are no matter of a router.
            fields.ignore(&["spec", "status", "secrets", "imagePullSecrets", "automountServiceAccountToken"]);
            let resource = match kind {
                Kind::Namespace => Resource::Namespace(Namespace::new(metadata)),
                _ => Resource::ServiceAccount(ServiceAccount::new(metadata)),
            };
            return (Some(resource), Vec::new());
        }
        Kind::Pod => {
            let (spec, status) = (fields.mapping("spec", false), fields.mapping("status", false));
            let (pod, problems) = Pod::read(metadata, spec, status);
            return (Some(Resource::Pod(pod)), problems);
        }
        Kind::EndpointSlice => {
            return (Some(Resource::EndpointSlice(EndpointSlice::read(metadata, fields))), Vec::new());
        }
        _ => {}
    }
    // A Calico object carries its last observed state along; it asks for nothing.
    fields.take("status");
    let value = fields.peek("spec");
    // A policy, tier or set without a spec is one with every default.
    let empty = Mapping::new();
    let part = match fields.mapping("spec", kind.needs_spec()) {
        Some(part) => part,
        None if kind.needs_spec() || value.is_some() => return (None, Vec::new()),
        None => Fields::new(&fields.path_of("spec"), &empty),
    };
    fn all<T>(
        (one, problems): (T, Vec<Problem>),
        make: impl Fn(T) -> Resource,
    ) -> (Option<Resource>, Vec<Problem>) {
        (Some(make(one)), problems)
    }
    match kind {
        Kind::IpPool => {
            let (pool, problems) = IpPool::read(metadata, part);
            (pool.map(Resource::IpPool), problems)
        }
        Kind::Route => {
            let (route, problems) = Route::read(metadata, part);
            (route.map(Resource::Route), problems)
        }
        Kind::Tier => all(Tier::read(metadata, part), Resource::Tier),
        Kind::NetworkSet | Kind::GlobalNetworkSet => {
            all(NetworkSet::read(kind, metadata, part), Resource::NetworkSet)
        }
        Kind::Profile => all(Profile::read(metadata, part), Resource::Profile),
        Kind::HostEndpoint => all(HostEndpoint::read(metadata, part), Resource::HostEndpoint),
        Kind::WorkloadEndpoint => all(WorkloadEndpoint::read(metadata, part), Resource::WorkloadEndpoint),
        Kind::KubernetesNetworkPolicy | Kind::StagedKubernetesNetworkPolicy => {
            let value = value.cloned().unwrap_or(Value::Mapping(Mapping::new()));
            all(KubernetesPolicy::read(kind, metadata, &value, part), Resource::KubernetesPolicy)
        }
        _ => all(Policy::read(kind, metadata, part), Resource::Policy),
    }
}
