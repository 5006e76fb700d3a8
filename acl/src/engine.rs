//! The control side: sets, compiled rule sets, and what of them changes when something changes.
//!
//! ```text
//!  insert, remove, compile, ...         collect changes; readers see nothing of them
//!        |
//!  publish() -> programs that are new, tries that have moved: hand these to the readers
//!        |        ... wait until every reader has adopted them ...
//!  settle()  -> addresses get their new classes, in place
//! ```
//!
//! | change | costs |
//! |---|---|
//! | an address joins or leaves a set | its prefix and those inside it; where the combination of sets is new, one entry in each program that asks for one of them |
//! | ... and a program has no verdicts for the combination | that program compiled anew |
//! | a rule set comes or changes | its compilation |
//! | a named port gets a number that no pod has given it yet | the programs that name it, compiled anew |

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::{Family, PortSetId, Rule, Ruleset, SetId, Side};
use crate::program::{CompileError, MOST_PAIRS, PortGroups, Program, ProgramSource};
use crate::sets::{AddressSets, Class};
use crate::trie::AddressTrie;

/// The number of a compiled rule set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProgramId(u32);

/// What readers must be given before [`Engine::settle`].
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Programs that are new or replaced.
    pub programs: Vec<(ProgramId, Arc<Program>)>,
    /// The tries of both families, if one has moved.
    pub tries: Option<[Arc<AddressTrie>; 2]>,
}

/// A set of (address, protocol, port), by what its members have in common.
#[derive(Debug, Default)]
struct PortSet(BTreeMap<(u8, u16), (SetId, usize)>);

#[derive(Debug)]
struct Slot {
    source: ProgramSource,
    published: Arc<Program>,
}

#[derive(Debug, Default)]
struct PortSets(Vec<Option<PortSet>>);

impl PortGroups for PortSets {
    fn groups(&self, id: PortSetId) -> Vec<(u8, u16, SetId)> {
        let set = self.0.get(id.0 as usize).and_then(Option::as_ref);
        set.into_iter()
            .flat_map(|set| &set.0)
            .map(|((protocol, port), (id, _))| (*protocol, *port, *id))
            .collect()
    }
}

/// All sets and programs of a node.
#[derive(Debug)]
pub struct Engine {
    sets: AddressSets,
    port_sets: PortSets,
    /// Lists of prefixes that rules hold themselves, and how many asked for each.
    nets: HashMap<Vec<IpNet>, (SetId, usize)>,
    slots: Vec<Option<Slot>>,
    free: Vec<ProgramId>,
    by_set: HashMap<SetId, BTreeSet<ProgramId>>,
    by_port_set: HashMap<PortSetId, BTreeSet<ProgramId>>,
    /// Classes that programs have been told of.
    told: usize,
    /// Programs to compile anew.
    stale: BTreeSet<ProgramId>,
    /// Programs that readers have not been given.
    changed: BTreeSet<ProgramId>,
    moved: bool,
    /// Sets whose members have changed since [`Engine::settle`].
    touched: BTreeSet<SetId>,
    /// Larger decision tables give way to bit rows.
    most_pairs: usize,
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// An engine that knows no set and no program.
    pub fn new() -> Self {
        let sets = AddressSets::new();
        Engine {
            told: sets.classes().len(),
            sets,
            port_sets: PortSets::default(),
            nets: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_set: HashMap::new(),
            by_port_set: HashMap::new(),
            stale: BTreeSet::new(),
            changed: BTreeSet::new(),
            moved: false,
            touched: BTreeSet::new(),
            most_pairs: MOST_PAIRS,
        }
    }

    /// An engine whose programs have no decision tables.
    #[cfg(test)]
    pub(crate) fn without_cells() -> Self {
        Engine { most_pairs: 0, ..Self::new() }
    }

    /// A new, empty set.
    pub fn create_set(&mut self) -> SetId {
        self.sets.create()
    }

    /// Removes a set. No program may name it any more.
    pub fn remove_set(&mut self, id: SetId) {
        let members: Vec<IpNet> = self.sets.members(id).collect();
        for net in members {
            while self.sets.members(id).any(|member| member == net) {
                self.sets.remove(id, net);
            }
        }
        self.by_set.remove(&id);
        self.sets.discard(id);
    }

    /// Adds a prefix to a set. Added twice, it must be removed twice.
    pub fn insert(&mut self, id: SetId, net: IpNet) {
        self.touched.insert(id);
        if self.sets.insert(id, net) {
            self.stale.extend(self.by_set.get(&id).into_iter().flatten());
        }
    }

