//! Packet sockets of one device, whose frames carry a virtio-net header as those of taps do.
//!
//! ```text
//!   receive, send:  | VirtioHeader, 10 bytes | Ethernet frame, up to 64 KiB with GSO |   many a call
//! ```
//!
//! Two sockets make a [`PacketSocket`]. One is bound to a protocol and receives; the other, a [`Sender`],
//! is bound to none, so that the kernel reads the protocol of each frame from its header.
//!
//! Source: packet(7); `net/packet/af_packet.c`.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::error::{OsError, last_errno};
use super::ifreq::device_name;
use super::sockopt::{self, set};
use super::tc_program::{MARK, OTHER_HOST};

/// Most messages of a call.
pub(crate) const MESSAGES: usize = 64;
/// Bytes of packets that wait in the kernel, each way: some milliseconds of 10 Gbit/s.
const SOCKET_BUFFER: libc::c_int = 8 << 20;

// Not in the libc crate (linux/if_packet.h, linux/filter.h).
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const SKF_AD_OFF: i32 = -0x1000;
const SKF_AD_PKTTYPE: i32 = 4;
const SKF_AD_MARK: i32 = 20;
const SKF_AD_VLAN_TAG_PRESENT: i32 = 48;
/// A filter's answer "all of it".
const WHOLE: u32 = 0x4_0000;

/// What a socket receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Receives {
    /// Every frame that arrives without a VLAN tag.
    All,
    /// IPv4 that `tc_program` has marked.
    MarkedV4,
    /// IPv6 that `tc_program` has marked.
    MarkedV6,
}

impl Receives {
    fn protocol(self) -> u16 {
        let protocol = match self {
            Receives::All => libc::ETH_P_ALL,
            Receives::MarkedV4 => libc::ETH_P_IP,
            Receives::MarkedV6 => libc::ETH_P_IPV6,
        };
        (protocol as u16).to_be()
    }

    /// The filter as classic BPF.
    fn filter(self) -> Vec<libc::sock_filter> {
        let load = |what: i32| op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, (SKF_AD_OFF + what) as u32);
        let unless = |skip: u8, value: u32| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, skip, value);
        let answer = |bytes: u32| op(libc::BPF_RET | libc::BPF_K, 0, bytes);
        match self {
            Receives::All => vec![load(SKF_AD_VLAN_TAG_PRESENT), unless(1, 0), answer(WHOLE), answer(0)],
            Receives::MarkedV4 | Receives::MarkedV6 => vec![
                load(SKF_AD_MARK),
                unless(3, MARK),
                load(SKF_AD_PKTTYPE),
                unless(1, OTHER_HOST),
                answer(WHOLE),
                answer(0),
            ],
        }
    }
}

/// An instruction; comparisons skip `skip` instructions where they do not hold.
fn op(code: u32, skip: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: skip, k }
}

/// Sockets that receive from, and send to, one device.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    rx: OwnedFd,
    tx: Sender,
}

impl PacketSocket {
    /// Opens the sockets on the device `ifindex` of the calling thread's network namespace.
    ///
    /// # Errors
    /// Each names the step and the device. `EPERM`: CAP_NET_RAW or CAP_NET_ADMIN is missing.
    pub(crate) fn open(ifindex: u32, receives: Receives) -> Result<Self, OsError> {
        let rx = open(ifindex, receives.protocol(), libc::SO_RCVBUFFORCE, &receives.filter())?;
        Ok(Self { rx, tx: Sender::open(ifindex)? })
    }

    /// Receives up to as many packets as `lens` has places, each with its header into `each` buffers
    /// that follow each other; how many, with the bytes of each.
    ///
    /// # Errors
    /// `WouldBlock`: none waits. `InvalidInput`: the next one has no virtio header that could tell of
    /// it, and is lost. `ENETDOWN`: the device is down or gone, said once.
    pub(crate) fn receive(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        each: usize,
        lens: &mut [u32],
    ) -> io::Result<usize> {
        let mut headers = empty_headers();
        let count = (buffers.len() / each).min(lens.len()).min(MESSAGES);
        for (header, buffers) in headers.iter_mut().zip(buffers.chunks_exact_mut(each)).take(count) {
            // `IoSliceMut` has the layout of `iovec`.
            header.msg_hdr.msg_iov = buffers.as_mut_ptr().cast();
            header.msg_hdr.msg_iovlen = each as _;
        }
        let (fd, none) = (self.rx.as_raw_fd(), std::ptr::null_mut());
        // SAFETY: the first `count` headers lead to `each` buffers that are valid for writes and
        // borrowed until the call returns; there is no address, no control data and no time-out.
        let received =
            unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), count as _, libc::MSG_DONTWAIT as _, none) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (len, header) in lens.iter_mut().zip(&headers[..received]) {
            *len = header.msg_len;
        }
        Ok(received)
    }

    /// As [`receive`](Self::receive), one packet; the bytes of header and packet.
    pub(crate) fn receive_one(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Ok(rustix::io::readv(&self.rx, buffers)?)
    }

    /// As [`Sender::send`].
    pub(crate) fn send(&self, buffers: &[IoSlice<'_>], ends: &[u16]) -> Result<usize, Errno> {
        self.tx.send(buffers, ends)
    }

    /// Packets lost because the receive buffer was full, since the last call.
    pub(crate) fn take_losses(&self) -> u64 {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = size_of_val(&statistics) as libc::socklen_t;
        let (fd, out) = (self.rx.as_raw_fd(), (&raw mut statistics).cast());
        // SAFETY: `out` is valid for writes of `len` bytes.
        let result =
            unsafe { libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, out, &mut len) };
        if result == 0 { statistics.tp_drops.into() } else { 0 }
    }
}

