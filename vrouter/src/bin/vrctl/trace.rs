//! `trace`: the way of packets through the stages.
//!
//! ```text
//! 12:00:01.000000007 tap-web 98 bytes 10.0.0.1 > 10.0.0.2 icmp
//!   parse   ipv4
//!   lookup  10.0.0.2/32 pod
//!   forward out=tap-db
//! ```

use std::io::{self, Write};

use vrouter::rpc::Word;
use vrouter::rpc::v1::{TraceRecord, TraceRequest, VerdictKind};

use crate::cli::{Format, TraceArguments};
use crate::connect::Client;
use crate::failure::Failure;
use crate::packet_line::packet_line;
use crate::stream::{Event, follow};

pub(crate) async fn trace(
    client: &mut Client,
    arguments: TraceArguments,
    format: Format,
) -> Result<(), Failure> {
    let request = TraceRequest { filter: Some(arguments.filter.into()), count: arguments.count };
    let stream = client.trace(request).await?.into_inner();
    let (mut seen, mut missed) = (0_u64, 0_u64);
    follow(stream, arguments.timeout, |event| {
        if let Event::Item(record) = event {
            seen += 1;
            missed += record.missed;
            print(&record, format)?;
        }
        Ok(())
    })
    .await?;
    if missed > 0 {
        eprintln!("vrctl: {missed} matching packets were missed: the trace ring was full");
    }
    if seen == 0 {
        return Err(Failure::Message("no packet matched".to_owned()));
    }
    Ok(())
}

fn print(record: &TraceRecord, format: Format) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json => {
            let line = serde_json::to_string(record).map_err(|error| error.to_string())?;
            writeln!(out, "{line}")?;
        }
        Format::Yaml => {
            let text = serde_yaml_ng::to_string(record).map_err(|error| error.to_string())?;
            write!(out, "---\n{text}")?;
        }
        Format::Table | Format::Wide => out.write_all(text(record).as_bytes())?,
    }
    Ok(out.flush()?)
}

fn text(record: &TraceRecord) -> String {
    let mut out = format!(
        "{} {} {} bytes {}\n",
        time_of_day(record.timestamp_ns),
        record.port,
        record.length,
        packet_line(&record.head)
    );
    let width = record.stages.iter().map(|s| s.stage.len()).max().unwrap_or(0);
    for stage in &record.stages {
        let line = format!("  {:width$}  {}", stage.stage, stage.note);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.push_str("  ");
    out.push_str(VerdictKind::word_of(record.verdict));
    for (name, value) in [
        ("reason", &record.reason),
        ("out", &record.out_port),
        ("route", &record.route),
        ("rule", &record.rule),
    ] {
        if !value.is_empty() {
            out.push_str(&format!(" {name}={value}"));
        }
    }
    out.push('\n');
    out
}

/// Hours, minutes, seconds and nanoseconds of the day, UTC.
pub(crate) fn time_of_day(timestamp_ns: u64) -> String {
    let (seconds, rest) = (timestamp_ns / 1_000_000_000, timestamp_ns % 1_000_000_000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{rest:09}", seconds % 60)
}
