//! What the machine is told about its port, and the protocol's constants.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use encap::MacAddr;

/// The port's addresses and the protocol's constants.
///
/// The constants of [`Config::new`] are those of RFC 4861 §10; they serve ARP too. None
/// may be zero, and no time longer than a day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The port's own MAC address.
    pub mac: MacAddr,
    /// The port's IPv4 addresses, each with the length of its connected prefix.
    pub addresses4: Vec<(Ipv4Addr, u8)>,
    /// The port's IPv6 addresses, each with the length of its connected prefix. The
    /// link-local address is one of them: without it no link-local neighbour is found.
    pub addresses6: Vec<(Ipv6Addr, u8)>,
    /// Entries at most; the rules for a full cache are in [`Cache`](super::Cache).
    /// Default 4096.
    pub max_entries: usize,
    /// Between two questions for one address (RetransTimer). Default 1 s.
    pub retrans: Duration,
    /// Questions to all stations before a neighbour counts as absent
    /// (MAX_MULTICAST_SOLICIT). Default 3.
    pub multicast_solicits: u32,
    /// Questions to the neighbour itself before all stations are asked again
    /// (MAX_UNICAST_SOLICIT). Default 3.
    pub unicast_solicits: u32,
    /// How long an answer is good for (BaseReachableTime); each time the actual value
    /// is drawn between 0.5 and 1.5 of it. Default 30 s.
    pub reachable: Duration,
    /// Time for upper layers to confirm before a probe (DELAY_FIRST_PROBE_TIME).
    /// Default 5 s.
    pub delay: Duration,
    /// How long it is remembered that nobody answered. Default 3 s.
    pub failed_hold: Duration,
    /// A neighbour that no traffic has asked for in this time is forgotten. Default 10 min.
    pub gc: Duration,
}

/// Why a [`Config`] is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// The port's MAC address is a group address or zero.
    #[error("{0} is not the MAC address of one station")]
    Mac(MacAddr),
    /// A port's address is unspecified, loopback, multicast or broadcast.
    #[error("{0} cannot be the address of a port")]
    Address(IpAddr),
    /// A prefix is longer than its address.
    #[error("prefix length {1} is too long for {0}")]
    PrefixLen(IpAddr, u8),
    /// An address is listed twice.
    #[error("{0} is given twice")]
    Duplicate(IpAddr),
    /// A constant is zero, or a time is longer than a day.
    #[error("{0} is zero or more than a day")]
    OutOfRange(&'static str),
}

/// No time of the protocol is longer: RFC 4861 §6.2.1 stops at 1 h, the rest is margin.
const MAX_TIME: Duration = Duration::from_secs(24 * 3600);

impl Config {
    /// The defaults, for a port that has no IP address yet.
    pub fn new(mac: MacAddr) -> Config {
        Config {
            mac,
            addresses4: Vec::new(),
            addresses6: Vec::new(),
            max_entries: 4096,
            retrans: Duration::from_secs(1),
            multicast_solicits: 3,
            unicast_solicits: 3,
            reachable: Duration::from_secs(30),
            delay: Duration::from_secs(5),
            failed_hold: Duration::from_secs(3),
            gc: Duration::from_secs(600),
        }
    }

    /// The addresses of both families with their prefix lengths.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        let v4 = self.addresses4.iter().map(|&(a, len)| (IpAddr::V4(a), len));
        let v6 = self.addresses6.iter().map(|&(a, len)| (IpAddr::V6(a), len));
        v4.chain(v6)
    }

    /// # Errors
    /// The first fault found.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if !self.mac.is_unicast() {
            return Err(ConfigError::Mac(self.mac));
        }
        let mut seen = BTreeSet::new();
        for (address, len) in self.addresses() {
            if !is_station(address) {
                return Err(ConfigError::Address(address));
            }
            if len > max_prefix_len(address) {
                return Err(ConfigError::PrefixLen(address, len));
            }
            if !seen.insert(address) {
                return Err(ConfigError::Duplicate(address));
            }
        }
        let time = |name, time: Duration| (name, !time.is_zero() && time <= MAX_TIME);
        let ranges = [
            ("max_entries", self.max_entries > 0),
            ("multicast_solicits", self.multicast_solicits > 0),
            ("unicast_solicits", self.unicast_solicits > 0),
            time("retrans", self.retrans),
            time("reachable", self.reachable),
            time("delay", self.delay),
            time("failed_hold", self.failed_hold),
            time("gc", self.gc),
        ];
        match ranges.into_iter().find(|&(_, is_in_range)| !is_in_range) {
            Some((name, _)) => Err(ConfigError::OutOfRange(name)),
            None => Ok(()),
        }
    }
}

/// The address can be that of one station, whatever the prefix.
pub(super) fn is_station(address: IpAddr) -> bool {
    match address {
        // RFC 1122 §3.2.1.3: 0/8 is "this network", 240/4 and broadcast are nobody's.
        IpAddr::V4(a) => !a.is_loopback() && !a.is_multicast() && a.octets()[0] != 0 && a.octets()[0] < 240,
        IpAddr::V6(a) => !a.is_unspecified() && !a.is_loopback() && !a.is_multicast(),
    }
}

/// Bits of the address.
pub(super) const fn max_prefix_len(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn with4(addresses: &[([u8; 4], u8)]) -> Config {
        Config { addresses4: addresses.iter().map(|&(a, len)| (a.into(), len)).collect(), ..Config::new(MAC) }
    }

    #[test]
    fn defaults_and_sane_addresses_are_taken() {
        assert_eq!(Config::new(MAC).validate(), Ok(()));
        assert_eq!(with4(&[([10, 0, 0, 1], 24), ([10, 0, 0, 2], 32)]).validate(), Ok(()));
    }

    #[test]
    fn every_fault_is_named() {
        for mac in [MacAddr::ZERO, MacAddr::BROADCAST] {
            assert_eq!(Config::new(mac).validate(), Err(ConfigError::Mac(mac)));
        }
        for address in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
            let error = ConfigError::Address(IpAddr::V4(address.into()));
            assert_eq!(with4(&[(address, 24)]).validate(), Err(error));
        }
        let address = IpAddr::V4([10, 0, 0, 1].into());
        assert_eq!(with4(&[([10, 0, 0, 1], 33)]).validate(), Err(ConfigError::PrefixLen(address, 33)));
        assert_eq!(
            with4(&[([10, 0, 0, 1], 24), ([10, 0, 0, 1], 8)]).validate(),
            Err(ConfigError::Duplicate(address))
        );
        let multicast: Ipv6Addr = "ff02::1".parse().unwrap();
        let config = Config { addresses6: vec![(multicast, 64)], ..Config::new(MAC) };
        assert_eq!(config.validate(), Err(ConfigError::Address(multicast.into())));
        for retrans in [Duration::ZERO, Duration::MAX] {
            let config = Config { retrans, ..Config::new(MAC) };
            assert_eq!(config.validate(), Err(ConfigError::OutOfRange("retrans")));
        }
    }
}
