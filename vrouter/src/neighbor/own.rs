//! The port's own addresses: which of them speaks to a neighbour, and how they are
//! announced and defended.
//!
//! ```text
//!   10.0.0.1/24, 10.0.0.129/25      neighbour 10.0.0.200: from 10.0.0.129 (longest prefix)
//!                                   neighbour 10.0.1.1:   refused, not connected
//! ```
//!
//! | | IPv4 (RFC 5227) | IPv6 |
//! |---|---|---|
//! | announced (start, new address or MAC) | 2 times, 2 s apart (§2.3) | 3 times, 1 s apart (RFC 4861 §7.2.6) |
//! | claimed by another station | at once, but every 10 s at most (§2.4 c) | the same |
//!
//! Duplicate address detection before first use is not done here: the addresses are
//! those that the node already has.

use std::net::IpAddr;
use std::time::Duration;

use super::config::{Config, is_station, max_prefix_len};
use crate::ids::Timestamp;

/// RFC 5227 §1.1, DEFEND_INTERVAL.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// Why an address cannot be resolved on this port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Refused {
    /// Multicast, broadcast, loopback, unspecified, or a subnet's own or broadcast address.
    #[error("not the address of one station")]
    NotStation,
    /// It is the port's own.
    #[error("the port's own address")]
    Own,
    /// The port has no address of this family to ask from.
    #[error("the port has no address of this family")]
    NoSource,
    /// It is in no connected prefix of the port.
    #[error("in no connected prefix of the port")]
    NotConnected,
    /// The cache holds as many entries as it may (counted).
    #[error("the neighbour cache is full")]
    CacheFull,
}

#[derive(Debug)]
struct Own {
    address: IpAddr,
    prefix_len: u8,
    announcements_left: u8,
    defended: Option<Timestamp>,
}

/// The own addresses of one port.
#[derive(Debug)]
pub(super) struct OwnAddresses {
    list: Vec<Own>,
}

impl OwnAddresses {
    pub(super) fn new(config: &Config) -> Self {
        let mut own = OwnAddresses { list: Vec::new() };
        own.replace(config);
        own
    }

    /// Takes over the addresses of `config`; what stays keeps its announcements and the
    /// memory of its defence. Returns (gone, new).
    pub(super) fn replace(&mut self, config: &Config) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let mut old = std::mem::take(&mut self.list);
        let mut added = Vec::new();
        for (address, prefix_len) in config.addresses() {
            let kept = old.iter().position(|own| own.address == address);
            let mut own = match kept {
                Some(at) => old.swap_remove(at),
                None => {
                    added.push(address);
                    Own { address, prefix_len, announcements_left: 0, defended: None }
                }
            };
            own.prefix_len = prefix_len;
            self.list.push(own);
        }
        (old.into_iter().map(|own| own.address).collect(), added)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.list.iter().any(|own| own.address == address)
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.list.iter().map(|own| own.address)
    }

    /// The own address that speaks to `neighbor`: of those whose prefix contains it, the
    /// one with the longest prefix, the first of equals.
    pub(super) fn source_for(&self, neighbor: IpAddr) -> Result<IpAddr, Refused> {
        if !is_station(neighbor) {
            return Err(Refused::NotStation);
        }
        if self.contains(neighbor) {
            return Err(Refused::Own);
        }
        let mut refused = Refused::NoSource;
        let mut best: Option<&Own> = None;
        for own in &self.list {
            let Some(common) = common_prefix_len(own.address, neighbor) else {
                continue;
            };
            if common < own.prefix_len {
                refused = Refused::NotConnected;
            } else if best.is_none_or(|best| own.prefix_len > best.prefix_len) {
                best = Some(own);
            }
        }
        match best {
            None => Err(refused),
            Some(own) if is_subnet_or_broadcast(neighbor, own.prefix_len) => Err(Refused::NotStation),
            Some(own) => Ok(own.address),
        }
    }

    /// Starts the announcements of `address` over.
    pub(super) fn start_announcing(&mut self, address: IpAddr) {
        if let Some(own) = self.find(address) {
            own.announcements_left = match address {
                IpAddr::V4(_) => 2,
                IpAddr::V6(_) => 3,
            };
        }
    }

    /// Counts one announcement of `address`; returns the time until the next, if one is left.
    pub(super) fn count_announcement(&mut self, address: IpAddr) -> Option<Duration> {
        let own = self.find(address)?;
        own.announcements_left = own.announcements_left.saturating_sub(1);
        (own.announcements_left > 0).then_some(match address {
            IpAddr::V4(_) => Duration::from_secs(2),
            IpAddr::V6(_) => Duration::from_secs(1),
        })
    }

    /// Another station claims `address`: true if it is to be defended now.
    pub(super) fn defend(&mut self, address: IpAddr, now: Timestamp) -> bool {
        let Some(own) = self.find(address) else {
            return false;
        };
        let quiet = own.defended.is_none_or(|last| now.since(last) >= DEFEND_INTERVAL);
        if quiet {
            own.defended = Some(now);
        }
        quiet
    }

    fn find(&mut self, address: IpAddr) -> Option<&mut Own> {
        self.list.iter_mut().find(|own| own.address == address)
    }
}

