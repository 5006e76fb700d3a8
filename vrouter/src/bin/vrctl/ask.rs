//! `explain` of a running router, and `policy diff`: answers in the same form as from files.

use vrouter::control::policy::{Answer, HostPoint, Query, SideAnswer, StepText};
use vrouter::rpc::v1;

use crate::cli::{ExplainArguments, Format};
use crate::connect::Client;
use crate::failure::Failure;
use crate::output::{self, Column};
use crate::{batch, flows, policy, resources};

/// Questions of a request.
const PAGE: usize = 1024;

fn question(query: &Query) -> v1::PacketQuestion {
    let (first, second) = query.transport.map(|(one, two)| (u32::from(one), u32::from(two))).unzip();
    v1::PacketQuestion {
        from: query.from.clone(),
        to: query.to.clone(),
        protocol: query.protocol.into(),
        first,
        second,
        entering: query.entering.clone().unwrap_or_default(),
        leaving: query.leaving.clone().unwrap_or_default(),
    }
}

/// The words that answers use.
fn word(text: &str) -> &'static str {
    ["Allow", "Deny", "Pass", "Log"].into_iter().find(|word| *word == text).unwrap_or("unknown")
}

fn side(answer: v1::SideAnswer, with_steps: bool) -> SideAnswer {
    let step = |step: v1::ExplainStep| StepText {
        rule: step.rule,
        action: step.action.as_deref().map(word),
        conditions: serde_json::from_str(&step.conditions).ok(),
        failed: step.failed,
        wanted: step.wanted,
        found: step.found,
        staged: step.staged,
    };
    let host = |v1::HostPoint { host_endpoint, interface, direction }| HostPoint {
        host_endpoint,
        interface,
        direction: if direction == "ingress" { "ingress" } else { "egress" },
    };
    SideAnswer {
        verdict: word(&answer.verdict),
        tier: answer.tier,
        policy: answer.policy,
        rule: answer.rule,
        host: answer.host.map(host),
        steps: with_steps.then(|| answer.steps.into_iter().map(step).collect()),
    }
}

fn answer(reply: v1::PacketAnswer, with_steps: bool) -> Result<Answer, String> {
    if !reply.error.is_empty() {
        return Err(reply.error);
    }
    let side = |answer| side(answer, with_steps);
    Ok(Answer {
        allowed: reply.allowed,
        egress: side(reply.egress.unwrap_or_default()),
        forward: reply.forward.into_iter().map(side).collect(),
        ingress: side(reply.ingress.unwrap_or_default()),
    })
}

async fn ask(client: &mut Client, queries: &[Query], steps: bool) -> Result<Vec<v1::PacketAnswer>, Failure> {
    let questions = queries.iter().map(question).collect();
    let reply = client.explain(v1::ExplainRequest { questions, steps }).await?.into_inner();
    if reply.answers.len() != queries.len() {
        return Err("the router's answers are not those to the questions".to_owned().into());
    }
    Ok(reply.answers)
}

/// `vrctl explain`.
pub(crate) async fn explain(
    client: &mut Client,
    arguments: ExplainArguments,
    format: Format,
) -> Result<(), Failure> {
    let Some(file) = &arguments.batch else {
        let query = policy::asked(arguments)?;
        let answers = ask(client, &[query], true).await?;
        let [reply] = <[_; 1]>::try_from(answers).map_err(|_| "there is no answer".to_owned())?;
        return policy::print(&answer(reply, true)?, format);
    };
    let mut answers = batch::Answers::new();
    let mut lines = batch::lines(file)?;
    loop {
        let page: Vec<batch::Line> = lines.by_ref().take(PAGE).collect::<Result<_, _>>()?;
        if page.is_empty() {
            return answers.end();
        }
        let queries: Vec<Query> = page.iter().filter_map(|line| line.query.clone().ok()).collect();
        let mut replies = ask(client, &queries, false).await?.into_iter();
        for line in page {
            let asked = line.query.and_then(|_| match replies.next() {
                Some(reply) => answer(reply, false),
                None => Err("there is no answer".to_owned()),
            });
            answers.write(&line.place, asked)?;
        }
    }
}

/// `vrctl policy diff`.
pub(crate) async fn diff(
    client: &mut Client,
    file: Option<&str>,
    deletions: Vec<String>,
    count: u64,
    format: Format,
) -> Result<(), Failure> {
    let documents = file.map(resources::read).transpose()?.unwrap_or_default();
    let request = v1::DiffPolicyRequest { documents, deletions, count };
    let reply = client.diff_policy(request).await?.into_inner();
    if matches!(format, Format::Json | Format::Yaml) {
        output::one(&reply, &[], format)?;
        return resources::judge(&reply.refused, "nothing was compared");
    }
    resources::judge(&reply.refused, "nothing was compared")?;
    if !reply.differences.is_empty() {
        output::list(&reply.differences, &DIFFERENCES, format)?;
    }
    let left = (reply.stopped + reply.opened).saturating_sub(reply.differences.len() as u64);
    let rest = if left > 0 { format!(", {left} of them not listed") } else { String::new() };
    output::line(&format!(
        "{} flows and {} denials compared: {} would be stopped, {} would pass{rest}",
        reply.flows, reply.denials, reply.stopped, reply.opened
    ))
}

/// What decides: what denies, or all that allow.
fn decides(answer: &Option<v1::PacketAnswer>) -> String {
    let Some(answer) = answer else { return String::new() };
    let between = answer.forward.iter().map(|side| ("forward", side));
    let from = answer.egress.iter().map(|side| ("egress", side));
    let to = answer.ingress.iter().map(|side| ("ingress", side));
    let shown = from.chain(between).chain(to).filter(|(_, side)| answer.allowed || side.verdict == "Deny");
    let words = shown.map(|(name, side)| match &side.rule {
        Some(rule) => rule.clone(),
        None if side.host.is_some() => format!("{name} left open"),
        None => format!("{name} not policed"),
    });
    words.collect::<Vec<_>>().join("; ")
}

const DIFFERENCES: [Column<v1::PolicyDifference>; 8] = [
    Column::words("CHANGE", |d| {
        let then = d.then.as_ref().is_some_and(|then| then.allowed);
        if then { "opened" } else { "stopped" }.to_owned()
    }),
    Column::words("OF", |d| d.of.clone()),
    Column::words("FROM", |d| flows::end(&d.headers, true)),
    Column::words("TO", |d| flows::end(&d.headers, false)),
    Column::words("PROTOCOL", |d| flows::protocol(&d.headers)),
    Column::number("PACKETS", |d| d.packets.to_string()),
    Column::words("THEN", |d| decides(&d.then)),
    Column::wide(Column::words("NOW", |d| decides(&d.now))),
];
