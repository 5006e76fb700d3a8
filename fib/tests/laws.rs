//! Laws of the forwarding table, for both families, against the naive oracle.
//!
//! Prefixes are drawn from few address bits, so that they nest, touch and repeat. Every check
//! asks about the first and last address of every prefix ever seen and about the neighbours of
//! both, through the single lookup, the burst lookup and the writer.

use core::net::{Ipv4Addr, Ipv6Addr};
use fib::oracle::Oracle;
use fib::{Address, Fib, FibWriter, GroupId, Kernel, NO_ROUTE, Prefix};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

trait Family: Address {
    /// Addresses whose bits vary around the boundaries of trie levels and at both ends.
    fn address() -> BoxedStrategy<Self>;

    fn prefix() -> BoxedStrategy<Prefix<Self>> {
        (Self::address(), 0..=Self::BITS)
            .prop_map(|(addr, len)| Prefix::masked(addr, len).expect("len is at most BITS"))
            .boxed()
    }
}

impl Family for Ipv4Addr {
    fn address() -> BoxedStrategy<Self> {
        (0_u32..4, 0_u32..8, 0_u32..8, 0_u32..4)
            .prop_map(|(top, upper, lower, low)| {
                Self::from_bits((top << 30) | (upper << 18) | (lower << 6) | low)
            })
            .boxed()
    }
}

impl Family for Ipv6Addr {
    fn address() -> BoxedStrategy<Self> {
        (0_u128..4, 0_u128..8, 0_u128..8, 0_u128..8, 0_u128..4)
            .prop_map(|(top, upper, middle, lower, low)| {
                Self::from_bits((top << 126) | (upper << 114) | (middle << 79) | (lower << 62) | low)
            })
            .boxed()
    }
}

fn group() -> impl Strategy<Value = GroupId> {
    prop_oneof![0_u32..4, Just(GroupId::MAX.raw())]
        .prop_map(|raw| GroupId::new(raw).expect("raw is at most MAX"))
}

#[derive(Clone, Debug)]
enum Step<A> {
    Insert(Prefix<A>, GroupId),
    Remove(Prefix<A>),
    /// Removes the n-th prefix that is in the table.
    RemovePresent(prop::sample::Index),
    Reclaim,
}

fn step<A: Family>() -> impl Strategy<Value = Step<A>> {
    prop_oneof![
        6 => (A::prefix(), group()).prop_map(|(prefix, group)| Step::Insert(prefix, group)),
        1 => A::prefix().prop_map(Step::Remove),
        3 => any::<prop::sample::Index>().prop_map(Step::RemovePresent),
        1 => Just(Step::Reclaim),
    ]
}

/// First and last address of each prefix, and the addresses beside them.
fn probes<'a, A: Address>(prefixes: impl IntoIterator<Item = &'a Prefix<A>>) -> Vec<A> {
    let mut probes = BTreeSet::from([A::UNSPECIFIED, A::HIGHEST]);
    for prefix in prefixes {
        for edge in [prefix.first(), prefix.last()] {
            probes.insert(edge);
            probes.extend(edge.successor());
            probes.extend(edge.predecessor());
        }
    }
    probes.into_iter().collect()
}

/// What a burst lookup answers, with a mask that leaves some lanes out.
fn burst_answers<A: Address>(fib: &Fib<A>, kernel: Kernel, probes: &[A]) -> Vec<Option<u32>> {
    const UNTOUCHED: u32 = 0xdead_beef;
    let mut answers = Vec::new();
    for chunk in probes.chunks(32) {
        let mut addrs = [A::HIGHEST; 64];
        let mut out = [UNTOUCHED; 64];
        let mut mask = 0;
        for (i, &probe) in chunk.iter().enumerate() {
            addrs[2 * i + 1] = probe;
            mask |= 1 << (2 * i + 1);
        }
        fib.lookup_burst_with(kernel, &addrs, mask, &mut out);
        for (lane, &raw) in out.iter().enumerate() {
            if mask >> lane & 1 == 0 {
                assert_eq!(raw, UNTOUCHED, "lane {lane} is not in the mask");
            } else {
                answers.push((raw != NO_ROUTE).then_some(raw));
            }
        }
    }
    answers
}

fn agree<A: Address>(writer: &FibWriter<A>, oracle: &Oracle<A>, probes: &[A]) {
    let fib = writer.reader();
    let bursts = burst_answers(&fib, Kernel::Scalar, probes);
    for kernel in Kernel::ALL {
        assert_eq!(burst_answers(&fib, kernel, probes), bursts, "{kernel:?} and its scalar twin");
    }
    assert_eq!(bursts.len(), probes.len());
    for (&probe, burst) in probes.iter().zip(bursts) {
        let expected = oracle.lookup(probe);
        assert_eq!(writer.longest_match(probe), expected, "{probe}");
        assert_eq!(
            fib.lookup_prefix(probe),
            expected.map(|(prefix, group)| (prefix.len(), group)),
            "{probe}"
        );
        assert_eq!(fib.lookup(probe), expected.map(|(_, group)| group), "{probe}");
        assert_eq!(burst, expected.map(|(_, group)| group.raw()), "{probe}");
    }
    let mut routes = oracle.routes().to_vec();
    routes.sort_unstable();
    assert_eq!(writer.iter().collect::<Vec<_>>(), routes);
    assert_eq!(writer.len(), routes.len());
}

