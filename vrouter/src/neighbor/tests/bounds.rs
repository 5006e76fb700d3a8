//! The cache stays small, and who gives way when it is full.

use super::*;
use crate::neighbor::Refused;

/// A cache of 8 entries on 10.0.0.0/8 and fe80::/64.
fn small() -> Cache {
    let mut config = config(1);
    config.addresses4[0].1 = 8;
    config.max_entries = 8;
    Cache::new(config, 1).unwrap()
}

/// Resolves station `n` of both families.
fn find(cache: &mut Cache, address: IpAddr, n: u8, now: Timestamp) {
    cache.resolve(address, now).unwrap();
    cache.handle_frame(&advert(address, mac(n), true, true), now).unwrap();
    assert_eq!(state(cache, address), Some(State::Reachable));
}

#[test]
fn a_flood_of_100_000_addresses_is_bounded() {
    let mut config = config(1);
    config.addresses4[0].1 = 8;
    let mut cache = Cache::new(config, 1).unwrap();
    let known: Vec<IpAddr> = (2..100).flat_map(|n| [v4(n), v6(n)]).collect();
    for (&address, n) in known.iter().zip(2..) {
        find(&mut cache, address, n, at(0));
    }
    frames(&mut cache);
    let mut asked = 0;
    let mut refused = 0_u64;
    for i in 0..100_000_u32 {
        let address = if i % 2 == 0 {
            IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + i))
        } else {
            let link_local = 0xfe80_u128 << 112;
            IpAddr::V6(Ipv6Addr::from(link_local | u128::from(i) << 16))
        };
        let now = at(u64::from(i) / 10);
        cache.handle_timeout(now);
        match cache.resolve(address, now) {
            Ok(()) => {}
            Err(Refused::CacheFull) => refused += 1,
            Err(other) => panic!("{address}: {other}"),
        }
        assert!(i % 1000 != 0 || cache.entries().count() <= 4096);
        asked += frames(&mut cache).len();
        events(&mut cache);
    }
    assert!(cache.entries().count() <= 4096);
    assert_eq!(cache.counters().cache_full, refused);
    assert!(refused > 80_000, "{refused}");
    // 10 s, at most 2048 unanswered addresses at a time, one question a second each.
    assert!(asked <= 11 * 2048, "{asked}");
    for address in known {
        assert!(state(&cache, address).is_some_and(State::is_usable), "{address}");
    }
}

#[test]
fn the_failed_give_way_first_then_the_longest_unused() {
    for family in [v4 as fn(u8) -> IpAddr, v6] {
        let mut cache = small();
        cache.resolve(family(90), at(0)).unwrap();
        for n in 2..9 {
            find(&mut cache, family(n), n, at(u64::from(n)));
        }
        for ms in [1000, 2000, 3000] {
            cache.handle_timeout(at(ms));
        }
        assert_eq!(state(&cache, family(90)), Some(State::Failed));
        // Station 2 was found first, but is asked for again.
        cache.resolve(family(2), at(3100)).unwrap();
        events(&mut cache);
        for (newcomer, victim) in [(10, 90), (11, 3), (12, 4)] {
            find(&mut cache, family(newcomer), newcomer, at(3200));
            let removed = Event::Removed { address: family(victim) };
            let resolved = Event::Resolved { address: family(newcomer), mac: mac(newcomer) };
            assert_eq!(events(&mut cache), [removed, resolved]);
            assert_eq!(cache.entries().count(), 8);
        }
        assert_eq!(cache.counters().evicted, 3);
    }
}

#[test]
fn absent_addresses_take_half_of_the_cache_at_most() {
    let mut cache = small();
    for n in 10..14 {
        cache.resolve(v4(n), at(0)).unwrap();
    }
    assert_eq!(cache.resolve(v4(14), at(0)), Err(Refused::CacheFull));
    assert_eq!(cache.resolve(v6(14), at(0)), Err(Refused::CacheFull));
    assert_eq!(cache.counters().cache_full, 2);
    // A route's next hop is not held up by them.
    cache.keep(v6(15), true, at(0)).unwrap();
    // One answers: its place is free for another question.
    cache.handle_frame(&advert(v4(10), mac(10), true, true), at(1)).unwrap();
    assert_eq!(cache.resolve(v4(16), at(1)), Err(Refused::CacheFull), "the kept one counts");
    cache.handle_frame(&advert(v6(15), mac(15), true, true), at(1)).unwrap();
    cache.resolve(v4(16), at(1)).unwrap();
}

#[test]
fn next_hops_of_routes_never_give_way() {
    let mut cache = small();
    for n in 2..10 {
        cache.keep(v4(n), true, at(0)).unwrap();
    }
    for ms in [1000, 2000, 3000] {
        cache.handle_timeout(at(ms));
    }
    assert_eq!(cache.keep(v4(10), true, at(3500)), Err(Refused::CacheFull));
    assert_eq!(cache.resolve(v4(10), at(3500)), Err(Refused::CacheFull));
    cache.keep(v4(5), false, at(3600)).unwrap();
    cache.keep(v4(10), true, at(3600)).unwrap();
    assert_eq!(state(&cache, v4(5)), None);
}

#[test]
fn an_evicted_neighbor_is_not_asked_for_twice_in_a_second() {
    let mut cache = small();
    for n in 2..10 {
        find(&mut cache, v4(n), n, at(100));
    }
    // The longest unused was asked for 0.9 s ago.
    assert_eq!(cache.resolve(v4(20), at(1000)), Err(Refused::CacheFull));
    cache.resolve(v4(20), at(1100)).unwrap();
}

#[test]
fn answers_wait_in_bounded_number() {
    let mut cache = cache(1);
    let asks = question(v6(2), mac(2), v6(1));
    for _ in 0..1000 {
        let _ = cache.handle_frame(&asks, at(0));
    }
    assert_eq!(frames(&mut cache).len(), 256);
    assert_eq!(cache.counters().answers_dropped, 744);
    assert_eq!(cache.handle_frame(&asks, at(1)), Ok(()));
}
