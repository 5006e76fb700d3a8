//! The form of bit vectors: one row of rules for each class, and the rules of a packet are what its rows share.
//!
//! ```text
//!  source ------------------> class -> row  0 1 0 0 1 ...
//!  destination -------------> class -> row  1 1 0 0 0 ...   &  0 1 0 0 0 ...   the first bit is the first rule
//!  protocol ----> class -+
//!  source port -> class -+-> class -> row   1 1 1 0 1 ...
//!  destination port --------> class -> row  0 1 0 1 0 ...
//! ```
//!
//! Rows come in blocks of 512 rules. Up to two of them are read whole, which no branch decides. Of longer rows a
//! summary tells which blocks are worth reading (`bits`): a list of many wildcards has its first match early, one
//! of few wildcards has few blocks that are not empty.

use super::classes::{Trie, join, port_rows, protocol_rows};
use super::{
    BURST, DESTINATION, DESTINATION_PORT, ListKeys, ListRule, NO_RULE, PROTOCOL, SOURCE, SOURCE_PORT,
};
use crate::bits::{BLOCK, BitRows, BlockRows, BlockRowsBuilder, intersection, set_bits};
use crate::ranges::RangeTable;

/// Most rules: beyond, the rows would take a multiple of the rules' memory.
const MOST_RULES: usize = 1 << 14;

/// What a packet costs where rows are short; where they are long, and for each block of them that it meets.
const COST_OF_SHORT: f64 = 4.2;
const COST_OF_LONG: f64 = 4.5;
const COST_OF_BLOCK: f64 = 1.8;

/// Rows of a packet: of its source, its destination, its protocol and source port, its destination port.
pub(super) const FIELDS: usize = 4;
/// Most classes of protocols and source ports.
const MOST_CELLS: usize = 1 << 17;

/// The compiled form.
#[derive(Debug)]
pub(super) struct Vectors {
    source: Trie,
    destination: Trie,
    source_port: RangeTable,
    destination_port: RangeTable,
    protocol: Box<[u16; 256]>,
    source_ports: usize,
    /// By class of protocol and class of source port.
    joined: Box<[u16]>,
    pub(super) rows: Rows,
}

/// The rows of each field, by class.
#[derive(Debug)]
pub(super) enum Rows {
    /// Of at most 1,024 rules.
    Short([Box<[Row]>; FIELDS]),
    /// Of more.
    Long([BlockRows; FIELDS]),
}

/// A row of at most 1,024 rules.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub(super) struct Row(pub(super) [[u64; BLOCK]; 2]);

/// What classes without a row have: there are none.
pub(super) const NOTHING: Row = Row([[0; BLOCK]; 2]);

impl Rows {
    fn memory(&self) -> usize {
        match self {
            Rows::Short(fields) => fields.iter().map(|rows| size_of_val(&**rows)).sum(),
            Rows::Long(fields) => fields.iter().map(BlockRows::memory).sum(),
        }
    }
}

fn short(rows: &BitRows) -> Box<[Row]> {
    let row = |words: &[u64]| {
        let mut row = NOTHING;
        row.0.as_flattened_mut()[..words.len()].copy_from_slice(words);
        row
    };
    rows.iter().map(row).collect()
}

fn long(rows: &BitRows) -> BlockRows {
    let mut builder = BlockRowsBuilder::new(rows.bits());
    rows.iter().for_each(|row| builder.push(row));
    builder.finish()
}

