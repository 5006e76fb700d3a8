//! One address set for each distinct selector that rules ask for, and one port set for each port name.
//!
//! Everything that has labels and addresses is an item: pods, host endpoints, network sets. When an item
//! changes, each selector that may match is asked once about its old and its new labels, and only
//! differences reach the engine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use acl::Engine;
use acl::model::{PortSetId, SetId};
use api::EndpointPort;
use api::selector::Expr;
use ipnet::IpNet;

use super::label_index::{ItemIndex, SelectorIndex};
use super::labels::LabelMap;

/// Something with labels and addresses.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Item {
    /// Labels that selectors see.
    pub labels: LabelMap,
    /// Its addresses, or the prefixes of a network set.
    pub nets: Vec<IpNet>,
    /// Its named ports.
    pub ports: Vec<EndpointPort>,
}

impl Item {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.nets.iter().filter(|net| net.prefix_len() == net.max_prefix_len()).map(IpNet::addr)
    }
}

#[derive(Debug)]
struct SelectorSet {
    id: SetId,
    users: usize,
}

#[derive(Debug)]
struct NamedPort {
    id: PortSetId,
    users: usize,
}

/// The sets, and the items that they are made of. `K` tells items apart.
#[derive(Debug)]
pub struct SelectorSets<K> {
    items: BTreeMap<K, Item>,
    by_label: ItemIndex<K>,
    selectors: HashMap<Expr, SelectorSet>,
    index: SelectorIndex<SetId>,
    by_id: HashMap<SetId, Expr>,
    ports: HashMap<String, NamedPort>,
}

impl<K: Ord + Clone> Default for SelectorSets<K> {
    fn default() -> Self {
        SelectorSets {
            items: BTreeMap::new(),
            by_label: ItemIndex::default(),
            selectors: HashMap::new(),
            index: SelectorIndex::default(),
            by_id: HashMap::new(),
            ports: HashMap::new(),
        }
    }
}

impl<K: Ord + Clone> SelectorSets<K> {
    /// An item.
    pub fn item(&self, key: &K) -> Option<&Item> {
        self.items.get(key)
    }

    /// All items.
    pub fn items(&self) -> impl Iterator<Item = (&K, &Item)> {
        self.items.iter()
    }

    /// The items that a selector matches.
    pub fn matching<'a>(&'a self, expr: &'a Expr) -> impl Iterator<Item = (&'a K, &'a Item)> {
        let candidates = self.by_label.candidates(expr);
        let all = candidates.is_none().then(|| self.items.iter());
        let some = candidates.into_iter().flatten().filter_map(|key| self.items.get_key_value(key));
        all.into_iter().flatten().chain(some).filter(|(_, item)| expr.matches(&item.labels))
    }

    /// Adds, changes or (with `None`) removes an item. The item as it was.
    pub fn put(&mut self, engine: &mut Engine, key: &K, new: Option<Item>) -> Option<Item> {
        let old = match &new {
            Some(item) => self.items.insert(key.clone(), item.clone()),
            None => self.items.remove(key),
        };
        if old == new {
            return old;
        }
        if let Some(item) = &old {
            self.by_label.remove(&item.labels, key);
        }
        if let Some(item) = &new {
            self.by_label.insert(&item.labels, key);
        }
        let both = [&old, &new].into_iter().flatten();
        let asked: BTreeSet<SetId> =
            both.flat_map(|item| self.index.candidates(&item.labels)).copied().collect();
        for id in asked {
            let Some(expr) = self.by_id.get(&id) else { continue };
            let nets = |item: &Option<Item>| match item {
                Some(item) if expr.matches(&item.labels) => item.nets.clone(),
                _ => Vec::new(),
            };
            let (was, is) = (nets(&old), nets(&new));
            // In first, then out, so that a member of both is never missing.
            is.iter().filter(|net| !was.contains(net)).for_each(|net| engine.insert(id, *net));
            was.iter().filter(|net| !is.contains(net)).for_each(|net| engine.remove(id, *net));
        }
        for (name, set) in &self.ports {
            for item in [&new].into_iter().flatten() {
                members(item, name)
                    .for_each(|(ip, protocol, port)| engine.insert_port(set.id, ip, protocol, port));
            }
            for item in [&old].into_iter().flatten() {
                members(item, name)
                    .for_each(|(ip, protocol, port)| engine.remove_port(set.id, ip, protocol, port));
            }
        }
        old
    }

    /// The set of a selector, made on first use. Give it back by [`SelectorSets::release`].
    pub fn acquire(&mut self, engine: &mut Engine, expr: &Expr) -> SetId {
        if let Some(set) = self.selectors.get_mut(expr) {
            set.users += 1;
            return set.id;
        }
        let id = engine.create_set();
        for (_, item) in self.matching(expr) {
            item.nets.iter().for_each(|net| engine.insert(id, *net));
        }
        self.selectors.insert(expr.clone(), SelectorSet { id, users: 1 });
        self.index.insert(expr, &id);
        self.by_id.insert(id, expr.clone());
        id
    }

    /// Gives a set back. Nothing that the engine has may name it any more if this was the last user.
    pub fn release(&mut self, engine: &mut Engine, id: SetId) {
        let Some(expr) = self.by_id.get(&id) else { return };
        let Some(set) = self.selectors.get_mut(expr) else { return };
        set.users -= 1;
        if set.users == 0 {
            self.selectors.remove(expr);
            self.index.remove(expr, &id);
            self.by_id.remove(&id);
            engine.remove_set(id);
        }
    }

    /// The selector that a set is of.
    pub fn selector(&self, id: SetId) -> Option<&Expr> {
        self.by_id.get(&id)
    }

    /// The set of a port's name, made on first use.
    pub fn acquire_port(&mut self, engine: &mut Engine, name: &str) -> PortSetId {
        if let Some(set) = self.ports.get_mut(name) {
            set.users += 1;
            return set.id;
        }
        let id = engine.create_port_set();
        for item in self.items.values() {
            members(item, name).for_each(|(ip, protocol, port)| engine.insert_port(id, ip, protocol, port));
        }
        self.ports.insert(name.to_owned(), NamedPort { id, users: 1 });
        id
    }

    /// Gives the set of a port's name back.
    pub fn release_port(&mut self, engine: &mut Engine, id: PortSetId) {
        let found = self.ports.iter_mut().find(|(_, set)| set.id == id);
        let Some((name, set)) = found else { return };
        set.users -= 1;
        if set.users == 0 {
            let name = name.clone();
            self.ports.remove(&name);
            engine.remove_port_set(id);
        }
    }

    /// The name that a port set is of.
    pub fn port_name(&self, id: PortSetId) -> Option<&str> {
        self.ports.iter().find(|(_, set)| set.id == id).map(|(name, _)| name.as_str())
    }
}

fn members<'a>(item: &'a Item, name: &'a str) -> impl Iterator<Item = (IpAddr, u8, u16)> + 'a {
    let ports = item.ports.iter().filter(move |port| port.name == name);
    ports.flat_map(|port| item.addresses().map(|ip| (ip, port.protocol.0, port.port)))
}
