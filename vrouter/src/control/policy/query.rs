//! What policy says of a packet between two ends: the verdict of each side, and why.
//!
//! ```text
//!   from -> egress of the source -> host endpoints that forward it -> ingress of the destination -> allowed?
//! ```
//!
//! Source and destination are workloads or the node itself, whose policy is that of a host endpoint; an
//! end that is neither is not policed on its side. A packet passes if everybody who is asked lets it pass.
//! Who that is, [`path`](super::path) says.

use std::collections::HashMap;
use std::net::IpAddr;

use acl::explain::{Place, Step};
use acl::model::{Family, RuleAction};
use acl::{Action, Headers, ProgramId, RuleId, Verdict};
use serde::Serialize;

use super::conditions::{Failure, conditions};
use super::endpoint::EndpointKey;
use super::path::{Asked, HostPoint, NodeView, Path, Side, Way, asked};
use super::rule_names::RuleName;
use super::world::{ItemKey, PolicyWorld};

/// A packet to ask about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// `NAMESPACE/POD`, an address, or the name of an uplink or host endpoint: the node itself.
    pub from: String,
    /// The same.
    pub to: String,
    /// IP protocol.
    pub protocol: u8,
    /// Source and destination port, or type and code of ICMP; `None`: a fragment that shows none.
    pub transport: Option<(u16, u16)>,
    /// The uplink or host endpoint by which it enters, if it is not for addresses and routes to say.
    pub entering: Option<String>,
    /// The one by which it leaves.
    pub leaving: Option<String>,
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
    /// An end is neither an address nor anything of this world.
    #[error(
        "{0:?} is neither an address, nor the NAMESPACE/NAME of a workload, nor an uplink or host endpoint"
    )]
    UnknownEnd(String),
    /// The node has no address at an uplink or host endpoint.
    #[error("no address of {0} is known: spec.expectedIPs of its host endpoint gives them")]
    NoAddress(String),
    /// There is no such uplink.
    #[error("{0:?} is no uplink or host endpoint of this node")]
    UnknownInterface(String),
    /// Policy differs by uplink.
    #[error("{0} may be behind any of {1}, which have policies of their own: say in or out")]
    WhichInterface(IpAddr, String),
    /// A pod has no address of the other end's family.
    #[error("{from} and {to} have no address of one family")]
    Families {
        /// Source.
        from: String,
        /// Destination.
        to: String,
    },
    /// ICMP, but not over IPv4.
    #[error("ICMP is IPv4's, of which {from} and {to} do not both have an address: IPv6 has icmpv6")]
    Icmp {
        /// Source.
        from: String,
        /// Destination.
        to: String,
    },
    /// ICMPv6, but not over IPv6.
    #[error("ICMPv6 is IPv6's, of which {from} and {to} do not both have an address: IPv4 has icmp")]
    Icmpv6 {
        /// Source.
        from: String,
        /// Destination.
        to: String,
    },
}

/// What one side, or a host endpoint between the two, says.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct SideAnswer {
    /// `Allow` or `Deny`.
    pub verdict: &'static str,
    /// The tier that decided; absent: a profile, or nobody.
    pub tier: Option<String>,
    /// The policy or profile that decided, with its namespace.
    pub policy: Option<String>,
    /// What decided, in words; absent: nothing did, or nobody was asked.
    pub rule: Option<String>,
    /// The host endpoint that was asked; absent: a workload, or nobody.
    #[serde(flatten)]
    pub host: Option<HostPoint>,
    /// Every rule that was asked, if that was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepText>>,
}

/// What policy says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Answer {
    /// Whether the packet passes.
    pub allowed: bool,
    /// The source's side.
    pub egress: SideAnswer,
    /// Host endpoints by which the node forwards the packet, in its order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forward: Vec<SideAnswer>,
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
    /// The rule's conditions, in Calico's fields; absent: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<serde_json::Value>,
    /// Which of its conditions does not hold.
    pub failed: Option<String>,
    /// What that condition asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// What the packet has instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// It is not enforced.
    pub staged: bool,
}

/// Where what is for an address leaves the node, or what is from there enters: a device, and whether by a
/// tunnel.
pub type Routes<'a> = Box<dyn Fn(IpAddr) -> Option<(String, bool)> + 'a>;

/// What was said on a packet's way.
#[derive(Debug)]
pub struct Verdicts(Vec<(Asked, Option<Verdict>)>);

impl Verdicts {
    /// Whether the packet passes.
    pub fn allow(&self) -> bool {
        self.0.iter().all(|(_, verdict)| verdict.is_none_or(|verdict| verdict.action == Action::Allow))
    }
}

