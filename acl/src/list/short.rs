//! The form for short lists that overlap: for each field the rules that hold for its value, as a row of bits in one
//! word, and the first bit of all rows' intersection.
//!
//! ```text
//!  source       upper half -> page -> class -> row --+
//!               lower half ->   "  ->   "   ->  "  --+
//!  destination  upper, lower half                    +-- and --> lowest bit: the first rule
//!  source port, destination port                     +
//!  protocol                                        --+
//! ```
//!
//! A prefix of up to 16 bits is a range of upper halves with any lower one; a longer one has one upper half and a range
//! of lower ones. So every field but the protocol is 16 bits with ranges, of which 127 rules make at most 255 classes:
//! an octet names one. Pages of 256 values that are alike are stored once.
//!
//! Source: Lakshman, Stiliadis, High-Speed Policy-based Packet Forwarding Using Efficient Multi-dimensional Range
//! Matching, SIGCOMM 1998 (bit vectors).

use core::ops::RangeInclusive;

use ipnet::Ipv4Net;

use super::{
    BURST, DESTINATION, DESTINATION_PORT, ListKeys, ListRule, NO_RULE, PROTOCOL, SOURCE, SOURCE_PORT,
};
use crate::ranges::{RangeTable, Ranges};

/// Most rules: their ranges make classes that an octet can number.
const MOST_RULES: usize = 127;

/// The compiled form.
#[derive(Debug)]
pub(super) struct Short {
    addresses: [[Field; 2]; 2],
    ports: [Field; 2],
    protocols: Box<[u128; 256]>,
}

/// From a value of 16 bits to the rules that hold for it.
#[derive(Debug)]
struct Field {
    page_of: Box<[u8; 256]>,
    pages: Box<[[u8; 256]]>,
    rows: Box<[u128; 256]>,
    classes: usize,
}

impl Field {
    fn build(ranges: impl Iterator<Item = RangeInclusive<u16>>) -> Option<Field> {
        let ranges: Vec<Ranges> = ranges.map(|range| vec![range]).collect();
        let (table, classes) = RangeTable::build(&ranges.iter().collect::<Vec<_>>(), 0)?;
        let mut rows = Box::new([0; 256]);
        for (class, rules) in classes.iter().enumerate() {
            *rows.get_mut(class)? = rules.iter().fold(0, |row, rule| row | 1 << rule);
        }
        let (page_of, pages) = table.parts();
        Some(Field {
            page_of: Box::new(page_of.map(|page| page as u8)),
            pages: pages.iter().map(|page| page.map(|class| class as u8)).collect(),
            rows,
            classes: classes.len(),
        })
    }

    #[inline]
    fn rules(&self, value: u16) -> u128 {
        let page = usize::from(self.page_of[usize::from(value >> 8)]);
        self.rows[usize::from(self.pages[page][usize::from(value & 255)])]
    }

    fn memory(&self) -> usize {
        256 + size_of_val(&*self.pages) + size_of::<u128>() * self.classes
    }
}

/// The ranges of an address's halves that a prefix holds for.
fn halves(net: Ipv4Net) -> [RangeInclusive<u16>; 2] {
    let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
    let upper = (first >> 16) as u16..=(last >> 16) as u16;
    [upper, first as u16..=last as u16]
}

impl Short {
    /// The rows of a list; `None` if it is too long.
    pub(super) fn build(rules: &[ListRule]) -> Option<Short> {
        if rules.len() > MOST_RULES {
            return None;
        }
        let field = |pick: fn(&ListRule) -> RangeInclusive<u16>| Field::build(rules.iter().map(pick));
        let mut protocols = Box::new([0_u128; 256]);
        for (number, row) in (0..=u8::MAX).zip(protocols.iter_mut()) {
            let holds = |rule: &ListRule| (number ^ rule.protocol.0) & rule.protocol.1 == 0;
            *row = rules.iter().enumerate().fold(0, |row, (at, rule)| row | u128::from(holds(rule)) << at);
        }
        Some(Short {
            addresses: [
                [
                    field(|rule| halves(rule.source)[0].clone())?,
                    field(|rule| halves(rule.source)[1].clone())?,
                ],
                [
                    field(|rule| halves(rule.destination)[0].clone())?,
                    field(|rule| halves(rule.destination)[1].clone())?,
                ],
            ],
            ports: [field(|rule| rule.source_ports.clone())?, field(|rule| rule.destination_ports.clone())?],
            protocols,
        })
    }

    #[inline]
    pub(super) fn lookup(&self, keys: &ListKeys, count: usize, first: &mut [u32; BURST]) {
        let address =
            |of: &[Field; 2], value: u32| of[0].rules((value >> 16) as u16) & of[1].rules(value as u16);
        for (lane, first) in first[..count].iter_mut().enumerate() {
            let field = |row: usize| keys.fields[row][lane];
            let rules = address(&self.addresses[0], field(SOURCE))
                & address(&self.addresses[1], field(DESTINATION))
                & self.ports[0].rules(field(SOURCE_PORT) as u16)
                & self.ports[1].rules(field(DESTINATION_PORT) as u16)
                & self.protocols[(field(PROTOCOL) & 255) as usize];
            *first = if rules == 0 { NO_RULE } else { rules.trailing_zeros() };
        }
    }

    pub(super) fn memory(&self) -> usize {
        let fields = self.addresses.iter().flatten().chain(&self.ports).map(Field::memory);
        fields.sum::<usize>() + size_of_val(&*self.protocols)
    }
}
