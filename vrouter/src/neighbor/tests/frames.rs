//! What single frames do.

use super::*;
use crate::neighbor::Ignored;

const T: Timestamp = Timestamp::from_millis(5000);

#[test]
fn questions_for_our_addresses_are_answered() {
    for (own, asker) in [(v4(1), v4(2)), (v6(1), v6(2))] {
        let mut cache = cache(1);
        assert_eq!(cache.handle_frame(&question(asker, mac(2), own), T), Ok(()));
        let to = mac(2);
        assert_eq!(shapes(&mut cache), [Shape::Answers { own, asker, to }]);
        assert_eq!(cache.entries().count(), 0);
        let other = question(asker, mac(2), if own.is_ipv4() { v4(7) } else { v6(7) });
        assert_eq!(cache.handle_frame(&other, T), Err(Ignored::NotForUs));
        assert_eq!(shapes(&mut cache), []);
    }
}

#[test]
fn probes_for_our_addresses_are_answered() {
    let mut cache = cache(1);
    let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let probe = question(unspecified, mac(2), v4(1));
    assert_eq!(cache.handle_frame(&probe, T), Ok(()));
    let answer = Shape::Answers { own: v4(1), asker: unspecified, to: mac(2) };
    assert_eq!(shapes(&mut cache), [answer]);
    let probe = question(IpAddr::V6(Ipv6Addr::UNSPECIFIED), mac(2), v6(1));
    assert_eq!(cache.handle_frame(&probe, T), Ok(()));
    // RFC 4861 §7.2.4: to all nodes, not solicited.
    assert_eq!(shapes(&mut cache), [Shape::Announces { own: v6(1), mac: mac(1) }]);
}

#[test]
fn a_question_updates_who_is_known_rfc826_merge() {
    for (own, peer, other) in [(v4(1), v4(2), v4(7)), (v6(1), v6(2), v6(7))] {
        let mut cache = cache(1);
        cache.resolve(peer, T).unwrap();
        // Not even for us: the sender is known, so its MAC is taken.
        for (asked, n) in [(other, 2), (own, 3)] {
            assert_eq!(cache.handle_frame(&question(peer, mac(n), asked), T), Ok(()));
            let resolved = Event::Resolved { address: peer, mac: mac(n) };
            assert_eq!(events(&mut cache), [resolved]);
            assert_eq!(state(&cache, peer), Some(State::Delay));
        }
    }
}

#[test]
fn an_advertisement_of_a_stranger_makes_no_entry() {
    for stranger in [v4(2), v6(2)] {
        let mut cache = cache(1);
        for solicited in [false, true] {
            let frame = advert(stranger, mac(2), solicited, true);
            assert_eq!(cache.handle_frame(&frame, T), Err(Ignored::NotForUs));
        }
        assert_eq!(cache.entries().count(), 0);
        assert_eq!(events(&mut cache), []);
    }
}

#[test]
fn rfc4861_7_2_5_without_override_a_new_mac_only_raises_doubt() {
    let mut cache = cache(1);
    cache.resolve(v6(2), T).unwrap();
    cache.handle_frame(&advert(v6(2), mac(2), true, true), T).unwrap();
    events(&mut cache);
    cache.handle_frame(&advert(v6(2), mac(3), true, false), T).unwrap();
    assert_eq!(events(&mut cache), []);
    // STALE, and wanted: DELAY.
    assert_eq!(state(&cache, v6(2)), Some(State::Delay));
    cache.handle_frame(&advert(v6(2), mac(3), true, true), T).unwrap();
    let resolved = Event::Resolved { address: v6(2), mac: mac(3) };
    assert_eq!(events(&mut cache), [resolved]);
    assert_eq!(state(&cache, v6(2)), Some(State::Reachable));
}

#[test]
fn rfc5227_2_4_a_claim_of_our_address_is_defended_once_in_ten_seconds() {
    for (own, other) in [(v4(1), v4(2)), (v6(1), v6(2))] {
        let mut cache = cache(1);
        let claims =
            [advert(own, mac(6), false, true), question(own, mac(6), other), question(own, mac(6), own)];
        for ms in (0..=20_000).step_by(1000) {
            for claim in &claims {
                assert_eq!(cache.handle_frame(claim, at(ms)), Err(Ignored::Conflict));
            }
            let (expected_events, expected_frames) = if ms % 10_000 == 0 {
                let conflict = Event::Conflict { address: own, mac: mac(6) };
                (vec![conflict], vec![Shape::Announces { own, mac: mac(1) }])
            } else {
                (vec![], vec![])
            };
            assert_eq!(events(&mut cache), expected_events, "at {ms} ms");
            assert_eq!(shapes(&mut cache), expected_frames, "at {ms} ms");
        }
        assert_eq!(cache.counters().conflicts, 63);
    }
}

