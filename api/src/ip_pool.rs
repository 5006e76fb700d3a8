//! `IPPool` of `projectcalico.org/v3`: a range of pod addresses and how packets between its pods travel.
//!
//! | field | in this release |
//! |---|---|
//! | `cidr` | enforced: pods take their addresses from a pool |
//! | `ipipMode` | enforced: `Always`, `CrossSubnet`, `Never`; IPv4 only |
//! | `vxlanMode` | `Never` alone |
//! | `natOutgoing` | `false` alone |
//! | `nodeSelector`, `namespaceSelector` | `all()` alone |
//! | `allowedUses` | `[Workload, Tunnel]` alone, which is also what an absent list means |
//! | `blockSize` | checked; it steers automatic assignment, of which there is none yet |
//! | `disabled`, `assignmentMode`, `disableBGPExport` | read; each only forbids what this release never does (automatic assignment, BGP) |
//!
//! Source of fields, defaults and limits: Calico's IPPool reference and its validation rules. A pool
//! that asks for something this release does not enforce is refused by the field's name.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;

use crate::fields::Fields;
use crate::metadata::Metadata;
use crate::problem::Problem;

/// When packets between pods of one pool are encapsulated on their way between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum EncapMode {
    /// Between all nodes.
    Always,
    /// Only between nodes that share no subnet.
    CrossSubnet,
    /// Never: the fabric must know the pool's routes.
    #[default]
    Never,
}

impl EncapMode {
    /// The modes by the names they carry in YAML, TOML and tables.
    pub const NAMES: [(&'static str, Self); 3] =
        [("Always", Self::Always), ("CrossSubnet", Self::CrossSubnet), ("Never", Self::Never)];

    /// The mode's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::CrossSubnet => "CrossSubnet",
            Self::Never => "Never",
        }
    }
}

/// What the addresses of a pool may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum AllowedUse {
    /// Addresses of pods.
    Workload,
    /// Addresses of tunnel devices.
    Tunnel,
    /// Addresses of load balancer services.
    LoadBalancer,
}

const USES: [(&str, AllowedUse); 3] = [
    ("Workload", AllowedUse::Workload),
    ("Tunnel", AllowedUse::Tunnel),
    ("LoadBalancer", AllowedUse::LoadBalancer),
];

/// Whether addresses are handed out without being asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum AssignmentMode {
    /// Automatically.
    #[default]
    Automatic,
    /// Only to workloads that name them.
    Manual,
}

/// An IP pool.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpPool {
    /// Name and labels.
    pub metadata: Metadata,
    /// What the pool asks for.
    pub spec: IpPoolSpec,
}

/// What a pool asks for; see the table at the top of the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct IpPoolSpec {
    /// The pool's range. No host bits.
    pub cidr: IpNet,
    /// IP-in-IP (RFC 2003) between nodes. IPv4 only.
    pub ipip_mode: EncapMode,
    /// VXLAN (RFC 7348) between nodes.
    pub vxlan_mode: EncapMode,
    /// Translate pod addresses when they leave the pools.
    pub nat_outgoing: bool,
    /// No automatic assignment from this pool.
    pub disabled: bool,
    /// Keep the pool's routes out of BGP.
    #[serde(rename = "disableBGPExport")]
    pub disable_bgp_export: bool,
    /// Prefix length of the blocks that nodes are given: 20 to 32, or 116 to 128 for IPv6.
    pub block_size: u8,
    /// Nodes that take blocks from this pool.
    pub node_selector: String,
    /// Namespaces whose pods take addresses from this pool; absent: all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace_selector: String,
    /// What the addresses are for.
    pub allowed_uses: Vec<AllowedUse>,
    /// Automatic or by name only.
    pub assignment_mode: AssignmentMode,
}

impl IpPoolSpec {
    /// A pool of range `cidr` with Calico's defaults. The block size shrinks to the pool where the pool
    /// is smaller than Calico's default block (/26, /122).
    pub fn new(cidr: IpNet) -> Self {
        Self {
            cidr,
            ipip_mode: EncapMode::Never,
            vxlan_mode: EncapMode::Never,
            nat_outgoing: false,
            disabled: false,
            disable_bgp_export: false,
            block_size: default_block_size(&cidr).max(cidr.prefix_len()),
            node_selector: "all()".to_owned(),
            namespace_selector: String::new(),
            allowed_uses: vec![AllowedUse::Workload, AllowedUse::Tunnel],
            assignment_mode: AssignmentMode::Automatic,
        }
    }
}

