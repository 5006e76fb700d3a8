//! Why a packet has its verdict: every rule that was asked, and what each said.
//!
//! It reads what the packet path reads, the classes of the addresses, and beside them the rule set that
//! the program was compiled from. The verdict is the program's own; that the steps lead to it is tested.

use crate::engine::Engine;
use crate::headers::Headers;
use crate::model::{Family, IcmpMatch, PortSetId, Rule, RuleAction, SetId, Side, TierEnd, has_ports};
use crate::rule::{Action, RuleId, Verdict};
use crate::sets::Class;
use crate::{Program, ProgramId};

/// A condition of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Clause {
    /// The IP version.
    Family,
    /// The protocol.
    Protocol,
    /// The protocol that the rule excludes.
    NotProtocol,
    /// The ICMP type and code, or that there are any.
    Icmp,
    /// The ICMP type and code that the rule excludes.
    NotIcmp,
    /// The source address is not in this set, which it must be in.
    SourceSet(SetId),
    /// The source address is in this set, which it must not be in.
    NotSourceSet(SetId),
    /// The source port, or that there is any.
    SourcePort,
    /// The destination address is not in this set, which it must be in.
    DestinationSet(SetId),
    /// The destination address is in this set, which it must not be in.
    NotDestinationSet(SetId),
    /// The destination port, or that there is any.
    DestinationPort,
    /// Address and port are no endpoint of the service.
    Service,
}

/// Where a rule stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In a tier's policy, both by their place in the rule set.
    Policy {
        /// The tier.
        tier: usize,
        /// The policy in the tier.
        policy: usize,
        /// It is not enforced.
        staged: bool,
    },
    /// In a profile, by its place.
    Profile(usize),
}

/// A rule that was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Its number.
    pub rule: RuleId,
    /// Where it stands.
    pub place: Place,
    /// Its number in the policy or profile, from 0.
    pub index: usize,
    /// What it did, or the first of its conditions that does not hold.
    pub said: Result<RuleAction, Clause>,
}

/// A packet's way through a rule set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The rules that were asked, in order.
    pub steps: Vec<Step>,
    /// The verdict; `None`: nothing has decided.
    pub verdict: Option<Verdict>,
}

/// One packet, as rules are compared with it.
struct Packet<'a> {
    family: Family,
    classes: [&'a Class; 2],
    protocol: u8,
    ports: Option<[u16; 2]>,
    icmp: Option<(u8, u8)>,
}

