//! `NetworkPolicy` of `networking.k8s.io/v1` and `StagedKubernetesNetworkPolicy`, brought to Calico's
//! form.
//!
//! ```text
//!  ingress:                                     one rule for each protocol and peer
//!  - from: [peer, peer]        ------------>    Allow TCP from peer 1 to ports 80, 443
//!    ports: [TCP 80, TCP 443, UDP 53]           Allow TCP from peer 2 to ports 80, 443
//!                                               Allow UDP from peer 1 to port 53 ...
//! ```
//!
//! A policy keeps to pods of its namespace, stands in tier `default` at order 1000 under the name
//! `knp.default.NAME`, and allows only; what no policy of a direction allows is dropped.
//!
//! Sources: the Kubernetes NetworkPolicy reference; Calico's description of how it reads it.

use ipnet::IpNet;
use serde_yaml_ng::Value;

use super::port::{Port, Protocol, is_port_name};
use super::rule::{Action, EntityRule, Rule};
use super::spec::{Order, PolicySpec, PolicyType, StagedAction, default_types, take_staged_action};
use crate::fields::{Fields, show};
use crate::metadata::Metadata;
use crate::name::{check_label_key, check_label_value};
use crate::problem::Problem;
use crate::resource::Kind;
use crate::selector::{Expr, Selector};

/// The label that tells pods from other endpoints.
const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";

/// A Kubernetes policy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KubernetesPolicy {
    /// `KubernetesNetworkPolicy` or `StagedKubernetesNetworkPolicy`.
    pub kind: Kind,
    /// Name and namespace.
    pub metadata: Metadata,
    /// The spec as it was written, for printing.
    pub written: serde_json::Value,
    /// What it means.
    pub spec: PolicySpec,
}

impl KubernetesPolicy {
    /// The name under which it stands in the tier.
    pub fn policy_name(&self) -> String {
        format!("knp.default.{}", self.metadata.name)
    }

    /// Whether it is evaluated but not enforced.
    pub fn is_staged(&self) -> bool {
        self.kind == Kind::StagedKubernetesNetworkPolicy
    }

    pub(crate) fn read(
        kind: Kind,
        metadata: Metadata,
        value: &Value,
        mut fields: Fields<'_>,
    ) -> (Self, Vec<Problem>) {
        let staged_action =
            (kind == Kind::StagedKubernetesNetworkPolicy).then(|| take_staged_action(&mut fields));
        let pods = take_label_selector(&mut fields, "podSelector");
        let ingress = take_rules(&mut fields, PolicyType::Ingress);
        let egress = take_rules(&mut fields, PolicyType::Egress);
        let mut types = Vec::new();
        for (index, value) in fields.list("policyTypes", "types").unwrap_or_default().iter().enumerate() {
            match value.as_str() {
                Some("Ingress") => types.push(PolicyType::Ingress),
                Some("Egress") => types.push(PolicyType::Egress),
                _ => {
                    let found = format!("found {}", show(value));
                    fields.problem(&format!("policyTypes[{index}]"), found, "Ingress or Egress");
                }
            }
        }
        types.sort_unstable();
        types.dedup();
        if types.is_empty() {
            // Kubernetes' default always holds ingress.
            types = default_types(true, !egress.is_empty());
        }
        let mut parts = vec![Expr::Equal(ORCHESTRATOR.to_owned(), "k8s".to_owned())];
        let pods = pods.unwrap_or_default();
        let has_terms = !pods.is_empty();
        parts.extend(pods);
        let mut spec = PolicySpec::new(all_of(parts), types);
        spec.staged_action = staged_action.filter(|action| *action != StagedAction::Set);
        spec.order = Order::new(1000.0);
        spec.ingress = ingress;
        spec.egress = egress;
        if staged_action == Some(StagedAction::Delete) {
            let given = !spec.ingress.is_empty() || !spec.egress.is_empty() || fields.has("policyTypes");
            // `podSelector: {}` is what its absence means.
            if given || has_terms {
                let message = "Delete beside other fields: a deletion names nothing but the policy";
                fields.problem("stagedAction", message, "stagedAction alone");
            }
        }
        // Text, numbers and lists of YAML all have a JSON form; what has none was refused above.
        let written = serde_json::to_value(value).unwrap_or_default();
        (KubernetesPolicy { kind, metadata, written, spec }, fields.finish())
    }
}

fn all_of(mut parts: Vec<Expr>) -> Selector {
    Selector::of(match parts.len() {
        0 => Expr::All,
        1 => parts.remove(0),
        _ => Expr::And(parts),
    })
}

/// Takes a label selector: its terms, all of which must hold.
fn take_label_selector(fields: &mut Fields<'_>, key: &'static str) -> Option<Vec<Expr>> {
    let mut part = fields.mapping(key, false)?;
    let mut terms = Vec::new();
    for (label, value) in part.string_map("matchLabels") {
        if let Err(error) = check_label_key(&label).and_then(|()| check_label_value(&value)) {
            part.problem("matchLabels", format!("{label}: {value:?} {error}"), "a label");
        }
        terms.push(Expr::Equal(label, value));
    }
    for mut term in part.mappings("matchExpressions") {
        let label = term.string("key").unwrap_or_default().to_owned();
        if let Err(error) = check_label_key(&label) {
            term.problem("key", format!("{label:?} {error}"), "a label key");
        }
        let mut values: Vec<String> =
            term.strings("values").unwrap_or_default().into_iter().map(str::to_owned).collect();
        values.sort_unstable();
        values.dedup();
        for value in &values {
            if let Err(error) = check_label_value(value) {
                term.problem("values", format!("{value:?} {error}"), "a label value");
            }
        }
        let (operator, none) = (term.string("operator").unwrap_or_default(), values.is_empty());
        match operator {
            "In" | "NotIn" if none => term.problem("values", "is empty", "at least one value"),
            "Exists" | "DoesNotExist" if !none => term.problem("values", "beside Exists", "no values"),
            "In" => terms.push(Expr::In(label, values)),
            "NotIn" => terms.push(Expr::NotIn(label, values)),
            "Exists" => terms.push(Expr::Has(label)),
            "DoesNotExist" => terms.push(Expr::Not(Box::new(Expr::Has(label)))),
            other => {
                term.problem("operator", format!("found {other:?}"), "In, NotIn, Exists or DoesNotExist");
            }
        }
        part.absorb(term.finish());
    }
    fields.absorb(part.finish());
    Some(terms)
}

