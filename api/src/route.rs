//! `Route` of `vrouter.io/v1`: a static route of one node.
//!
//! ```yaml
//! apiVersion: vrouter.io/v1
//! kind: Route
//! metadata: { name: node2-pods }
//! spec:
//!   prefix: 10.100.169.128/26
//!   via: 172.16.20.253      # unicast only, and there required: one next hop, or a list of them
//!   encap: ipip             # none | ipip; absent: what the prefix's pool says
//!   type: unicast           # unicast | blackhole | unreachable | prohibit
//!   metric: 0               # the lowest wins among routes of one prefix
//!   vrf: blue               # absent: the default one; no encap elsewhere
//! ```
//!
//! Several next hops share a route's flows by their weights, 1 where none is given:
//!
//! ```yaml
//!   via: [172.16.20.2, {address: 172.16.20.3, weight: 3}]     # a quarter, three quarters
//! ```
//!
//! The types mean what they mean to `ip route`: blackhole drops in silence, unreachable answers with
//! ICMP host unreachable (RFC 1812 section 5.2.7.1; for IPv6 no route to destination), prohibit with
//! communication administratively prohibited.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use serde_yaml_ng::Value;

use crate::fields::{Fields, show};
use crate::metadata::Metadata;
use crate::name::check_dns_label;
use crate::problem::Problem;

/// What becomes of packets that match a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteType {
    /// They go on to the next hop.
    #[default]
    Unicast,
    /// They are dropped in silence.
    Blackhole,
    /// They are dropped and answered: host unreachable.
    Unreachable,
    /// They are dropped and answered: administratively prohibited.
    Prohibit,
}

impl RouteType {
    /// The types by name.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("unicast", Self::Unicast),
        ("blackhole", Self::Blackhole),
        ("unreachable", Self::Unreachable),
        ("prohibit", Self::Prohibit),
    ];

    /// The type's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        }
    }
}

/// How packets of a route are wrapped on their way to the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RouteEncap {
    /// Not at all.
    None,
    /// IP-in-IP (RFC 2003), IPv4 in IPv4.
    Ipip,
}

impl RouteEncap {
    /// The encapsulations by name.
    pub const NAMES: [(&'static str, Self); 2] = [("none", Self::None), ("ipip", Self::Ipip)];

    /// The encapsulation's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ipip => "ipip",
        }
    }
}

/// One of a route's next hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct NextHop {
    /// A neighbour, or what another route leads to.
    pub address: IpAddr,
    /// Its share of the flows against the route's other next hops, 1 to [`MAX_WEIGHT`](Self::MAX_WEIGHT).
    pub weight: u32,
}

impl NextHop {
    /// The largest weight: what the kernel's `rtnh_hops` can say, so that every weight can be
    /// compared with `ip route`'s.
    pub const MAX_WEIGHT: u32 = 256;
    /// The most next hops of a route.
    pub const MAX_NUMBER: usize = 256;

    /// A next hop with a share.
    pub fn new(address: IpAddr, weight: u32) -> Self {
        Self { address, weight }
    }
}

impl Serialize for NextHop {
    /// The address alone where the weight is 1, as one would write it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.weight == 1 {
            return self.address.serialize(serializer);
        }
        let mut next_hop = serializer.serialize_struct("NextHop", 2)?;
        next_hop.serialize_field("address", &self.address)?;
        next_hop.serialize_field("weight", &self.weight)?;
        next_hop.end()
    }
}

fn serialize_via<S: Serializer>(via: &[NextHop], serializer: S) -> Result<S::Ok, S::Error> {
    match via {
        [only] if only.weight == 1 => only.serialize(serializer),
        list => list.serialize(serializer),
    }
}

/// A static route.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// Name and labels.
    pub metadata: Metadata,
    /// What the route asks for.
    pub spec: RouteSpec,
}

/// What a route asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RouteSpec {
    /// Destinations. No host bits.
    pub prefix: IpNet,
    /// Next hops, of the prefix's family, each once. At least one for unicast, and none elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "serialize_via")]
    pub via: Vec<NextHop>,
    /// Encapsulation; `None`: what the pool that holds the prefix says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encap: Option<RouteEncap>,
    /// What becomes of the packets.
    #[serde(rename = "type")]
    pub kind: RouteType,
    /// Preference among routes of one prefix: the lowest wins.
    pub metric: u32,
    /// The VRF whose route it is; empty: the default one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vrf: String,
}

