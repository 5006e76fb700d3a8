//! The network devices of the calling thread's namespace: what they are, and a
//! stream of what changes about them.
//!
//! ```text
//!   RTM_GETLINK + RTM_GETADDR dump ----> LinkTable <---- RTM_{NEW,DEL}{LINK,ADDR}
//!   (start, and after every ENOBUFS)         |             multicast
//!                                        LinkEvent
//! ```
//!
//! [`LinkWatch`] opens its notification socket before the first dump, so that no
//! change falls between them; notifications older than the dump are corrected by
//! those that follow. A device that is removed and made again is reported as
//! [`LinkEvent::Removed`] and then [`LinkEvent::Appeared`] with its new index, also
//! when both were lost in an overflow and only the new dump shows them.
//!
//! Sources: rtnetlink(7); `IFLA_*` in `linux/if_link.h`.

mod table;
mod watch;

use std::fmt;

use encap::MacAddr;
use ipnet::IpNet;
use rtnetlink::packet_core::Nla;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoPortKind, InfoTun, LinkAttribute, LinkFlags, LinkInfo as InfoAttribute,
    LinkMessage, LinkXdp,
};

use super::ethernet_address;
use super::netlink::{Doing, Netlink, NetlinkError, collect};

pub use table::{LinkChange, LinkEvent};
pub use watch::LinkWatch;

/// `IFLA_TUN_TYPE`, `linux/if_link.h`: one octet, the `IFF_TUN`/`IFF_TAP` flag.
const IFLA_TUN_TYPE: u16 = 3;
/// `IFLA_TUN_MULTI_QUEUE`: one octet, 0 or 1.
const IFLA_TUN_MULTI_QUEUE: u16 = 7;
/// `IFLA_TUN_NUM_QUEUES`: four octets, the queues in use.
const IFLA_TUN_NUM_QUEUES: u16 = 8;
/// `IFF_TAP`, `linux/if_tun.h`.
const IFF_TAP: u32 = 2;

/// What a device is, by its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkKind {
    /// No virtual driver: a NIC, as far as rtnetlink can tell.
    Plain,
    /// The loopback device.
    Loopback,
    /// An 802.1Q or 802.1ad sub-interface.
    Vlan,
    /// A bond's master device.
    Bond,
    /// A bridge's own device.
    Bridge,
    /// One end of a veth pair.
    Veth,
    /// A tap device.
    Tap {
        /// Made with `IFF_MULTI_QUEUE`: can be attached only with the same flag.
        multi_queue: bool,
        /// Descriptors that are attached as queues; the kernel tells it of devices
        /// with `IFF_MULTI_QUEUE` only.
        attached: Option<u32>,
    },
    /// A tun device.
    Tun,
    /// Any other virtual driver, by the kernel's name for it.
    Other(String),
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Loopback => "loopback",
            Self::Vlan => "vlan",
            Self::Bond => "bond",
            Self::Bridge => "bridge",
            Self::Veth => "veth",
            Self::Tap { .. } => "tap",
            Self::Tun => "tun",
            Self::Other(kind) => kind,
        })
    }
}

/// What a device is a member of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MasterKind {
    /// The device is a bond's slave.
    Bond,
    /// The device is a bridge's port.
    Bridge,
    /// Something else: a team, a VRF, Open vSwitch.
    Other,
}

/// A device's master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Master {
    /// The master's interface index.
    pub index: u32,
    /// What the master makes of the device.
    pub kind: MasterKind,
}

