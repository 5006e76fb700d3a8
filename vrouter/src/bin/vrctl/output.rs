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

/// Rows by which the widths of columns are chosen where rows are printed as they come.
const MEASURED: usize = 1000;

/// A list that is printed while it comes, in the forms of [`list`].
pub(crate) struct Listing<'a, T> {
    columns: &'a [Column<T>],
    format: Format,
    out: io::BufWriter<io::StdoutLock<'static>>,
    /// Lines that wait until there are enough to choose widths by; the first is the head.
    waiting: Vec<Vec<String>>,
    /// Chosen widths.
    widths: Vec<usize>,
    rows: usize,
}

impl<'a, T: Serialize> Listing<'a, T> {
    pub(crate) fn new(columns: &'a [Column<T>], format: Format) -> Self {
        let mut listing = Listing {
            columns,
            format,
            out: io::BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            waiting: Vec::new(),
            widths: Vec::new(),
            rows: 0,
        };
        listing.waiting.push(listing.shown().map(|column| column.head.to_owned()).collect());
        listing
    }

    fn shown(&self) -> impl Iterator<Item = &'a Column<T>> + use<'a, T> {
        let wide = self.format == Format::Wide;
        self.columns.iter().filter(move |column| wide || !column.wide)
    }

    /// Prints a row, now or later.
    pub(crate) fn row(&mut self, row: &T) -> Result<(), Failure> {
        self.rows += 1;
        match self.format {
            Format::Json => {
                let text = serde_json::to_string_pretty(row).map_err(|error| error.to_string())?;
                let before = if self.rows == 1 { "[\n  " } else { ",\n  " };
                self.out.write_all(before.as_bytes())?;
                self.out.write_all(text.replace('\n', "\n  ").as_bytes())?;
            }
            Format::Yaml => structured(&mut self.out, &[row], Format::Yaml)?,
            Format::Table | Format::Wide => {
                let cells = cells(self.shown(), row);
                if self.widths.is_empty() {
                    self.waiting.push(cells);
                    if self.waiting.len() > MEASURED {
                        self.print_waiting()?;
                    }
                } else {
                    let text = aligned(self.shown(), &cells, &self.widths);
                    self.out.write_all(text.as_bytes())?;
                }
            }
        }
        Ok(())
    }

    fn print_waiting(&mut self) -> Result<(), Failure> {
        let lines = std::mem::take(&mut self.waiting);
        self.widths = widths(&lines);
        for line in lines {
            self.out.write_all(aligned(self.shown(), &line, &self.widths).as_bytes())?;
        }
        Ok(())
    }

    /// Prints what is left.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        match self.format {
            Format::Json if self.rows > 0 => self.out.write_all(b"\n]\n")?,
            Format::Json | Format::Yaml if self.rows == 0 => self.out.write_all(b"[]\n")?,
            Format::Json | Format::Yaml => {}
            Format::Table | Format::Wide => self.print_waiting()?,
        }
        Ok(self.out.flush()?)
    }
}

fn table<T>(rows: &[T], columns: &[Column<T>], wide: bool) -> String {
    let shown = || columns.iter().filter(|column| wide || !column.wide);
    let mut lines = vec![shown().map(|column| column.head.to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| cells(shown(), row)));
    let widths = widths(&lines);
    lines.iter().map(|line| aligned(shown(), line, &widths)).collect()
}

/// An empty cell is a dash, so that columns can be counted.
fn cells<'a, T: 'a>(columns: impl Iterator<Item = &'a Column<T>>, row: &T) -> Vec<String> {
    let cells = columns.map(|column| match (column.cell)(row) {
        cell if cell.is_empty() => "-".to_owned(),
        cell => cell,
    });
    cells.collect()
}

fn widths(lines: &[Vec<String>]) -> Vec<usize> {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |index: usize| lines.iter().map(|line| line[index].chars().count()).max().unwrap_or(0);
    (0..columns).map(width).collect()
}

/// A line of a table.
fn aligned<'a, T: 'a>(
    columns: impl Iterator<Item = &'a Column<T>>,
    cells: &[String],
    widths: &[usize],
) -> String {
    let mut text = String::new();
    for ((cell, width), column) in cells.iter().zip(widths).zip(columns) {
        if !text.is_empty() {
            text.push_str("  ");
        }
        if column.numeric {
            text.push_str(&format!("{cell:>width$}"));
        } else {
            text.push_str(&format!("{cell:<width$}"));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
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
