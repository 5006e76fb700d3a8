//! `NetworkSet` and `GlobalNetworkSet`: prefixes with labels, which selectors of rules find.

use ipnet::IpNet;
use serde::Serialize;

use crate::fields::Fields;
use crate::metadata::Metadata;
use crate::problem::Problem;
use crate::resource::Kind;

/// A network set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkSet {
    /// `NetworkSet` or `GlobalNetworkSet`.
    pub kind: Kind,
    /// Name, labels and, for the first kind, namespace.
    pub metadata: Metadata,
    /// Its members.
    pub spec: NetworkSetSpec,
}

/// Members of a network set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkSetSpec {
    /// The prefixes, without host bits.
    pub nets: Vec<IpNet>,
}

/// Reads a prefix whose host bits do not count, or an address, which is a prefix of full length.
pub(crate) fn parse_net(text: &str) -> Option<IpNet> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
    net.ok().map(|net| net.trunc())
}

/// Takes a list of prefixes, host bits allowed, or addresses.
pub(crate) fn take_loose_nets(fields: &mut Fields<'_>, key: &'static str) -> Vec<IpNet> {
    let mut out = Vec::new();
    for (index, text) in fields.strings(key).unwrap_or_default().into_iter().enumerate() {
        match parse_net(text) {
            Some(net) => out.push(net),
            None => {
                fields.problem(&format!("{key}[{index}]"), format!("found {text:?}"), "a prefix or address")
            }
        }
    }
    out
}

impl NetworkSet {
    /// A network set as if it had been read.
    pub fn new(kind: Kind, metadata: Metadata, nets: Vec<IpNet>) -> Self {
        NetworkSet { kind, metadata, spec: NetworkSetSpec { nets } }
    }

    pub(crate) fn read(kind: Kind, metadata: Metadata, mut fields: Fields<'_>) -> (Self, Vec<Problem>) {
        let nets = take_loose_nets(&mut fields, "nets");
        let mut problems = fields.finish();
        const RESERVED: &str = "projectcalico.org/namespace";
        if metadata.labels.contains_key(RESERVED) {
            let message = format!("{RESERVED} is a label that only the router sets");
            problems.push(Problem::new("metadata.labels", message, "other labels"));
        }
        (NetworkSet::new(kind, metadata, nets), problems)
    }
}
