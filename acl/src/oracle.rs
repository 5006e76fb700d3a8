//! The plain interpreter: every rule in turn, every condition as it is written.
//!
//! Slow, short, and without a line in common with the compiled form, which it decides about in tests.
//! Sets are lists of prefixes, searched from end to end.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Family, IcmpMatch, PortSetId, Rule, RuleAction, Ruleset, SetId, Side, TierEnd};
use crate::rule::RuleId;

/// A packet's headers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Ports, or type and code of an ICMP message; `None` where there are none to be seen.
    pub transport: Option<(u16, u16)>,
}

/// What sets hold.
#[derive(Clone, Default, Debug)]
pub struct Members {
    /// Address sets.
    pub sets: HashMap<SetId, Vec<IpNet>>,
    /// Port sets: address, protocol and port.
    pub port_sets: HashMap<PortSetId, Vec<(IpAddr, u8, u16)>>,
}

/// What became of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Allowed, denied, or left open.
    pub allowed: Option<bool>,
    /// The rule or end that decided; [`RuleId::NONE`] where it is left open.
    pub rule: RuleId,
    /// Log rules met before.
    pub logged: Vec<RuleId>,
    /// Staged policies met before, each with the rule that decided in it, or its end.
    pub staged: Vec<RuleId>,
}

/// Asks every rule in turn.
pub fn decide(ruleset: &Ruleset, members: &Members, packet: &Packet) -> Told {
    let mut told = Told { allowed: None, rule: RuleId::NONE, logged: Vec::new(), staged: Vec::new() };
    'tiers: for tier in &ruleset.tiers {
        for policy in &tier.policies {
            let mut staged = policy.end;
            for rule in policy.rules.iter().filter(|rule| rule_matches(rule, members, packet)) {
                if policy.staged {
                    if rule.action == RuleAction::Log {
                        continue;
                    }
                    staged = rule.id;
                    break;
                }
                match rule.action {
                    RuleAction::Log => told.logged.push(rule.id),
                    RuleAction::Pass => continue 'tiers,
                    RuleAction::Allow | RuleAction::Deny => {
                        told.allowed = Some(rule.action == RuleAction::Allow);
                        told.rule = rule.id;
                        return told;
                    }
                }
            }
            if policy.staged {
                told.staged.push(staged);
            }
        }
        if tier.end == TierEnd::Deny && tier.policies.iter().any(|policy| !policy.staged) {
            told.allowed = Some(false);
            told.rule = tier.end_id;
            return told;
        }
    }
    for profile in &ruleset.profiles {
        for rule in profile.iter().filter(|rule| rule_matches(rule, members, packet)) {
            match rule.action {
                RuleAction::Log => told.logged.push(rule.id),
                RuleAction::Pass => break,
                RuleAction::Allow | RuleAction::Deny => {
                    told.allowed = Some(rule.action == RuleAction::Allow);
                    told.rule = rule.id;
                    return told;
                }
            }
        }
    }
    if let Some(rule) = ruleset.no_match {
        told.allowed = Some(false);
        told.rule = rule;
    }
    told
}

/// Whether every condition of a rule holds.
pub fn rule_matches(rule: &Rule, members: &Members, packet: &Packet) -> bool {
    let family = if packet.source.is_ipv4() { Family::V4 } else { Family::V6 };
    let ports = packet.transport.filter(|_| matches!(packet.protocol, 6 | 17 | 132));
    let icmp = packet.transport.filter(|_| packet.protocol == if packet.source.is_ipv4() { 1 } else { 58 });
    let is = |wanted: &IcmpMatch, (kind, code): (u16, u16)| {
        wanted.kind.is_none_or(|wanted| u16::from(wanted) == kind)
            && wanted.code.is_none_or(|wanted| u16::from(wanted) == code)
    };
    rule.family.is_none_or(|wanted| wanted == family)
        && rule.protocol.is_none_or(|wanted| wanted == packet.protocol)
        && rule.not_protocol.is_none_or(|unwanted| unwanted != packet.protocol)
        && rule.icmp.as_ref().is_none_or(|wanted| icmp.is_some_and(|found| is(wanted, found)))
        && rule.not_icmp.as_ref().is_none_or(|unwanted| icmp.is_some_and(|found| !is(unwanted, found)))
        && side_matches(&rule.source, members, packet, packet.source, ports.map(|ports| ports.0))
        && side_matches(&rule.destination, members, packet, packet.destination, ports.map(|ports| ports.1))
}

fn side_matches(side: &Side, members: &Members, packet: &Packet, address: IpAddr, port: Option<u16>) -> bool {
    let holds =
        |id: &SetId| members.sets.get(id).is_some_and(|nets| nets.iter().any(|net| net.contains(&address)));
    let named = |id: &PortSetId| {
        let found = |port| {
            members.port_sets.get(id).is_some_and(|set| set.contains(&(address, packet.protocol, port)))
        };
        port.is_some_and(found)
    };
    let wants_port = !side.ports.is_empty() || !side.named_ports.is_empty();
    let forbids_port = !side.not_ports.is_empty() || !side.not_named_ports.is_empty();
    let in_any = |ranges: &[core::ops::RangeInclusive<u16>]| {
        port.is_some_and(|port| ranges.iter().any(|range| range.contains(&port)))
    };
    side.all_of.iter().all(holds)
        && !side.none_of.iter().any(holds)
        && (!wants_port || in_any(&side.ports) || side.named_ports.iter().any(named))
        && (!forbids_port
            || (port.is_some() && !in_any(&side.not_ports) && !side.not_named_ports.iter().any(named)))
        && side.service.as_ref().is_none_or(named)
}
