//! The mirrored entries, and the events that messages and dumps make. Plain data:
//! no socket, no clock.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use encap::MacAddr;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState as KernelState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Key;
use crate::agent::ethernet_address;
use crate::agent::netlink::ROUTE_PROTOCOL;

/// The kernel's state of an entry (`NUD_*` in `linux/neighbour.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NeighborState {
    /// Confirmed lately.
    Reachable,
    /// Not confirmed lately; usable.
    Stale,
    /// About to be probed; usable.
    Delay,
    /// Being probed at its last address; usable.
    Probe,
    /// Set by an administrator.
    Permanent,
    /// Needs no resolution.
    NoArp,
    /// Being resolved, no address yet.
    Incomplete,
    /// Did not answer.
    Failed,
    /// There is no entry.
    Removed,
}

impl NeighborState {
    /// Whether packets may go to the entry's address.
    pub fn is_usable(self) -> bool {
        match self {
            Self::Reachable | Self::Stale | Self::Delay | Self::Probe | Self::Permanent | Self::NoArp => true,
            Self::Incomplete | Self::Failed | Self::Removed => false,
        }
    }
}

/// What is known about one neighbour now. Sent whenever the address or the state
/// changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NeighborEvent {
    /// The device's interface index.
    pub ifindex: u32,
    /// The neighbour.
    pub ip: IpAddr,
    /// Where to send to: `None` unless the state is usable.
    pub mac: Option<MacAddr>,
    /// The state.
    pub state: NeighborState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    mac: Option<MacAddr>,
    state: NeighborState,
    managed: bool,
    ours: bool,
}

/// The entries by device and address.
#[derive(Debug, Default)]
pub(super) struct NeighborTable {
    entries: HashMap<Key, Entry>,
}

impl NeighborTable {
    /// What is known of `key`; `None` if there is no entry.
    pub(super) fn event(&self, key: Key) -> Option<NeighborEvent> {
        self.entries.get(&key).map(|entry| event(key, entry.mac, entry.state))
    }

    /// Whether `key` bears our mark.
    pub(super) fn is_ours(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.ours && !is_static(entry.state))
    }

    /// All that bear our mark.
    pub(super) fn ours(&self) -> Vec<Key> {
        self.entries.keys().filter(|key| self.is_ours(**key)).copied().collect()
    }

    /// Whether `key` is resolved without us: set by an administrator, in no need of
    /// resolution, or managed for somebody else.
    pub(super) fn is_kept_by_others(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|entry| is_static(entry.state) || entry.managed && !entry.ours)
    }

    /// Whether `key` has to be asked for again: it is missing, it did not answer (the
    /// kernel by itself waits `interval_probe_time_ms`, 5 s), or nobody keeps it.
    pub(super) fn needs_use(&self, key: Key) -> bool {
        self.entries.get(&key).is_none_or(|entry| match entry.state {
            NeighborState::Failed => true,
            state => !entry.managed && !is_static(state),
        })
    }

    /// Takes in one notification.
    pub(super) fn apply(&mut self, message: &RouteNetlinkMessage, out: &mut impl Extend<NeighborEvent>) {
        match message {
            RouteNetlinkMessage::NewNeighbour(message) => {
                if let Some((key, entry)) = read(message) {
                    self.put(key, entry, out);
                }
            }
            RouteNetlinkMessage::DelNeighbour(message) => {
                if let Some((key, _)) = read(message) {
                    self.remove(key, out);
                }
            }
            _ => {}
        }
    }

    /// Makes the table equal to a dump.
    pub(super) fn resync(&mut self, dump: &[NeighbourMessage], out: &mut impl Extend<NeighborEvent>) {
        let dump: Vec<(Key, Entry)> = dump.iter().filter_map(read).collect();
        let present: HashSet<Key> = dump.iter().map(|(key, _)| *key).collect();
        let gone: Vec<Key> = self.entries.keys().filter(|key| !present.contains(key)).copied().collect();
        for key in gone {
            self.remove(key, out);
        }
        for (key, entry) in dump {
            self.put(key, entry, out);
        }
    }

    fn put(&mut self, key: Key, entry: Entry, out: &mut impl Extend<NeighborEvent>) {
        let old = self.entries.insert(key, entry);
        if old.is_none_or(|old| (old.mac, old.state) != (entry.mac, entry.state)) {
            out.extend([event(key, entry.mac, entry.state)]);
        }
    }

    fn remove(&mut self, key: Key, out: &mut impl Extend<NeighborEvent>) {
        if self.entries.remove(&key).is_some() {
            out.extend([event(key, None, NeighborState::Removed)]);
        }
    }
}

