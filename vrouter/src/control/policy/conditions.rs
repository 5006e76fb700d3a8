//! What a rule asks for and what a packet has instead, for people.
//!
//! | condition that fails | asked for | found |
//! |---|---|---|
//! | protocol | `TCP` | `UDP` |
//! | ICMP | `type 8 code 0` | `type 0 code 0` |
//! | address | the selector or the prefixes of the set | the address, and the workload that has it |
//! | port | `80, 443, http` | `8080`, or `none`: a fragment, or a protocol without ports |
//!
//! A rule's conditions as a whole are shown in the fields in which it was written.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use acl::explain::Clause;
use acl::model::{Family, IcmpMatch, PortSetId, Rule, SetId, Side};
use api::Protocol;
use serde_json::Value;

use super::endpoint::policy_type;
use super::query::{Packet, Questions};
use super::rule_names::RuleName;
use super::world::{PolicyKey, PolicyWorld};

/// Members of a set that are shown.
const SHOWN: usize = 8;

/// The condition of a rule that does not hold for a packet.
pub(super) struct Failure {
    /// Which it is.
    pub(super) what: &'static str,
    /// What it asks for.
    pub(super) wanted: String,
    /// What the packet has.
    pub(super) found: String,
}

/// The conditions of a rule in the fields of its resource; `None`: it has none.
pub fn conditions(rule: &api::Rule) -> Option<Value> {
    let mut conditions = serde_json::to_value(rule).ok()?;
    let fields = conditions.as_object_mut()?;
    fields.remove("action");
    (!fields.is_empty()).then_some(conditions)
}

impl PolicyWorld {
    /// The rule of a name, as it was written; `None`: the name is that of an end or of failsafe ports.
    pub fn rule(&self, name: &RuleName) -> Option<&api::Rule> {
        match name {
            RuleName::Policy { kind, namespace, name, direction, index, .. } => {
                let key = PolicyKey { kind: *kind, namespace: namespace.clone(), name: name.clone() };
                self.policies.get(&key)?.spec.rules(policy_type(*direction)).get((*index)?)
            }
            RuleName::Profile { name, direction, index } => {
                let spec = &self.profiles.get(name)?.profile.spec;
                let rules = match direction {
                    acl::Direction::Ingress => &spec.ingress,
                    acl::Direction::Egress => &spec.egress,
                };
                rules.get(*index)
            }
            _ => None,
        }
    }
}

impl Questions<'_> {
    /// A condition of a rule that a packet fails, in words. `name` is the rule's.
    pub(super) fn failure(
        &self,
        clause: Clause,
        rule: &Rule,
        name: Option<&RuleName>,
        packet: &Packet,
    ) -> Failure {
        let protocol = |number: u8| Protocol(number).to_string();
        let but = |wanted: String| format!("any but {wanted}");
        let found_protocol = || protocol(packet.protocol);
        let written = name.and_then(|name| self.world.rule(name));
        let (what, wanted, found) = match clause {
            Clause::Family => {
                let v6 = packet.source.is_ipv6();
                ("the IP version", rule.family.map(version).unwrap_or_default(), version_of(v6))
            }
            Clause::Protocol => {
                ("the protocol", rule.protocol.map(protocol).unwrap_or_default(), found_protocol())
            }
            Clause::NotProtocol => {
                ("the protocol", but(rule.not_protocol.map(protocol).unwrap_or_default()), found_protocol())
            }
            Clause::Icmp => ("the ICMP type", rule.icmp.map(message).unwrap_or_default(), self.icmp(packet)),
            Clause::NotIcmp => {
                ("the ICMP type", but(rule.not_icmp.map(message).unwrap_or_default()), self.icmp(packet))
            }
            Clause::SourceSet(id) => ("the source", self.set(id), self.who(packet.source)),
            Clause::NotSourceSet(id) => ("the source", but(self.set(id)), self.who(packet.source)),
            Clause::DestinationSet(id) => ("the destination", self.set(id), self.who(packet.destination)),
            Clause::NotDestinationSet(id) => {
                ("the destination", but(self.set(id)), self.who(packet.destination))
            }
            Clause::SourcePort => ("the source port", self.ports(&rule.source), port(packet, false)),
            Clause::DestinationPort => {
                ("the destination port", self.ports(&rule.destination), port(packet, true))
            }
            Clause::Service => {
                let service = written.and_then(|rule| rule.destination.services.as_ref());
                let wanted = service.map(|service| match service.namespace.as_str() {
                    "" => format!("an endpoint of service {}", service.name),
                    namespace => format!("an endpoint of service {namespace}/{}", service.name),
                });
                let found = format!("{} port {}", self.who(packet.destination), port(packet, true));
                ("the destination", wanted.unwrap_or_default(), found)
            }
            _ => ("another condition", String::new(), String::new()),
        };
        Failure { what, wanted, found }
    }

    /// An address, and the workload that has it.
    fn who(&self, address: IpAddr) -> String {
        match self.workload(address) {
            Some(key) => format!("{address} ({key})"),
            None => address.to_string(),
        }
    }

    /// The selector that a set is of, or its first members.
    fn set(&self, id: SetId) -> String {
        if let Some(expr) = self.world.items().selector(id) {
            return api::Selector::of(expr.clone()).to_string();
        }
        let mut members = self.world.engine().members(id);
        let mut shown: Vec<String> = members.by_ref().take(SHOWN).map(|net| net.to_string()).collect();
        match members.count() {
            0 => {}
            more => shown.push(format!("and {more} more")),
        }
        shown.join(", ")
    }

    /// The ports that an end asks for and forbids.
    fn ports(&self, side: &Side) -> String {
        let list = |ranges: &[RangeInclusive<u16>], named: &[PortSetId]| {
            let range = |range: &RangeInclusive<u16>| match range.start() == range.end() {
                true => range.start().to_string(),
                false => format!("{}:{}", range.start(), range.end()),
            };
            let names = named.iter().filter_map(|id| self.world.items().port_name(*id));
            ranges.iter().map(range).chain(names.map(str::to_owned)).collect::<Vec<_>>().join(", ")
        };
        let wanted = list(&side.ports, &side.named_ports);
        let unwanted = list(&side.not_ports, &side.not_named_ports);
        match (wanted.is_empty(), unwanted.is_empty()) {
            (_, true) => wanted,
            (true, false) => format!("any but {unwanted}"),
            (false, false) => format!("{wanted} but not {unwanted}"),
        }
    }

    fn icmp(&self, packet: &Packet) -> String {
        let icmp = if packet.source.is_ipv4() { Protocol::ICMP } else { Protocol::ICMPV6 };
        match packet.transport.filter(|_| packet.protocol == icmp.0) {
            Some((kind, code)) => format!("type {kind} code {code}"),
            None => "none".to_owned(),
        }
    }
}

fn version(family: Family) -> String {
    version_of(family == Family::V6)
}

fn version_of(v6: bool) -> String {
    if v6 { "IPv6" } else { "IPv4" }.to_owned()
}

/// An ICMP type and code that a rule names.
fn message(wanted: IcmpMatch) -> String {
    match (wanted.kind, wanted.code) {
        (None, _) => "any type".to_owned(),
        (Some(kind), None) => format!("type {kind}"),
        (Some(kind), Some(code)) => format!("type {kind} code {code}"),
    }
}

/// The port of a packet.
fn port(packet: &Packet, destination: bool) -> String {
    match packet.transport.filter(|_| acl::model::has_ports(packet.protocol)) {
        Some((source, to)) => if destination { to } else { source }.to_string(),
        None => "none".to_owned(),
    }
}
