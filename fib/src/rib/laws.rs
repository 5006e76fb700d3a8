//! The base against a naive model under random events.

use super::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

const SOURCES: [RouteSource; 4] =
    [RouteSource::Static, RouteSource::Api, RouteSource::Files, RouteSource::Bgp];

#[derive(Clone, Debug)]
enum Event {
    Announce { prefix: usize, source: usize, distance: u8, metric: u32, next_hops: Vec<u8> },
    Withdraw { prefix: usize, source: usize },
    Begin { source: usize, deadline: Option<u64> },
    End { source: usize },
    Expire { now: u64 },
    Drain,
}

fn event() -> impl Strategy<Value = Event> {
    let (prefix, source) = (0..PREFIXES, 0..SOURCES.len());
    let announce = (prefix.clone(), source.clone(), 0..3u8, 0..3u32, vec(0..3u8, 1..3)).prop_map(
        |(prefix, source, distance, metric, next_hops)| {
            // Now and then one that is never used.
            let distance = if distance == 2 { u8::MAX } else { distance };
            Event::Announce { prefix, source, distance, metric, next_hops }
        },
    );
    prop_oneof![
        8 => announce,
        4 => (prefix, source.clone()).prop_map(|(prefix, source)| Event::Withdraw { prefix, source }),
        1 => (source.clone(), proptest::option::of(0..20u64))
            .prop_map(|(source, deadline)| Event::Begin { source, deadline }),
        1 => source.prop_map(|source| Event::End { source }),
        1 => (0..20u64).prop_map(|now| Event::Expire { now }),
        1 => Just(Event::Drain),
    ]
}

const PREFIXES: usize = 8;

/// Nested and neighbouring prefixes of either family, in ascending order.
fn prefixes<A: Address>(address: fn(u8) -> A) -> Vec<Prefix<A>> {
    let make = |top: u8, len: u8| Prefix::masked(address(top), len).unwrap();
    vec![
        make(0, 0),
        make(10, 4),
        make(10, 8),
        make(10, 9),
        make(10, A::BITS - 1),
        make(10, A::BITS),
        make(11, 8),
        make(200, A::BITS),
    ]
}

/// What the naive model keeps of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Naive {
    distance: u8,
    metric: u32,
    next_hops: Vec<u8>,
    named: bool,
}

/// All candidates in a flat map, with everything computed anew when asked for.
#[derive(Default)]
struct Model {
    held: BTreeMap<(usize, RouteSource), Naive>,
    open: BTreeMap<RouteSource, Option<u64>>,
    told: BTreeMap<usize, Vec<u8>>,
}

impl Model {
    fn order(&self, prefix: usize) -> Vec<(RouteSource, &Naive)> {
        let of = self.held.iter().filter(|((at, _), _)| *at == prefix);
        let mut all: Vec<_> = of.map(|((_, source), naive)| (*source, naive)).collect();
        all.sort_by_key(|(source, naive)| (naive.distance, naive.metric, *source));
        all
    }

    fn best(&self, prefix: usize) -> Option<Vec<u8>> {
        let (_, best) = *self.order(prefix).first()?;
        (best.distance != u8::MAX).then(|| best.next_hops.clone())
    }

    fn end(&mut self, source: RouteSource) {
        if self.open.remove(&source).is_some() {
            self.held.retain(|(_, of), naive| *of != source || naive.named);
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Announce { prefix, source, distance, metric, next_hops } => {
                let naive =
                    Naive { distance: *distance, metric: *metric, next_hops: next_hops.clone(), named: true };
                self.held.insert((*prefix, SOURCES[*source]), naive);
            }
            Event::Withdraw { prefix, source } => {
                self.held.remove(&(*prefix, SOURCES[*source]));
            }
            Event::Begin { source, deadline } => {
                self.open.insert(SOURCES[*source], *deadline);
                let of_source = self.held.iter_mut().filter(|((_, of), _)| *of == SOURCES[*source]);
                of_source.for_each(|(_, naive)| naive.named = false);
            }
            Event::End { source } => self.end(SOURCES[*source]),
            Event::Expire { now } => {
                let due = self.open.iter().filter(|(_, at)| at.is_some_and(|at| at <= *now));
                let due: Vec<_> = due.map(|(source, _)| *source).collect();
                due.into_iter().for_each(|source| self.end(source));
            }
            Event::Drain => {}
        }
    }

    /// The changes that a drain has to tell, in its order.
    fn drain(&mut self) -> Vec<(usize, Option<Vec<u8>>)> {
        let mut changes: Vec<_> = (0..PREFIXES)
            .map(|prefix| (prefix, self.best(prefix)))
            .filter(|(prefix, best)| best.as_ref() != self.told.get(prefix))
            .collect();
        self.told = (0..PREFIXES).filter_map(|prefix| Some((prefix, self.best(prefix)?))).collect();
        changes.sort_by_key(|(_, best)| best.is_none());
        changes
    }
}

fn apply<A: Address>(rib: &mut Rib<A, u8>, prefixes: &[Prefix<A>], event: &Event) {
    match event {
        Event::Announce { prefix, source, distance, metric, next_hops } => {
            let candidate =
                Candidate { source: SOURCES[*source], distance: *distance, metric: *metric, next_hops };
            rib.announce(prefixes[*prefix], candidate).unwrap();
        }
        Event::Withdraw { prefix, source } => {
            rib.withdraw(&prefixes[*prefix], SOURCES[*source]);
        }
        Event::Begin { source, deadline: None } => rib.begin_resync(SOURCES[*source]),
        Event::Begin { source, deadline: Some(at) } => {
            rib.begin_resync_until(SOURCES[*source], Duration::from_secs(*at));
        }
        Event::End { source } => drop(rib.end_resync(SOURCES[*source])),
        Event::Expire { now } => drop(rib.expire(Duration::from_secs(*now))),
        Event::Drain => {}
    }
}

