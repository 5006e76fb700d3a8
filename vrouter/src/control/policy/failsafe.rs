//! Failsafe ports as rules: a tier of their own before those of a host endpoint.
//!
//! | direction | opens | of untracked connections also their answers |
//! |---|---|---|
//! | ingress | packets to an inbound port | packets from an outbound port |
//! | egress | packets to an outbound port | packets from an inbound port |

use acl::model::{Policy, Rule, RuleAction, SetId, Side, Tier, TierEnd};
use acl::{Direction, RuleId};
use api::FailsafePort;

use super::endpoint::Stage;
use super::rule_names::RuleName;
use super::world::PolicyWorld;

/// Calico's defaults, ingress first.
pub(super) fn defaults() -> [Vec<FailsafePort>; 2] {
    [FailsafePort::inbound(), FailsafePort::outbound()]
}

/// Which port of a packet a rule names.
#[derive(Clone, Copy)]
enum Names {
    /// That of the destination.
    Service,
    /// That of the source: the packet is an answer.
    Answer,
}

impl PolicyWorld {
    /// Sets the ports that are always open at host endpoints, inbound and outbound.
    pub fn set_failsafe(&mut self, ports: [Vec<FailsafePort>; 2]) {
        self.failsafe = ports;
        self.failsafe_version += 1;
        self.mark_hosts();
    }

    /// The ports that are always open at host endpoints, inbound and outbound.
    pub fn failsafe(&self) -> &[Vec<FailsafePort>; 2] {
        &self.failsafe
    }

    /// The tier that opens them; `None`: there are none. `nets` takes the sets that it holds.
    pub(super) fn failsafe_tier(
        &mut self,
        direction: Direction,
        stage: Stage,
        nets: &mut Vec<SetId>,
    ) -> Option<Tier> {
        let at = direction as usize;
        let mut ports: Vec<(FailsafePort, Names)> =
            self.failsafe[at].iter().map(|port| (*port, Names::Service)).collect();
        if stage == Stage::Untracked {
            // No connection tracker knows these answers.
            ports.extend(self.failsafe[1 - at].iter().map(|port| (*port, Names::Answer)));
        }
        if ports.is_empty() {
            return None;
        }
        let id = self.names.id(RuleName::Failsafe { direction });
        let rules = ports.iter().map(|(port, names)| self.failsafe_rule(id, direction, port, *names, nets));
        let policies = vec![Policy { staged: false, end: id, rules: rules.collect() }];
        Some(Tier { policies, end: TierEnd::Pass, end_id: id })
    }

    fn failsafe_rule(
        &mut self,
        id: RuleId,
        direction: Direction,
        port: &FailsafePort,
        names: Names,
        nets: &mut Vec<SetId>,
    ) -> Rule {
        let mut rule = Rule::new(id, RuleAction::Allow);
        rule.protocol = Some(port.protocol.0);
        let side = match names {
            Names::Service => &mut rule.destination,
            Names::Answer => &mut rule.source,
        };
        side.ports = vec![port.port..=port.port];
        if let Some(net) = &port.net {
            let set = self.engine.nets(std::slice::from_ref(net));
            nets.push(set);
            let other_end: &mut Side = match direction {
                Direction::Ingress => &mut rule.source,
                Direction::Egress => &mut rule.destination,
            };
            other_end.all_of.push(set);
        }
        rule
    }
}
