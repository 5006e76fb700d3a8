//! `explain --resources`: what policy says of packets, from resource files, without a router; and how
//! answers are printed, whoever answers.
//!
//! The files of the directory itself that end in `.yaml`, `.yml` or `.json` are read; what else is there,
//! directories too, is named on stderr and left. Files tell nothing of uplinks and routes: every host endpoint of the node stands for an uplink that
//! enforces all of it, and what is no pod and no address of the node is behind the only one, unless the
//! question says behind which.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use vrouter::control::policy::{Answer, NodeView, PolicyWorld, Query, Questions, SideAnswer, StepText};

use crate::batch::{self, packet};
use crate::cli::{ExplainArguments, Format, OfflineArguments};
use crate::failure::Failure;
use crate::rules;

/// Names of files that are listed where some are not read.
const LISTED: usize = 8;

/// Reads every YAML and JSON file of a directory into a world, and the node that it is asked on.
pub(crate) fn load(
    directory: &Path,
    arguments: OfflineArguments,
) -> Result<(PolicyWorld, NodeView), Failure> {
    let fault = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let entries = fs::read_dir(directory).map_err(|error| fault(directory, &error))?;
    let (mut paths, mut left): (Vec<PathBuf>, Vec<String>) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = entry.map_err(|error| fault(directory, &error))?.path();
        let named = path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        match named && !path.is_dir() {
            true => paths.push(path),
            false => left.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned()),
        }
    }
    paths.sort();
    left.sort();
    if !left.is_empty() {
        let more = if left.len() > LISTED { ", ..." } else { "" };
        let names = left[..left.len().min(LISTED)].join(", ");
        let directory = directory.display();
        eprintln!(
            "vrctl: note: {directory}: {} not read, which are no .yaml, .yml or .json files: {names}{more}",
            left.len()
        );
    }
    let mut resources = Vec::new();
    let mut problems = Vec::new();
    for path in &paths {
        let text = fs::read_to_string(path).map_err(|error| fault(path, &error))?;
        for object in api::read(&text) {
            match object.outcome {
                Ok(resource) => resources.push(resource),
                Err(found) => problems.extend(found.iter().map(|problem| fault(path, problem))),
            }
        }
    }
    problems.extend(api::check_set(&resources).iter().map(ToString::to_string));
    if !problems.is_empty() {
        return Err(problems.join("\n       ").into());
    }
    if resources.is_empty() {
        return Err(format!("{}: there is no resource", directory.display()).into());
    }
    let view = NodeView::of_resources(&resources, arguments.node.as_deref()).unwrap_or_else(|nodes| {
        let nodes = nodes.into_iter().collect::<Vec<_>>().join(", ");
        eprintln!("vrctl: note: host endpoints are not asked: --node says of which node, {nodes}");
        NodeView::default()
    });
    let mut world = PolicyWorld::new();
    let [inbound, outbound] = world.failsafe().clone();
    world.set_failsafe([
        arguments.failsafe_inbound.map_or(inbound, |ports| ports.0),
        arguments.failsafe_outbound.map_or(outbound, |ports| ports.0),
    ]);
    for resource in &resources {
        let told = resource.not_enforced().into_iter().chain(resource.of_no_effect());
        told.for_each(|problem| eprintln!("vrctl: note: {problem}"));
        world.apply(resource);
    }
    world.publish();
    world.settle();
    for (kind, name, field, count) in world.passing_over() {
        eprintln!(
            "vrctl: note: {kind}/{name}: {field}: is of host endpoints alone: {count} workloads that the \
             selector names are passed over"
        );
    }
    Ok((world, view))
}

pub(crate) fn side(name: &str, answer: &SideAnswer) -> String {
    let rule = match (&answer.rule, &answer.host) {
        (Some(rule), _) => rule,
        (None, Some(_)) => "nothing decides, which lets it pass",
        (None, None) => "not policed",
    };
    let at = answer.host.as_ref().map(|host| {
        format!(" (host endpoint {}, {} at {})", host.host_endpoint, host.direction, host.interface)
    });
    format!("{name:<8} {:<6} {rule}{}", answer.verdict, at.unwrap_or_default())
}

/// The parts of an answer, in the packet's order.
pub(crate) fn sides(answer: &Answer) -> impl Iterator<Item = (&'static str, &SideAnswer)> {
    let between = answer.forward.iter().map(|side| ("forward", side));
    [("egress", &answer.egress)].into_iter().chain(between).chain([("ingress", &answer.ingress)])
}

/// The packet of the command line.
pub(crate) fn asked(arguments: ExplainArguments) -> Result<Query, Failure> {
    let (Some(from), Some(to), Some(protocol)) = (arguments.from, arguments.to, arguments.proto) else {
        return Err("--from, --to and --proto, or --batch, must be given".to_owned().into());
    };
    let ports = [arguments.sport, arguments.dport];
    let icmp = [arguments.icmp_type.map(u16::from), arguments.icmp_code.map(u16::from)];
    let query = packet(from, to, protocol, ports, icmp)?;
    Ok(Query { entering: arguments.entering, leaving: arguments.leaving, ..query })
}

/// `vrctl explain --resources DIRECTORY`.
pub(crate) fn explain(directory: &Path, arguments: ExplainArguments, format: Format) -> Result<(), Failure> {
    let (world, view) = load(directory, arguments.offline.clone())?;
    let questions = Questions::new(&world).on_node(view);
    if let Some(file) = arguments.batch {
        let mut answers = batch::Answers::new();
        for line in batch::lines(&file)? {
            let line = line?;
            let asked = line.query.and_then(|query| questions.ask(&query).map_err(|error| error.to_string()));
            answers.write(&line.place, asked)?;
        }
        return answers.end();
    }
    let query = asked(arguments)?;
    let answer = questions.explain(&query).map_err(|error| error.to_string())?;
    print(&answer, format)
}

/// A rule that was asked: what it did or which condition failed, and all its conditions.
fn step_line(step: &StepText) -> String {
    let said = match (&step.action, &step.failed) {
        (Some(action), _) => format!("  matches: {action}"),
        (None, Some(failed)) => format!("  no: {failed}"),
        (None, None) => String::new(),
    };
    let compared = match (&step.wanted, &step.found) {
        (Some(wanted), Some(found)) => format!(": wanted {wanted}, found {found}"),
        _ => String::new(),
    };
    let staged = if step.staged { " (staged)" } else { "" };
    let conditions = step.conditions.as_ref().map(|conditions| format!("  [{}]", rules::words(conditions)));
    format!("{}{staged}{said}{compared}{}", step.rule, conditions.unwrap_or_default())
}

/// Prints an answer and the rules that were asked, in the packet's order.
pub(crate) fn print(answer: &Answer, format: Format) -> Result<(), Failure> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match format {
        Format::Json | Format::Yaml => {
            let value = json!(answer);
            match format {
                Format::Yaml => {
                    serde_yaml_ng::to_writer(&mut out, &value).map_err(|error| error.to_string())?
                }
                _ => writeln!(out, "{value:#}")?,
            }
        }
        _ => {
            writeln!(out, "{}", if answer.allowed { "allowed" } else { "denied" })?;
            for (name, answer) in sides(answer) {
                writeln!(out, "{}", side(name, answer))?;
                for step in answer.steps.iter().flatten() {
                    writeln!(out, "  {}", step_line(step))?;
                }
            }
        }
    }
    Ok(out.flush()?)
}
