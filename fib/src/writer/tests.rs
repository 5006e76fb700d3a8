use super::*;
use core::net::{Ipv4Addr, Ipv6Addr};

fn v4(text: &str) -> Prefix<Ipv4Addr> {
    text.parse().unwrap()
}

fn v6(text: &str) -> Prefix<Ipv6Addr> {
    text.parse().unwrap()
}

fn group(raw: u32) -> GroupId {
    GroupId::new(raw).unwrap()
}

/// The nodes on the way to `prefix`, without the root.
fn blocks<A: Address>(writer: &FibWriter<A>, prefix: &Prefix<A>) -> Vec<Block> {
    writer.path(prefix)[1..].iter().map(|node| node.block).collect()
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
fn strides_add_up_to_the_address() {
    let sum = |levels: &[u8]| levels.iter().map(|&stride| u32::from(stride)).sum::<u32>();
    assert_eq!(sum(Strides::<Ipv4Addr>::LEVELS), 32);
    assert_eq!(sum(Strides::<Ipv6Addr>::LEVELS), 128);
}

#[test]
fn retired_nodes_are_reused_only_after_reclaim() {
    let mut writer = FibWriter::new();
    let (one, two) = (v4("10.0.0.1/32"), v4("192.0.2.1/32"));
    writer.insert(one, group(1)).unwrap();
    let first = blocks(&writer, &one);
    assert_eq!(first.len(), 2);
    writer.remove(&one);
    assert_eq!(writer.retired(), 2);

    writer.insert(two, group(2)).unwrap();
    let second = blocks(&writer, &two);
    assert!(second.iter().all(|block| !first.contains(block)));

    let sealed = writer.seal();
    assert_eq!(writer.reclaim(sealed), 2);
    writer.insert(one, group(1)).unwrap();
    assert_eq!(blocks(&writer, &one), first);
}

#[test]
fn a_reader_inside_a_retired_node_still_finds_its_answer() {
    let mut writer = FibWriter::new();
    let pod = v4("10.0.0.1/32");
    writer.insert(v4("10.0.0.0/8"), group(8)).unwrap();
    writer.insert(pod, group(32)).unwrap();
    let node = *writer.path(&pod).last().unwrap();
    writer.remove(&pod);
    writer.insert(v4("10.0.0.0/8"), group(9)).unwrap();
    writer.insert(v4("10.0.0.2/32"), group(2)).unwrap();
    let slots = writer.fib.arena.slots(node.block, node.size());
    assert!(
        slots.iter().all(|slot| Entry(slot.load(Ordering::Relaxed)) == Entry::leaf(8, group(8))),
        "the node stays as it was when it was unlinked"
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
    assert_eq!(writer.reclaim(early), 2);
    assert_eq!(writer.retired(), 2);
    assert_eq!(writer.reclaim(again), 0);
    assert_eq!(writer.reclaim(late), 2);
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
    assert_eq!(one.retired(), 2);
}

#[test]
fn a_full_table_refuses_and_stays_as_it_was() {
    // The root and one chunk of 64 KiB: room for eight nodes of the second level.
    let mut writer = FibWriter::with_memory_limit((32 + 64) << 10);
    let fib = writer.reader();
    let addr = |i: u32| Ipv4Addr::from_bits(i << 24);
    for i in 0..8 {
        let route = Prefix::masked(addr(i), 24).unwrap();
        writer.insert(route, group(i)).unwrap();
    }
    let full = FibFull { limit_bytes: 96 << 10 };
    assert_eq!(full.to_string(), "the forwarding table is full: its nodes may take 98304 bytes");
    let ninth = Prefix::masked(addr(8), 24).unwrap();
    assert_eq!(writer.insert(ninth, group(8)), Err(full));
    assert_eq!((writer.len(), writer.get(&ninth)), (8, None));
    assert_eq!(fib.lookup(addr(8)), None);
    for i in 0..8 {
        assert_eq!(fib.lookup(addr(i)), Some(group(i)));
    }
    // What needs no node still fits, and so does the ninth once another has gone.
    writer.insert(v4("8.0.0.0/8"), group(80)).unwrap();
    writer.remove(&Prefix::masked(addr(0), 24).unwrap());
    assert_eq!(writer.insert(ninth, group(8)), Err(full));
    let sealed = writer.seal();
    assert_eq!(writer.reclaim(sealed), 1);
    writer.insert(ninth, group(8)).unwrap();
    assert_eq!(fib.lookup(addr(8)), Some(group(8)));
    assert_eq!(fib.lookup("8.0.1.0".parse().unwrap()), Some(group(80)));
}

#[test]
fn a_table_that_fills_up_halfway_down_takes_the_way_back() {
    // Room for one large and 56 small nodes: four whole ways to a /128 and part of a fifth.
    let mut writer = FibWriter::with_memory_limit((32 + 64) << 10);
    let fib = writer.reader();
    writer.insert(Prefix::DEFAULT, group(0)).unwrap();
    let pod = |i: u32| v6(&format!("fd00:{i:x}::1/128"));
    let taken = (1..).find(|&i| writer.insert(pod(i), group(i)).is_err()).unwrap() - 1;
    assert_eq!(taken, 4);
    let failed = pod(taken + 1);
    assert!(writer.retired() > 0, "the nodes made for it are given back");
    assert_eq!(fib.lookup(failed.addr()), Some(group(0)));
    assert_eq!(writer.len(), 5);

    let sealed = writer.seal();
    writer.reclaim(sealed);
    writer.remove(&pod(1));
    let sealed = writer.seal();
    writer.reclaim(sealed);
    writer.insert(failed, group(9)).unwrap();
    assert_eq!(fib.lookup(failed.addr()), Some(group(9)));
    assert_eq!(fib.lookup(pod(1).addr()), Some(group(0)));
    assert_eq!(fib.lookup(pod(2).addr()), Some(group(2)));
}

#[test]
fn the_same_routes_come_and_go_in_constant_memory() {
    let mut writer = FibWriter::new();
    let mut taken = None;
    for round in 0..50 {
        for i in 0..200_u32 {
            let pod = Ipv4Addr::from_bits(0x0a00_0000 | i << 16 | i);
            writer.insert(Prefix::host(pod), group(round)).unwrap();
        }
        let nodes = writer.allocator.bytes();
        for i in 0..200_u32 {
            let pod = Ipv4Addr::from_bits(0x0a00_0000 | i << 16 | i);
            assert_eq!(writer.remove(&Prefix::host(pod)), Some(group(round)));
        }
        let sealed = writer.seal();
        writer.reclaim(sealed);
        // The free lists have their full size from the second round on.
        if round > 0 {
            assert_eq!(*taken.get_or_insert(nodes), nodes);
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
