//! `policy test`: cases, one a line, held against what policy says.
//!
//! ```text
//!  {"from": "x/a", "to": "x/b", "proto": "tcp", "dport": 80, "expect": true, "name": "a note"}
//!                                       "expect": "deny"
//!                                       "expect": {"allowed": true, "ingress": {"policy": "x/web"}}
//! ```
//!
//! `expect` names those parts of the answer that matter, at least one; parts that no answer has, and a
//! file without cases, are refused: they would pass whatever policy says.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use vrouter::control::policy::{Answer, Questions};

use crate::batch::{query, unknown};
use crate::cli::OfflineArguments;
use crate::failure::Failure;
use crate::policy::{load, side, sides};

/// Parts of one side of an answer.
const SIDE: [&str; 7] = ["verdict", "tier", "policy", "rule", "host_endpoint", "interface", "direction"];

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

/// The parts of an answer that a case expects.
fn expected(value: &Value) -> Result<Value, String> {
    match value {
        Value::Bool(_) => Ok(json!({"allowed": value})),
        Value::String(word) if word.eq_ignore_ascii_case("allow") => Ok(json!({"allowed": true})),
        Value::String(word) if word.eq_ignore_ascii_case("deny") => Ok(json!({"allowed": false})),
        Value::Object(fields) => parts("expect", fields, &check_part).map(|()| value.clone()),
        other => {
            Err(format!("expect: found {other}, expected true, false, \"allow\", \"deny\" or an object"))
        }
    }
}

/// Checks the fields of an expectation, of which there must be some.
fn parts(
    path: &str,
    fields: &Map<String, Value>,
    check: &dyn Fn(&str, &str, &Value) -> Result<(), String>,
) -> Result<(), String> {
    if fields.is_empty() {
        return Err(format!("{path}: says nothing, so that every answer would do"));
    }
    fields.iter().try_for_each(|(key, value)| check(&format!("{path}.{key}"), key, value))
}

/// Checks a part of an expectation.
fn check_part(path: &str, key: &str, value: &Value) -> Result<(), String> {
    match (key, value) {
        ("allowed", Value::Bool(_)) => Ok(()),
        ("allowed", other) => Err(format!("{path}: found {other}, expected true or false")),
        ("egress" | "ingress", Value::Object(fields)) => parts(path, fields, &check_side),
        // An empty list: no host endpoint is asked between the two.
        ("forward", Value::Array(sides)) => sides.iter().enumerate().try_for_each(|(at, side)| match side {
            Value::Object(fields) => parts(&format!("{path}[{at}]"), fields, &check_side),
            other => Err(format!("{path}[{at}]: found {other}, expected an object")),
        }),
        ("egress" | "ingress", other) => Err(format!("{path}: found {other}, expected an object")),
        ("forward", other) => Err(format!("{path}: found {other}, expected a list of objects")),
        _ => Err(format!("{path}: unknown field, expected allowed, egress, forward or ingress")),
    }
}

fn check_side(path: &str, key: &str, value: &Value) -> Result<(), String> {
    match (key, value) {
        ("verdict", Value::String(word)) if matches!(word.as_str(), "Allow" | "Deny") => Ok(()),
        ("verdict", other) => Err(format!("{path}: found {other}, expected \"Allow\" or \"Deny\"")),
        (key, Value::String(_) | Value::Null) if SIDE.contains(&key) => Ok(()),
        (key, other) if SIDE.contains(&key) => {
            Err(format!("{path}: found {other}, expected a string or null"))
        }
        _ => Err(format!("{path}: unknown field, expected one of {}", SIDE.join(", "))),
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
        let mut found = json!(answer);
        if let Some(fields) = found.as_object_mut() {
            // Left out of answers where it is empty.
            fields.entry("forward").or_insert_with(|| json!([]));
        }
        differences("", &wanted, &found, &mut different);
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
    if asked == 0 {
        return Err(format!("{}: there is no case", cases.display()).into());
    }
    writeln!(out, "{asked} cases, {wrong} wrong")?;
    out.flush()?;
    if wrong > 0 { Err(format!("{wrong} of {asked} cases differ").into()) } else { Ok(()) }
}
