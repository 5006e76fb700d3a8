//! `Explain`: what policy says of packets, from the state in force.

use tonic::Status;

use crate::control::policy::{self, HostPoint, Query, Questions, StepText};
use crate::daemon::Node;
use crate::rpc::v1;
use crate::rpc_server::headers;

/// Most questions of a request: the node is held for them.
const MOST: usize = 4096;

/// Answers in the order of the questions.
pub(super) fn explain(node: &Node, request: &v1::ExplainRequest) -> Result<v1::ExplainReply, Status> {
    if request.questions.len() > MOST {
        return Err(Status::invalid_argument(format!("questions: more than {MOST} at a time")));
    }
    let questions = headers::questions(node);
    let answers = request.questions.iter().map(|question| answer(&questions, question, request.steps));
    Ok(v1::ExplainReply { answers: answers.collect() })
}

fn query(question: &v1::PacketQuestion) -> Result<Query, String> {
    let word = |name: &str, value: u32| {
        u16::try_from(value).map_err(|_| format!("{name}: found {value}, expected a number up to 65535"))
    };
    let transport = match (question.first, question.second) {
        (Some(first), Some(second)) => Some((word("first", first)?, word("second", second)?)),
        (None, None) => None,
        _ => return Err("first and second stand together".to_owned()),
    };
    let protocol = u8::try_from(question.protocol)
        .map_err(|_| format!("protocol: found {}, expected a number up to 255", question.protocol))?;
    let given = |name: &String| (!name.is_empty()).then(|| name.clone());
    Ok(Query {
        from: question.from.clone(),
        to: question.to.clone(),
        protocol,
        transport,
        entering: given(&question.entering),
        leaving: given(&question.leaving),
    })
}

fn answer(questions: &Questions<'_>, question: &v1::PacketQuestion, steps: bool) -> v1::PacketAnswer {
    let answered = query(question).and_then(|query| {
        let answer = if steps { questions.explain(&query) } else { questions.ask(&query) };
        answer.map_err(|error| error.to_string())
    });
    match answered {
        Ok(answer) => show(answer),
        Err(error) => v1::PacketAnswer { error, ..v1::PacketAnswer::default() },
    }
}

/// An answer as the API has it.
pub(super) fn show(answer: policy::Answer) -> v1::PacketAnswer {
    v1::PacketAnswer {
        error: String::new(),
        allowed: answer.allowed,
        egress: Some(side(answer.egress)),
        ingress: Some(side(answer.ingress)),
        forward: answer.forward.into_iter().map(side).collect(),
    }
}

fn side(answer: policy::SideAnswer) -> v1::SideAnswer {
    let step = |step: StepText| v1::ExplainStep {
        rule: step.rule,
        action: step.action.map(str::to_owned),
        failed: step.failed,
        conditions: step.conditions.map(|value| value.to_string()).unwrap_or_default(),
        wanted: step.wanted,
        found: step.found,
        staged: step.staged,
    };
    v1::SideAnswer {
        verdict: answer.verdict.to_owned(),
        tier: answer.tier,
        policy: answer.policy,
        rule: answer.rule,
        steps: answer.steps.into_iter().flatten().map(step).collect(),
        host: answer.host.map(host),
    }
}

fn host(HostPoint { host_endpoint, interface, direction }: HostPoint) -> v1::HostPoint {
    v1::HostPoint { host_endpoint, interface, direction: direction.to_owned() }
}
