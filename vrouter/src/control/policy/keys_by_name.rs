//! Which keys name something: the endpoints of a profile, the policies of a tier. A change of what is named asks them
//! alone.

use std::collections::{BTreeMap, BTreeSet};

/// Sets of keys by a name. Names without a key take no room.
#[derive(Debug)]
pub(super) struct KeysByName<K>(BTreeMap<String, BTreeSet<K>>);

impl<K> Default for KeysByName<K> {
    fn default() -> Self {
        KeysByName(BTreeMap::new())
    }
}

impl<K: Ord + Clone> KeysByName<K> {
    /// Notes that `key` names `name`.
    pub(super) fn insert(&mut self, name: &str, key: &K) {
        match self.0.get_mut(name) {
            Some(keys) => drop(keys.insert(key.clone())),
            None => drop(self.0.insert(name.to_owned(), BTreeSet::from([key.clone()]))),
        }
    }

    /// Notes that `key` names `name` no longer.
    pub(super) fn remove(&mut self, name: &str, key: &K) {
        if let Some(keys) = self.0.get_mut(name) {
            keys.remove(key);
            if keys.is_empty() {
                self.0.remove(name);
            }
        }
    }

    /// The keys that name `name`, in order.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = &K> {
        self.0.get(name).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_keys_that_name_it_now() {
        let mut keys = KeysByName::default();
        for (name, key) in [("kns.shop", 2), ("kns.shop", 1), ("kns.shop", 2), ("ksa.shop.web", 1)] {
            keys.insert(name, &key);
        }
        assert_eq!(keys.of("kns.shop").collect::<Vec<_>>(), [&1, &2]);
        keys.remove("kns.shop", &1);
        keys.remove("ksa.shop.web", &1);
        keys.remove("ksa.shop.web", &7);
        assert_eq!(keys.of("kns.shop").collect::<Vec<_>>(), [&2]);
        assert_eq!(keys.0.len(), 1);
    }
}
