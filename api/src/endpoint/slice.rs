//! `EndpointSlice` of `discovery.k8s.io/v1`: where a service's endpoints are, for rules that name a
//! service.

use std::net::IpAddr;

use serde::Serialize;

use crate::fields::Fields;
use crate::metadata::Metadata;
use crate::policy::port::Protocol;

/// The label that names a slice's service.
const SERVICE: &str = "kubernetes.io/service-name";

/// Some endpoints of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointSlice {
    /// Name, namespace and labels.
    pub metadata: Metadata,
    /// Addresses of the endpoints.
    pub addresses: Vec<IpAddr>,
    /// Ports of the endpoints; a port without a number is all ports and left out.
    pub ports: Vec<(Protocol, u16)>,
}

impl EndpointSlice {
    /// The service's name; `None` where the slice belongs to none.
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.get(SERVICE).map(String::as_str)
    }

    /// Reads the fields beside `metadata`, which in this kind stand at the top.
    pub(crate) fn read(metadata: Metadata, fields: &mut Fields<'_>) -> Self {
        let fqdn = fields.string("addressType") == Some("FQDN");
        let mut addresses = Vec::new();
        for mut endpoint in fields.mappings("endpoints") {
            if !fqdn {
                addresses.extend(endpoint.parsed_list::<IpAddr>("addresses", "an address"));
            }
            fields.absorb(endpoint.into_problems());
        }
        let mut ports = Vec::new();
        for mut port in fields.mappings("ports") {
            let words = [("TCP", Protocol::TCP), ("UDP", Protocol::UDP), ("SCTP", Protocol::SCTP)];
            let protocol = port.word("protocol", &words, Protocol::TCP);
            let number = port.number("port", 1..=65535).map(|port| port as u16);
            ports.extend(number.map(|number| (protocol, number)));
            fields.absorb(port.into_problems());
        }
        EndpointSlice { metadata, addresses, ports }
    }
}

/// The canonical form: what was read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Written {
    address_type: &'static str,
    endpoints: Vec<WrittenEndpoint>,
    ports: Vec<WrittenPort>,
}

#[derive(Serialize)]
struct WrittenEndpoint {
    addresses: [IpAddr; 1],
}

#[derive(Serialize)]
struct WrittenPort {
    protocol: Protocol,
    port: u16,
}

impl EndpointSlice {
    pub(crate) fn written(&self) -> Written {
        let v6 = self.addresses.first().is_some_and(IpAddr::is_ipv6);
        Written {
            address_type: if v6 { "IPv6" } else { "IPv4" },
            endpoints: self.addresses.iter().map(|ip| WrittenEndpoint { addresses: [*ip] }).collect(),
            ports: self
                .ports
                .iter()
                .map(|(protocol, port)| WrittenPort { protocol: *protocol, port: *port })
                .collect(),
        }
    }
}
