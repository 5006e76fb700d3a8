//! The host port: a tap in the node's own namespace, through which the node's stack
//! reaches pods and pods reach their node.
//!
//! ```text
//!  node's stack --- vrouter0 (tap) === queues ===> dataplane
//!    addresses  a block address /32, the source where the pool encapsulates
//!    routes     PREFIX via 169.254.1.1 dev vrouter0 onlink [src ADDR] [mtu N]  proto 196
//!               PREFIX via fe80::ecee:eeff:feee:eeee dev vrouter0 ...
//!    neighbours both gateways, permanent, at ee:ee:ee:ee:ee:ee
//! ```
//!
//! All routes go through a gateway, so that the node resolves one neighbour instead
//! of every pod; its entry is permanent, so that it resolves none at all.
//!
//! The tap is persistent: a router that starts again adopts it, and the node's
//! connections to pods go on. [`HostPort::sync`] is idempotent and repairs: switched
//! off and on, the device has lost its routes and neighbours, and the next sync
//! restores them.
//!
//! Ours to remove is only what bears our mark ([`ROUTE_PROTOCOL`]): what an
//! administrator puts on the device stays, and a prefix that has a route of another
//! owner is reported, not overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use encap::MacAddr;
use ipnet::IpNet;
use rtnetlink::packet_route::neighbour::NeighbourState;
use tokio::time::sleep;

use super::device_route::{
    self, DeviceRoute, add_address, add_route, remove_address, remove_route, replace_route,
};
use super::held::{Attempt, Patience};
use super::link::{self, LinkInfo, LinkKind};
use super::netlink::{Doing, Netlink, NetlinkError, ROUTE_PROTOCOL};
use super::sysctl::{self, SysctlError};
use super::{GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6};
use crate::sys::tun::{Tap, TapError};

/// What the host port is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPortSpec {
    /// The device's name, `vrouter0` by default.
    pub name: String,
    /// Its MAC address: the node's side of the link.
    pub mac: MacAddr,
    /// Its MTU in octets.
    pub mtu: u32,
    /// Queues, 1 or more. A device that was made with one queue keeps one.
    pub queues: u16,
}

/// What the node's stack is to have on the host port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostPortPlan {
    /// The node's addresses on the device, each alone (/32, /128).
    pub addresses: Vec<IpAddr>,
    /// What the node reaches through it.
    pub routes: Vec<HostRoute>,
}

/// A prefix that the node reaches through the host port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoute {
    /// Where to.
    pub prefix: IpNet,
    /// The preferred source; it must be an address of the node.
    pub src: Option<IpAddr>,
    /// The path's MTU in octets, if it is less than the device's.
    pub mtu: Option<u32>,
}

/// What a [`HostPort::sync`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
#[must_use = "prefixes in `taken` are not reachable through the host port"]
pub struct SyncReport {
    /// Addresses and routes added.
    pub added: usize,
    /// Routes changed in place.
    pub replaced: usize,
    /// Addresses and routes removed.
    pub removed: usize,
    /// Planned prefixes that the node has a route to from another owner. That
    /// route stands; nothing was overwritten.
    pub taken: Vec<IpNet>,
}

/// Source address validation by the kernel (RFC 3704; `rp_filter` of `ip-sysctl`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReversePathFilter {
    /// None.
    Off,
    /// The packet's device must be the one that its source is routed to.
    Strict,
    /// Its source must be routed to some device.
    Loose,
}

