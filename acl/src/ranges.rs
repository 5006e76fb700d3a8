//! From a 16-bit value (a port, or an ICMP type and code) to its class by ranges.
//!
//! ```text
//!  80 -> page of 0x00 -> [ 0 0 .. 1 .. 0 ]       page 0 is shared by all high octets without a boundary
//! ```
//!
//! Two values are of one class if every condition that was compiled says the same of both. Pages that
//! are alike are stored once, so that a table of few ports takes few cache lines.

use core::ops::RangeInclusive;
use std::collections::{BTreeSet, HashMap};

/// Which values a condition holds for: the union of some ranges.
pub(crate) type Ranges = Vec<RangeInclusive<u16>>;

/// The table, for readers.
#[derive(Clone, Debug)]
pub(crate) struct RangeTable {
    page_of: Box<[u16; 256]>,
    pages: Vec<[u16; 256]>,
}

impl RangeTable {
    #[inline]
    pub(crate) fn class(&self, value: u16) -> u16 {
        self.pages[usize::from(self.page_of[usize::from(value >> 8)])][usize::from(value & 255)]
    }

    /// The page of each high octet, and the pages.
    pub(crate) fn parts(&self) -> (&[u16; 256], &[[u16; 256]]) {
        (&self.page_of, &self.pages)
    }

    /// A table over `conditions`, its classes numbered from `first`, and of every class the conditions
    /// that hold, sorted. `None` if there were more than 16 bits can number.
    pub(crate) fn build(conditions: &[&Ranges], first: u16) -> Option<(Self, Vec<Vec<u32>>)> {
        let mut cuts = BTreeSet::from([0_u32]);
        for range in conditions.iter().flat_map(|ranges| ranges.iter()).filter(|range| !range.is_empty()) {
            cuts.insert(u32::from(*range.start()));
            cuts.insert(u32::from(*range.end()) + 1);
        }
        cuts.remove(&0x1_0000);
        let cuts: Vec<u32> = cuts.into_iter().collect();
        let place = |value: u32| cuts.partition_point(|cut| *cut < value);
        let mut holding: Vec<Vec<u32>> = vec![Vec::new(); cuts.len()];
        for (condition, ranges) in conditions.iter().enumerate() {
            for range in ranges.iter().filter(|range| !range.is_empty()) {
                for list in &mut holding[place(u32::from(*range.start()))..place(u32::from(*range.end()) + 1)]
                {
                    if list.last() != Some(&(condition as u32)) {
                        list.push(condition as u32);
                    }
                }
            }
        }
        let mut ids: HashMap<Vec<u32>, u16> = HashMap::new();
        let mut classes = Vec::new();
        let mut by_interval = Vec::with_capacity(cuts.len());
        for list in holding {
            let id = match ids.get(&list) {
                Some(id) => *id,
                None => {
                    let id = u16::try_from(usize::from(first) + classes.len()).ok()?;
                    classes.push(list.clone());
                    ids.insert(list, id);
                    id
                }
            };
            by_interval.push(id);
        }
        Some((Self::from_intervals(&cuts, &by_interval), classes))
    }

    /// `cuts` are where intervals begin, from 0 on; `classes` those of the intervals.
    fn from_intervals(cuts: &[u32], classes: &[u16]) -> Self {
        let mut table = RangeTable { page_of: Box::new([0; 256]), pages: Vec::new() };
        let end = |interval: usize| cuts.get(interval + 1).copied().unwrap_or(0x1_0000);
        let mut interval = 0;
        for high in 0..256_u32 {
            let mut page = [0; 256];
            let mut value = high << 8;
            let next_page = value + 256;
            while value < next_page {
                while end(interval) <= value {
                    interval += 1;
                }
                let until = end(interval).min(next_page);
                page[(value & 255) as usize..][..(until - value) as usize].fill(classes[interval]);
                value = until;
            }
            let known = table.pages.iter().rposition(|known| *known == page);
            table.page_of[high as usize] = known.unwrap_or(table.pages.len()) as u16;
            if known.is_none() {
                table.pages.push(page);
            }
        }
        table
    }

    /// Bytes of the table.
    pub(crate) fn memory(&self) -> usize {
        size_of::<[u16; 256]>() * (1 + self.pages.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_of_the_class_of_its_conditions() {
        let conditions: [Ranges; 4] =
            [vec![80..=80], vec![0..=1023, 8000..=9000], vec![65535..=65535, 0..=0], vec![]];
        let (table, classes) =
            RangeTable::build(&conditions.iter().collect::<Vec<_>>(), 5).expect("few classes");
        for value in 0..=u16::MAX {
            let expected: Vec<u32> = (0..4)
                .filter(|at| conditions[*at as usize].iter().any(|range| range.contains(&value)))
                .collect();
            assert_eq!(classes[usize::from(table.class(value) - 5)], expected, "{value}");
        }
        assert_eq!(classes.len(), 5);
    }
}
