//! Ten million questions about full Internet tables, each answered by every kernel, by the single
//! lookup, and by a sweep over the sorted routes that shares no code with the table.

use core::net::{Ipv4Addr, Ipv6Addr};
use fib::{Address, FibWriter, GroupId, Kernel, NO_ROUTE, Prefix};

mod real_table;

use real_table::routes;

/// First and last address of every route and the addresses beside them, and random ones: half
/// anywhere, half in a route. Ascending.
fn probes<A: Address>(
    routes: &[Prefix<A>],
    count: usize,
    random_in: fn(&Prefix<A>, [u64; 2]) -> A,
) -> Vec<A> {
    let mut probes = Vec::with_capacity(count);
    for route in routes {
        for edge in [route.first(), route.last()] {
            probes.push(edge);
            probes.extend(edge.successor());
            probes.extend(edge.predecessor());
        }
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    while probes.len() < count {
        let route = routes[random() as usize % routes.len()];
        probes.push(random_in(&route, [random(), random()]));
        probes.push(random_in(&Prefix::DEFAULT, [random(), random()]));
    }
    probes.sort_unstable();
    probes
}

/// For each probe, the position of the longest route that contains it.
fn expected<A: Address>(routes: &[Prefix<A>], probes: &[A]) -> Vec<Option<usize>> {
    let mut next = 0;
    let mut open: Vec<usize> = Vec::new();
    let answer = |&probe: &A| {
        while next < routes.len() && routes[next].first() <= probe {
            while open.last().is_some_and(|&last| routes[last].last() < routes[next].first()) {
                open.pop();
            }
            open.push(next);
            next += 1;
        }
        while open.last().is_some_and(|&last| routes[last].last() < probe) {
            open.pop();
        }
        open.last().copied()
    };
    probes.iter().map(answer).collect()
}

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
    let probes = probes(&routes, 10_000_000, |route, random| {
        let (first, last) = (route.first().to_bits(), route.last().to_bits());
        Ipv4Addr::from_bits(first | random[0] as u32 & (last - first))
    });
    let expected = expected(&routes, &probes);
    // As a router numbers its groups; and one for each route, up to the highest number.
    check(&routes, &probes, &expected, |position| position as u32 % 50_000);
    check(&routes, &probes, &expected, |position| GroupId::MAX.raw() - position as u32 * 9);
}

#[test]
fn ipv6() {
    let routes = routes::<Ipv6Addr>();
    assert_eq!(routes.len(), 160_147);
    let probes = probes(&routes, 10_000_000, |route, random| {
        let (first, last) = (route.first().to_bits(), route.last().to_bits());
        let random = u128::from(random[0]) << 64 | u128::from(random[1]);
        Ipv6Addr::from_bits(first | random & (last - first))
    });
    let expected = expected(&routes, &probes);
    check(&routes, &probes, &expected, |position| GroupId::MAX.raw() - position as u32);
}