    /// Takes a prefix out of a set.
    pub fn remove(&mut self, id: SetId, net: IpNet) {
        self.touched.insert(id);
        if self.sets.remove(id, net) {
            self.stale.extend(self.by_set.get(&id).into_iter().flatten());
        }
    }

    /// Members of a set.
    pub fn members(&self, id: SetId) -> impl Iterator<Item = IpNet> + '_ {
        self.sets.members(id)
    }

    /// The set of a list of prefixes; one for all that ask for the same list. Give it back by
    /// [`Engine::release_nets`].
    pub fn nets(&mut self, nets: &[IpNet]) -> SetId {
        let mut list: Vec<IpNet> = nets.iter().map(IpNet::trunc).collect();
        list.sort_unstable();
        list.dedup();
        if let Some((id, users)) = self.nets.get_mut(&list) {
            *users += 1;
            return *id;
        }
        let id = self.create_set();
        list.iter().for_each(|net| self.insert(id, *net));
        self.nets.insert(list, (id, 1));
        id
    }

    /// Gives back a set of [`Engine::nets`]. No program of the one who asked may name it any more.
    pub fn release_nets(&mut self, id: SetId) {
        let found = self.nets.iter_mut().find(|(_, (known, _))| *known == id);
        let Some((list, (_, users))) = found else { return };
        *users -= 1;
        if *users == 0 {
            let list = list.clone();
            self.nets.remove(&list);
            self.remove_set(id);
        }
    }

    /// A new, empty port set.
    pub fn create_port_set(&mut self) -> PortSetId {
        self.port_sets.0.push(Some(PortSet::default()));
        PortSetId(self.port_sets.0.len() as u32 - 1)
    }

    /// Removes a port set. No program may name it any more. Its number is not used again.
    pub fn remove_port_set(&mut self, id: PortSetId) {
        let Some(set) = self.port_sets.0.get_mut(id.0 as usize).and_then(Option::take) else { return };
        self.by_port_set.remove(&id);
        for (id, _) in set.0.into_values() {
            self.remove_set(id);
        }
    }

    /// Adds an address with a port. Added twice, it must be removed twice.
    pub fn insert_port(&mut self, id: PortSetId, address: IpAddr, protocol: u8, port: u16) {
        let Some(set) = self.port_sets.0.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        let group = set.0.entry((protocol, port)).or_insert_with(|| (self.sets.create(), 0));
        group.1 += 1;
        let group = *group;
        if group.1 == 1 {
            self.stale.extend(self.by_port_set.get(&id).into_iter().flatten());
        }
        self.insert(group.0, address.into());
    }

    /// Takes an address with a port out.
    pub fn remove_port(&mut self, id: PortSetId, address: IpAddr, protocol: u8, port: u16) {
        let Some(set) = self.port_sets.0.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        let Some(group) = set.0.get_mut(&(protocol, port)).filter(|group| group.1 > 0) else { return };
        // An empty group stays: programs name its set until they are compiled anew.
        group.1 -= 1;
        let group = group.0;
        self.remove(group, address.into());
    }

    /// Compiles a rule set.
    pub fn compile(&mut self, ruleset: Ruleset) -> Result<ProgramId, CompileError> {
        let source = ProgramSource::compile(ruleset, &self.sets, &self.port_sets, self.most_pairs)?;
        let published = Arc::new(source.program());
        let slot = Some(Slot { source, published });
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id.0 as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                ProgramId(self.slots.len() as u32 - 1)
            }
        };
        self.index(id);
        self.changed.insert(id);
        Ok(id)
    }

    /// Compiles another rule set in the place of one. On failure the old one stays.
    pub fn recompile(&mut self, id: ProgramId, ruleset: Ruleset) -> Result<(), CompileError> {
        let source = ProgramSource::compile(ruleset, &self.sets, &self.port_sets, self.most_pairs)?;
        self.forget(id);
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            let published = Arc::new(source.program());
            *slot = Some(Slot { source, published });
        }
        self.index(id);
        self.changed.insert(id);
        Ok(())
    }

    /// Removes a program. Readers may go on with it.
    pub fn remove_program(&mut self, id: ProgramId) {
        self.forget(id);
        if let Some(slot) = self.slots.get_mut(id.0 as usize)
            && slot.take().is_some()
        {
            self.free.push(id);
        }
        self.stale.remove(&id);
        self.changed.remove(&id);
    }

    fn slot(&self, id: ProgramId) -> Option<&Slot> {
        self.slots.get(id.0 as usize).and_then(Option::as_ref)
    }

    /// A program as readers are to have it.
    pub fn program(&self, id: ProgramId) -> Option<&Arc<Program>> {
        self.slot(id).map(|slot| &slot.published)
    }

    /// The rule set of a program.
    pub fn ruleset(&self, id: ProgramId) -> Option<&Ruleset> {
        self.slot(id).map(|slot| slot.source.ruleset())
    }

    /// The trie of a family as readers are to have it.
    pub fn trie(&self, family: Family) -> &Arc<AddressTrie> {
        self.sets.trie(family)
    }

    pub(crate) fn class(&self, class: u32) -> Option<&Class> {
        self.sets.classes().get(class as usize)
    }

    pub(crate) fn is_whole(&self, id: SetId, family: Family) -> bool {
        self.sets.is_whole(id, family)
    }

    pub(crate) fn groups_of(&self, id: PortSetId) -> Vec<(u8, u16, SetId)> {
        self.port_sets.groups(id)
    }

    fn named(&self, id: ProgramId) -> (BTreeSet<SetId>, BTreeSet<PortSetId>) {
        let (mut sets, mut port_sets) = (BTreeSet::new(), BTreeSet::new());
        let mut side = |side: &Side| {
            sets.extend(side.all_of.iter().chain(&side.none_of));
            port_sets.extend(side.named_ports.iter().chain(&side.not_named_ports).chain(&side.service));
        };
        if let Some(slot) = self.slot(id) {
            rules_of(slot.source.ruleset()).for_each(|rule| {
                side(&rule.source);
                side(&rule.destination);
            });
        }
        sets.extend(port_sets.iter().flat_map(|id| self.port_sets.groups(*id)).map(|(_, _, id)| id));
        (sets, port_sets)
    }

    fn index(&mut self, id: ProgramId) {
        let (sets, port_sets) = self.named(id);
        for set in sets {
            self.by_set.entry(set).or_default().insert(id);
        }
        for set in port_sets {
            self.by_port_set.entry(set).or_default().insert(id);
        }
    }

    fn forget(&mut self, id: ProgramId) {
        let (sets, port_sets) = self.named(id);
        for set in sets {
            if let Some(programs) = self.by_set.get_mut(&set) {
                programs.remove(&id);
            }
        }
        for set in port_sets {
            if let Some(programs) = self.by_port_set.get_mut(&set) {
                programs.remove(&id);
            }
        }
    }

    /// Brings programs up to date and yields what readers must be given before [`Engine::settle`].
    pub fn publish(&mut self) -> Published {
        let asking: BTreeSet<ProgramId> = self.sets.classes()[self.told..]
            .iter()
            .flat_map(|class| class.sets.iter())
            .filter_map(|id| self.by_set.get(id))
            .flatten()
            .copied()
            .collect();
        self.told = self.sets.classes().len();
        for id in asking {
            if self.stale.contains(&id) {
                continue;
            }
            let Some(slot) = self.slots.get_mut(id.0 as usize).and_then(Option::as_mut) else { continue };
            match slot.source.learn(&self.sets) {
                Ok(false) => {}
                Ok(true) => {
                    slot.published = Arc::new(slot.source.program());
                    self.changed.insert(id);
                }
                Err(_) => drop(self.stale.insert(id)),
            }
        }
        for id in std::mem::take(&mut self.stale) {
            let Some(ruleset) = self.ruleset(id).cloned() else { continue };
            // The rule set compiled before; only a number of ports that pods name could stop it now, and
            // then the program goes on without the latest of them.
            let _ = self.recompile(id, ruleset);
        }
        self.moved |= self.sets.prepare();
        let programs = std::mem::take(&mut self.changed);
        let programs = programs.into_iter().filter_map(|id| Some((id, self.program(id)?.clone()))).collect();
        let tries =
            std::mem::take(&mut self.moved).then(|| Family::ALL.map(|family| self.trie(family).clone()));
        Published { programs, tries }
    }

    /// Gives addresses their new classes. Call it when every reader has adopted what
    /// [`Engine::publish`] yielded last, and nothing has changed since. Returns the programs that
    /// may decide otherwise from now on.
    pub fn settle(&mut self) -> BTreeSet<ProgramId> {
        debug_assert_eq!(self.told, self.sets.classes().len(), "changed since it was published");
        self.sets.settle();
        let touched = std::mem::take(&mut self.touched);
        touched.iter().filter_map(|id| self.by_set.get(id)).flatten().copied().collect()
    }

    /// Whether [`Engine::settle`] has nothing to do.
    pub fn is_settled(&self) -> bool {
        self.sets.is_settled()
    }
}

pub(crate) fn rules_of(ruleset: &Ruleset) -> impl Iterator<Item = &Rule> {
    let policies = ruleset.tiers.iter().flat_map(|tier| &tier.policies);
    policies.flat_map(|policy| &policy.rules).chain(ruleset.profiles.iter().flatten())
}
