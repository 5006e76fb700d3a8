//! Addresses and unicast routes of one device, in the main table.
//!
//! Addresses are single ones (/32, /128): a prefix would make the kernel believe in
//! neighbours on the link. IPv6 addresses skip duplicate detection, which could
//! only hear the router itself.
//!
//! Sources: rtnetlink(7); `RTA_*` in `linux/rtnetlink.h`.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, link::LinkFlags};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::link::address_of;
use super::netlink::{Doing, Netlink, NetlinkError, collect};

/// One route out of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceRoute {
    pub(super) prefix: IpNet,
    pub(super) gateway: Option<IpAddr>,
    /// The gateway is on the link, whatever other routes say.
    pub(super) onlink: bool,
    /// Preferred source address.
    pub(super) src: Option<IpAddr>,
    /// Path MTU; `None` is the device's.
    pub(super) mtu: Option<u32>,
    /// Who installed it (`RTPROT_*`).
    pub(super) protocol: u8,
    /// `None` asks for the kernel's default of the family.
    pub(super) metric: Option<u32>,
}

impl DeviceRoute {
    /// A route to `prefix` with nothing else said, as `ip route add` makes it.
    pub(super) fn to(prefix: IpNet) -> Self {
        Self {
            prefix,
            gateway: None,
            onlink: false,
            src: None,
            mtu: None,
            protocol: u8::from(RouteProtocol::Boot),
            metric: None,
        }
    }

    /// Whether both lead the same way; the metric is compared where both say one.
    pub(super) fn is_equivalent(&self, other: &Self) -> bool {
        let metric = self.metric.or(other.metric);
        Self { metric, ..self.clone() } == Self { metric: other.metric.or(metric), ..other.clone() }
    }

