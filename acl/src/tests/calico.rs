//! Calico's own policy-program tables (`tests/data/ORIGIN.md`): 99 policies, 595 packets, as they are
//! and behind 12,500 rules that match nothing.

use std::collections::HashMap;
use std::io::Read;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::world::World;
use crate::model::{IcmpMatch, Policy, PortSetId, Rule, RuleAction, Ruleset, SetId, Side, Tier, TierEnd};
use crate::oracle::Packet;
use crate::{ProgramId, RuleId};

pub(super) fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).expect("the file is whole");
    text
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn number<T: TryFrom<u64>>(value: &Value) -> Option<T> {
    value.as_u64().and_then(|number| T::try_from(number).ok())
}

fn protocol(value: &Value) -> Option<u8> {
    match value.as_str() {
        Some("tcp") => Some(6),
        Some("udp") => Some(17),
        Some(other) => panic!("protocol {other}"),
        None => number(value),
    }
}

/// The sets of one case.
struct Case<'a> {
    world: World,
    given: &'a Value,
    sets: HashMap<String, SetId>,
    port_sets: HashMap<String, PortSetId>,
    noise: usize,
}

impl Case<'_> {
    fn nets(&mut self, nets: &[Value]) -> Option<SetId> {
        if nets.is_empty() {
            return None;
        }
        let id = self.world.create_set();
        for net in nets {
            self.world.insert(id, net.as_str().expect("a prefix").parse().expect("a prefix"));
        }
        Some(id)
    }

    fn set(&mut self, name: &Value) -> SetId {
        let name = name.as_str().expect("a name").to_owned();
        if let Some(id) = self.sets.get(&name) {
            return *id;
        }
        let id = self.world.create_set();
        for member in list(&self.given["ipsets"], &name) {
            let net: IpNet = member.as_str().expect("a prefix").parse().expect("a prefix");
            self.world.insert(id, net);
        }
        self.sets.insert(name, id);
        id
    }

    fn port_set(&mut self, name: &Value) -> PortSetId {
        let name = name.as_str().expect("a name").to_owned();
        if let Some(id) = self.port_sets.get(&name) {
            return *id;
        }
        let id = self.world.create_port_set();
        for member in list(&self.given["ipsets"], &name) {
            let (net, port) = member.as_str().expect("a member").split_once(',').expect("address, port");
            let (protocol, port) = port.split_once(':').expect("protocol:port");
            let net: IpNet = net.parse().expect("a prefix");
            let protocol = if protocol == "tcp" { 6 } else { 17 };
            self.world.insert_port(id, (net.addr(), protocol, port.parse().expect("a port")));
        }
        self.port_sets.insert(name, id);
        id
    }

    fn side(&mut self, rule: &Value, end: &str) -> Side {
        let ports = |key: String| -> Vec<_> {
            let range = |port: &Value| {
                number::<u16>(&port["First"]).expect("a port")..=number::<u16>(&port["Last"]).expect("a port")
            };
            list(rule, &key).iter().map(range).collect()
        };
        let mut side = Side { ports: ports(format!("{end}Ports")), ..Side::default() };
        side.not_ports = ports(format!("Not{end}Ports"));
        side.all_of.extend(self.nets(list(rule, &format!("{end}Net"))));
        side.none_of.extend(self.nets(list(rule, &format!("Not{end}Net"))));
        for id in list(rule, &format!("{end}IpSetIds")) {
            side.all_of.push(self.set(id));
        }
        for id in list(rule, &format!("Not{end}IpSetIds")) {
            side.none_of.push(self.set(id));
        }
        for id in list(rule, &format!("{end}NamedPortIpSetIds")) {
            side.named_ports.push(self.port_set(id));
        }
        side
    }

    fn rule(&mut self, value: &Value) -> Rule {
        let rule = &value["Rule"];
        let icmp = |icmp: &Value| IcmpMatch { kind: number(&icmp["type"]), code: number(&icmp["code"]) };
        Rule {
            id: RuleId::NONE,
            action: match rule["Action"].as_str().expect("an action").to_lowercase().as_str() {
                "allow" => RuleAction::Allow,
                "deny" => RuleAction::Deny,
                "pass" => RuleAction::Pass,
                "log" => RuleAction::Log,
                other => panic!("action {other}"),
            },
            family: None,
            protocol: protocol(&rule["Protocol"]),
            not_protocol: protocol(&rule["NotProtocol"]),
            icmp: rule.get("Icmp").map(icmp),
            not_icmp: rule.get("NotIcmp").map(icmp),
            source: self.side(rule, "Src"),
            destination: self.side(rule, "Dst"),
        }
    }

    fn tiers(&mut self, tiers: &[Value]) -> Vec<Tier> {
        let mut out = Vec::new();
        for tier in tiers {
            let mut policies = Vec::new();
            for policy in list(tier, "Policies") {
                let rules = list(policy, "Rules").iter().map(|rule| self.rule(rule)).collect();
                policies.push(Policy { staged: false, end: RuleId::NONE, rules });
            }
            let end = match tier["EndAction"].as_str() {
                Some("TierEndPass" | "pass") => TierEnd::Pass,
                Some("TierEndDeny" | "deny") | None => TierEnd::Deny,
                Some(other) => panic!("end {other}"),
            };
            out.push(Tier { policies, end, end_id: RuleId(7) });
        }
        out
    }

    /// Compiles one list of tiers and profiles; `None` where the case has none.
    fn program(&mut self, tiers: &str, profiles: &str, closed: bool) -> Option<(ProgramId, Ruleset)> {
        let policy = &self.given["policy"];
        let mut tiers = self.tiers(list(policy, tiers));
        let mut profiles: Vec<Vec<Rule>> = list(policy, profiles)
            .iter()
            .map(|profile| list(profile, "Rules").iter().map(|rule| self.rule(rule)).collect())
            .collect();
        if tiers.is_empty() && profiles.is_empty() && !closed {
            return None;
        }
        if self.noise > 0 {
            let rules = self.noise_rules();
            let policy = Policy { staged: false, end: RuleId::NONE, rules };
            match tiers.iter_mut().find(|tier| !tier.policies.is_empty()) {
                Some(tier) => tier.policies.insert(0, policy),
                None => profiles.insert(0, policy.rules),
            }
        }
        let ruleset = Ruleset { tiers, profiles, no_match: closed.then_some(RuleId(9)) };
        Some((self.world.compile(&ruleset), ruleset))
    }

    /// Rules that match nothing that the tables send, each with a prefix of its own.
    fn noise_rules(&mut self) -> Vec<Rule> {
        (0..self.noise)
            .map(|at| {
                let mut rule = Rule::new(RuleId(100 + at as u32), RuleAction::Deny);
                let text = match at % 2 {
                    0 => format!("172.{}.{}.{}/32", 16 + at / 65536, at / 256 % 256, at % 256),
                    _ => format!("2001:db8::{at:x}/128"),
                };
                let id = self.world.create_set();
                self.world.insert(id, text.parse().expect("a prefix"));
                match at % 3 {
                    0 => rule.destination.all_of.push(id),
                    _ => rule.source.all_of.push(id),
                }
                rule
            })
            .collect()
    }
}

