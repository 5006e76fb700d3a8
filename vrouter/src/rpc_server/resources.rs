//! `Apply`, `Get`, `Delete`: resources as texts.

use api::{Kind, Resource};
use tonic::Status;

use crate::daemon::Node;
use crate::daemon::pods::Origin;
use crate::daemon::resources::{Applied, Given, Resources};
use crate::rpc::v1;
use crate::rpc_server::error;

/// The resources of a text, with a result for each of its objects; `None` where one is refused.
fn read(documents: &str) -> (Vec<v1::ApplyResult>, Option<Vec<Resource>>) {
    let objects = api::read(documents);
    let mut results: Vec<v1::ApplyResult> = objects
        .iter()
        .map(|object| v1::ApplyResult {
            document: u32::try_from(object.document).unwrap_or(u32::MAX),
            kind: object.kind.clone(),
            name: object.name.clone(),
            ..v1::ApplyResult::default()
        })
        .collect();
    let mut resources: Vec<Resource> = Vec::with_capacity(objects.len());
    let mut refused = false;
    for (index, object) in objects.into_iter().enumerate() {
        match object.outcome {
            Err(problems) => {
                refused = true;
                refuse(&mut results[index], problems.iter());
            }
            Ok(resource) => {
                let same = |other: &Resource| {
                    other.kind() == resource.kind() && other.full_name() == resource.full_name()
                };
                if resources.iter().any(same) {
                    refused = true;
                    let problem =
                        api::Problem::new("metadata.name", "the text names it twice", "a name of its own");
                    refuse(&mut results[index], std::iter::once(&problem));
                }
                resources.push(resource);
            }
        }
    }
    (results, (!refused).then_some(resources))
}

/// Says of the objects without a fault that they were not applied either.
fn skip(mut results: Vec<v1::ApplyResult>) -> Vec<v1::ApplyResult> {
    for result in &mut results {
        if result.outcome() == v1::ApplyOutcome::Unspecified {
            result.set_outcome(v1::ApplyOutcome::Skipped);
        }
    }
    results
}

/// Applies a text, whole or not at all.
pub(super) async fn apply(node: &mut Node, request: v1::ApplyRequest) -> v1::ApplyReply {
    let (mut results, resources) = read(&request.documents);
    let mut generation = node.router.engine().generation();
    if let Some(resources) = resources {
        match node.apply_resources(resources, request.dry_run).await {
            Ok((applied, reached)) => {
                generation = reached;
                for (result, applied) in results.iter_mut().zip(applied) {
                    result.set_outcome(match applied {
                        Applied::Created => v1::ApplyOutcome::Created,
                        Applied::Replaced => v1::ApplyOutcome::Replaced,
                        Applied::Unchanged => v1::ApplyOutcome::Unchanged,
                    });
                }
                return v1::ApplyReply { results, generation };
            }
            Err(problems) => blame(&mut results, &problems),
        }
    }
    v1::ApplyReply { results: skip(results), generation }
}

/// The resources that would be in force if a text were applied and others, `KIND/NAME`, deleted; or
/// why it cannot be applied.
pub(super) fn judge(
    node: &Node,
    documents: &str,
    deletions: &[String],
) -> Result<Result<Resources, Vec<v1::ApplyResult>>, Status> {
    // A text without a resource is refused, but not where there is none.
    let nothing = documents.is_empty() && !deletions.is_empty();
    let (mut results, resources) = if nothing { (Vec::new(), Some(Vec::new())) } else { read(documents) };
    let Some(resources) = resources else { return Ok(Err(skip(results))) };
    let mut deleted = Vec::with_capacity(deletions.len());
    for deletion in deletions {
        let (of, name) = deletion.split_once('/').ok_or_else(|| {
            Status::invalid_argument(format!("deletions: {deletion:?}: expected KIND/NAME"))
        })?;
        deleted.push((kind(of)?, name));
    }
    match node.judge_resources(&resources, &deleted) {
        Ok(next) => Ok(Ok(next)),
        Err(problems) => {
            if results.is_empty() {
                let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
                return Err(Status::failed_precondition(words.join("; ")));
            }
            blame(&mut results, &problems);
            Ok(Err(skip(results)))
        }
    }
}

fn refuse<'a>(result: &mut v1::ApplyResult, problems: impl Iterator<Item = &'a api::Problem>) {
    result.set_outcome(v1::ApplyOutcome::Refused);
    result.problems.extend(problems.map(|problem| v1::Problem {
        path: problem.path.clone(),
        message: problem.message.clone(),
        expected: problem.expected.clone(),
    }));
}

/// Ties problems of the set that would result to the objects of the text. A problem
/// may be told of a resource that is in force already and collides with one of the
/// text: then it is the text's first object of that kind, or the first of all, that
/// shows it.
fn blame(results: &mut [v1::ApplyResult], problems: &[api::Problem]) {
    for problem in problems {
        let exact = results.iter().position(|r| r.kind == problem.kind && r.name == problem.name);
        let named = || results.iter().position(|r| r.kind == problem.kind);
        let Some(at) = exact.or_else(named).or(if results.is_empty() { None } else { Some(0) }) else {
            continue;
        };
        let mut told = problem.clone();
        if exact.is_none() && !problem.name.is_empty() {
            told.message = format!("{} {}: {}", problem.kind, problem.name, problem.message);
        }
        refuse(&mut results[at], std::iter::once(&told));
    }
}

/// Resources of a kind, or the one of a name.
pub(super) fn get(node: &Node, request: &v1::GetRequest) -> Result<v1::GetReply, Status> {
    let kind = kind(&request.kind)?;
    let show = |given: &Given| v1::Resource {
        kind: kind.as_str().to_owned(),
        name: given.resource.full_name(),
        source: match given.origin {
            Origin::Config => "config",
            Origin::Api => "api",
        }
        .to_owned(),
        json: given.resource.to_json().to_string(),
    };
    let resources: Vec<v1::Resource> = if request.name.is_empty() {
        node.resources.of_kind(kind).map(show).collect()
    } else {
        let given = node.resources.get(kind, &request.name);
        vec![
            given
                .map(show)
                .ok_or_else(|| Status::not_found(format!("there is no {kind} {}", request.name)))?,
        ]
    };
    Ok(v1::GetReply { resources })
}

/// Removes a resource.
pub(super) async fn delete(node: &mut Node, request: &v1::DeleteRequest) -> Result<v1::DeleteReply, Status> {
    let kind = kind(&request.kind)?;
    let generation =
        node.delete_resource(kind, &request.name).await.map_err(|error| error::status(&error))?;
    Ok(v1::DeleteReply { generation })
}

fn kind(text: &str) -> Result<Kind, Status> {
    text.parse().map_err(|error: api::UnknownKind| {
        Status::invalid_argument(format!("{error}; expected {}", Kind::expected()))
    })
}
