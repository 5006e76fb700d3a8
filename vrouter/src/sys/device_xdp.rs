//! The XDP program of one device, with its maps and its attachment; or the program in front of its
//! packet sockets, which asks the same maps.
//!
//! ```text
//!   load(sharing) -> fill the maps, register sockets -> attach -> ... -> drop detaches
//! ```
//!
//! Maps and sockets come first, so that from its first moment the program neither
//! passes ours to the kernel nor drops it for want of a socket. The attachment is a
//! BPF link: it ends with the process, however that ends.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use rustix::io::Errno;

use super::bpf::{Link, Map, MapKind, Program, XdpMode};
use super::error::OsError;
use super::ifreq::device_name;
use super::tc_program::{drop_all, mark_ours};
use super::xdp_program::{
    COUNTERS, DeviceMaps, FamilyMaps, NO_SOCKET, PASSED, PrefixKey, REDIRECTED, SharedMaps, take_all,
    take_ours,
};

/// Receive queues of a device that can have a socket.
pub(crate) const MAX_QUEUES: u32 = 1024;
const MAX_TUNNEL_ADDRESSES: u32 = 1024;
const MAX_PREFIXES: u32 = 65536;

/// Whose the device's frames are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    /// The node's own stack uses the device too: the maps say what is taken.
    Host,
    /// Every frame is taken (exclusive uplinks, the host end of pods' veths).
    Exclusive,
}

/// Where to run the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AttachMode {
    Native,
    Generic,
    /// Native if the driver can, else generic.
    Auto,
}

/// Why a program could not be attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// Somebody else's program, or another router of ours, is on the device.
    #[error(
        "attach XDP to {device}: the device has an XDP program already; \
         another router? see `ip link show {device}`"
    )]
    AlreadyAttached { device: String },
    #[error(transparent)]
    Os(#[from] OsError),
}

/// What the program did with frames, since it was loaded.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct XdpCounters {
    /// Left to the kernel's stack.
    pub(crate) passed: u64,
    /// Sent to a socket (where a full ring may still lose them: `XskStatistics`).
    pub(crate) redirected: u64,
    /// Ours, but received on a queue without a socket: dropped.
    pub(crate) dropped_no_socket: u64,
}

/// The XDP program of one device.
#[derive(Debug)]
pub(crate) struct DeviceXdp {
    // Dropped first, so that the program is gone before its maps are.
    attachment: Option<(Link, Option<XdpMode>)>,
    native_refusal: Option<OsError>,
    program: Program,
    maps: DeviceMaps,
    shared: Option<SharedMaps>,
    local: HashSet<IpAddr>,
    foreign: HashSet<IpAddr>,
}

impl DeviceXdp {
    /// Creates the maps and loads the program, attached to nothing yet.
    /// `multi_buffer`: packets may have several buffers (large MTUs; Linux 5.18).
    pub(crate) fn load(sharing: Sharing, multi_buffer: bool) -> Result<Self, OsError> {
        let (maps, shared) = create_maps(sharing)?;
        let program = match &shared {
            None => Program::load("vrouter_all", &take_all(&maps), multi_buffer)?,
            Some(shared) => Program::load("vrouter_shared", &take_ours(&maps, shared), multi_buffer)?,
        };
        Ok(Self::new(program, maps, shared))
    }

    /// The same with the program that stands in front of packet sockets.
    pub(crate) fn load_ingress(sharing: Sharing) -> Result<Self, OsError> {
        let (maps, shared) = create_maps(sharing)?;
        let program = match &shared {
            None => Program::load_ingress("vrouter_all", &drop_all(&maps))?,
            Some(shared) => Program::load_ingress("vrouter_shared", &mark_ours(&maps, shared))?,
        };
        Ok(Self::new(program, maps, shared))
    }

    fn new(program: Program, maps: DeviceMaps, shared: Option<SharedMaps>) -> Self {
        Self {
            attachment: None,
            native_refusal: None,
            program,
            maps,
            shared,
            local: HashSet::new(),
            foreign: HashSet::new(),
        }
    }

    /// Attaches the program to the device `ifindex` of the calling thread's network
    /// namespace, in place of where it was attached before.
    pub(crate) fn attach(&mut self, ifindex: u32, mode: AttachMode) -> Result<XdpMode, AttachError> {
        self.attachment = None;
        self.native_refusal = None;
        if mode != AttachMode::Generic {
            match self.try_attach(ifindex, XdpMode::Native) {
                Ok(()) => return Ok(XdpMode::Native),
                Err(AttachError::Os(refusal)) if mode == AttachMode::Auto => {
                    self.native_refusal = Some(refusal);
                }
                Err(error) => return Err(error),
            }
        }
        self.try_attach(ifindex, XdpMode::Generic)?;
        Ok(XdpMode::Generic)
    }

