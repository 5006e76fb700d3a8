use super::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::sync::atomic::AtomicUsize;

fn v4(text: &str) -> Prefix<Ipv4Addr> {
    text.parse().unwrap()
}

fn group(raw: u32) -> GroupId {
    GroupId::new(raw).unwrap()
}

/// The lines on the way to `prefix`.
fn lines<A: Address>(writer: &FibWriter<A>, prefix: &Prefix<A>) -> Vec<u32> {
    writer.path(prefix.addr(), prefix.len()).lines().to_vec()
}

fn empty_is_small<A: Address>() {
    let writer = FibWriter::<A>::new();
    assert!(writer.is_empty());
    assert!(writer.memory_bytes() <= 64 << 10);
    assert_eq!(writer.reader().lookup(A::UNSPECIFIED), None);
    assert_eq!(writer.reader().lookup_prefix(A::HIGHEST), None);
}

#[test]
fn an_empty_table_takes_at_most_64_kib() {
    empty_is_small::<Ipv4Addr>();
    empty_is_small::<Ipv6Addr>();
}

#[test]
fn retired_lines_are_reused_only_after_reclaim() {
    let mut writer = FibWriter::new();
    let (one, two) = (v4("10.0.0.1/32"), v4("192.0.2.1/32"));
    writer.insert(one, group(1)).unwrap();
    let first = lines(&writer, &one);
    assert_eq!(first.len(), 6);
    writer.remove(&one);
    assert_eq!(writer.retired(), 6);

    writer.insert(two, group(2)).unwrap();
    let second = lines(&writer, &two);
    assert!(second.iter().all(|line| !first.contains(line)));

    let sealed = writer.seal();
    assert_eq!(writer.reclaim(sealed), 6);
    writer.insert(one, group(1)).unwrap();
    let mut again = lines(&writer, &one);
    again.sort_unstable();
    assert_eq!(again, first);
}

#[test]
fn a_reader_inside_a_retired_line_still_finds_its_answer() {
    let mut writer = FibWriter::new();
    let pod = v4("10.0.0.1/32");
    writer.insert(v4("10.0.0.0/8"), group(8)).unwrap();
    writer.insert(pod, group(32)).unwrap();
    let line = *lines(&writer, &pod).last().unwrap() as usize;
    writer.remove(&pod);
    writer.insert(v4("10.0.0.0/8"), group(9)).unwrap();
    writer.insert(v4("10.0.0.2/32"), group(2)).unwrap();
    let slots = writer.generation().lines()[line].slots();
    assert!(
        slots.iter().all(|slot| Entry(slot.load(Ordering::Relaxed)) == Entry::leaf(8, group(8))),
        "the line stays as it was when it was unlinked"
    );
}

#[test]
fn a_token_covers_what_was_retired_before_it() {
    let mut writer = FibWriter::new();
    let (one, two) = (v4("10.0.0.1/32"), v4("192.0.2.1/32"));
    for prefix in [one, two] {
        writer.insert(prefix, group(1)).unwrap();
    }
    writer.remove(&one);
    let (early, again) = (writer.seal(), writer.seal());
    writer.remove(&two);
    let late = writer.seal();
    assert_eq!(writer.reclaim(early), 6);
    assert_eq!(writer.retired(), 6);
    assert_eq!(writer.reclaim(again), 0);
    assert_eq!(writer.reclaim(late), 6);
    assert_eq!(writer.retired(), 0);
}

#[test]
fn a_token_of_another_table_frees_nothing() {
    let mut one = FibWriter::new();
    let mut other = FibWriter::new();
    for writer in [&mut one, &mut other] {
        writer.insert(v4("10.0.0.1/32"), group(1)).unwrap();
        writer.remove(&v4("10.0.0.1/32"));
    }
    let foreign = other.seal();
    assert_eq!(one.reclaim(foreign), 0);
    assert_eq!(one.retired(), 6);
}

