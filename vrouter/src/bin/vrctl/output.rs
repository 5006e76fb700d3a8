//! The four forms of output: aligned columns, more of them, JSON and YAML.
//!
//! JSON and YAML of a list are an array of the API's messages, whatever the columns show.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::Format;
use crate::failure::Failure;

/// One column of a table of `T`.
pub(crate) struct Column<T> {
    head: &'static str,
    wide: bool,
    numeric: bool,
    cell: fn(&T) -> String,
}

impl<T> Column<T> {
    /// A column of words, always shown.
    pub(crate) const fn words(head: &'static str, cell: fn(&T) -> String) -> Self {
        Self { head, wide: false, numeric: false, cell }
    }

    /// A column of numbers, always shown, aligned to the right.
    pub(crate) const fn number(head: &'static str, cell: fn(&T) -> String) -> Self {
        Self { head, wide: false, numeric: true, cell }
    }

    /// The same column, shown in the wide form only.
    pub(crate) const fn wide(mut self) -> Self {
        self.wide = true;
        self
    }
}

/// Prints a list to stdout.
pub(crate) fn list<T: Serialize>(rows: &[T], columns: &[Column<T>], format: Format) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json | Format::Yaml => structured(&mut out, &rows, format)?,
        Format::Table | Format::Wide => {
            out.write_all(table(rows, columns, format == Format::Wide).as_bytes())?;
        }
    }
    Ok(out.flush()?)
}

/// Prints one thing to stdout: as `facts` (name and value, a line each; empty values are left out) or
/// as the message.
pub(crate) fn one<T: Serialize>(
    message: &T,
    facts: &[(&str, String)],
    format: Format,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json | Format::Yaml => structured(&mut out, message, format)?,
        Format::Table | Format::Wide => {
            let shown = || facts.iter().filter(|(_, value)| !value.is_empty());
            let width = shown().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
            for (name, value) in shown() {
                writeln!(out, "{:width$} {value}", format!("{name}:"))?;
            }
        }
    }
    Ok(out.flush()?)
}

/// Prints a line to stdout.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Writes JSON or YAML; the other forms have no structure.
pub(crate) fn structured<T: Serialize + ?Sized>(
    out: &mut impl Write,
    value: &T,
    format: Format,
) -> Result<(), Failure> {
    let text = if format == Format::Yaml {
        serde_yaml_ng::to_string(value).map_err(|error| error.to_string())?
    } else {
        let mut text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
        text.push('\n');
        text
    };
    Ok(out.write_all(text.as_bytes())?)
}

/// An empty cell is a dash, so that columns can be counted.
fn table<T>(rows: &[T], columns: &[Column<T>], wide: bool) -> String {
    let columns: Vec<&Column<T>> = columns.iter().filter(|c| wide || !c.wide).collect();
    let mut lines = vec![columns.iter().map(|c| c.head.to_owned()).collect::<Vec<_>>()];
    for row in rows {
        let cells = columns.iter().map(|column| match (column.cell)(row) {
            cell if cell.is_empty() => "-".to_owned(),
            cell => cell,
        });
        lines.push(cells.collect());
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|index| {
            let cells = lines.iter().map(|line| line[index].chars().count());
            cells.max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for ((cell, width), column) in line.iter().zip(&widths).zip(&columns) {
            if !text.is_empty() {
                text.push_str("  ");
            }
            if column.numeric {
                text.push_str(&format!("{cell:>width$}"));
            } else {
                text.push_str(&format!("{cell:<width$}"));
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Bytes in the largest unit that leaves at least 1: `64.0 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// A time span in its two largest units: `3d4h`, `5m0s`, `12s`.
pub(crate) fn span(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m{rest}s"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let columns: [Column<(&str, u32)>; 3] = [
            Column::words("NAME", |row| row.0.to_owned()),
            Column::number("PACKETS", |row| row.1.to_string()),
            Column::wide(Column::words("NOTE", |_| String::new())),
        ];
        let rows = [("é", 7), ("longer", 1_234_567_890)];
        assert_eq!(
            table(&rows, &columns, false),
            "NAME       PACKETS\né                7\nlonger  1234567890\n"
        );
        assert_eq!(table(&rows[..1], &columns, true), "NAME  PACKETS  NOTE\né           7  -\n");
    }

    #[test]
    fn units() {
        let sizes = [1023, 1024, 64 << 20, (5 << 30) + (1 << 29)].map(bytes);
        assert_eq!(sizes, ["1023 B", "1.0 KiB", "64.0 MiB", "5.5 GiB"]);
        assert_eq!([59, 300, 3660, 273_600].map(span), ["59s", "5m0s", "1h1m", "3d4h"]);
    }
}
