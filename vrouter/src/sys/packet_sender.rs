//! A packet socket that only sends: whole frames behind virtio-net headers.
//!
//! Unlike AF_XDP it can leave checksums and segmentation to the kernel, which has the device do them or,
//! where the device cannot, does them itself in one go.
//!
//! Source: packet(7), `PACKET_VNET_HDR` in `linux/if_packet.h`.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::OsError;
use super::sockopt::{bind, set};

/// Bytes that the socket may have on their way: several super-packets.
const SEND_BUFFER: libc::c_int = 4 << 20;

/// A sender on one device.
#[derive(Debug)]
pub(crate) struct PacketSender {
    fd: OwnedFd,
}

impl PacketSender {
    /// A sender on the device `ifindex`.
    ///
    /// # Errors
    /// `EPERM`: CAP_NET_RAW is missing; `ENODEV`: the device is gone.
    pub(crate) fn open(ifindex: u32) -> Result<Self, OsError> {
        let failed =
            |step: &str, errno| OsError::new(format!("{step} a packet socket on device {ifindex}"), errno);
        let family = AddressFamily::from_raw(libc::AF_PACKET as u16);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Without a protocol it receives nothing.
        let fd = rustix::net::socket_with(family, SocketType::RAW, flags, None)
            .map_err(|errno| failed("open", errno))?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1 as &libc::c_int)
            .map_err(|errno| failed("ask for virtio headers of", errno))?;
        // With the ordinary buffer it works too, but less at a time.
        let _ = set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER);
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: libc::c_int::try_from(ifindex).map_err(|_| failed("bind", Errno::NODEV))?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        bind(&fd, &address).map_err(|errno| failed("bind", errno))?;
        Ok(Self { fd })
    }

    /// Sends a frame with its header in front (10 bytes), from several buffers in turn.
    ///
    /// # Errors
    /// `WouldBlock`, `ENOBUFS`: the send buffer or the device's queue is full. `EINVAL`: the header is
    /// malformed or of a kind that this kernel does not know. `EMSGSIZE`: longer than the MTU, and not
    /// to be segmented. `ENETDOWN`, `ENXIO`: the device is down or gone.
    #[inline]
    pub(crate) fn send(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.fd, buffers)?)
    }
}
