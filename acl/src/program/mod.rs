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
mod decision;
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
use decision::{Cells, Filler, Outcome};
use flat::Flat;
use layer4::Layer4;
use terms::{Layer4Condition, Term};

pub use flat::Note;
pub(crate) use terms::PortGroups;

/// Most pairs of local address classes of a decision table.
pub(crate) const MOST_PAIRS: usize = 1 << 20;

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
    Cells(Cells),
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
        let Decision::Cells(cells) = &self.decision else { return None };
        Some(cells.outcome(classes.source, classes.destination, self.layer4.class(classes.fields)))
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
                    Decision::Cells(_) => match program.tables.cell(classes) {
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
            Decision::Cells(_) => {
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
                Decision::Cells(cells) => cells.memory(),
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
    /// Compiles; a decision table of more than `most_pairs` gives way to bit rows.
    pub(crate) fn compile(
        ruleset: Ruleset,
        sets: &AddressSets,
        groups: &dyn PortGroups,
        most_pairs: usize,
    ) -> Result<Self, CompileError> {
        let (flat, terms) = Flat::new(&ruleset, groups);
        let mut sides = Vec::with_capacity(2);
        let mut tables = Vec::with_capacity(2);
        for family in Family::ALL {
            let (pair, table) = compile_family(family, &flat, &terms, sets, most_pairs)?;
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
    most_pairs: usize,
) -> Result<([AddressSide; 2], Tables), CompileError> {
    let in_family = |term: &&Term| term.family.is_none_or(|wanted| wanted == family);
    let of_side = |pick: fn(&Term) -> &terms::AddressCondition| {
        let interned = intern(terms.iter().map(|term| Some(term).filter(in_family).map(pick)), family, sets);
        let side = AddressSide::new(family, interned.conditions, sets);
        let rows = SideRows::new(&side, &interned.of_term);
        (side, rows)
    };
    let (source, sources) = of_side(|term| &term.source);
    let (destination, destinations) = of_side(|term| &term.destination);
    let mut ids: HashMap<&Layer4Condition, usize> = HashMap::new();
    let mut conditions: Vec<Layer4Condition> = Vec::new();
    let mut of_condition: Vec<Vec<usize>> = Vec::new();
    let mut condition_of: Vec<u32> = Vec::with_capacity(terms.len());
    for (at, term) in terms.iter().enumerate() {
        let id = *ids.entry(&term.layer4).or_insert_with(|| {
            conditions.push(term.layer4.clone());
            of_condition.push(Vec::new());
            conditions.len() - 1
        });
        of_condition[id].push(at);
        condition_of.push(id as u32);
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
    let filled = rows.joined.as_ref().and_then(|joined| {
        let pairs = source.len() * destination.len();
        let filler = Filler::new(flat, joined, &condition_of);
        if pairs <= most_pairs {
            fill(filler, (&source, &sources), (&destination, &destinations))
        } else {
            None
        }
    });
    let decision = filled.map(Decision::Cells).unwrap_or_else(|| {
        let blocks = |rows: &BitRows| {
            let mut builder = BlockRowsBuilder::new(terms.len());
            rows.iter().for_each(|row| builder.push(row));
            builder.finish()
        };
        let of_side = |side: &AddressSide, rows: &SideRows| {
            let mut builder = BlockRowsBuilder::new(terms.len());
            let mut row = Vec::new();
            for local in 0..side.len() {
                rows.row(side, local, &mut row);
                builder.push(&row);
            }
            builder.finish()
        };
        Decision::Rows(Box::new(Rows {
            source: of_side(&source, &sources),
            destination: of_side(&destination, &destinations),
            protocol: blocks(&to_terms(&rows.protocol)),
            source_port: blocks(&to_terms(&rows.source)),
            destination_port: blocks(&to_terms(&rows.destination)),
        }))
    });
    Ok(([source, destination], Tables { layer4, decision }))
}

/// Which terms hold in each local class of a side.
struct SideRows {
    /// Number of terms.
    terms: usize,
    /// Terms of each condition.
    terms_of: HashMap<u32, Vec<usize>>,
    /// Where no address set is met: all excluding conditions hold.
    usual: Vec<u64>,
}

impl SideRows {
    fn new(side: &AddressSide, of_term: &[Option<u32>]) -> Self {
        let mut terms_of: HashMap<u32, Vec<usize>> = HashMap::new();
        for (term, condition) in of_term.iter().enumerate() {
            if let Some(condition) = condition {
                terms_of.entry(*condition).or_default().push(term);
            }
        }
        let mut rows = SideRows { terms: of_term.len(), terms_of, usual: ones(of_term.len(), []) };
        let mut usual = std::mem::take(&mut rows.usual);
        side.excluding().for_each(|condition| rows.change(&mut usual, condition, true));
        rows.usual = usual;
        rows
    }

    fn change(&self, row: &mut [u64], condition: u32, holds: bool) {
        for term in self.terms_of.get(&condition).into_iter().flatten() {
            let bit = 1 << (term % 64);
            if holds { row[term / 64] |= bit } else { row[term / 64] &= !bit }
        }
    }

    /// The row of a local class.
    fn row(&self, side: &AddressSide, local: usize, row: &mut Vec<u64>) {
        row.clone_from(&self.usual);
        let (holding, failing) = side.differences(local);
        failing.iter().for_each(|condition| self.change(row, *condition, false));
        holding.iter().for_each(|condition| self.change(row, *condition, true));
    }
}

/// Fills the decision table. `None`: it would be too large.
fn fill(
    mut filler: Filler<'_>,
    (source, sources): (&AddressSide, &SideRows),
    (destination, destinations): (&AddressSide, &SideRows),
) -> Option<Cells> {
    let (mut from, mut to) = (Vec::new(), BitRows::new(destinations.terms));
    for d in 0..destination.len() {
        destinations.row(destination, d, &mut from);
        to.push(&from);
    }
    for s in 0..source.len() {
        sources.row(source, s, &mut from);
        to.iter().try_for_each(|to| filler.push(&from, to))?;
    }
    Some(filler.finish(destination.len()))
}
