//! The event stream over the devices of one namespace.

use std::collections::VecDeque;

use rtnetlink::MulticastGroup;

use super::table::{LinkEvent, LinkTable};
use super::{LinkInfo, list};
use crate::agent::netlink::{NOTIFICATION_BUFFER, Netlink, NetlinkError, Notification, Notifications};

/// Watches the devices of the namespace in which it was started.
#[derive(Debug)]
pub struct LinkWatch {
    netlink: Netlink,
    notifications: Notifications,
    table: LinkTable,
    events: VecDeque<LinkEvent>,
    /// A dump is due: at the start, and after notifications were lost.
    stale: bool,
    overruns: u64,
}

impl LinkWatch {
    /// Subscribes in the calling thread's namespace. The first events describe the
    /// devices that are there.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start() -> Result<Self, NetlinkError> {
        Self::with_buffer(NOTIFICATION_BUFFER)
    }

    /// As [`start`](Self::start), with a receive buffer of `octets`: notifications
    /// beyond it are lost, noticed, and made up for by a new dump.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn with_buffer(octets: u32) -> Result<Self, NetlinkError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        Ok(Self {
            notifications: Notifications::subscribe(&groups, octets)?,
            netlink: Netlink::connect()?,
            table: LinkTable::default(),
            events: VecDeque::new(),
            stale: true,
            overruns: 0,
        })
    }

    /// The next change. Cancel-safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`NetlinkError`] if a dump fails (it is tried again by the next call) or the
    /// notification socket ended.
    pub async fn next(&mut self) -> Result<LinkEvent, NetlinkError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if self.stale {
                let dump = list(&self.netlink).await?;
                self.table.resync(dump, &mut self.events);
                self.stale = false;
                continue;
            }
            match self.notifications.next().await? {
                Notification::Change(message) => self.table.apply(&message, &mut self.events),
                Notification::Overrun => {
                    self.stale = true;
                    self.overruns += 1;
                }
            }
        }
    }

    /// The devices as of the last event taken in, by ascending index.
    pub fn links(&self) -> impl Iterator<Item = &LinkInfo> {
        self.table.links()
    }

    /// How often notifications were lost and a new dump was made.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }
}
