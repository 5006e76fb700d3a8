//! From an address to its class, by longest prefix, while one writer changes it.
//!
//! ```text
//!  root: 65,536 slots by the first 16 bits          node: 256 slots by the next 8
//!  [ class 0 | class 7 | node 300 | ... ]  ------>  [ class 7 | node 301 | class 9 | ... ]
//! ```
//!
//! A slot is one word: a class, or the number of a node. Prefixes are expanded into all slots that they
//! cover, so that a lookup reads at most 3 words for IPv4 and one word for each further octet that some
//! prefix tells apart.
//!
//! Invariants: nodes are never freed or moved while readers hold the trie; a node is complete before a
//! slot points to it (release, acquire); a change writes each slot once, straight from its old class to
//! its new one, so a reader sees the old or the new class and nothing else.
//!
//! Source: Gupta, Lin, McKeown, Routing Lookups in Hardware at Memory Access Speeds, INFOCOM 1998
//! (controlled prefix expansion in Srinivasan, Varghese, TOCS 1999).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const NODE: u32 = 1 << 31;
/// The root takes the place of the first 256 nodes.
const ROOT_NODES: usize = 256;
const ROOT_BITS: u8 = 16;

/// The classes of all addresses of one family, for readers.
#[derive(Debug)]
pub struct AddressTrie {
    slots: Box<[AtomicU32]>,
}

impl AddressTrie {
    fn with_nodes(nodes: usize) -> Self {
        AddressTrie { slots: (0..nodes * 256).map(|_| AtomicU32::new(0)).collect() }
    }

    #[inline]
    fn slot(&self, at: usize) -> u32 {
        self.slots[at].load(Ordering::Acquire)
    }

    /// The class of an IPv4 address.
    #[inline]
    pub fn lookup4(&self, address: u32) -> u32 {
        let mut slot = self.slot((address >> 16) as usize);
        if slot & NODE != 0 {
            slot = self.slot((slot & !NODE) as usize * 256 + (address >> 8 & 255) as usize);
            if slot & NODE != 0 {
                slot = self.slot((slot & !NODE) as usize * 256 + (address & 255) as usize);
            }
        }
        slot
    }

    /// The class of an IPv6 address.
    #[inline]
    pub fn lookup6(&self, address: u128) -> u32 {
        let mut slot = self.slot((address >> 112) as usize);
        let mut rest = address << 16;
        while slot & NODE != 0 {
            slot = self.slot((slot & !NODE) as usize * 256 + (rest >> 120) as usize);
            rest <<= 8;
        }
        slot
    }

    /// Bytes of the trie.
    pub fn memory(&self) -> usize {
        self.slots.len() * size_of::<u32>()
    }
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct TrieWriter {
    trie: Arc<AddressTrie>,
    /// Length of the prefix that each slot's class is of.
    lengths: Vec<u8>,
    nodes: usize,
}

/// A change: the slots of a prefix whose class is of a prefix no longer (paint) or of this very one
/// (unpaint) get a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    /// The prefix, its bits at the top.
    pub key: u128,
    /// Its length, at least 1.
    pub length: u8,
    /// The class that its slots get.
    pub class: u32,
    /// `None`: the prefix comes or changes. `Some`: it goes, and its slots fall to a prefix of this length.
    pub falls_to: Option<u8>,
}

impl TrieWriter {
    pub(crate) fn new(none: u32) -> Self {
        let nodes = ROOT_NODES;
        let trie = AddressTrie::with_nodes(nodes + 64);
        trie.slots.iter().for_each(|slot| slot.store(none, Ordering::Relaxed));
        TrieWriter { lengths: vec![0; trie.slots.len()], trie: Arc::new(trie), nodes }
    }

    pub(crate) fn trie(&self) -> &Arc<AddressTrie> {
        &self.trie
    }

    /// Makes room for `prefixes` new prefixes. If the trie had to move, readers go on with the old one,
    /// which stays as it is, until they are given the new.
    pub(crate) fn reserve(&mut self, prefixes: usize, bits: u8) -> bool {
        let deepest = usize::from((bits - ROOT_BITS) / 8);
        let wanted = (self.nodes + prefixes * deepest) * 256;
        if wanted <= self.trie.slots.len() {
            return false;
        }
        let larger = AddressTrie::with_nodes((wanted / 256).next_power_of_two());
        for (to, from) in larger.slots.iter().zip(&self.trie.slots) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.lengths.resize(larger.slots.len(), 0);
        self.trie = Arc::new(larger);
        true
    }

    /// Applies a change. Room for it must have been reserved.
    pub(crate) fn apply(&mut self, paint: Paint) {
        let root = (paint.key >> 112) as usize;
        let (mut base, mut index, mut end) = (0, root, ROOT_BITS);
        let mut rest = paint.key << 16;
        while paint.length > end {
            let at = base + index;
            let slot = self.trie.slots[at].load(Ordering::Relaxed);
            base = if slot & NODE != 0 {
                (slot & !NODE) as usize * 256
            } else if paint.falls_to.is_some() {
                return;
            } else {
                self.split(at, slot)
            };
            index = (rest >> 120) as usize;
            rest <<= 8;
            end += 8;
        }
        let count = 1 << (end - paint.length);
        for at in base + index..base + index + count {
            self.paint(at, &paint);
        }
    }

    fn split(&mut self, at: usize, class: u32) -> usize {
        let base = self.nodes * 256;
        for slot in &self.trie.slots[base..base + 256] {
            slot.store(class, Ordering::Relaxed);
        }
        let length = self.lengths[at];
        self.lengths[base..base + 256].fill(length);
        self.trie.slots[at].store(NODE | self.nodes as u32, Ordering::Release);
        self.nodes += 1;
        base
    }

    fn paint(&mut self, at: usize, paint: &Paint) {
        let slot = self.trie.slots[at].load(Ordering::Relaxed);
        if slot & NODE != 0 {
            let base = (slot & !NODE) as usize * 256;
            for at in base..base + 256 {
                self.paint(at, paint);
            }
            return;
        }
        let length = match paint.falls_to {
            None if self.lengths[at] <= paint.length => paint.length,
            Some(length) if self.lengths[at] == paint.length => length,
            _ => return,
        };
        self.lengths[at] = length;
        self.trie.slots[at].store(paint.class, Ordering::Release);
    }
}
