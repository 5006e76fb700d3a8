//! From protocol, ports and ICMP type to the conditions on them that hold.
//!
//! ```text
//!  protocol --------> protocol class --+
//!  source port -----> port class ------+--> one of the layer 4 classes
//!  destination port -> port class -----+
//!       or ICMP type and code
//! ```
//!
//! Port class 0 is that of packets without ports to be seen. The classes of ICMP types are numbered
//! behind those of destination ports, since no packet has both.

use std::collections::HashMap;

use crate::bits::{BitRows, ones};
use crate::model::{Family, has_ports};
use crate::program::terms::Layer4Condition;
use crate::ranges::RangeTable;

const WITH_PORTS: u8 = 1;
const ICMP: u8 = 2;

/// Most cells of the table that joins the three classes.
const MOST_CELLS: usize = 1 << 18;

/// The tables, for readers.
#[derive(Debug)]
pub(crate) struct Layer4 {
    /// Protocol class and what of a packet is looked at.
    protocols: Box<[(u8, u8); 256]>,
    source_ports: RangeTable,
    destination_ports: RangeTable,
    icmp: RangeTable,
    source_classes: usize,
    destination_classes: usize,
    joined: Box<[u16]>,
}

/// Which conditions hold in the classes of each of the three fields, one row a class.
pub(crate) struct Layer4Rows {
    pub(crate) protocol: BitRows,
    pub(crate) source: BitRows,
    pub(crate) destination: BitRows,
    /// One row for each joined class; `None` if there were too many.
    pub(crate) joined: Option<BitRows>,
}

impl Layer4 {
    /// The classes of the three fields.
    #[inline]
    pub(crate) fn fields(
        &self,
        protocol: u8,
        source_port: u16,
        destination_port: u16,
        transport: bool,
    ) -> [usize; 3] {
        let (class, looked_at) = self.protocols[usize::from(protocol)];
        let (source, destination) = match looked_at {
            _ if !transport => (0, 0),
            WITH_PORTS => {
                (self.source_ports.class(source_port), self.destination_ports.class(destination_port))
            }
            ICMP => (0, self.icmp.class(destination_port)),
            _ => (0, 0),
        };
        [class.into(), source.into(), destination.into()]
    }

    /// The joined class.
    #[inline]
    pub(crate) fn class(&self, [protocol, source, destination]: [usize; 3]) -> usize {
        let cell = (protocol * self.source_classes + source) * self.destination_classes + destination;
        self.joined[cell].into()
    }

    pub(crate) fn memory(&self) -> usize {
        let tables = [&self.source_ports, &self.destination_ports, &self.icmp];
        tables.iter().map(|table| table.memory()).sum::<usize>() + 2 * (256 + self.joined.len())
    }

    /// Compiles conditions. `None` if 16 bits cannot number the classes of a field.
    pub(crate) fn build(conditions: &[Layer4Condition], family: Family) -> Option<(Layer4, Layer4Rows)> {
        let (protocols, protocol) = protocol_classes(conditions, family);
        let (source_ports, source) = {
            let given = conditions.iter().map(|condition| condition.source_ports.as_ref());
            port_classes(given.collect(), 1)?
        };
        let without = |asks: &dyn Fn(&Layer4Condition) -> bool| {
            ones(conditions.len(), conditions.iter().map(|condition| !asks(condition)))
        };
        // A condition on ICMP types holds for no class of ports, and the other way round.
        let given = conditions.iter().map(|condition| condition.destination_ports.as_ref());
        let (destination_ports, of_ports) = port_classes(given.collect(), 1)?;
        let first_icmp = u16::try_from(1 + of_ports.len()).ok()?;
        let given = conditions.iter().map(|condition| condition.icmp.as_ref());
        let (icmp, of_types) = port_classes(given.collect(), first_icmp)?;
        let no_icmp = without(&|condition| condition.icmp.is_some());
        let no_ports = without(&|condition| condition.destination_ports.is_some());
        let mut rows = BitRows::new(conditions.len());
        rows.push_and(&no_ports, &no_icmp);
        for row in of_ports.iter() {
            rows.push_and(row, &no_icmp);
        }
        for row in of_types.iter() {
            rows.push_and(row, &no_ports);
        }
        let destination = rows;
        let mut with_none = BitRows::new(conditions.len());
        with_none.push(&without(&|condition| condition.source_ports.is_some()));
        for row in source.iter() {
            with_none.push(row);
        }
        let source = with_none;
        let (source_classes, destination_classes) = (source.len(), destination.len());
        let mut tables = Layer4 {
            protocols,
            source_ports,
            destination_ports,
            icmp,
            source_classes,
            destination_classes,
            joined: Box::default(),
        };
        let joined = join(&protocol, &source, &destination).map(|(cells, rows)| {
            tables.joined = cells;
            rows
        });
        Some((tables, Layer4Rows { protocol, source, destination, joined }))
    }
}

