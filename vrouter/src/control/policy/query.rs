//! What policy says of a packet between two ends: the verdict of each side, and why.
//!
//! ```text
//!  from NS/POD or address --> egress of the source pod --> ingress of the destination pod --> allowed?
//! ```
//!
//! An end that is no workload of this world is not policed on its side. A packet passes if every side
//! that is policed lets it pass.

use std::collections::HashMap;
use std::net::IpAddr;

use acl::explain::{Clause, Place};
use acl::model::{Family, RuleAction};
use acl::{Action, Headers, ProgramId, RuleId, Verdict};
use serde::Serialize;

use super::endpoint::EndpointKey;
use super::rule_names::RuleName;
use super::world::{ItemKey, PolicyWorld};

/// A packet to ask about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// `NAMESPACE/POD` or an address.
    pub from: String,
    /// `NAMESPACE/POD` or an address.
    pub to: String,
    /// IP protocol.
    pub protocol: u8,
    /// Source and destination port, or type and code of ICMP; `None`: a fragment that shows none.
    pub transport: Option<(u16, u16)>,
}

/// A packet between two addresses of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// As in [`Query`].
    pub transport: Option<(u16, u16)>,
}

/// Why a question could not be answered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QueryError {
    /// An end is neither an address nor a pod of this world.
    #[error("{0:?} is neither an address nor the NAMESPACE/NAME of a workload")]
    UnknownEnd(String),
    /// A pod has no address of the other end's family.
    #[error("{from} and {to} have no address of one family")]
    Families {
        /// Source.
        from: String,
        /// Destination.
        to: String,
    },
}

/// What one side says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SideAnswer {
    /// `Allow` or `Deny`.
    pub verdict: &'static str,
    /// The tier that decided; absent: a profile, or nobody.
    pub tier: Option<String>,
    /// The policy or profile that decided, with its namespace.
    pub policy: Option<String>,
    /// What decided, in words; absent: the side is not policed.
    pub rule: Option<String>,
}

/// What policy says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Answer {
    /// Whether the packet passes.
    pub allowed: bool,
    /// The source's side.
    pub egress: SideAnswer,
    /// The destination's side.
    pub ingress: SideAnswer,
}

/// A rule that was asked, in words.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StepText {
    /// The rule.
    pub rule: String,
    /// The rule's action if it matched.
    pub action: Option<&'static str>,
    /// Why it did not match.
    pub failed: Option<String>,
    /// It is not enforced.
    pub staged: bool,
}

/// A world in which ends are found by address.
#[derive(Debug)]
pub struct Questions<'a> {
    world: &'a PolicyWorld,
    by_address: HashMap<IpAddr, &'a EndpointKey>,
    /// Addresses of the node itself, whose packets to its pods are not policed.
    node: Vec<IpAddr>,
}

impl<'a> Questions<'a> {
    /// Asks a world that has been settled.
    pub fn new(world: &'a PolicyWorld) -> Self {
        let workloads = world.endpoints().filter(|(key, _)| matches!(key, EndpointKey::Workload { .. }));
        let by_address = workloads
            .flat_map(|(key, endpoint)| endpoint.addresses.iter().map(move |address| (*address, key)));
        Questions { world, by_address: by_address.collect(), node: Vec::new() }
    }

    /// Addresses of the node itself: what it sends to its pods is not policed.
    pub fn on_node(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.node = addresses.into_iter().collect();
        self
    }

