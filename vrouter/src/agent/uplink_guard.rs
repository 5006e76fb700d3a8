//! May this router have that device as an uplink? One router a device, and only
//! devices it can drive.
//!
//! | device | answer |
//! |---|---|
//! | plain NIC, veth, tap | taken, under an exclusive lock |
//! | missing | refused, with the names that are there |
//! | VLAN | refused: the program belongs on the lower device |
//! | bond, or slave of a bond | refused: the bond driver moves frames between slaves |
//! | bridge, or port of a bridge or other master | refused: the master takes the frames |
//! | loopback | refused |
//! | another XDP program attached | refused: it would lose its frames, or we ours |
//! | locked | refused, with the holder's process id |
//!
//! The lock is an abstract Unix socket (unix(7)) named after the device. Abstract
//! names belong to the network namespace, as devices do, and vanish with the
//! process that holds them, however it ends: there is no stale lock.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use tokio::time::sleep;

use super::held::{Attempt, Patience};
use super::link::{self, LinkInfo, LinkKind, MasterKind};
use super::netlink::{Netlink, NetlinkError};

/// Why a device cannot be an uplink.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UplinkRefused {
    /// There is no such device.
    #[error("there is no device `{device}`; the devices here are: {}", existing.join(", "))]
    Missing {
        /// The name asked for.
        device: String,
        /// The names that exist, by index.
        existing: Vec<String>,
    },
    /// The device is of a kind that is not supported, or belongs to another.
    #[error("device `{device}` cannot be an uplink: {reason}")]
    Unsupported {
        /// The device.
        device: String,
        /// What is wrong with it and what to name instead.
        reason: String,
    },
    /// Another XDP program is attached.
    #[error(
        "device `{device}` already has an XDP program (id {program}): detach it first \
         (`ip link set dev {device} xdp off`, or end the process that owns it)"
    )]
    ForeignXdp {
        /// The device.
        device: String,
        /// The kernel's id of the program, as `bpftool prog show id` takes it.
        program: u32,
    },
    /// Another router, or this one already, has the device.
    #[error(
        "device `{device}` is already held by another router{}",
        holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    AlreadyHeld {
        /// The device.
        device: String,
        /// The holder's process id, as seen from this process.
        holder: Option<i32>,
    },
    /// The lock itself could not be made.
    #[error("cannot lock device `{device}`: {source}")]
    Lock {
        /// The device.
        device: String,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// The exclusive lock on a device, for as long as this value lives.
#[derive(Debug)]
pub struct UplinkGuard {
    device: String,
    _socket: UnixListener,
}

impl UplinkGuard {
    /// Locks the device called `device` in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`UplinkRefused::AlreadyHeld`], [`UplinkRefused::Lock`].
    pub fn lock(device: &str) -> Result<Self, UplinkRefused> {
        let failed = |source| UplinkRefused::Lock { device: device.to_owned(), source };
        let address = SocketAddr::from_abstract_name(format!("vrouter/uplink/{device}")).map_err(failed)?;
        match UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Self { device: device.to_owned(), _socket: socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(UplinkRefused::AlreadyHeld { device: device.to_owned(), holder: holder(&address) })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The device's name.
    pub fn device(&self) -> &str {
        &self.device
    }
}

/// The process that listens at `address`: the credentials of a stream's peer are
/// those of the process that called listen(2).
fn holder(address: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(address).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(credentials.pid.as_raw_nonzero().get())
}

/// A device that is ours to drive.
#[derive(Debug)]
pub struct ClaimedUplink {
    /// The device as it was when it was claimed.
    pub link: LinkInfo,
    /// Keeps other routers away.
    pub guard: UplinkGuard,
}

/// Looks `device` up, checks that it can be an uplink, and locks it. The calling
/// thread must be in the namespace of `netlink`.
///
/// # Errors
/// [`UplinkRefused`]; nothing stays locked then.
pub async fn claim(netlink: &Netlink, device: &str) -> Result<ClaimedUplink, UplinkRefused> {
    let Some(found) = link::find(netlink, device).await? else {
        let existing = link::list(netlink).await?.into_iter().map(|l| l.name).collect();
        return Err(UplinkRefused::Missing { device: device.to_owned(), existing });
    };
    let master = match found.master {
        Some(master) => link::list(netlink).await?.into_iter().find(|l| l.index == master.index),
        None => None,
    };
    check_kind(&found, master.as_ref().map(|m| m.name.as_str()))?;
    // The lock comes before the look at the program: a router that holds the
    // device is named as such, not as a foreign program.
    let patience = Patience::new();
    let guard = loop {
        let failure = match UplinkGuard::lock(&found.name) {
            Ok(guard) => break guard,
            Err(held @ UplinkRefused::AlreadyHeld { .. }) => Attempt::Held(held),
            Err(other) => Attempt::Failed(other),
        };
        sleep(patience.pause(failure)?).await;
    };
    let link = link::find(netlink, &found.name).await?.unwrap_or(found);
    match link.xdp_prog_id {
        Some(program) => Err(UplinkRefused::ForeignXdp { device: link.name, program }),
        None => Ok(ClaimedUplink { link, guard }),
    }
}

/// Whether a device's kind and membership let it be an uplink; `master` is the
/// name of its master, if that is known.
///
/// # Errors
/// [`UplinkRefused::Unsupported`].
pub fn check_kind(link: &LinkInfo, master: Option<&str>) -> Result<(), UplinkRefused> {
    let master_name = master.map(|name| format!(" `{name}`")).unwrap_or_default();
    let reason = match (&link.kind, link.master.map(|m| m.kind)) {
        (LinkKind::Vlan, _) => "it is a VLAN device; name the device below it".to_owned(),
        (LinkKind::Bond, _) => "it is a bond; name a NIC that is in no bond".to_owned(),
        (LinkKind::Bridge, _) => "it is a bridge; name a NIC that is in no bridge".to_owned(),
        (LinkKind::Loopback, _) => "it is the loopback device".to_owned(),
        (LinkKind::Tun, _) => "it is a tun device, which carries no Ethernet frames".to_owned(),
        (_, Some(MasterKind::Bond)) => format!("it is a slave of bond{master_name}"),
        (_, Some(MasterKind::Bridge)) => format!("it is a port of bridge{master_name}"),
        (_, Some(MasterKind::Other)) => format!("it belongs to master device{master_name}"),
        (kind, None) if link.mac.is_none() => format!("its kind ({kind}) has no Ethernet address"),
        _ => return Ok(()),
    };
    Err(UplinkRefused::Unsupported { device: link.name.clone(), reason })
}

#[cfg(test)]
mod tests;
