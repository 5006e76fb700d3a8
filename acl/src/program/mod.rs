//! A compiled rule set: from the classes of a packet's fields to its verdict.
//!
//! ```text
//!  source address class -----> local class s --+
//!  destination address class -> local class d --+--> cell (s, d, l) -> outcome: verdict and notes
//!  protocol, ports, ICMP ----> layer 4 class l -+
//! ```
//!
//! All of tiers, Pass, Log, staged policies and profiles is decided when the cells are filled; a packet
//! costs a fixed number of reads, however many rules there are. Where the cells would be too many, the
//! terms that match are found by intersecting bit rows instead, and followed by the same walk.

mod addresses;
mod flat;
mod layer4;
mod terms;

use std::collections::HashMap;
use std::sync::Arc;

use crate::bits::{BitRows, BlockRows, BlockRowsBuilder, intersection, ones, set_bits};
use crate::headers::{Headers, lanes};
use crate::model::{Family, Ruleset};
use crate::rule::{Action, Verdict};
use crate::sets::AddressSets;
use addresses::{AddressSide, ClassMap, intern};
use flat::Flat;
use layer4::Layer4;
use terms::{Layer4Condition, Term};

pub use flat::Note;
pub(crate) use terms::PortGroups;

/// Most cells of a decision table.
pub(crate) const MOST_CELLS: usize = 1 << 20;
/// Most words that filling a decision table may read.
const MOST_WORK: usize = 1 << 28;

/// A rule set of one endpoint and direction, compiled. Shared by all endpoints that have it.
#[derive(Debug)]
pub struct Program {
    families: [FamilyProgram; 2],
    flat: Arc<Flat>,
}

/// What became of a burst: each lane that was asked is in one of the first three masks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Decided {
    /// Lanes that may pass.
    pub allowed: u64,
    /// Lanes to be dropped.
    pub denied: u64,
    /// Lanes that nothing has decided.
    pub open: u64,
    /// Lanes that a Log rule or a staged policy has something to say of; see [`Program::notes`].
    pub noted: u64,
}

#[derive(Debug)]
struct FamilyProgram {
    source: Arc<ClassMap>,
    destination: Arc<ClassMap>,
    tables: Arc<Tables>,
}

#[derive(Debug)]
struct Tables {
    layer4: Layer4,
    decision: Decision,
}

#[derive(Debug)]
enum Decision {
    Cells { destinations: usize, layer4: usize, cells: Box<[u16]>, outcomes: Box<[Outcome]> },
    Rows(Box<Rows>),
}

/// Which terms hold in the classes of each field.
#[derive(Debug)]
struct Rows {
    source: BlockRows,
    destination: BlockRows,
    protocol: BlockRows,
    source_port: BlockRows,
    destination_port: BlockRows,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Outcome {
    verdict: Option<Verdict>,
    notes: Box<[Note]>,
}

/// The classes of one packet's fields, as a program numbers them.
#[derive(Clone, Copy)]
struct Classes {
    source: usize,
    destination: usize,
    fields: [usize; 3],
}

impl FamilyProgram {
    #[inline]
    fn classes(&self, headers: &Headers, lane: usize) -> Classes {
        let fields = self.tables.layer4.fields(
            headers.protocol[lane],
            headers.source_port[lane],
            headers.destination_port[lane],
            headers.transport >> lane & 1 == 1,
        );
        Classes {
            source: self.source.local(headers.source_class[lane]) as usize,
            destination: self.destination.local(headers.destination_class[lane]) as usize,
            fields,
        }
    }
}

impl Tables {
    #[inline]
    fn cell(&self, classes: Classes) -> Option<&Outcome> {
        let Decision::Cells { destinations, layer4, cells, outcomes } = &self.decision else { return None };
        let l = self.layer4.class(classes.fields);
        let cell = (classes.source * destinations + classes.destination) * layer4 + l;
        Some(&outcomes[usize::from(cells[cell])])
    }
}

impl Rows {
    fn matching(&self, classes: Classes) -> impl Iterator<Item = usize> + '_ {
        let fields =
            [&self.source, &self.destination, &self.protocol, &self.source_port, &self.destination_port];
        let [protocol, source_port, destination_port] = classes.fields;
        intersection(fields, [classes.source, classes.destination, protocol, source_port, destination_port])
    }
}

