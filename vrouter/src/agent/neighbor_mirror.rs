//! The kernel's neighbour table as the dataplane's, for uplinks that the kernel
//! shares.
//!
//! The kernel owns ARP and ND on such an uplink; we read its answers. But it sees
//! none of our traffic, and would let our next hops go stale and be collected. So
//! each next hop is installed as a *managed* entry, which the kernel resolves and
//! keeps resolved by itself:
//!
//! ```text
//!  ensure(if, ip) --> RTM_NEWNEIGH  NTF_USE, NDA_FLAGS_EXT = NTF_EXT_MANAGED,
//!                                   NDA_PROTOCOL = 196 (our mark)
//!  RTM_{NEW,DEL}NEIGH, dumps --> table --> NeighborEvent { if, ip, mac, state }
//!  every second: a next hop that is missing, failed or not managed is asked for again
//! ```
//!
//! The last line serves four ends: entries that the kernel flushed (a carrier
//! loss, `ip neigh flush`) come back, neighbours that return are found soon, next hops on a device that is down start once
//! it is up, and kernels without managed entries (before 5.16) are kept probing by
//! repeated `NTF_USE`, which is what a packet to the neighbour would do.
//!
//! Usable states are those in which the kernel itself would send to the address it
//! has: REACHABLE, STALE, DELAY, PROBE, PERMANENT, NOARP.
//!
//! Invariant: an entry that an administrator made permanent, or that is managed for
//! another program, is never touched, and only entries with our mark are removed. The mark also survives us, so that a
//! router that starts again recognises its own entries ([`NeighborMirror::sweep`]).
//!
//! Sources: `neigh_add`, `__neigh_update` and `neigh_managed_work` in the kernel's
//! `net/core/neighbour.c`; RFC 4861 7.3.2 for the states.

mod table;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::netlink::{
    Doing, NOTIFICATION_BUFFER, Netlink, NetlinkError, Notification, Notifications, ROUTE_PROTOCOL, collect,
};
use table::NeighborTable;

pub use table::{NeighborEvent, NeighborState};

/// How often a missing, failed or unmanaged next hop is asked for again.
const REPAIR_PERIOD: Duration = Duration::from_secs(1);

/// A neighbour's identity: interface index and address.
type Key = (u32, IpAddr);

/// How next hops are kept resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KeepResolved {
    /// By managed entries, and by probing where the kernel does not know them.
    #[default]
    Managed,
    /// By probing alone.
    Probing,
}

/// The kernel's neighbour table in the namespace in which it was started.
#[derive(Debug)]
pub struct NeighborMirror {
    netlink: Netlink,
    notifications: Notifications,
    keep: KeepResolved,
    table: NeighborTable,
    wanted: BTreeSet<Key>,
    events: VecDeque<NeighborEvent>,
    /// A dump is due: at the start, and after notifications were lost.
    stale: bool,
    repair: Interval,
}

