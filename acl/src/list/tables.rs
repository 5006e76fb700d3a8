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

use super::classes::{Trie, join, port_rows, protocol_rows};
use super::{
    BURST, DESTINATION, DESTINATION_PORT, ListKeys, ListRule, NO_RULE, PROTOCOL, SOURCE, SOURCE_PORT,
};
use crate::bits::set_bits;
use crate::ranges::RangeTable;

/// Most cells of a table; more and it would not stay in the cache.
const MOST_CELLS: usize = 1 << 17;
/// Most rules: the last table's cells are 16 bits wide.
const MOST_RULES: usize = 4096;

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

impl Tables {
    /// The tables of a list; `None` if they would be too large.
    pub(super) fn build(rules: &[ListRule]) -> Option<Tables> {
        if rules.len() > MOST_RULES {
            return None;
        }
        let (source, sources) = Trie::build(rules.iter().map(|rule| rule.source), rules.len())?;
        let (destination, destinations) =
            Trie::build(rules.iter().map(|rule| rule.destination), rules.len())?;
        let (pairs, pair_rows) = join(&sources, &destinations, MOST_CELLS)?;
        let (source_port, source_ports) = port_rows(rules, |rule| &rule.source_ports)?;
        let (destination_port, destination_ports) = port_rows(rules, |rule| &rule.destination_ports)?;
        let (protocol, protocols) = protocol_rows(rules);
        let (ports, port_rows) = join(&source_ports, &destination_ports, MOST_CELLS)?;
        let (layer4, layer4_rows) = join(&protocols, &port_rows, MOST_CELLS)?;
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
        let words = self.pairs.len() + self.layer4.len() + self.cells.len() + 256;
        2 * words
            + self.source.memory()
            + self.destination.memory()
            + self.source_port.memory()
            + self.destination_port.memory()
    }
}
