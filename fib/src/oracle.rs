//! A longest-prefix match that is obviously right: it reads every prefix, every time.
//!
//! What tests compare the real tables against. It shares nothing with them but the types.

use crate::{Address, GroupId, Prefix};

/// A list of prefixes, searched from end to end.
#[derive(Clone, Debug)]
pub struct Oracle<A> {
    routes: Vec<(Prefix<A>, GroupId)>,
}

impl<A: Address> Default for Oracle<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Address> Oracle<A> {
    /// An empty list.
    pub fn new() -> Self {
        Self { routes: Vec::new() }
    }

    /// Adds `prefix` or gives it another group; returns the former group.
    pub fn insert(&mut self, prefix: Prefix<A>, group: GroupId) -> Option<GroupId> {
        let former = self.remove(&prefix);
        self.routes.push((prefix, group));
        former
    }

    /// Takes `prefix` out and returns its group.
    pub fn remove(&mut self, prefix: &Prefix<A>) -> Option<GroupId> {
        let at = self.routes.iter().position(|(other, _)| other == prefix)?;
        Some(self.routes.swap_remove(at).1)
    }

    /// The longest prefix that contains `addr`, with its group.
    pub fn lookup(&self, addr: A) -> Option<(Prefix<A>, GroupId)> {
        let mut best: Option<(Prefix<A>, GroupId)> = None;
        for &(prefix, group) in &self.routes {
            let inside = addr >= prefix.first() && addr <= prefix.last();
            if inside && best.is_none_or(|(other, _)| other.len() < prefix.len()) {
                best = Some((prefix, group));
            }
        }
        best
    }

    /// The prefixes, in no particular order.
    pub fn routes(&self) -> &[(Prefix<A>, GroupId)] {
        &self.routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn prefix(text: &str) -> Prefix<Ipv4Addr> {
        text.parse().unwrap()
    }

    fn group(raw: u32) -> GroupId {
        GroupId::new(raw).unwrap()
    }

    #[test]
    fn the_longest_wins_in_any_order() {
        let mut texts = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32"];
        for _ in 0..texts.len() {
            texts.rotate_left(1);
            let mut oracle = Oracle::new();
            for text in texts {
                let prefix = prefix(text);
                oracle.insert(prefix, group(prefix.len().into()));
            }
            let answer = |text: &str| oracle.lookup(text.parse().unwrap()).unwrap().1.raw();
            assert_eq!(answer("10.1.2.3"), 32);
            assert_eq!(answer("10.1.2.4"), 16);
            assert_eq!(answer("10.2.0.0"), 8);
            assert_eq!(answer("9.255.255.255"), 0);
            assert_eq!(answer("11.0.0.0"), 0);
        }
    }

    #[test]
    fn edges_are_inside_and_neighbours_are_not() {
        let mut oracle = Oracle::new();
        oracle.insert(prefix("10.0.0.64/26"), group(1));
        let hit = |text: &str| oracle.lookup(text.parse().unwrap()).is_some();
        assert!(!hit("10.0.0.63"));
        assert!(hit("10.0.0.64"));
        assert!(hit("10.0.0.127"));
        assert!(!hit("10.0.0.128"));
    }

    #[test]
    fn insert_and_remove_return_the_former_group() {
        let mut oracle = Oracle::new();
        assert_eq!(oracle.insert(prefix("10.0.0.0/8"), group(1)), None);
        assert_eq!(oracle.insert(prefix("10.0.0.0/8"), group(2)), Some(group(1)));
        assert_eq!(oracle.routes().len(), 1);
        assert_eq!(oracle.remove(&prefix("10.0.0.0/9")), None);
        assert_eq!(oracle.remove(&prefix("10.0.0.0/8")), Some(group(2)));
        assert_eq!(oracle.lookup("10.0.0.1".parse().unwrap()), None);
    }
}
