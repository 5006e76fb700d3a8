//! Tables that a Rust program could take from crates.io instead. All of them answer one address
//! at a time, and none can be changed while it is read.

use super::library::group;
use super::report::Report;
use super::traffic::{Family, KINDS};
use fib::Prefix;
use ip_network_table::IpNetworkTable;
use poptrie::Poptrie;
use prefix_trie::PrefixMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

trait Table<A> {
    const NAME: &'static str;
    fn of(routes: impl Iterator<Item = (A, u8, u32)>) -> Self;
    fn group(&self, addr: A) -> Option<u32>;
}

macro_rules! tables {
    ($address:ty, $net:ty) => {
        impl Table<$address> for Poptrie<($address, u8), u32> {
            const NAME: &'static str = "crate poptrie 0.2";

            fn of(routes: impl Iterator<Item = ($address, u8, u32)>) -> Self {
                routes.map(|(addr, len, group)| ((addr, len), group)).collect()
            }

            fn group(&self, addr: $address) -> Option<u32> {
                self.lookup(addr).copied()
            }
        }

        impl Table<$address> for PrefixMap<$net, u32> {
            const NAME: &'static str = "crate prefix-trie 0.10";

            fn of(routes: impl Iterator<Item = ($address, u8, u32)>) -> Self {
                routes.map(|(addr, len, group)| (<$net>::new_assert(addr, len), group)).collect()
            }

            fn group(&self, addr: $address) -> Option<u32> {
                self.get_lpm(&addr.into()).map(|(_, &group)| group)
            }
        }
    };
}

tables!(Ipv4Addr, ipnet::Ipv4Net);
tables!(Ipv6Addr, ipnet::Ipv6Net);

struct TreeBitmap(IpNetworkTable<u32>);

impl<A: Into<IpAddr>> Table<A> for TreeBitmap {
    const NAME: &'static str = "crate ip_network_table 0.2";

    fn of(routes: impl Iterator<Item = (A, u8, u32)>) -> Self {
        let mut table = IpNetworkTable::new();
        for (addr, len, group) in routes {
            table.insert(ip_network::IpNetwork::new(addr, len).expect("no host bits"), group);
        }
        Self(table)
    }

    fn group(&self, addr: A) -> Option<u32> {
        self.0.longest_match(addr).map(|(_, &group)| group)
    }
}

fn measure<A: Family, T: Table<A>>(report: &Report, routes: &[Prefix<A>], traces: &[Vec<A>; 3]) {
    let report = report.of(T::NAME);
    let start = Instant::now();
    let table =
        T::of(routes.iter().enumerate().map(|(i, route)| (route.addr(), route.len(), group(i).raw())));
    report.value("load_s", start.elapsed().as_secs_f64());
    for (kind, trace) in KINDS.iter().zip(traces) {
        report.rate(kind, "single", trace, |slice| {
            let sum = slice.iter().map(|&addr| table.group(addr).unwrap_or(u32::MAX));
            black_box(sum.fold(0, u32::wrapping_add));
        });
    }
}

pub(crate) fn ipv4(report: &Report, routes: &[Prefix<Ipv4Addr>], traces: &[Vec<Ipv4Addr>; 3]) {
    measure::<_, Poptrie<_, _>>(report, routes, traces);
    measure::<_, PrefixMap<ipnet::Ipv4Net, _>>(report, routes, traces);
    measure::<_, TreeBitmap>(report, routes, traces);
}

pub(crate) fn ipv6(report: &Report, routes: &[Prefix<Ipv6Addr>], traces: &[Vec<Ipv6Addr>; 3]) {
    measure::<_, Poptrie<_, _>>(report, routes, traces);
    measure::<_, PrefixMap<ipnet::Ipv6Net, _>>(report, routes, traces);
    measure::<_, TreeBitmap>(report, routes, traces);
}