/// A world in which ends are found by address, and the node around it.
pub struct Questions<'a> {
    pub(super) world: &'a PolicyWorld,
    by_address: HashMap<IpAddr, &'a EndpointKey>,
    node: NodeView,
    routes: Option<Routes<'a>>,
}

impl<'a> Questions<'a> {
    /// Asks a world that has been settled: of workloads, as if all were on one node.
    pub fn new(world: &'a PolicyWorld) -> Self {
        let workloads = world.endpoints().filter(|(key, _)| matches!(key, EndpointKey::Workload { .. }));
        let by_address = workloads
            .flat_map(|(key, endpoint)| endpoint.addresses.iter().map(move |address| (*address, key)));
        Questions { world, by_address: by_address.collect(), node: NodeView::default(), routes: None }
    }

    /// On this node.
    pub fn on_node(self, node: NodeView) -> Self {
        Questions { node, ..self }
    }

    /// With these routes.
    pub fn by_routes(self, routes: Routes<'a>) -> Self {
        Questions { routes: Some(routes), ..self }
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
        if let Some(addresses) = self.node.addresses(text) {
            return match addresses.is_empty() {
                true => Err(QueryError::NoAddress(text.to_owned())),
                false => Ok(addresses),
            };
        }
        let (namespace, name) = text.split_once('/').ok_or_else(unknown)?;
        let (_, endpoint) =
            self.world.endpoint(&EndpointKey::workload(namespace, name)).ok_or_else(unknown)?;
        Ok(endpoint.addresses.clone())
    }

    /// A packet that the ends of a question can exchange, and its way.
    pub fn packet(&self, query: &Query) -> Result<(Packet, Path), QueryError> {
        let (from, to) = (self.end(&query.from)?, self.end(&query.to)?);
        let pairs = from.iter().flat_map(|one| to.iter().map(move |other| (*one, *other)));
        let mut pairs = pairs.filter(|(one, other)| one.is_ipv4() == other.is_ipv4()).peekable();
        let (from, to) = (query.from.clone(), query.to.clone());
        if pairs.peek().is_none() {
            return Err(QueryError::Families { from, to });
        }
        // Each version has an ICMP of its own.
        let (source, destination) = match query.protocol {
            1 => pairs.find(|(one, _)| one.is_ipv4()).ok_or(QueryError::Icmp { from, to })?,
            58 => pairs.find(|(one, _)| one.is_ipv6()).ok_or(QueryError::Icmpv6 { from, to })?,
            _ => pairs.next().ok_or(QueryError::Families { from, to })?,
        };
        let packet = Packet { source, destination, protocol: query.protocol, transport: query.transport };
        let given = |name: &Option<String>, address| match name {
            None => Ok(None),
            Some(name) => match self.node.uplink(name) {
                Some(name) => {
                    Ok(Some(Way::Interface { name: name.to_owned(), tunnelled: self.tunnelled(address) }))
                }
                None => Err(QueryError::UnknownInterface(name.clone())),
            },
        };
        let (entering, leaving) = (given(&query.entering, source)?, given(&query.leaving, destination)?);
        let path = Path {
            source: entering.map_or_else(|| self.way(source, destination), Ok)?,
            destination: leaving.map_or_else(|| self.way(destination, source), Ok)?,
        };
        Ok((packet, path))
    }

    fn tunnelled(&self, address: IpAddr) -> bool {
        self.routes.as_ref().and_then(|routes| routes(address)).is_some_and(|(_, tunnelled)| tunnelled)
    }

    /// Where an end of a packet is, as far as addresses and routes tell.
    ///
    /// # Errors
    /// Where it matters by which uplink, and nothing tells.
    pub fn way(&self, address: IpAddr, other_end: IpAddr) -> Result<Way, QueryError> {
        if let Some(key) = self.workload(address).filter(|key| self.node.is_local(key)) {
            return Ok(Way::Workload(key.clone()));
        }
        if self.node.is_own(address) {
            return Ok(Way::Node);
        }
        let found = match &self.routes {
            Some(routes) => routes(address),
            None => {
                let name = self.node.way_of(self.world, other_end);
                let name = name.map_err(|all| QueryError::WhichInterface(address, all.join(", ")))?;
                name.map(|name| (name.to_owned(), false))
            }
        };
        Ok(found.map_or(Way::Elsewhere, |(name, tunnelled)| Way::Interface { name, tunnelled }))
    }

