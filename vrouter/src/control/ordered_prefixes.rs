//! All prefixes of a VRF in ascending order, in memory that does not depend on how many there are.
//!
//! ```text
//!  RIB, in no order   [ 7 3 9 1 8 2 6 4 5 ]     room for 4
//!  first walk         the lowest 4        ->    1 2 3 4
//!  second walk        the lowest 4 above 4 ->   5 6 7 8
//!  third walk         fewer than 4: the end ->  9
//! ```
//!
//! With room for 2^16 prefixes a million take sixteen walks and a megabyte. A walk is done in steps,
//! between which the engine may change: a prefix that has routes all the time is met exactly once.

use std::collections::BinaryHeap;

use fib::{Address, AnyPrefix};

use crate::control::engine::{Engine, Family, Vrf};
use crate::ids::VrfId;

/// A search for the prefixes of a VRF's routes, lowest first.
#[derive(Clone, Debug)]
pub struct OrderedPrefixes {
    vrf: VrfId,
    room: usize,
    /// The last of the runs so far.
    last: Option<AnyPrefix>,
    /// How far the present walk has come, by family.
    places: [usize; 2],
    /// What it has found: the highest is on top, the first to make room for a lower one.
    lowest: BinaryHeap<AnyPrefix>,
}

impl OrderedPrefixes {
    /// Begins a search that keeps at most `room` prefixes in memory.
    ///
    /// # Panics
    /// Without room for one.
    pub fn new(vrf: VrfId, room: usize) -> Self {
        assert!(room > 0, "a search needs room for a prefix");
        OrderedPrefixes { vrf, room, last: None, places: [0; 2], lowest: BinaryHeap::new() }
    }

    /// How many prefixes a run has, but for the last, which has fewer.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Looks at the next `count` places of the RIB for prefixes that `wanted` lets pass, the same ones
    /// each time. At the end of a walk, returns the next run of prefixes, in ascending order; none in
    /// a VRF that does not exist.
    pub fn step(
        &mut self,
        engine: &Engine,
        count: usize,
        wanted: impl Fn(&AnyPrefix) -> bool,
    ) -> Option<Vec<AnyPrefix>> {
        let Self { room, last, places: [place4, place6], lowest, .. } = self;
        let mut consider = |prefix: AnyPrefix| {
            let is_lower = lowest.len() < *room || lowest.peek().is_some_and(|highest| prefix < *highest);
            if is_lower && last.is_none_or(|last| last < prefix) && wanted(&prefix) {
                if lowest.len() == *room {
                    lowest.pop();
                }
                lowest.push(prefix);
            }
        };
        if let Some(Vrf { v4, v6 }) = engine.vrfs.get(self.vrf.index())
            && (v4.walk(place4, count, &mut consider) || v6.walk(place6, count, &mut consider))
        {
            return None;
        }
        let run = core::mem::take(&mut self.lowest).into_sorted_vec();
        self.last = run.last().copied().or(self.last);
        self.places = [0; 2];
        Some(run)
    }
}

impl<A: Address> Family<A> {
    /// Hands the prefixes at the next `count` places of the RIB to `consider`; whether more follow.
    fn walk(&self, place: &mut usize, count: usize, consider: &mut impl FnMut(AnyPrefix)) -> bool {
        let end = self.rib.positions().min(place.saturating_add(count));
        (*place..end).filter_map(|place| self.rib.prefix_at(place)).map(self.wrap).for_each(consider);
        *place = end;
        end < self.rib.positions()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fib::{Prefix, RouteSource};
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;
    use crate::control::{Event, RouteSpec, RouteTarget};
    use crate::publish;
    use crate::tables::flow_table;

    fn engine() -> Engine {
        let flows = Arc::new(flow_table(64).unwrap());
        let mut engine = Engine::new(flows, |tables| publish::channel(tables, 0).0);
        engine.commit().unwrap();
        engine
    }

    fn put(engine: &mut Engine, prefix: AnyPrefix) {
        let (source, target) = (RouteSource::Static, RouteTarget::Blackhole);
        engine.apply(Event::PutRoute(RouteSpec { prefix, source, target, metric: 0 })).unwrap();
    }

    /// A prefix of one of the families, by a number.
    fn prefix(number: u16) -> AnyPrefix {
        let len = 8 + (number % 17) as u8;
        match number % 3 {
            0 => AnyPrefix::V6(Prefix::masked(u128::from(number).rotate_right(16).into(), len).unwrap()),
            _ => AnyPrefix::V4(Prefix::masked(u32::from(number).rotate_right(16).into(), len).unwrap()),
        }
    }

    /// All runs; `between` is called after each step.
    fn runs(
        engine: &mut Engine,
        room: usize,
        step: usize,
        wanted: impl Fn(&AnyPrefix) -> bool,
        mut between: impl FnMut(&mut Engine),
    ) -> Vec<AnyPrefix> {
        let (mut search, mut all) = (OrderedPrefixes::new(VrfId::DEFAULT, room), Vec::new());
        loop {
            let run = search.step(engine, step, &wanted);
            assert!(search.lowest.len() <= room && search.lowest.capacity() < 2 * room + 8);
            between(engine);
            let Some(run) = run else { continue };
            all.extend_from_slice(&run);
            if run.len() < room {
                return all;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_runs_are_all_prefixes_in_order(
            numbers in btree_set(any::<u16>(), 0..300), room in 1..80usize, step in 1..100usize,
        ) {
            let mut engine = engine();
            numbers.iter().rev().for_each(|number| put(&mut engine, prefix(*number)));
            let own: Vec<AnyPrefix> = runs(&mut engine, usize::MAX / 4, usize::MAX, |_| true, |_| ());
            let mut expected: Vec<AnyPrefix> = numbers.iter().map(|number| prefix(*number)).collect();
            // The gateway's addresses.
            expected.extend(own.iter().filter(|prefix| prefix.len() > 24));
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(&own, &expected);
            prop_assert_eq!(&runs(&mut engine, room, step, |_| true, |_| ()), &expected);
            let even = |prefix: &AnyPrefix| prefix.len().is_multiple_of(2);
            expected.retain(even);
            prop_assert_eq!(&runs(&mut engine, room, step, even, |_| ()), &expected);
        }
    }

    #[test]
    fn what_stays_is_met_once_while_others_come_and_go() {
        let mut engine = engine();
        let stays: Vec<AnyPrefix> = (0..200).map(|n| prefix(n * 300)).collect();
        stays.iter().for_each(|prefix| put(&mut engine, *prefix));
        let mut turn = 0;
        let found = runs(
            &mut engine,
            16,
            32,
            |_| true,
            |engine| {
                let number = |turn: u16| prefix(turn.wrapping_mul(40_503) | 1);
                if turn > 4 && !stays.contains(&number(turn - 4)) {
                    // Gone already, where two numbers are one prefix.
                    let _ = engine.apply(Event::RemoveRoute(number(turn - 4), RouteSource::Static));
                }
                put(engine, number(turn));
                engine.commit().unwrap();
                turn += 1;
            },
        );
        assert!(found.is_sorted() && turn > 12);
        let met = |prefix: &AnyPrefix| found.iter().filter(|found| *found == prefix).count();
        assert!(stays.iter().all(|prefix| met(prefix) == 1));
    }

    #[test]
    fn a_vrf_that_is_gone_has_none() {
        let mut search = OrderedPrefixes::new(VrfId(3), 8);
        assert_eq!(search.step(&engine(), 8, |_| true), Some(Vec::new()));
    }
}