fn agree<A: Address>(rib: &Rib<A, u8>, model: &Model, prefixes: &[Prefix<A>]) -> Result<(), TestCaseError> {
    for (number, prefix) in prefixes.iter().enumerate() {
        let expected = model.order(number);
        let held: Vec<_> = rib.candidates(prefix).collect();
        prop_assert_eq!(held.len(), expected.len());
        for (held, (source, naive)) in held.iter().zip(expected) {
            prop_assert_eq!(held.source, source);
            prop_assert_eq!((held.distance, held.metric), (naive.distance, naive.metric));
            prop_assert_eq!(held.next_hops, &naive.next_hops[..]);
        }
        prop_assert_eq!(rib.best(prefix).map(|best| best.next_hops.to_vec()), model.best(number));
    }
    for prefix in prefixes {
        for addr in [prefix.first(), prefix.last()] {
            let covering = (0..PREFIXES).filter(|n| prefixes[*n].contains(addr) && model.best(*n).is_some());
            let expected = covering.max_by_key(|n| prefixes[*n].len()).map(|n| prefixes[n]);
            prop_assert_eq!(rib.longest_match(addr).map(|(prefix, _)| prefix), expected);
        }
    }
    let mut present: Vec<_> = rib.prefixes().collect();
    present.sort_unstable();
    let expected: Vec<_> =
        (0..PREFIXES).filter(|n| !model.order(*n).is_empty()).map(|n| prefixes[n]).collect();
    prop_assert_eq!(rib.len(), expected.len());
    prop_assert_eq!(present, expected);
    let deadline = model.open.values().flatten().min().map(|at| Duration::from_secs(*at));
    prop_assert_eq!(rib.next_deadline(), deadline);
    Ok(())
}

fn obeys_the_model<A: Address>(address: fn(u8) -> A, events: &[Event]) -> Result<(), TestCaseError> {
    let prefixes = prefixes(address);
    let (mut rib, mut model) = (Rib::new(), Model::default());
    for event in events {
        apply(&mut rib, &prefixes, event);
        model.apply(event);
        if matches!(event, Event::Drain) {
            check_drain(&mut rib, &mut model, &prefixes)?;
        }
        agree(&rib, &model, &prefixes)?;
    }
    check_drain(&mut rib, &mut model, &prefixes)?;
    // Withdrawn is as if never announced: nothing of it is left behind.
    for prefix in &prefixes {
        SOURCES.iter().for_each(|source| _ = rib.withdraw(prefix, *source));
    }
    rib.drain_changes(&mut Vec::new());
    prop_assert!(rib.is_empty() && rib.sets().is_empty());
    prop_assert_eq!(rib.free.len(), rib.slots.len());
    prop_assert!(rib.index.is_empty() && rib.lengths.iter().all(|count| *count == 0));
    Ok(())
}

fn check_drain<A: Address>(
    rib: &mut Rib<A, u8>,
    model: &mut Model,
    prefixes: &[Prefix<A>],
) -> Result<(), TestCaseError> {
    let mut changes = Vec::new();
    rib.drain_changes(&mut changes);
    let told: Vec<_> = changes
        .iter()
        .map(|change| {
            let number = prefixes.iter().position(|prefix| *prefix == change.prefix);
            (number, change.best.map(|set| rib.sets().get(set).to_vec()))
        })
        .collect();
    let expected: Vec<_> = model.drain().into_iter().map(|(n, best)| (Some(n), best)).collect();
    prop_assert_eq!(told, expected);
    Ok(())
}

proptest! {
    #[test]
    fn random_events_leave_what_the_model_says(events in vec(event(), 0..120)) {
        obeys_the_model(|top| Ipv4Addr::new(top, 0, 0, 0), &events)?;
        obeys_the_model(|top| Ipv6Addr::from_bits(u128::from(top) << 120), &events)?;
    }

    #[test]
    fn the_order_of_announcements_does_not_matter(
        offers in vec((0..PREFIXES, 0..SOURCES.len(), 0..3u8, 0..3u32, vec(0..3u8, 1..3)), 0..24),
        rotation in 0..24usize,
    ) {
        let prefixes = prefixes(|top| Ipv4Addr::new(top, 0, 0, 0));
        // One offer of a source for a prefix: the last.
        let offers: BTreeMap<_, _> =
            offers.into_iter().map(|(p, s, distance, metric, hops)| ((p, s), (distance, metric, hops))).collect();
        let mut order: Vec<_> = offers.iter().collect();
        let ribs = [0, rotation].map(|by| {
            let by = by % order.len().max(1);
            order.rotate_left(by);
            let mut rib = Rib::new();
            for ((prefix, source), (distance, metric, hops)) in &order {
                let candidate = Candidate {
                    source: SOURCES[*source], distance: *distance, metric: *metric, next_hops: hops,
                };
                rib.announce(prefixes[*prefix], candidate).unwrap();
            }
            rib
        });
        for prefix in &prefixes {
            let [a, b] = [&ribs[0], &ribs[1]].map(|rib| rib.candidates(prefix).collect::<Vec<_>>());
            prop_assert_eq!(a, b);
        }
    }
}
