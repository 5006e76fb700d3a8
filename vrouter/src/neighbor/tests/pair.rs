//! Two caches on one link: loss, a moved peer, a dead peer.

use std::collections::VecDeque;

use super::*;
use crate::neighbor::random::Random;
use std::time::Duration;

const LATENCY: Duration = Duration::from_millis(1);

/// Stations 1 and 2, a link between them, and the time.
struct Pair {
    stations: [Cache; 2],
    /// (arrival, receiver, frame), in order of arrival.
    wire: VecDeque<(Timestamp, usize, Vec<u8>)>,
    now: Timestamp,
    random: Random,
    /// Frames lost, of 100.
    loss_percent: u128,
    /// Station 2 receives nothing.
    is_dead: bool,
    sent: Vec<(Timestamp, usize, Shape)>,
    told: Vec<(Timestamp, usize, Event)>,
}

impl Pair {
    fn new(loss_percent: u128) -> Pair {
        Pair {
            stations: [cache(1), cache(2)],
            wire: VecDeque::new(),
            now: at(1000),
            random: Random::new(1),
            loss_percent,
            is_dead: false,
            sent: Vec::new(),
            told: Vec::new(),
        }
    }

    fn first(&mut self) -> &mut Cache {
        &mut self.stations[0]
    }

    /// Puts what the stations have to send on the wire, and notes what they tell.
    fn drain(&mut self) {
        for side in 0..2 {
            for bytes in frames(&mut self.stations[side]) {
                self.sent.push((self.now, side, shape(&bytes)));
                // `around` draws evenly from 50 to 150.
                let draw = self.random.around(Duration::from_nanos(100)).as_nanos() - 50;
                let is_lost = draw < self.loss_percent || side == 0 && self.is_dead;
                if !is_lost {
                    self.wire.push_back((self.now.after(LATENCY), 1 - side, bytes));
                }
            }
            for event in events(&mut self.stations[side]) {
                self.told.push((self.now, side, event));
            }
        }
    }

