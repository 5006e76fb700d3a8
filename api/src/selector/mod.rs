//! Calico's selector language: which labels does an expression accept?
//!
//! ```text
//! or       := and ("||" and)*                      "" is all()
//! and      := operation ("&&" operation)*
//! operation:= "!"* ( "(" or ")" | all() | global() | has(LABEL) | LABEL test )
//! test     := == STRING | != STRING | in {STRING, ...} | not in {STRING, ...}
//!           | contains STRING | starts with STRING | ends with STRING
//! LABEL    := [A-Za-z0-9_./-]{1,512}       STRING := "..." or '...', without escapes
//! ```
//!
//! `!=` and `not in` accept an absent label; every other test refuses it. Spaces and tabs separate
//! tokens and are needed nowhere. The canonical text ([`Selector`]'s `Display`) spells one meaning one
//! way, and [`Selector::unique_id`] is its name in Calico's data model.
//!
//! Source: Calico's selector reference and its published test cases (`api/tests/data`).

mod parse;
mod sha224;
mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

pub use token::{Token, tokenize};

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SelectorError {
    /// A quote without its partner.
    #[error("a string is not closed")]
    OpenString,
    /// A character that begins no token.
    #[error("{0:?} begins nothing that a selector knows")]
    Character(char),
    /// Half an operator, such as a single `&`.
    #[error("expected {0:?}")]
    HalfOperator(&'static str),
    /// A label longer than 512 characters.
    #[error("a label of {0} characters: at most 512 are allowed")]
    LongLabel(usize),
    /// Something else than an operator behind a label.
    #[error("an operator must follow the label {0:?}")]
    NoOperator(String),
    /// The wrong thing at some place.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Parentheses and `!` nested so deep that only an attack would.
    #[error("nested deeper than {0} levels")]
    Deep(usize),
}

/// Labels, as a selector sees them.
pub trait Labels {
    /// The value of the label `key`, if it is there.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// One expression, as a tree. An `And` or `Or` has at least two parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Expr {
    /// Accepts everything.
    All,
    /// Accepts everything; as a rule's namespace selector it names what has no namespace.
    Global,
    /// The label is there.
    Has(String),
    /// The label is there and has this value.
    Equal(String, String),
    /// The label is absent or has another value.
    NotEqual(String, String),
    /// The label is there and its value is in the (sorted) list.
    In(String, Vec<String>),
    /// The label is absent or its value is not in the (sorted) list.
    NotIn(String, Vec<String>),
    /// The label is there and its value contains the text.
    Contains(String, String),
    /// The label is there and its value starts with the text.
    StartsWith(String, String),
    /// The label is there and its value ends with the text.
    EndsWith(String, String),
    /// The part does not hold.
    Not(Box<Expr>),
    /// All parts hold.
    And(Vec<Expr>),
    /// At least one part holds.
    Or(Vec<Expr>),
}

impl Expr {
    /// Whether the expression accepts these labels.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        let test = |key: &str, holds: &dyn Fn(&str) -> bool| labels.label(key).is_some_and(holds);
        match self {
            Expr::All | Expr::Global => true,
            Expr::Has(key) => labels.label(key).is_some(),
            Expr::Equal(key, value) => test(key, &|found| found == value),
            Expr::NotEqual(key, value) => !test(key, &|found| found == value),
            Expr::In(key, values) => test(key, &|found| contains(values, found)),
            Expr::NotIn(key, values) => !test(key, &|found| contains(values, found)),
            Expr::Contains(key, part) => test(key, &|found| found.contains(part.as_str())),
            Expr::StartsWith(key, part) => test(key, &|found| found.starts_with(part.as_str())),
            Expr::EndsWith(key, part) => test(key, &|found| found.ends_with(part.as_str())),
            Expr::Not(part) => !part.matches(labels),
            Expr::And(parts) => parts.iter().all(|part| part.matches(labels)),
            Expr::Or(parts) => parts.iter().any(|part| part.matches(labels)),
        }
    }

    /// Whether `test` holds for this expression or any part of it.
    pub fn any(&self, test: &impl Fn(&Expr) -> bool) -> bool {
        test(self)
            || match self {
                Expr::Not(part) => part.any(test),
                Expr::And(parts) | Expr::Or(parts) => parts.iter().any(|part| part.any(test)),
                _ => false,
            }
    }

    /// The expression with every label renamed.
    #[must_use]
    pub fn rename(&self, rename: &impl Fn(&str) -> String) -> Expr {
        let all = |parts: &[Expr]| parts.iter().map(|part| part.rename(rename)).collect();
        match self {
            Expr::All => Expr::All,
            Expr::Global => Expr::Global,
            Expr::Has(key) => Expr::Has(rename(key)),
            Expr::Equal(key, value) => Expr::Equal(rename(key), value.clone()),
            Expr::NotEqual(key, value) => Expr::NotEqual(rename(key), value.clone()),
            Expr::In(key, values) => Expr::In(rename(key), values.clone()),
            Expr::NotIn(key, values) => Expr::NotIn(rename(key), values.clone()),
            Expr::Contains(key, part) => Expr::Contains(rename(key), part.clone()),
            Expr::StartsWith(key, part) => Expr::StartsWith(rename(key), part.clone()),
            Expr::EndsWith(key, part) => Expr::EndsWith(rename(key), part.clone()),
            Expr::Not(part) => Expr::Not(Box::new(part.rename(rename))),
            Expr::And(parts) => Expr::And(all(parts)),
            Expr::Or(parts) => Expr::Or(all(parts)),
        }
    }
}

