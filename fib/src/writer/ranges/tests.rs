use super::{FEW, Room};
use crate::arena::{Line, SLOTS};
use crate::entry::Entry;
use crate::oracle::Oracle;
use crate::ranges::{END, MIDDLE, OCTET, RANGES, ROOT, Ranges, is_dense, is_range};
use crate::{Address, FibWriter, GroupId, Kernel, NO_ROUTE, Prefix};
use core::net::Ipv6Addr;
use proptest::collection::vec;
use proptest::prelude::*;

fn group(raw: u32) -> GroupId {
    GroupId::new(raw).unwrap()
}

fn v6(text: &str) -> Prefix<Ipv6Addr> {
    text.parse().unwrap()
}

/// A table whose ranges are there from the beginning, with room for `lines` below the root.
fn table(lines: usize, limit: usize) -> FibWriter<Ipv6Addr> {
    let mut writer = FibWriter::with_memory_limit(limit);
    writer.make_ranges(Ranges::ROOT_LINES + lines);
    writer
}

/// What the ranges say about an address, `None` where they leave it to the trie.
fn ranges(writer: &FibWriter<Ipv6Addr>, addr: &str) -> Option<Option<GroupId>> {
    let entry = writer.fib.ranges.shown().unwrap().get(addr.parse::<Ipv6Addr>().unwrap());
    (!entry.is_child()).then(|| entry.group())
}

/// The word that decides about bits 32 to 48.
fn block(writer: &FibWriter<Ipv6Addr>, addr: &str) -> Entry {
    let (ranges, addr) = (writer.fib.ranges.shown().unwrap(), addr.parse::<Ipv6Addr>().unwrap());
    let root = ranges.load(addr.slice(0, ROOT));
    assert!(is_dense(root));
    ranges.load(root.0 as usize + addr.slice(ROOT, MIDDLE - ROOT))
}

/// Lines of nodes that are linked, counted from the root.
fn linked(ranges: &Ranges) -> usize {
    fn below(ranges: &Ranges, entry: Entry, bits: &[u8]) -> usize {
        if is_range(entry) {
            return 1;
        }
        let Some((bits, rest)) = bits.split_first().filter(|_| is_dense(entry)) else { return 0 };
        let words = (0..1 << bits).map(|slot| ranges.load(entry.0 as usize + slot));
        (1 << bits) / SLOTS + words.map(|entry| below(ranges, entry, rest)).sum::<usize>()
    }
    let widths = [MIDDLE - ROOT, OCTET, END - MIDDLE - OCTET];
    (0..1 << ROOT).map(|slot| below(ranges, ranges.load(slot), &widths)).sum()
}

/// Lines that are free or wait for readers.
fn unlinked(room: &Room) -> usize {
    let free = room.free.iter().zip([1, 16, 256]).map(|(free, lines)| free.len() * lines);
    free.sum::<usize>() + room.retired.iter().map(|(class, _)| class.lines() as usize).sum::<usize>()
}

fn assert_nothing_is_lost(writer: &FibWriter<Ipv6Addr>) {
    let ranges = writer.fib.ranges.shown().unwrap();
    let used = writer.room.fresh as usize - Ranges::ROOT_LINES;
    assert_eq!(used, linked(ranges) + unlinked(&writer.room), "lines used, linked, unlinked");
}

#[test]
#[cfg_attr(miri, ignore = "a root of 4 MiB")]
fn a_line_becomes_dense_and_a_line_again() {
    let mut writer = table(1000, usize::MAX);
    let route = |i: u32| v6(&format!("2001:db8:{:x}::/48", 0x100 * i));
    // Each adds two ranges, the first one: its own and the rest above.
    for i in 0..RANGES as u32 / 2 {
        writer.insert(route(i), group(i)).unwrap();
        assert!(is_range(block(&writer, "2001:db8::")));
    }
    writer.insert(route(100), group(100)).unwrap();
    assert!(is_dense(block(&writer, "2001:db8::")));
    for i in [0, 1, 4, 100] {
        assert_eq!(ranges(&writer, &format!("2001:db8:{:x}::1", 0x100 * i)), Some(Some(group(i))));
        assert_eq!(ranges(&writer, &format!("2001:db8:{:x}::1", 0x100 * i + 1)), Some(None));
    }
    writer.remove(&route(100));
    writer.remove(&route(4));
    writer.remove(&route(3));
    assert!(is_dense(block(&writer, "2001:db8::")), "six ranges are left, more than {FEW}");
    writer.remove(&route(2));
    assert!(is_range(block(&writer, "2001:db8::")), "four ranges are left");
    assert_eq!(ranges(&writer, "2001:db8:100::1"), Some(Some(group(1))));
    assert_nothing_is_lost(&writer);
    writer.remove(&route(0));
    writer.remove(&route(1));
    assert_eq!(linked(writer.fib.ranges.shown().unwrap()), 0);
    assert_nothing_is_lost(&writer);
}

