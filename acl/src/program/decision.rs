//! The decision table: from a pair of local address classes and a layer 4 class to an outcome.
//!
//! ```text
//!  (s, d) -> pair: view, first cell
//!  view[l] -> which of the conditions that matter to the pair hold: v       cell first + v -> outcome
//! ```
//!
//! A pair of addresses has few terms left, and these ask for few ports. What matters to the pair is a
//! view of the layer 4 classes, shared by all pairs to which the same conditions matter. So a rule set of
//! thousands of rules with prefixes and ports of their own takes room for each rule, not for each
//! combination of rules.

use std::collections::HashMap;

use crate::bits::{BitRows, set_bits};
use crate::program::flat::{Flat, Note};
use crate::rule::Verdict;

/// Most words of views, and most cells.
const MOST_ROOM: usize = 1 << 21;

/// What is decided.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Option<Verdict>,
    pub(super) notes: Box<[Note]>,
}

/// Where a pair's view and its cells begin.
#[derive(Clone, Copy, Debug)]
struct Pair {
    view: u32,
    cells: u32,
}

/// The table, for readers.
#[derive(Debug)]
pub(super) struct Cells {
    destinations: usize,
    pairs: Box<[Pair]>,
    views: Box<[u16]>,
    cells: Box<[u16]>,
    outcomes: Box<[Outcome]>,
}

impl Cells {
    #[inline]
    pub(super) fn outcome(&self, source: usize, destination: usize, layer4: usize) -> &Outcome {
        let pair = self.pairs[source * self.destinations + destination];
        let seen = self.views[pair.view as usize + layer4];
        &self.outcomes[usize::from(self.cells[pair.cells as usize + usize::from(seen)])]
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.pairs)
            + size_of_val(&*self.views)
            + size_of_val(&*self.cells)
            + size_of_val(&*self.outcomes)
    }
}

/// A view: of each of its classes, which of its conditions hold.
#[derive(Debug)]
struct View {
    first: u32,
    classes: Vec<Vec<u64>>,
}

/// Fills a table.
pub(super) struct Filler<'a> {
    flat: &'a Flat,
    /// Which conditions hold in each layer 4 class.
    layer4: &'a BitRows,
    /// The layer 4 condition of each term.
    condition_of: &'a [u32],
    views: HashMap<Vec<u32>, View>,
    words: Vec<u16>,
    /// By the terms that are left.
    known: HashMap<Vec<usize>, Pair>,
    pairs: Vec<Pair>,
    cells: Vec<u16>,
    ids: HashMap<Outcome, u16>,
    outcomes: Vec<Outcome>,
}

impl<'a> Filler<'a> {
    pub(super) fn new(flat: &'a Flat, layer4: &'a BitRows, condition_of: &'a [u32]) -> Self {
        Filler {
            flat,
            layer4,
            condition_of,
            views: HashMap::new(),
            words: Vec::new(),
            known: HashMap::new(),
            pairs: Vec::new(),
            cells: Vec::new(),
            ids: HashMap::new(),
            outcomes: Vec::new(),
        }
    }

    /// Adds the next pair, sources first, by the terms that its addresses leave. `None`: the table would
    /// be too large.
    pub(super) fn push(&mut self, source: &[u64], destination: &[u64]) -> Option<()> {
        let terms: Vec<usize> = set_bits(source.iter().zip(destination).map(|(s, d)| s & d)).collect();
        let pair = match self.known.get(&terms) {
            Some(pair) => *pair,
            None => {
                let pair = self.fill(&terms)?;
                self.known.insert(terms, pair);
                pair
            }
        };
        self.pairs.push(pair);
        (self.pairs.len() <= MOST_ROOM).then_some(())
    }

    fn fill(&mut self, terms: &[usize]) -> Option<Pair> {
        let mut conditions: Vec<u32> = terms.iter().map(|term| self.condition_of[*term]).collect();
        conditions.sort_unstable();
        conditions.dedup();
        let places: Vec<usize> = terms
            .iter()
            .map(|term| conditions.partition_point(|condition| *condition < self.condition_of[*term]))
            .collect();
        if !self.views.contains_key(&conditions) {
            let view = self.view(&conditions)?;
            self.views.insert(conditions.clone(), view);
        }
        let view = &self.views[&conditions];
        let pair = Pair { view: view.first, cells: self.cells.len() as u32 };
        for class in &view.classes {
            let holds = |place: &usize| class[place / 64] >> (place % 64) & 1 == 1;
            let matching = terms.iter().zip(&places).filter(|(_, place)| holds(place)).map(|(term, _)| *term);
            let mut notes = Vec::new();
            let verdict = self.flat.walk(matching, &mut |note| notes.push(note));
            let outcome = Outcome { verdict, notes: notes.into() };
            let id = match self.ids.get(&outcome) {
                Some(id) => *id,
                None => {
                    let id = u16::try_from(self.outcomes.len()).ok()?;
                    self.outcomes.push(outcome.clone());
                    self.ids.insert(outcome, id);
                    id
                }
            };
            self.cells.push(id);
        }
        (self.cells.len() <= MOST_ROOM).then_some(pair)
    }

    fn view(&mut self, conditions: &[u32]) -> Option<View> {
        if self.words.len() + self.layer4.len() > MOST_ROOM {
            return None;
        }
        let first = self.words.len() as u32;
        let mut classes = Vec::new();
        let mut ids: HashMap<Vec<u64>, u16> = HashMap::new();
        let mut holding = vec![0_u64; conditions.len().div_ceil(64)];
        for row in self.layer4.iter() {
            holding.fill(0);
            for (place, condition) in conditions.iter().enumerate() {
                let bit = row[*condition as usize / 64] >> (condition % 64) & 1;
                holding[place / 64] |= bit << (place % 64);
            }
            let id = match ids.get(&holding) {
                Some(id) => *id,
                None => {
                    let id = u16::try_from(classes.len()).ok()?;
                    classes.push(holding.clone());
                    ids.insert(holding.clone(), id);
                    id
                }
            };
            self.words.push(id);
        }
        Some(View { first, classes })
    }

    pub(super) fn finish(self, destinations: usize) -> Cells {
        Cells {
            destinations,
            pairs: self.pairs.into(),
            views: self.words.into(),
            cells: self.cells.into(),
            outcomes: self.outcomes.into(),
        }
    }
}
