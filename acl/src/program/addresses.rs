//! From the class of an address to the conditions of one program that hold for it.
//!
//! A program asks for few of all sets, so many classes are alike to it. It numbers the combinations of
//! its conditions that occur (its local classes) and keeps an array from class to local class. Local
//! class 0 is that of an address in none of its sets, which also stands for every class that the array
//! does not list.
//!
//! The array is changed in place while packets read it: a class gets its entry before an address gets
//! the class, and neither ever changes afterwards.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::{Family, SetId};
use crate::program::terms::AddressCondition;
use crate::sets::{AddressSets, Class, ClassId};

/// From class to local class, for readers.
#[derive(Debug)]
pub(crate) struct ClassMap(Box<[AtomicU32]>);

impl ClassMap {
    #[inline]
    pub(crate) fn local(&self, class: ClassId) -> u32 {
        self.0.get(class as usize).map_or(0, |local| local.load(Ordering::Relaxed))
    }

    pub(crate) fn memory(&self) -> usize {
        self.0.len() * size_of::<u32>()
    }
}

/// A condition without the sets that hold a whole family; `None`: it holds for no address.
type Simplified = Option<AddressCondition>;

fn simplify(condition: &AddressCondition, family: Family, sets: &AddressSets) -> Simplified {
    if condition.none_of.iter().any(|id| sets.is_whole(*id, family)) {
        return None;
    }
    let all_of = condition.all_of.iter().copied().filter(|id| !sets.is_whole(*id, family)).collect();
    Some(AddressCondition { all_of, none_of: condition.none_of.clone() })
}

/// A local class: which conditions hold. Conditions that ask for sets hold seldom and are listed where
/// they hold; those that only exclude sets hold mostly and are listed where they do not.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Signature {
    asking_true: Vec<u32>,
    excluding_false: Vec<u32>,
}

/// One side of a program, for the writer.
#[derive(Debug)]
pub(crate) struct AddressSide {
    family: Family,
    conditions: Vec<AddressCondition>,
    /// Which conditions name a set: as asked for, as excluded.
    naming: HashMap<SetId, (Vec<u32>, Vec<u32>)>,
    locals: HashMap<Signature, u32>,
    /// In the order of their numbers.
    signatures: Vec<Signature>,
    map: Arc<ClassMap>,
    /// How many classes the map knows.
    known: usize,
}

/// Interns the conditions of terms. Condition of each term: `None` if it holds for no address.
pub(crate) struct Interned {
    pub(crate) conditions: Vec<AddressCondition>,
    pub(crate) of_term: Vec<Option<u32>>,
}

/// Simplifies and numbers conditions.
pub(crate) fn intern<'a>(
    given: impl Iterator<Item = Option<&'a AddressCondition>>,
    family: Family,
    sets: &AddressSets,
) -> Interned {
    let mut ids: HashMap<AddressCondition, u32> = HashMap::new();
    let mut conditions = Vec::new();
    let of_term = given
        .map(|condition| {
            let condition = simplify(condition?, family, sets)?;
            Some(*ids.entry(condition).or_insert_with_key(|condition| {
                conditions.push(condition.clone());
                conditions.len() as u32 - 1
            }))
        })
        .collect();
    Interned { conditions, of_term }
}

impl AddressSide {
    pub(crate) fn new(family: Family, conditions: Vec<AddressCondition>, sets: &AddressSets) -> Self {
        let mut naming: HashMap<SetId, (Vec<u32>, Vec<u32>)> = HashMap::new();
        for (at, condition) in conditions.iter().enumerate() {
            for id in &condition.all_of {
                naming.entry(*id).or_default().0.push(at as u32);
            }
            for id in &condition.none_of {
                naming.entry(*id).or_default().1.push(at as u32);
            }
        }
        let mut side = AddressSide {
            family,
            conditions,
            naming,
            locals: HashMap::from([(Signature::default(), 0)]),
            signatures: vec![Signature::default()],
            map: Arc::new(ClassMap(Box::default())),
            known: 0,
        };
        let classes = sets.classes();
        let locals: Vec<u32> = classes.iter().map(|class| side.number(class)).collect();
        if side.signatures.len() > 1 {
            side.grow(&locals, classes.len());
        }
        side.known = classes.len();
        side
    }