/// After each step the table answers as the oracle does; emptied, it needs no node.
fn follows_the_oracle<A: Address>(steps: Vec<Step<A>>) {
    let mut writer = FibWriter::new();
    let mut oracle = Oracle::new();
    let mut seen = BTreeSet::new();
    for step in steps {
        match step {
            Step::Insert(prefix, group) => {
                seen.insert(prefix);
                let former = writer.insert(prefix, group).expect("no limit is set");
                assert_eq!(former, oracle.insert(prefix, group));
            }
            Step::Remove(prefix) => {
                assert_eq!(writer.remove(&prefix), oracle.remove(&prefix));
            }
            Step::RemovePresent(index) => {
                if !oracle.routes().is_empty() {
                    let (prefix, group) = *index.get(oracle.routes());
                    assert_eq!(writer.get(&prefix), Some(group));
                    assert_eq!(writer.remove(&prefix), Some(group));
                    oracle.remove(&prefix);
                    assert_eq!(writer.get(&prefix), None);
                }
            }
            Step::Reclaim => {
                let waiting = writer.retired();
                let sealed = writer.seal();
                assert_eq!(writer.reclaim(sealed), waiting);
                assert_eq!(writer.retired(), 0);
            }
        }
        agree(&writer, &oracle, &probes(&seen));
    }
}

/// Any order of the same announcements makes the same table.
fn order_does_not_matter<A: Address>(routes: Vec<(Prefix<A>, GroupId)>, shuffled: Vec<usize>) {
    let mut oracle = Oracle::new();
    let mut loaded = FibWriter::new();
    for &(prefix, group) in &routes {
        oracle.insert(prefix, group);
    }
    let mut unique = oracle.routes().to_vec();
    unique.sort_unstable();
    assert_eq!(loaded.load(unique.iter().copied()), Ok(unique.len()));

    let mut inserted = FibWriter::new();
    for index in shuffled {
        if let Some(&(prefix, group)) = unique.get(index) {
            inserted.insert(prefix, group).expect("no limit is set");
        }
    }
    let probes = probes(unique.iter().map(|(prefix, _)| prefix));
    agree(&loaded, &oracle, &probes);
    agree(&inserted, &oracle, &probes);
}

/// Announcing and withdrawing leaves the table as if nothing had been announced, and takes no
/// memory the second time.
fn withdrawn_is_never_announced<A: Address>(
    kept: Vec<(Prefix<A>, GroupId)>,
    passing: Vec<(Prefix<A>, GroupId)>,
) {
    let mut oracle = Oracle::new();
    let mut writer = FibWriter::new();
    for &(prefix, group) in &kept {
        oracle.insert(prefix, group);
        writer.insert(prefix, group).expect("no limit is set");
    }
    let passing: Vec<_> = passing.into_iter().filter(|(prefix, _)| writer.get(prefix).is_none()).collect();
    for _ in 0..2 {
        for &(prefix, group) in &passing {
            writer.insert(prefix, group).expect("no limit is set");
        }
        for (prefix, _) in &passing {
            writer.remove(prefix);
        }
    }
    let probes = probes(kept.iter().chain(&passing).map(|(prefix, _)| prefix));
    agree(&writer, &oracle, &probes);

    // The nodes of the two rounds are free again: a third finds all it needs among them.
    let sealed = writer.seal();
    writer.reclaim(sealed);
    let memory = writer.memory_bytes();
    for &(prefix, group) in &passing {
        writer.insert(prefix, group).expect("no limit is set");
    }
    for (prefix, _) in &passing {
        writer.remove(prefix);
    }
    let sealed = writer.seal();
    writer.reclaim(sealed);
    assert_eq!(writer.memory_bytes(), memory);

    for (prefix, _) in &kept {
        writer.remove(prefix);
    }
    assert!(writer.is_empty());
    agree(&writer, &Oracle::new(), &probes);
}

macro_rules! laws {
    ($name:ident, $family:ty) => {
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 64 }))]

                #[test]
                fn every_change_follows_the_oracle(steps in vec(step::<$family>(), 1..60)) {
                    follows_the_oracle(steps);
                }

                #[test]
                fn order_of_announcements_does_not_matter(
                    (routes, shuffled) in vec((<$family>::prefix(), group()), 0..80)
                        .prop_flat_map(|routes| {
                            let order: Vec<usize> = (0..routes.len()).collect();
                            (Just(routes), Just(order).prop_shuffle())
                        })
                ) {
                    order_does_not_matter(routes, shuffled);
                }

                #[test]
                fn withdrawn_equals_never_announced(
                    kept in vec((<$family>::prefix(), group()), 0..30),
                    passing in vec((<$family>::prefix(), group()), 0..30),
                ) {
                    withdrawn_is_never_announced(kept, passing);
                }
            }
        }
    };
}

laws!(ipv4, Ipv4Addr);
laws!(ipv6, Ipv6Addr);
