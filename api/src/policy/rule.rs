//! A rule of a policy or profile.
//!
//! All conditions of a rule hold together; within a list (`nets`, `ports`) one element is enough, and
//! of a negated list (`notNets`, `notPorts`) none may hold.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use serde_yaml_ng::Value;

use super::port::{Icmp, Port, Protocol};
use crate::fields::{Fields, show};
use crate::problem::Problem;
use crate::selector::{Expr, Selector};

/// What a rule does with packets that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Action {
    /// Let them pass.
    Allow,
    /// Drop them.
    Deny,
    /// Report them and ask the next rule.
    Log,
    /// Ask the next tier, or the profiles behind the last.
    Pass,
}

impl Action {
    /// The actions by name.
    pub const NAMES: [(&'static str, Action); 4] =
        [("Allow", Self::Allow), ("Deny", Self::Deny), ("Log", Self::Log), ("Pass", Self::Pass)];

    /// The action's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
            Self::Log => "Log",
            Self::Pass => "Pass",
        }
    }
}

/// Service accounts by name, by label, or both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ServiceAccountMatch {
    /// Names; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Labels of the service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
}

/// The endpoints of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceMatch {
    /// The service's name.
    pub name: String,
    /// Its namespace; empty in a namespaced policy: the policy's own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// One end of the packets that a rule matches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EntityRule {
    /// The address is in one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<IpNet>,
    /// The address is in none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_nets: Vec<IpNet>,
    /// The address is one of an endpoint or network set with such labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// The address is none of an endpoint or network set with such labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_selector: Option<Selector>,
    /// Narrows the selectors to namespaces with such labels; `global()`: to what has no namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// The endpoint runs as one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccountMatch>,
    /// The address (and, as a destination, the port) is one of this service's endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<ServiceMatch>,
    /// The port is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// The port is none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_ports: Vec<Port>,
}

impl EntityRule {
    fn is_empty(&self) -> bool {
        *self == EntityRule::default()
    }
}

/// Part of an HTTP match; see [`Http`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpPath {
    /// This very path.
    Exact(String),
    /// Paths that begin so.
    Prefix(String),
}

impl Serialize for HttpPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // As a map of one entry: YAML would write an enum's variant as a tag.
        let (key, path) = match self {
            HttpPath::Exact(path) => ("exact", path),
            HttpPath::Prefix(path) => ("prefix", path),
        };
        serializer.collect_map([(key, path)])
    }
}

/// What a rule asks of HTTP requests. It needs a proxy; a router enforces the rest of the rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Http {
    /// Methods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<HttpPath>,
}

/// Free notes on a rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RuleMetadata {
    /// The notes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// 4 or 6: packets of this version alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_version: Option<u8>,
    /// Packets of this protocol alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Packets of any other protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_protocol: Option<Protocol>,
    /// ICMP messages of this type and code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// ICMP messages of any other type and code.
    #[serde(rename = "notICMP", skip_serializing_if = "Option::is_none")]
    pub not_icmp: Option<Icmp>,
    /// Where packets come from.
    #[serde(skip_serializing_if = "EntityRule::is_empty")]
    pub source: EntityRule,
    /// Where packets go.
    #[serde(skip_serializing_if = "EntityRule::is_empty")]
    pub destination: EntityRule,
    /// What is asked of HTTP requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Free notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RuleMetadata>,
}

impl Rule {
    /// A rule without conditions.
    pub fn new(action: Action) -> Self {
        Rule {
            action,
            ip_version: None,
            protocol: None,
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            source: EntityRule::default(),
            destination: EntityRule::default(),
            http: None,
            metadata: None,
        }
    }

    /// Takes a list of rules.
    pub(crate) fn take_list(fields: &mut Fields<'_>, key: &'static str) -> Vec<Rule> {
        let mut out = Vec::new();
        for part in fields.mappings(key) {
            let (rule, problems) = Rule::read(part);
            fields.absorb(problems);
            out.push(rule);
        }
        out
    }