/// Fills a table of at most `limit` bytes with prefixes far from each other, until it refuses.
/// Then all that it took must be there, what it refused must not, and room that is given back
/// must be of use.
fn refuses_when_full<A: Address>(limit: usize, len: u8, network: fn(u32) -> A) {
    let mut writer = FibWriter::with_memory_limit(limit);
    let fib = writer.reader();
    let route = |i: u32| Prefix::masked(network(i), len).unwrap();
    writer.insert(Prefix::DEFAULT, group(0)).unwrap();
    let full = FibFull { limit_bytes: limit };
    let refused = (1..1 << 16).find(|&i| writer.insert(route(i), group(i)).is_err()).unwrap();
    assert!(refused > 3, "{refused}");
    assert!(writer.memory_bytes() <= limit, "{} bytes", writer.memory_bytes());
    let bytes = writer.memory_bytes();
    assert_eq!(writer.insert(route(refused), group(refused)), Err(full));
    assert_eq!((writer.len(), writer.get(&route(refused))), (refused as usize, None));
    assert_eq!((writer.retired(), writer.memory_bytes()), (0, bytes), "a refusal leaves no trace");
    let check = |fib: &Fib<A>, there: core::ops::Range<u32>| {
        for i in 1..refused + 2 {
            let expected = if there.contains(&i) { i } else { 0 };
            assert_eq!(fib.lookup(network(i)), Some(group(expected)));
        }
    };
    check(&fib, 1..refused);

    // A removal never fails, and what needs no memory still fits.
    assert_eq!(writer.remove(&route(1)), Some(group(1)));
    assert_eq!(writer.insert(route(2), group(2)), Ok(Some(group(2))));
    assert_eq!(writer.insert(route(refused), group(refused)), Err(full), "readers may still be there");
    let sealed = writer.seal();
    assert!(writer.reclaim(sealed) > 0);
    assert_eq!(writer.insert(route(refused), group(refused)), Ok(None));
    check(&fib, 2..refused + 1);
}

#[test]
#[cfg_attr(miri, ignore = "tables of megabytes")]
fn a_full_table_refuses_and_stays_as_it_was() {
    for limit in [16 << 10, 100 << 10, 1 << 20, 3 << 20] {
        refuses_when_full::<Ipv4Addr>(limit, 24, |i| Ipv4Addr::from_bits(i.reverse_bits()));
        refuses_when_full::<Ipv6Addr>(limit, 64, |i| Ipv6Addr::from_bits(u128::from(i) << 100));
    }
    let full = FibFull { limit_bytes: 98_304 };
    assert_eq!(full.to_string(), "the forwarding table is full: it may take 98304 bytes");
}

#[test]
fn ten_routes_take_at_most_64_kib() {
    let mut v4 = FibWriter::new();
    let mut v6 = FibWriter::new();
    for i in 0..10_u32 {
        let spread = i.reverse_bits();
        v4.insert(Prefix::host(Ipv4Addr::from_bits(spread)), group(i)).unwrap();
        v6.insert(Prefix::host(Ipv6Addr::from_bits(u128::from(spread) << 96)), group(i)).unwrap();
    }
    assert!(v4.memory_bytes() <= 64 << 10, "{} bytes", v4.memory_bytes());
    assert!(v6.memory_bytes() <= 64 << 10, "{} bytes", v6.memory_bytes());
}