impl Program {
    /// Decides over the packets of `asked`. Verdicts of other lanes are left as they are, and so are
    /// those of lanes that nothing has decided.
    pub fn decide(&self, headers: &Headers, asked: u64, verdicts: &mut [Verdict; 64]) -> Decided {
        let mut decided = Decided::default();
        for (family, asked) in [(Family::V4, asked & !headers.v6), (Family::V6, asked & headers.v6)] {
            let program = &self.families[family as usize];
            for lane in lanes(asked) {
                let classes = program.classes(headers, lane);
                let (verdict, noted) = match &program.tables.decision {
                    Decision::Cells { .. } => match program.tables.cell(classes) {
                        Some(outcome) => (outcome.verdict, !outcome.notes.is_empty()),
                        None => (None, false),
                    },
                    Decision::Rows(rows) => {
                        let mut noted = false;
                        (self.flat.walk(rows.matching(classes), &mut |_| noted = true), noted)
                    }
                };
                let bit = 1 << lane;
                decided.noted |= if noted { bit } else { 0 };
                match verdict {
                    Some(verdict) => {
                        verdicts[lane] = verdict;
                        let mask = match verdict.action {
                            Action::Allow => &mut decided.allowed,
                            Action::Deny => &mut decided.denied,
                        };
                        *mask |= bit;
                    }
                    None => decided.open |= bit,
                }
            }
        }
        decided
    }

    /// What Log rules and staged policies have to say of one packet, in the order in which it met them.
    pub fn notes(&self, headers: &Headers, lane: usize, note: &mut impl FnMut(Note)) {
        let program = &self.families[usize::from(headers.v6 >> lane & 1 == 1)];
        let classes = program.classes(headers, lane);
        match &program.tables.decision {
            Decision::Cells { .. } => {
                let notes = program.tables.cell(classes).map(|outcome| &*outcome.notes).unwrap_or_default();
                notes.iter().copied().for_each(note);
            }
            Decision::Rows(rows) => drop(self.flat.walk(rows.matching(classes), note)),
        }
    }

    /// Bytes of the tables, without what endpoints share beyond this program.
    pub fn memory(&self) -> usize {
        let family = |program: &FamilyProgram| {
            let decision = match &program.tables.decision {
                Decision::Cells { cells, outcomes, .. } => size_of_val(&**cells) + size_of_val(&**outcomes),
                Decision::Rows(rows) => [
                    &rows.source,
                    &rows.destination,
                    &rows.protocol,
                    &rows.source_port,
                    &rows.destination_port,
                ]
                .iter()
                .map(|rows| rows.memory())
                .sum(),
            };
            program.source.memory() + program.destination.memory() + program.tables.layer4.memory() + decision
        };
        self.families.iter().map(family).sum()
    }
}

/// The writer's side of a program.
#[derive(Debug)]
pub(crate) struct ProgramSource {
    ruleset: Ruleset,
    flat: Arc<Flat>,
    sides: [[AddressSide; 2]; 2],
    tables: [Arc<Tables>; 2],
}

/// Why a rule set was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CompileError {
    /// More distinct ports or ICMP types than 16 bits can number, in one rule set.
    TooManyPorts,
}

impl core::fmt::Display for CompileError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            CompileError::TooManyPorts => f.write_str("more distinct port ranges than can be told apart"),
        }
    }
}

impl std::error::Error for CompileError {}

impl ProgramSource {
    /// Compiles; a decision table of more than `most_cells` gives way to bit rows.
    pub(crate) fn compile(
        ruleset: Ruleset,
        sets: &AddressSets,
        groups: &dyn PortGroups,
        most_cells: usize,
    ) -> Result<Self, CompileError> {
        let (flat, terms) = Flat::new(&ruleset, groups);
        let mut sides = Vec::with_capacity(2);
        let mut tables = Vec::with_capacity(2);
        for family in Family::ALL {
            let (pair, table) = compile_family(family, &flat, &terms, sets, most_cells)?;
            sides.push(pair);
            tables.push(Arc::new(table));
        }
        let (Ok(sides), Ok(tables)) = (sides.try_into(), tables.try_into()) else {
            unreachable!("there are two families")
        };
        Ok(ProgramSource { ruleset, flat: Arc::new(flat), sides, tables })
    }

    pub(crate) fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// What readers get.
    pub(crate) fn program(&self) -> Program {
        let family = |family: Family| {
            let [source, destination] = &self.sides[family as usize];
            FamilyProgram {
                source: source.map().clone(),
                destination: destination.map().clone(),
                tables: self.tables[family as usize].clone(),
            }
        };
        Program { families: Family::ALL.map(family), flat: self.flat.clone() }
    }

    /// Learns classes that came since; see [`AddressSide::learn`].
    pub(crate) fn learn(&mut self, sets: &AddressSets) -> Result<bool, addresses::NewCombination> {
        let mut moved = false;
        for side in self.sides.iter_mut().flatten() {
            moved |= side.learn(sets)?;
        }
        Ok(moved)
    }
}