/// One device, as the kernel described it last.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkInfo {
    /// The interface index; a device made again under the same name has another.
    pub index: u32,
    /// The canonical name (never an alternative name).
    pub name: String,
    /// The driver.
    pub kind: LinkKind,
    /// The hardware address, where the device has an Ethernet one.
    pub mac: Option<MacAddr>,
    /// The MTU in octets, without the Ethernet header.
    pub mtu: u32,
    /// `IFF_UP`: switched on by the administrator.
    pub admin_up: bool,
    /// `IFF_LOWER_UP`: there is a carrier.
    pub carrier: bool,
    /// The id of the XDP program on the device, if any. Attaching a program
    /// sends no notification: only a fresh [`find`] is up to date.
    pub xdp_prog_id: Option<u32>,
    /// The bond, bridge or other device that this one belongs to.
    pub master: Option<Master>,
    /// `IFLA_LINK`: the other end's index of a veth, the lower device's of a VLAN. A
    /// watch does not follow it: the kernel reports a veth's first end before it
    /// has a second.
    pub peer_index: Option<u32>,
    /// Receive queues that the device was made with (the active ones can be fewer).
    pub rx_queues: u32,
    /// Transmit queues that the device was made with.
    pub tx_queues: u32,
    /// The addresses with their prefix lengths, in the kernel's order.
    pub addresses: Vec<IpNet>,
}

impl LinkInfo {
    /// Up and with a carrier: frames can pass.
    pub fn is_running(&self) -> bool {
        self.admin_up && self.carrier
    }

    /// Whether the device is a tap.
    pub fn is_tap(&self) -> bool {
        matches!(self.kind, LinkKind::Tap { .. })
    }

    /// From an `RTM_NEWLINK` message, without addresses. `None` for messages that
    /// speak of something else than a device's state: bridge port changes
    /// (`AF_BRIDGE`) and wireless events carry the same message type.
    pub(super) fn from_message(message: &LinkMessage) -> Option<Self> {
        if message.header.interface_family != AddressFamily::Unspec {
            return None;
        }
        let flags = message.header.flags;
        let mut info = Self {
            index: message.header.index,
            name: String::new(),
            kind: LinkKind::Plain,
            mac: None,
            mtu: 0,
            admin_up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            xdp_prog_id: None,
            master: None,
            peer_index: None,
            rx_queues: 1,
            tx_queues: 1,
            addresses: Vec::new(),
        };
        let mut master_index = None;
        let mut master_kind = MasterKind::Other;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => info.name.clone_from(name),
                LinkAttribute::Address(octets) => info.mac = ethernet_address(octets),
                LinkAttribute::Mtu(mtu) => info.mtu = *mtu,
                LinkAttribute::Controller(index) => master_index = Some(*index),
                LinkAttribute::Link(index) => info.peer_index = Some(*index).filter(|i| *i != 0),
                LinkAttribute::NumRxQueues(queues) => info.rx_queues = *queues,
                LinkAttribute::NumTxQueues(queues) => info.tx_queues = *queues,
                LinkAttribute::Xdp(xdp) => info.xdp_prog_id = xdp_program(xdp),
                LinkAttribute::LinkInfo(infos) => {
                    info.kind = kind_of(infos);
                    master_kind = master_kind_of(infos);
                }
                _ => {}
            }
        }
        if flags.contains(LinkFlags::Loopback) {
            info.kind = LinkKind::Loopback;
        }
        info.master =
            master_index.filter(|index| *index != 0).map(|index| Master { index, kind: master_kind });
        (!info.name.is_empty() && info.mtu != 0).then_some(info)
    }
}

fn kind_of(infos: &[InfoAttribute]) -> LinkKind {
    let mut kind = LinkKind::Plain;
    for info in infos {
        match info {
            InfoAttribute::Kind(name) => {
                kind = match name {
                    InfoKind::Vlan => LinkKind::Vlan,
                    InfoKind::Bond => LinkKind::Bond,
                    InfoKind::Bridge => LinkKind::Bridge,
                    InfoKind::Veth => LinkKind::Veth,
                    InfoKind::Tun => LinkKind::Tun,
                    other => LinkKind::Other(other.to_string()),
                }
            }
            InfoAttribute::Data(InfoData::Tun(attributes))
                if tun_value(attributes, IFLA_TUN_TYPE) == Some(IFF_TAP) =>
            {
                kind = LinkKind::Tap {
                    multi_queue: tun_value(attributes, IFLA_TUN_MULTI_QUEUE) == Some(1),
                    attached: tun_value(attributes, IFLA_TUN_NUM_QUEUES),
                };
            }
            _ => {}
        }
    }
    kind
}

