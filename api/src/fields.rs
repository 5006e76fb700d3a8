//! A walk over one YAML mapping that keeps count: every field is taken by name, and what is left over
//! at the end is an unknown field.
//!
//! A taker never stops at the first fault: it records the fault and yields a stand-in, so that one
//! reading names everything that is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use serde_yaml_ng::{Mapping, Value};

use crate::problem::Problem;

/// The fields of one mapping, and the problems met while taking them.
pub(crate) struct Fields<'a> {
    path: String,
    rest: BTreeMap<String, &'a Value>,
    known: Vec<&'static str>,
    /// Every field that is there and not `null`.
    present: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl<'a> Fields<'a> {
    /// Fields of `mapping`, whose own dotted path is `path` (empty at the top).
    pub(crate) fn new(path: &str, mapping: &'a Mapping) -> Self {
        let mut fields = Self {
            path: path.to_owned(),
            rest: BTreeMap::new(),
            known: Vec::new(),
            present: BTreeSet::new(),
            problems: Vec::new(),
        };
        for (key, value) in mapping {
            match key {
                Value::String(key) => {
                    fields.rest.insert(key.clone(), value);
                    if !value.is_null() {
                        fields.present.insert(key.clone());
                    }
                }
                other => fields.problems.push(Problem::new(
                    path,
                    format!("key {} is not a string", show(other)),
                    "field names",
                )),
            }
        }
        fields
    }

    /// Dotted path of the field `key` of this mapping.
    pub(crate) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Records a fault of the field `key`.
    pub(crate) fn problem(&mut self, key: &str, message: impl Into<String>, expected: impl Into<String>) {
        let path = self.path_of(key);
        self.problems.push(Problem::new(path, message, expected));
    }

    /// Whether the mapping holds the field `key`, taken or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.present.contains(key)
    }

    /// Whether a fault of the field `key` is on record.
    pub(crate) fn has_problem(&self, key: &str) -> bool {
        let path = self.path_of(key);
        self.problems.iter().any(|problem| problem.path == path)
    }

    /// Takes a field as it stands; `null` counts as absent.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.rest.remove(key).filter(|value| !value.is_null())
    }

    /// A field as it stands, not taken; `null` counts as absent.
    pub(crate) fn peek(&self, key: &str) -> Option<&'a Value> {
        self.rest.get(key).copied().filter(|value| !value.is_null())
    }

    /// Takes a string field.
    pub(crate) fn string(&mut self, key: &'static str) -> Option<&'a str> {
        let value = self.take(key)?;
        if value.is_string() {
            value.as_str()
        } else {
            self.problem(key, format!("found {}", show(value)), "a string");
            None
        }
    }

    /// Takes a string field and parses it; `expected` says what would parse.
    pub(crate) fn parsed<T: FromStr>(&mut self, key: &'static str, expected: &str) -> Option<T>
    where
        T::Err: Display,
    {
        let text = self.string(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(key, format!("{text:?}: {error}"), expected);
                None
            }
        }
    }

    /// Takes a string field that must be one of `words`; `fallback` when absent or wrong.
    pub(crate) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)], fallback: T) -> T {
        let Some(text) = self.string(key) else {
            return fallback;
        };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => *value,
            None => {
                self.problem(key, format!("found {text:?}"), one_of(words));
                fallback
            }
        }
    }

    /// Takes a boolean field, `false` when absent.
    pub(crate) fn boolean(&mut self, key: &'static str) -> bool {
        match self.take(key) {
            None => false,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                self.problem(key, format!("found {}", show(other)), "true or false");
                false
            }
        }
    }

    /// Takes a whole number within `range`.
    pub(crate) fn number(&mut self, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(key)?;
        match value.as_u64() {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                self.problem(key, format!("found {}", show(value)), expected);
                None
            }
        }
    }

    /// Takes a list field of strings, each with its index.
    pub(crate) fn strings(&mut self, key: &'static str) -> Option<Vec<&'a str>> {
        let value = self.take(key)?;
        let Some(items) = value.as_sequence() else {
            self.problem(key, format!("found {}", show(value)), "a list of strings");
            return None;
        };
        let mut out = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item.as_str() {
                Some(text) => out.push(text),
                None => self.problem(&format!("{key}[{index}]"), format!("found {}", show(item)), "a string"),
            }
        }
        Some(out)
    }

    /// Takes a list field, whatever its items are.
    pub(crate) fn list(&mut self, key: &'static str, of: &str) -> Option<&'a [Value]> {
        let value = self.take(key)?;
        match value.as_sequence() {
            Some(items) => Some(items),
            None => {
                self.problem(key, format!("found {}", show(value)), format!("a list of {of}"));
                None
            }
        }
    }

    /// Takes a list field of mappings; an absent list is empty.
    pub(crate) fn mappings(&mut self, key: &'static str) -> Vec<Fields<'a>> {
        let mut out = Vec::new();
        for (index, item) in self.list(key, "mappings").unwrap_or_default().iter().enumerate() {
            let key = format!("{key}[{index}]");
            match item {
                Value::Mapping(mapping) => out.push(Fields::new(&self.path_of(&key), mapping)),
                other => self.problem(&key, format!("found {}", show(other)), "a mapping"),
            }
        }
        out
    }

    /// Takes a list field of strings and parses each; `expected` says what would parse.
    pub(crate) fn parsed_list<T: FromStr>(&mut self, key: &'static str, expected: &str) -> Vec<T>
    where
        T::Err: Display,
    {
        let mut out = Vec::new();
        for (index, text) in self.strings(key).unwrap_or_default().into_iter().enumerate() {
            match text.parse() {
                Ok(value) => out.push(value),
                Err(error) => {
                    self.problem(&format!("{key}[{index}]"), format!("{text:?}: {error}"), expected)
                }
            }
        }
        out
    }

    /// Takes a field that maps strings to strings.
    pub(crate) fn string_map(&mut self, key: &'static str) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        let Some(value) = self.take(key) else {
            return out;
        };
        let Some(mapping) = value.as_mapping() else {
            self.problem(key, format!("found {}", show(value)), "a mapping");
            return out;
        };
        for (name, value) in mapping {
            match (name.as_str(), value.as_str()) {
                (Some(name), Some(value)) => {
                    out.insert(name.to_owned(), value.to_owned());
                }
                _ => self.problem(
                    key,
                    format!("found {}: {}", show(name), show(value)),
                    "strings (quote numbers and booleans)",
                ),
            }
        }
        out
    }

    /// Takes a field that is itself a mapping. Absence is a fault when `required`.
    pub(crate) fn mapping(&mut self, key: &'static str, required: bool) -> Option<Fields<'a>> {
        match self.take(key) {
            None if required => {
                self.problem(key, "is missing", "a mapping");
                None
            }
            None => None,
            Some(Value::Mapping(mapping)) => Some(Fields::new(&self.path_of(key), mapping)),
            Some(other) => {
                self.problem(key, format!("found {}", show(other)), "a mapping");
                None
            }
        }
    }

    /// Takes fields that ask for nothing here.
    pub(crate) fn ignore(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.take(key);
        }
    }

    /// Takes over the problems of a part.
    pub(crate) fn absorb(&mut self, mut problems: Vec<Problem>) {
        self.problems.append(&mut problems);
    }

    /// Ends the walk where only some of the fields matter.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Ends the walk: fields that nobody took are faults.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        let known = self.known.join(", ");
        for key in std::mem::take(&mut self.rest).into_keys() {
            let near = self.known.iter().find(|name| name.eq_ignore_ascii_case(&key));
            let expected = match near {
                Some(name) => format!("{name}: field names are case-sensitive"),
                None => format!("one of {known}"),
            };
            self.problem(&key, "unknown field", expected);
        }
        self.problems
    }
}

/// Joins a dotted path and a key.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// `Always, CrossSubnet or Never`: the words of a table, for a message.
fn one_of<T>(words: &[(&str, T)]) -> String {
    let mut out = String::new();
    for (index, (word, _)) in words.iter().enumerate() {
        match index {
            0 => {}
            _ if index + 1 == words.len() => out.push_str(" or "),
            _ => out.push_str(", "),
        }
        out.push_str(word);
    }
    out
}

/// A value in few words, for a message.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => format!("{value:?}"),
        Value::Sequence(items) => format!("a list of {}", items.len()),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Tagged(tagged) => format!("a tagged value {}", tagged.tag),
    }
}
