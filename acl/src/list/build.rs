//! Builds the trees of an access list.

use std::collections::HashMap;

use super::block::{Block, WIDTH};
use super::{ListRule, Node};

/// A field is narrow if its prefix is at least this long.
const NARROW: u8 = 9;
/// Children of a node at most, as a power of two.
const MOST_WIDTH: u8 = 13;
/// Rules that are looked at to choose a cut.
const SAMPLE: usize = 512;
/// Packets that are looked up to compare forms.
const TRIALS: usize = 512;
const DEEPEST: usize = 16;
/// Copies that a cut may make even where the share is used up.
const LEAST_COPIES: f64 = 1.05;

struct Builder<'a> {
    rules: &'a [ListRule],
    nodes: Vec<Node>,
    blocks: Vec<Block>,
    /// Leaves that are alike are stored once.
    leaves: HashMap<Vec<u32>, Node>,
}

/// Trees, and what a packet costs in them.
#[derive(Default)]
pub(super) struct Built {
    pub(super) cost: f64,
    pub(super) roots: Vec<Node>,
    pub(super) nodes: Vec<Node>,
    pub(super) blocks: Vec<Block>,
}

/// Builds one, two and three trees, and keeps the form that costs packets least.
pub(super) fn build(rules: &[ListRule]) -> Built {
    // A range that ends before it begins holds no port, and its rule matches nothing.
    let possible = |rule: &ListRule| !rule.source_ports.is_empty() && !rule.destination_ports.is_empty();
    let numbers: Vec<u32> = (0..rules.len() as u32).filter(|at| possible(&rules[*at as usize])).collect();
    let narrow = |number: &u32| {
        let rule = &rules[*number as usize];
        (rule.source.prefix_len() >= NARROW, rule.destination.prefix_len() >= NARROW)
    };
    let (by_destination, rest): (Vec<u32>, Vec<u32>) = numbers.iter().partition(|number| narrow(number).1);
    let (by_source, wide): (Vec<u32>, Vec<u32>) = rest.iter().partition(|number| narrow(number).0);
    let forms = [
        (vec![numbers.clone()], if rules.len() <= 2048 { 48.0 } else { 6.0 }),
        (vec![by_destination.clone(), rest], 6.0),
        (vec![by_destination, by_source, wide], 4.0),
    ];
    let built = forms.into_iter().map(|(groups, most_copies)| {
        let mut builder = Builder { rules, nodes: Vec::new(), blocks: Vec::new(), leaves: HashMap::new() };
        let groups = groups.into_iter().filter(|group| !group.is_empty());
        let roots: Vec<Node> = groups.map(|group| builder.node(group, 0, most_copies)).collect();
        Built { cost: builder.cost(&roots), roots, nodes: builder.nodes, blocks: builder.blocks }
    });
    built.min_by(|one, other| one.cost.total_cmp(&other.cost)).unwrap_or_default()
}

/// A choice of bits of a field.
#[derive(Clone, Copy)]
struct Cut {
    field: u8,
    shift: u8,
    width: u8,
}

impl Cut {
    /// The children that a rule belongs to: the first, how many, and the mask by which they wrap.
    fn children(self, rule: &ListRule) -> (u32, u32, u32) {
        let (low, high) = range(rule, self.field);
        let mask = (1_u32 << self.width) - 1;
        let (low, high) = (low >> self.shift, high >> self.shift);
        if high - low >= mask { (0, mask + 1, mask) } else { (low & mask, high - low + 1, mask) }
    }
}

fn range(rule: &ListRule, field: u8) -> (u32, u32) {
    match field {
        0 => (rule.source.network().into(), rule.source.broadcast().into()),
        1 => (rule.destination.network().into(), rule.destination.broadcast().into()),
        2 => ((*rule.source_ports.start()).into(), (*rule.source_ports.end()).into()),
        3 => ((*rule.destination_ports.start()).into(), (*rule.destination_ports.end()).into()),
        _ => match rule.protocol {
            (protocol, 0xff) => (protocol.into(), protocol.into()),
            _ => (0, 255),
        },
    }
}

/// Packets to compare forms by: of rules all over the list, with values spread over each rule's ranges.
pub(super) fn packets(rules: &[ListRule]) -> impl Iterator<Item = [u32; 5]> {
    let step = rules.len().div_ceil(TRIALS).max(1);
    rules.iter().enumerate().step_by(step).map(|(at, rule)| {
        core::array::from_fn(|field| {
            let (low, high) = range(rule, field as u8);
            low + (at as u32).wrapping_mul(0x9e37_79b9) % (high.wrapping_sub(low) | 1)
        })
    })
}