fn contains(sorted: &[String], value: &str) -> bool {
    sorted.binary_search_by(|candidate| candidate.as_str().cmp(value)).is_ok()
}

/// A selector: the text as it was written and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    text: String,
    expr: Expr,
}

impl Selector {
    /// The selector that accepts everything.
    pub fn all() -> Self {
        Selector { text: "all()".to_owned(), expr: Expr::All }
    }

    /// A selector of an expression built elsewhere; its text is the canonical one.
    pub fn of(expr: Expr) -> Self {
        Selector { text: Canonical(&expr).to_string(), expr }
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it means.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Whether it accepts these labels.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        self.expr.matches(labels)
    }

    /// Calico's name of the selector: `s:` and the SHA-224 of `s:` with the canonical text, in unpadded
    /// URL-safe base64.
    pub fn unique_id(&self) -> String {
        let digest = sha224::digest(format!("s:{self}").as_bytes());
        format!("s:{}", sha224::base64url(&digest))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Ok(Selector { text: text.to_owned(), expr: parse::parse(&tokenize(text)?)? })
    }
}

impl serde::Serialize for Selector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Canonical(&self.expr).fmt(f)
    }
}

/// Writes the canonical text.
struct Canonical<'a>(&'a Expr);

impl fmt::Display for Canonical<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, key: &str, word: &str, values: &[String]| {
            write!(f, "{key} {word} {{")?;
            for (at, value) in values.iter().enumerate() {
                write!(f, "{}{}", if at == 0 { "" } else { ", " }, Quoted(value))?;
            }
            f.write_str("}")
        };
        let parts = |f: &mut fmt::Formatter<'_>, parts: &[Expr], operator: &str| {
            f.write_str("(")?;
            for (at, part) in parts.iter().enumerate() {
                write!(f, "{}{}", if at == 0 { "" } else { operator }, Canonical(part))?;
            }
            f.write_str(")")
        };
        match self.0 {
            Expr::All => f.write_str("all()"),
            Expr::Global => f.write_str("global()"),
            Expr::Has(key) => write!(f, "has({key})"),
            Expr::Equal(key, value) => write!(f, "{key} == {}", Quoted(value)),
            Expr::NotEqual(key, value) => write!(f, "{key} != {}", Quoted(value)),
            Expr::In(key, values) => list(f, key, "in", values),
            Expr::NotIn(key, values) => list(f, key, "not in", values),
            Expr::Contains(key, part) => write!(f, "{key} contains {}", Quoted(part)),
            Expr::StartsWith(key, part) => write!(f, "{key} starts with {}", Quoted(part)),
            Expr::EndsWith(key, part) => write!(f, "{key} ends with {}", Quoted(part)),
            Expr::Not(part) => write!(f, "!{}", Canonical(part)),
            Expr::And(all) => parts(f, all, " && "),
            Expr::Or(all) => parts(f, all, " || "),
        }
    }
}

/// A string in the quotes that it does not hold itself.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}
