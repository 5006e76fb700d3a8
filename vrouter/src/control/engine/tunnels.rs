//! From whom tunnel packets are taken: the remote ends of our tunnels, the peers of the
//! configuration, and for a while the ends of tunnels that were.
//!
//! When a pool stops to encapsulate, nodes learn of it one after the other. A node that has not
//! goes on to send through its tunnel; what it sends is taken for [`LINGER`] longer.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::Engine;
use crate::control::path_mtus::Ends;
use crate::ids::{Timestamp, VrfId};
use crate::tables::TunnelPeers;

/// How long packets of a tunnel are taken after we have stopped to send through it.
const LINGER: Duration = Duration::from_secs(60);

/// Who sends us tunnel packets.
#[derive(Default)]
pub(super) struct TunnelEnds {
    /// Remote ends of tunnels that we send through.
    used: BTreeSet<Ipv4Addr>,
    /// Those that we did send through, and until when they are remembered; `None` until the
    /// time is told.
    former: BTreeMap<Ipv4Addr, Option<Timestamp>>,
}

impl TunnelEnds {
    fn renew(&mut self, used: BTreeSet<Ipv4Addr>) {
        for gone in self.used.difference(&used) {
            self.former.insert(*gone, None);
        }
        self.former.retain(|end, _| !used.contains(end));
        self.used = used;
    }

    /// Forgets an end that is not used, before its time.
    pub(super) fn forget(&mut self, end: Ipv4Addr) {
        self.former.remove(&end);
    }

    /// Forgets those whose time is over; whether there were any.
    pub(super) fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.former.len();
        self.former.retain(|_, until| *until.get_or_insert(now.after(LINGER)) > now);
        self.former.len() < before
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.former.values().flatten().min().copied()
    }
}

impl Engine {
    /// Takes the report of a router on a tunnel's path that it passes outer packets of at most
    /// `mtu` bytes. Call [`commit`](Self::commit) for it to be in force.
    pub fn path_mtu(&mut self, ends: Ends, mtu: u32, now: Timestamp) {
        let ports = self.hops().filter(|hop| hop.ends() == Some(ends)).filter_map(|hop| hop.port());
        // The widest of the links that the tunnel leaves by; none: the tunnel is not in use.
        let Some(link) = ports.filter_map(|port| self.port_mtu(port)).max() else { return };
        if self.path_mtus.hear(ends, mtu, link, now) {
            tracing::info!("the path from {} to {} takes {mtu} bytes", ends.0, ends.1);
            self.groups.adjacencies.path_changed(ends);
        }
    }

    /// Forgets what was learned of paths long ago; of how many.
    pub(super) fn widen_paths(&mut self, now: Timestamp) -> usize {
        let ended = self.path_mtus.expire(now);
        ended.iter().for_each(|ends| self.groups.adjacencies.path_changed(*ends));
        ended.len()
    }

    /// Tunnels came or went, or where they begin.
    pub(super) fn renew_tunnels(&mut self) {
        self.tunnel_ends.renew(self.groups.adjacencies.tunnels().collect());
        let used: BTreeSet<Ends> = self.hops().filter_map(|hop| hop.ends()).collect();
        self.path_mtus.retain(|ends| used.contains(ends));
        let ends = self.tunnel_ends.used.iter().chain(self.tunnel_ends.former.keys());
        let remotes: BTreeSet<Ipv4Addr> = ends.chain(&self.desired.peers).copied().collect();
        self.tunnel_ids.assign(remotes.iter().copied());
        let locals = self.desired.uplinks_of(VrfId::DEFAULT).flat_map(|(_, addresses)| addresses);
        let locals = locals.filter_map(|net| match net {
            IpNet::V4(net) => Some(net.addr()),
            IpNet::V6(_) => None,
        });
        let remotes = remotes.iter().map(|remote| (*remote, self.tunnel_ids.of(*remote)));
        self.tunnel_peers = Arc::new(TunnelPeers::new(locals, remotes));
    }
}
