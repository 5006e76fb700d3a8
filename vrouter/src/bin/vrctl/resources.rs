//! `apply`, `get` and `delete`.

use std::io::{self, Read};

use serde_json::Value;
use vrouter::rpc::Word;
use vrouter::rpc::v1::{
    ApplyOutcome, ApplyReply, ApplyRequest, ApplyResult, DeleteRequest, GetRequest, Resource,
};

use crate::cli::Format;
use crate::connect::Client;
use crate::failure::Failure;
use crate::output::{self, Column};

pub(crate) fn read(file: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let outcome = if file == "-" {
        io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(file).map(|content| text = content)
    };
    outcome.map_err(|error| format!("{file}: {error}"))?;
    Ok(text)
}

pub(crate) async fn apply(
    client: &mut Client,
    file: &str,
    dry_run: bool,
    format: Format,
) -> Result<(), Failure> {
    let request = ApplyRequest { documents: read(file)?, dry_run };
    let reply: ApplyReply = client.apply(request).await?.into_inner();
    match format {
        Format::Json | Format::Yaml => output::one(&reply, &[], format)?,
        Format::Table | Format::Wide => {
            let note = if dry_run { " (dry run)" } else { "" };
            for result in &reply.results {
                let outcome = ApplyOutcome::word_of(result.outcome);
                output::line(&format!("{} {outcome}{note}", title(result)))?;
            }
        }
    }
    judge(&reply.results, "nothing was applied")
}

/// Fails if an object was refused, with the reasons.
pub(crate) fn judge(results: &[ApplyResult], so: &str) -> Result<(), Failure> {
    if !results.iter().any(is_refused) {
        return Ok(());
    }
    let refused: Vec<String> = results.iter().flat_map(problems).collect();
    Err(Failure::Message(format!("refused, {so}\n{}", refused.join("\n"))))
}

fn is_refused(result: &ApplyResult) -> bool {
    matches!(result.outcome(), ApplyOutcome::Refused | ApplyOutcome::Skipped)
}

fn title(result: &ApplyResult) -> String {
    match (result.kind.as_str(), result.name.as_str()) {
        ("", _) => format!("document {}", result.document),
        (kind, "") => kind.to_owned(),
        (kind, name) => format!("{kind}/{name}"),
    }
}

fn problems(result: &ApplyResult) -> impl Iterator<Item = String> {
    let document = usize::try_from(result.document).unwrap_or(0);
    result.problems.iter().map(move |problem| {
        api::Problem::new(&problem.path, &problem.message, &problem.expected)
            .of(document, &result.kind, &result.name)
            .to_string()
    })
}

pub(crate) async fn get(
    client: &mut Client,
    kind: String,
    name: Option<String>,
    format: Format,
) -> Result<(), Failure> {
    let one = name.is_some();
    let request = GetRequest { kind, name: name.unwrap_or_default() };
    let resources = client.get(request).await?.into_inner().resources;
    let mut rows = Vec::with_capacity(resources.len());
    for resource in resources {
        let value = serde_json::from_str(&resource.json)
            .map_err(|error| format!("the router's answer is not JSON: {error}"))?;
        rows.push((resource, value));
    }
    if matches!(format, Format::Table | Format::Wide) {
        return table(&rows, format);
    }
    let mut values: Vec<Value> = rows.into_iter().map(|(_, value)| value).collect();
    if one && values.len() == 1 {
        output::one(&values.remove(0), &[], format)
    } else {
        output::one(&values, &[], format)
    }
}

type Row = (Resource, Value);

/// Columns differ by kind; a kind that this program does not know shows what all have.
fn table(rows: &[Row], format: Format) -> Result<(), Failure> {
    let columns: &[Column<Row>] = match rows.first().map(|(resource, _)| resource.kind.as_str()) {
        Some("IPPool") => &POOLS,
        Some("Route") => &ROUTES,
        _ => &ANY,
    };
    output::list(rows, columns, format)
}

/// A field of the spec, as a cell.
fn spec(row: &Row, field: &str) -> String {
    match &row.1["spec"][field] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

const ANY: [Column<Row>; 3] = [
    Column::words("KIND", |row| row.0.kind.clone()),
    Column::words("NAME", |row| row.0.name.clone()),
    Column::words("SOURCE", |row| row.0.source.clone()),
];

const POOLS: [Column<Row>; 8] = [
    Column::words("NAME", |row| row.0.name.clone()),
    Column::words("CIDR", |row| spec(row, "cidr")),
    Column::words("IPIP", |row| spec(row, "ipipMode")),
    Column::words("VXLAN", |row| spec(row, "vxlanMode")),
    Column::words("NAT", |row| spec(row, "natOutgoing")),
    Column::words("SOURCE", |row| row.0.source.clone()),
    Column::wide(Column::number("BLOCK", |row| spec(row, "blockSize"))),
    Column::wide(Column::words("DISABLED", |row| spec(row, "disabled"))),
];

const ROUTES: [Column<Row>; 7] = [
    Column::words("NAME", |row| row.0.name.clone()),
    Column::words("PREFIX", |row| spec(row, "prefix")),
    Column::words("TYPE", |row| spec(row, "type")),
    Column::words("VIA", |row| spec(row, "via")),
    Column::words("ENCAP", |row| match spec(row, "encap") {
        encap if encap.is_empty() => "by pool".to_owned(),
        encap => encap,
    }),
    Column::words("SOURCE", |row| row.0.source.clone()),
    Column::wide(Column::number("METRIC", |row| spec(row, "metric"))),
];

pub(crate) async fn delete(
    client: &mut Client,
    one: Option<(String, String)>,
    file: Option<String>,
) -> Result<(), Failure> {
    let mut all: Vec<(String, String)> = one.into_iter().collect();
    if let Some(file) = file {
        let references = api::references(&read(&file)?).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            problems.join("\n")
        })?;
        all.extend(references.into_iter().map(|r| {
            let name = if r.namespace.is_empty() { r.name } else { format!("{}/{}", r.namespace, r.name) };
            (r.kind.to_string(), name)
        }));
    }
    // One that is refused does not keep the others: each is tried, and all failures are told.
    let mut failures = Vec::new();
    for (kind, name) in all {
        let request = DeleteRequest { kind: kind.clone(), name: name.clone() };
        match client.delete(request).await {
            Ok(_) => output::line(&format!("{kind}/{name} deleted"))?,
            Err(status) => match Failure::from(status) {
                Failure::Message(message) => failures.push(format!("{kind}/{name}: {message}")),
                closed @ Failure::OutputClosed => return Err(closed),
            },
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::Message(failures.join("\n"))) }
}
