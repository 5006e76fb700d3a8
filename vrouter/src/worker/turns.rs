//! Booking of a worker's time, turn by turn, as busy or idle.
//!
//! ```text
//!   reading   |           |           |                    |  |            |        one each, at first
//!   turn       3 packets   1           1   1   1   (none)      (none) sleep  2
//!   booked    '-----------'-----------'--------------------'--------------'------
//!                busy        busy         busy: a group          idle
//! ```
//!
//! A turn's time is known when the next one reads the clock. A turn with one packet takes about 100 ns, of which
//! a reading is a good part: after [`STREAK`] turns with packets, several with few of them go on at one reading,
//! until [`SHARED`] packets have come, or a turn has none, or the worker is to sleep.
//!
//! Invariants: packets and bursts are booked with each turn but the one under way; a group is busy as a whole,
//! and holds at most one turn without packets, its last; sleep is never part of a group.

use super::probe;
use crate::ids::Timestamp;

/// Turns with packets, one after another, from which on several share one reading of the clock.
const STREAK: u32 = 16;
/// Packets after which the clock is read anew all the same.
const SHARED: u32 = 16;

/// A turn that is over but for the time it took, or several at one reading of the clock.
#[derive(Clone, Copy, Debug)]
struct Group {
    began: Timestamp,
    packets: u32,
    bursts: u32,
}

/// What a worker remembers of its turns.
#[derive(Debug, Default)]
pub(super) struct TurnBook {
    open: Option<Group>,
    /// Turns with packets since the last one without.
    streak: u32,
}

impl TurnBook {
    /// The reading that the next turn may share; `None`: it reads the clock.
    #[inline]
    pub(super) fn shared(&self) -> Option<Timestamp> {
        self.open.filter(|group| self.streak >= STREAK && group.packets < SHARED).map(|group| group.began)
    }

    /// A turn begins, at a reading of its own. Returns what the ones before it have come to.
    #[inline]
    pub(super) fn begin(&mut self, now: Timestamp) -> Option<probe::Turn> {
        let Group { began, packets, bursts } =
            self.open.replace(Group { began: now, packets: 0, bursts: 0 })?;
        Some(probe::Turn { packets, bursts: bursts.max(1), ns: now.since(began).as_nanos() as u64 })
    }

    /// The turn ends that began last, or that goes on at the reading of the last one.
    #[inline]
    pub(super) fn end(&mut self, packets: u32, bursts: u32) {
        if let Some(group) = &mut self.open {
            group.packets += packets;
            group.bursts += bursts;
        }
        self.streak = if packets > 0 { self.streak.saturating_add(1) } else { 0 };
    }

    /// Whether the last turn, which had no packets, is in a group with some: then the clock is to be read, and a
    /// turn to begin, before the worker sleeps.
    #[inline]
    pub(super) fn holds_packets(&self) -> bool {
        self.open.is_some_and(|group| group.packets > 0)
    }

    /// The turn is not like others and is not booked.
    pub(super) fn forget(&mut self) {
        *self = TurnBook::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Booked so far.
    #[derive(Clone, Copy, Default, PartialEq, Debug)]
    struct Sum {
        packets: u64,
        bursts: u64,
        busy: u64,
        idle: u64,
    }

    impl Sum {
        fn book(&mut self, turn: Option<probe::Turn>) {
            let Some(turn) = turn else { return };
            *if turn.packets > 0 { &mut self.busy } else { &mut self.idle } += turn.ns;
            self.packets += u64::from(turn.packets);
            self.bursts += if turn.packets > 0 { u64::from(turn.bursts) } else { 0 };
        }
    }

    /// A turn: its packets, what it takes, and for how long the worker sleeps then if it had none.
    #[derive(Clone, Copy, Debug)]
    struct Step {
        packets: u32,
        ns: u64,
        sleep: u64,
    }

    /// Plays the steps as a worker does. Returns what is booked and how often the clock was read.
    fn play(steps: &[Step], shares: bool) -> (Sum, usize) {
        let (mut book, mut sum) = (TurnBook::default(), Sum::default());
        let (mut time, mut reads) = (1_000, 0);
        for step in steps {
            if !shares || book.shared().is_none() {
                reads += 1;
                sum.book(book.begin(Timestamp(time)));
            }
            time += step.ns;
            book.end(step.packets, step.packets.div_ceil(64));
            if step.packets == 0 && step.sleep > 0 {
                if book.holds_packets() {
                    reads += 1;
                    sum.book(book.begin(Timestamp(time)));
                    book.end(0, 0);
                }
                time += step.sleep;
            }
        }
        sum.book(book.begin(Timestamp(time)));
        (sum, reads)
    }

    #[test]
    fn sleep_after_a_streak_is_idle() {
        let packet = Step { packets: 1, ns: 100, sleep: 0 };
        let none = Step { packets: 0, ns: 40, sleep: 1_000_000_000 };
        let mut steps = [packet; 41];
        steps[40] = none;
        let (sum, reads) = play(&steps, true);
        assert_eq!((sum.packets, sum.busy, sum.idle), (40, 4_040, 1_000_000_000));
        // Sixteen alone, the last of which begins the first group; a group is sixteen turns.
        assert_eq!(reads, 16 + 1 + 1, "{sum:?}");
    }

    #[test]
    fn full_turns_read_the_clock_each() {
        let (_, reads) = play(&[Step { packets: SHARED, ns: 1000, sleep: 0 }; 100], true);
        assert_eq!(reads, 100);
    }

    proptest! {
        #[test]
        fn shared_readings_book_what_readings_of_each_turn_do(
            steps in prop::collection::vec(
                (0..9_u32, 0..40_u32, 10..2_000_u64, 0..3_u64, 1..1_000_000_000_u64), 1..300),
        ) {
            // Packets in most of the turns, so that there are streaks.
            let steps: Vec<Step> = steps
                .into_iter()
                .map(|(kind, many, ns, sleeps, sleep)| Step {
                    packets: match kind { 0 => 0, 1..7 => 1, _ => many },
                    ns,
                    sleep: if sleeps == 0 { sleep } else { 0 },
                })
                .collect();
            let (plain, _) = play(&steps, false);
            let (shared, reads) = play(&steps, true);
            prop_assert_eq!((shared.packets, shared.bursts), (plain.packets, plain.bursts));
            prop_assert_eq!(shared.busy + shared.idle, plain.busy + plain.idle);
            // What is busy and idle differs by the turns without packets that ended a group.
            let ends = steps.windows(2).filter(|two| two[0].packets > 0 && two[1].packets == 0);
            let most: u64 = ends.map(|two| two[1].ns).sum();
            prop_assert!(shared.busy >= plain.busy && shared.busy - plain.busy <= most, "{:?} {:?}", shared, plain);
            prop_assert!(reads <= 2 * steps.len());
        }
    }
}
