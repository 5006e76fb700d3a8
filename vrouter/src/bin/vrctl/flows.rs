//! `show flows` and `show denials`.

use std::io::{self, Write};

use tokio_stream::StreamExt;
use vrouter::rpc::v1;

use crate::cli::Format;
use crate::connect::Client;
use crate::failure::Failure;
use crate::filter::protocol_name;
use crate::output::{Column, Listing, span};
use crate::stream::{Event, follow};
use crate::trace::time_of_day;

/// One end of a packet: the pod's name or the address, and the port.
pub(crate) fn end(headers: &Option<v1::Headers>, source: bool) -> String {
    let Some(headers) = headers else { return String::new() };
    let (pod, address, port) = match source {
        true => (&headers.source_pod, &headers.source, headers.source_port),
        false => (&headers.destination_pod, &headers.destination, headers.destination_port),
    };
    let name = if pod.is_empty() { address } else { pod };
    match port {
        Some(port) if pod.is_empty() && address.contains(':') => format!("[{name}]:{port}"),
        Some(port) => format!("{name}:{port}"),
        None => name.clone(),
    }
}

/// The protocol, of ICMP with its type and code.
pub(crate) fn protocol(headers: &Option<v1::Headers>) -> String {
    let Some(headers) = headers else { return String::new() };
    let name = u8::try_from(headers.protocol).map(protocol_name).unwrap_or_default();
    match (headers.icmp_type, headers.icmp_code) {
        (Some(kind), Some(code)) => format!("{name} {kind}/{code}"),
        _ => name,
    }
}

fn side(side: &Option<v1::FlowSide>) -> String {
    let Some(side) = side else { return String::new() };
    let verdict = if side.verdict == "Deny" { "denied: " } else { "" };
    let stale = if side.stale { " (to be asked again)" } else { "" };
    if side.port.is_empty() { String::new() } else { format!("{verdict}{}{stale}", side.rule) }
}

pub(crate) async fn list(
    client: &mut Client,
    request: v1::ListFlowsRequest,
    format: Format,
) -> Result<(), Failure> {
    let mut flows = client.list_flows(request).await?.into_inner();
    let mut listing = Listing::new(&FLOWS, format);
    while let Some(flow) = flows.next().await {
        listing.row(&flow?)?;
    }
    listing.end()
}

pub(crate) async fn denials(
    client: &mut Client,
    request: v1::ListFlowLogRequest,
    format: Format,
) -> Result<(), Failure> {
    let follows = request.follow;
    let mut missed = 0;
    let stream = client.list_flow_log(request).await?.into_inner();
    if follows {
        follow(stream, None, |event| {
            if let Event::Item(entry) = event {
                missed += entry.missed;
                print(&entry, format)?;
            }
            Ok(())
        })
        .await?;
    } else {
        let (mut stream, mut listing) = (stream, Listing::new(&DENIALS, format));
        while let Some(entry) = stream.next().await {
            let entry = entry?;
            missed += entry.missed;
            listing.row(&entry)?;
        }
        listing.end()?;
    }
    if missed > 0 {
        eprintln!("vrctl: {missed} more packets are not listed: there were too many at a time");
    }
    Ok(())
}

/// An entry as it comes, on a line of its own.
fn print(entry: &v1::FlowLogEntry, format: Format) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json => {
            let line = serde_json::to_string(entry).map_err(|error| error.to_string())?;
            writeln!(out, "{line}")?;
        }
        Format::Yaml => {
            let text = serde_yaml_ng::to_string(entry).map_err(|error| error.to_string())?;
            write!(out, "---\n{text}")?;
        }
        Format::Table | Format::Wide => writeln!(
            out,
            "{} {} {} {} > {} {} by {}",
            time_of_day(entry.timestamp_ns),
            entry.event,
            entry.direction,
            end(&entry.headers, true),
            end(&entry.headers, false),
            protocol(&entry.headers),
            entry.rule
        )?,
    }
    Ok(out.flush()?)
}

const FLOWS: [Column<v1::Flow>; 13] = [
    Column::words("FROM", |flow| end(&flow.headers, true)),
    Column::words("TO", |flow| end(&flow.headers, false)),
    Column::words("PROTOCOL", |flow| protocol(&flow.headers)),
    Column::words("PHASE", |flow| flow.phase.clone()),
    Column::words("EXPIRES", |flow| span(flow.expires_ms.div_ceil(1000))),
    Column::number("PACKETS", |flow| flow.packets.to_string()),
    Column::number("REPLIES", |flow| flow.reply_packets.to_string()),
    Column::words("EGRESS", |flow| side(&flow.egress)),
    Column::words("INGRESS", |flow| side(&flow.ingress)),
    Column::wide(Column::number("BYTES", |flow| flow.bytes.to_string())),
    Column::wide(Column::number("REPLY-BYTES", |flow| flow.reply_bytes.to_string())),
    Column::wide(Column::words("SOURCE", |flow| {
        flow.headers.as_ref().map(|headers| headers.source.clone()).unwrap_or_default()
    })),
    Column::wide(Column::words("DESTINATION", |flow| {
        flow.headers.as_ref().map(|headers| headers.destination.clone()).unwrap_or_default()
    })),
];

const DENIALS: [Column<v1::FlowLogEntry>; 11] = [
    Column::words("TIME", |entry| time_of_day(entry.timestamp_ns)),
    Column::words("EVENT", |entry| entry.event.clone()),
    Column::words("DIRECTION", |entry| entry.direction.clone()),
    Column::words("FROM", |entry| end(&entry.headers, true)),
    Column::words("TO", |entry| end(&entry.headers, false)),
    Column::words("PROTOCOL", |entry| protocol(&entry.headers)),
    Column::words("RULE", |entry| entry.rule.clone()),
    Column::wide(Column::number("NUMBER", |entry| entry.number.to_string())),
    Column::wide(Column::words("PORT", |entry| entry.port.clone())),
    Column::wide(Column::number("BYTES", |entry| entry.length.to_string())),
    Column::wide(Column::number("MISSED", |entry| entry.missed.to_string())),
];