    fn message(&self, index: u32) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(self.prefix.addr()),
            destination_prefix_length: self.prefix.prefix_len(),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::from(self.protocol),
            // IPv6 knows no scopes. In IPv4, a route without a gateway reaches the
            // link, and the gateway of another route must be reached by such a one.
            scope: match (self.prefix, self.gateway) {
                (IpNet::V4(_), None) => RouteScope::Link,
                _ => RouteScope::Universe,
            },
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        if self.onlink {
            message.header.flags = RouteFlags::Onlink;
        }
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Oif(index));
        if self.prefix.prefix_len() > 0 {
            attributes.push(RouteAttribute::Destination(self.prefix.addr().into()));
        }
        attributes.extend(self.gateway.map(|ip| RouteAttribute::Gateway(ip.into())));
        attributes.extend(self.src.map(|ip| RouteAttribute::PrefSource(ip.into())));
        attributes.extend(self.metric.map(RouteAttribute::Priority));
        attributes.extend(self.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
        message
    }

    /// `None` for what this type cannot say: multipath, other tables, other kinds.
    fn from_message(message: &RouteMessage, index: u32) -> Option<Self> {
        let header = &message.header;
        if header.kind != RouteType::Unicast || header.table != RouteHeader::RT_TABLE_MAIN {
            return None;
        }
        let mut destination = match header.address_family {
            AddressFamily::Inet => IpAddr::from([0; 4]),
            AddressFamily::Inet6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        let mut output = None;
        let mut route = Self::to(IpNet::new(destination, 0).ok()?);
        route.protocol = u8::from(header.protocol);
        route.onlink = header.flags.contains(RouteFlags::Onlink);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(oif) => output = Some(*oif),
                RouteAttribute::Destination(address) => destination = ip(address)?,
                RouteAttribute::Gateway(address) => route.gateway = ip(address),
                RouteAttribute::PrefSource(address) => route.src = ip(address),
                RouteAttribute::Priority(metric) => route.metric = Some(*metric),
                RouteAttribute::Metrics(metrics) => {
                    route.mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        route.prefix = IpNet::new(destination, header.destination_prefix_length).ok()?;
        (output == Some(index)).then_some(route)
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The unicast routes of device `index` in the main table, both families. The
/// kernel filters: a node may have a million routes.
pub(super) async fn routes(
    netlink: &Netlink,
    index: u32,
    protocol: Option<u8>,
) -> Result<Vec<DeviceRoute>, NetlinkError> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut filter = RouteMessage::default();
        filter.header.address_family = family;
        filter.header.table = RouteHeader::RT_TABLE_MAIN;
        filter.header.protocol = protocol.unwrap_or_default().into();
        filter.attributes.push(RouteAttribute::Oif(index));
        let dump = netlink.handle().route().get(filter).execute();
        match collect(dump, "routes").await {
            Ok(messages) => {
                let routes = messages.iter().filter_map(|m| DeviceRoute::from_message(m, index));
                found.extend(routes.filter(|r| protocol.is_none_or(|p| p == r.protocol)));
            }
            // A namespace without any route has no table, a removed device no routes.
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Adds a route; `EEXIST` if the table has one to the same prefix already.
pub(super) async fn add_route(
    netlink: &Netlink,
    index: u32,
    route: &DeviceRoute,
) -> Result<(), NetlinkError> {
    let request = netlink.handle().route().add(route.message(index));
    request.execute().await.doing(|| format!("add route {} to device {index}", route.prefix))
}

/// Puts `route` in the place of the one to the same prefix, without a gap.
pub(super) async fn replace_route(
    netlink: &Netlink,
    index: u32,
    route: &DeviceRoute,
) -> Result<(), NetlinkError> {
    let request = netlink.handle().route().add(route.message(index)).replace();
    request.execute().await.doing(|| format!("replace route {} of device {index}", route.prefix))
}

/// Removes a route; one that is gone already counts as removed.
pub(super) async fn remove_route(
    netlink: &Netlink,
    index: u32,
    route: &DeviceRoute,
) -> Result<(), NetlinkError> {
    let removed = netlink.handle().route().del(route.message(index)).execute().await;
    match removed.doing(|| format!("remove route {} from device {index}", route.prefix)) {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

/// The addresses of device `index`, with the mark of who set them (Linux 5.18).
pub(super) async fn addresses(
    netlink: &Netlink,
    index: u32,
) -> Result<Vec<(IpNet, Option<u8>)>, NetlinkError> {
    let dump = netlink.handle().address().get().set_link_index_filter(index).execute();
    let messages = collect(dump, "addresses").await?;
    let marked = messages.iter().filter_map(|message| {
        let mark = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Protocol(AddressProtocol::Other(mark)) => Some(*mark),
            _ => None,
        });
        Some((address_of(message)?, mark))
    });
    Ok(marked.collect())
}

/// Adds a single address, marked with `mark` if given; one that is there already
/// stays as it is. Whether it was added.
pub(super) async fn add_address(
    netlink: &Netlink,
    index: u32,
    address: IpAddr,
    mark: Option<u8>,
) -> Result<bool, NetlinkError> {
    let length = IpNet::from(address).prefix_len();
    let mut request = netlink.handle().address().add(index, address, length);
    let message = request.message_mut();
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    if let Some(mark) = mark {
        message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(mark)));
    }
    let added = request.execute().await.doing(|| format!("add address {address} to device {index}"));
    match added {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes an address; one that is gone already counts as removed.
pub(super) async fn remove_address(
    netlink: &Netlink,
    index: u32,
    address: IpNet,
) -> Result<(), NetlinkError> {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.index = index;
    message.header.prefix_len = address.prefix_len();
    message.attributes.push(AddressAttribute::Local(address.addr()));
    let removed = netlink.handle().address().del(message).execute().await;
    match removed.doing(|| format!("remove address {address} from device {index}")) {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

/// A change of a device's settings, begun by its index.
pub(super) fn settings(index: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(index)
}

/// Applies a change of settings; one without any is not sent.
pub(super) async fn change(
    netlink: &Netlink,
    name: &str,
    settings: LinkMessageBuilder<LinkUnspec>,
) -> Result<(), NetlinkError> {
    let message = settings.build();
    if message.attributes.is_empty() && message.header.change_mask == LinkFlags::empty() {
        return Ok(());
    }
    netlink.handle().link().change(message).execute().await.doing(|| format!("configure `{name}`"))
}
