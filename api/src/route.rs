//! `Route` of `vrouter.io/v1`: a static route of one node.
//!
//! ```yaml
//! apiVersion: vrouter.io/v1
//! kind: Route
//! metadata: { name: node2-pods }
//! spec:
//!   prefix: 10.100.169.128/26
//!   via: 172.16.20.253      # unicast only, and there required
//!   encap: ipip             # none | ipip; absent: what the prefix's pool says
//!   type: unicast           # unicast | blackhole | unreachable | prohibit
//!   metric: 0               # the lowest wins among routes of one prefix
//! ```
//!
//! The types mean what they mean to `ip route`: blackhole drops in silence, unreachable answers with
//! ICMP host unreachable (RFC 1812 section 5.2.7.1; for IPv6 no route to destination), prohibit with
//! communication administratively prohibited.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::fields::Fields;
use crate::metadata::Metadata;
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
    /// Next hop, of the prefix's family. Set for unicast, and only there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// Encapsulation; `None`: what the pool that holds the prefix says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encap: Option<RouteEncap>,
    /// What becomes of the packets.
    #[serde(rename = "type")]
    pub kind: RouteType,
    /// Preference among routes of one prefix: the lowest wins.
    pub metric: u32,
}

impl Route {
    /// A unicast route, encapsulated as its pool says.
    pub fn unicast(name: impl Into<String>, prefix: IpNet, via: IpAddr) -> Self {
        Self {
            metadata: Metadata::named(name),
            spec: RouteSpec { prefix, via: Some(via), encap: None, kind: RouteType::Unicast, metric: 0 },
        }
    }

    /// A route that ends here: `kind` is not unicast.
    pub fn terminal(name: impl Into<String>, prefix: IpNet, kind: RouteType) -> Self {
        Self {
            metadata: Metadata::named(name),
            spec: RouteSpec { prefix, via: None, encap: None, kind, metric: 0 },
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
        match (spec.kind, spec.via) {
            (RouteType::Unicast, None) => say(
                "via",
                "is missing".to_owned(),
                "a next hop address, or type: blackhole, unreachable or prohibit",
            ),
            (RouteType::Unicast, Some(via)) => {
                if via.is_ipv4() != spec.prefix.addr().is_ipv4() {
                    say(
                        "via",
                        format!("{via} is not of the family of {}", spec.prefix),
                        "a next hop of the same family",
                    );
                }
                if via.is_unspecified() || via.is_multicast() || via.is_loopback() {
                    say(
                        "via",
                        format!("{via} is no unicast address of a neighbour"),
                        "the address of a neighbour or a tunnel peer",
                    );
                }
            }
            (_, Some(via)) => {
                say("via", format!("{via} on a route of type {kind}"), "no via, or type: unicast")
            }
            (_, None) => {}
        }
        if let Some(encap) = spec.encap {
            if spec.kind != RouteType::Unicast {
                say(
                    "encap",
                    format!("{} on a route of type {kind}", encap.as_str()),
                    "no encap, or type: unicast",
                );
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
        let via = fields.parsed::<IpAddr>("via", "an address without a prefix length");
        let via_unreadable = fields.has_problem("via");
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
            },
        });
        if let Some(route) = &route {
            // An unreadable via or type is already named; what follows from it would mislead.
            problems.extend(
                route
                    .problems()
                    .into_iter()
                    .filter(|problem| !(problem.path == "spec.via" && (via_unreadable || kind_unreadable))),
            );
        }
        (route, problems)
    }
}