impl AsFd for PacketSocket {
    /// The socket that receives.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.rx.as_fd()
    }
}

/// A socket that sends to one device.
///
/// Unlike AF_XDP it can leave checksums and segmentation to the kernel, which has the device do them or,
/// where the device cannot, does them itself in one go.
#[derive(Debug)]
pub(crate) struct Sender {
    fd: OwnedFd,
}

impl Sender {
    /// A sender to the device `ifindex` of the calling thread's network namespace.
    ///
    /// # Errors
    /// As [`PacketSocket::open`].
    pub(crate) fn open(ifindex: u32) -> Result<Self, OsError> {
        Ok(Self { fd: open(ifindex, 0, libc::SO_SNDBUFFORCE, &[])? })
    }

    /// Sends packets, each with its header: message `n` is the buffers from where the one before ends
    /// to `ends[n]`. Returns how many the kernel took, from the first.
    ///
    /// # Errors
    /// Why the first was refused. `WouldBlock`, `ENOBUFS`: too much waits. `EMSGSIZE`: longer than the
    /// device's MTU. `EINVAL`: a malformed header. `ENETDOWN`, `ENXIO`: the device is down or gone.
    pub(crate) fn send(&self, buffers: &[IoSlice<'_>], ends: &[u16]) -> Result<usize, Errno> {
        if let [end] = *ends {
            let message = buffers.get(..usize::from(end)).unwrap_or(&[]);
            return rustix::io::writev(&self.fd, message).map(|_| 1);
        }
        let mut headers = empty_headers();
        let count = ends.len().min(MESSAGES);
        let mut start = 0;
        for (header, end) in headers.iter_mut().zip(ends) {
            let message = buffers.get(start..usize::from(*end)).unwrap_or(&[]);
            start = usize::from(*end);
            // `IoSlice` has the layout of `iovec`, which sending does not write to.
            header.msg_hdr.msg_iov = message.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_iovlen = message.len() as _;
        }
        let fd = self.fd.as_raw_fd();
        // SAFETY: the first `count` headers lead to buffers that are valid for reads and borrowed until
        // the call returns; there is no address and no control data.
        let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count as _, libc::MSG_DONTWAIT as _) };
        usize::try_from(sent).map_err(|_| last_errno())
    }
}

fn empty_headers() -> [libc::mmsghdr; MESSAGES] {
    // SAFETY: zeros are a message without buffers, address and control data.
    unsafe { std::mem::zeroed() }
}

/// A socket bound to a protocol of a device, 0 being none, with room in the buffer that `direction` names.
fn open(
    ifindex: u32,
    protocol: u16,
    direction: libc::c_int,
    filter: &[libc::sock_filter],
) -> Result<OwnedFd, OsError> {
    let failed = |step: &str, errno: Errno| {
        let missing = match errno {
            Errno::PERM if step == OPEN => "CAP_NET_RAW is missing",
            Errno::PERM => "CAP_NET_ADMIN is missing",
            _ => "",
        };
        OsError::new(format!("{step} of {}", device_name(ifindex)), errno).hint(missing)
    };
    let fd = socket().map_err(|errno| failed(OPEN, errno))?;
    let one: libc::c_int = 1;
    set(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &one)
        .map_err(|errno| failed("ask for virtio headers", errno))?;
    set(&fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &one)
        .map_err(|errno| failed("ignore what leaves", errno))?;
    set(&fd, libc::SOL_SOCKET, direction, &SOCKET_BUFFER)
        .map_err(|errno| failed("set the socket buffer", errno))?;
    if !filter.is_empty() {
        attach(&fd, filter).map_err(|errno| failed("filter the packets", errno))?;
    }
    // From here on it receives.
    bind(&fd, ifindex, protocol).map_err(|errno| failed("bind to packets", errno))?;
    Ok(fd)
}

/// The step of [`open`] that needs CAP_NET_RAW.
const OPEN: &str = "open a packet socket";

/// A socket that receives nothing yet.
fn socket() -> Result<OwnedFd, Errno> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers are passed.
    match unsafe { libc::socket(libc::AF_PACKET, flags, 0) } {
        // SAFETY: the descriptor is new and nobody else's.
        fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_errno()),
    }
}

fn attach(fd: &OwnedFd, filter: &[libc::sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // The kernel reads the instructions, of which there are `len`, before this returns.
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn bind(fd: &OwnedFd, ifindex: u32, protocol: u16) -> Result<(), Errno> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    sockopt::bind(fd, &address)
}
