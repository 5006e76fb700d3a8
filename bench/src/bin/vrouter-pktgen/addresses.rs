//! The addresses and ports that packets carry, as they are given on the command line.
//!
//! | form | addresses |
//! |---|---|
//! | `10.0.0.1` | one |
//! | `10.0.0.1-10.0.0.9` | both ends and all between |
//! | `10.0.0.0/24` | all of the prefix |
//! | a file of prefixes | one of each line's, drawn at random, the same in every run |

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use vrouter_bench::random::Random;

/// Most addresses in a range: flows are numbered by 64 bits in all.
const MOST: u128 = 1 << 32;

/// Addresses of one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Addresses {
    /// Consecutive ones.
    Range {
        /// The lowest.
        first: IpAddr,
        /// How many.
        count: u64,
    },
    /// Any, at least one.
    List(Arc<[IpAddr]>),
}

impl Addresses {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Addresses::Range { count, .. } => *count,
            Addresses::List(list) => list.len() as u64,
        }
    }

    /// The address with a number below [`count`](Self::count).
    #[inline]
    pub(crate) fn at(&self, index: u64) -> IpAddr {
        match self {
            Addresses::Range { first: IpAddr::V4(first), .. } => {
                Ipv4Addr::from(u32::from(*first).wrapping_add(index as u32)).into()
            }
            Addresses::Range { first: IpAddr::V6(first), .. } => {
                Ipv6Addr::from(u128::from(*first).wrapping_add(u128::from(index))).into()
            }
            Addresses::List(list) => list[index as usize],
        }
    }

    /// Whether they are IPv4.
    pub(crate) fn is_ipv4(&self) -> bool {
        self.at(0).is_ipv4()
    }

    /// An address of each prefix in a file: one a line, `#` begins a comment; plain or gzip.
    ///
    /// # Errors
    /// What is wrong with the file, with the number of the line.
    pub(crate) fn of_prefixes(path: &Path) -> Result<Self, String> {
        let place = path.display();
        let bytes = std::fs::read(path).map_err(|error| format!("{place}: {error}"))?;
        let plain: Box<dyn Read> = if bytes.starts_with(&[0x1f, 0x8b]) {
            Box::new(flate2::read::GzDecoder::new(&bytes[..]))
        } else {
            Box::new(&bytes[..])
        };
        let mut random = Random::new(0x5eed);
        let mut list: Vec<IpAddr> = Vec::new();
        for (number, line) in BufReader::new(plain).lines().enumerate() {
            let at = |problem: &dyn core::fmt::Display| format!("{place}, line {}: {problem}", number + 1);
            let line = line.map_err(|error| at(&error))?;
            let text = line.split('#').next().unwrap_or_default().trim();
            if text.is_empty() {
                continue;
            }
            let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            let address = within(net.map_err(|_| at(&"neither a prefix nor an address"))?, &mut random);
            if list.first().is_some_and(|first| first.is_ipv4() != address.is_ipv4()) {
                return Err(at(&"another address family than that of the lines before"));
            }
            list.push(address);
        }
        if list.is_empty() {
            Err(format!("{place}: no prefix in it"))
        } else {
            Ok(Addresses::List(list.into()))
        }
    }
}

fn within(net: IpNet, random: &mut Random) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let host = random.next() as u32 & u32::from(net.hostmask());
            Ipv4Addr::from(u32::from(net.network()) | host).into()
        }
        IpNet::V6(net) => {
            let number = u128::from(random.next()) << 64 | u128::from(random.next());
            Ipv6Addr::from(u128::from(net.network()) | number & u128::from(net.hostmask())).into()
        }
    }
}

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |part: &str| part.parse::<IpAddr>().map_err(|error| format!("{part}: {error}"));
        let (first, last) = if text.contains('/') {
            let net: IpNet = text.parse().map_err(|error| format!("{text}: {error}"))?;
            (net.network(), net.broadcast())
        } else {
            match text.split_once('-') {
                Some((first, last)) => (parse(first)?, parse(last)?),
                None => (parse(text)?, parse(text)?),
            }
        };
        let distance = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                u32::from(last).checked_sub(u32::from(first)).map(u128::from)
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => u128::from(last).checked_sub(u128::from(first)),
            _ => return Err(format!("{text}: both ends of a range are of one family")),
        };
        match distance.ok_or_else(|| format!("{text}: the range ends before it begins"))? {
            distance if distance < MOST => Ok(Addresses::Range { first, count: distance as u64 + 1 }),
            _ => Err(format!("{text}: more than 2^32 addresses")),
        }
    }
}

/// Consecutive ports: `PORT` or `FIRST-LAST`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ports {
    /// The lowest.
    pub(crate) first: u16,
    /// How many.
    pub(crate) count: u64,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |part: &str| part.parse::<u16>().map_err(|error| format!("{part}: {error}"));
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (parse(first)?, parse(last)?),
            None => (parse(text)?, parse(text)?),
        };
        match last.checked_sub(first) {
            Some(distance) => Ok(Ports { first, count: u64::from(distance) + 1 }),
            None => Err(format!("{text}: the range ends before it begins")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_say_what_is_wrong_with_them() {
        assert_eq!("10.0.0.1-10.0.0.4".parse::<Addresses>().unwrap().count(), 4);
        let net: Addresses = "fd00::/112".parse().unwrap();
        assert_eq!((net.count(), net.at(65_535)), (65_536, "fd00::ffff".parse().unwrap()));
        for (text, part) in [
            ("10.0.0.2-10.0.0.1", "ends before"),
            ("10.0.0.1-::1", "one family"),
            ("x", "invalid"),
            ("fd00::/64", "2^32"),
            ("10.0.0.0/33", "10.0.0.0/33"),
        ] {
            assert!(text.parse::<Addresses>().unwrap_err().contains(part), "{text}");
        }
        assert!("5-4".parse::<Ports>().is_err());
    }

    #[test]
    fn a_file_of_prefixes_gives_an_address_of_each() {
        let directory = std::env::temp_dir().join(format!("pktgen-prefixes-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let read = |text: &str| {
            let file = directory.join("list");
            std::fs::write(&file, text).unwrap();
            Addresses::of_prefixes(&file)
        };
        let nets: [IpNet; 3] =
            ["10.0.0.0/8", "192.0.2.0/24", "198.51.100.7/32"].map(|net| net.parse().unwrap());
        let list = read("10.0.0.0/8 # all of it\n\n192.0.2.0/24\n198.51.100.7\n").unwrap();
        assert_eq!(list.count(), 3);
        assert!((0..3).all(|at| nets[at as usize].contains(&list.at(at))));
        assert!(read("10.0.0.0/8\nten\n").unwrap_err().contains("line 2: neither"));
        assert!(read("10.0.0.0/8\n::/0\n").unwrap_err().contains("line 2: another"));
        assert!(read("# nothing\n").unwrap_err().contains("no prefix"));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