#[test]
fn frames_that_are_no_ones_business_are_named() {
    let mut cache = cache(1);
    let mut own = question(v4(2), mac(2), v4(1));
    own[6..12].copy_from_slice(&mac(1).0);
    assert_eq!(cache.handle_frame(&own, T), Err(Ignored::Own));
    let looped = question(v4(1), mac(1), v4(2));
    assert_eq!(cache.handle_frame(&looped, T), Err(Ignored::Own));
    let mut elsewhere = advert(v4(2), mac(2), true, true);
    elsewhere[..6].copy_from_slice(&mac(5).0);
    assert_eq!(cache.handle_frame(&elsewhere, T), Err(Ignored::OtherStation));
    let mut group = question(v4(2), mac(2), v4(1));
    group[6] |= 1;
    assert_eq!(cache.handle_frame(&group, T), Err(Ignored::BadSender));
    let ip = frame(mac(1), mac(2), EtherType::IPV4, &[0; 46]);
    assert_eq!(cache.handle_frame(&ip, T), Err(Ignored::OtherProtocol));
    for len in 0..42 {
        let cut = &question(v4(2), mac(2), v4(1))[..len];
        assert!(matches!(cache.handle_frame(cut, T), Err(Ignored::Malformed(_))), "{len}");
    }
    let counters = cache.counters();
    assert_eq!((counters.ignored, counters.malformed), (47, 42));
    assert_eq!((shapes(&mut cache), events(&mut cache)), (vec![], vec![]));
}

#[test]
fn announcements_are_repeated_and_only_for_what_is_new() {
    let mut cache = cache(1);
    cache.announce(at(0));
    let mut sent = Vec::new();
    let mut note = |cache: &mut Cache, ms: u64| {
        sent.extend(shapes(cache).into_iter().map(|shape| match shape {
            Shape::Announces { own, mac: by } => (ms, own, by == mac(1)),
            other => panic!("{other:?}"),
        }));
    };
    note(&mut cache, 0);
    for ms in 1..=5000 {
        cache.handle_timeout(at(ms));
        note(&mut cache, ms);
    }
    let mut more = config(1);
    more.addresses4.push(([10, 1, 0, 1].into(), 24));
    cache.set_config(more, at(6000)).unwrap();
    note(&mut cache, 6000);
    let new = IpAddr::from([10, 1, 0, 1]);
    let expected = [(0, v4(1)), (0, v6(1)), (1000, v6(1)), (2000, v4(1)), (2000, v6(1)), (6000, new)];
    assert_eq!(sent, expected.map(|(ms, own)| (ms, own, true)));
    // An address that goes is announced no more.
    cache.set_config(config(1), at(6001)).unwrap();
    cache.handle_timeout(at(9000));
    assert_eq!((shapes(&mut cache), cache.poll_timeout()), (vec![], None));
}

#[test]
fn neighbors_of_a_lost_prefix_are_removed() {
    let mut cache = cache(1);
    cache.keep(v4(2), true, T).unwrap();
    cache.resolve(v6(2), T).unwrap();
    let mut less = config(1);
    less.addresses4.clear();
    cache.set_config(less, T).unwrap();
    assert_eq!(events(&mut cache), [Event::Removed { address: v4(2) }]);
    assert_eq!(shapes(&mut cache), [Shape::Asks { target: v6(2), to: None }]);
    let mut wrong = config(1);
    wrong.mac = MacAddr::ZERO;
    assert!(cache.set_config(wrong, T).is_err());
    assert_eq!(cache.config().mac, mac(1));
}

#[test]
fn a_short_buffer_loses_no_frame() {
    let mut cache = cache(1);
    cache.resolve(v4(2), T).unwrap();
    assert_eq!(cache.poll_transmit(&mut [0; MAX_FRAME_LEN - 1]), None);
    assert_eq!(shapes(&mut cache), [Shape::Asks { target: v4(2), to: None }]);
}
