//! Tap devices: made or adopted by name, read and written with a virtio header.
//!
//! ```text
//!   read, write:  | VirtioHeader, 10 bytes | Ethernet frame, up to 64 KiB with GSO |
//! ```
//!
//! A tap is made in the network namespace of the calling thread; its descriptor works
//! from everywhere. A persistent tap outlives its descriptors: the device keeps its
//! addresses, routes and MAC without a carrier, until it is opened again by its name.
//! No `IFF_NAPI`: it makes writes of small packets more than half dearer.
//!
//! Sources: the kernel's `Documentation/networking/tuntap.rst`; VIRTIO 1.2, 5.1.6.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::{OsError, last_errno};
use super::ifreq::{decode_ethernet, encode_ethernet, encode_name, request};

/// `_IOR('T', 224, int)`, as on all machines but those of another `_IOR`.
const TUNSETSTEERINGEBPF: libc::Ioctl = 0x8004_54e0_u32 as libc::Ioctl;

/// Bytes of [`VirtioHeader`] in front of every frame.
pub(crate) const VIRTIO_HEADER_LEN: usize = 10;

/// The header in front of each frame (`struct virtio_net_hdr`), all fields in the machine's
/// byte order.
///
/// | byte | field | meaning |
/// |---|---|---|
/// | 0 | flags | 1: complete the checksum (`csum_*` valid); 2: it has been verified |
/// | 1 | gso_type | 0 none, 1 TCP/IPv4, 4 TCP/IPv6, 5 UDP; + 0x80: first segment has CWR |
/// | 2 | hdr_len | bytes of headers before the payload that is split |
/// | 4 | gso_size | payload bytes of a segment |
/// | 6 | csum_start | where the checksummed part begins, from the frame's start |
/// | 8 | csum_offset | where the checksum lies, from `csum_start` |
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct VirtioHeader {
    pub(crate) flags: u8,
    pub(crate) gso_type: u8,
    pub(crate) hdr_len: u16,
    pub(crate) gso_size: u16,
    pub(crate) csum_start: u16,
    pub(crate) csum_offset: u16,
}

impl VirtioHeader {
    /// `flags`: the checksum field holds the pseudo-header sum only.
    pub(crate) const NEEDS_CHECKSUM: u8 = 1;
    /// `flags`: the sender, a local stack, vouches for the data.
    pub(crate) const DATA_VALID: u8 = 2;
    pub(crate) const GSO_NONE: u8 = 0;
    pub(crate) const GSO_TCPV4: u8 = 1;
    pub(crate) const GSO_TCPV6: u8 = 4;
    pub(crate) const GSO_UDP_L4: u8 = 5;
    /// `gso_type`: a TCP segment with CWR, to be set on the first segment only.
    pub(crate) const GSO_ECN: u8 = 0x80;

    #[inline]
    pub(crate) fn from_bytes(b: &[u8; VIRTIO_HEADER_LEN]) -> Self {
        let field = |at: usize| u16::from_ne_bytes([b[at], b[at + 1]]);
        Self {
            flags: b[0],
            gso_type: b[1],
            hdr_len: field(2),
            gso_size: field(4),
            csum_start: field(6),
            csum_offset: field(8),
        }
    }

    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; VIRTIO_HEADER_LEN] {
        let [a, b] = self.hdr_len.to_ne_bytes();
        let [c, d] = self.gso_size.to_ne_bytes();
        let [e, f] = self.csum_start.to_ne_bytes();
        let [g, h] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h]
    }
}

/// What the device's stack may leave to us, as bits of `TUNSETOFFLOAD`.
///
/// Without `CSUM` checksums arrive complete and frames have at most the MTU; the TSO
/// and USO bits need it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct TapOffload(u32);

impl TapOffload {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const CSUM: Self = Self(libc::TUN_F_CSUM);
    /// TCP segmentation, IPv4 and IPv6, with ECN.
    pub(crate) const TSO: Self =
        Self(Self::CSUM.0 | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN);
    /// UDP segmentation, IPv4 and IPv6, on top of TSO (Linux 6.2).
    pub(crate) const TSO_USO: Self = Self(Self::TSO.0 | libc::TUN_F_USO4 | libc::TUN_F_USO6);
}