impl Builder<'_> {
    /// What a packet costs, in parts of a compared block: levels, blocks, and cache misses to expect of
    /// the memory taken.
    fn cost(&self, roots: &[Node]) -> f64 {
        let memory = (size_of_val(&*self.nodes) + size_of_val(&*self.blocks)) as f64;
        let miss = (memory / (1 << 20) as f64).min(8.0);
        let (mut levels, mut blocks, mut trials) = (0, 0, 0);
        for packet in packets(self.rules) {
            for root in roots {
                let mut node = *root;
                while !node.is_leaf() {
                    levels += 1;
                    node = self.nodes[node.child(packet[node.field()])];
                }
                blocks += node.blocks().len();
            }
            trials += 1;
        }
        (f64::from(levels) * (0.3 + miss / 8.0) + blocks as f64 * (1.0 + miss / 4.0))
            / f64::from(trials.max(1))
    }

    /// `most_copies`: how often the leaves below may hold each rule on average, so that a list of any
    /// shape takes no more than its share of memory.
    fn node(&mut self, numbers: Vec<u32>, depth: usize, most_copies: f64) -> Node {
        if numbers.len() <= WIDTH || depth >= DEEPEST {
            return self.leaf(numbers);
        }
        let Some(cut) = self.choose(&numbers, most_copies) else { return self.leaf(numbers) };
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); 1 << cut.width];
        for number in &numbers {
            let (first, count, mask) = cut.children(&self.rules[*number as usize]);
            for child in 0..count {
                children[((first + child) & mask) as usize].push(*number);
            }
        }
        let held: usize = children.iter().map(Vec::len).sum();
        let most_copies = most_copies * numbers.len() as f64 / held as f64;
        let first = self.nodes.len();
        self.nodes.resize(first + children.len(), Node(0));
        for (at, child) in children.into_iter().enumerate() {
            let child = if child.len() == numbers.len() {
                self.leaf(child)
            } else {
                self.node(child, depth + 1, most_copies)
            };
            self.nodes[first + at] = child;
        }
        Node::inner(cut.field, cut.shift, cut.width, first as u32)
    }

    fn leaf(&mut self, numbers: Vec<u32>) -> Node {
        if let Some(leaf) = self.leaves.get(&numbers) {
            return *leaf;
        }
        let first = self.blocks.len() as u32;
        self.blocks.extend(numbers.chunks(WIDTH).map(|chunk| Block::new(self.rules, chunk)));
        let leaf = Node::leaf(self.blocks.len() as u32 - first, first);
        self.leaves.insert(numbers, leaf);
        leaf
    }

    /// The cut with which a packet meets the fewest rules behind it, if one is worth it.
    fn choose(&self, numbers: &[u32], most_copies: f64) -> Option<Cut> {
        let step = numbers.len().div_ceil(SAMPLE);
        let sample: Vec<&ListRule> =
            numbers.iter().step_by(step).map(|number| &self.rules[*number as usize]).collect();
        // Enough children to come to leaves in one or two steps.
        let wanted = (numbers.len() / (WIDTH / 4)).max(2).ilog2() as u8 + 1;
        let mut best: Option<(f64, Cut)> = None;
        let mut counts = vec![0_u32; 1 << MOST_WIDTH];
        // Leaves of long lists must be full, or they leave the cache.
        let room = if self.rules.len() > 4096 { 48.0 } else { 256.0 };
        let widest = if self.rules.len() > 4096 { wanted } else { wanted + 2 };
        for (field, bits) in [(0, 32), (1, 32), (2, 16), (3, 16), (4, 8_u8)] {
            if sample.iter().all(|rule| range(rule, field) == range(sample[0], field)) {
                continue;
            }
            for width in [widest, wanted, wanted.saturating_sub(2), wanted.saturating_sub(4)] {
                let width = width.clamp(1, MOST_WIDTH.min(bits));
                for shift in 0..=bits - width {
                    let cut = Cut { field, shift, width };
                    let Some(score) = score(cut, most_copies, &sample, &mut counts) else { continue };
                    // A node of many children has to be worth the room.
                    let score = score + f64::from(1_u32 << width) / room;
                    if best.is_none_or(|(least, _)| score < least) {
                        best = Some((score, cut));
                    }
                }
            }
        }
        let (score, cut) = best?;
        (score * 1.2 < sample.len() as f64).then_some(cut)
    }
}

/// Rules that a packet of a random rule meets behind a cut; `None`: too many copies.
fn score(cut: Cut, most_copies: f64, sample: &[&ListRule], counts: &mut [u32]) -> Option<f64> {
    let size = 1 << cut.width;
    counts[..size].fill(0);
    let bound = (most_copies.max(LEAST_COPIES) * sample.len() as f64) as usize;
    let (mut everywhere, mut copies) = (0_u32, 0_usize);
    for rule in sample {
        let (first, count, mask) = cut.children(rule);
        copies += count as usize;
        if copies > bound {
            return None;
        }
        if count as usize == size {
            everywhere += 1;
            continue;
        }
        for child in 0..count {
            counts[((first + child) & mask) as usize] += 1;
        }
    }
    // Each rule's packets spread over its children; children of many rules are met the more often.
    let squares: f64 = counts[..size].iter().map(|count| f64::from(*count + everywhere).powi(2)).sum();
    let all: f64 = counts[..size].iter().map(|count| f64::from(*count + everywhere)).sum();
    Some(squares / all.max(1.0))
}
