//! Ten million questions about full Internet tables, each answered by every kernel, by the single
//! lookup, and by a sweep over the sorted routes that shares no code with the table.

use core::net::{Ipv4Addr, Ipv6Addr};
use fib::{Address, FibWriter, GroupId, Kernel, NO_ROUTE, Prefix};

mod real_table;

use real_table::{expected, probes, random_v4, random_v6, routes};

/// `group` names the group of the route at a position.
fn check<A: Address>(
    routes: &[Prefix<A>],
    probes: &[A],
    expected: &[Option<usize>],
    group: fn(usize) -> u32,
) {
    let group_id = |position| GroupId::new(group(position)).expect("in range");
    let mut writer = FibWriter::new();
    let load = routes.iter().enumerate().map(|(position, &route)| (route, group_id(position)));
    assert_eq!(writer.load(load), Ok(routes.len()));
    let fib = writer.reader();
    let mut wrong = 0_usize;
    for (&probe, expected) in probes.iter().zip(expected) {
        wrong += usize::from(fib.lookup(probe) != expected.map(group_id));
        let prefix = expected.map(|position| (routes[position].len(), group_id(position)));
        wrong += usize::from(fib.lookup_prefix(probe) != prefix);
    }
    assert_eq!(wrong, 0, "of {} single lookups", probes.len());
    for kernel in Kernel::ALL {
        // Neighbouring probes share lines; far ones in the same burst do not.
        let far = probes.len() / 64;
        for first in 0..far {
            let addrs: [A; 64] = core::array::from_fn(|lane| probes[first + lane * far]);
            let mut out = [0; 64];
            fib.lookup_burst_with(kernel, &addrs, u64::MAX, &mut out);
            for (lane, &out) in out.iter().enumerate() {
                wrong += usize::from(out != expected[first + lane * far].map_or(NO_ROUTE, group));
            }
        }
        assert_eq!(wrong, 0, "of {} lookups by {kernel:?}", far * 64);
    }
}

#[test]
fn ipv4() {
    let routes = routes::<Ipv4Addr>();
    assert_eq!(routes.len(), 901_899);
    let probes = probes(&routes, 10_000_000, random_v4);
    let expected = expected(&routes, &probes);
    // As a router numbers its groups; and one for each route, up to the highest number.
    check(&routes, &probes, &expected, |position| position as u32 % 50_000);
    check(&routes, &probes, &expected, |position| GroupId::MAX.raw() - position as u32 * 9);
}

#[test]
fn ipv6() {
    let routes = routes::<Ipv6Addr>();
    assert_eq!(routes.len(), 160_147);
    let probes = probes(&routes, 10_000_000, random_v6);
    let expected = expected(&routes, &probes);
    check(&routes, &probes, &expected, |position| GroupId::MAX.raw() - position as u32);
}