    fn read(mut fields: Fields<'_>) -> (Rule, Vec<Problem>) {
        let action = fields.word("action", &Action::NAMES, Action::Deny);
        if !fields.has("action") && !fields.has_problem("action") {
            fields.problem("action", "is missing", "Allow, Deny, Log or Pass");
        }
        let ip_version = fields.number("ipVersion", 4..=6).map(|version| version as u8);
        if ip_version == Some(5) {
            fields.problem("ipVersion", "found 5", "4 or 6");
        }
        let protocol = Protocol::take(&mut fields, "protocol");
        let not_protocol = Protocol::take(&mut fields, "notProtocol");
        let icmp = Icmp::take(&mut fields, "icmp");
        let not_icmp = Icmp::take(&mut fields, "notICMP");
        let source = read_entity(&mut fields, "source");
        let destination = read_entity(&mut fields, "destination");
        let http = read_http(&mut fields);
        let metadata = fields.mapping("metadata", false).map(|mut part| {
            let annotations = part.string_map("annotations");
            fields.absorb(part.finish());
            RuleMetadata { annotations }
        });
        let rule = Rule {
            action,
            ip_version,
            protocol,
            not_protocol,
            icmp,
            not_icmp,
            source,
            destination,
            http,
            metadata,
        };
        rule.check(&mut fields);
        (rule, fields.finish())
    }

    /// Conditions that exclude each other.
    fn check(&self, fields: &mut Fields<'_>) {
        let ends = [("source", &self.source), ("destination", &self.destination)];
        let ports_allowed = self.protocol.is_some_and(Protocol::has_ports);
        for (end, entity) in ends {
            for (list, ports) in [("ports", &entity.ports), ("notPorts", &entity.not_ports)] {
                if !ports.is_empty() && !ports_allowed && !fields.has_problem("protocol") {
                    fields.problem(
                        &format!("{end}.{list}"),
                        "ports are given without a protocol that has them",
                        "protocol TCP, UDP or SCTP beside them",
                    );
                }
            }
        }
        // Calico asks this of `icmp` alone; `notICMP` by itself means ICMP of any other type.
        let is_icmp = matches!(self.protocol, Some(Protocol::ICMP | Protocol::ICMPV6));
        if self.icmp.is_some() && !is_icmp && !fields.has_problem("protocol") {
            fields.problem("icmp", "is given without protocol ICMP or ICMPv6", "protocol ICMP or ICMPv6");
        }
        for (protocol, version) in [(Protocol::ICMP, 4), (Protocol::ICMPV6, 6)] {
            let named = self.protocol == Some(protocol) || self.not_protocol == Some(protocol);
            if named && self.ip_version.is_some_and(|found| found != version) {
                let found = self.ip_version.unwrap_or_default();
                fields.problem("ipVersion", format!("{found} beside {protocol}"), version.to_string());
            }
        }
        let families = |nets: &[IpNet]| {
            (nets.iter().any(|net| net.addr().is_ipv4()), nets.iter().any(|net| net.addr().is_ipv6()))
        };
        let (mut seen4, mut seen6) = (false, false);
        for (end, entity) in ends {
            for (list, nets) in [("nets", &entity.nets), ("notNets", &entity.not_nets)] {
                let (has4, has6) = families(nets);
                let key = format!("{end}.{list}");
                if (has4 && self.ip_version == Some(6)) || (has6 && self.ip_version == Some(4)) {
                    fields.problem(&key, "prefixes of the other IP version", "prefixes of ipVersion");
                }
                if (has4 && (seen6 || has6)) || (has6 && seen4) {
                    fields.problem(&key, "IPv4 and IPv6 prefixes in one rule", "one family");
                }
                (seen4, seen6) = (seen4 || has4, seen6 || has6);
                if let Some(net) = nets.iter().find(|net| list == "notNets" && net.prefix_len() == 0) {
                    fields.problem(&key, format!("{net} excludes every address"), "longer prefixes");
                }
            }
        }
        if self.http.is_some() {
            if self.action != Action::Allow {
                fields.problem("http", format!("beside action {}", self.action.as_str()), "action Allow");
            }
            if self.protocol.is_some_and(|protocol| protocol != Protocol::TCP) {
                fields.problem("protocol", "another protocol beside http", "TCP, or none");
            }
        }
    }
}

fn read_http(fields: &mut Fields<'_>) -> Option<Http> {
    const PATH: &str = "a path that begins with \"/\" and holds no \"?\", \"#\" or space";
    let mut part = fields.mapping("http", false)?;
    let methods: Vec<String> =
        part.strings("methods").unwrap_or_default().into_iter().map(str::to_owned).collect();
    let mut paths = Vec::new();
    for mut path in part.mappings("paths") {
        let (exact, prefix) = (path.string("exact"), path.string("prefix"));
        let found = match (exact, prefix) {
            (Some(exact), None) => Some(("exact", exact, HttpPath::Exact(exact.to_owned()))),
            (None, Some(prefix)) => Some(("prefix", prefix, HttpPath::Prefix(prefix.to_owned()))),
            _ => {
                path.problem("exact", "exact and prefix together, or neither", "one of them");
                None
            }
        };
        if let Some((key, text, found)) = found {
            if !text.starts_with('/') || text.contains(['?', '#', ' ']) {
                path.problem(key, format!("found {text:?}"), PATH);
            }
            paths.push(found);
        }
        part.absorb(path.finish());
    }
    for (index, method) in methods.iter().enumerate() {
        if methods[..index].contains(method) {
            part.problem(&format!("methods[{index}]"), format!("{method:?} is there twice"), "once");
        }
    }
    if methods.len() > 1 && methods.iter().any(|method| method == "*") {
        part.problem("methods", "\"*\" beside other methods", "\"*\" alone");
    }
    fields.absorb(part.finish());
    Some(Http { methods, paths })
}