impl Vectors {
    /// The vectors of a list; `None` if they would be too large.
    pub(super) fn build(rules: &[ListRule]) -> Option<Vectors> {
        if rules.len() > MOST_RULES {
            return None;
        }
        let (source, sources) = Trie::build(rules.iter().map(|rule| rule.source), rules.len())?;
        let (destination, destinations) =
            Trie::build(rules.iter().map(|rule| rule.destination), rules.len())?;
        let (source_port, source_ports) = port_rows(rules, |rule| &rule.source_ports)?;
        let (destination_port, destination_ports) = port_rows(rules, |rule| &rule.destination_ports)?;
        let (protocol, protocols) = protocol_rows(rules);
        let (joined, joined_rows) = join(&protocols, &source_ports, MOST_CELLS)?;
        let rows = [&sources, &destinations, &joined_rows, &destination_ports];
        Some(Vectors {
            source,
            destination,
            source_port,
            destination_port,
            protocol,
            source_ports: source_ports.len(),
            joined: joined.into(),
            rows: if rules.len() <= 2 * 64 * BLOCK {
                Rows::Short(rows.map(short))
            } else {
                Rows::Long(rows.map(long))
            },
        })
    }

    /// The rows of a packet with these fields.
    #[inline(always)]
    fn rows_of_one(&self, key: impl Fn(usize) -> u32) -> [u32; FIELDS] {
        let protocol = usize::from(self.protocol[(key(PROTOCOL) & 255) as usize]);
        let source_port = usize::from(self.source_port.class(key(SOURCE_PORT) as u16));
        [
            self.source.class(key(SOURCE)),
            self.destination.class(key(DESTINATION)),
            self.joined[protocol * self.source_ports + source_port],
            self.destination_port.class(key(DESTINATION_PORT) as u16),
        ]
        .map(u32::from)
    }

    /// The rows of each of the first `count` packets.
    #[inline]
    pub(super) fn rows_of(&self, keys: &ListKeys, count: usize, rows: &mut [[u32; FIELDS]; BURST]) {
        for (lane, rows) in rows[..count].iter_mut().enumerate() {
            *rows = self.rows_of_one(|field| keys.fields[field][lane]);
        }
    }

    /// What a packet costs, in compared blocks of a tree, if packets are like these: measured on Zen 4.
    pub(super) fn cost(&self, packets: impl Iterator<Item = [u32; 5]>) -> f64 {
        let Rows::Long(fields) = &self.rows else { return COST_OF_SHORT };
        let (mut met, mut count) = (0, 0);
        for packet in packets {
            let rows = self.rows_of_one(|field| packet[field]);
            let shared =
                |summary: u64, (field, row): (&BlockRows, u32)| summary & field.summary(row as usize, 0);
            let mut summary = fields.iter().zip(rows).fold(u64::MAX, shared);
            while summary != 0 {
                met += 1;
                let at = summary.trailing_zeros() as usize;
                let blocks: [_; FIELDS] =
                    core::array::from_fn(|field| fields[field].block(rows[field] as usize, at));
                if (0..BLOCK).any(|word| blocks.iter().fold(u64::MAX, |all, block| all & block[word]) != 0) {
                    break;
                }
                summary &= summary - 1;
            }
            count += 1;
        }
        COST_OF_LONG + COST_OF_BLOCK * f64::from(met) / f64::from(count.max(1))
    }

    /// See [`RuleList::lookup`](super::RuleList::lookup), without vector instructions.
    pub(super) fn lookup(&self, keys: &ListKeys, count: usize, first: &mut [u32; BURST]) {
        let mut rows = [[0; FIELDS]; BURST];
        self.rows_of(keys, count, &mut rows);
        for (first, rows) in first[..count].iter_mut().zip(rows) {
            let rows = rows.map(|row| row as usize);
            let rule = match &self.rows {
                Rows::Long(fields) => intersection(fields.each_ref(), rows).next(),
                Rows::Short(fields) => {
                    let row =
                        |field: usize| fields[field].get(rows[field]).unwrap_or(&NOTHING).0.as_flattened();
                    let [a, b, c, d] = core::array::from_fn(row);
                    set_bits((0..a.len()).map(|at| a[at] & b[at] & c[at] & d[at])).next()
                }
            };
            *first = rule.map_or(NO_RULE, |rule| rule as u32);
        }
    }

    pub(super) fn memory(&self) -> usize {
        let tries = self.source.memory() + self.destination.memory();
        let ports = self.source_port.memory() + self.destination_port.memory();
        tries + ports + 2 * (256 + self.joined.len()) + self.rows.memory()
    }
}
