//! Numbers of tunnels, by which the packet path counts.
//!
//! A remote address keeps its number, also while no route leads there, so that its
//! counters go on when it comes back. Only when all numbers are given out does the
//! one that has been unused longest go to another remote.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use crate::ids::TunnelId;

/// The book of numbers.
#[derive(Debug, Default)]
pub struct TunnelIds {
    ids: BTreeMap<Ipv4Addr, TunnelId>,
    /// When each remote was last in use: the round of [`Self::assign`].
    used: BTreeMap<Ipv4Addr, u64>,
    round: u64,
    /// Numbers that changed hands since the last call of [`Self::take_reused`].
    reused: Vec<TunnelId>,
}

impl TunnelIds {
    /// Gives every remote in use its number. Those beyond the last number share
    /// [`TunnelId::NONE`], which nobody looks at.
    pub fn assign(&mut self, remotes: impl IntoIterator<Item = Ipv4Addr>) {
        self.round += 1;
        let mut fresh = Vec::new();
        for remote in remotes {
            self.used.insert(remote, self.round);
            if !self.ids.contains_key(&remote) {
                fresh.push(remote);
            }
        }
        for remote in fresh {
            if let Some(id) = self.next_id() {
                self.ids.insert(remote, id);
            }
        }
        let ids = &self.ids;
        self.used.retain(|remote, _| ids.contains_key(remote));
    }

    fn next_id(&mut self) -> Option<TunnelId> {
        if self.ids.len() < TunnelId::COUNT - 1 {
            return Some(TunnelId(self.ids.len() as u16));
        }
        let (remote, _) =
            self.used.iter().filter(|(_, round)| **round < self.round).min_by_key(|(_, round)| **round)?;
        let remote = *remote;
        self.used.remove(&remote);
        let id = self.ids.remove(&remote)?;
        self.reused.push(id);
        Some(id)
    }

    /// The number of a remote.
    pub fn of(&self, remote: Ipv4Addr) -> TunnelId {
        self.ids.get(&remote).copied().unwrap_or(TunnelId::NONE)
    }

    /// Numbers that belong to another remote than before.
    pub fn take_reused(&mut self) -> Vec<TunnelId> {
        core::mem::take(&mut self.reused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remotes(range: core::ops::Range<u32>) -> impl Iterator<Item = Ipv4Addr> {
        range.map(|n| Ipv4Addr::from(0x0a00_0000 + n))
    }

    #[test]
    fn a_remote_keeps_its_number_when_it_comes_back() {
        let mut ids = TunnelIds::default();
        ids.assign(remotes(0..2));
        let second = ids.of(Ipv4Addr::from(0x0a00_0001));
        ids.assign(remotes(0..1));
        ids.assign(remotes(0..3));
        assert_eq!(ids.of(Ipv4Addr::from(0x0a00_0001)), second);
        assert_eq!(ids.of(Ipv4Addr::BROADCAST), TunnelId::NONE);
    }

    #[test]
    fn the_longest_unused_number_goes_first_and_is_told() {
        let mut ids = TunnelIds::default();
        let all = TunnelId::COUNT as u32 - 1;
        ids.assign(remotes(0..all));
        ids.assign(remotes(1..all));
        assert!(ids.take_reused().is_empty());
        let unused = ids.of(Ipv4Addr::from(0x0a00_0000));
        ids.assign(remotes(1..all + 1));
        assert_eq!(ids.of(Ipv4Addr::from(0x0a00_0000 + all)), unused);
        assert_eq!(ids.take_reused(), [unused]);
        ids.assign(remotes(1..all + 2));
        assert_eq!(ids.of(Ipv4Addr::from(0x0a00_0001 + all)), TunnelId::NONE);
    }
}
