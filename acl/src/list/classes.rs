//! From the value of a field to its class, and which rules hold for a class: one bit a rule.

use std::collections::{BTreeMap, HashMap};

use ipnet::Ipv4Net;

use super::ListRule;
use crate::bits::{BitRows, ones};
use crate::ranges::{RangeTable, Ranges};

const NODE: u16 = 1 << 15;
const ROOT: usize = 1 << 16;

/// From an address to its class: 16, 8 and 8 bits. A slot is a class, or with [`NODE`] a node.
#[derive(Debug)]
pub(super) struct Trie(Vec<u16>);

impl Trie {
    /// Classes of addresses by prefix, and the row of rules of each class.
    pub(super) fn build(nets: impl Iterator<Item = Ipv4Net>, bits: usize) -> Option<(Trie, BitRows)> {
        let mut by_net: BTreeMap<(u8, u32), Vec<usize>> = BTreeMap::new();
        for (rule, net) in nets.enumerate() {
            by_net.entry((net.prefix_len(), net.network().into())).or_default().push(rule);
        }
        let mut trie = Trie(vec![0; ROOT]);
        let mut rows = BitRows::new(bits);
        rows.push(&ones(bits, []));
        // Shorter prefixes first: what a longer one finds in its place is the class around it.
        for ((length, address), rules) in by_net {
            let mut row = rows.row(usize::from(trie.class(address))).to_vec();
            rules.into_iter().for_each(|rule| row[rule / 64] |= 1 << (rule % 64));
            let class = u16::try_from(rows.len()).ok().filter(|class| *class < NODE)?;
            rows.push(&row);
            trie.paint(address, length, class)?;
        }
        Some((trie, rows))
    }

    fn paint(&mut self, address: u32, length: u8, class: u16) -> Option<()> {
        let (mut at, mut end) = ((address >> 16) as usize, 16);
        while length > end {
            let slot = self.0[at];
            let node = if slot & NODE != 0 {
                usize::from(slot & !NODE)
            } else {
                let node = self.0.len() / 256;
                let number = u16::try_from(node - ROOT / 256).ok().filter(|number| *number < NODE)?;
                self.0.extend([slot; 256]);
                self.0[at] = NODE | number;
                usize::from(number)
            };
            end += 8;
            at = ROOT + node * 256 + (address >> (32 - end) & 255) as usize;
        }
        // Longer prefixes come later, so no slot of this one holds a node yet.
        self.0[at..at + (1 << (end - length))].fill(class);
        Some(())
    }

    #[inline]
    pub(super) fn class(&self, address: u32) -> u16 {
        let step = |slot: u16, octet: u32| {
            // Selected, not branched on: the depth of the next packet's prefix is anyone's guess.
            let inner = slot & NODE != 0;
            let at = if inner { ROOT + usize::from(slot & !NODE) * 256 + (octet & 255) as usize } else { 0 };
            let next = self.0[at];
            if inner { next } else { slot }
        };
        let slot = self.0[(address >> 16) as usize];
        step(step(slot, address >> 8), address)
    }

    /// Bytes of the table.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// Classes of ports, and the row of rules of each class.
pub(super) fn port_rows(
    rules: &[ListRule],
    pick: fn(&ListRule) -> &core::ops::RangeInclusive<u16>,
) -> Option<(RangeTable, BitRows)> {
    let ranges: Vec<Ranges> = rules.iter().map(|rule| vec![pick(rule).clone()]).collect();
    let (table, classes) = RangeTable::build(&ranges.iter().collect::<Vec<_>>(), 0)?;
    let mut rows = BitRows::new(rules.len());
    for holding in classes {
        let mut row = ones(rules.len(), []);
        holding.into_iter().for_each(|rule| row[rule as usize / 64] |= 1 << (rule % 64));
        rows.push(&row);
    }
    Some((table, rows))
}

/// Classes of protocols, and the row of rules of each class.
pub(super) fn protocol_rows(rules: &[ListRule]) -> (Box<[u16; 256]>, BitRows) {
    let mut rows = BitRows::new(rules.len());
    let mut known: HashMap<Vec<u64>, u16> = HashMap::new();
    let mut classes = Box::new([0; 256]);
    for (number, class) in classes.iter_mut().enumerate() {
        let holds = |rule: &ListRule| (number as u8 ^ rule.protocol.0) & rule.protocol.1 == 0;
        let next = rows.len() as u16;
        *class = *known.entry(ones(rules.len(), rules.iter().map(holds))).or_insert_with_key(|row| {
            rows.push(row);
            next
        });
    }
    (classes, rows)
}

/// Joins two fields: the class of each pair of classes, and the rows of the joined classes; `None` if there are more
/// than `most` pairs.
pub(super) fn join(one: &BitRows, other: &BitRows, most: usize) -> Option<(Vec<u16>, BitRows)> {
    if one.len() * other.len() > most {
        return None;
    }
    let mut known: HashMap<Vec<u64>, u16> = HashMap::new();
    let mut rows = BitRows::new(one.bits());
    let mut cells = Vec::with_capacity(one.len() * other.len());
    let mut row = Vec::new();
    for one in one.iter() {
        for other in other.iter() {
            row.clear();
            row.extend(one.iter().zip(other).map(|(one, other)| one & other));
            let class = match known.get(&row) {
                Some(class) => *class,
                None => {
                    let class = u16::try_from(rows.len()).ok()?;
                    rows.push(&row);
                    known.insert(row.clone(), class);
                    class
                }
            };
            cells.push(class);
        }
    }
    Some((cells, rows))
}