fn event((ifindex, ip): Key, mac: Option<MacAddr>, state: NeighborState) -> NeighborEvent {
    NeighborEvent { ifindex, ip, mac, state }
}

fn is_static(state: NeighborState) -> bool {
    matches!(state, NeighborState::Permanent | NeighborState::NoArp)
}

/// The entry that a message describes. `None` for what is no unicast IP neighbour:
/// bridge forwarding entries come by the same message type, and proxy entries have
/// no address of their own.
fn read(message: &NeighbourMessage) -> Option<(Key, Entry)> {
    let header = &message.header;
    let ip_family = matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6);
    if !ip_family || header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let state = match header.state {
        KernelState::Reachable => NeighborState::Reachable,
        KernelState::Stale => NeighborState::Stale,
        KernelState::Delay => NeighborState::Delay,
        KernelState::Probe => NeighborState::Probe,
        KernelState::Permanent => NeighborState::Permanent,
        KernelState::Noarp => NeighborState::NoArp,
        KernelState::Failed => NeighborState::Failed,
        // NUD_NONE: made, and not yet asked for.
        _ => NeighborState::Incomplete,
    };
    let mut ip = None;
    let mut entry = Entry { mac: None, state, managed: false, ours: false };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                ip = Some(IpAddr::V4(*address));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                ip = Some(IpAddr::V6(*address));
            }
            NeighbourAttribute::LinkLayerAddress(octets) if state.is_usable() => {
                entry.mac = ethernet_address(octets);
            }
            NeighbourAttribute::ExtFlags(flags) => {
                entry.managed = flags.contains(NeighbourExtFlags::Managed);
            }
            NeighbourAttribute::Protocol(protocol) => {
                entry.ours = u8::from(*protocol) == ROUTE_PROTOCOL;
            }
            _ => {}
        }
    }
    let ip = ip.filter(|ip| !ip.is_multicast())?;
    Some(((header.ifindex, ip), entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::neighbor_mirror::message_for;

    fn message(ip: &str, state: KernelState, mac: Option<[u8; 6]>) -> NeighbourMessage {
        let mut message = message_for(3, ip.parse().unwrap());
        message.header.state = state;
        if let Some(mac) = mac {
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        }
        message
    }

    #[test]
    fn an_address_is_given_only_while_it_is_usable() {
        let mac = [2, 0, 0, 0, 0, 1];
        for (state, usable) in [
            (KernelState::Reachable, true),
            (KernelState::Stale, true),
            (KernelState::Delay, true),
            (KernelState::Probe, true),
            (KernelState::Permanent, true),
            (KernelState::Noarp, true),
            (KernelState::Failed, false),
            (KernelState::Incomplete, false),
            (KernelState::None, false),
        ] {
            for ip in ["10.0.0.1", "fd00::1"] {
                let mut table = NeighborTable::default();
                let mut events = Vec::new();
                let new = RouteNetlinkMessage::NewNeighbour(message(ip, state, Some(mac)));
                table.apply(&new, &mut events);
                assert_eq!(events.len(), 1);
                assert_eq!(events[0].state.is_usable(), usable, "{state:?}");
                assert_eq!(events[0].mac, usable.then_some(MacAddr(mac)), "{state:?}");
                table.apply(&new, &mut events);
                assert_eq!(events.len(), 1, "a repetition is no change");
            }
        }
    }

    #[test]
    fn what_a_dump_lacks_is_removed() {
        let mut table = NeighborTable::default();
        let mut events = Vec::new();
        let a = message("10.0.0.1", KernelState::Reachable, Some([2, 0, 0, 0, 0, 1]));
        let b = message("10.0.0.2", KernelState::Reachable, Some([2, 0, 0, 0, 0, 2]));
        table.resync(&[a.clone(), b], &mut events);
        events.clear();
        table.resync(&[a], &mut events);
        assert_eq!(events.len(), 1);
        assert_eq!(
            (events[0].ip, events[0].mac, events[0].state),
            ("10.0.0.2".parse().unwrap(), None, NeighborState::Removed)
        );
    }

    #[test]
    fn multicast_proxy_and_bridge_entries_are_not_neighbours() {
        let mut table = NeighborTable::default();
        let mut events = Vec::new();
        let mut proxy = message("10.0.0.1", KernelState::Permanent, None);
        proxy.header.flags = NeighbourFlags::Proxy;
        let mut bridge = message("10.0.0.1", KernelState::Permanent, None);
        bridge.header.family = AddressFamily::Bridge;
        let group = message("ff02::1", KernelState::Noarp, Some([0x33, 0x33, 0, 0, 0, 1]));
        table.resync(&[proxy, bridge, group], &mut events);
        assert_eq!(events, []);
    }
}