fn protocol_classes(conditions: &[Layer4Condition], family: Family) -> (Box<[(u8, u8); 256]>, BitRows) {
    let mut rows = BitRows::new(conditions.len());
    let mut known: HashMap<(u8, Vec<u64>), u8> = HashMap::new();
    let mut out = Box::new([(0, 0); 256]);
    for protocol in 0..=255_u8 {
        let looked_at = match protocol {
            _ if has_ports(protocol) => WITH_PORTS,
            _ if protocol == family.icmp() => ICMP,
            _ => 0,
        };
        // An ICMP condition holds for ICMP of the packet's own family alone.
        let holds = |condition: &Layer4Condition| {
            condition.allows(protocol) && (condition.icmp.is_none() || looked_at == ICMP)
        };
        let row = ones(conditions.len(), conditions.iter().map(holds));
        let next = rows.len() as u8;
        let class = *known.entry((looked_at, row)).or_insert_with_key(|(_, row)| {
            rows.push(row);
            next
        });
        out[usize::from(protocol)] = (class, looked_at);
    }
    (out, rows)
}

/// Classes of a field of 16 bits; a condition that asks nothing of it holds in all of them.
fn port_classes(
    given: Vec<Option<&Vec<core::ops::RangeInclusive<u16>>>>,
    first: u16,
) -> Option<(RangeTable, BitRows)> {
    let asking: Vec<usize> = (0..given.len()).filter(|at| given[*at].is_some()).collect();
    let ranges: Vec<_> = given.iter().copied().flatten().collect();
    let (table, classes) = RangeTable::build(&ranges, first)?;
    let free = ones(given.len(), given.iter().map(Option::is_none));
    let mut rows = BitRows::new(given.len());
    for holding in classes {
        let mut row = free.clone();
        for at in holding {
            let condition = asking[at as usize];
            row[condition / 64] |= 1 << (condition % 64);
        }
        rows.push(&row);
    }
    Some((table, rows))
}

fn join(protocol: &BitRows, source: &BitRows, destination: &BitRows) -> Option<(Box<[u16]>, BitRows)> {
    let cells = protocol.len() * source.len() * destination.len();
    if cells > MOST_CELLS || cells * protocol.words() > MOST_CELLS * 64 {
        return None;
    }
    let mut known: HashMap<Vec<u64>, u16> = HashMap::new();
    let mut rows = BitRows::new(protocol.bits());
    let mut joined = Vec::with_capacity(cells);
    for p in protocol.iter() {
        for s in source.iter() {
            let both: Vec<u64> = p.iter().zip(s).map(|(p, s)| p & s).collect();
            for d in destination.iter() {
                let row: Vec<u64> = both.iter().zip(d).map(|(both, d)| both & d).collect();
                let class = match known.get(&row) {
                    Some(class) => *class,
                    None => {
                        let class = u16::try_from(rows.len()).ok()?;
                        rows.push(&row);
                        known.insert(row, class);
                        class
                    }
                };
                joined.push(class);
            }
        }
    }
    Some((joined.into(), rows))
}