impl Route {
    /// A unicast route, encapsulated as its pool says.
    pub fn unicast(name: impl Into<String>, prefix: IpNet, via: IpAddr) -> Self {
        Self {
            metadata: Metadata::named(name),
            spec: RouteSpec {
                prefix,
                via: vec![NextHop::new(via, 1)],
                encap: None,
                kind: RouteType::Unicast,
                metric: 0,
                vrf: String::new(),
            },
        }
    }

    /// A route that ends here: `kind` is not unicast.
    pub fn terminal(name: impl Into<String>, prefix: IpNet, kind: RouteType) -> Self {
        Self {
            metadata: Metadata::named(name),
            spec: RouteSpec { prefix, via: Vec::new(), encap: None, kind, metric: 0, vrf: String::new() },
        }
    }

    /// The name of a route that was given none: `route-10.100.169.128-26`.
    pub fn default_name(prefix: &IpNet) -> String {
        let address = prefix.addr().to_string().replace(':', "-");
        format!("route-{}-{}", address.trim_matches('-'), prefix.prefix_len())
    }

    /// Everything about this route that is wrong in itself. Paths are those of the YAML form.
    pub fn problems(&self) -> Vec<Problem> {
        let spec = &self.spec;
        let mut out = Vec::new();
        let mut say = |path: &str, message: String, expected: &str| {
            out.push(Problem::new(format!("spec.{path}"), message, expected));
        };
        if spec.prefix.trunc() != spec.prefix {
            say(
                "prefix",
                format!("{} has bits set behind the prefix", spec.prefix),
                &spec.prefix.trunc().to_string(),
            );
        }
        let kind = spec.kind.as_str();
        match spec.kind {
            RouteType::Unicast if spec.via.is_empty() => say(
                "via",
                "is missing".to_owned(),
                "a next hop address, or type: blackhole, unreachable or prohibit",
            ),
            RouteType::Unicast => {
                for (index, next_hop) in spec.via.iter().enumerate() {
                    // A single next hop is mostly written as no list.
                    let path = if spec.via.len() == 1 { "via".to_owned() } else { format!("via[{index}]") };
                    next_hop_problems(spec, index, next_hop, &mut |m, e| say(&path, m, e));
                }
                if spec.via.len() > NextHop::MAX_NUMBER {
                    let most = format!("at most {}", NextHop::MAX_NUMBER);
                    say("via", format!("{} next hops", spec.via.len()), &most);
                }
            }
            _ => {
                if let Some(first) = spec.via.first() {
                    let message = format!("{} on a route of type {kind}", first.address);
                    say("via", message, "no via, or type: unicast");
                }
            }
        }
        if !spec.vrf.is_empty()
            && let Err(error) = check_dns_label(&spec.vrf)
        {
            say("vrf", format!("{:?} {error}", spec.vrf), "lower-case letters, digits and '-'");
        }
        if let Some(encap) = spec.encap {
            if spec.kind != RouteType::Unicast {
                say(
                    "encap",
                    format!("{} on a route of type {kind}", encap.as_str()),
                    "no encap, or type: unicast",
                );
            }
            if encap == RouteEncap::Ipip && !spec.vrf.is_empty() {
                say("encap", "ipip in a VRF: tunnels are the default VRF's".to_owned(), "none, or no vrf");
            }
            if encap == RouteEncap::Ipip && !spec.prefix.addr().is_ipv4() {
                say("encap", format!("ipip for {}: IP-in-IP carries IPv4 only", spec.prefix), "none");
            }
        }
        out
    }