#[test]
#[cfg_attr(miri, ignore = "a root of 4 MiB")]
fn another_group_is_stored_in_the_line_that_is_there() {
    let mut writer = table(1000, usize::MAX);
    writer.insert(v6("2001:db8::/32"), group(1)).unwrap();
    writer.insert(v6("2001:db8:7::/48"), group(2)).unwrap();
    let (line, waiting) = (block(&writer, "2001:db8::"), writer.retired());
    writer.insert(v6("2001:db8:7::/48"), group(3)).unwrap();
    writer.insert(v6("2001:db8::/32"), group(4)).unwrap();
    assert_eq!((block(&writer, "2001:db8::"), writer.retired()), (line, waiting));
    assert_eq!(ranges(&writer, "2001:db8:7::1"), Some(Some(group(3))));
    assert_eq!(ranges(&writer, "2001:db8:8::1"), Some(Some(group(4))));
}

#[test]
#[cfg_attr(miri, ignore = "a root of 4 MiB")]
fn longer_prefixes_are_left_to_the_trie() {
    let mut writer = table(1000, usize::MAX);
    writer.insert(v6("2001:db8:7::/48"), group(1)).unwrap();
    writer.insert(v6("2001:db8:7:8::/64"), group(2)).unwrap();
    assert_eq!(ranges(&writer, "2001:db8:7:8::1"), None);
    assert_eq!(ranges(&writer, "2001:db8:7:9::1"), None);
    assert_eq!(writer.reader().lookup("2001:db8:7:8::1".parse().unwrap()), Some(group(2)));
    writer.remove(&v6("2001:db8:7:8::/64"));
    assert_eq!(ranges(&writer, "2001:db8:7:8::1"), Some(Some(group(1))));
}

#[test]
#[cfg_attr(miri, ignore = "a root of 4 MiB")]
fn ranges_grow_or_stand_aside() {
    let route = |i: u32| v6(&format!("2001:{:x}:7::/48", 0x1000 * (i % 16) + i / 16));
    let all = |writer: &FibWriter<Ipv6Addr>| {
        (0..200).all(|i| writer.reader().lookup(route(i).addr()) == Some(group(i)))
    };
    let mut writer = table(300, usize::MAX);
    for i in 0..200 {
        writer.insert(route(i), group(i)).unwrap();
    }
    assert!(writer.fib.ranges.shown().unwrap().lines() > Ranges::ROOT_LINES + 16 * 256);
    assert!(all(&writer));
    assert_nothing_is_lost(&writer);

    // No room for larger ones: the table takes every route nevertheless.
    let first = (Ranges::ROOT_LINES + 300) * size_of::<Line>();
    let mut writer = table(300, first + (2 << 20));
    assert!(writer.fib.ranges.shown().is_some());
    for i in 0..200 {
        writer.insert(route(i), group(i)).unwrap();
    }
    assert!(writer.fib.ranges.shown().is_none());
    assert!(all(&writer));
    // And they come back when they can.
    for i in 1..200 {
        writer.remove(&route(i));
    }
    let sealed = writer.seal();
    assert!(writer.reclaim(sealed) > 0);
    for i in 0..=super::PATIENCE {
        writer.insert(route(0), group(i)).unwrap();
    }
    assert!(writer.fib.ranges.shown().is_some());
    assert_eq!(ranges(&writer, &route(0).addr().to_string()), Some(Some(group(super::PATIENCE))));
}

