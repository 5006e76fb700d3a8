//! Compiled policy against the plain interpreter: a script of sets, a rule set, packets and changes.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use acl::model::{
    Family, IcmpMatch, Policy, PortSetId, Rule, RuleAction, Ruleset, SetId, Side, Tier, TierEnd,
};
use acl::oracle::{Members, Packet, Told, decide};
use acl::{Action, Engine, Headers, Note, ProgramId, RuleId, Verdict};
use ipnet::IpNet;

use super::script::Script;

const SETS: usize = 4;
const PORT_SETS: usize = 2;
const PROTOCOLS: [u8; 7] = [6, 17, 132, 1, 58, 136, 0];
const PORTS: [u16; 6] = [0, 53, 79, 80, 81, 65535];

/// The engine, and the same told to the interpreter.
struct World {
    engine: Engine,
    members: Members,
    sets: Vec<SetId>,
    port_sets: Vec<PortSetId>,
}

/// What the script says next; zeros behind its end.
struct Choice<'a>(Script<'a>);

impl Choice<'_> {
    fn below(&mut self, n: usize) -> usize {
        usize::from(self.0.byte().unwrap_or(0)) % n
    }

    fn is_over(&self) -> bool {
        self.0.0.is_empty()
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn address(&mut self) -> IpAddr {
        let low = self.of(&[0, 1, 2, 3, 0x8000, 0xff_ffff]);
        match self.below(3) {
            0 => Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(low) << 40 | u128::from(low)).into(),
            _ => Ipv4Addr::from(0x0a00_0000 | low).into(),
        }
    }

    fn net(&mut self) -> IpNet {
        let address = self.address();
        let most: u8 = if address.is_ipv4() { 32 } else { 128 };
        let length = self.of(&[most, most, most - 1, most - 2, 24, 8, 0]).min(most);
        IpNet::new(address, length).map_or_else(|_| address.into(), |net| net.trunc())
    }

    fn ranges(&mut self) -> Vec<RangeInclusive<u16>> {
        let count = self.below(4).saturating_sub(2);
        let mut range = || {
            let (one, other) = (self.of(&PORTS), self.of(&PORTS));
            one.min(other)..=one.max(other)
        };
        (0..count).map(|_| range()).collect()
    }

    fn some<T: Copy>(&mut self, list: &[T], one_in: usize) -> Option<T> {
        (self.below(one_in) == 1).then(|| self.of(list))
    }

    fn side(&mut self, world: &World) -> Side {
        Side {
            all_of: self.some(&world.sets, 3).into_iter().collect(),
            none_of: self.some(&world.sets, 4).into_iter().collect(),
            ports: self.ranges(),
            named_ports: self.some(&world.port_sets, 6).into_iter().collect(),
            not_ports: self.ranges(),
            not_named_ports: self.some(&world.port_sets, 8).into_iter().collect(),
            service: self.some(&world.port_sets, 8),
        }
    }

    fn icmp(&mut self) -> Option<IcmpMatch> {
        let small = [None, Some(0), Some(1), Some(2)];
        (self.below(5) == 1).then(|| IcmpMatch { kind: self.of(&small), code: self.of(&small) })
    }

    fn rule(&mut self, world: &World, id: RuleId) -> Rule {
        let actions = [RuleAction::Allow, RuleAction::Deny, RuleAction::Pass, RuleAction::Log];
        let mut rule = Rule::new(id, self.of(&actions));
        rule.family = self.some(&Family::ALL, 5);
        rule.protocol = self.some(&PROTOCOLS, 2);
        rule.not_protocol = self.some(&PROTOCOLS, 5);
        (rule.icmp, rule.not_icmp) = (self.icmp(), self.icmp());
        (rule.source, rule.destination) = (self.side(world), self.side(world));
        rule
    }

    fn ruleset(&mut self, world: &World) -> Ruleset {
        let mut last = 1;
        let mut id = || {
            last += 1;
            RuleId(last)
        };
        let tiers = (0..self.below(4)).map(|_| {
            let policies = (0..self.below(4)).map(|_| {
                let (staged, count) = (self.below(4) == 1, self.below(4));
                let end = id();
                Policy { staged, end, rules: (0..count).map(|_| self.rule(world, id())).collect() }
            });
            let policies = policies.collect();
            let end = if self.below(2) == 0 { TierEnd::Deny } else { TierEnd::Pass };
            Tier { policies, end, end_id: id() }
        });
        let tiers = tiers.collect();
        let profiles = (0..self.below(3))
            .map(|_| (0..self.below(3)).map(|_| self.rule(world, id())).collect::<Vec<_>>())
            .collect();
        Ruleset { tiers, profiles, no_match: (self.below(2) == 0).then_some(RuleId(1)) }
    }

    fn packet(&mut self) -> Option<Packet> {
        let (source, destination) = (self.address(), self.address());
        let protocol = self.of(&PROTOCOLS);
        let transport = (self.below(5) != 1).then(|| match protocol {
            1 | 58 => (self.below(4) as u16, self.below(3) as u16),
            _ => (self.of(&PORTS), self.of(&PORTS)),
        });
        let one_family = source.is_ipv4() == destination.is_ipv4();
        one_family.then_some(Packet { source, destination, protocol, transport })
    }
}