/// Why a tap could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TapError {
    /// Another descriptor, of this or another process, holds the tap. Taps with several
    /// queues never say so: there the newcomer gets one more queue.
    #[error("open the tap {name}: another process holds it; another router?")]
    Busy { name: String },
    #[error(transparent)]
    Os(#[from] OsError),
}

/// One queue of a tap. Reads and writes do not block.
#[derive(Debug)]
pub(crate) struct Tap {
    fd: OwnedFd,
}

impl Tap {
    /// Opens the tap `name` in the calling thread's network namespace: a persistent one
    /// that is there is adopted as it is, otherwise it is made, down and with a random
    /// MAC. With `multi_queue`, each further open of the name adds a queue.
    ///
    /// Offloads are off until [`set_offload`](Self::set_offload), also after adoption.
    ///
    /// # Errors
    /// [`TapError::Busy`]; a device of the name that is no tap, or has its queues made
    /// the other way (`EINVAL`).
    pub(crate) fn open(name: &str, multi_queue: bool) -> Result<Self, TapError> {
        let step = format!("open the tap {name}");
        let encoded =
            encode_name(name).map_err(|hint| OsError::new(step.clone(), Errno::INVAL).hint(hint))?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open("/dev/net/tun", flags, Mode::empty()).map_err(|errno| {
            let hint = "/dev/net/tun must be there and be accessible";
            OsError::new(step.clone(), errno).hint(hint)
        })?;
        let tap = Self { fd };
        let mut request = request(encoded);
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let flags = if multi_queue { flags | libc::IFF_MULTI_QUEUE } else { flags };
        request.ifr_ifru.ifru_flags = flags as i16;
        // SAFETY: TUNSETIFF reads and writes an `ifreq`.
        unsafe { tap.ioctl(libc::TUNSETIFF, &raw mut request) }.map_err(|errno| {
            let hint = match errno {
                Errno::BUSY => return TapError::Busy { name: name.into() },
                Errno::INVAL => "a device of this name is no tap, or differs in multi-queue",
                Errno::PERM => "CAP_NET_ADMIN is missing",
                Errno::TOOBIG | Errno::NFILE => "the tap has all the queues that it can have",
                _ => "",
            };
            TapError::Os(OsError::new(step.clone(), errno).hint(hint))
        })?;
        let len = VIRTIO_HEADER_LEN as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads an int.
        unsafe { tap.ioctl(libc::TUNSETVNETHDRSZ, &raw const len) }
            .map_err(|errno| OsError::new(format!("{step}: set the header size"), errno))?;
        tap.set_offload(TapOffload::NONE)?;
        Ok(tap)
    }

    /// What the device's stack may leave to us: all queues alike.
    ///
    /// # Errors
    /// `EINVAL`: the kernel does not know a bit; fall back from `TSO_USO` to `TSO`.
    pub(crate) fn set_offload(&self, offload: TapOffload) -> Result<(), OsError> {
        // SAFETY: TUNSETOFFLOAD takes its bits by value.
        unsafe { self.ioctl_value(libc::TUNSETOFFLOAD, offload.0.into()) }
            .map_err(|errno| self.failed("set the offloads of", errno))
    }

    /// Makes each flow arrive by one of the device's queues, both ways alike, whatever is
    /// written where. All queues alike.
    ///
    /// # Errors
    /// The kernel refuses the program, or has no such call (before Linux 4.16).
    pub(crate) fn steer_by_flow(&self) -> Result<(), OsError> {
        let program = super::steering::load()?;
        let fd: libc::c_int = program.as_fd().as_raw_fd();
        // SAFETY: TUNSETSTEERINGEBPF reads an int; the device keeps the program.
        unsafe { self.ioctl(TUNSETSTEERINGEBPF, &raw const fd) }
            .map_err(|errno| self.failed("choose the queues of", errno))
    }