fn address() -> impl Strategy<Value = Ipv6Addr> {
    // Bits that vary on both sides of where nodes end.
    (0_u128..2, 0_u128..16, 0_u128..16, 0_u128..16, 0_u128..16, 0_u128..4).prop_map(
        |(top, root, middle, octet, end, low)| {
            let bits = [(top, 1), (root, 22), (middle, 34), (octet, 42), (end, 50), (low, 128)];
            Ipv6Addr::from_bits(bits.iter().fold(0, |addr, (bits, end)| addr | bits << (128 - end)))
        },
    )
}

fn prefix() -> impl Strategy<Value = Prefix<Ipv6Addr>> {
    let len = prop_oneof![
        1 => 0_u8..=128,
        2 => 16_u8..=32,
        6 => 32_u8..=50,
    ];
    (address(), len).prop_map(|(addr, len)| Prefix::masked(addr, len).unwrap())
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Prefix<Ipv6Addr>, u32),
    RemovePresent(prop::sample::Index),
    Reclaim,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prefix(), 0_u32..4).prop_map(|(prefix, group)| Step::Insert(prefix, group)),
        4 => any::<prop::sample::Index>().prop_map(Step::RemovePresent),
        1 => Just(Step::Reclaim),
    ]
}

fn agree(writer: &FibWriter<Ipv6Addr>, oracle: &Oracle<Ipv6Addr>, seen: &[Prefix<Ipv6Addr>]) {
    let mut probes: Vec<Ipv6Addr> = seen
        .iter()
        .flat_map(|prefix| [prefix.first(), prefix.last()])
        .flat_map(|edge| [Some(edge), edge.successor(), edge.predecessor()])
        .flatten()
        .collect();
    probes.resize(probes.len().next_multiple_of(64), Ipv6Addr::UNSPECIFIED);
    let fib = writer.reader();
    for burst in probes.as_chunks::<64>().0 {
        let expected = burst.map(|addr| oracle.lookup(addr).map(|(_, group)| group));
        assert_eq!(burst.map(|addr| fib.lookup(addr)), expected);
        for kernel in Kernel::ALL {
            for mask in [u64::MAX, 0xffff, 0x0f0f_0000_ffff_1234, 0x1_0000_8000] {
                let mut found = [NO_ROUTE - 1; 64];
                fib.lookup_burst_with(kernel, burst, mask, &mut found);
                for lane in 0..64 {
                    let raw = expected[lane].map_or(NO_ROUTE, GroupId::raw);
                    let answer = if mask >> lane & 1 == 1 { raw } else { NO_ROUTE - 1 };
                    assert_eq!(found[lane], answer, "{kernel:?}, lane {lane}, {}", burst[lane]);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Ranges, small ones that grow and ones that do not, say what the naive oracle says.
    #[test]
    #[cfg_attr(miri, ignore = "a root of 4 MiB")]
    fn ranges_say_what_the_table_says(steps in vec(step(), 1..160), lines in prop_oneof![Just(280_usize), Just(9000)]) {
        let (mut writer, mut oracle) = (table(lines, usize::MAX), Oracle::new());
        let (mut present, mut seen) = (Vec::new(), Vec::new());
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(prefix, raw) => {
                    writer.insert(prefix, group(raw)).unwrap();
                    oracle.insert(prefix, group(raw));
                    if !present.contains(&prefix) {
                        present.push(prefix);
                    }
                    seen.push(prefix);
                }
                Step::RemovePresent(index) if !present.is_empty() => {
                    let prefix = present.swap_remove(index.index(present.len()));
                    writer.remove(&prefix);
                    oracle.remove(&prefix);
                }
                Step::RemovePresent(_) => {}
                Step::Reclaim => {
                    let sealed = writer.seal();
                    writer.reclaim(sealed);
                }
            }
            if n % 16 == 0 {
                agree(&writer, &oracle, &seen);
            }
        }
        agree(&writer, &oracle, &seen);
        prop_assert!(writer.fib.ranges.shown().is_some());
        assert_nothing_is_lost(&writer);
        for prefix in present {
            writer.remove(&prefix);
        }
        prop_assert_eq!(linked(writer.fib.ranges.shown().unwrap()), 0);
        assert_nothing_is_lost(&writer);
    }
}
