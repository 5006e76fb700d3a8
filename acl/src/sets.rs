//! Sets of addresses, and the class of every address: which of the sets hold it.
//!
//! ```text
//!   set 3 = {10.0.0.0/8}    set 5 = {10.1.0.7/32, 10.1.0.8/32}
//!
//!   prefix          own sets   class (sets of the prefix and of all that cover it)
//!   10.0.0.0/8      3          1 = {3}
//!   10.1.0.7/32     5          2 = {3, 5}
//!   10.1.0.8/32     5          2
//! ```
//!
//! A class is a number for one combination of sets. Combinations are few, addresses many: one lookup
//! of the address tells all that rules can ask of it. Adding a member touches its prefix and those
//! inside it, nothing else. A member of length 0 covers all of its family and is kept as a flag of the
//! set, so that `0.0.0.0/0` costs nothing.
//!
//! Changes are collected and written to the tries by [`AddressSets::settle`]: what maps classes to
//! verdicts must know a new class before an address has it.
//!
//! Invariant: a class, once numbered, means the same combination for ever.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::{Family, SetId};
use crate::trie::{AddressTrie, Paint, TrieWriter};

/// The number of a combination of sets.
pub(crate) type ClassId = u32;

/// Class of IPv4 addresses that are in no set.
pub(crate) const NO_SETS_4: ClassId = 0;
/// Class of IPv6 addresses that are in no set.
pub(crate) const NO_SETS_6: ClassId = 1;

/// A combination of sets.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Class {
    pub(crate) family: Family,
    /// Sorted. Sets that hold the whole family are not listed.
    pub(crate) sets: Box<[SetId]>,
}

/// A prefix of one family: its bits at the top, and its length. Ordered so that a prefix stands before
/// those inside it.
type Key = (u128, u8);

#[derive(Debug)]
struct Entry {
    /// Sorted.
    own: Vec<SetId>,
    class: ClassId,
}

#[derive(Debug)]
struct Prefixes {
    entries: BTreeMap<Key, Entry>,
    by_length: [u32; 129],
    writer: TrieWriter,
    bits: u8,
    none: ClassId,
    pending: Vec<Paint>,
}

#[derive(Debug, Default)]
struct Set {
    /// Members, and how often each was added.
    members: BTreeMap<IpNet, u32>,
    whole: [bool; 2],
}

/// All sets and the classes that they make.
#[derive(Debug)]
pub(crate) struct AddressSets {
    sets: Vec<Option<Set>>,
    free: Vec<SetId>,
    families: [Prefixes; 2],
    classes: Vec<Class>,
    class_ids: HashMap<Class, ClassId>,
}

fn key_of(net: IpNet) -> (Family, Key) {
    match net {
        IpNet::V4(net) => (Family::V4, (u128::from(u32::from(net.network())) << 96, net.prefix_len())),
        IpNet::V6(net) => (Family::V6, (u128::from(net.network()), net.prefix_len())),
    }
}

fn mask(length: u8) -> u128 {
    match length {
        0 => 0,
        length => u128::MAX << (128 - length),
    }
}

impl AddressSets {
    pub(crate) fn new() -> Self {
        let prefixes = |bits, none| Prefixes {
            entries: BTreeMap::new(),
            by_length: [0; 129],
            writer: TrieWriter::new(none),
            bits,
            none,
            pending: Vec::new(),
        };
        let mut sets = AddressSets {
            sets: Vec::new(),
            free: Vec::new(),
            families: [prefixes(32, NO_SETS_4), prefixes(128, NO_SETS_6)],
            classes: Vec::new(),
            class_ids: HashMap::new(),
        };
        for family in Family::ALL {
            sets.class(family, Vec::new());
        }
        sets
    }

    pub(crate) fn create(&mut self) -> SetId {
        if let Some(id) = self.free.pop() {
            self.sets[id.0 as usize] = Some(Set::default());
            return id;
        }
        self.sets.push(Some(Set::default()));
        SetId(self.sets.len() as u32 - 1)
    }