    pub(crate) fn read(metadata: Metadata, mut fields: Fields<'_>) -> (Option<Self>, Vec<Problem>) {
        const PREFIX: &str = "a prefix such as 10.100.169.128/26";
        let prefix = fields.parsed::<IpNet>("prefix", PREFIX);
        if prefix.is_none() && !fields.has_problem("prefix") {
            fields.problem("prefix", "is missing", PREFIX);
        }
        let (via, via_unreadable) = read_via(&mut fields);
        let encap = match fields.string("encap") {
            None => None,
            Some("vxlan") => {
                fields.problem("encap", "vxlan is not supported by this release", "none or ipip");
                None
            }
            Some(word) => {
                let found = RouteEncap::NAMES.iter().find(|(name, _)| *name == word);
                if found.is_none() {
                    fields.problem("encap", format!("found {word:?}"), "none or ipip");
                }
                found.map(|(_, encap)| *encap)
            }
        };
        let kind = fields.word("type", &RouteType::NAMES, RouteType::Unicast);
        let kind_unreadable = fields.has_problem("type");
        let metric = fields.number("metric", 0..=u64::from(u32::MAX)).unwrap_or(0);
        let vrf = fields.string("vrf").unwrap_or_default().to_owned();
        let mut problems = fields.finish();
        let route = prefix.map(|prefix| Self {
            metadata,
            spec: RouteSpec {
                prefix,
                via,
                encap,
                kind,
                // The range was checked when the field was taken.
                metric: metric as u32,
                vrf,
            },
        });
        if let Some(route) = &route {
            // An unreadable via or type is already named; what follows from it would mislead.
            problems.extend(
                route
                    .problems()
                    .into_iter()
                    .filter(|p| !(p.path.starts_with("spec.via") && (via_unreadable || kind_unreadable))),
            );
        }
        (route, problems)
    }
}

/// What is wrong with one next hop of a route.
fn next_hop_problems(spec: &RouteSpec, index: usize, next_hop: &NextHop, say: &mut dyn FnMut(String, &str)) {
    let NextHop { address, weight } = *next_hop;
    if address.is_ipv4() != spec.prefix.addr().is_ipv4() {
        say(format!("{address} is not of the family of {}", spec.prefix), "a next hop of the same family");
    }
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        say(
            format!("{address} is no unicast address of a neighbour"),
            "the address of a neighbour or a tunnel peer",
        );
    }
    if !(1..=NextHop::MAX_WEIGHT).contains(&weight) {
        say(format!("weight {weight}"), &format!("a weight from 1 to {}", NextHop::MAX_WEIGHT));
    }
    if spec.via[..index].iter().any(|earlier| earlier.address == address) {
        say(format!("{address} is a next hop of the route already"), "each once, with the weight of all");
    }
}

/// Reads `via`: a next hop or a list of them. Whether something of it could not be read.
fn read_via(fields: &mut Fields<'_>) -> (Vec<NextHop>, bool) {
    let Some(value) = fields.take("via") else { return (Vec::new(), false) };
    let Some(items) = value.as_sequence() else {
        let only = read_next_hop(fields, "via", value);
        return (only.into_iter().collect(), only.is_none());
    };
    let mut via = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        via.extend(read_next_hop(fields, &format!("via[{index}]"), item));
    }
    let unreadable = via.len() < items.len();
    (via, unreadable)
}

/// Reads an address, or a mapping of an address and its weight.
fn read_next_hop(fields: &mut Fields<'_>, key: &str, item: &Value) -> Option<NextHop> {
    const EXPECTED: &str = "an address without a prefix length";
    match item {
        Value::String(text) => match text.parse() {
            Ok(address) => Some(NextHop::new(address, 1)),
            Err(error) => {
                fields.problem(key, format!("{text:?}: {error}"), EXPECTED);
                None
            }
        },
        Value::Mapping(mapping) => {
            let mut parts = Fields::new(&fields.path_of(key), mapping);
            let address = parts.parsed::<IpAddr>("address", EXPECTED);
            if address.is_none() && !parts.has_problem("address") {
                parts.problem("address", "is missing", EXPECTED);
            }
            let weight = parts.number("weight", 1..=u64::from(NextHop::MAX_WEIGHT));
            let weight_unreadable = parts.has_problem("weight");
            fields.absorb(parts.finish());
            // The range was checked when the field was taken.
            let weight = weight.unwrap_or(1) as u32;
            address.filter(|_| !weight_unreadable).map(|address| NextHop::new(address, weight))
        }
        other => {
            fields.problem(
                key,
                format!("found {}", show(other)),
                "an address, or {address: ..., weight: ...}",
            );
            None
        }
    }
}