fn packet(value: &Value, before_nat: bool) -> Packet {
    let address =
        |key: &str| -> Option<IpAddr> { value[key].as_str().map(|text| text.parse().expect("an address")) };
    let translated = before_nat && value.get("pre_nat_dst").is_some();
    let (destination, port) = if translated { ("pre_nat_dst", "pre_nat_dport") } else { ("dst", "dport") };
    let pair = |first: &str, second: &str| Some((number(&value[first])?, number(&value[second])?));
    Packet {
        source: address("src").expect("a source"),
        destination: address(destination).expect("a destination"),
        protocol: number(&value["proto"]).expect("a protocol"),
        transport: pair("sport", port).or_else(|| pair("icmp_type", "icmp_code")),
    }
}

/// How Calico joins the programs of an interface; `None`: nothing has decided.
fn verdict(case: &Case<'_>, programs: &Programs, value: &Value) -> Option<bool> {
    let ask = |program: &Option<(ProgramId, Ruleset)>, before_nat| {
        let (id, ruleset) = program.as_ref()?;
        case.world.ask(*id, ruleset, &packet(value, before_nat)).allowed
    };
    let flag = |key: &str| case.given["policy"][key].as_bool() == Some(true);
    if flag("ForXDP") {
        return ask(&programs.normal, false);
    }
    let own = value["to_host"].as_bool() == Some(true) || value["from_host"].as_bool() == Some(true);
    let host = ask(&programs.pre_dnat, true).or_else(|| match own {
        true if flag("SuppressNormalHostPolicy") => None,
        true => ask(&programs.normal, false),
        false => ask(&programs.forward, false),
    });
    match (host, flag("ForHostInterface")) {
        (Some(false), _) => Some(false),
        (_, true) => Some(true),
        (_, false) => ask(&programs.workload, false),
    }
}

struct Programs {
    pre_dnat: Option<(ProgramId, Ruleset)>,
    forward: Option<(ProgramId, Ruleset)>,
    normal: Option<(ProgramId, Ruleset)>,
    workload: Option<(ProgramId, Ruleset)>,
}

fn check(noise: usize) {
    let text = unpacked(include_bytes!("../../tests/data/calico-polprog.json.gz"));
    let given: Value = serde_json::from_str(&text).expect("the file is JSON");
    let (mut cases, mut packets) = (0, 0);
    for given in given.as_array().expect("a list") {
        let world = World::new();
        let (sets, port_sets) = (HashMap::new(), HashMap::new());
        let mut case = Case { world, given, sets, port_sets, noise };
        let xdp = given["policy"]["ForXDP"].as_bool() == Some(true);
        let programs = Programs {
            pre_dnat: case.program("HostPreDnatTiers", "-", false),
            forward: case.program("HostForwardTiers", "-", false),
            normal: case.program("HostNormalTiers", "HostProfiles", !xdp),
            workload: case.program("Tiers", "Profiles", true),
        };
        case.world.settle();
        for (key, expected) in [("allow", Some(true)), ("deny", Some(false)), ("unmatched", None)] {
            for value in list(given, key) {
                assert_eq!(
                    verdict(&case, &programs, value),
                    expected,
                    "{} {}: {value}",
                    given["id"],
                    given["name"]
                );
                packets += 1;
            }
        }
        cases += 1;
    }
    assert_eq!((cases, packets), (99, 595));
}

#[test]
fn every_packet_of_the_tables() {
    check(0);
}

#[test]
fn every_packet_behind_12500_rules_that_match_nothing() {
    check(12_500);
}
