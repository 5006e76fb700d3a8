//! Random input, and a model that only believes the events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// What an outsider knows from events and frames.
#[derive(Default)]
struct Model {
    told: BTreeMap<IpAddr, Event>,
    kept: BTreeSet<IpAddr>,
    offered: BTreeSet<(IpAddr, MacAddr)>,
    asked_all: BTreeMap<IpAddr, Timestamp>,
}

impl Model {
    fn check(&mut self, cache: &mut Cache, now: Timestamp) {
        for event in events(cache) {
            match event {
                Event::Resolved { address, mac } => {
                    assert!(self.offered.contains(&(address, mac)), "{event:?}");
                    self.told.insert(address, event);
                }
                Event::Failed { address } => {
                    self.told.insert(address, event);
                }
                Event::Removed { address } => {
                    assert!(!self.kept.contains(&address), "{event:?}");
                    self.told.remove(&address);
                }
                Event::Conflict { .. } => panic!("{event:?}"),
            }
        }
        for sent in shapes(cache) {
            match sent {
                Shape::Asks { target, to: None } => {
                    let last = self.asked_all.insert(target, now);
                    let pause = last.map(|last| now.since(last));
                    assert!(pause.is_none_or(|p| p >= Duration::from_secs(1)), "{target}");
                }
                Shape::Asks { target, to: Some(to) } => {
                    let resolved = Event::Resolved { address: target, mac: to };
                    assert_eq!(self.told.get(&target), Some(&resolved));
                }
                other => panic!("{other:?}"),
            }
        }
        let entries: BTreeMap<_, _> = cache.entries().map(|e| (e.address, e)).collect();
        assert!(entries.len() <= cache.config().max_entries);
        for (address, entry) in &entries {
            let (address, told) = (*address, self.told.get(address));
            assert_eq!(entry.keep, self.kept.contains(&address));
            assert!(entry.since <= now);
            let expected = entry.mac.map(|mac| Event::Resolved { address, mac });
            match entry.state {
                State::Failed => assert_eq!(told, Some(&Event::Failed { address })),
                State::Incomplete if entry.mac.is_none() => {
                    assert!(matches!(told, None | Some(Event::Failed { .. })), "{told:?}");
                }
                _ => assert_eq!(told, expected.as_ref(), "{entry:?}"),
            }
        }
        let has_entry = |address: &IpAddr| entries.contains_key(address);
        assert!(self.kept.iter().all(has_entry));
        assert!(self.told.keys().all(has_entry));
        assert_eq!(cache.poll_timeout().is_some(), !entries.is_empty());
    }
}

#[derive(Clone, Debug)]
enum Op {
    Resolve(IpAddr),
    Keep(IpAddr, bool),
    Confirm(IpAddr),
    Advert(IpAddr, MacAddr, bool, bool),
    Question(IpAddr, MacAddr),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let address = || (2_u8..14, any::<bool>()).prop_map(|(n, is4)| if is4 { v4(n) } else { v6(n) });
    let station = || (100_u8..103).prop_map(mac);
    prop_oneof![
        4 => address().prop_map(Op::Resolve),
        2 => (address(), any::<bool>()).prop_map(|(a, keep)| Op::Keep(a, keep)),
        1 => address().prop_map(Op::Confirm),
        4 => (address(), station(), any::<bool>(), any::<bool>())
            .prop_map(|(a, m, solicited, override_)| Op::Advert(a, m, solicited, override_)),
        2 => (address(), station()).prop_map(|(a, m)| Op::Question(a, m)),
        4 => prop_oneof![0..50_u64, 900..1100_u64, 5000..50_000_u64, 50_000..70_000_u64]
            .prop_map(Op::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_alone_tell_what_the_cache_knows(ops in prop::collection::vec(op(), 1..200), seed: u64) {
        let gc = Duration::from_secs(60);
        let config = Config { max_entries: 4, gc, ..config(1) };
        let mut cache = Cache::new(config, seed).unwrap();
        let mut model = Model::default();
        let mut now = at(1_000_000);
        for op in ops {
            match op {
                Op::Resolve(address) => {
                    let is_new = state(&cache, address).is_none();
                    let resolved = cache.resolve(address, now);
                    prop_assert_eq!(resolved.is_ok(), state(&cache, address).is_some());
                    prop_assert!(is_new || resolved.is_ok());
                }
                Op::Keep(address, keep) => {
                    let kept = cache.keep(address, keep, now);
                    if !keep {
                        prop_assert_eq!(kept, Ok(()));
                        model.kept.remove(&address);
                    } else if kept.is_ok() {
                        model.kept.insert(address);
                    }
                }
                Op::Confirm(address) => cache.confirm(address, now),
                Op::Advert(address, mac, solicited, override_) => {
                    model.offered.insert((address, mac));
                    let known = state(&cache, address).is_some();
                    let taken = cache.handle_frame(&advert(address, mac, solicited, override_), now);
                    prop_assert_eq!(taken.is_ok(), known);
                }
                Op::Question(address, mac) => {
                    model.offered.insert((address, mac));
                    let known = state(&cache, address).is_some();
                    let other = if address.is_ipv4() { v4(77) } else { v6(77) };
                    let taken = cache.handle_frame(&question(address, mac, other), now);
                    prop_assert_eq!(taken.is_ok(), known);
                }
                Op::Pass(ms) => {
                    let end = now.after(Duration::from_millis(ms));
                    let mut wakeups = 0;
                    while let Some(next) = cache.poll_timeout().filter(|&next| next <= end) {
                        now = now.max(next);
                        cache.handle_timeout(now);
                        model.check(&mut cache, now);
                        wakeups += 1;
                        // 4 entries, each awake at most once in a retransmit interval.
                        prop_assert!(wakeups <= 4 * (ms / 1000 + 3), "{wakeups} in {ms} ms");
                    }
                    now = end;
                }
            }
            model.check(&mut cache, now);
        }
    }

    #[test]
    fn random_bytes_never_panic_and_never_make_entries(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut cache = cache(1);
        let _ = cache.handle_frame(&bytes, at(0));
        for ethertype in [EtherType::ARP, EtherType::IPV6] {
            let _ = cache.handle_frame(&frame(mac(1), mac(2), ethertype, &bytes), at(0));
        }
        prop_assert_eq!(cache.entries().count(), 0);
        prop_assert_eq!(cache.poll_timeout(), None);
    }

    #[test]
    fn damaged_frames_never_panic_and_never_make_entries(
        which in 0_usize..6,
        at_byte in 0_usize..100,
        value: u8,
        cut in 0_usize..100,
    ) {
        let mut frames = [
            question(v4(2), mac(2), v4(1)),
            question(v6(2), mac(2), v6(1)),
            advert(v4(2), mac(2), true, true),
            advert(v6(2), mac(2), true, true),
            advert(v4(1), mac(2), false, true),
            question(v6(1), mac(2), v6(1)),
        ];
        let frame = &mut frames[which];
        if let Some(byte) = frame.get_mut(at_byte) {
            *byte = value;
        }
        let mut cache = cache(1);
        let _ = cache.handle_frame(&frame[..frame.len().saturating_sub(cut % 3)], at(0));
        prop_assert_eq!(cache.entries().count(), 0);
        for shape in shapes(&mut cache) {
            let asks = matches!(shape, Shape::Asks { .. });
            prop_assert!(!asks);
        }
    }
}
