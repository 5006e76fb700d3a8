//! The devices a [`LinkWatch`](super::LinkWatch) knows, and the difference that
//! each message or dump makes. Plain data: no socket, no clock.

use std::collections::BTreeMap;

use ipnet::IpNet;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{LinkInfo, address_of};

/// What differs between two descriptions of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LinkChange {
    /// The administrator's switch or the carrier.
    pub running: bool,
    /// The MTU.
    pub mtu: bool,
    /// The hardware address.
    pub mac: bool,
    /// The name.
    pub name: bool,
    /// Membership in a bond, bridge or other master.
    pub master: bool,
}

impl LinkChange {
    fn between(old: &LinkInfo, new: &LinkInfo) -> Self {
        Self {
            running: (old.admin_up, old.carrier) != (new.admin_up, new.carrier),
            mtu: old.mtu != new.mtu,
            mac: old.mac != new.mac,
            name: old.name != new.name,
            master: old.master != new.master,
        }
    }

    fn any(self) -> bool {
        self != Self::default()
    }
}

/// A change among the devices.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// A device is there: at the start, or newly made. Its addresses of the
    /// moment are in it and are not reported again.
    Appeared(LinkInfo),
    /// A device changed; `link` is what it is now.
    Changed {
        /// The new description.
        link: LinkInfo,
        /// What differs from the one before.
        change: LinkChange,
    },
    /// A device is gone, and its addresses with it.
    Removed {
        /// The index it had.
        index: u32,
        /// The name it had.
        name: String,
    },
    /// A device has a further address.
    AddressAdded {
        /// The device's index.
        index: u32,
        /// The address and its prefix length.
        address: IpNet,
    },
    /// A device lost an address.
    AddressRemoved {
        /// The device's index.
        index: u32,
        /// The address and its prefix length.
        address: IpNet,
    },
}

/// The devices by index.
#[derive(Debug, Default)]
pub(super) struct LinkTable {
    links: BTreeMap<u32, LinkInfo>,
}

impl LinkTable {
    pub(super) fn links(&self) -> impl Iterator<Item = &LinkInfo> {
        self.links.values()
    }

    /// Takes in one notification.
    pub(super) fn apply(&mut self, message: &RouteNetlinkMessage, out: &mut impl Extend<LinkEvent>) {
        match message {
            RouteNetlinkMessage::NewLink(link) => {
                if let Some(mut link) = LinkInfo::from_message(link) {
                    // Link messages do not carry addresses.
                    if let Some(old) = self.links.get(&link.index) {
                        link.addresses.clone_from(&old.addresses);
                    }
                    self.put(link, out);
                }
            }
            RouteNetlinkMessage::DelLink(link)
                // A port leaving its bridge is an AF_BRIDGE RTM_DELLINK of the port.
                if link.header.interface_family == AddressFamily::Unspec =>
            {
                self.remove(link.header.index, out);
            }
            RouteNetlinkMessage::NewAddress(message) => {
                let index = message.header.index;
                if let (Some(link), Some(address)) = (self.links.get_mut(&index), address_of(message))
                    // Lifetime changes and the end of duplicate detection repeat it.
                    && !link.addresses.contains(&address)
                {
                    link.addresses.push(address);
                    out.extend([LinkEvent::AddressAdded { index, address }]);
                }
            }
            RouteNetlinkMessage::DelAddress(message) => {
                let index = message.header.index;
                if let (Some(link), Some(address)) = (self.links.get_mut(&index), address_of(message))
                    && let Some(position) = link.addresses.iter().position(|a| *a == address)
                {
                    link.addresses.remove(position);
                    out.extend([LinkEvent::AddressRemoved { index, address }]);
                }
            }
            _ => {}
        }
    }

    /// Makes the table equal to a dump. Removals come first, so that a device made
    /// again under the same name is seen to go before it comes.
    pub(super) fn resync(&mut self, dump: Vec<LinkInfo>, out: &mut impl Extend<LinkEvent>) {
        let gone: Vec<u32> = self
            .links
            .keys()
            .filter(|index| !dump.iter().any(|link| link.index == **index))
            .copied()
            .collect();
        for index in gone {
            self.remove(index, out);
        }
        for link in dump {
            let index = link.index;
            let now = link.addresses.clone();
            let before = match self.links.get(&index) {
                Some(old) => old.addresses.clone(),
                None => now.clone(),
            };
            self.put(link, out);
            let lost = before.iter().filter(|a| !now.contains(a));
            out.extend(lost.map(|a| LinkEvent::AddressRemoved { index, address: *a }));
            let added = now.iter().filter(|a| !before.contains(a));
            out.extend(added.map(|a| LinkEvent::AddressAdded { index, address: *a }));
        }
    }

    fn put(&mut self, link: LinkInfo, out: &mut impl Extend<LinkEvent>) {
        match self.links.insert(link.index, link.clone()) {
            None => out.extend([LinkEvent::Appeared(link)]),
            Some(old) => {
                let change = LinkChange::between(&old, &link);
                if change.any() {
                    out.extend([LinkEvent::Changed { link, change }]);
                }
            }
        }
    }

    fn remove(&mut self, index: u32, out: &mut impl Extend<LinkEvent>) {
        if let Some(link) = self.links.remove(&index) {
            out.extend([LinkEvent::Removed { index, name: link.name }]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::LinkKind;
    use super::*;

    fn link(index: u32, name: &str) -> LinkInfo {
        LinkInfo {
            index,
            name: name.to_owned(),
            kind: LinkKind::Plain,
            mac: None,
            mtu: 1500,
            admin_up: true,
            carrier: true,
            xdp_prog_id: None,
            master: None,
            peer_index: None,
            rx_queues: 1,
            tx_queues: 1,
            addresses: vec!["10.0.0.1/24".parse().unwrap()],
        }
    }

    #[test]
    fn a_device_made_again_goes_before_it_comes() {
        let mut table = LinkTable::default();
        let mut events = Vec::new();
        table.resync(vec![link(2, "eth1")], &mut events);
        events.clear();
        table.resync(vec![link(7, "eth1")], &mut events);
        assert_eq!(
            events,
            [LinkEvent::Removed { index: 2, name: "eth1".into() }, LinkEvent::Appeared(link(7, "eth1")),]
        );
    }

    #[test]
    fn a_dump_reports_only_what_differs() {
        let mut table = LinkTable::default();
        let mut events = Vec::new();
        table.resync(vec![link(2, "eth1"), link(3, "eth2")], &mut events);
        assert_eq!(events.len(), 2);
        events.clear();
        table.resync(vec![link(2, "eth1"), link(3, "eth2")], &mut events);
        assert_eq!(events, []);

        let mut changed = link(3, "eth2");
        changed.mtu = 9000;
        changed.carrier = false;
        changed.addresses = vec!["10.0.0.2/24".parse().unwrap()];
        table.resync(vec![link(2, "eth1"), changed.clone()], &mut events);
        assert_eq!(
            events,
            [
                LinkEvent::Changed {
                    link: changed,
                    change: LinkChange { running: true, mtu: true, ..LinkChange::default() },
                },
                LinkEvent::AddressRemoved { index: 3, address: "10.0.0.1/24".parse().unwrap() },
                LinkEvent::AddressAdded { index: 3, address: "10.0.0.2/24".parse().unwrap() },
            ]
        );
    }
}