impl NeighborMirror {
    /// Subscribes in the calling thread's namespace. The first events describe the
    /// entries that are there.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    ///
    /// # Panics
    /// Outside a tokio runtime with timers.
    pub fn start(keep: KeepResolved) -> Result<Self, NetlinkError> {
        let mut repair = interval(REPAIR_PERIOD);
        repair.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            notifications: Notifications::subscribe(&[MulticastGroup::Neigh], NOTIFICATION_BUFFER)?,
            netlink: Netlink::connect()?,
            keep,
            table: NeighborTable::default(),
            wanted: BTreeSet::new(),
            events: VecDeque::new(),
            stale: true,
            repair,
        })
    }

    /// From now on the kernel resolves `ip` on the device `ifindex` and keeps it
    /// resolved. What it finds comes as events; if the entry is known already, its
    /// present state comes again. Asking twice is harmless.
    ///
    /// # Errors
    /// [`NetlinkError`] if the kernel refuses for another reason than that the
    /// device is down or gone; in those cases it is tried again every second.
    pub async fn ensure(&mut self, ifindex: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        let key = (ifindex, ip);
        if self.stale {
            self.refresh().await?;
        }
        self.install(key).await?;
        self.wanted.insert(key);
        self.events.extend(self.table.event(key));
        Ok(())
    }

    /// Ends what [`ensure`](Self::ensure) began. The kernel's entry is removed if
    /// it bears our mark; an administrator's stays as it is.
    ///
    /// # Errors
    /// [`NetlinkError`] if the kernel refuses.
    pub async fn release(&mut self, ifindex: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        let key = (ifindex, ip);
        self.wanted.remove(&key);
        self.refresh().await?;
        if self.table.is_ours(key) { self.remove(key).await } else { Ok(()) }
    }

    /// Removes the entries with our mark that nobody asked for since the start: a
    /// former router's. To be called once the configuration is in force.
    ///
    /// # Errors
    /// [`NetlinkError`] if the kernel refuses.
    pub async fn sweep(&mut self) -> Result<(), NetlinkError> {
        self.refresh().await?;
        for key in self.table.ours() {
            if !self.wanted.contains(&key) {
                self.remove(key).await?;
            }
        }
        Ok(())
    }

    /// The next change. Cancel-safe. Next hops are kept alive from within: the
    /// future must be polled.
    ///
    /// # Errors
    /// [`NetlinkError`] if a dump or a repair fails (both are tried again by later
    /// calls) or the notification socket ended.
    pub async fn next(&mut self) -> Result<NeighborEvent, NetlinkError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if self.stale {
                self.refresh().await?;
                continue;
            }
            tokio::select! {
                notification = self.notifications.next() => match notification? {
                    Notification::Change(message) => self.table.apply(&message, &mut self.events),
                    Notification::Overrun => self.stale = true,
                },
                _ = self.repair.tick() => self.repair_wanted().await?,
            }
        }
    }

    /// Makes the table equal to the kernel's.
    async fn refresh(&mut self) -> Result<(), NetlinkError> {
        let mut dump = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = self.netlink.handle().neighbours().get().set_address_family(family);
            dump.extend(collect(request.execute(), "neighbours").await?);
        }
        self.table.resync(&dump, &mut self.events);
        self.stale = false;
        Ok(())
    }

    async fn repair_wanted(&mut self) -> Result<(), NetlinkError> {
        let missing: Vec<Key> =
            self.wanted.iter().filter(|key| self.table.needs_use(**key)).copied().collect();
        for key in missing {
            self.install(key).await?;
        }
        Ok(())
    }

    /// Asks the kernel to resolve `key` now, and to manage it if it can.
    async fn install(&mut self, (ifindex, ip): Key) -> Result<(), NetlinkError> {
        if self.table.is_kept_by_others((ifindex, ip)) {
            return Ok(());
        }
        let mut message = message_for(ifindex, ip);
        message.header.flags = NeighbourFlags::Use;
        if self.keep == KeepResolved::Managed {
            message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        }
        message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(ROUTE_PROTOCOL)));
        let answer = self
            .request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE, || {
                format!("have neighbour {ip} on device {ifindex} resolved")
            })
            .await;
        match answer {
            // The device is down, gone, or has no such protocol yet: EINVAL is the
            // kernel's answer for a device without IPv4 or IPv6 state.
            Err(error)
                if error.is_absent() || matches!(error.errno(), Some(libc::ENETDOWN | libc::EINVAL)) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    async fn remove(&mut self, (ifindex, ip): Key) -> Result<(), NetlinkError> {
        let removed = self
            .request(RouteNetlinkMessage::DelNeighbour(message_for(ifindex, ip)), 0, || {
                format!("remove neighbour {ip} from device {ifindex}")
            })
            .await;
        match removed {
            Err(error) if error.is_absent() => Ok(()),
            other => other,
        }
    }

    async fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        action: impl Fn() -> String,
    ) -> Result<(), NetlinkError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut handle = self.netlink.handle().clone();
        let mut answers = handle.request(request).doing(&action)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                return Err(rtnetlink::Error::NetlinkError(error)).doing(&action);
            }
        }
        Ok(())
    }
}

/// A message that names an entry and nothing more.
fn message_for(ifindex: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    let destination = match ip {
        IpAddr::V4(ip) => {
            message.header.family = AddressFamily::Inet;
            NeighbourAddress::Inet(ip)
        }
        IpAddr::V6(ip) => {
            message.header.family = AddressFamily::Inet6;
            NeighbourAddress::Inet6(ip)
        }
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}

#[cfg(test)]
mod tests;
