//! A rule of a resource as a rule in numbers.
//!
//! Each set that a rule names is asked for here and must be given back when nothing names it any more;
//! [`Translation`] holds both the rules and what is to be given back.
//!
//! A rule whose `nets` or `notNets` are all of one IP version is one of that version alone, as Calico's
//! Felix renders it: `notNets: [192.168.0.0/16]` says nothing of IPv6 packets, which the rule passes over.

use acl::model::{Family, IcmpMatch, PortSetId, Rule, RuleAction, SetId, Side};
use acl::{Engine, RuleId};
use api::{Action, EntityRule, Icmp, Port};
use ipnet::IpNet;

use super::labels::entity_selector;
use super::selector_sets::SelectorSets;
use super::services::Services;

/// Where sets come from.
pub struct Sources<'a, K> {
    /// Compiles and holds the sets.
    pub engine: &'a mut Engine,
    /// Sets of selectors and port names.
    pub selectors: &'a mut SelectorSets<K>,
    /// Sets of services.
    pub services: &'a mut Services,
}

/// Rules in numbers, and the sets that they name.
#[derive(Clone, Default, Debug)]
pub struct Translation {
    /// The rules, in order.
    pub rules: Vec<Rule>,
    selectors: Vec<SetId>,
    nets: Vec<SetId>,
    ports: Vec<PortSetId>,
    services: Vec<(String, String)>,
}

impl Translation {
    /// Translates rules of a policy in `namespace` (empty for a global one, and for profiles). `id`
    /// numbers the rule at an index.
    pub fn new<K: Ord + Clone>(
        rules: &[api::Rule],
        namespace: &str,
        mut id: impl FnMut(usize) -> RuleId,
        sources: &mut Sources<'_, K>,
    ) -> Self {
        let mut out = Translation::default();
        for (index, rule) in rules.iter().enumerate() {
            let mut made = Rule::new(
                id(index),
                match rule.action {
                    Action::Allow => RuleAction::Allow,
                    Action::Deny => RuleAction::Deny,
                    Action::Log => RuleAction::Log,
                    Action::Pass => RuleAction::Pass,
                },
            );
            made.family = family(rule);
            made.protocol = rule.protocol.map(|protocol| protocol.0);
            made.not_protocol = rule.not_protocol.map(|protocol| protocol.0);
            made.icmp = rule.icmp.map(icmp);
            made.not_icmp = rule.not_icmp.map(icmp);
            made.source = out.side(&rule.source, namespace, true, sources);
            made.destination = out.side(&rule.destination, namespace, false, sources);
            out.rules.push(made);
        }
        out
    }

    fn side<K: Ord + Clone>(
        &mut self,
        entity: &EntityRule,
        namespace: &str,
        is_source: bool,
        sources: &mut Sources<'_, K>,
    ) -> Side {
        let mut side = Side::default();
        if !entity.nets.is_empty() {
            let id = sources.engine.nets(&entity.nets);
            self.nets.push(id);
            side.all_of.push(id);
        }
        if !entity.not_nets.is_empty() {
            let id = sources.engine.nets(&entity.not_nets);
            self.nets.push(id);
            side.none_of.push(id);
        }
        if let Some(expr) = entity_selector(entity, namespace) {
            let id = sources.selectors.acquire(sources.engine, &expr);
            self.selectors.push(id);
            side.all_of.push(id);
        }
        if let Some(selector) = &entity.not_selector {
            let id = sources.selectors.acquire(sources.engine, selector.expr());
            self.selectors.push(id);
            side.none_of.push(id);
        }
        if let Some(service) = &entity.services {
            let namespace = if service.namespace.is_empty() { namespace } else { &service.namespace };
            let key = (namespace.to_owned(), service.name.clone());
            let (addresses, ports) = sources.services.acquire(sources.engine, &key);
            self.services.push(key);
            // As a source a service is its endpoints' addresses, whatever port they send from.
            if is_source {
                side.all_of.push(addresses);
            } else {
                side.service = Some(ports);
            }
        }
        (side.ports, side.named_ports) = self.ports(&entity.ports, sources);
        (side.not_ports, side.not_named_ports) = self.ports(&entity.not_ports, sources);
        side
    }

    fn ports<K: Ord + Clone>(
        &mut self,
        ports: &[Port],
        sources: &mut Sources<'_, K>,
    ) -> (Vec<core::ops::RangeInclusive<u16>>, Vec<PortSetId>) {
        let (mut ranges, mut named) = (Vec::new(), Vec::new());
        for port in ports {
            match port {
                Port::Range(first, last) => ranges.push(*first..=*last),
                Port::Named(name) => {
                    let id = sources.selectors.acquire_port(sources.engine, name);
                    self.ports.push(id);
                    named.push(id);
                }
            }
        }
        (ranges, named)
    }

    /// Gives all sets back. No program may name them any more.
    pub fn release<K: Ord + Clone>(self, sources: &mut Sources<'_, K>) {
        self.selectors.into_iter().for_each(|id| sources.selectors.release(sources.engine, id));
        self.nets.into_iter().for_each(|id| sources.engine.release_nets(id));
        self.ports.into_iter().for_each(|id| sources.selectors.release_port(sources.engine, id));
        self.services.iter().for_each(|key| sources.services.release(sources.engine, key));
    }
}

/// The IP version that a rule is held to: the one that it names, or that of a list of its prefixes. Lists
/// of both versions in one rule are refused where resources are read.
fn family(rule: &api::Rule) -> Option<Family> {
    let of = |v6: bool| if v6 { Family::V6 } else { Family::V4 };
    let of_list = |nets: &Vec<IpNet>| {
        let v6 = nets.first()?.addr().is_ipv6();
        nets.iter().all(|net| net.addr().is_ipv6() == v6).then(|| of(v6))
    };
    let (source, destination) = (&rule.source, &rule.destination);
    let lists = [&source.nets, &source.not_nets, &destination.nets, &destination.not_nets];
    rule.ip_version.map(|version| of(version == 6)).or_else(|| lists.into_iter().find_map(of_list))
}

fn icmp(icmp: Icmp) -> IcmpMatch {
    IcmpMatch { kind: icmp.kind, code: icmp.code }
}