/// Why the host port could not be made or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostPortError {
    /// The name is taken by another kind of device.
    #[error("`{name}` is a {kind} device, not a tap: remove it, or give the host port another name")]
    NotATap {
        /// The device.
        name: String,
        /// What it is.
        kind: LinkKind,
    },
    /// Another process has the tap open.
    #[error("host port `{name}` is held by another process: is another router running?")]
    Busy {
        /// The device.
        name: String,
    },
    /// The tap driver refused.
    #[error("cannot open host port: {0}")]
    Tap(#[source] io::Error),
    /// The kernel refused a change.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The kernel refused a setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// The host port, open.
#[derive(Debug)]
pub struct HostPort {
    netlink: Netlink,
    link: LinkInfo,
    taps: Vec<Tap>,
    loosened: bool,
}

impl HostPort {
    /// Makes the device, or adopts it if it is there, and switches it on. The
    /// calling thread must be in the namespace of `netlink`.
    ///
    /// # Errors
    /// [`HostPortError`]; a device that this call made is gone then.
    pub async fn open(netlink: &Netlink, spec: &HostPortSpec) -> Result<Self, HostPortError> {
        let patience = Patience::new();
        let (existing, taps) = loop {
            match open_queues(netlink, spec).await {
                Ok(opened) => break opened,
                Err(failure) => sleep(patience.pause(failure)?).await,
            }
        };
        let adopted = existing.is_some();
        let opened = match existing {
            Some(link) => Ok(link),
            None => found(netlink, &spec.name).await,
        };
        let opened = match opened {
            Ok(link) => configure(netlink, spec, &link, &taps).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok((link, loosened)) => Ok(Self { netlink: netlink.clone(), link, taps, loosened }),
            Err(error) => {
                // It would also go with its queues, but not before the last copy of
                // their descriptors is closed.
                if !adopted {
                    remove(netlink, &spec.name).await?;
                }
                Err(error)
            }
        }
    }

    /// The device as it was after it was opened.
    pub fn link(&self) -> &LinkInfo {
        &self.link
    }

    /// Whether strict source validation was in force and was set to loose for this
    /// device. Strict validation drops what the node has no route to through the
    /// host port: errors from routers on the path of the node's own packets.
    pub fn loosened_reverse_path_filter(&self) -> bool {
        self.loosened
    }

    /// The queues, for the port; empty when called again.
    #[allow(dead_code)]
    pub(crate) fn take_queues(&mut self) -> Vec<Tap> {
        std::mem::take(&mut self.taps)
    }

    /// Makes the node's addresses, neighbours and routes on the device equal to
    /// `plan`: addresses first, since routes name them as sources.
    ///
    /// # Errors
    /// [`HostPortError`]; what was done until then stays, and the next sync goes on
    /// from there.
    pub async fn sync(&mut self, plan: &HostPortPlan) -> Result<SyncReport, HostPortError> {
        let mut report = SyncReport::default();
        let (netlink, index) = (&self.netlink, self.link.index);
        let up = device_route::settings(index).up();
        device_route::change(netlink, &self.link.name, up).await?;
        self.pin_gateways().await?;

        let planned: BTreeSet<IpNet> = plan.addresses.iter().map(|ip| IpNet::from(*ip)).collect();
        let present = device_route::addresses(netlink, index).await?;
        for address in &planned {
            if !present.iter().any(|(net, _)| net == address)
                && add_address(netlink, index, address.addr(), Some(ROUTE_PROTOCOL)).await?
            {
                report.added += 1;
            }
        }
        self.sync_routes(plan, &mut report).await?;
        let mut lost_addresses = false;
        for (address, mark) in present {
            if mark == Some(ROUTE_PROTOCOL) && !planned.contains(&address) {
                remove_address(netlink, index, address).await?;
                report.removed += 1;
                lost_addresses = true;
            }
        }
        // With its last address a device loses its routes, and with any address those that
        // name it as source.
        if lost_addresses {
            self.sync_routes(plan, &mut SyncReport::default()).await?;
        }
        Ok(report)
    }

    async fn sync_routes(&self, plan: &HostPortPlan, report: &mut SyncReport) -> Result<(), HostPortError> {
        let (netlink, index) = (&self.netlink, self.link.index);
        let planned: BTreeMap<IpNet, DeviceRoute> =
            plan.routes.iter().map(|route| (route.prefix.trunc(), device_route(route))).collect();
        let present = device_route::routes(netlink, index, Some(ROUTE_PROTOCOL)).await?;
        for route in present.iter().filter(|route| !planned.contains_key(&route.prefix)) {
            remove_route(netlink, index, route).await?;
            report.removed += 1;
        }
        for (prefix, route) in &planned {
            match present.iter().find(|present| present.prefix == *prefix) {
                Some(present) if present.is_equivalent(route) => {}
                Some(_) => {
                    replace_route(netlink, index, route).await?;
                    report.replaced += 1;
                }
                None => match add_route(netlink, index, route).await {
                    Ok(()) => report.added += 1,
                    Err(error) if error.errno() == Some(libc::EEXIST) => report.taken.push(*prefix),
                    Err(error) => return Err(error.into()),
                },
            }
        }
        Ok(())
    }

    /// The gateways' permanent neighbour entries.
    async fn pin_gateways(&self) -> Result<(), HostPortError> {
        for gateway in [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)] {
            if gateway.is_ipv6() && !has_ipv6(&self.link.name) {
                continue;
            }
            self.netlink
                .handle()
                .neighbours()
                .add(self.link.index, gateway)
                .link_layer_address(&GATEWAY_MAC.0)
                .state(NeighbourState::Permanent)
                .replace()
                .execute()
                .await
                .doing(|| format!("set neighbour {gateway} of `{}`", self.link.name))?;
        }
        Ok(())
    }

    /// Removes the device, and with it its addresses and routes. The queues must
    /// not be used afterwards.
    ///
    /// # Errors
    /// [`HostPortError::Netlink`]; a device that is gone already counts as removed.
    pub async fn remove(self) -> Result<(), HostPortError> {
        Ok(link::delete(&self.netlink, self.link.index).await?)
    }
}