fn read_entity(fields: &mut Fields<'_>, key: &'static str) -> EntityRule {
    let Some(mut part) = fields.mapping(key, false) else { return EntityRule::default() };
    let entity = EntityRule {
        nets: take_nets(&mut part, "nets"),
        not_nets: take_nets(&mut part, "notNets"),
        selector: take_selector(&mut part, "selector"),
        not_selector: take_selector(&mut part, "notSelector"),
        namespace_selector: take_namespace_selector(&mut part),
        service_accounts: part.mapping("serviceAccounts", false).map(|mut accounts| {
            let names =
                accounts.strings("names").unwrap_or_default().into_iter().map(str::to_owned).collect();
            let selector = take_selector(&mut accounts, "selector");
            part.absorb(accounts.finish());
            ServiceAccountMatch { names, selector }
        }),
        services: part.mapping("services", false).map(|mut service| {
            let name = service.string("name").unwrap_or_default().to_owned();
            if name.is_empty() && !service.has_problem("name") {
                service.problem("name", "is missing", "the name of a service");
            }
            let namespace = service.string("namespace").unwrap_or_default().to_owned();
            part.absorb(service.finish());
            ServiceMatch { name, namespace }
        }),
        ports: Port::take_list(&mut part, "ports"),
        not_ports: Port::take_list(&mut part, "notPorts"),
    };
    if entity.services.is_some() {
        let beside = [
            ("namespaceSelector", entity.namespace_selector.is_some()),
            ("selector", entity.selector.is_some()),
            ("notSelector", entity.not_selector.is_some()),
            ("serviceAccounts", entity.service_accounts.is_some()),
            ("nets", !entity.nets.is_empty()),
            ("notNets", !entity.not_nets.is_empty()),
            ("ports", key == "destination" && !entity.ports.is_empty()),
            ("notPorts", key == "destination" && !entity.not_ports.is_empty()),
        ];
        for (field, _) in beside.into_iter().filter(|(_, given)| *given) {
            part.problem(field, "stands beside services, which says all of the address", "one of them");
        }
    }
    fields.absorb(part.finish());
    entity
}

/// Takes prefixes. Bits behind the prefix are a fault, and so is an address without a length, as in Calico.
fn take_nets(fields: &mut Fields<'_>, key: &'static str) -> Vec<IpNet> {
    let nets: Vec<IpNet> = fields.parsed_list(key, "a prefix such as 10.0.0.0/8");
    for (index, net) in nets.iter().enumerate() {
        if net.trunc() != *net {
            let message = format!("{net} has bits set behind the prefix");
            fields.problem(&format!("{key}[{index}]"), message, net.trunc().to_string());
        }
    }
    nets
}

/// Takes a selector field; an empty text counts as absent. `global()` has no place in it.
pub(crate) fn take_selector(fields: &mut Fields<'_>, key: &'static str) -> Option<Selector> {
    let selector = take_any_selector(fields, key)?;
    if selector.expr().any(&|part| *part == Expr::Global) {
        fields.problem(key, "global() stands only in the namespaceSelector of a rule", "labels");
    }
    Some(selector)
}

fn take_any_selector(fields: &mut Fields<'_>, key: &'static str) -> Option<Selector> {
    let value = fields.take(key)?;
    let Value::String(text) = value else {
        fields.problem(key, format!("found {}", show(value)), "a selector");
        return None;
    };
    if text.is_empty() {
        return None;
    }
    match text.parse::<Selector>() {
        Ok(selector) => Some(selector),
        Err(error) => {
            fields.problem(key, format!("{text:?}: {error}"), "a selector such as app == 'web'");
            None
        }
    }
}

fn take_namespace_selector(fields: &mut Fields<'_>) -> Option<Selector> {
    const KEY: &str = "namespaceSelector";
    let selector = take_any_selector(fields, KEY)?;
    if *selector.expr() != Expr::Global && selector.expr().any(&|part| *part == Expr::Global) {
        fields.problem(KEY, "global() stands beside other terms", "global() alone");
    }
    Some(selector)
}