fn compile_family(
    family: Family,
    flat: &Flat,
    terms: &[Term],
    sets: &AddressSets,
    most_cells: usize,
) -> Result<([AddressSide; 2], Tables), CompileError> {
    let in_family = |term: &&Term| term.family.is_none_or(|wanted| wanted == family);
    let of_side = |pick: fn(&Term) -> &terms::AddressCondition| {
        let interned = intern(terms.iter().map(|term| Some(term).filter(in_family).map(pick)), family, sets);
        let side = AddressSide::new(family, interned.conditions, sets);
        let rows = address_rows(&side, &interned.of_term);
        (side, rows)
    };
    let (source, source_rows) = of_side(|term| &term.source);
    let (destination, destination_rows) = of_side(|term| &term.destination);
    let mut ids: HashMap<&Layer4Condition, usize> = HashMap::new();
    let mut conditions: Vec<Layer4Condition> = Vec::new();
    let mut of_condition: Vec<Vec<usize>> = Vec::new();
    for (at, term) in terms.iter().enumerate() {
        let id = *ids.entry(&term.layer4).or_insert_with(|| {
            conditions.push(term.layer4.clone());
            of_condition.push(Vec::new());
            conditions.len() - 1
        });
        of_condition[id].push(at);
    }
    let (layer4, rows) = Layer4::build(&conditions, family).ok_or(CompileError::TooManyPorts)?;
    let to_terms = |rows: &BitRows| {
        let mut out = BitRows::new(terms.len());
        for row in rows.iter() {
            let mut bits = vec![0_u64; out.words()];
            for term in set_bits(row.iter().copied()).flat_map(|condition| &of_condition[condition]) {
                bits[term / 64] |= 1 << (term % 64);
            }
            out.push(&bits);
        }
        out
    };
    let cells = rows.joined.as_ref().map(|joined| source_rows.len() * destination_rows.len() * joined.len());
    let small = |cells: &usize| *cells <= most_cells && cells * source_rows.words().max(1) <= MOST_WORK;
    let filled = match (cells.filter(small), &rows.joined) {
        (Some(_), Some(joined)) => fill(flat, &source_rows, &destination_rows, &to_terms(joined)),
        _ => None,
    };
    let decision = filled.unwrap_or_else(|| {
        let blocks = |rows: &BitRows| {
            let mut builder = BlockRowsBuilder::new(terms.len());
            rows.iter().for_each(|row| builder.push(row));
            builder.finish()
        };
        Decision::Rows(Box::new(Rows {
            source: blocks(&source_rows),
            destination: blocks(&destination_rows),
            protocol: blocks(&to_terms(&rows.protocol)),
            source_port: blocks(&to_terms(&rows.source)),
            destination_port: blocks(&to_terms(&rows.destination)),
        }))
    });
    Ok(([source, destination], Tables { layer4, decision }))
}

/// Which terms hold in each local class of a side.
fn address_rows(side: &AddressSide, of_term: &[Option<u32>]) -> BitRows {
    let mut terms_of: HashMap<u32, Vec<usize>> = HashMap::new();
    for (term, condition) in of_term.iter().enumerate() {
        if let Some(condition) = condition {
            terms_of.entry(*condition).or_default().push(term);
        }
    }
    let mut usual = ones(of_term.len(), []);
    let change = |row: &mut Vec<u64>, condition: u32, set: bool| {
        for term in terms_of.get(&condition).into_iter().flatten() {
            let bit = 1 << (term % 64);
            if set { row[term / 64] |= bit } else { row[term / 64] &= !bit }
        }
    };
    for condition in side.excluding() {
        change(&mut usual, condition, true);
    }
    let mut rows = BitRows::new(of_term.len());
    for local in 0..side.len() {
        let mut row = usual.clone();
        let (holding, failing) = side.differences(local);
        failing.iter().for_each(|condition| change(&mut row, *condition, false));
        holding.iter().for_each(|condition| change(&mut row, *condition, true));
        rows.push(&row);
    }
    rows
}

/// Fills the decision table. `None`: there are more outcomes than 16 bits can number.
fn fill(flat: &Flat, sources: &BitRows, destinations: &BitRows, layer4: &BitRows) -> Option<Decision> {
    let mut ids: HashMap<Outcome, u16> = HashMap::new();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut cells = Vec::with_capacity(sources.len() * destinations.len() * layer4.len());
    let mut both: Vec<(usize, u64)> = Vec::new();
    for source in sources.iter() {
        for destination in destinations.iter() {
            both.clear();
            let words = source.iter().zip(destination).map(|(s, d)| s & d).enumerate();
            both.extend(words.filter(|(_, word)| *word != 0));
            for row in layer4.iter() {
                let matching = both
                    .iter()
                    .flat_map(|(at, word)| set_bits([word & row[*at]]).map(move |bit| at * 64 + bit));
                let mut notes = Vec::new();
                let verdict = flat.walk(matching, &mut |note| notes.push(note));
                let outcome = Outcome { verdict, notes: notes.into() };
                let id = match ids.get(&outcome) {
                    Some(id) => *id,
                    None => {
                        let id = u16::try_from(outcomes.len()).ok()?;
                        outcomes.push(outcome.clone());
                        ids.insert(outcome, id);
                        id
                    }
                };
                cells.push(id);
            }
        }
    }
    Some(Decision::Cells {
        destinations: destinations.len(),
        layer4: layer4.len(),
        cells: cells.into(),
        outcomes: outcomes.into(),
    })
}
