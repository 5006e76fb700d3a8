//! A plain access list: prefixes, port ranges and protocol of IPv4 packets, first match by order.
//!
//! ```text
//!  packet --> tree over rules with a narrow source        --> leaf: up to 16 rules, compared at once
//!         --> tree over rules with a narrow destination   --> leaf             the lowest number
//!         --> tree over the rest                          --> leaf             of all wins
//!
//!  inner node: (field >> shift) & mask chooses the child
//! ```
//!
//! Rules whose source or destination is narrow hardly overlap in that field, so cutting it copies few of
//! them; apart in trees of their own, wide rules are not copied into every child. Any bits of a field
//! may be cut, since a leaf compares whole rules again. A burst goes through a tree level by level, so
//! that the reads of its packets overlap.
//!
//! A list whose rules overlap much, as firewalls' do, takes another form: up to 127 rules one word of bits a field
//! (`short`); more with few combinations of addresses tables (`tables`), the rest bit vectors (`vectors`).
//!
//! Sources: Gupta, McKeown, Packet Classification using Hierarchical Intelligent Cuttings, Hot
//! Interconnects 1999; Vamanan et al., EffiCuts, SIGCOMM 2010 (trees by width); Li et al., CutSplit,
//! INFOCOM 2018.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod block;
mod build;
mod classes;
mod short;
mod tables;
mod vectors;

use core::ops::RangeInclusive;

use ipnet::Ipv4Net;

use block::Block;
use build::{Built, build, packets};
use short::Short;
use tables::Tables;
use vectors::Vectors;

/// No rule matches.
pub const NO_RULE: u32 = u32::MAX;

/// Packets that are looked up together.
pub const BURST: usize = 64;

/// What a packet costs in tables, in compared blocks: measured on Zen 4.
const COST_OF_TABLES: f64 = 2.3;

/// A rule of an access list. Its number is its place in the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListRule {
    /// Source prefix.
    pub source: Ipv4Net,
    /// Destination prefix.
    pub destination: Ipv4Net,
    /// Source ports.
    pub source_ports: RangeInclusive<u16>,
    /// Destination ports.
    pub destination_ports: RangeInclusive<u16>,
    /// Protocol and mask: bits of the protocol that count.
    pub protocol: (u8, u8),
}

/// The fields that rules are compared with, one row a field.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct ListKeys {
    // Eight rows, so that any three bits name one.
    fields: [[u32; BURST]; 8],
}

const SOURCE: usize = 0;
const DESTINATION: usize = 1;
const SOURCE_PORT: usize = 2;
const DESTINATION_PORT: usize = 3;
const PROTOCOL: usize = 4;

impl ListKeys {
    /// Keys of nothing.
    pub fn new() -> Self {
        ListKeys { fields: [[0; BURST]; 8] }
    }

    /// Sets the addresses of one packet.
    #[inline]
    pub fn set_addresses(&mut self, lane: usize, source: u32, destination: u32) {
        self.fields[SOURCE][lane] = source;
        self.fields[DESTINATION][lane] = destination;
    }

    /// Sets protocol, source and destination port of one packet; ports are 0 where there are none.
    #[inline]
    pub fn set_layer4(&mut self, lane: usize, protocol: u8, source_port: u16, destination_port: u16) {
        self.fields[SOURCE_PORT][lane] = source_port.into();
        self.fields[DESTINATION_PORT][lane] = destination_port.into();
        self.fields[PROTOCOL][lane] = protocol.into();
    }
}

impl Default for ListKeys {
    fn default() -> Self {
        Self::new()
    }
}

/// A node of a tree, in one word.
///
/// ```text
///  inner: | 0 | field 3 | shift 5 | width 4 | ... | first child 32 |
///  leaf:  | 1 | blocks 31                         | first block 32 |
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Node(u64);

impl Node {
    const LEAF: u64 = 1 << 63;

    fn inner(field: u8, shift: u8, width: u8, first: u32) -> Self {
        Node(u64::from(field) << 60 | u64::from(shift) << 55 | u64::from(width) << 51 | u64::from(first))
    }

    fn leaf(blocks: u32, first: u32) -> Self {
        Node(Self::LEAF | u64::from(blocks) << 32 | u64::from(first))
    }

    #[inline]
    fn is_leaf(self) -> bool {
        self.0 & Self::LEAF != 0
    }

    #[inline]
    fn field(self) -> usize {
        (self.0 >> 60 & 7) as usize
    }

    #[inline]
    fn child(self, value: u32) -> usize {
        let (shift, width) = (self.0 >> 55 & 31, self.0 >> 51 & 15);
        (self.0 as u32 + (value >> shift & ((1 << width) - 1))) as usize
    }

    #[inline]
    fn blocks(self) -> core::ops::Range<usize> {
        let first = self.0 as u32 as usize;
        first..first + (self.0 >> 32 & 0x7fff_ffff) as usize
    }
}

