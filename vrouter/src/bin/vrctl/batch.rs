//! Questions about packets, one a line, and their answers.
//!
//! ```text
//!  {"from": "x/a", "to": "10.0.0.1", "proto": "tcp", "dport": 80}      {"allowed":true,"egress":{...},...}
//!  {"from": "x/a", "to": "10.0.0.1", "proto": "tpc", "dport": 80}      {"error":"FILE:2: proto: ..."}
//! ```
//!
//! `sport`, `icmp_type`, `icmp_code`, and the uplinks `in` and `out` stand where they are wanted. A question
//! that cannot be answered does not stop those behind it; the exit status tells that there was one.

use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, StdoutLock, Write};
use std::path::Path;

use acl::model::has_ports;
use serde_json::{Map, Value, json};
use vrouter::control::policy::{Answer, Query};

use crate::failure::Failure;
use crate::filter::{parse_protocol, protocol_name};

/// A packet of a line, and what else the line holds.
pub(crate) fn query(line: &str) -> Result<(Query, Map<String, Value>), String> {
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

pub(crate) fn packet(
    from: String,
    to: String,
    protocol: u8,
    [sport, dport]: [Option<u16>; 2],
    [kind, code]: [Option<u16>; 2],
) -> Result<Query, String> {
    let icmp = matches!(protocol, 1 | 58);
    let given = |values: [(&'static str, Option<u16>); 2]| {
        values.into_iter().find(|(_, value)| value.is_some()).map(|(name, _)| name)
    };
    if let Some(name) = given([("sport", sport), ("dport", dport)]) {
        if icmp {
            return Err(format!(
                "{name}: ICMP has no ports; icmp_type and icmp_code tell its messages apart"
            ));
        }
        if !has_ports(protocol) {
            let protocol = protocol_name(protocol);
            return Err(format!("{name}: {protocol} has no ports that policy reads, but TCP, UDP and SCTP"));
        }
    }
    if let Some(name) = given([("icmp_type", kind), ("icmp_code", code)])
        && !icmp
    {
        return Err(format!("{name}: given for another protocol than ICMP"));
    }
    if code.is_some() && kind.is_none() {
        return Err("icmp_code: is given without icmp_type".to_owned());
    }
    let transport = match icmp {
        // An echo request, unless another message is meant.
        true => Some((kind.unwrap_or(if protocol == 1 { 8 } else { 128 }), code.unwrap_or(0))),
        false if has_ports(protocol) => match dport {
            // The port that a client would be given.
            Some(dport) => Some((sport.unwrap_or(49152), dport)),
            None => return Err("dport: is missing".to_owned()),
        },
        false => None,
    };
    Ok(Query { from, to, protocol, transport, entering: None, leaving: None })
}

/// Fields that nobody has taken are faults.
pub(crate) fn unknown(rest: &Map<String, Value>) -> Result<(), String> {
    match rest.keys().next() {
        Some(key) => Err(format!("{key}: unknown field")),
        None => Ok(()),
    }
}

/// A line of a file.
pub(crate) struct Line {
    /// File and number of the line.
    pub(crate) place: String,
    /// The question, or why there is none.
    pub(crate) query: Result<Query, String>,
}

/// The questions of a file. Empty lines are skipped.
pub(crate) fn lines(file: &Path) -> Result<impl Iterator<Item = Result<Line, Failure>>, Failure> {
    let name = file.display().to_string();
    let reader = BufReader::new(fs::File::open(file).map_err(|error| format!("{name}: {error}"))?);
    Ok(reader.lines().enumerate().filter_map(move |(number, line)| {
        let place = format!("{name}:{}", number + 1);
        let query = match line {
            Ok(line) if line.trim().is_empty() => return None,
            Ok(line) => query(&line).and_then(|(query, rest)| unknown(&rest).map(|()| query)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err("is not UTF-8".to_owned()),
            Err(error) => return Some(Err(format!("{place}: {error}").into())),
        };
        Some(Ok(Line { place, query }))
    }))
}

/// Writes answers, one a line.
pub(crate) struct Answers {
    out: BufWriter<StdoutLock<'static>>,
    asked: usize,
    failed: usize,
    first: Option<String>,
}

impl Answers {
    /// To stdout.
    pub(crate) fn new() -> Self {
        Answers { out: BufWriter::new(io::stdout().lock()), asked: 0, failed: 0, first: None }
    }

    /// Writes an answer, or why there is none.
    pub(crate) fn write(&mut self, place: &str, answer: Result<Answer, String>) -> Result<(), Failure> {
        self.asked += 1;
        let line = match answer {
            Ok(answer) => serde_json::to_writer(&mut self.out, &answer),
            Err(error) => {
                let error = format!("{place}: {error}");
                self.failed += 1;
                let line = serde_json::to_writer(&mut self.out, &json!({ "error": error }));
                self.first.get_or_insert(error);
                line
            }
        };
        line.map_err(io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Ends the answers: a failure if one of the questions had none.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.out.flush()?;
        match self.first {
            None => Ok(()),
            Some(first) => {
                let (failed, asked) = (self.failed, self.asked);
                Err(format!("{failed} of {asked} packets have no answer; the first: {first}").into())
            }
        }
    }
}
