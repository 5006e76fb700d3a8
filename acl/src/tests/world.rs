//! A world that is told to the engine and to the interpreter alike.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::engine::rules_of;
use crate::explain::Place;
use crate::model::{Family, PortSetId, RuleAction, Ruleset, SetId};
use crate::oracle::{self, Members, Packet, Told};
use crate::{Action, Engine, Headers, Note, Program, ProgramId, RuleId, Verdict};

/// The engine, with and without decision tables, and the same for the interpreter.
pub(super) struct World {
    pub(super) engines: Vec<Engine>,
    pub(super) members: Members,
}

impl World {
    pub(super) fn new() -> Self {
        World { engines: vec![Engine::new(), Engine::without_cells()], members: Members::default() }
    }

    /// A world of the usual engine alone.
    pub(super) fn of_cells() -> Self {
        World { engines: vec![Engine::new()], members: Members::default() }
    }

    fn both<T: PartialEq + std::fmt::Debug + Copy>(&mut self, mut act: impl FnMut(&mut Engine) -> T) -> T {
        let answers: Vec<T> = self.engines.iter_mut().map(&mut act).collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        answers[0]
    }

    pub(super) fn create_set(&mut self) -> SetId {
        let id = self.both(Engine::create_set);
        self.members.sets.insert(id, Vec::new());
        id
    }

    pub(super) fn insert(&mut self, id: SetId, net: IpNet) {
        self.both(|engine| engine.insert(id, net));
        self.members.sets.entry(id).or_default().push(net);
    }

    pub(super) fn remove(&mut self, id: SetId, net: IpNet) {
        self.both(|engine| engine.remove(id, net));
        let list = self.members.sets.entry(id).or_default();
        if let Some(at) = list.iter().position(|member| member.trunc() == net.trunc()) {
            list.swap_remove(at);
        }
    }

    pub(super) fn create_port_set(&mut self) -> PortSetId {
        let id = self.both(Engine::create_port_set);
        self.members.port_sets.insert(id, Vec::new());
        id
    }

    pub(super) fn insert_port(&mut self, id: PortSetId, member: (IpAddr, u8, u16)) {
        self.both(|engine| engine.insert_port(id, member.0, member.1, member.2));
        self.members.port_sets.entry(id).or_default().push(member);
    }

    pub(super) fn remove_port(&mut self, id: PortSetId, member: (IpAddr, u8, u16)) {
        let list = self.members.port_sets.entry(id).or_default();
        let Some(at) = list.iter().position(|known| *known == member) else { return };
        list.swap_remove(at);
        self.both(|engine| engine.remove_port(id, member.0, member.1, member.2));
    }

    pub(super) fn compile(&mut self, ruleset: &Ruleset) -> ProgramId {
        self.both(|engine| engine.compile(ruleset.clone()).expect("few ports"))
    }

    pub(super) fn settle(&mut self) {
        for engine in &mut self.engines {
            engine.publish();
            engine.settle();
            assert!(engine.is_settled());
        }
    }

    /// The packet's headers as the packet path has them.
    fn headers(engine: &Engine, packet: &Packet, lane: usize) -> Headers {
        let mut headers = Headers::new();
        let class = |address: IpAddr| match address {
            IpAddr::V4(address) => engine.trie(Family::V4).lookup4(address.into()),
            IpAddr::V6(address) => engine.trie(Family::V6).lookup6(address.into()),
        };
        let classes = (class(packet.source), class(packet.destination));
        headers.set(lane, packet.source.is_ipv6(), classes, packet.protocol, packet.transport);
        headers
    }

    fn told(engine: &Engine, program: &Arc<Program>, packet: &Packet) -> Told {
        let lane = usize::from(packet.protocol) % 64;
        let headers = Self::headers(engine, packet, lane);
        let mut verdicts = [Verdict { action: Action::Deny, rule: RuleId::NONE }; 64];
        let decided = program.decide(&headers, 1 << lane, &mut verdicts);
        assert_eq!(decided.allowed | decided.denied | decided.open, 1 << lane);
        let mut told = Told { allowed: None, rule: verdicts[lane].rule, logged: vec![], staged: vec![] };
        if decided.open == 0 {
            told.allowed = Some(verdicts[lane].action == Action::Allow);
            assert_eq!(decided.allowed != 0, verdicts[lane].action == Action::Allow);
        }
        program.notes(&headers, lane, &mut |note| match note {
            Note::Logged(rule) => told.logged.push(rule),
            Note::Staged(rule) => told.staged.push(rule),
        });
        assert_eq!(decided.noted != 0, !told.logged.is_empty() || !told.staged.is_empty());
        told
    }

    /// Asks both engines and the interpreter, who must agree.
    pub(super) fn ask(&self, program: ProgramId, ruleset: &Ruleset, packet: &Packet) -> Told {
        let expected = oracle::decide(ruleset, &self.members, packet);
        for (engine, form) in self.engines.iter().zip(["cells", "rows"]) {
            let compiled = engine.program(program).expect("the program exists");
            assert_eq!(
                Self::told(engine, compiled, packet),
                expected,
                "{form}: {packet:?} under {ruleset:#?}"
            );
            self.check_explanation(engine, program, ruleset, packet, &expected);
        }
        expected
    }

    /// Every step says of its rule what the interpreter says, and the last one decided.
    fn check_explanation(
        &self,
        engine: &Engine,
        program: ProgramId,
        ruleset: &Ruleset,
        packet: &Packet,
        expected: &Told,
    ) {
        let rules: Vec<_> = rules_of(ruleset).collect();
        if rules.len() > 1000 {
            // The steps of thousands of rules would be compared one by one.
            return;
        }
        let headers = Self::headers(engine, packet, 3);
        let explained = engine.explain(program, &headers, 3).expect("the program exists");
        assert_eq!(explained.verdict.map(|verdict| verdict.action == Action::Allow), expected.allowed);
        let mut deciding = RuleId::NONE;
        for step in &explained.steps {
            let rule = engine.rule_of(program, step).expect("the step is of a rule");
            assert_eq!((rule.id, step.said.map_or(rule.action, |said| said)), (step.rule, rule.action));
            let rule = rules.iter().find(|rule| rule.id == step.rule).expect("a rule of the set");
            assert_eq!(
                step.said.is_ok(),
                oracle::rule_matches(rule, &self.members, packet),
                "{step:?} {packet:?}"
            );
            if step.said.is_ok_and(|action| matches!(action, RuleAction::Allow | RuleAction::Deny))
                && !matches!(step.place, Place::Policy { staged: true, .. })
            {
                deciding = step.rule;
            }
        }
        let by_rule = rules.iter().any(|rule| rule.id == expected.rule);
        assert!(!by_rule || deciding == expected.rule, "{explained:?} {expected:?}");
    }
}
