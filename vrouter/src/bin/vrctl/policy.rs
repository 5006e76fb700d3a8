//! `explain --resources` and `policy test`: what policy says of packets, from resource files, without a
//! router; and how questions are read and answers printed, whoever answers.
//!
//! One packet a line in files: `{"from": "x/a", "to": "10.0.0.1", "proto": "tcp", "dport": 80}`, with
//! `sport`, `icmp_type`, `icmp_code`, and the uplinks `in` and `out` where wanted. A line of a test file
//! holds `expect` beside it: `true`, `"deny"`, or those parts of the answer that matter,
//! `{"allowed": true, "ingress": {"policy": "x/web"}}`.
//!
//! Files tell nothing of uplinks and routes: every host endpoint of the node stands for an uplink that
//! enforces all of it, and what is no pod and no address of the node is behind the only one, unless the
//! question says behind which.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use vrouter::control::policy::{Answer, NodeView, PolicyWorld, Query, Questions, SideAnswer};

use crate::cli::{ExplainArguments, Format, OfflineArguments};
use crate::failure::Failure;
use crate::filter::parse_protocol;

/// Reads every YAML and JSON file of a directory into a world, and the node that it is asked on.
fn load(directory: &Path, arguments: OfflineArguments) -> Result<(PolicyWorld, NodeView), Failure> {
    let fault = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let entries = fs::read_dir(directory).map_err(|error| fault(directory, &error))?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| fault(directory, &error))?.path();
        if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json") {
            paths.push(path);
        }
    }
    paths.sort();
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
        resource.not_enforced().iter().for_each(|problem| eprintln!("vrctl: note: {problem}"));
        world.apply(resource);
    }
    world.publish();
    world.settle();
    Ok((world, view))
}

/// A packet of a line, and what else the line holds.
fn query(line: &str) -> Result<(Query, Map<String, Value>), String> {
    let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let Value::Object(mut fields) = value else { return Err("not a JSON object".to_owned()) };
    let mut text = |key: &str| match fields.remove(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("{key}: found {other}, expected a string")),
        None => Err(format!("{key}: is missing")),
    };
    let (from, to) = (text("from")?, text("to")?);
    let protocol = match fields.remove("proto") {
        Some(Value::String(text)) => {
            parse_protocol(&text).map_err(|error| format!("proto: {text:?}: {error}"))?
        }
        Some(other) => {
            let number = other.as_u64().and_then(|number| u8::try_from(number).ok());
            number.ok_or_else(|| format!("proto: found {other}, expected a protocol"))?
        }
        None => return Err("proto: is missing".to_owned()),
    };
    let mut number = |key: &str, most: u64| match fields.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|number| *number <= most) {
            Some(number) => Ok(Some(number as u16)),
            None => Err(format!("{key}: found {value}, expected a number up to {most}")),
        },
    };
    let (sport, dport) = (number("sport", 65535)?, number("dport", 65535)?);
    let (kind, code) = (number("icmp_type", 255)?, number("icmp_code", 255)?);
    let mut query = packet(from, to, protocol, [sport, dport], [kind, code])?;
    for (key, by) in [("in", &mut query.entering), ("out", &mut query.leaving)] {
        *by = match fields.remove(key) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => return Err(format!("{key}: found {other}, expected the name of an uplink")),
        };
    }
    Ok((query, fields))
}

fn packet(
    from: String,
    to: String,
    protocol: u8,
    [sport, dport]: [Option<u16>; 2],
    [kind, code]: [Option<u16>; 2],
) -> Result<Query, String> {
    let icmp = matches!(protocol, 1 | 58);
    if icmp && (sport.is_some() || dport.is_some()) {
        return Err("dport: ICMP has no ports; icmp_type and icmp_code tell its messages apart".to_owned());
    }
    if !icmp && (kind.is_some() || code.is_some()) {
        return Err("icmp_type: given for another protocol than ICMP".to_owned());
    }
    let transport = match icmp {
        // An echo request, unless another message is meant.
        true => Some((kind.unwrap_or(if protocol == 1 { 8 } else { 128 }), code.unwrap_or(0))),
        false if acl::model::has_ports(protocol) => match dport {
            // The port that a client would be given.
            Some(dport) => Some((sport.unwrap_or(49152), dport)),
            None => return Err("dport: is missing".to_owned()),
        },
        false => None,
    };
    Ok(Query { from, to, protocol, transport, entering: None, leaving: None })
}