    /// The workload that has an address.
    pub fn workload(&self, address: IpAddr) -> Option<&'a EndpointKey> {
        self.by_address.get(&address).copied()
    }

    /// The addresses of an end.
    fn end(&self, text: &str) -> Result<Vec<IpAddr>, QueryError> {
        if let Ok(address) = text.parse() {
            return Ok(vec![address]);
        }
        let unknown = || QueryError::UnknownEnd(text.to_owned());
        let (namespace, name) = text.split_once('/').ok_or_else(unknown)?;
        let (_, endpoint) =
            self.world.endpoint(&EndpointKey::workload(namespace, name)).ok_or_else(unknown)?;
        Ok(endpoint.addresses.clone())
    }

    /// A packet that the ends of a question can exchange.
    pub fn packet(&self, query: &Query) -> Result<Packet, QueryError> {
        let (from, to) = (self.end(&query.from)?, self.end(&query.to)?);
        let pairs = from.iter().flat_map(|one| to.iter().map(move |other| (*one, *other)));
        let pair = pairs.into_iter().find(|(one, other)| one.is_ipv4() == other.is_ipv4());
        let (source, destination) =
            pair.ok_or_else(|| QueryError::Families { from: query.from.clone(), to: query.to.clone() })?;
        Ok(Packet { source, destination, protocol: query.protocol, transport: query.transport })
    }

    /// The programs to ask, source's first, and the headers they are asked about in lane 0.
    fn prepare(&self, packet: &Packet) -> ([Option<ProgramId>; 2], Headers) {
        let engine = self.world.engine();
        let class = |address| match address {
            IpAddr::V4(address) => engine.trie(Family::V4).lookup4(u32::from(address)),
            IpAddr::V6(address) => engine.trie(Family::V6).lookup6(u128::from(address)),
        };
        let (source, destination) = (packet.source, packet.destination);
        let mut headers = Headers::new();
        let classes = (class(source), class(destination));
        headers.set(0, source.is_ipv6(), classes, packet.protocol, packet.transport);
        let programs = |address| self.world.programs(self.workload(address)?);
        let ingress = programs(destination).filter(|_| !self.node.contains(&source));
        let programs =
            [programs(source).map(|programs| programs.egress), ingress.map(|programs| programs.ingress)];
        (programs, headers)
    }

    /// The verdicts of both sides, source's first; `None` where a side is not policed.
    pub fn verdicts(&self, packet: &Packet) -> [Option<Verdict>; 2] {
        let (programs, headers) = self.prepare(packet);
        programs.map(|program| self.verdict(program, &headers))
    }

    fn verdict(&self, program: Option<ProgramId>, headers: &Headers) -> Option<Verdict> {
        let program = self.world.engine().program(program?)?;
        let mut verdicts = [Verdict { action: Action::Deny, rule: RuleId::NONE }; 64];
        program.decide(headers, 1, &mut verdicts);
        Some(verdicts[0])
    }

    /// What policy says of a packet.
    pub fn ask(&self, query: &Query) -> Result<Answer, QueryError> {
        Ok(self.answer(self.verdicts(&self.packet(query)?)))
    }

    /// Verdicts of both sides in words.
    pub fn answer(&self, verdicts: [Option<Verdict>; 2]) -> Answer {
        let [egress, ingress] = verdicts.map(|verdict| self.side(verdict));
        Answer { allowed: egress.verdict == "Allow" && ingress.verdict == "Allow", egress, ingress }
    }

    fn side(&self, verdict: Option<Verdict>) -> SideAnswer {
        let Some(verdict) = verdict else {
            return SideAnswer { verdict: "Allow", tier: None, policy: None, rule: None };
        };
        let name = self.world.names().name(verdict.rule);
        let (tier, policy) = name.map(RuleName::tier_and_policy).unwrap_or_default();
        let word = match verdict.action {
            Action::Allow => "Allow",
            Action::Deny => "Deny",
        };
        SideAnswer { verdict: word, tier, policy, rule: name.map(ToString::to_string) }
    }

    /// Every rule that was asked about a packet: the source's side, the destination's side.
    pub fn steps(&self, query: &Query) -> Result<[Vec<StepText>; 2], QueryError> {
        let (programs, headers) = self.prepare(&self.packet(query)?);
        Ok(programs.map(|program| {
            let explained = program.and_then(|id| self.world.engine().explain(id, &headers, 0));
            let steps = explained.map(|explained| explained.steps).unwrap_or_default();
            steps
                .into_iter()
                .map(|step| StepText {
                    rule: self.world.names().name(step.rule).map(ToString::to_string).unwrap_or_default(),
                    action: step.said.ok().map(action_word),
                    failed: step.said.err().map(|clause| self.words(clause)),
                    staged: matches!(step.place, Place::Policy { staged: true, .. }),
                })
                .collect()
        }))
    }

    fn words(&self, clause: Clause) -> String {
        let set = |id| match self.world.items().selector(id) {
            Some(expr) => api::Selector::of(expr.clone()).to_string(),
            None => {
                let members: Vec<String> =
                    self.world.engine().members(id).take(4).map(|net| net.to_string()).collect();
                members.join(" ")
            }
        };
        match clause {
            Clause::Family => "another IP version".to_owned(),
            Clause::Protocol => "another protocol".to_owned(),
            Clause::NotProtocol => "the protocol is excluded".to_owned(),
            Clause::Icmp => "another ICMP type or code".to_owned(),
            Clause::NotIcmp => "the ICMP type and code are excluded, or there are none".to_owned(),
            Clause::SourceSet(id) => format!("the source is not in {}", set(id)),
            Clause::NotSourceSet(id) => format!("the source is in {}, which is excluded", set(id)),
            Clause::SourcePort => "the source port".to_owned(),
            Clause::DestinationSet(id) => format!("the destination is not in {}", set(id)),
            Clause::NotDestinationSet(id) => format!("the destination is in {}, which is excluded", set(id)),
            Clause::DestinationPort => "the destination port".to_owned(),
            Clause::Service => "no endpoint of the service".to_owned(),
            _ => "another condition".to_owned(),
        }
    }
}

/// What a rule does, in a word.
fn action_word(action: RuleAction) -> &'static str {
    match action {
        RuleAction::Allow => "Allow",
        RuleAction::Deny => "Deny",
        RuleAction::Pass => "Pass",
        RuleAction::Log => "Log",
    }
}

impl PolicyWorld {
    /// An endpoint and its key.
    pub fn endpoint(&self, key: &EndpointKey) -> Option<(&EndpointKey, &super::endpoint::Endpoint)> {
        self.endpoints.get_key_value(key)
    }

    /// The labels that selectors see of an endpoint.
    pub fn labels(&self, key: &EndpointKey) -> Option<&super::labels::LabelMap> {
        self.items.item(&ItemKey::Endpoint(key.clone())).map(|item| &item.labels)
    }
}