    /// Lets `ms` milliseconds pass.
    fn run(&mut self, ms: u64) {
        let end = self.now.after(Duration::from_millis(ms));
        loop {
            self.drain();
            let arrival = self.wire.front().map(|(when, ..)| *when);
            let timers = self.stations.iter().filter_map(Cache::poll_timeout);
            let Some(next) = timers.chain(arrival).min().filter(|&next| next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            while let Some((_, side, bytes)) = self.wire.pop_front_if(|f| f.0 <= self.now) {
                let _ = self.stations[side].handle_frame(&bytes, self.now);
            }
            for station in &mut self.stations {
                station.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    /// Events at station 1 since `from`.
    fn told_first(&self, from: Timestamp) -> Vec<Event> {
        let told = self.told.iter().filter(|t| t.0 >= from && t.1 == 0);
        told.map(|t| t.2).collect()
    }

    /// Questions by station 1 since `from`: (to all, to one).
    fn asked_first(&self, from: Timestamp) -> (usize, usize) {
        let asked = |to_all| {
            let sent = self.sent.iter().filter(|s| s.0 >= from && s.1 == 0);
            sent.filter(|s| matches!(s.2, Shape::Asks { to, .. } if to.is_none() == to_all)).count()
        };
        (asked(true), asked(false))
    }
}

#[test]
fn a_neighbor_is_found_in_one_round_trip() {
    for peer in [v4(2), v6(2)] {
        let mut pair = Pair::new(0);
        pair.stations[0].resolve(peer, pair.now).unwrap();
        pair.run(2);
        let resolved = Event::Resolved { address: peer, mac: mac(2) };
        assert_eq!(pair.told_first(at(0)), [resolved]);
        assert_eq!(state(pair.first(), peer), Some(State::Reachable));
        assert_eq!(pair.asked_first(at(0)), (1, 0));
        assert_eq!(pair.stations[1].entries().count(), 0, "asking makes no entry");
    }
}

#[test]
fn a_kept_neighbor_stays_known_for_a_day_with_unicast_probes_only() {
    for peer in [v4(2), v6(2)] {
        let mut pair = Pair::new(0);
        pair.stations[0].keep(peer, true, pair.now).unwrap();
        pair.run(24 * 3600 * 1000);
        let resolved = Event::Resolved { address: peer, mac: mac(2) };
        assert_eq!(pair.told_first(at(0)), [resolved]);
        let (to_all, to_one) = pair.asked_first(at(0));
        assert_eq!(to_all, 1);
        // One probe in 15..45 s of REACHABLE plus 5 s of DELAY: 35 s in the mean.
        assert!((2300..2650).contains(&to_one), "{to_one} probes");
    }
}

#[test]
fn used_neighbors_are_forgotten_when_traffic_no_longer_asks() {
    for peer in [v4(2), v6(2)] {
        let mut pair = Pair::new(0);
        pair.stations[0].resolve(peer, pair.now).unwrap();
        pair.run(599_000);
        assert!(state(pair.first(), peer).is_some_and(State::is_usable));
        pair.run(60_000);
        assert_eq!(state(pair.first(), peer), None);
        let removed = Event::Removed { address: peer };
        assert_eq!(pair.told_first(at(500_000)), [removed]);
    }
}

#[test]
fn a_withdrawn_next_hop_is_probed_no_more_and_ready_when_it_returns() {
    for peer in [v4(2), v6(2)] {
        let mut pair = Pair::new(0);
        pair.stations[0].keep(peer, true, pair.now).unwrap();
        pair.run(10);
        pair.stations[0].keep(peer, false, pair.now).unwrap();
        pair.run(300_000);
        assert_eq!(state(pair.first(), peer), Some(State::Stale));
        assert_eq!(pair.asked_first(at(0)), (1, 0));
        let from = pair.now;
        pair.stations[0].keep(peer, true, from).unwrap();
        pair.run(0);
        let resolved = Event::Resolved { address: peer, mac: mac(2) };
        assert_eq!(pair.told_first(from), [resolved]);
        assert_eq!(state(pair.first(), peer), Some(State::Delay));
        pair.stations[0].keep(peer, false, pair.now).unwrap();
        pair.run(700_000);
        assert_eq!(state(pair.first(), peer), None);
    }
}

#[test]
fn an_announced_mac_is_followed_at_once() {
    for peer in [v4(2), v6(2)] {
        let mut pair = Pair::new(0);
        pair.stations[0].keep(peer, true, pair.now).unwrap();
        pair.run(1000);
        let from = pair.now;
        let moved = Config { mac: mac(9), ..config(2) };
        pair.stations[1].set_config(moved, from).unwrap();
        pair.run(1);
        let resolved = Event::Resolved { address: peer, mac: mac(9) };
        assert_eq!(pair.told_first(from), [resolved]);
        assert_eq!(state(pair.first(), peer), Some(State::Delay), "checked next");
        pair.run(10_000);
        assert_eq!(state(pair.first(), peer), Some(State::Reachable));
        assert_eq!(pair.told_first(from).len(), 1);
        assert_eq!(pair.asked_first(from), (0, 1));
    }
}

#[test]
fn a_peer_that_moved_in_silence_is_found_again() {
    for peer in [v4(2), v6(2)] {
        let mut pair = Pair::new(0);
        pair.stations[0].keep(peer, true, pair.now).unwrap();
        pair.run(1000);
        let from = pair.now;
        pair.stations[1] = Cache::new(Config { mac: mac(9), ..config(2) }, 5).unwrap();
        // At most 45 s REACHABLE, 5 s DELAY, 3 s PROBE, then one round trip.
        pair.run(53_010);
        let resolved = Event::Resolved { address: peer, mac: mac(9) };
        assert_eq!(pair.told_first(from), [resolved], "no failure in between");
        assert_eq!(pair.asked_first(from), (1, 3));
    }
}

#[test]
fn a_dead_peer_fails_and_is_found_when_it_lives_again() {
    for peer in [v4(2), v6(2)] {
        let mut pair = Pair::new(0);
        pair.stations[0].keep(peer, true, pair.now).unwrap();
        pair.run(1000);
        let from = pair.now;
        pair.is_dead = true;
        // As above, and 3 s of questions to all.
        pair.run(56_010);
        assert_eq!(pair.told_first(from), [Event::Failed { address: peer }]);
        pair.run(600_000);
        assert_eq!(pair.told_first(from).len(), 1, "said once");
        let alive = pair.now;
        pair.is_dead = false;
        pair.run(6_010);
        let resolved = Event::Resolved { address: peer, mac: mac(2) };
        assert_eq!(pair.told_first(alive), [resolved]);
    }
}

#[test]
fn an_absent_neighbor_of_traffic_fails_then_leaves() {
    for peer in [v4(3), v6(3)] {
        let mut pair = Pair::new(0);
        pair.stations[0].resolve(peer, pair.now).unwrap();
        pair.run(3_000);
        assert_eq!(pair.told_first(at(0)), [Event::Failed { address: peer }]);
        pair.stations[0].resolve(peer, pair.now).unwrap();
        pair.run(2_999);
        assert_eq!(pair.told_first(at(0)).len(), 2, "the failure is repeated to who asks");
        assert_eq!(pair.asked_first(at(0)), (3, 0), "but not asked again meanwhile");
        pair.run(1);
        assert_eq!(pair.told_first(at(0)).last(), Some(&Event::Removed { address: peer }));
    }
}

#[test]
fn confirmation_by_upper_layers_saves_the_probes() {
    for peer in [v4(2), v6(2)] {
        let mut pair = Pair::new(0);
        pair.stations[0].keep(peer, true, pair.now).unwrap();
        for _ in 0..60 {
            pair.run(14_000);
            let now = pair.now;
            pair.first().confirm(peer, now);
        }
        assert_eq!(pair.asked_first(at(0)), (1, 0));
    }
}

#[test]
fn a_lossy_link_is_survived_and_never_asked_too_often() {
    for peer in [v4(2), v6(2)] {
        let mut pair = Pair::new(40);
        pair.stations[0].keep(peer, true, pair.now).unwrap();
        pair.run(4 * 3600 * 1000);
        let mut last = None;
        for (when, _, sent) in pair.sent.iter().filter(|s| s.1 == 0) {
            if let Shape::Asks { to: None, .. } = sent {
                assert!(last.is_none_or(|last| when.since(last) >= Duration::from_secs(1)));
                last = Some(*when);
            }
        }
        // Each cycle of some 35 s fails with probability 0.64^6 = 7 %: some 28 of 410.
        let told = pair.told_first(at(0));
        let failed = told.iter().filter(|e| matches!(e, Event::Failed { .. })).count();
        assert!((5..60).contains(&failed), "{failed} failures");
        pair.loss_percent = 0;
        pair.run(7_000);
        let told = pair.told_first(at(0));
        let resolved = Event::Resolved { address: peer, mac: mac(2) };
        assert_eq!(told.last(), Some(&resolved));
    }
}