fn take_rules(fields: &mut Fields<'_>, direction: PolicyType) -> Vec<Rule> {
    let (list, peers) = match direction {
        PolicyType::Ingress => ("ingress", "from"),
        PolicyType::Egress => ("egress", "to"),
    };
    let mut out = Vec::new();
    for mut rule in fields.mappings(list) {
        let ports = take_ports(&mut rule);
        let mut far: Vec<EntityRule> =
            rule.mappings(peers).into_iter().map(|peer| take_peer(&mut rule, peer)).collect();
        if far.is_empty() {
            far.push(EntityRule::default());
        }
        for (protocol, ports) in ports {
            for entity in &far {
                let mut made = Rule::new(Action::Allow);
                made.protocol = protocol;
                match direction {
                    PolicyType::Ingress => made.source = entity.clone(),
                    PolicyType::Egress => made.destination = entity.clone(),
                }
                made.destination.ports.clone_from(&ports);
                out.push(made);
            }
        }
        fields.absorb(rule.finish());
    }
    out
}

/// Takes the ports of a rule, by protocol. No protocol: any packet; no ports: any of the protocol.
fn take_ports(rule: &mut Fields<'_>) -> Vec<(Option<Protocol>, Vec<Port>)> {
    let mut out: Vec<(Protocol, Option<Vec<Port>>)> = Vec::new();
    for mut entry in rule.mappings("ports") {
        let words = [("TCP", Protocol::TCP), ("UDP", Protocol::UDP), ("SCTP", Protocol::SCTP)];
        let protocol = entry.word("protocol", &words, Protocol::TCP);
        let port = entry.take("port").and_then(|value| {
            let found = Port::of(value).filter(|port| match port {
                Port::Range(first, last) => first == last,
                Port::Named(name) => is_port_name(name),
            });
            if found.is_none() {
                entry.problem("port", format!("found {}", show(value)), "a port from 1 to 65535, or a name");
            }
            found
        });
        let last = entry.number("endPort", 1..=65535).map(|port| port as u16);
        let port = match (port, last) {
            (Some(Port::Range(first, _)), Some(last)) if first <= last => Some(Port::Range(first, last)),
            (port, None) => port,
            (port, Some(_)) => {
                entry.problem("endPort", "needs a number not above it in port", "port as a number");
                port
            }
        };
        let at = out.iter().position(|(known, _)| *known == protocol).unwrap_or_else(|| {
            out.push((protocol, Some(Vec::new())));
            out.len() - 1
        });
        match (port, &mut out[at].1) {
            (Some(port), Some(ports)) => ports.push(port),
            // An entry without a port opens all of its protocol.
            (None, ports) => *ports = None,
            (Some(_), None) => {}
        }
        rule.absorb(entry.finish());
    }
    if out.is_empty() {
        return vec![(None, Vec::new())];
    }
    out.into_iter().map(|(protocol, ports)| (Some(protocol), ports.unwrap_or_default())).collect()
}

fn take_peer(rule: &mut Fields<'_>, mut peer: Fields<'_>) -> EntityRule {
    let mut entity = EntityRule::default();
    let block = peer.mapping("ipBlock", false);
    let pods = take_label_selector(&mut peer, "podSelector");
    let namespaces = take_label_selector(&mut peer, "namespaceSelector");
    match (block, pods.is_some() || namespaces.is_some()) {
        (Some(mut block), selects) => {
            const CIDR: &str = "a prefix such as 10.0.0.0/8";
            let net = block.parsed::<IpNet>("cidr", CIDR).map(|net| net.trunc());
            if net.is_none() && !block.has_problem("cidr") {
                block.problem("cidr", "is missing", CIDR);
            }
            let except: Vec<IpNet> = block.parsed_list("except", CIDR);
            entity.not_nets = except.iter().map(IpNet::trunc).collect();
            entity.nets = net.into_iter().collect();
            for (index, out) in entity.not_nets.iter().enumerate() {
                if net.is_some_and(|net| !net.contains(out) || net == *out) {
                    block.problem(&format!("except[{index}]"), format!("{out} is no part of cidr"), "a part");
                }
            }
            peer.absorb(block.finish());
            if selects {
                peer.problem("ipBlock", "stands beside a selector", "one of them");
            }
        }
        (None, true) => {
            let mut parts = vec![Expr::Equal(ORCHESTRATOR.to_owned(), "k8s".to_owned())];
            parts.extend(pods.unwrap_or_default());
            entity.selector = Some(all_of(parts));
            entity.namespace_selector = namespaces.map(all_of);
        }
        (None, false) => {
            peer.problem("podSelector", "the peer is empty", "podSelector, namespaceSelector or ipBlock");
        }
    }
    rule.absorb(peer.finish());
    entity
}