/// A compiled access list. Immutable; readers share it.
#[derive(Debug)]
pub struct RuleList {
    /// Roots of the trees.
    roots: Vec<Node>,
    nodes: Box<[Node]>,
    blocks: Box<[Block]>,
    /// What a packet costs in trees, in compared blocks.
    cost: f64,
    /// In place of trees, for short lists.
    short: Option<Short>,
    /// In place of trees, for lists of few combinations.
    tables: Option<Tables>,
    /// In place of trees, for lists that overlap much.
    vectors: Option<Vectors>,
    #[cfg(target_arch = "x86_64")]
    wide: Option<avx512::Available>,
}

impl RuleList {
    /// Compiles a list.
    pub fn new(rules: &[ListRule]) -> Self {
        let trees = Self::of_trees(rules);
        if trees.cost <= COST_OF_TABLES {
            return trees;
        }
        if let Some(short) = Short::build(rules) {
            return Self::with_short(short);
        }
        if let Some(tables) = Tables::build(rules) {
            return RuleList { tables: Some(tables), ..Self::of_trees(&[]) };
        }
        match Vectors::build(rules) {
            Some(vectors) if vectors.cost(packets(rules)) < trees.cost => Self::with_vectors(vectors),
            _ => trees,
        }
    }

    /// A list in the form of words of bits, unless it is too long.
    pub fn of_words(rules: &[ListRule]) -> Self {
        Short::build(rules).map_or_else(|| Self::of_trees(rules), Self::with_short)
    }

    fn with_short(short: Short) -> Self {
        RuleList { short: Some(short), ..Self::of_trees(&[]) }
    }

    /// A list in the form of tables, unless these are too large.
    pub fn of_tables(rules: &[ListRule]) -> Self {
        match Tables::build(rules) {
            Some(tables) => RuleList { tables: Some(tables), ..Self::of_trees(&[]) },
            None => Self::of_trees(rules),
        }
    }

    /// A list in the form of bit vectors, unless these are too large.
    pub fn of_vectors(rules: &[ListRule]) -> Self {
        Vectors::build(rules).map_or_else(|| Self::of_trees(rules), Self::with_vectors)
    }

    fn with_vectors(vectors: Vectors) -> Self {
        RuleList { vectors: Some(vectors), ..Self::of_trees(&[]) }
    }

    /// A list in the form of trees, whatever that costs.
    pub fn of_trees(rules: &[ListRule]) -> Self {
        let Built { cost, roots, nodes, blocks } = build(rules);
        RuleList {
            cost,
            short: None,
            tables: None,
            vectors: None,
            roots,
            nodes: nodes.into(),
            blocks: blocks.into(),
            #[cfg(target_arch = "x86_64")]
            wide: avx512::Available::detect(),
        }
    }

    /// The number of the first rule that matches each of the first `count` packets, or [`NO_RULE`].
    pub fn lookup(&self, keys: &ListKeys, count: usize, first: &mut [u32; BURST]) {
        let count = count.min(BURST);
        if let Some(short) = &self.short {
            return short.lookup(keys, count, first);
        }
        if let Some(tables) = &self.tables {
            return tables.lookup(keys, count, first);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(available) = self.wide {
            return match &self.vectors {
                Some(vectors) => avx512::lookup_vectors(available, vectors, keys, count, first),
                None => avx512::lookup(available, self, keys, count, first),
            };
        }
        self.lookup_scalar(keys, count, first);
    }

    /// The same without vector instructions.
    pub fn lookup_scalar(&self, keys: &ListKeys, count: usize, first: &mut [u32; BURST]) {
        let count = count.min(BURST);
        if let Some(short) = &self.short {
            return short.lookup(keys, count, first);
        }
        if let Some(tables) = &self.tables {
            return tables.lookup(keys, count, first);
        }
        if let Some(vectors) = &self.vectors {
            return vectors.lookup(keys, count, first);
        }
        first[..count].fill(NO_RULE);
        for root in &self.roots {
            for (lane, first) in first[..count].iter_mut().enumerate() {
                let mut node = *root;
                while !node.is_leaf() {
                    node = self.nodes[node.child(keys.fields[node.field()][lane])];
                }
                for block in &self.blocks[node.blocks()] {
                    if let Some(rule) = block.first_match(keys, lane) {
                        *first = (*first).min(rule);
                        break;
                    }
                }
            }
        }
    }

    /// Bytes of the compiled list.
    pub fn memory(&self) -> usize {
        let short = self.short.as_ref().map_or(0, Short::memory);
        let tables = self.tables.as_ref().map_or(0, Tables::memory);
        let vectors = self.vectors.as_ref().map_or(0, Vectors::memory);
        short + tables + vectors + size_of_val(&*self.nodes) + size_of_val(&*self.blocks)
    }
}
