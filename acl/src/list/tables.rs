//! The form for lists whose addresses make few combinations: a chain of tables, whatever the rules.
//!
//! ```text
//!  source ------> class --+
//!  destination -> class --+--> pair class --+
//!  protocol ----> class --+                 +--> first rule
//!  ports -------> class --+--> layer 4 class+
//! ```
//!
//! Two values are of one class if the same rules hold for both. A packet costs a fixed number of reads,
//! none of which waits for a comparison.
//!
//! Source: Gupta, McKeown, Packet Classification on Multiple Fields, SIGCOMM 1999 (recursive flow
//! classification).

use std::collections::{BTreeMap, HashMap};

use ipnet::Ipv4Net;

use super::{
    BURST, DESTINATION, DESTINATION_PORT, ListKeys, ListRule, NO_RULE, PROTOCOL, SOURCE, SOURCE_PORT,
};
use crate::bits::{BitRows, ones, set_bits};
use crate::ranges::{RangeTable, Ranges};

/// Most cells of a table; more and it would not stay in the cache.
const MOST_CELLS: usize = 1 << 17;
/// Most rules: the last table's cells are 16 bits wide.
const MOST_RULES: usize = 4096;

const NODE: u16 = 1 << 15;
const ROOT: usize = 1 << 16;

/// From an address to its class: 16, 8 and 8 bits. A slot is a class, or with [`NODE`] a node.
#[derive(Debug)]
struct Trie(Vec<u16>);

impl Trie {
    /// Classes of addresses by prefix, and the row of rules of each class.
    fn build(nets: impl Iterator<Item = Ipv4Net>, bits: usize) -> Option<(Trie, BitRows)> {
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
    fn class(&self, address: u32) -> u16 {
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
}

/// The compiled form.
#[derive(Debug)]
pub(super) struct Tables {
    source: Trie,
    destination: Trie,
    source_port: RangeTable,
    destination_port: RangeTable,
    protocol: Box<[u16; 256]>,
    destinations: usize,
    pairs: Box<[u16]>,
    source_ports: usize,
    destination_ports: usize,
    layer4: Box<[u16]>,
    layer4_classes: usize,
    cells: Box<[u16]>,
}

/// Joins two fields: the class of each pair of classes, and the rows of the joined classes.
fn join(one: &BitRows, other: &BitRows) -> Option<(Vec<u16>, BitRows)> {
    if one.len() * other.len() > MOST_CELLS {
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

fn port_rows(
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

impl Tables {
    /// The tables of a list; `None` if they would be too large.
    pub(super) fn build(rules: &[ListRule]) -> Option<Tables> {
        if rules.len() > MOST_RULES {
            return None;
        }
        let (source, sources) = Trie::build(rules.iter().map(|rule| rule.source), rules.len())?;
        let (destination, destinations) =
            Trie::build(rules.iter().map(|rule| rule.destination), rules.len())?;
        let (pairs, pair_rows) = join(&sources, &destinations)?;
        let (source_port, source_ports) = port_rows(rules, |rule| &rule.source_ports)?;
        let (destination_port, destination_ports) = port_rows(rules, |rule| &rule.destination_ports)?;
        let mut protocols = BitRows::new(rules.len());
        let mut known: HashMap<Vec<u64>, u16> = HashMap::new();
        let mut protocol = Box::new([0; 256]);
        for (number, class) in protocol.iter_mut().enumerate() {
            let holds = |rule: &ListRule| (number as u8 ^ rule.protocol.0) & rule.protocol.1 == 0;
            let row = ones(rules.len(), rules.iter().map(holds));
            let next = protocols.len() as u16;
            *class = *known.entry(row).or_insert_with_key(|row| {
                protocols.push(row);
                next
            });
        }
        let (ports, port_rows) = join(&source_ports, &destination_ports)?;
        let (layer4, layer4_rows) = join(&protocols, &port_rows)?;
        if pair_rows.len() * layer4_rows.len() > MOST_CELLS {
            return None;
        }
        let mut cells = Vec::with_capacity(pair_rows.len() * layer4_rows.len());
        for pair in pair_rows.iter() {
            for other in layer4_rows.iter() {
                let both = pair.iter().zip(other).map(|(pair, other)| pair & other);
                cells.push(set_bits(both).next().map_or(u16::MAX, |rule| rule as u16));
            }
        }
        // Protocol, source port and destination port in one step: the class of a pair of ports is looked
        // up while compiling.
        let (sp, dp) = (source_ports.len(), destination_ports.len());
        if protocols.len() * sp * dp > MOST_CELLS {
            return None;
        }
        let mut joined = Vec::with_capacity(protocols.len() * sp * dp);
        for protocol in 0..protocols.len() {
            joined.extend(ports.iter().map(|pair| layer4[protocol * port_rows.len() + usize::from(*pair)]));
        }
        Some(Tables {
            source,
            destination,
            source_port,
            destination_port,
            protocol,
            destinations: destinations.len(),
            pairs: pairs.into(),
            source_ports: sp,
            destination_ports: dp,
            layer4: joined.into(),
            layer4_classes: layer4_rows.len(),
            cells: cells.into(),
        })
    }

    #[inline]
    pub(super) fn lookup(&self, keys: &ListKeys, count: usize, first: &mut [u32; BURST]) {
        let mut rows = [0_u32; BURST];
        for (lane, row) in rows[..count].iter_mut().enumerate() {
            let source = usize::from(self.source.class(keys.fields[SOURCE][lane]));
            let destination = usize::from(self.destination.class(keys.fields[DESTINATION][lane]));
            *row =
                u32::from(self.pairs[source * self.destinations + destination]) * self.layer4_classes as u32;
        }
        for (lane, (first, row)) in first[..count].iter_mut().zip(rows).enumerate() {
            let protocol = usize::from(self.protocol[(keys.fields[PROTOCOL][lane] & 255) as usize]);
            let source = usize::from(self.source_port.class(keys.fields[SOURCE_PORT][lane] as u16));
            let destination =
                usize::from(self.destination_port.class(keys.fields[DESTINATION_PORT][lane] as u16));
            let class =
                self.layer4[(protocol * self.source_ports + source) * self.destination_ports + destination];
            let rule = self.cells[row as usize + usize::from(class)];
            *first = if rule == u16::MAX { NO_RULE } else { rule.into() };
        }
    }

    pub(super) fn memory(&self) -> usize {
        let words = self.source.0.len() + self.destination.0.len() + self.pairs.len() + self.layer4.len();
        2 * (words + self.cells.len() + 256) + self.source_port.memory() + self.destination_port.memory()
    }
}
