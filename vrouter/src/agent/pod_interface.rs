//! A pod's interface: made or adopted, brought into force, removed.
//!
//! ```text
//!  prepare    device exists, MAC and MTU known, DOWN        <- port and tables are
//!     |                                                        built on this
//!  activate   addresses /32 /128, UP, routes                <- once they are in force
//!     |
//!  remove     device gone (safe to repeat; the namespace may be gone too)
//!
//!  inside the pod:  169.254.1.1 dev eth0 scope link
//!                   default via 169.254.1.1 dev eth0
//!                   default via fe80::ecee:eeff:feee:eeee dev eth0
//! ```
//!
//! | | tap | veth |
//! |---|---|---|
//! | inside | a persistent tap, made there | the peer, made there |
//! | here | its queues, file descriptors | the host end `vr` + 11 hex digits |
//! | adopted if | `eth0` is a tap that nobody holds | `eth0` is the host end's peer |
//!
//! Adoption changes only what is not right already: it keeps the device, its MAC,
//! and whatever the pod added, and never switches it off. The MAC of a new device
//! is the kernel's random, locally administered one, unless one is asked for; being
//! adopted it stays.
//!
//! No neighbour entries are made: the dataplane answers ARP and ND for the gateways.
//!
//! Both steps are all-or-nothing: what a failed call made, it removes. They must run
//! to their end: a future dropped half-way leaves what it has made.

mod activation;
mod error;
mod tap;
mod veth;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use encap::MacAddr;
use serde::{Deserialize, Serialize};

use super::link::{self, LinkInfo, LinkKind};
use super::netlink::{Netlink, NetlinkError};
use super::sysctl::{self, SysctlError};
use super::{GATEWAY_V4, GATEWAY_V6, device_route};
use crate::sys::netns::Netns;
use crate::sys::steering::{self, EgressSteering};
use crate::sys::tun::Tap;

use error::OfPod;

pub use error::PodInterfaceError;

/// RFC 8200 section 5: the least MTU on which IPv6 runs.
const IPV6_LEAST_MTU: u32 = 1280;
/// RFC 791: every host takes packets of this size.
const IPV4_LEAST_MTU: u32 = 68;

/// How a pod's interface is attached to the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// A persistent tap inside the pod's namespace.
    Tap,
    /// A veth pair with its host end here.
    Veth,
}

/// A pod's interface as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodInterfaceSpec {
    /// The pod, `namespace/name`.
    pub pod: String,
    /// Path of its network namespace.
    pub netns: PathBuf,
    /// The interface's name inside, `eth0` as a rule.
    pub interface: String,
    /// How it is attached.
    pub attach: Attach,
    /// Its addresses, one or more, of either family or both.
    pub addresses: Vec<IpAddr>,
    /// Its MAC address; `None` keeps an adopted one or takes a random one.
    pub mac: Option<MacAddr>,
    /// Its MTU in octets.
    pub mtu: u32,
    /// Queues of a new device in each direction, 1 or more; an adopted veth pair keeps what it has, and
    /// so does an adopted tap with one.
    pub queues: u16,
}

/// What it takes to remove an interface later, also after a restart and after the
/// pod's namespace has gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodInterfaceRecord {
    /// Path of the pod's namespace.
    pub netns: PathBuf,
    /// Device and inode number of the namespace: another one may come to stand at
    /// the same path.
    pub netns_id: (u64, u64),
    /// The interface's name inside.
    pub interface: String,
    /// How it was attached.
    pub attach: Attach,
    /// The host end of a veth pair.
    #[serde(default)]
    pub host_device: Option<String>,
}

/// The router's side of a prepared interface.
#[derive(Debug)]
pub(crate) enum HostEnd {
    /// The queues of a tap.
    Tap(Vec<Tap>),
    /// The host end of a veth pair, switched on.
    Veth {
        /// Its name in the node's namespace.
        name: String,
        /// Its index there.
        index: u32,
    },
}

/// A prepared interface. Dropping it leaves the device as it is; it holds two file
/// descriptors besides the queues, so drop it once the pod is active.
#[derive(Debug)]
pub struct PodInterface {
    spec: PodInterfaceSpec,
    netns: Arc<Netns>,
    /// Requests inside the pod's namespace.
    inside: Netlink,
    /// The device inside.
    link: LinkInfo,
    host_end: HostEnd,
    /// Of a veth pair of several queues.
    steering: Option<EgressSteering>,
    adopted: bool,
}

