//! A pod as the node is told to attach it, and the rules it must obey.
//!
//! The same rules hold for a pod of the configuration file and for one attached through the API; each
//! fault names the field it belongs to, so that either can say where it stands.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Serialize;

/// How a pod is joined to the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Attach {
    /// A tap device moved into the pod: carries super-packets.
    #[default]
    Tap,
    /// A veth pair, AF_XDP on the host's end.
    Veth,
}

impl Attach {
    /// The kinds by name.
    pub const NAMES: [(&'static str, Self); 2] = [("tap", Self::Tap), ("veth", Self::Veth)];

    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Veth => "veth",
        }
    }
}

/// `namespace/name` of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct PodName {
    /// An RFC 1123 label.
    pub namespace: String,
    /// An RFC 1123 subdomain.
    pub name: String,
}

impl FromStr for PodName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| format!("{text:?} has no namespace"))?;
        api::check_dns_label(namespace).map_err(|error| format!("namespace {namespace:?} {error}"))?;
        api::check_dns_name(name).map_err(|error| format!("name {name:?} {error}"))?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is to be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// Unique on the node.
    pub name: PodName,
    /// Path of the pod's network namespace.
    pub netns: PathBuf,
    /// Name of the device inside the pod.
    pub interface: String,
    /// The pod's addresses, each a /32 or /128.
    pub addresses: Vec<IpAddr>,
    /// Tap or veth.
    pub attach: Attach,
    /// Labels, for selectors.
    pub labels: BTreeMap<String, String>,
}

/// The field of a pod that a fault belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PodField {
    /// `name`.
    Name,
    /// `netns`.
    Netns,
    /// `interface`.
    Interface,
    /// `addresses`, as a whole.
    Addresses,
    /// The address of this index.
    Address(usize),
    /// `labels`.
    Labels,
}

/// Why a pod cannot be attached as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", if .expected.is_empty() { String::new() } else { format!(" (expected {expected})") })]
#[non_exhaustive]
pub struct PodFault {
    /// The field at fault.
    pub field: PodField,
    /// What was found.
    pub message: String,
    /// What would have been right; may be empty.
    pub expected: String,
}

/// The gateway that every pod has; no pod can be it.
const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

impl PodSpec {
    /// What is wrong with this pod by itself.
    pub fn faults(&self) -> Vec<PodFault> {
        let mut out = Vec::new();
        let mut say = |field, message: String, expected: &str| {
            out.push(PodFault { field, message, expected: expected.to_owned() });
        };
        if !self.netns.is_absolute() {
            say(
                PodField::Netns,
                format!("{:?} is not an absolute path", self.netns.display().to_string()),
                "a path such as /run/netns/pod1",
            );
        }
        if let Err(message) = check_interface_name(&self.interface) {
            say(PodField::Interface, message, INTERFACE_NAME);
        }
        if self.addresses.is_empty() {
            say(PodField::Addresses, "a pod needs an address".to_owned(), "at least one address");
        }
        for (index, address) in self.addresses.iter().enumerate() {
            let link_local = match address {
                IpAddr::V4(address) => address.is_link_local(),
                IpAddr::V6(address) => address.is_unicast_link_local(),
            };
            let why = if *address == IpAddr::V4(POD_GATEWAY) {
                Some("is the gateway of every pod")
            } else if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
                Some("is no unicast address of a host")
            } else if link_local {
                Some("is link-local")
            } else if self.addresses[..index].contains(address) {
                Some("is given twice")
            } else {
                None
            };
            if let Some(why) = why {
                let message = format!("{address} {why}");
                say(PodField::Address(index), message, "an address of a pool");
            }
        }
        for (key, value) in &self.labels {
            if let Err(error) = api::check_label_key(key) {
                say(PodField::Labels, format!("label key {key:?} {error}"), "a label key");
            }
            if let Err(error) = api::check_label_value(value) {
                let message = format!("value {value:?} of label {key:?} {error}");
                say(PodField::Labels, message, "a label value");
            }
        }
        out
    }

    /// What is wrong with this pod beside the pods that are already there and the pools in force.
    pub fn faults_beside<'a>(
        &self,
        others: impl IntoIterator<Item = &'a Self>,
        pools: &[IpNet],
    ) -> Vec<PodFault> {
        let mut out = Vec::new();
        let mut say = |field, message: String, expected: String| {
            out.push(PodFault { field, message, expected });
        };
        for other in others {
            if other.name == self.name {
                say(
                    PodField::Name,
                    format!("there is already a pod {}", self.name),
                    "a name of its own".to_owned(),
                );
            }
            if other.netns == self.netns && other.interface == self.interface {
                say(
                    PodField::Interface,
                    format!(
                        "{} in {} already belongs to pod {}",
                        self.interface,
                        self.netns.display(),
                        other.name
                    ),
                    "another interface or network namespace".to_owned(),
                );
            }
            for (index, address) in self.addresses.iter().enumerate() {
                if other.addresses.contains(address) {
                    say(
                        PodField::Address(index),
                        format!("{address} already belongs to pod {}", other.name),
                        "an address of its own".to_owned(),
                    );
                }
            }
        }
        for (index, address) in self.addresses.iter().enumerate() {
            if !pools.iter().any(|pool| pool.contains(address)) {
                let expected = if pools.is_empty() {
                    "a [[pool]] that holds it".to_owned()
                } else {
                    let pools: Vec<String> = pools.iter().map(IpNet::to_string).collect();
                    format!("an address of {}", pools.join(" or "))
                };
                let message = format!("{address} is outside every pool");
                say(PodField::Address(index), message, expected);
            }
        }
        out
    }
}

/// What [`check_interface_name`] wants.
pub const INTERFACE_NAME: &str = "1 to 15 characters, without '/', ':' and spaces";

/// The kernel's rule for device names (`IFNAMSIZ` is 16 with the closing NUL), less `:`, which its
/// tools take for an alias.
pub fn check_interface_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > 15 {
        return Err(format!("{name:?} has {} bytes", name.len()));
    }
    if matches!(name, "." | "..") {
        return Err(format!("{name:?} is a directory"));
    }
    match name.chars().find(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control()) {
        Some(c) => Err(format!("{name:?} holds {c:?}")),
        None => Ok(()),
    }
}

/// Reads a pod's address: bare, or with the prefix length of a single host.
pub fn parse_pod_address(text: &str) -> Result<IpAddr, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address);
    }
    let net: IpNet = text.parse().map_err(|_| format!("{text:?} is not an address"))?;
    if net.prefix_len() == net.max_prefix_len() {
        Ok(net.addr())
    } else {
        Err(format!("{net} has prefix length {}, but a pod has single addresses", net.prefix_len()))
    }
}