impl World {
    fn new() -> Self {
        let mut engine = Engine::new();
        let sets = (0..SETS).map(|_| engine.create_set()).collect();
        let port_sets = (0..PORT_SETS).map(|_| engine.create_port_set()).collect();
        World { engine, members: Members::default(), sets, port_sets }
    }

    fn change(&mut self, choice: &mut Choice<'_>) {
        if choice.below(4) == 3 {
            let id = choice.of(&self.port_sets);
            let member = (choice.address(), choice.of(&PROTOCOLS[..3]), choice.of(&PORTS));
            let list = self.members.port_sets.entry(id).or_default();
            if choice.below(3) > 0 {
                self.engine.insert_port(id, member.0, member.1, member.2);
                list.push(member);
            } else if let Some(at) = list.iter().position(|known| *known == member) {
                self.engine.remove_port(id, member.0, member.1, member.2);
                list.swap_remove(at);
            }
            return;
        }
        let (id, net) = (choice.of(&self.sets), choice.net());
        let list = self.members.sets.entry(id).or_default();
        if choice.below(3) > 0 {
            self.engine.insert(id, net);
            list.push(net);
        } else {
            self.engine.remove(id, net);
            if let Some(at) = list.iter().position(|known| *known == net) {
                list.swap_remove(at);
            }
        }
    }

    fn settle(&mut self) {
        self.engine.publish();
        self.engine.settle();
    }

    fn ask(&self, program: ProgramId, packet: &Packet) -> Told {
        let class = |address: IpAddr| match address {
            IpAddr::V4(address) => self.engine.trie(Family::V4).lookup4(address.into()),
            IpAddr::V6(address) => self.engine.trie(Family::V6).lookup6(address.into()),
        };
        let classes = (class(packet.source), class(packet.destination));
        let (mut headers, lane) = (Headers::new(), 5);
        headers.set(lane, packet.source.is_ipv6(), classes, packet.protocol, packet.transport);
        let mut verdicts = [Verdict { action: Action::Deny, rule: RuleId::NONE }; 64];
        let program = self.engine.program(program).expect("it was compiled");
        let decided = program.decide(&headers, 1 << lane, &mut verdicts);
        let mut told = Told { allowed: None, rule: verdicts[lane].rule, logged: vec![], staged: vec![] };
        if decided.open == 0 {
            told.allowed = Some(verdicts[lane].action == Action::Allow);
        }
        program.notes(&headers, lane, &mut |note| match note {
            Note::Logged(rule) => told.logged.push(rule),
            Note::Staged(rule) => told.staged.push(rule),
        });
        told
    }
}

/// Runs a script; both must say the same of every packet, after every change.
pub fn run(data: &[u8]) {
    let mut choice = Choice(Script(data));
    let mut world = World::new();
    for _ in 0..choice.below(16) {
        world.change(&mut choice);
    }
    let ruleset = choice.ruleset(&world);
    let program = world.engine.compile(ruleset.clone()).expect("there are few ports");
    world.settle();
    while !choice.is_over() {
        match choice.below(4) {
            0 => {
                world.change(&mut choice);
                world.settle();
            }
            _ => {
                let Some(packet) = choice.packet() else { continue };
                let expected = decide(&ruleset, &world.members, &packet);
                assert_eq!(world.ask(program, &packet), expected, "{packet:?} under {ruleset:#?}");
            }
        }
    }
}
