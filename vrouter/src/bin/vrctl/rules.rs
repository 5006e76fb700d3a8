//! `show policy`: a line for each rule, in the order in which rules are asked.

use serde_json::Value;
use vrouter::rpc::v1;

use crate::cli::Format;
use crate::connect::Client;
use crate::failure::Failure;
use crate::output::{self, Column};

/// A rule with what it is part of.
#[derive(serde::Serialize)]
struct Row {
    tier: String,
    policy: String,
    kind: String,
    order: String,
    endpoints: Vec<String>,
    selector: String,
    notes: String,
    rule: Option<v1::PolicyRule>,
}

pub(crate) async fn list(
    client: &mut Client,
    request: v1::ListPoliciesRequest,
    counted: bool,
    format: Format,
) -> Result<(), Failure> {
    let mut reply = client.list_policies(request).await?.into_inner();
    if counted {
        only_counted(&mut reply);
    }
    if matches!(format, Format::Json | Format::Yaml) {
        return output::one(&reply, &[], format);
    }
    for condition in &reply.conditions {
        eprintln!("vrctl: {}", condition.message);
    }
    output::list(&rows(&reply, counted), &RULES, format)
}

fn only_counted(reply: &mut v1::ListPoliciesReply) {
    let has = |rule: &v1::PolicyRule| rule.packets > 0;
    for tier in &mut reply.tiers {
        tier.policies.iter_mut().for_each(|policy| policy.rules.retain(has));
        tier.policies.retain(|policy| !policy.rules.is_empty());
        tier.ends.retain(has);
    }
    reply.tiers.retain(|tier| !tier.policies.is_empty() || !tier.ends.is_empty());
    reply.profiles.iter_mut().for_each(|profile| profile.rules.retain(has));
    reply.profiles.retain(|profile| !profile.rules.is_empty());
    reply.ends.retain(has);
}

fn rows(reply: &v1::ListPoliciesReply, counted: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let order = |order: Option<f64>| order.map(|order| order.to_string()).unwrap_or_default();
    let blank = || Row {
        tier: String::new(),
        policy: String::new(),
        kind: String::new(),
        order: String::new(),
        endpoints: Vec::new(),
        selector: String::new(),
        notes: String::new(),
        rule: None,
    };
    for tier in &reply.tiers {
        for policy in &tier.policies {
            let row = |rule: Option<&v1::PolicyRule>| Row {
                tier: tier.name.clone(),
                policy: match policy.namespace.as_str() {
                    "" => policy.name.clone(),
                    namespace => format!("{namespace}/{}", policy.name),
                },
                kind: policy.kind.clone(),
                order: order(policy.order),
                endpoints: policy.endpoints.clone(),
                selector: policy.selector.clone(),
                notes: notes(policy),
                rule: rule.cloned(),
            };
            if policy.rules.is_empty() {
                rows.push(row(None));
            }
            rows.extend(policy.rules.iter().map(|rule| row(Some(rule))));
        }
        let ends = tier.ends.iter().filter(|_| !tier.policies.is_empty() || counted);
        let end = |rule: &v1::PolicyRule| Row {
            tier: tier.name.clone(),
            order: order(tier.order),
            rule: Some(rule.clone()),
            ..blank()
        };
        rows.extend(ends.map(end));
    }
    for profile in &reply.profiles {
        let row = |rule: &v1::PolicyRule| Row {
            policy: profile.name.clone(),
            kind: "Profile".to_owned(),
            endpoints: profile.endpoints.clone(),
            notes: told(&profile.conditions),
            rule: Some(rule.clone()),
            ..blank()
        };
        rows.extend(profile.rules.iter().map(row));
    }
    rows.extend(reply.ends.iter().map(|rule| Row { rule: Some(rule.clone()), ..blank() }));
    rows
}

fn notes(policy: &v1::Policy) -> String {
    let staged = policy.staged.then(|| "staged".to_owned());
    let told = Some(told(&policy.conditions)).filter(|told| !told.is_empty());
    staged.into_iter().chain(told).collect::<Vec<_>>().join("; ")
}

/// What is not enforced, in words.
fn told(conditions: &[v1::Condition]) -> String {
    let told = conditions.iter().map(|told| format!("{} {}", told.name, told.message));
    told.collect::<Vec<_>>().join("; ")
}

fn place(row: &Row) -> String {
    let Some(rule) = &row.rule else { return String::new() };
    match rule.index {
        Some(index) => format!("{}[{index}]", rule.direction),
        None => format!("{} end", rule.direction),
    }
}

/// Conditions as `protocol=TCP destination.ports=[80]`.
fn conditions(row: &Row) -> String {
    let rule = row.rule.as_ref();
    let value = rule.and_then(|rule| serde_json::from_str(&rule.conditions).ok());
    value.as_ref().map(words).unwrap_or_default()
}

/// Conditions in a line.
pub(crate) fn words(conditions: &Value) -> String {
    let mut out = Vec::new();
    flatten("", conditions, &mut out);
    out.join(" ")
}

fn flatten(path: &str, value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, out);
            }
        }
        Value::Null => {}
        Value::String(text) => out.push(format!("{path}={text}")),
        other => out.push(format!("{path}={other}")),
    }
}

const RULES: [Column<Row>; 11] = [
    Column::words("TIER", |row| row.tier.clone()),
    Column::words("POLICY", |row| row.policy.clone()),
    Column::words("RULE", place),
    Column::words("ACTION", |row| row.rule.as_ref().map(|rule| rule.action.clone()).unwrap_or_default()),
    Column::number("PACKETS", |row| row.rule.as_ref().map_or(0, |rule| rule.packets).to_string()),
    Column::number("BYTES", |row| row.rule.as_ref().map_or(0, |rule| rule.bytes).to_string()),
    Column::number("ENDPOINTS", |row| row.endpoints.len().to_string()),
    Column::words("NOTES", |row| row.notes.clone()),
    Column::wide(Column::words("KIND", |row| row.kind.clone())),
    Column::wide(Column::words("ORDER", |row| row.order.clone())),
    Column::wide(Column::words("CONDITIONS", |row| {
        let names = format!("to {}", row.endpoints.join(","));
        let parts = [conditions(row), row.selector.clone(), names];
        parts.into_iter().filter(|part| !part.is_empty() && part != "to ").collect::<Vec<_>>().join("; ")
    })),
];