    /// Whether the device outlives its descriptors. Not persistent, it vanishes with the
    /// last of them.
    pub(crate) fn set_persistent(&self, persistent: bool) -> Result<(), OsError> {
        // SAFETY: TUNSETPERSIST takes a flag by value.
        unsafe { self.ioctl_value(libc::TUNSETPERSIST, persistent.into()) }
            .map_err(|errno| self.failed("set the persistence of", errno))
    }

    /// The device's name now, wherever it has been moved or renamed.
    pub(crate) fn name(&self) -> Result<String, OsError> {
        let mut request = request([0; libc::IFNAMSIZ]);
        // SAFETY: TUNGETIFF fills an `ifreq`.
        unsafe { self.ioctl(libc::TUNGETIFF, &raw mut request) }
            .map_err(|errno| OsError::new("read the name of a tap", errno))?;
        let name = request.ifr_name.map(|c| c as u8);
        Ok(String::from_utf8_lossy(name.split(|&b| b == 0).next().unwrap_or(&[])).into_owned())
    }

    /// The device's Ethernet address, which is the pod's end.
    pub(crate) fn hardware_address(&self) -> Result<[u8; 6], OsError> {
        let mut request = request([0; libc::IFNAMSIZ]);
        // SAFETY: SIOCGIFHWADDR fills an `ifreq`.
        unsafe { self.ioctl(libc::SIOCGIFHWADDR, &raw mut request) }
            .map_err(|errno| self.failed("read the MAC address of", errno))?;
        decode_ethernet(&request).ok_or_else(|| self.failed("read the MAC address of", Errno::INVAL))
    }

    /// Sets the device's Ethernet address.
    pub(crate) fn set_hardware_address(&self, address: [u8; 6]) -> Result<(), OsError> {
        let mut request = request([0; libc::IFNAMSIZ]);
        request.ifr_ifru.ifru_hwaddr = encode_ethernet(address);
        // SAFETY: SIOCSIFHWADDR reads an `ifreq`.
        unsafe { self.ioctl(libc::SIOCSIFHWADDR, &raw mut request) }
            .map_err(|errno| self.failed("set the MAC address of", errno))
    }

    /// Reads one frame with its header; the bytes in all. A frame longer than the
    /// buffer is cut without notice: have 64 KiB with GSO, else MTU + 18, plus header.
    ///
    /// # Errors
    /// `WouldBlock`: no frame waits. `EBADFD`: the device was deleted.
    #[inline]
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, buffer)?)
    }

    /// As [`read`](Self::read), into several buffers in turn.
    #[inline]
    pub(crate) fn readv(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Ok(rustix::io::readv(&self.fd, buffers)?)
    }

    /// Writes one frame with its header; it is delivered when this returns.
    ///
    /// # Errors
    /// `EIO`: the device is down. `EINVAL`: frame or header is malformed.
    #[inline]
    pub(crate) fn write(&self, frame: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.fd, frame)?)
    }

    /// As [`write`](Self::write), from several buffers in turn.
    #[inline]
    pub(crate) fn writev(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.fd, buffers)?)
    }

    fn failed(&self, step: &str, errno: Errno) -> OsError {
        let name = self.name().unwrap_or_else(|_| "a deleted device".into());
        OsError::new(format!("{step} the tap {name}"), errno)
    }

    /// # Safety
    /// `code` takes a pointer that `argument` is valid for.
    unsafe fn ioctl<T>(&self, code: libc::Ioctl, argument: *const T) -> Result<(), Errno> {
        // SAFETY: the caller's.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), code, argument) } {
            0.. => Ok(()),
            _ => Err(last_errno()),
        }
    }

    /// # Safety
    /// `code` takes its argument by value.
    unsafe fn ioctl_value(&self, code: libc::Ioctl, argument: libc::c_ulong) -> Result<(), Errno> {
        // SAFETY: the caller's.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), code, argument) } {
            0.. => Ok(()),
            _ => Err(last_errno()),
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests;