fn side(name: &str, answer: &SideAnswer) -> String {
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
fn sides(answer: &Answer) -> impl Iterator<Item = (&'static str, &SideAnswer)> {
    let between = answer.forward.iter().map(|side| ("forward", side));
    [("egress", &answer.egress)].into_iter().chain(between).chain([("ingress", &answer.ingress)])
}

/// The packets of a file, each with its place there.
pub(crate) fn batch(file: &Path) -> Result<impl Iterator<Item = Result<(String, Query), Failure>>, Failure> {
    let name = file.display().to_string();
    let reader = BufReader::new(fs::File::open(file).map_err(|error| format!("{name}: {error}"))?);
    Ok(reader.lines().enumerate().filter_map(move |(number, line)| {
        let line = match line {
            Ok(line) if line.trim().is_empty() => return None,
            Ok(line) => line,
            Err(error) => return Some(Err(error.into())),
        };
        let place = format!("{name}:{}", number + 1);
        let query = query(&line).and_then(|(query, rest)| unknown(&rest).map(|()| query));
        Some(match query {
            Ok(query) => Ok((place, query)),
            Err(error) => Err(format!("{place}: {error}").into()),
        })
    }))
}

/// Writes the answer about a packet of a batch.
pub(crate) fn answer_line(out: &mut impl Write, answer: &Answer) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, answer).map_err(std::io::Error::from)?;
    Ok(out.write_all(b"\n")?)
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
        let mut out = BufWriter::new(std::io::stdout().lock());
        for asked in batch(&file)? {
            let (place, query) = asked?;
            let answer = questions.ask(&query).map_err(|error| format!("{place}: {error}"))?;
            answer_line(&mut out, &answer)?;
        }
        return Ok(out.flush()?);
    }
    let query = asked(arguments)?;
    let answer = questions.explain(&query).map_err(|error| error.to_string())?;
    print(&answer, format)
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
                    let said = match (&step.action, &step.failed) {
                        (Some(action), _) => format!("matches: {action}"),
                        (None, Some(failed)) => format!("no: {failed}"),
                        (None, None) => String::new(),
                    };
                    let staged = if step.staged { " (staged)" } else { "" };
                    writeln!(out, "  {}{staged}  {said}", step.rule)?;
                }
            }
        }
    }
    Ok(out.flush()?)
}

fn unknown(rest: &Map<String, Value>) -> Result<(), String> {
    match rest.keys().next() {
        Some(key) => Err(format!("{key}: unknown field")),
        None => Ok(()),
    }
}

/// Where an answer is not as expected; paths with what was expected and found.
fn differences(path: &str, expected: &Value, found: &Value, out: &mut BTreeMap<String, (Value, Value)>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(fields)) => {
            for (key, value) in expected {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                differences(&path, value, fields.get(key).unwrap_or(&Value::Null), out);
            }
        }
        // Of a list each element on its own, and their number.
        (Value::Array(expected), Value::Array(elements)) if expected.len() == elements.len() => {
            for (at, (expected, found)) in expected.iter().zip(elements).enumerate() {
                differences(&format!("{path}[{at}]"), expected, found, out);
            }
        }
        _ if expected == found => {}
        _ => drop(out.insert(path.to_owned(), (expected.clone(), found.clone()))),
    }
}

fn expected(value: &Value) -> Result<Value, String> {
    match value {
        Value::Bool(_) => Ok(json!({"allowed": value})),
        Value::String(word) if word.eq_ignore_ascii_case("allow") => Ok(json!({"allowed": true})),
        Value::String(word) if word.eq_ignore_ascii_case("deny") => Ok(json!({"allowed": false})),
        Value::Object(_) => Ok(value.clone()),
        other => {
            Err(format!("expect: found {other}, expected true, false, \"allow\", \"deny\" or an object"))
        }
    }
}

/// `vrctl policy test`.
pub(crate) fn test(cases: &Path, resources: &Path, arguments: OfflineArguments) -> Result<(), Failure> {
    let (world, view) = load(resources, arguments)?;
    let questions = Questions::new(&world).on_node(view);
    let file = fs::File::open(cases).map_err(|error| format!("{}: {error}", cases.display()))?;
    let (mut asked, mut wrong) = (0, 0);
    let mut out = BufWriter::new(std::io::stdout().lock());
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("{}:{}", cases.display(), number + 1);
        let told = |error: String| format!("{place}: {error}");
        let (query, mut rest) = query(&line).map_err(told)?;
        let wanted = rest.remove("expect").ok_or_else(|| told("expect: is missing".to_owned()))?;
        let wanted = expected(&wanted).map_err(told)?;
        // A name or note may stand beside a case.
        rest.retain(|key, _| !matches!(key.as_str(), "name" | "note"));
        unknown(&rest).map_err(told)?;
        let answer: Answer = questions.ask(&query).map_err(|error| told(error.to_string()))?;
        let mut different = BTreeMap::new();
        differences("", &wanted, &json!(answer), &mut different);
        asked += 1;
        wrong += usize::from(!different.is_empty());
        for (path, (wanted, found)) in different {
            writeln!(
                out,
                "{place}: {} to {}: {path}: expected {wanted}, found {found}",
                query.from, query.to
            )?;
            for (name, answer) in sides(&answer) {
                writeln!(out, "  {}", side(name, answer))?;
            }
        }
    }
    writeln!(out, "{asked} cases, {wrong} wrong")?;
    out.flush()?;
    if wrong > 0 { Err(format!("{wrong} of {asked} cases differ").into()) } else { Ok(()) }
}