/// A table keeps its answers and its record through every change of generation.
#[test]
#[cfg_attr(miri, ignore = "tables of megabytes")]
fn growth_changes_no_answer() {
    static ADVISED: AtomicUsize = AtomicUsize::new(0);
    let mut writer = FibWriter::new();
    writer.advise_memory(|_, bytes| {
        ADVISED.fetch_add(bytes, Ordering::Relaxed);
    });
    let fib = writer.reader();
    let mut random = 1_u32;
    let mut routes = std::collections::BTreeMap::new();
    let mut generations = std::collections::BTreeSet::new();
    while generations.len() < 12 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let route = Prefix::masked(Ipv4Addr::from_bits(random), (random >> 3) as u8 % 21 + 12).unwrap();
        writer.insert(route, group(random >> 16)).unwrap();
        routes.insert(route, group(random >> 16));
        if generations.insert((writer.generation().root_bits(), writer.generation().lines().len())) {
            assert!(writer.iter().eq(routes.iter().map(|(&route, &group)| (route, group))));
            for route in routes.keys() {
                let found = writer.longest_match(route.addr()).unwrap();
                let answer = fib.lookup_prefix(route.addr());
                assert_eq!(answer, Some((found.0.len(), found.1)));
                assert_eq!(fib.lookup(route.addr()), Some(found.1));
                assert!(found.0.covers(&Prefix::host(route.addr())) && found.0.len() >= route.len());
            }
        }
    }
    assert_eq!(writer.generation().root_bits(), 20);
    assert!(fib.front.get().is_some() && fib.front_pays.load(Ordering::Relaxed));
    // The front and the newest generation, but for what lies outside of whole huge pages.
    let newest = size_of_val(writer.generation().lines());
    assert!(ADVISED.load(Ordering::Relaxed) >= (30 << 20) + newest - (2 << 20));

    // Groups that the front cannot name, a few and then too many.
    for (count, pays) in [(routes.len() / 100, true), (routes.len() / 10, false)] {
        for (route, old) in routes.iter_mut().take(count) {
            *old = group(old.raw() % 65_536 + 100_000);
            writer.insert(*route, *old).unwrap();
        }
        assert_eq!(fib.front_pays.load(Ordering::Relaxed), pays);
        for route in routes.keys() {
            let found = writer.longest_match(route.addr()).unwrap();
            assert_eq!(fib.lookup(route.addr()), Some(found.1));
        }
    }
    assert!(routes.keys().all(|route| writer.remove(route) == routes.get(route).copied()));
    assert!(writer.is_empty());
    assert_eq!(writer.fresh as usize - 65536, writer.retired() + writer.free.len(), "no line is lost");
}

#[test]
fn the_same_routes_come_and_go_in_constant_memory() {
    let mut writer = FibWriter::new();
    let mut taken = None;
    for round in 0..if cfg!(miri) { 3 } else { 50 } {
        for i in 0..200_u32 {
            let pod = Ipv4Addr::from_bits(0x0a00_0000 | i << 16 | i);
            writer.insert(Prefix::host(pod), group(round)).unwrap();
        }
        let bytes = writer.memory_bytes();
        for i in 0..200_u32 {
            let pod = Ipv4Addr::from_bits(0x0a00_0000 | i << 16 | i);
            assert_eq!(writer.remove(&Prefix::host(pod)), Some(group(round)));
        }
        let sealed = writer.seal();
        writer.reclaim(sealed);
        // The free lists have their full size from the second round on.
        if round > 0 {
            assert_eq!(*taken.get_or_insert(bytes), bytes);
        }
    }
}

#[test]
fn a_load_takes_ascending_prefixes_only() {
    let mut writer = FibWriter::new();
    let ascending = [v4("10.0.0.0/8"), v4("10.0.0.0/16"), v4("11.0.0.0/8")];
    assert_eq!(writer.load(ascending.map(|prefix| (prefix, group(1)))), Ok(3));

    let error =
        writer.load([v4("12.0.0.0/8"), v4("11.0.0.0/8")].map(|prefix| (prefix, group(2)))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "prefix 11.0.0.0/8 is out of order: a load takes each prefix once, in ascending order"
    );
    let twice = writer.load([v4("13.0.0.0/8"); 2].map(|prefix| (prefix, group(3))));
    assert_eq!(twice, Err(LoadError::Order(v4("13.0.0.0/8"))));
    assert_eq!(writer.get(&v4("11.0.0.0/8")), Some(group(1)));
    assert_eq!(writer.get(&v4("12.0.0.0/8")), Some(group(2)));
    assert_eq!(writer.len(), 5);
}