fn default_block_size(cidr: &IpNet) -> u8 {
    match cidr {
        IpNet::V4(_) => 26,
        IpNet::V6(_) => 122,
    }
}

impl IpPool {
    /// A pool with Calico's defaults.
    pub fn new(name: impl Into<String>, cidr: IpNet) -> Self {
        Self { metadata: Metadata::named(name), spec: IpPoolSpec::new(cidr) }
    }

    /// The name of a pool that was given none: `pool-10.100.0.0-16`, `pool-fd00--64`.
    pub fn default_name(cidr: &IpNet) -> String {
        let address = cidr.addr().to_string().replace(':', "-");
        format!("pool-{}-{}", address.trim_matches('-'), cidr.prefix_len())
    }

    /// Everything about this pool that is wrong in itself or not enforced by this release. Paths are
    /// those of the YAML form.
    pub fn problems(&self) -> Vec<Problem> {
        let spec = &self.spec;
        let mut out = check_cidr(&spec.cidr);
        let mut say = |path: &str, message: String, expected: &str| {
            out.push(Problem::new(format!("spec.{path}"), message, expected));
        };
        if spec.ipip_mode != EncapMode::Never {
            let mode = spec.ipip_mode.as_str();
            if matches!(spec.cidr, IpNet::V6(_)) {
                say("ipipMode", format!("{mode} on an IPv6 pool: IP-in-IP carries IPv4 only"), "Never");
            }
            if spec.vxlan_mode != EncapMode::Never {
                say(
                    "ipipMode",
                    format!("{mode} beside vxlanMode {}", spec.vxlan_mode.as_str()),
                    "at most one of them other than Never",
                );
            }
        }
        if spec.vxlan_mode != EncapMode::Never {
            say("vxlanMode", unsupported(spec.vxlan_mode.as_str()), "Never");
        }
        if spec.nat_outgoing {
            say("natOutgoing", unsupported("true"), "false");
        }
        for (path, selector) in
            [("nodeSelector", &spec.node_selector), ("namespaceSelector", &spec.namespace_selector)]
        {
            if !matches!(selector.trim(), "" | "all()") {
                say(path, unsupported(&format!("{selector:?}")), "all()");
            }
        }
        let uses = &spec.allowed_uses;
        if uses.contains(&AllowedUse::LoadBalancer)
            || !uses.contains(&AllowedUse::Workload)
            || !uses.contains(&AllowedUse::Tunnel)
        {
            say("allowedUses", unsupported(&format!("{uses:?}")), "[Workload, Tunnel]");
        }
        let (low, high) = match spec.cidr {
            IpNet::V4(_) => (20, 32),
            IpNet::V6(_) => (116, 128),
        };
        let size = spec.block_size;
        if !(low..=high).contains(&size) {
            say("blockSize", format!("found {size}"), &format!("{low} to {high}"));
        } else if size < spec.cidr.prefix_len() {
            say(
                "blockSize",
                format!("a block of /{size} does not fit into {}", spec.cidr),
                &format!("{} or longer", spec.cidr.prefix_len()),
            );
        }
        out
    }