    pub(crate) fn map(&self) -> &Arc<ClassMap> {
        &self.map
    }

    /// Number of local classes.
    pub(crate) fn len(&self) -> usize {
        self.signatures.len()
    }

    fn signature(&self, class: &Class) -> Signature {
        let mut signature = Signature::default();
        if class.family != self.family {
            return signature;
        }
        let holds = |id: &SetId| class.sets.binary_search(id).is_ok();
        for (asked, excluded) in class.sets.iter().filter_map(|id| self.naming.get(id)) {
            for at in asked {
                let condition = &self.conditions[*at as usize];
                // Of the sets that a condition asks for, the first leads to it.
                let first = condition.all_of.iter().find(|id| holds(id));
                let complete = condition.all_of.iter().all(holds) && !condition.none_of.iter().any(holds);
                if complete && first.is_some() {
                    signature.asking_true.push(*at);
                }
            }
            signature
                .excluding_false
                .extend(excluded.iter().filter(|at| self.conditions[**at as usize].all_of.is_empty()));
        }
        for list in [&mut signature.asking_true, &mut signature.excluding_false] {
            list.sort_unstable();
            list.dedup();
        }
        signature
    }

    fn number(&mut self, class: &Class) -> u32 {
        let signature = self.signature(class);
        if let Some(local) = self.locals.get(&signature) {
            return *local;
        }
        let local = self.signatures.len() as u32;
        self.signatures.push(signature.clone());
        self.locals.insert(signature, local);
        local
    }

    fn grow(&mut self, locals: &[u32], classes: usize) {
        let capacity = (classes + classes / 2).max(64);
        let map: Box<[AtomicU32]> = (0..capacity).map(|_| AtomicU32::new(0)).collect();
        for (slot, local) in map.iter().zip(locals) {
            slot.store(*local, Ordering::Relaxed);
        }
        self.map = Arc::new(ClassMap(map));
    }

    /// Learns the classes that came since the last time. `Err`: one of them is a combination that the
    /// program has no verdicts for, so that it must be compiled anew. `Ok(true)`: the map has moved.
    pub(crate) fn learn(&mut self, sets: &AddressSets) -> Result<bool, NewCombination> {
        let classes = sets.classes();
        let mut new = Vec::new();
        for class in &classes[self.known..] {
            match self.locals.get(&self.signature(class)) {
                Some(local) => new.push(*local),
                None => return Err(NewCombination),
            }
        }
        // Classes beyond the map stand for local class 0, so only others need a place.
        let moved =
            new.iter().rposition(|local| *local != 0).is_some_and(|at| self.known + at >= self.map.0.len());
        if moved {
            let mut all: Vec<u32> = (0..self.known as u32).map(|class| self.map.local(class)).collect();
            all.extend(&new);
            self.grow(&all, classes.len());
        } else {
            for (slot, local) in self.map.0.iter().skip(self.known).zip(&new) {
                slot.store(*local, Ordering::Relaxed);
            }
        }
        self.known = classes.len();
        Ok(moved)
    }

    /// Calls `set` for every condition that holds in a local class and `clear` for the excluding ones
    /// that do not; before, all excluding conditions count as holding.
    pub(crate) fn differences(&self, local: usize) -> (&[u32], &[u32]) {
        let signature = &self.signatures[local];
        (&signature.asking_true, &signature.excluding_false)
    }

    /// The conditions that only exclude sets, and those without any.
    pub(crate) fn excluding(&self) -> impl Iterator<Item = u32> + '_ {
        let excluding =
            self.conditions.iter().enumerate().filter(|(_, condition)| condition.all_of.is_empty());
        excluding.map(|(at, _)| at as u32)
    }
}

/// A class whose combination of conditions a program has not met.
#[derive(Debug)]
pub(crate) struct NewCombination;