impl PodInterface {
    /// Makes the device, or adopts it. A new one is down; an adopted one is as it
    /// was. `node` is a socket in the node's namespace, and so is the calling thread.
    ///
    /// # Errors
    /// [`PodInterfaceError`]; what this call made is gone then.
    pub async fn prepare(node: &Netlink, spec: PodInterfaceSpec) -> Result<Self, PodInterfaceError> {
        validate(&spec)?;
        let pod = spec.pod.clone();
        let netns = Netns::open(&spec.netns)
            .map_err(|error| PodInterfaceError::Netns { pod: pod.clone(), source: error.into() })?;
        let netns = Arc::new(netns);
        let inside = Netlink::connect_in(&netns).of(&pod)?;
        let existing = link::find(&inside, &spec.interface).await.of(&pod)?;
        let adopted = existing.is_some();
        let place = Place { node, inside: &inside, netns: &netns, spec: &spec };
        let host_end = match spec.attach {
            Attach::Tap => HostEnd::Tap(tap::open(&place).await?),
            Attach::Veth => veth::open(&place, existing).await?,
        };
        let link = match place.finish(&host_end).await {
            Ok(link) => link,
            Err(error) => {
                if !adopted {
                    place.discard(&host_end).await?;
                }
                return Err(error);
            }
        };
        let steering = place.steer(&host_end).await?;
        Ok(Self { spec, netns, inside, link, host_end, steering, adopted })
    }

    /// What was asked for.
    pub fn spec(&self) -> &PodInterfaceSpec {
        &self.spec
    }

    /// The MAC address of the pod's end.
    pub fn mac(&self) -> Option<MacAddr> {
        self.link.mac
    }

    /// The interface index of the pod's end, inside its namespace.
    pub fn index_inside(&self) -> u32 {
        self.link.index
    }

    /// Whether the device was there already.
    pub fn was_adopted(&self) -> bool {
        self.adopted
    }

    /// Name and index of the host end of a veth pair; `None` for a tap.
    pub fn host_device(&self) -> Option<(&str, u32)> {
        match &self.host_end {
            HostEnd::Tap(_) => None,
            HostEnd::Veth { name, index } => Some((name, *index)),
        }
    }

    /// The queues of a tap, for the port; empty for a veth, and when called again.
    #[allow(dead_code)]
    pub(crate) fn take_queues(&mut self) -> Vec<Tap> {
        match &mut self.host_end {
            HostEnd::Tap(queues) => std::mem::take(queues),
            HostEnd::Veth { .. } => Vec::new(),
        }
    }

    /// What makes the queues of a veth pair the same for both ways of a flow, as long as it is kept.
    pub(crate) fn take_steering(&mut self) -> Option<EgressSteering> {
        self.steering.take()
    }

    /// What [`remove`] needs.
    pub fn record(&self) -> PodInterfaceRecord {
        PodInterfaceRecord {
            netns: self.spec.netns.clone(),
            netns_id: self.netns.identity(),
            interface: self.spec.interface.clone(),
            attach: self.spec.attach,
            host_device: self.host_device().map(|(name, _)| name.to_owned()),
        }
    }

    /// Gives the pod its addresses and routes and switches the interface on. What is
    /// right already stays untouched, so that repeating it repairs and never flaps.
    ///
    /// # Errors
    /// [`PodInterfaceError`]; what this call added is gone then, and the interface
    /// is down again if it was.
    pub async fn activate(&self) -> Result<(), PodInterfaceError> {
        activation::activate(&self.inside, &self.spec, self.link.index).await
    }
}

/// Removes an interface. One that is gone already, alone or with its namespace,
/// counts as removed; a device that came to bear its name and is not of its kind is
/// left alone.
///
/// # Errors
/// [`PodInterfaceError::Netlink`] if the kernel refuses.
pub async fn remove(node: &Netlink, pod: &str, record: &PodInterfaceRecord) -> Result<(), PodInterfaceError> {
    // Removing either end of a veth pair removes both, at once.
    if let Some(host_device) = &record.host_device
        && let Some(link) = link::find(node, host_device).await.of(pod)?
        && link.kind == LinkKind::Veth
    {
        link::delete(node, link.index).await.of(pod)?;
    }
    if record.attach == Attach::Tap
        && let Some(netns) = same_netns(&record.netns, record.netns_id)
    {
        let inside = Netlink::connect_in(&netns).of(pod)?;
        if let Some(link) = link::find(&inside, &record.interface).await.of(pod)?
            && link.is_tap()
        {
            link::delete(&inside, link.index).await.of(pod)?;
        }
    }
    Ok(())
}

/// The namespace at `path`, if it is still the one with this identity.
fn same_netns(path: &Path, id: (u64, u64)) -> Option<Netns> {
    Netns::open(path).ok().filter(|netns| netns.identity() == id)
}

fn validate(spec: &PodInterfaceSpec) -> Result<(), PodInterfaceError> {
    let invalid = |reason: String| PodInterfaceError::Invalid { pod: spec.pod.clone(), reason };
    if spec.addresses.is_empty() {
        return Err(invalid("it has no address".into()));
    }
    let has_v6 = spec.addresses.iter().any(IpAddr::is_ipv6);
    let least = if has_v6 { IPV6_LEAST_MTU } else { IPV4_LEAST_MTU };
    if spec.mtu < least {
        let family = if has_v6 { "IPv6" } else { "IPv4" };
        return Err(invalid(format!("an MTU of {} is too small: {family} needs {least}", spec.mtu)));
    }
    for (position, address) in spec.addresses.iter().enumerate() {
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return Err(invalid(format!("{address} cannot be a pod's address")));
        }
        if *address == IpAddr::V4(GATEWAY_V4) || *address == IpAddr::V6(GATEWAY_V6) {
            return Err(invalid(format!("{address} is the gateway's address")));
        }
        if spec.addresses[..position].contains(address) {
            return Err(invalid(format!("address {address} is given twice")));
        }
    }
    if let Some(mac) = spec.mac
        && !mac.is_unicast()
    {
        return Err(invalid(format!("{mac} cannot be an interface's MAC address")));
    }
    Ok(())
}