    pub(crate) fn read(metadata: Metadata, mut fields: Fields<'_>) -> (Option<Self>, Vec<Problem>) {
        const CIDR: &str = "a prefix such as 10.100.0.0/16";
        let cidr = fields.parsed::<IpNet>("cidr", CIDR);
        let ipip_mode = fields.word("ipipMode", &EncapMode::NAMES, EncapMode::Never);
        let vxlan_mode = fields.word("vxlanMode", &EncapMode::NAMES, EncapMode::Never);
        let nat_outgoing = fields.boolean("natOutgoing");
        let disabled = fields.boolean("disabled");
        let disable_bgp_export = fields.boolean("disableBGPExport");
        let block_size = fields.number("blockSize", 0..=128);
        let node_selector = fields.string("nodeSelector").unwrap_or("all()");
        let namespace_selector = fields.string("namespaceSelector").unwrap_or_default();
        let allowed_uses = read_uses(&mut fields);
        let assignment_mode = fields.word(
            "assignmentMode",
            &[("Automatic", AssignmentMode::Automatic), ("Manual", AssignmentMode::Manual)],
            AssignmentMode::Automatic,
        );
        let missing = cidr.is_none() && !fields.has_problem("cidr");
        if missing {
            fields.problem("cidr", "is missing", CIDR);
        }
        let mut problems = fields.finish();
        let pool = cidr.map(|cidr| Self {
            metadata,
            spec: IpPoolSpec {
                cidr,
                ipip_mode,
                vxlan_mode,
                nat_outgoing,
                disabled,
                disable_bgp_export,
                // The range 0 to 128 was checked when the field was taken.
                block_size: block_size.map_or(default_block_size(&cidr), |size| size as u8),
                node_selector: node_selector.to_owned(),
                namespace_selector: namespace_selector.to_owned(),
                allowed_uses,
                assignment_mode,
            },
        });
        if let Some(pool) = &pool {
            problems.extend(pool.problems());
        }
        (pool, problems)
    }
}

fn unsupported(value: &str) -> String {
    format!("{value} is not supported by this release")
}

fn read_uses(fields: &mut Fields<'_>) -> Vec<AllowedUse> {
    let default = vec![AllowedUse::Workload, AllowedUse::Tunnel];
    let Some(words) = fields.strings("allowedUses") else {
        return default;
    };
    if words.is_empty() {
        return default;
    }
    let mut uses = Vec::with_capacity(words.len());
    let mut readable = true;
    for (index, word) in words.into_iter().enumerate() {
        match USES.iter().find(|(name, _)| *name == word) {
            Some((_, found)) if uses.contains(found) => {}
            Some((_, found)) => uses.push(*found),
            None => {
                readable = false;
                fields.problem(
                    &format!("allowedUses[{index}]"),
                    format!("found {word:?}"),
                    "Workload, Tunnel or LoadBalancer",
                );
            }
        }
    }
    // Half a list would be judged for what it lacks.
    if readable { uses } else { default }
}

/// What is wrong with a pool's range by itself: host bits, link-local, multicast or loopback addresses.
fn check_cidr(cidr: &IpNet) -> Vec<Problem> {
    let mut out = Vec::new();
    if cidr.trunc() != *cidr {
        out.push(Problem::new(
            "spec.cidr",
            format!("{cidr} has bits set behind the prefix"),
            cidr.trunc().to_string(),
        ));
    }
    let reserved = match cidr {
        IpNet::V4(cidr) => [
            (Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16), "link-local"),
            (Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4), "multicast"),
            (Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8).trunc(), "loopback"),
        ]
        .into_iter()
        .find(|(net, _)| net.contains(cidr) || cidr.contains(net))
        .map(|(net, what)| (IpNet::V4(net), what)),
        IpNet::V6(cidr) => [
            (Ipv6Net::new_assert([0xfe80, 0, 0, 0, 0, 0, 0, 0].into(), 10), "link-local"),
            (Ipv6Net::new_assert([0xff00, 0, 0, 0, 0, 0, 0, 0].into(), 8), "multicast"),
            (Ipv6Net::new_assert([0, 0, 0, 0, 0, 0, 0, 1].into(), 128), "loopback"),
        ]
        .into_iter()
        .find(|(net, _)| net.contains(cidr) || cidr.contains(net))
        .map(|(net, what)| (IpNet::V6(net), what)),
    };
    if let Some((net, what)) = reserved {
        out.push(Problem::new(
            "spec.cidr",
            format!("{cidr} overlaps the {what} range {net}"),
            "a unicast range of your own",
        ));
    }
    out
}

/// Pairs of ranges, by index, that share addresses.
pub fn overlapping(ranges: &[IpNet]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    for (later, range) in ranges.iter().enumerate() {
        for (earlier, other) in ranges[..later].iter().enumerate() {
            if range.contains(other) || other.contains(range) {
                out.push((earlier, later));
            }
        }
    }
    out
}
