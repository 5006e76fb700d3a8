//! What is wrong with a configuration, collected and shown all at once.
//!
//! ```text
//! error: no such device "eth7"
//!   --> /etc/vrouter/node1.toml:12:10
//!    |
//! 12 | device = "eth7"
//!    |          ^^^^^^
//!    = key: uplink[0].device
//!    = expected: a network device of this host: eth0, eth1
//! ```
//!
//! The reader of the file and the checks against the running system push into the same collector.

use std::fmt;
use std::ops::{Deref, Range};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be run.
    Error,
    /// It can be run, but hardly as meant.
    Warning,
}

/// Where a value stands: its key, and its bytes in the file when it is written there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// Dotted key, such as `uplink[0].device`.
    pub key: String,
    /// Bytes of the value in the file. `None`: the value is a default.
    pub span: Option<Range<usize>>,
}

impl Place {
    /// A place that is written in the file.
    pub fn new(key: impl Into<String>, span: Option<Range<usize>>) -> Self {
        Self { key: key.into(), span }
    }
}

/// A value with its place, for the messages of later checks. Dereferences to the value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting<T> {
    /// The value in force.
    pub value: T,
    /// Where it comes from.
    pub place: Place,
}

impl<T> Setting<T> {
    /// A value at a place.
    pub fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }

    /// The value alone.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> Deref for Setting<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What was found.
    pub message: String,
    /// What would have been right; empty when the message says it.
    pub expected: String,
}

/// The findings of one configuration file, in the order of the file.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    file: String,
    text: String,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// A collector for the file named `file` with the content `text`.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Self {
        Self { file: file.into(), text: text.into(), list: Vec::new() }
    }

    /// Adds a finding. It takes its place in the order of the file; those without a span come last.
    pub fn push(
        &mut self,
        severity: Severity,
        place: &Place,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) {
        let start = |place: &Place| place.span.as_ref().map_or(usize::MAX, |span| span.start);
        let at = self.list.partition_point(|other| start(&other.place) <= start(place));
        self.list.insert(
            at,
            Diagnostic { severity, place: place.clone(), message: message.into(), expected: expected.into() },
        );
    }

    /// Adds an error.
    pub fn error(&mut self, place: &Place, message: impl Into<String>, expected: impl Into<String>) {
        self.push(Severity::Error, place, message, expected);
    }

    /// Adds a warning.
    pub fn warning(&mut self, place: &Place, message: impl Into<String>, expected: impl Into<String>) {
        self.push(Severity::Warning, place, message, expected);
    }

    /// The findings, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Number of errors.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Number of warnings.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|d| d.severity == severity).count()
    }

    /// Line and column of a byte of the file, both from 1; columns count characters.
    pub fn line_column(&self, byte: usize) -> (usize, usize) {
        let byte =
            (0..=byte.min(self.text.len())).rev().find(|byte| self.text.is_char_boundary(*byte)).unwrap_or(0);
        let before = &self.text[..byte];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    fn render(&self, f: &mut fmt::Formatter<'_>, diagnostic: &Diagnostic) -> fmt::Result {
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {}", diagnostic.message)?;
        let Place { key, span } = &diagnostic.place;
        let margin = match span {
            Some(span) => self.render_source(f, span)?,
            None => {
                writeln!(f, " --> {}", self.file)?;
                1
            }
        };
        if !key.is_empty() {
            writeln!(f, "{:margin$} = key: {key}", "")?;
        }
        if !diagnostic.expected.is_empty() {
            writeln!(f, "{:margin$} = expected: {}", "", diagnostic.expected)?;
        }
        Ok(())
    }

    /// Shows the first line of a span and marks it; yields the width of the line number.
    fn render_source(&self, f: &mut fmt::Formatter<'_>, span: &Range<usize>) -> Result<usize, fmt::Error> {
        let (line, column) = self.line_column(span.start);
        let source = self.text.lines().nth(line - 1).unwrap_or_default();
        let margin = line.to_string().len();
        let spanned = self.text.get(span.clone()).unwrap_or_default();
        let marked = spanned.lines().next().unwrap_or_default().chars().count();
        // Tabs keep their width, so that the mark stands below what it marks.
        let indent: String =
            source.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "{:margin$}--> {}:{line}:{column}", "", self.file)?;
        writeln!(f, "{:margin$} |", "")?;
        writeln!(f, "{line} | {source}")?;
        writeln!(f, "{:margin$} | {indent}{}", "", "^".repeat(marked.max(1)))?;
        Ok(margin)
    }
}

impl fmt::Display for Diagnostics {
    /// One block per finding, blank lines between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            self.render(f, diagnostic)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_in_the_order_of_the_file() {
        let mut all = Diagnostics::new("n.toml", "a = 1\n\tb = \"ü\" # x\n");
        all.warning(&Place::new("", None), "no uplink", "");
        all.error(&Place::new("b", Some(11..15)), "bad b", "a good b");
        all.error(&Place::new("a", Some(4..5)), "bad a", "");
        assert_eq!(
            all.to_string(),
            "\
error: bad a
 --> n.toml:1:5
  |
1 | a = 1
  |     ^
  = key: a

error: bad b
 --> n.toml:2:6
  |
2 | \tb = \"ü\" # x
  | \t    ^^^
  = key: b
  = expected: a good b

warning: no uplink
 --> n.toml
"
        );
        assert_eq!((all.errors(), all.warnings()), (2, 1));
    }

    #[test]
    fn places_outside_the_text_do_no_harm() {
        let mut all = Diagnostics::new("n.toml", "é");
        all.error(&Place::new("k", Some(1..90)), "odd", "");
        assert_eq!(all.to_string(), "error: odd\n --> n.toml:1:1\n  |\n1 | é\n  | ^\n  = key: k\n");
    }
}
