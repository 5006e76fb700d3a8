//! What is compiled: rules in numbers.
//!
//! ```text
//!  Ruleset (of one endpoint and direction)
//!   +- Tier ........ asked in order; ends in Deny or Pass if none of its policies has decided
//!   |   +- Policy .. enforced or staged
//!   |       +- Rule  Allow | Deny | Pass (to the next tier) | Log (and go on)
//!   +- Profile ..... asked in order behind the last tier
//!   +- no_match .... what holds if nothing has decided
//! ```
//!
//! Labels, names and namespaces are gone: a selector has become an address set ([`SetId`]), a named port
//! or a service a set of addresses with protocol and port ([`PortSetId`]).
//!
//! All conditions of a rule hold together. Conditions on ports hold for packets that have them alone,
//! negated ones too: TCP, UDP and SCTP, but no fragment behind the first. So do those on ICMP types.

use core::ops::RangeInclusive;

use crate::rule::RuleId;

/// The number of a set of addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SetId(pub(crate) u32);

/// The number of a set of (address, protocol, port).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortSetId(pub(crate) u32);

/// An IP version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order of their numbers.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The protocol number of ICMP in this version.
    pub fn icmp(self) -> u8 {
        match self {
            Family::V4 => 1,
            Family::V6 => 58,
        }
    }
}

/// Whether packets of a protocol have ports that rules can name.
pub fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 132)
}

/// What a rule does with packets that it matches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RuleAction {
    /// Let them pass.
    Allow,
    /// Drop them.
    Deny,
    /// Ask the next tier, or the profiles behind the last.
    Pass,
    /// Note them and ask the next rule.
    Log,
}

/// An ICMP type, with or without a code. Neither: any ICMP message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IcmpMatch {
    /// The type.
    pub kind: Option<u8>,
    /// The code.
    pub code: Option<u8>,
}

/// One end of the packets that a rule matches.
#[derive(Clone, PartialEq, Eq, Default, Hash, Debug)]
pub struct Side {
    /// The address is in every one of these.
    pub all_of: Vec<SetId>,
    /// The address is in none of these.
    pub none_of: Vec<SetId>,
    /// With `named_ports`, where any is given: the port is in one of these or ...
    pub ports: Vec<RangeInclusive<u16>>,
    /// ... address, protocol and port are in one of these.
    pub named_ports: Vec<PortSetId>,
    /// The port is in none of these.
    pub not_ports: Vec<RangeInclusive<u16>>,
    /// Address, protocol and port are in none of these.
    pub not_named_ports: Vec<PortSetId>,
    /// Address, protocol and port are in this one (an endpoint of a service).
    pub service: Option<PortSetId>,
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rule {
    /// Its number, which verdicts name.
    pub id: RuleId,
    /// What it does.
    pub action: RuleAction,
    /// Packets of this version alone.
    pub family: Option<Family>,
    /// Packets of this protocol alone.
    pub protocol: Option<u8>,
    /// Packets of any other protocol.
    pub not_protocol: Option<u8>,
    /// ICMP messages of this type and code alone.
    pub icmp: Option<IcmpMatch>,
    /// ICMP messages of any other type and code.
    pub not_icmp: Option<IcmpMatch>,
    /// Where packets come from.
    pub source: Side,
    /// Where packets go.
    pub destination: Side,
}

impl Rule {
    /// A rule without conditions.
    pub fn new(id: RuleId, action: RuleAction) -> Self {
        Rule {
            id,
            action,
            family: None,
            protocol: None,
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            source: Side::default(),
            destination: Side::default(),
        }
    }
}

/// A policy, as far as it applies to the direction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Policy {
    /// Evaluated and noted, but not enforced.
    pub staged: bool,
    /// What a staged policy is noted with where none of its rules has decided.
    pub end: RuleId,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// What becomes of a packet that a tier's policies have not decided.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TierEnd {
    /// It is dropped, provided that a policy that is not staged applies.
    Deny,
    /// The next tier is asked.
    Pass,
}

/// The policies of a tier that apply to the endpoint and direction, in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tier {
    /// The policies.
    pub policies: Vec<Policy>,
    /// What holds if none has decided.
    pub end: TierEnd,
    /// What the verdict at the end names.
    pub end_id: RuleId,
}

/// All that decides over packets of one endpoint and direction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ruleset {
    /// Tiers in order.
    pub tiers: Vec<Tier>,
    /// The rules of profiles, asked in order behind the tiers.
    pub profiles: Vec<Vec<Rule>>,
    /// What holds if nothing has decided: dropped by this name, or left open (`None`) for whoever asks
    /// next. Open ends are for policy before connection tracking and before translation.
    pub no_match: Option<RuleId>,
}
