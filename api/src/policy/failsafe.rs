//! Failsafe ports: what no policy of a host endpoint closes, so that a mistake in one leaves the node
//! reachable and its control plane working.
//!
//! The notation and the defaults are those of Calico's `failsafeInboundHostPorts` and
//! `failsafeOutboundHostPorts` (FelixConfiguration; `FELIX_FAILSAFEINBOUNDHOSTPORTS`):
//!
//! ```text
//!   tcp:22                  port 22 from or to anywhere
//!   udp:10.0.0.0/8:53       port 53 from or to these addresses
//!   tcp:fd00::/8:179        the same of IPv6: the first and the last colon divide
//! ```

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

use super::Protocol;

/// A port that is always open at host endpoints.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FailsafePort {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Port of the host where it is inbound, of the other end where it is outbound.
    pub port: u16,
    /// Addresses of the other end; `None`: any.
    pub net: Option<IpNet>,
}

/// The words of the notation.
const PROTOCOLS: [(&str, Protocol); 3] =
    [("tcp", Protocol::TCP), ("udp", Protocol::UDP), ("sctp", Protocol::SCTP)];

impl FailsafePort {
    /// The notation in few words, for messages.
    pub const EXPECTED: &str =
        "PROTOCOL:PORT or PROTOCOL:PREFIX:PORT, such as \"tcp:22\" or \"udp:10.0.0.0/8:53\"";

    /// A port that is open from or to anywhere.
    pub fn anywhere(protocol: Protocol, port: u16) -> Self {
        FailsafePort { protocol, port, net: None }
    }

    /// Calico's inbound ports: SSH, DHCP, BGP, etcd, Typha, the Kubernetes API, etcd's older ports.
    pub fn inbound() -> Vec<Self> {
        let own = [(Protocol::TCP, 22), (Protocol::UDP, 68)];
        own.into_iter().chain(CONTROL_PLANE).map(|(protocol, port)| Self::anywhere(protocol, port)).collect()
    }

    /// Calico's outbound ports: DNS, DHCP, and the control plane as inbound.
    pub fn outbound() -> Vec<Self> {
        let own = [(Protocol::UDP, 53), (Protocol::UDP, 67)];
        own.into_iter().chain(CONTROL_PLANE).map(|(protocol, port)| Self::anywhere(protocol, port)).collect()
    }
}

const CONTROL_PLANE: [(Protocol, u16); 7] = [
    (Protocol::TCP, 179),
    (Protocol::TCP, 2379),
    (Protocol::TCP, 2380),
    (Protocol::TCP, 5473),
    (Protocol::TCP, 6443),
    (Protocol::TCP, 6666),
    (Protocol::TCP, 6667),
];

impl FromStr for FailsafePort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unlike = || format!("{text:?} is not PROTOCOL:PORT or PROTOCOL:PREFIX:PORT");
        let (word, rest) = text.split_once(':').ok_or_else(unlike)?;
        let known = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        let (_, protocol) = known.ok_or_else(|| format!("{word:?} is not tcp, udp or sctp"))?;
        let (net, port) = match rest.rsplit_once(':') {
            Some((net, port)) => (Some(net), port),
            None => (None, rest),
        };
        let number = port.parse().ok().filter(|number| *number != 0);
        let port = number.ok_or_else(|| format!("{port:?} is not a port from 1 to 65535"))?;
        let net = net.map(|net| {
            let parsed: IpNet = net.parse().map_err(|_| format!("{net:?} is not a prefix"))?;
            match parsed.trunc() == parsed {
                true => Ok(parsed),
                false => {
                    Err(format!("{parsed} has bits set behind the prefix: the prefix is {}", parsed.trunc()))
                }
            }
        });
        Ok(FailsafePort { protocol: *protocol, port, net: net.transpose()? })
    }
}

impl fmt::Display for FailsafePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = PROTOCOLS.iter().find(|(_, protocol)| *protocol == self.protocol);
        match known {
            Some((word, _)) => f.write_str(word)?,
            None => write!(f, "{}", self.protocol)?,
        }
        if let Some(net) = self.net {
            write!(f, ":{net}")?;
        }
        write!(f, ":{}", self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_is_read_and_written() {
        for text in ["tcp:22", "udp:10.0.0.0/8:53", "sctp:fd00::/8:179", "tcp:0.0.0.0/0:1"] {
            let port: FailsafePort = text.parse().expect(text);
            assert_eq!(port.to_string(), text);
        }
        assert_eq!("TCP:22".parse(), Ok(FailsafePort::anywhere(Protocol::TCP, 22)));
        for (text, fault) in [
            ("22", "\"22\" is not PROTOCOL:PORT or PROTOCOL:PREFIX:PORT"),
            ("icmp:8", "\"icmp\" is not tcp, udp or sctp"),
            ("tcp:0", "\"0\" is not a port from 1 to 65535"),
            ("tcp:65536", "\"65536\" is not a port from 1 to 65535"),
            ("tcp:10.0.0.0:22", "\"10.0.0.0\" is not a prefix"),
            ("tcp:10.0.0.1/8:22", "10.0.0.1/8 has bits set behind the prefix: the prefix is 10.0.0.0/8"),
        ] {
            assert_eq!(text.parse::<FailsafePort>(), Err(fault.to_owned()));
        }
    }

    /// The defaults of Calico's FelixConfiguration.
    #[test]
    fn the_defaults_are_calicos() {
        let words =
            |ports: Vec<FailsafePort>| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        assert_eq!(
            words(FailsafePort::inbound()),
            "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667"
        );
        assert_eq!(
            words(FailsafePort::outbound()),
            "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667"
        );
    }
}
