//! What a receiver makes of sequence numbers and times.
//!
//! A window of the latest [`WINDOW`] numbers tells a late packet (reordered, as RFC 4737 has it:
//! lower than one that came before) from one that came before (duplicate). What is older than the
//! window counts as late. The highest number of each flow tells whether the flow itself was
//! reordered; of flows that share a place of the table, the latest one is watched.

use crate::histogram::Histogram;

/// Flows that are watched at a time; a power of two.
const WATCHED_FLOWS: usize = 1 << 18;

/// Sequence numbers that are remembered.
const WINDOW: u64 = 1 << 16;

/// Counts of one receiver.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Packets with a stamp.
    pub(crate) packets: u64,
    /// Their bytes, FCS included.
    pub(crate) bytes: u64,
    /// Packets without a stamp of ours.
    pub(crate) foreign: u64,
    /// Packets that came before.
    pub(crate) duplicates: u64,
    /// Packets that came after one with a higher number.
    pub(crate) reordered: u64,
    /// Of those, packets that came after a later one of their own flow.
    pub(crate) reordered_in_flow: u64,
    /// Time from sending to receiving.
    pub(crate) latency: Histogram,
    lowest: u64,
    highest: u64,
    seen: Box<[u64]>,
    /// By flow: which one it is, and its highest number.
    flows: Box<[(u64, u64)]>,
}

impl Tally {
    /// Nothing received.
    pub(crate) fn new() -> Self {
        Tally {
            packets: 0,
            bytes: 0,
            foreign: 0,
            duplicates: 0,
            reordered: 0,
            reordered_in_flow: 0,
            latency: Histogram::new(),
            lowest: u64::MAX,
            highest: 0,
            seen: vec![0; (WINDOW / 64) as usize].into(),
            flows: vec![(0, 0); WATCHED_FLOWS].into(),
        }
    }

    /// Takes a packet's number, and the number that its flow is told by.
    pub(crate) fn take(&mut self, sequence: u64, flow: u64) {
        if self.packets == 0 {
            self.highest = sequence;
        } else if sequence > self.highest {
            if sequence - self.highest >= WINDOW {
                self.seen.fill(0);
            } else {
                (self.highest + 1..sequence).for_each(|missed| self.mark(missed, false));
            }
            self.highest = sequence;
        } else if self.highest - sequence < WINDOW && self.was_seen(sequence) {
            self.duplicates += 1;
        } else {
            self.reordered += 1;
            let (watched, highest) = self.flows[Self::place(flow)];
            self.reordered_in_flow += u64::from(watched == flow && sequence < highest);
        }
        let at = &mut self.flows[Self::place(flow)];
        *at = (flow, if at.0 == flow { at.1.max(sequence) } else { sequence });
        self.mark(sequence, true);
        self.lowest = self.lowest.min(sequence);
        self.packets += 1;
    }

    /// Packets missing between the lowest and the highest number seen.
    pub(crate) fn missing(&self) -> u64 {
        let unique = self.packets - self.duplicates;
        if unique == 0 { 0 } else { (self.highest - self.lowest + 1).saturating_sub(unique) }
    }

    fn place(flow: u64) -> usize {
        (flow >> 32 ^ flow) as usize % WATCHED_FLOWS
    }

    fn mark(&mut self, sequence: u64, seen: bool) {
        let (word, bit) = ((sequence % WINDOW / 64) as usize, 1 << (sequence % 64));
        if seen { self.seen[word] |= bit } else { self.seen[word] &= !bit }
    }

    fn was_seen(&self, sequence: u64) -> bool {
        self.seen[(sequence % WINDOW / 64) as usize] >> (sequence % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(numbers: impl IntoIterator<Item = u64>) -> (u64, u64, u64) {
        let mut tally = Tally::new();
        numbers.into_iter().for_each(|number| tally.take(number, 7));
        assert_eq!(tally.reordered, tally.reordered_in_flow, "there is one flow");
        (tally.missing(), tally.duplicates, tally.reordered)
    }

    #[test]
    fn losses_duplicates_and_order_are_told_apart() {
        assert_eq!(tally(0..100), (0, 0, 0));
        assert_eq!(tally([0, 1, 3, 4]), (1, 0, 0));
        assert_eq!(tally([0, 1, 3, 2, 4]), (0, 0, 1));
        assert_eq!(tally([0, 1, 1, 2, 2, 2]), (0, 3, 0));
        assert_eq!(tally([5, 3, 4]), (0, 0, 2));
        assert_eq!(tally([0, WINDOW * 3, WINDOW * 3 + 1]), (WINDOW * 3 - 1, 0, 0));
        // The same places of the window, a whole turn later, are not duplicates.
        assert_eq!(tally((0..WINDOW).chain(WINDOW + 7..2 * WINDOW)), (7, 0, 0));
        assert_eq!(tally((0..WINDOW + 10).chain([WINDOW + 3])), (0, 1, 0));
        assert_eq!(tally([]), (0, 0, 0));
    }

    #[test]
    fn order_within_a_flow_is_its_own_matter() {
        let count = |packets: &[(u64, u64)]| {
            let mut tally = Tally::new();
            packets.iter().for_each(|(sequence, flow)| tally.take(*sequence, *flow));
            (tally.reordered, tally.reordered_in_flow)
        };
        // Two flows that take different ways, one of them longer.
        assert_eq!(count(&[(0, 1), (2, 1), (1, 2), (4, 1), (3, 2)]), (2, 0));
        assert_eq!(count(&[(0, 1), (2, 1), (1, 1)]), (1, 1));
        assert_eq!(count(&[(2, 1), (3, 2), (1, 2), (0, 1)]), (2, 2));
        // A duplicate is not late.
        assert_eq!(count(&[(0, 1), (1, 1), (0, 1)]), (0, 0));
    }

    /// A path that loses, doubles and swaps by a script: what it did is what is counted.
    #[test]
    fn a_scripted_path_is_read_back() {
        let mut random = vrouter_bench::random::Random::new(42);
        for _ in 0..200 {
            let total = 500 + random.next() % 3000;
            let mut tally = Tally::new();
            let (mut lost, mut doubled, mut swapped) = (0, 0, 0);
            let mut number = 0;
            while number < total {
                // The first and the last arrive, or nothing tells that they were sent.
                match random.next() % 10 {
                    0 if number > 0 && number + 1 < total => lost += 1,
                    1 => {
                        doubled += 1;
                        tally.take(number, number % 5);
                        tally.take(number, number % 5);
                    }
                    2 if number + 1 < total => {
                        swapped += 1;
                        tally.take(number + 1, 9);
                        tally.take(number, 9);
                        number += 1;
                    }
                    _ => tally.take(number, number % 5),
                }
                number += 1;
            }
            let counted = (tally.missing(), tally.duplicates, tally.reordered, tally.reordered_in_flow);
            assert_eq!(counted, (lost, doubled, swapped, swapped));
        }
    }
}