    /// A packet as programs are asked about it, in lane 0.
    fn headers(&self, packet: &Packet) -> Headers {
        let engine = self.world.engine();
        let class = |address| match address {
            IpAddr::V4(address) => engine.trie(Family::V4).lookup4(u32::from(address)),
            IpAddr::V6(address) => engine.trie(Family::V6).lookup6(u128::from(address)),
        };
        let mut headers = Headers::new();
        let classes = (class(packet.source), class(packet.destination));
        headers.set(0, packet.source.is_ipv6(), classes, packet.protocol, packet.transport);
        headers
    }

    /// What everybody says who is asked about a packet on its way.
    pub fn verdicts(&self, packet: &Packet, path: &Path) -> Verdicts {
        let headers = self.headers(packet);
        let said = |asked: Asked| {
            let verdict = asked.programs.iter().find_map(|program| self.verdict(*program, &headers));
            (asked, verdict)
        };
        Verdicts(asked(path, &self.node, self.world).into_iter().map(said).collect())
    }

    /// `None`: the program leaves it open.
    fn verdict(&self, program: ProgramId, headers: &Headers) -> Option<Verdict> {
        let program = self.world.engine().program(program)?;
        let mut verdicts = [Verdict { action: Action::Deny, rule: RuleId::NONE }; 64];
        let decided = program.decide(headers, 1, &mut verdicts);
        (decided.open == 0).then_some(verdicts[0])
    }

    /// What policy says of a packet.
    pub fn ask(&self, query: &Query) -> Result<Answer, QueryError> {
        let (packet, path) = self.packet(query)?;
        Ok(self.answer(&self.verdicts(&packet, &path), None))
    }

    /// What policy says of a packet, with every rule that is asked.
    pub fn explain(&self, query: &Query) -> Result<Answer, QueryError> {
        let (packet, path) = self.packet(query)?;
        Ok(self.answer(&self.verdicts(&packet, &path), Some(&packet)))
    }

    /// Verdicts in words; with those of the rules that a packet was held against, if it is given.
    pub fn answer(&self, verdicts: &Verdicts, packet: Option<&Packet>) -> Answer {
        let held = packet.map(|packet| (packet, self.headers(packet)));
        let held = held.as_ref().map(|(packet, headers)| (*packet, headers));
        let nobody =
            || SideAnswer { verdict: "Allow", steps: packet.map(|_| Vec::new()), ..SideAnswer::default() };
        let mut answer =
            Answer { allowed: verdicts.allow(), egress: nobody(), forward: Vec::new(), ingress: nobody() };
        for (asked, verdict) in &verdicts.0 {
            let said = self.said(asked, *verdict, held);
            match asked.side {
                Side::Source => answer.egress = said,
                Side::Between => answer.forward.push(said),
                Side::Destination => answer.ingress = said,
            }
        }
        answer
    }

    fn said(&self, asked: &Asked, verdict: Option<Verdict>, held: Option<(&Packet, &Headers)>) -> SideAnswer {
        let name = verdict.and_then(|verdict| self.world.names().name(verdict.rule));
        let (tier, policy) = name.map(RuleName::tier_and_policy).unwrap_or_default();
        SideAnswer {
            verdict: match verdict.map(|verdict| verdict.action) {
                Some(Action::Deny) => "Deny",
                _ => "Allow",
            },
            tier,
            policy,
            rule: name.map(ToString::to_string),
            host: asked.host.clone(),
            steps: held.map(|(packet, headers)| self.steps(asked, headers, packet)),
        }
    }

    fn step(&self, program: ProgramId, step: &Step, packet: &Packet) -> StepText {
        let name = self.world.names().name(step.rule);
        let rule = self.world.engine().rule_of(program, step);
        let failure = step.said.err().zip(rule);
        let failure = failure.map(|(clause, rule)| self.failure(clause, rule, name, packet));
        let (failed, wanted, found) = match failure {
            Some(Failure { what, wanted, found }) => (Some(what.to_owned()), Some(wanted), Some(found)),
            None => (None, None, None),
        };
        StepText {
            rule: name.map(ToString::to_string).unwrap_or_default(),
            conditions: name.and_then(|name| self.world.rule(name)).and_then(conditions),
            action: step.said.ok().map(action_word),
            failed,
            wanted,
            found,
            staged: matches!(step.place, Place::Policy { staged: true, .. }),
        }
    }

    /// Every rule that is asked, stage by stage to the one that decides.
    fn steps(&self, asked: &Asked, headers: &Headers, packet: &Packet) -> Vec<StepText> {
        let mut out = Vec::new();
        for program in &asked.programs {
            let explained = self.world.engine().explain(*program, headers, 0);
            let steps = explained.map(|explained| explained.steps).unwrap_or_default();
            out.extend(steps.iter().map(|step| self.step(*program, step, packet)));
            if self.verdict(*program, headers).is_some() {
                break;
            }
        }
        out
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