/// How many leading bits `a` and `b` share, if they are of one family.
fn common_prefix_len(a: IpAddr, b: IpAddr) -> Option<u8> {
    let bits = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros(),
        _ => return None,
    };
    Some(bits as u8)
}

/// RFC 1122 §3.2.1.3; /31 has neither (RFC 3021), and IPv6 knows no broadcast.
fn is_subnet_or_broadcast(address: IpAddr, prefix_len: u8) -> bool {
    let IpAddr::V4(v4) = address else {
        return false;
    };
    if prefix_len + 1 >= max_prefix_len(address) {
        return false;
    }
    let host_mask = u32::MAX >> prefix_len;
    let host = u32::from(v4) & host_mask;
    host == 0 || host == host_mask
}

#[cfg(test)]
mod tests {
    use encap::MacAddr;

    use super::*;

    fn own() -> OwnAddresses {
        let mut config = Config::new(MacAddr([2, 0, 0, 0, 0, 1]));
        config.addresses4 =
            vec![([10, 0, 0, 1].into(), 24), ([10, 0, 0, 129].into(), 25), ([192, 0, 2, 0].into(), 31)];
        config.addresses6 = vec![("fe80::1".parse().unwrap(), 64), ("2001:db8::1".parse().unwrap(), 64)];
        OwnAddresses::new(&config)
    }

    fn source(neighbor: &str) -> Result<String, Refused> {
        let source = own().source_for(neighbor.parse().unwrap());
        source.map(|address| address.to_string())
    }

    #[test]
    fn the_longest_connected_prefix_speaks() {
        for (neighbor, from) in [
            ("10.0.0.2", "10.0.0.1"),
            ("10.0.0.200", "10.0.0.129"),
            ("192.0.2.1", "192.0.2.0"),
            ("fe80::2", "fe80::1"),
            ("2001:db8::", "2001:db8::1"),
        ] {
            assert_eq!(source(neighbor), Ok(from.to_owned()), "{neighbor}");
        }
    }

    #[test]
    fn what_cannot_be_a_neighbor_is_refused_by_reason() {
        for (neighbor, why) in [
            ("10.0.1.1", Refused::NotConnected),
            ("2001:db8:1::1", Refused::NotConnected),
            ("10.0.0.1", Refused::Own),
            ("10.0.0.0", Refused::NotStation),
            ("10.0.0.255", Refused::NotStation),
            ("255.255.255.255", Refused::NotStation),
            ("224.0.0.1", Refused::NotStation),
            ("ff02::1", Refused::NotStation),
            ("::", Refused::NotStation),
        ] {
            assert_eq!(source(neighbor), Err(why), "{neighbor}");
        }
        let none = OwnAddresses::new(&Config::new(MacAddr([2; 6])));
        let neighbor = "10.0.0.2".parse().unwrap();
        assert_eq!(none.source_for(neighbor), Err(Refused::NoSource));
    }

    #[test]
    fn replacing_tells_what_went_and_what_came() {
        let mut own = own();
        let mut config = Config::new(MacAddr([2; 6]));
        config.addresses4 = vec![([10, 0, 0, 1].into(), 16), ([10, 9, 0, 1].into(), 16)];
        let (mut gone, added) = own.replace(&config);
        gone.sort();
        let text: Vec<_> = gone.iter().map(IpAddr::to_string).collect();
        assert_eq!(text, ["10.0.0.129", "192.0.2.0", "2001:db8::1", "fe80::1"]);
        assert_eq!(added, [IpAddr::from([10, 9, 0, 1])]);
        assert!(own.source_for([10, 0, 7, 7].into()).is_ok());
    }

    #[test]
    fn an_address_is_defended_once_in_ten_seconds() {
        let mut own = own();
        let address = IpAddr::from([10, 0, 0, 1]);
        assert!(own.defend(address, Timestamp::from_millis(1)));
        assert!(!own.defend(address, Timestamp::from_millis(10_000)));
        assert!(own.defend(address, Timestamp::from_millis(10_001)));
        assert!(!own.defend([10, 0, 0, 2].into(), Timestamp::from_millis(20_000)));
    }
}