    /// Removes an empty set. Its number is used again, so nothing may name it any more.
    pub(crate) fn discard(&mut self, id: SetId) {
        debug_assert!(self.sets[id.0 as usize].as_ref().is_some_and(|set| set.members.is_empty()));
        // Classes that hold the number describe no address, but their meaning is fixed: the number may
        // come back only if no class has it.
        self.sets[id.0 as usize] = None;
        if !self.classes.iter().any(|class| class.sets.contains(&id)) {
            self.free.push(id);
        }
    }

    pub(crate) fn is_whole(&self, id: SetId, family: Family) -> bool {
        self.set(id).is_some_and(|set| set.whole[family as usize])
    }

    fn set(&self, id: SetId) -> Option<&Set> {
        self.sets.get(id.0 as usize).and_then(Option::as_ref)
    }

    pub(crate) fn members(&self, id: SetId) -> impl Iterator<Item = IpNet> + '_ {
        self.set(id).into_iter().flat_map(|set| set.members.keys().copied())
    }

    pub(crate) fn classes(&self) -> &[Class] {
        &self.classes
    }

    pub(crate) fn trie(&self, family: Family) -> &Arc<AddressTrie> {
        self.families[family as usize].writer.trie()
    }

    /// Adds a member. Whether the set has become whole for a family, which changes what rules mean.
    pub(crate) fn insert(&mut self, id: SetId, net: IpNet) -> bool {
        let net = net.trunc();
        let Some(set) = self.sets[id.0 as usize].as_mut() else { return false };
        let count = set.members.entry(net).or_insert(0);
        *count += 1;
        if *count > 1 {
            return false;
        }
        let (family, key) = key_of(net);
        if key.1 == 0 {
            set.whole[family as usize] = true;
            return true;
        }
        self.add_own(family, key, id);
        false
    }

    /// Takes a member out that was added; it stays as long as it was added more often. Whether the set
    /// is no longer whole.
    pub(crate) fn remove(&mut self, id: SetId, net: IpNet) -> bool {
        let net = net.trunc();
        let Some(set) = self.sets[id.0 as usize].as_mut() else { return false };
        let Some(count) = set.members.get_mut(&net) else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        set.members.remove(&net);
        let (family, key) = key_of(net);
        if key.1 == 0 {
            set.whole[family as usize] = false;
            return true;
        }
        self.remove_own(family, key, id);
        false
    }

    fn class(&mut self, family: Family, sets: Vec<SetId>) -> ClassId {
        let class = Class { family, sets: sets.into() };
        if let Some(id) = self.class_ids.get(&class) {
            return *id;
        }
        let id = self.classes.len() as ClassId;
        self.classes.push(class.clone());
        self.class_ids.insert(class, id);
        id
    }

    fn add_own(&mut self, family: Family, key: Key, id: SetId) {
        let at = family as usize;
        if !self.families[at].entries.contains_key(&key) {
            let (_, class) = self.families[at].cover(key);
            self.families[at].entries.insert(key, Entry { own: Vec::new(), class });
            self.families[at].by_length[usize::from(key.1)] += 1;
        }
        if let Some(entry) = self.families[at].entries.get_mut(&key)
            && let Err(place) = entry.own.binary_search(&id)
        {
            entry.own.insert(place, id);
        }
        self.reclass(family, key, |sets| {
            if let Err(place) = sets.binary_search(&id) {
                sets.insert(place, id);
            }
        });
    }

    fn remove_own(&mut self, family: Family, key: Key, id: SetId) {
        let prefixes = &mut self.families[family as usize];
        let Some(entry) = prefixes.entries.get_mut(&key) else { return };
        entry.own.retain(|own| *own != id);
        let gone = entry.own.is_empty();
        let (cover, cover_class) = prefixes.cover(key);
        if gone {
            prefixes.entries.remove(&key);
            prefixes.by_length[usize::from(key.1)] -= 1;
            let falls_to = Some(cover.map_or(0, |cover| cover.1));
            prefixes.pending.push(Paint { key: key.0, length: key.1, class: cover_class, falls_to });
        }
        // A wider prefix of the set may still cover this one.
        if !self.classes[cover_class as usize].sets.contains(&id) {
            self.reclass_without(family, key, id);
        }
    }

    /// Takes a set out of the classes of a prefix and those inside it, but for those below a prefix that
    /// has the set itself.
    fn reclass_without(&mut self, family: Family, key: Key, id: SetId) {
        let inside = self.families[family as usize].inside(key);
        let mut skip: Option<Key> = None;
        let mut fall = Vec::with_capacity(inside.len());
        for (inner, own) in inside {
            if skip.is_some_and(|outer| inner.0 & mask(outer.1) == outer.0) {
                continue;
            }
            if own.contains(&id) {
                skip = Some(inner);
                continue;
            }
            fall.push(inner);
        }
        self.rewrite(family, None, fall, |sets| sets.retain(|set| *set != id));
    }

    fn reclass(&mut self, family: Family, key: Key, change: impl Fn(&mut Vec<SetId>)) {
        let keys = self.families[family as usize].inside(key).into_iter().map(|(key, _)| key).collect();
        self.rewrite(family, Some(key), keys, change);
    }

    /// Changes the classes of prefixes, each distinct class once. `new_prefix` may be new to the trie and
    /// is written even if its class is that of the prefix around it.
    fn rewrite(
        &mut self,
        family: Family,
        new_prefix: Option<Key>,
        keys: Vec<Key>,
        change: impl Fn(&mut Vec<SetId>),
    ) {
        let mut known: HashMap<ClassId, ClassId> = HashMap::new();
        for key in keys {
            let Some(old) = self.families[family as usize].entries.get(&key).map(|entry| entry.class) else {
                continue;
            };
            let new = match known.get(&old) {
                Some(new) => *new,
                None => {
                    let mut sets = self.classes[old as usize].sets.to_vec();
                    change(&mut sets);
                    let new = self.class(family, sets);
                    known.insert(old, new);
                    new
                }
            };
            if new == old && new_prefix != Some(key) {
                continue;
            }
            let prefixes = &mut self.families[family as usize];
            if let Some(entry) = prefixes.entries.get_mut(&key) {
                entry.class = new;
            }
            prefixes.pending.push(Paint { key: key.0, length: key.1, class: new, falls_to: None });
        }
    }

    /// Makes room for what is collected. Whether a trie has moved and must be published anew.
    pub(crate) fn prepare(&mut self) -> bool {
        let mut moved = false;
        for prefixes in &mut self.families {
            moved |= prefixes.writer.reserve(prefixes.pending.len(), prefixes.bits);
        }
        moved
    }

    /// Writes what is collected.
    pub(crate) fn settle(&mut self) {
        self.prepare();
        for prefixes in &mut self.families {
            for paint in std::mem::take(&mut prefixes.pending) {
                prefixes.writer.apply(paint);
            }
        }
    }

    /// Whether changes wait for [`AddressSets::settle`].
    pub(crate) fn is_settled(&self) -> bool {
        self.families.iter().all(|prefixes| prefixes.pending.is_empty())
    }
}

impl Prefixes {
    /// The longest shorter prefix that covers `key`, and its class.
    fn cover(&self, key: Key) -> (Option<Key>, ClassId) {
        for length in (1..key.1).rev().filter(|length| self.by_length[usize::from(*length)] > 0) {
            let outer = (key.0 & mask(length), length);
            if let Some(entry) = self.entries.get(&outer) {
                return (Some(outer), entry.class);
            }
        }
        (None, self.none)
    }

    /// The prefix itself, if it is there, and all inside it, with their own sets.
    fn inside(&self, key: Key) -> Vec<(Key, Vec<SetId>)> {
        let last = key.0 | !mask(key.1);
        let range = self.entries.range(key..=(last, u8::MAX));
        range.map(|(key, entry)| (*key, entry.own.clone())).collect()
    }
}