    fn try_attach(&mut self, ifindex: u32, mode: XdpMode) -> Result<(), AttachError> {
        let link = self.program.attach(ifindex, mode).map_err(|errno| {
            let device = device_name(ifindex);
            if matches!(errno, Errno::BUSY | Errno::EXIST) {
                return AttachError::AlreadyAttached { device };
            }
            let hint = match errno {
                Errno::OPNOTSUPP => "the driver has no native XDP",
                Errno::RANGE => "the MTU is too large for XDP without multi-buffer",
                Errno::INVAL => {
                    "no such device in this network namespace, or its driver refuses \
                     (MTU, queues, offloads)"
                }
                Errno::PERM => "CAP_NET_ADMIN or CAP_BPF is missing",
                _ => "",
            };
            let step = match mode {
                XdpMode::Native => format!("attach native XDP to {device}"),
                XdpMode::Generic => format!("attach generic XDP to {device}"),
            };
            AttachError::Os(OsError::new(step, errno).hint(hint))
        })?;
        self.attachment = Some((link, Some(mode)));
        Ok(())
    }

    /// Attaches a program of [`load_ingress`](Self::load_ingress) where `ifindex` hands packets to the stack.
    pub(crate) fn attach_ingress(&mut self, ifindex: u32) -> Result<(), OsError> {
        let link = self.program.attach_ingress(ifindex).map_err(|errno| {
            let hint = match errno {
                Errno::INVAL => "Linux 6.6 is needed",
                Errno::PERM => "CAP_NET_ADMIN or CAP_BPF is missing",
                _ => "",
            };
            OsError::new(format!("attach to the ingress of {}", device_name(ifindex)), errno).hint(hint)
        })?;
        self.attachment = Some((link, None));
        Ok(())
    }

    /// Detaches the program; maps and sockets stay. Dropping the value does too.
    pub(crate) fn detach(&mut self) {
        self.attachment = None;
    }

    /// Where the program runs; `None` while it is not attached, or not as XDP.
    pub(crate) fn mode(&self) -> Option<XdpMode> {
        self.attachment.as_ref().and_then(|(_, mode)| *mode)
    }

    /// Why [`AttachMode::Auto`] came down to generic.
    pub(crate) fn native_refusal(&self) -> Option<&OsError> {
        self.native_refusal.as_ref()
    }

    /// Sends what is taken on `queue` to an AF_XDP socket bound to that queue, in place
    /// of an earlier one. Closing the socket takes it out again.
    pub(crate) fn register_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), OsError> {
        self.maps.sockets.set(&queue, &(socket.as_raw_fd() as u32))
    }

    /// Takes the socket of `queue` out: its packets are dropped and counted.
    pub(crate) fn unregister_socket(&self, queue: u32) -> Result<(), OsError> {
        self.maps.sockets.remove(&queue).map(drop)
    }

    /// Takes packets to destinations in `prefix`; the longest prefix decides. Exclusive
    /// programs take all destinations anyway: nothing changes there, here and in the
    /// methods that follow.
    pub(crate) fn take(&self, prefix: IpNet) -> Result<(), OsError> {
        self.set_prefix(prefix, 1)
    }

    /// Leaves destinations in `prefix` to the kernel: an exception inside a prefix that
    /// is taken.
    pub(crate) fn pass(&self, prefix: IpNet) -> Result<(), OsError> {
        self.set_prefix(prefix, 0)
    }

    /// Takes back [`take`](Self::take) or [`pass`](Self::pass) of exactly this prefix.
    pub(crate) fn forget(&self, prefix: IpNet) -> Result<(), OsError> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        match prefix.trunc() {
            IpNet::V4(p) => shared.v4.take.remove(&key(p.prefix_len(), &p.addr().octets())),
            IpNet::V6(p) => shared.v6.take.remove(&key(p.prefix_len(), &p.addr().octets())),
        }
        .map(drop)
    }

    fn set_prefix(&self, prefix: IpNet, value: u32) -> Result<(), OsError> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        match prefix.trunc() {
            IpNet::V4(p) => shared.v4.take.set(&key(p.prefix_len(), &p.addr().octets()), &value),
            IpNet::V6(p) => shared.v6.take.set(&key(p.prefix_len(), &p.addr().octets()), &value),
        }
    }

    /// Sets our own tunnel addresses, in place of the earlier ones.
    pub(crate) fn set_tunnel_local(&mut self, addresses: &[IpAddr]) -> Result<(), OsError> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        replace(&mut self.local, addresses, &shared.v4.local, &shared.v6.local)
    }

    /// Sets the tunnel sources whose packets to us are the kernel's, in place of the
    /// earlier ones.
    pub(crate) fn set_foreign_tunnels(&mut self, addresses: &[IpAddr]) -> Result<(), OsError> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        replace(&mut self.foreign, addresses, &shared.v4.foreign, &shared.v6.foreign)
    }

    /// Takes UDP to this port of our tunnel addresses; 0 for none (as loaded).
    pub(crate) fn set_vxlan_port(&self, port: u16) -> Result<(), OsError> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        shared.vxlan_port.set(&0, &port.into())
    }

    /// The program's counts.
    pub(crate) fn counters(&self) -> Result<XdpCounters, OsError> {
        Ok(XdpCounters {
            passed: self.maps.counters.sum(PASSED)?,
            redirected: self.maps.counters.sum(REDIRECTED)?,
            dropped_no_socket: self.maps.counters.sum(NO_SOCKET)?,
        })
    }

    /// The action for `frame`, as if received on queue 0.
    #[cfg(test)]
    pub(super) fn test_run(&self, frame: &[u8]) -> std::io::Result<u32> {
        self.program.test_run(frame)
    }

    /// The verdict on `frame` at the ingress, and the mark that it has then.
    #[cfg(test)]
    pub(super) fn test_run_ingress(&self, frame: &[u8]) -> std::io::Result<(i32, u32)> {
        self.program.test_run_ingress(frame)
    }
}

