//! rtnetlink sockets as the agent uses them: requests that say what failed, and
//! notifications that say when some were lost.
//!
//! A netlink socket belongs for its lifetime to the network namespace in which it
//! was opened (netlink(7)), so a request socket into a pod's namespace is opened
//! by a short-lived thread there and then used from the runtime like any other.
//!
//! Requests and notifications never share a socket: an overflowing notification
//! queue (`ENOBUFS`) would take answers with it.

use std::io;
use std::sync::Arc;

use futures_util::stream::{BoxStream, Stream, StreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{AsyncSocket, SocketAddr};
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinHandle;

use crate::sys::netns::Netns;

/// Our mark in the kernel's tables: the `protocol` of every route, address and
/// neighbour entry that the agent installs in the node's own namespace (`ip route
/// show proto 196`). `linux/rtnetlink.h` assigns nothing above 192.
pub const ROUTE_PROTOCOL: u8 = 196;

/// Receive buffer of a notification socket. The kernel drops notifications once
/// it is full; 1 MiB holds about 700 link messages.
pub(super) const NOTIFICATION_BUFFER: u32 = 1 << 20;

/// Why the kernel could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// No netlink socket could be opened.
    #[error("cannot open a netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// The kernel refused the request with an errno.
    #[error("cannot {action}: {source}")]
    Refused {
        /// What was asked, as an infinitive phrase.
        action: String,
        /// The kernel's errno.
        source: io::Error,
    },
    /// The request got no usable answer.
    #[error("cannot {action}: {reason}")]
    NoAnswer {
        /// What was asked, as an infinitive phrase.
        action: String,
        /// What came instead.
        reason: String,
    },
    /// The notification socket ended.
    #[error("the kernel's notification stream ended")]
    Closed,
}

impl NetlinkError {
    /// The kernel's errno, if it answered with one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket(source) | Self::Refused { source, .. } => source.raw_os_error(),
            Self::NoAnswer { .. } | Self::Closed => None,
        }
    }

    /// Whether the thing asked for is not there: no such device, address, route
    /// or neighbour entry.
    pub fn is_absent(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENXIO)
        )
    }
}

/// Names the request in an error.
pub(super) trait Doing<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, NetlinkError>;
}

impl<T> Doing<T> for Result<T, rtnetlink::Error> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, NetlinkError> {
        self.map_err(|error| match error {
            rtnetlink::Error::NetlinkError(message) => {
                NetlinkError::Refused { action: action(), source: message.to_io() }
            }
            other => NetlinkError::NoAnswer { action: action(), reason: other.to_string() },
        })
    }
}

/// Drives a socket; dropped with its last user, so that the descriptor closes.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request socket in one network namespace. Cheap to clone; the socket closes
/// with the last clone.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: Handle,
    _driver: Arc<Driver>,
}

impl Netlink {
    /// A socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect() -> Result<Self, NetlinkError> {
        let (connection, handle, _) =
            rtnetlink::new_connection_with_strict_check().map_err(NetlinkError::Socket)?;
        let driver = Driver(tokio::spawn(connection));
        Ok(Self { handle, _driver: Arc::new(driver) })
    }

    /// A socket in `netns`, driven by the current runtime.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`], also when the namespace cannot be entered.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn connect_in(netns: &Netns) -> Result<Self, NetlinkError> {
        let runtime = tokio::runtime::Handle::current();
        netns
            .run_in(move || {
                let _inside = runtime.enter();
                Self::connect()
            })
            .map_err(|error| NetlinkError::Socket(error.into()))?
    }

    /// The request builders.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// All items of a dump, or its first error.
pub(super) async fn collect<T>(
    dump: impl Stream<Item = Result<T, rtnetlink::Error>>,
    what: &str,
) -> Result<Vec<T>, NetlinkError> {
    let mut dump = std::pin::pin!(dump);
    let mut items = Vec::new();
    while let Some(item) = dump.next().await {
        items.push(item.doing(|| format!("list {what}"))?);
    }
    Ok(items)
}

/// What a notification socket yields.
#[derive(Debug)]
pub(super) enum Notification {
    /// A change, as the kernel reported it.
    Change(RouteNetlinkMessage),
    /// Changes were lost: only a new dump tells what is.
    Overrun,
}

/// A subscription to rtnetlink multicast groups in the namespace of the thread
/// that opened it.
pub(super) struct Notifications {
    messages: BoxStream<'static, (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    _driver: Driver,
}

impl std::fmt::Debug for Notifications {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notifications")
    }
}

impl Notifications {
    /// Subscribes the calling thread's namespace; `buffer` is the receive buffer
    /// in bytes (the kernel doubles it for its own bookkeeping).
    pub(super) fn subscribe(groups: &[MulticastGroup], buffer: u32) -> Result<Self, NetlinkError> {
        let (mut connection, _, messages) =
            rtnetlink::new_multicast_connection(groups).map_err(NetlinkError::Socket)?;
        connection.socket_mut().socket_mut().set_rx_buf_sz(buffer).map_err(NetlinkError::Socket)?;
        let driver = Driver(tokio::spawn(connection));
        Ok(Self { messages: messages.boxed(), _driver: driver })
    }

    /// The next change. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Notification, NetlinkError> {
        loop {
            let (message, _) = self.messages.next().await.ok_or(NetlinkError::Closed)?;
            match message.payload {
                NetlinkPayload::InnerMessage(change) => return Ok(Notification::Change(change)),
                NetlinkPayload::Overrun(_) => return Ok(Notification::Overrun),
                _ => {}
            }
        }
    }
}