/// The value of a tun device's attribute: one octet, or four in the host's order.
fn tun_value(attributes: &[InfoTun], kind: u16) -> Option<u32> {
    let attribute = attributes.iter().find(|attribute| attribute.kind() == kind)?;
    let mut value = [0; 4];
    match attribute.value_len() {
        1 => {
            attribute.emit_value(&mut value[..1]);
            Some(u32::from(value[0]))
        }
        4 => {
            attribute.emit_value(&mut value);
            Some(u32::from_ne_bytes(value))
        }
        _ => None,
    }
}

fn master_kind_of(infos: &[InfoAttribute]) -> MasterKind {
    infos
        .iter()
        .find_map(|info| match info {
            InfoAttribute::PortKind(InfoPortKind::Bond) => Some(MasterKind::Bond),
            InfoAttribute::PortKind(InfoPortKind::Bridge) => Some(MasterKind::Bridge),
            _ => None,
        })
        .unwrap_or(MasterKind::Other)
}

/// The id of the attached program: the one in use, or with several attached
/// (`XDP_ATTACHED_MULTI`) the driver's.
fn xdp_program(xdp: &[LinkXdp]) -> Option<u32> {
    let pick = |wanted: fn(&LinkXdp) -> Option<u32>| xdp.iter().find_map(wanted);
    pick(|x| if let LinkXdp::ProgId(id) = x { Some(*id) } else { None })
        .or_else(|| pick(|x| if let LinkXdp::DrvProgId(id) = x { Some(*id) } else { None }))
        .or_else(|| pick(|x| if let LinkXdp::SkbProgId(id) = x { Some(*id) } else { None }))
        .or_else(|| pick(|x| if let LinkXdp::HwProgId(id) = x { Some(*id) } else { None }))
        .filter(|id| *id != 0)
}

/// The address and prefix length of an address message. On a point-to-point
/// device `IFA_ADDRESS` is the peer, so that `IFA_LOCAL` comes first.
pub(super) fn address_of(message: &AddressMessage) -> Option<IpNet> {
    let find = |wanted: fn(&AddressAttribute) -> Option<std::net::IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    let address = find(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None })
        .or_else(|| find(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None }))?;
    IpNet::new(address, message.header.prefix_len).ok()
}

/// All devices, by ascending index.
///
/// # Errors
/// [`NetlinkError`] if the kernel does not answer the dumps.
pub async fn list(netlink: &Netlink) -> Result<Vec<LinkInfo>, NetlinkError> {
    let links = collect(netlink.handle().link().get().execute(), "network devices").await?;
    let addresses = collect(netlink.handle().address().get().execute(), "addresses").await?;
    let mut links: Vec<LinkInfo> = links.iter().filter_map(LinkInfo::from_message).collect();
    links.sort_by_key(|link| link.index);
    for message in &addresses {
        let position = links.binary_search_by_key(&message.header.index, |link| link.index);
        if let (Ok(position), Some(address)) = (position, address_of(message)) {
            links[position].addresses.push(address);
        }
    }
    Ok(links)
}

/// The device called `name`, or `None` if there is none.
///
/// # Errors
/// [`NetlinkError`] if the kernel does not answer.
pub async fn find(netlink: &Netlink, name: &str) -> Result<Option<LinkInfo>, NetlinkError> {
    let request = netlink.handle().link().get().match_name(name).execute();
    let found = collect(request, &format!("device `{name}`")).await;
    let link = match found {
        Ok(messages) => messages.iter().find_map(LinkInfo::from_message),
        Err(error) if error.is_absent() => None,
        Err(error) => return Err(error),
    };
    let Some(mut link) = link else {
        return Ok(None);
    };
    let addresses = netlink.handle().address().get().set_link_index_filter(link.index).execute();
    let addresses = collect(addresses, "addresses").await?;
    link.addresses = addresses.iter().filter_map(address_of).collect();
    Ok(Some(link))
}

/// Removes the device with this index; one that is gone already counts as removed.
///
/// # Errors
/// [`NetlinkError`] if the kernel refuses.
pub async fn delete(netlink: &Netlink, index: u32) -> Result<(), NetlinkError> {
    let deleted = netlink.handle().link().del(index).execute().await;
    match deleted.doing(|| format!("remove device {index}")) {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