fn create_maps(sharing: Sharing) -> Result<(DeviceMaps, Option<SharedMaps>), OsError> {
    let maps = DeviceMaps {
        sockets: Map::new(MapKind::XskMap, "vr_sockets", MAX_QUEUES)?,
        counters: Map::new(MapKind::PerCpuArray, "vr_counters", COUNTERS)?,
    };
    let shared = match sharing {
        Sharing::Exclusive => None,
        Sharing::Host => Some(SharedMaps {
            v4: family("vr_local4", "vr_foreign4", "vr_take4")?,
            v6: family("vr_local6", "vr_foreign6", "vr_take6")?,
            vxlan_port: Map::new(MapKind::Array, "vr_vxlan_port", 1)?,
        }),
    };
    Ok((maps, shared))
}

fn family<const A: usize, const P: usize>(
    local: &'static str,
    foreign: &'static str,
    take: &'static str,
) -> Result<FamilyMaps<A, P>, OsError> {
    Ok(FamilyMaps {
        local: Map::new(MapKind::Hash, local, MAX_TUNNEL_ADDRESSES)?,
        foreign: Map::new(MapKind::Hash, foreign, MAX_TUNNEL_ADDRESSES)?,
        take: Map::new(MapKind::LpmTrie, take, MAX_PREFIXES)?,
    })
}

/// The LPM key: prefix length in the machine's order, then the address.
fn key<const P: usize>(prefix_len: u8, address: &[u8]) -> PrefixKey<P> {
    let mut key = [0; P];
    key[..4].copy_from_slice(&u32::from(prefix_len).to_ne_bytes());
    key[4..].copy_from_slice(address);
    key
}

/// Brings the maps from `now` to `wanted`: additions first, so that an address in both
/// is in force throughout.
fn replace(
    now: &mut HashSet<IpAddr>,
    wanted: &[IpAddr],
    v4: &Map<[u8; 4], u32>,
    v6: &Map<[u8; 16], u32>,
) -> Result<(), OsError> {
    let wanted: HashSet<IpAddr> = wanted.iter().map(IpAddr::to_canonical).collect();
    for &address in &wanted {
        if !now.contains(&address) {
            match address {
                IpAddr::V4(a) => v4.set(&a.octets(), &1)?,
                IpAddr::V6(a) => v6.set(&a.octets(), &1)?,
            }
            now.insert(address);
        }
    }
    for address in difference(now, &wanted) {
        match address {
            IpAddr::V4(a) => v4.remove(&a.octets())?,
            IpAddr::V6(a) => v6.remove(&a.octets())?,
        };
        now.remove(&address);
    }
    Ok(())
}

fn difference<T: Copy + Eq + Hash>(a: &HashSet<T>, b: &HashSet<T>) -> Vec<T> {
    a.difference(b).copied().collect()
}

#[cfg(test)]
mod tests;
