//! Real updates of the Internet's routes, in their order, against a map of prefixes.
//!
//! ```text
//!   + 193.0.0.0/21     announced: added, or its group replaced
//!   - 193.0.0.0/21     withdrawn, if it was there
//! ```
//!
//! After each update the first and last address of its prefix, and the addresses beside them, are asked
//! about: singly, and all those of 16 updates in one burst. `tests/data/ORIGIN.md` says where the updates
//! come from.

use core::net::{Ipv4Addr, Ipv6Addr};
use fib::{Address, FibWriter, GroupId, NO_ROUTE, Prefix};
use std::collections::HashMap;
use std::io::Read;

fn updates() -> String {
    let packed = include_bytes!("data/ris-updates.txt.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).expect("gzipped text");
    text
}

/// The group of the longest prefix in `routes` that contains an address.
fn longest<A: Address>(routes: &HashMap<Prefix<A>, GroupId>, addr: A) -> Option<GroupId> {
    let prefix = |len| Prefix::masked(addr, len).expect("len is at most BITS");
    (0..=A::BITS).rev().find_map(|len| routes.get(&prefix(len)).copied())
}

/// The edges of a prefix and what lies beside them.
fn probes<A: Address>(prefix: &Prefix<A>) -> impl Iterator<Item = A> {
    let edges = [prefix.first(), prefix.last()];
    [Some(edges[0]), Some(edges[1]), edges[0].predecessor(), edges[1].successor()].into_iter().flatten()
}

/// Replays the updates of one family; how many prefixes were announced and withdrawn.
fn replay<A: Address>(text: &str) -> (usize, usize) {
    let (mut writer, mut routes) = (FibWriter::<A>::new(), HashMap::new());
    let reader = writer.reader();
    let (mut announced, mut withdrawn) = (0, 0);
    let mut asked = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (sign, prefix) = line.split_once(' ').expect("a sign and a prefix");
        // Lines of the other family do not parse.
        let Ok(prefix) = prefix.parse::<Prefix<A>>() else { continue };
        if sign == "+" {
            announced += 1;
            let group = GroupId::new(number as u32).expect("below GroupId::MAX");
            let before = writer.insert(prefix, group).expect("room");
            assert_eq!(before, routes.insert(prefix, group), "{line}");
        } else {
            withdrawn += 1;
            assert_eq!(writer.remove(&prefix), routes.remove(&prefix), "{line}");
        }
        assert_eq!(writer.len(), routes.len());
        for probe in probes(&prefix) {
            assert_eq!(reader.lookup(probe), longest(&routes, probe), "{probe} after line {number}: {line}");
            asked.push(probe);
        }
        if asked.len() > 60 {
            check_burst(&writer, &routes, &mut asked);
            // Nobody reads meanwhile.
            let sealed = writer.seal();
            writer.reclaim(sealed);
        }
    }
    check_burst(&writer, &routes, &mut asked);
    (announced, withdrawn)
}

/// Asks about up to 64 addresses at once.
fn check_burst<A: Address>(writer: &FibWriter<A>, routes: &HashMap<Prefix<A>, GroupId>, asked: &mut Vec<A>) {
    let (mut addrs, mut found) = ([A::UNSPECIFIED; 64], [0; 64]);
    addrs[..asked.len()].copy_from_slice(asked);
    writer.reader().lookup_burst(&addrs, u64::MAX, &mut found);
    for (addr, found) in addrs.into_iter().zip(found) {
        assert_eq!(found, longest(routes, addr).map_or(NO_ROUTE, GroupId::raw), "{addr}");
    }
    asked.clear();
}

#[test]
fn real_updates_are_followed_one_by_one() {
    let text = updates();
    assert_eq!(replay::<Ipv4Addr>(&text), (185_035, 5_198));
    assert_eq!(replay::<Ipv6Addr>(&text), (37, 6));
}