/// The device as it was found, and its queues.
async fn open_queues(
    netlink: &Netlink,
    spec: &HostPortSpec,
) -> Result<(Option<LinkInfo>, Vec<Tap>), Attempt<HostPortError>> {
    let held = || Attempt::Held(HostPortError::Busy { name: spec.name.clone() });
    let existing = link::find(netlink, &spec.name).await.map_err(HostPortError::from)?;
    let multi_queue = match existing.as_ref().map(|link| &link.kind) {
        None => spec.queues > 1,
        Some(LinkKind::Tap { multi_queue, attached }) => {
            // A tap with several queues would just give us one more.
            if attached.is_some_and(|queues| queues > 0) {
                return Err(held());
            }
            *multi_queue
        }
        Some(kind) => {
            let (name, kind) = (spec.name.clone(), kind.clone());
            return Err(HostPortError::NotATap { name, kind }.into());
        }
    };
    let queues = if multi_queue { spec.queues.max(1) } else { 1 };
    let taps = (0..queues).map(|_| Tap::open(&spec.name, multi_queue)).collect::<Result<_, _>>();
    match taps {
        Ok(taps) => Ok((existing, taps)),
        Err(TapError::Busy { .. }) => Err(held()),
        Err(other) => Err(HostPortError::Tap(io::Error::other(other)).into()),
    }
}

/// Removes a host port that an earlier router left, by its name. One that is gone
/// counts as removed; a device of another kind is left alone.
///
/// # Errors
/// [`HostPortError::Netlink`] if the kernel refuses.
pub async fn remove(netlink: &Netlink, name: &str) -> Result<(), HostPortError> {
    match link::find(netlink, name).await? {
        Some(link) if link.is_tap() => Ok(link::delete(netlink, link.index).await?),
        _ => Ok(()),
    }
}

/// Brings an open device to what is asked for; the result, and whether its source
/// validation was loosened.
async fn configure(
    netlink: &Netlink,
    spec: &HostPortSpec,
    link: &LinkInfo,
    taps: &[Tap],
) -> Result<(LinkInfo, bool), HostPortError> {
    quiet_ipv6(&link.name)?;
    let mut settings = device_route::settings(link.index).up();
    if link.mac != Some(spec.mac) {
        settings = settings.address(spec.mac.0.to_vec());
    }
    if link.mtu != spec.mtu {
        settings = settings.mtu(spec.mtu);
    }
    device_route::change(netlink, &link.name, settings).await?;
    let loosened = loosen_reverse_path_filter(&link.name)?;
    for tap in taps {
        tap.set_persistent(true).map_err(|error| HostPortError::Tap(error.into()))?;
    }
    Ok((found(netlink, &spec.name).await?, loosened))
}

/// The device, which must be there.
async fn found(netlink: &Netlink, name: &str) -> Result<LinkInfo, HostPortError> {
    link::find(netlink, name).await?.ok_or_else(|| {
        let action = format!("configure `{name}`");
        let reason = "it was removed meanwhile".to_owned();
        HostPortError::Netlink(NetlinkError::NoAnswer { action, reason })
    })
}

fn device_route(route: &HostRoute) -> DeviceRoute {
    let gateway = match route.prefix {
        IpNet::V4(_) => IpAddr::V4(GATEWAY_V4),
        IpNet::V6(_) => IpAddr::V6(GATEWAY_V6),
    };
    DeviceRoute {
        gateway: Some(gateway),
        // No address of the device covers the IPv4 gateway; the IPv6 one is
        // link-local, which is on the link by itself.
        onlink: gateway.is_ipv4(),
        src: route.src,
        mtu: route.mtu,
        protocol: ROUTE_PROTOCOL,
        ..DeviceRoute::to(route.prefix.trunc())
    }
}

fn has_ipv6(device: &str) -> bool {
    sysctl::read(&format!("ipv6/conf/{device}/disable_ipv6")).is_ok_and(|value| value == "0")
}

/// No link-local address, no router solicitations: nobody on the other side has use
/// for them. A kernel without IPv6 needs nothing.
fn quiet_ipv6(device: &str) -> Result<(), SysctlError> {
    for (key, value) in
        [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0"), ("addr_gen_mode", "1")]
    {
        match sysctl::write(&format!("ipv6/conf/{device}/{key}"), value) {
            Err(error) if error.is_absent() => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

fn loosen_reverse_path_filter(device: &str) -> Result<bool, SysctlError> {
    if reverse_path_filter(device)? != ReversePathFilter::Strict {
        return Ok(false);
    }
    sysctl::write(&format!("ipv4/conf/{device}/rp_filter"), "2")?;
    Ok(true)
}

/// The IPv4 source validation in force on `device`, in the calling thread's
/// namespace: the greater of the device's setting and that for all devices.
///
/// # Errors
/// [`SysctlError`], also if there is no such device.
pub fn reverse_path_filter(device: &str) -> Result<ReversePathFilter, SysctlError> {
    let mut filter = ReversePathFilter::Off;
    for key in ["all", device] {
        let value = sysctl::read(&format!("ipv4/conf/{key}/rp_filter"))?;
        filter = filter.max(match value.as_str() {
            "0" => ReversePathFilter::Off,
            "1" => ReversePathFilter::Strict,
            _ => ReversePathFilter::Loose,
        });
    }
    Ok(filter)
}

#[cfg(test)]
mod tests;
