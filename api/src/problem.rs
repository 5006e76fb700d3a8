//! What is wrong with a resource, said so that its writer can find and mend it.

use std::fmt;

use serde::Serialize;

/// One fault of one document.
///
/// Displays as `document 2: IPPool/blue: spec.natOutgoing: true is not supported by this release
/// (expected false)`; parts that are not known are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub struct Problem {
    /// Number of the YAML document in its file, from 1. Zero: the fault is not of one document.
    pub document: usize,
    /// The document's `kind`, empty when it has none.
    pub kind: String,
    /// The document's `metadata.name`, empty when it has none.
    pub name: String,
    /// Dotted path of the field, such as `spec.cidr` or `items[1].metadata.name`; empty for the whole.
    pub path: String,
    /// What was found.
    pub message: String,
    /// What would have been right; empty when the message says it.
    pub expected: String,
}

impl Problem {
    /// A fault of the field `path`, not yet tied to a document.
    pub fn new(path: impl Into<String>, message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            document: 0,
            kind: String::new(),
            name: String::new(),
            path: path.into(),
            message: message.into(),
            expected: expected.into(),
        }
    }

    /// The same fault, tied to the document it was found in.
    #[must_use]
    pub fn of(mut self, document: usize, kind: &str, name: &str) -> Self {
        self.document = document;
        self.kind = kind.to_owned();
        self.name = name.to_owned();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.document > 0 {
            write!(f, "document {}: ", self.document)?;
        }
        match (self.kind.is_empty(), self.name.is_empty()) {
            (false, false) => write!(f, "{}/{}: ", self.kind, self.name)?,
            (false, true) => write!(f, "{}: ", self.kind)?,
            (true, _) => {}
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !self.expected.is_empty() {
            write!(f, " (expected {})", self.expected)?;
        }
        Ok(())
    }
}