/// Where an interface is being prepared.
struct Place<'a> {
    node: &'a Netlink,
    inside: &'a Netlink,
    netns: &'a Arc<Netns>,
    spec: &'a PodInterfaceSpec,
}

impl Place<'_> {
    fn occupied(&self, reason: String) -> PodInterfaceError {
        PodInterfaceError::Occupied {
            pod: self.spec.pod.clone(),
            interface: self.spec.interface.clone(),
            netns: self.spec.netns.clone(),
            reason,
        }
    }

    /// Runs `work` inside the pod's namespace, away from the runtime's threads: it
    /// may wait for the kernel's configuration lock.
    async fn run_inside<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, PodInterfaceError> {
        let netns = Arc::clone(self.netns);
        let result = tokio::task::spawn_blocking(move || netns.run_in(work)).await;
        result
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
            .map_err(|error| PodInterfaceError::Netns { pod: self.spec.pod.clone(), source: error.into() })
    }

    /// What is to be done once the device is there and open.
    async fn finish(&self, host_end: &HostEnd) -> Result<LinkInfo, PodInterfaceError> {
        let link = self.configure().await?;
        if let HostEnd::Tap(queues) = host_end {
            for queue in queues {
                let kept = queue.set_persistent(true);
                kept.map_err(|error| PodInterfaceError::Tap {
                    pod: self.spec.pod.clone(),
                    source: error.into(),
                })?;
            }
        }
        Ok(link)
    }

    /// Has both ways of a flow go by one queue of a veth pair. Where the kernel cannot, the two ways have
    /// different queues, which costs speed and nothing else.
    async fn steer(&self, host_end: &HostEnd) -> Result<Option<EgressSteering>, PodInterfaceError> {
        if matches!(host_end, HostEnd::Tap(_)) {
            return Ok(None);
        }
        let device = self.spec.interface.clone();
        let steering = self.run_inside(move || steering::steer_egress(&device)).await?;
        Ok(steering.unwrap_or_else(|error| {
            tracing::debug!("pod {}: {error}", self.spec.pod);
            None
        }))
    }

    /// Removes a device that was made and could not be finished. A tap would also go
    /// with its queues, but not before the last copy of their descriptors is closed.
    async fn discard(&self, host_end: &HostEnd) -> Result<(), PodInterfaceError> {
        let pod = &self.spec.pod;
        match host_end {
            HostEnd::Veth { index, .. } => link::delete(self.node, *index).await.of(pod),
            HostEnd::Tap(_) => match link::find(self.inside, &self.spec.interface).await.of(pod)? {
                Some(link) => link::delete(self.inside, link.index).await.of(pod),
                None => Ok(()),
            },
        }
    }

    /// MAC, MTU and settings of the device inside, as far as they are not right.
    async fn configure(&self) -> Result<LinkInfo, PodInterfaceError> {
        let (pod, interface) = (&self.spec.pod, &self.spec.interface);
        let link = self.link().await?;
        let mut settings = device_route::settings(link.index);
        if let Some(mac) = self.spec.mac.filter(|mac| link.mac != Some(*mac)) {
            settings = settings.address(mac.0.to_vec());
        }
        if link.mtu != self.spec.mtu {
            settings = settings.mtu(self.spec.mtu);
        }
        device_route::change(self.inside, interface, settings).await.of(pod)?;
        let device = interface.clone();
        let has_v6 = self.spec.addresses.iter().any(IpAddr::is_ipv6);
        self.run_inside(move || configure_ipv6(&device, has_v6)).await?.of(pod)?;
        self.link().await
    }

    async fn link(&self) -> Result<LinkInfo, PodInterfaceError> {
        let (pod, interface) = (&self.spec.pod, &self.spec.interface);
        link::find(self.inside, interface).await.of(pod)?.ok_or_else(|| PodInterfaceError::Netlink {
            pod: pod.clone(),
            source: NetlinkError::NoAnswer {
                action: format!("configure `{interface}`"),
                reason: "it was removed meanwhile".into(),
            },
        })
    }
}

/// No duplicate detection, which would delay the first packet by a second; no router
/// advertisements, which nobody sends. A pod without IPv6 addresses may be in a
/// kernel without IPv6.
fn configure_ipv6(device: &str, has_v6: bool) -> Result<(), SysctlError> {
    let mut settings = vec![("accept_dad", "0"), ("accept_ra", "0")];
    if has_v6 {
        settings.push(("disable_ipv6", "0"));
    }
    for (key, value) in settings {
        match sysctl::write(&format!("ipv6/conf/{device}/{key}"), value) {
            Err(error) if error.is_absent() && !has_v6 => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
