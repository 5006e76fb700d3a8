//! What the mock router knows of policy: one policy of one pod, and what it met.

use vrouter::rpc::v1::*;

const RULE: &str = "tier default NetworkPolicy x/web ingress[0]";
const END: &str = "tier default ingress default";

fn rule(direction: &str, index: Option<u32>, action: &str, packets: u64) -> PolicyRule {
    PolicyRule {
        direction: direction.into(),
        index,
        action: action.into(),
        conditions: String::new(),
        packets,
        bytes: 100 * packets,
    }
}

pub(crate) fn policies() -> ListPoliciesReply {
    let conditions =
        r#"{"protocol":"TCP","source":{"selector":"role == \"client\""},"destination":{"ports":[80]}}"#;
    let web = Policy {
        kind: "NetworkPolicy".into(),
        namespace: "x".into(),
        name: "web".into(),
        order: Some(10.0),
        selector: "(app == \"web\" && projectcalico.org/namespace == \"x\")".into(),
        types: vec!["ingress".into()],
        endpoints: vec!["x/a".into()],
        rules: vec![
            PolicyRule { conditions: conditions.into(), ..rule("ingress", Some(0), "Allow", 7) },
            rule("ingress", Some(1), "Log", 0),
        ],
        conditions: vec![Condition {
            name: "spec.ingress[0].http".into(),
            ok: false,
            message: "is not enforced".into(),
        }],
        ..Policy::default()
    };
    let staged = Policy {
        kind: "StagedGlobalNetworkPolicy".into(),
        name: "none".into(),
        staged: true,
        types: vec!["egress".into()],
        ..Policy::default()
    };
    ListPoliciesReply {
        tiers: vec![
            PolicyTier { name: "security".into(), default_action: "Pass".into(), ..PolicyTier::default() },
            PolicyTier {
                name: "default".into(),
                order: Some(1e6),
                default_action: "Deny".into(),
                policies: vec![web, staged],
                ends: vec![rule("ingress", None, "Deny", 3)],
            },
        ],
        profiles: vec![PolicyProfile {
            name: "kns.x".into(),
            endpoints: vec!["x/a".into(), "x/b".into()],
            rules: vec![rule("egress", Some(0), "Allow", 0)],
            conditions: vec![Condition {
                name: "spec.egress[0].http".into(),
                ok: false,
                message: "is not enforced".into(),
            }],
        }],
        ends: vec![rule("ingress", None, "Deny", 0)],
        conditions: Vec::new(),
    }
}

fn headers(source_port: u32, destination_port: u32) -> Headers {
    Headers {
        source: "10.0.0.2".into(),
        destination: "10.0.0.1".into(),
        protocol: 6,
        source_port: Some(source_port),
        destination_port: Some(destination_port),
        destination_pod: "x/a".into(),
        ..Headers::default()
    }
}

pub(crate) fn flow_log() -> Vec<FlowLogEntry> {
    let ping = Headers {
        source: "fd00::2".into(),
        destination: "fd00::1".into(),
        protocol: 58,
        icmp_type: Some(128),
        icmp_code: Some(0),
        ..Headers::default()
    };
    let entry = |number: u64, headers| FlowLogEntry {
        number,
        timestamp_ns: 1_767_312_001_000_000_007,
        event: "denied".into(),
        direction: "ingress".into(),
        port: "x/a".into(),
        rule: END.into(),
        tier: "default".into(),
        headers: Some(headers),
        length: 60,
        ..FlowLogEntry::default()
    };
    vec![entry(7, headers(40000, 81)), FlowLogEntry { missed: 5, ..entry(8, ping) }]
}

pub(crate) fn flows() -> Vec<Flow> {
    let side = |port: &str, rule: &str, stale| FlowSide {
        port: port.into(),
        verdict: "Allow".into(),
        rule: rule.into(),
        stale,
    };
    vec![Flow {
        headers: Some(headers(40000, 80)),
        phase: "tcp-established".into(),
        expires_ms: 3_599_001,
        packets: 4,
        bytes: 400,
        reply_packets: 3,
        reply_bytes: 300,
        egress: Some(side("", "", false)),
        ingress: Some(side("x/a", RULE, true)),
    }]
}

/// Only port 80 of x/a is open.
pub(crate) fn explained(question: &PacketQuestion) -> PacketAnswer {
    if question.to == "x/c" {
        return PacketAnswer { error: "\"x/c\" is not known".into(), ..PacketAnswer::default() };
    }
    let open = question.second == Some(80);
    let ingress = SideAnswer {
        verdict: if open { "Allow" } else { "Deny" }.into(),
        tier: Some("default".into()),
        policy: open.then(|| "x/web".into()),
        rule: Some(if open { RULE } else { END }.into()),
        steps: vec![ExplainStep {
            rule: RULE.into(),
            action: open.then(|| "Allow".into()),
            failed: (!open).then(|| "the destination port".into()),
            wanted: (!open).then(|| "80".into()),
            found: (!open).then(|| "81".into()),
            conditions: r#"{"protocol":"TCP","destination":{"ports":[80]}}"#.into(),
            staged: false,
        }],
        host: None,
    };
    let egress = SideAnswer { verdict: "Allow".into(), ..SideAnswer::default() };
    let forward = SideAnswer {
        verdict: "Allow".into(),
        host: Some(HostPoint {
            host_endpoint: "up".into(),
            interface: "eth1".into(),
            direction: "ingress".into(),
        }),
        ..SideAnswer::default()
    };
    PacketAnswer {
        error: String::new(),
        allowed: open,
        egress: Some(egress),
        ingress: Some(ingress),
        forward: if question.entering.is_empty() { Vec::new() } else { vec![forward] },
    }
}

pub(crate) fn difference(objects: Vec<api::Object>) -> DiffPolicyReply {
    let applied = super::answers::apply(objects).results;
    if applied.iter().any(|result| result.outcome() == ApplyOutcome::Refused) {
        return DiffPolicyReply { refused: applied, ..DiffPolicyReply::default() };
    }
    let answer = |port| {
        explained(&PacketQuestion { second: Some(port), to: "x/a".into(), ..PacketQuestion::default() })
    };
    let stopped = PolicyDifference {
        of: "flow".into(),
        headers: Some(headers(40000, 80)),
        now: Some(answer(80)),
        then: Some(answer(81)),
        packets: 7,
    };
    DiffPolicyReply {
        flows: 12,
        denials: 2,
        stopped: 3,
        differences: vec![stopped],
        ..DiffPolicyReply::default()
    }
}