impl Engine {
    /// Explains what a program says of one packet. `None`: there is no such program, or a class in the
    /// headers is none of this engine's.
    pub fn explain(&self, id: ProgramId, headers: &Headers, lane: usize) -> Option<Explanation> {
        let (program, ruleset) = (self.program(id)?, self.ruleset(id)?);
        let family = if headers.v6 >> lane & 1 == 1 { Family::V6 } else { Family::V4 };
        let class = |class: u32| self.class(class);
        let transport = headers.transport >> lane & 1 == 1;
        let protocol = headers.protocol[lane];
        let ports = [headers.source_port[lane], headers.destination_port[lane]];
        let [kind, code] = headers.destination_port[lane].to_be_bytes();
        let packet = Packet {
            family,
            classes: [class(headers.source_class[lane])?, class(headers.destination_class[lane])?],
            protocol,
            ports: Some(ports).filter(|_| transport && has_ports(protocol)),
            icmp: Some((kind, code)).filter(|_| transport && protocol == family.icmp()),
        };
        let mut steps = Vec::new();
        let mut ask = |(index, rule): (usize, &Rule), place: Place| {
            let said = self.first_failing(rule, &packet).map_or(Ok(rule.action), Err);
            steps.push(Step { rule: rule.id, place, index, said });
            said.ok().filter(|action| *action != RuleAction::Log)
        };
        let mut decided = false;
        'tiers: for (at, tier) in ruleset.tiers.iter().enumerate() {
            for (number, policy) in tier.policies.iter().enumerate() {
                let place = Place::Policy { tier: at, policy: number, staged: policy.staged };
                let action = policy.rules.iter().enumerate().find_map(|rule| ask(rule, place));
                match action.filter(|_| !policy.staged) {
                    Some(RuleAction::Pass) => continue 'tiers,
                    Some(_) => {
                        decided = true;
                        break 'tiers;
                    }
                    None => {}
                }
            }
            if tier.end == TierEnd::Deny && tier.policies.iter().any(|policy| !policy.staged) {
                decided = true;
                break;
            }
        }
        for (at, profile) in ruleset.profiles.iter().enumerate().filter(|_| !decided) {
            let action = profile.iter().enumerate().find_map(|rule| ask(rule, Place::Profile(at)));
            if action.is_some_and(|action| action != RuleAction::Pass) {
                break;
            }
        }
        Some(Explanation { steps, verdict: verdict(program, headers, lane) })
    }

    /// The rule that a step of a program's explanation is about.
    pub fn rule_of(&self, id: ProgramId, step: &Step) -> Option<&Rule> {
        let ruleset = self.ruleset(id)?;
        let rules = match step.place {
            Place::Policy { tier, policy, .. } => &ruleset.tiers.get(tier)?.policies.get(policy)?.rules,
            Place::Profile(at) => ruleset.profiles.get(at)?,
        };
        rules.get(step.index)
    }

    fn first_failing(&self, rule: &Rule, packet: &Packet<'_>) -> Option<Clause> {
        let is = |wanted: IcmpMatch, (kind, code): (u8, u8)| {
            wanted.kind.is_none_or(|wanted| wanted == kind) && wanted.code.is_none_or(|wanted| wanted == code)
        };
        if rule.family.is_some_and(|family| family != packet.family) {
            return Some(Clause::Family);
        }
        if rule.protocol.is_some_and(|protocol| protocol != packet.protocol) {
            return Some(Clause::Protocol);
        }
        if rule.not_protocol == Some(packet.protocol) {
            return Some(Clause::NotProtocol);
        }
        if rule.icmp.is_some_and(|wanted| packet.icmp.is_none_or(|found| !is(wanted, found))) {
            return Some(Clause::Icmp);
        }
        if rule.not_icmp.is_some_and(|unwanted| packet.icmp.is_none_or(|found| is(unwanted, found))) {
            return Some(Clause::NotIcmp);
        }
        self.failing_side(&rule.source, packet, 0).or_else(|| self.failing_side(&rule.destination, packet, 1))
    }

    fn failing_side(&self, side: &Side, packet: &Packet<'_>, end: usize) -> Option<Clause> {
        let class = packet.classes[end];
        let holds = |id: &SetId| class.sets.binary_search(id).is_ok() || self.is_whole(*id, packet.family);
        let named = |id: &PortSetId| {
            let port = packet.ports.map(|ports| ports[end]);
            let groups = self.groups_of(*id);
            groups.iter().any(|(protocol, number, set)| {
                *protocol == packet.protocol && Some(*number) == port && holds(set)
            })
        };
        let pick = |source: Clause, destination: Clause| if end == 0 { source } else { destination };
        if let Some(id) = side.all_of.iter().find(|id| !holds(id)) {
            return Some(pick(Clause::SourceSet(*id), Clause::DestinationSet(*id)));
        }
        if let Some(id) = side.none_of.iter().find(|id| holds(id)) {
            return Some(pick(Clause::NotSourceSet(*id), Clause::NotDestinationSet(*id)));
        }
        let listed = |ranges: &[core::ops::RangeInclusive<u16>]| {
            packet.ports.is_some_and(|ports| ranges.iter().any(|range| range.contains(&ports[end])))
        };
        let asks = !side.ports.is_empty() || !side.named_ports.is_empty();
        let forbids = !side.not_ports.is_empty() || !side.not_named_ports.is_empty();
        let missing = asks && !listed(&side.ports) && !side.named_ports.iter().any(named);
        let forbidden = forbids
            && (packet.ports.is_none() || listed(&side.not_ports) || side.not_named_ports.iter().any(named));
        if missing || forbidden {
            return Some(pick(Clause::SourcePort, Clause::DestinationPort));
        }
        side.service.filter(|id| !named(id)).map(|_| Clause::Service)
    }
}

fn verdict(program: &Program, headers: &Headers, lane: usize) -> Option<Verdict> {
    let mut verdicts = [Verdict { action: Action::Deny, rule: RuleId::NONE }; 64];
    let decided = program.decide(headers, 1 << lane, &mut verdicts);
    (decided.open == 0).then_some(verdicts[lane])
}
