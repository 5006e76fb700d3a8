//! AF_XDP socket of one device queue.
//!
//! ```text
//!            fill_push            rx_peek
//!   frames ----------> kernel ----------> packets
//!            tx_push           completion_pop
//!   packets ---------> kernel ---------------> frames
//! ```
//!
//! Each (device, queue) has its own fill and completion ring; one set of frames
//! serves all devices and queues. The first socket of a device registers the memory
//! as the device's UMEM, the sockets of its other queues share it. Sockets of
//! another device register the same memory anew, because the kernel copies the
//! first socket's zero-copy or copy mode to all sharers.
//!
//! Addresses are byte offsets into the [`MemoryArea`]. Every address pushed stays
//! with the kernel until it is received or completed, or the socket is dropped:
//! the socket keeps no list of them, so its owner must, to take them back after the
//! drop. Addresses come from frame handles that exist once; that is what keeps the
//! kernel's writes apart from borrows of the same bytes.
//!
//! Source: the kernel's `Documentation/networking/af_xdp.rst`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::error::OsError;
use super::ifreq::device_name;
use super::plain::Plain;
use super::ring::{Consumer, Producer};
use super::sockopt::{bind, get, set};
use super::umem::MemoryArea;

mod options;

pub(crate) use options::{BindMode, BusyPoll, XskOptions};

// Not in the libc crate (linux/if_xdp.h, asm-generic/socket.h).
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
const SO_BUSY_POLL: libc::c_int = 46;
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;

/// How long a bind that finds the queue busy is tried again: the kernel tears down
/// a closed socket asynchronously.
const BIND_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of [`tx_checksum_request`], written directly in front of the packet.
pub(crate) const TX_METADATA_LEN: usize = 24;

/// One entry of a receive or transmit ring (`struct xdp_desc`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub(crate) struct Desc {
    /// Offset of the packet's first byte in the memory area.
    pub(crate) addr: u64,
    /// Bytes of the packet in this frame.
    pub(crate) len: u32,
    /// [`Desc::MORE`], [`Desc::TX_METADATA`].
    pub(crate) options: u32,
}

impl Desc {
    /// The packet goes on in the next entry (`XDP_PKT_CONTD`).
    pub(crate) const MORE: u32 = libc::XDP_PKT_CONTD;
    /// Transmit only: [`TX_METADATA_LEN`] bytes in front of `addr` hold a request.
    pub(crate) const TX_METADATA: u32 = libc::XDP_TX_METADATA;

    /// Whether the packet goes on in the next entry.
    #[inline]
    pub(crate) fn more(&self) -> bool {
        self.options & Self::MORE != 0
    }
}

/// The metadata that asks the device to complete a checksum (`struct
/// xsk_tx_metadata`): from byte `start` of the packet to its end, stored `offset`
/// bytes after `start`, where the folded pseudo-header sum stands. For sockets
/// opened with [`XskOptions::tx_metadata`].
pub(crate) fn tx_checksum_request(start: u16, offset: u16) -> [u8; TX_METADATA_LEN] {
    let mut bytes = [0; TX_METADATA_LEN];
    bytes[..8].copy_from_slice(&u64::from(libc::XDP_TXMD_FLAGS_CHECKSUM).to_ne_bytes());
    bytes[8..10].copy_from_slice(&start.to_ne_bytes());
    bytes[10..12].copy_from_slice(&offset.to_ne_bytes());
    bytes
}

/// Losses that the kernel counted on a socket (`XDP_STATISTICS`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct XskStatistics {
    /// Received packets dropped for other reasons than a full ring (no frame, too long).
    pub(crate) rx_dropped: u64,
    /// Fill entries that were not a valid address.
    pub(crate) rx_invalid: u64,
    /// Transmit entries that were not valid.
    pub(crate) tx_invalid: u64,
    /// Received packets dropped because the receive ring was full.
    pub(crate) rx_ring_full: u64,
    /// Times that the fill ring was found empty.
    pub(crate) fill_empty: u64,
    /// Times that the transmit ring was found empty.
    pub(crate) tx_empty: u64,
}

/// An AF_XDP socket bound to one queue of one device.
///
/// `Send`, not `Sync`: one worker owns it at a time. Dropping it unmaps the rings
/// and closes the socket; the kernel then takes it out of any XSKMAP.
#[derive(Debug)]
pub(crate) struct XskSocket {
    rx: Consumer<Desc>,
    tx: Producer<Desc>,
    fill: Producer<u64>,
    completion: Consumer<u64>,
    zero_copy: bool,
    tx_budget: u32,
    ifindex: u32,
    queue: u32,
    fd: OwnedFd,
}

impl XskSocket {
    /// Opens and binds a socket for `queue` of the device `ifindex` (in the calling
    /// thread's network namespace) over `area`. `shared_with` is a bound socket of
    /// another queue of the same device, `None` for the device's first.
    ///
    /// A busy queue is tried again for two seconds.
    ///
    /// # Errors
    /// Each names the step and the device. `EOPNOTSUPP` at bind: the driver lacks the
    /// mode asked for; `EBUSY`: the queue has a socket; `ENOBUFS` when registering:
    /// CAP_IPC_LOCK is missing.
    pub(crate) fn open(
        area: &MemoryArea,
        ifindex: u32,
        queue: u32,
        options: &XskOptions,
        shared_with: Option<&XskSocket>,
    ) -> Result<Self, OsError> {
        let failed = |step: &str, errno: Errno, hint| {
            let device = device_name(ifindex);
            OsError::new(format!("{step} for queue {queue} of {device}"), errno).hint(hint)
        };
        for size in [options.fill_size, options.comp_size, options.rx_size, options.tx_size] {
            if !size.is_power_of_two() {
                let hint = "ring sizes must be powers of two";
                return Err(failed("open an AF_XDP socket", Errno::INVAL, hint));
            }
        }
        if shared_with.is_some_and(|first| first.ifindex != ifindex || first.queue == queue) {
            let hint = "memory is shared with another queue of the same device only";
            return Err(failed("open an AF_XDP socket", Errno::INVAL, hint));
        }

        let fd = rustix::net::socket_with(
            AddressFamily::from_raw(libc::AF_XDP as u16),
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| {
            let hint = match errno {
                Errno::AFNOSUPPORT => "the kernel is built without XDP_SOCKETS",
                Errno::PERM => "CAP_NET_RAW is missing",
                _ => "",
            };
            failed("open an AF_XDP socket", errno, hint)
        })?;

        if shared_with.is_none() {
            register(&fd, area, options).map_err(|errno| {
                let hint = match errno {
                    Errno::NOBUFS => "CAP_IPC_LOCK is missing and the memlock limit is too low",
                    Errno::INVAL => "bad frame size, or transmit metadata before Linux 6.8",
                    _ => "",
                };
                failed("register packet memory", errno, hint)
            })?;
        }
        let ring_step = |errno| failed("set up the AF_XDP rings", errno, "");
        for (option, size) in [
            (libc::XDP_UMEM_FILL_RING, options.fill_size),
            (libc::XDP_UMEM_COMPLETION_RING, options.comp_size),
            (libc::XDP_RX_RING, options.rx_size),
            (libc::XDP_TX_RING, options.tx_size),
        ] {
            set(&fd, libc::SOL_XDP, option, &size).map_err(ring_step)?;
        }
        let offsets: MmapOffsets = get(&fd, libc::XDP_MMAP_OFFSETS).map_err(ring_step)?;
        let (rx_at, tx_at) = (libc::XDP_PGOFF_RX_RING as u64, libc::XDP_PGOFF_TX_RING as u64);
        let fill_at = libc::XDP_UMEM_PGOFF_FILL_RING;
        let comp_at = libc::XDP_UMEM_PGOFF_COMPLETION_RING;
        let MmapOffsets([rx_off, tx_off, fill_off, comp_off]) = &offsets;
        let sock = fd.as_fd();
        let rx = Consumer::map(sock, rx_at, options.rx_size, rx_off).map_err(ring_step)?;
        let tx = Producer::map(sock, tx_at, options.tx_size, tx_off).map_err(ring_step)?;
        let fill = Producer::map(sock, fill_at, options.fill_size, fill_off).map_err(ring_step)?;
        let completion = Consumer::map(sock, comp_at, options.comp_size, comp_off).map_err(ring_step)?;

        if let Some(BusyPoll { micros, budget }) = options.busy_poll {
            [(SO_PREFER_BUSY_POLL, 1), (SO_BUSY_POLL, micros), (SO_BUSY_POLL_BUDGET, budget)]
                .into_iter()
                .try_for_each(|(option, value)| set(&fd, libc::SOL_SOCKET, option, &value))
                .map_err(|errno| failed("set busy polling", errno, "Linux 5.11 is needed"))?;
        }
        let mut tx_budget = 32;
        if let Some(budget) = options.tx_budget {
            match set(&fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget) {
                Ok(()) => tx_budget = budget,
                Err(Errno::NOPROTOOPT) => {}
                Err(errno) => {
                    let hint = "it must be from 32 to the transmit ring's size";
                    return Err(failed("set the transmit budget", errno, hint));
                }
            }
        }

        let flags = match (shared_with, options) {
            (Some(_), _) => libc::XDP_SHARED_UMEM,
            (None, options) => options.bind_flags(),
        };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: shared_with.map_or(0, |first| first.fd.as_raw_fd() as u32),
        };
        bind_patiently(&fd, &address).map_err(|errno| {
            let hint = match errno {
                Errno::BUSY => "the queue has another AF_XDP socket",
                Errno::OPNOTSUPP => "the driver cannot do this mode",
                Errno::INVAL => "no such queue, or an option that this kernel does not know",
                Errno::NODEV => "the device is gone",
                Errno::NETDOWN => "the device is down",
                _ => "",
            };
            failed("bind an AF_XDP socket", errno, hint)
        })?;
        let bound: u32 =
            get(&fd, libc::XDP_OPTIONS).map_err(|errno| failed("read the AF_XDP mode", errno, ""))?;
        let zero_copy = bound & libc::XDP_OPTIONS_ZEROCOPY != 0;
        Ok(Self { rx, tx, fill, completion, zero_copy, tx_budget, ifindex, queue, fd })
    }

    /// Moves received packets into `out`, oldest first; how many entries. Their frames
    /// are the caller's from then on.
    #[inline]
    pub(crate) fn rx_peek(&mut self, out: &mut [Desc]) -> usize {
        self.rx.pop(out)
    }

    /// Shows the packets that [`rx_peek`](Self::rx_peek) will yield next, oldest first; how many entries.
    #[inline]
    pub(crate) fn rx_look(&mut self, out: &mut [Desc]) -> usize {
        self.rx.look(out)
    }

    /// Received packets that wait.
    #[inline]
    pub(crate) fn rx_waiting(&mut self) -> usize {
        self.rx.available()
    }

    /// Gives frames to the kernel to receive into; how many of the first it took. Any
    /// address inside a frame stands for the frame.
    #[inline]
    pub(crate) fn fill_push(&mut self, addrs: &[u64]) -> usize {
        self.fill.push(addrs)
    }

    /// Frames that the fill ring can take now.
    #[inline]
    pub(crate) fn fill_free(&mut self) -> usize {
        self.fill.free()
    }

    /// Queues packets for transmission; how many of the first entries it took. The
    /// entries of one packet must follow each other, so check
    /// [`tx_free`](Self::tx_free) before pushing a chain.
    #[inline]
    pub(crate) fn tx_push(&mut self, descs: &[Desc]) -> usize {
        self.tx.push(descs)
    }

    /// Entries that the transmit ring can take now.
    #[inline]
    pub(crate) fn tx_free(&mut self) -> usize {
        self.tx.free()
    }

    /// Entries of the transmit ring that the kernel has not taken yet.
    #[inline]
    pub(crate) fn tx_pending(&mut self) -> usize {
        self.tx.pending()
    }

    /// Moves addresses of transmitted entries into `out`, as they were pushed; how
    /// many. Their frames are the caller's from then on. The kernel sends nothing
    /// while the completion ring is full.
    #[inline]
    pub(crate) fn completion_pop(&mut self, out: &mut [u64]) -> usize {
        self.completion.pop(out)
    }

    /// Whether queued packets wait for [`kick_tx`](Self::kick_tx). Always set in copy
    /// mode; meaningless without `need_wakeup`, where a kick is always needed in copy
    /// mode too.
    #[inline]
    pub(crate) fn tx_needs_wakeup(&self) -> bool {
        self.tx.needs_wakeup()
    }

    /// Whether reception waits for [`wake_rx`](Self::wake_rx), as when the fill ring
    /// was empty.
    #[inline]
    pub(crate) fn fill_needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    /// Lets the kernel send what is queued. One call a batch: in copy mode it sends at
    /// most [`tx_budget`](Self::tx_budget) packets, and what is left over waits for the
    /// next call, which is not an error.
    ///
    /// # Errors
    /// `ENETDOWN`, `ENXIO`: the device is down or gone.
    pub(crate) fn kick_tx(&self) -> io::Result<()> {
        match rustix::net::send(&self.fd, &[], SendFlags::DONTWAIT) {
            Ok(_) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Lets the kernel receive into the frames of the fill ring.
    ///
    /// # Errors
    /// `ENETDOWN`, `ENXIO`: the device is down or gone.
    pub(crate) fn wake_rx(&self) -> io::Result<()> {
        match rustix::net::recv(&self.fd, &mut [0u8; 0], RecvFlags::DONTWAIT) {
            Ok(_) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The kernel's counts of losses, since the socket was opened.
    pub(crate) fn statistics(&self) -> io::Result<XskStatistics> {
        let s: Statistics = get(&self.fd, libc::XDP_STATISTICS)?;
        let [rx_dropped, rx_invalid, tx_invalid, rx_ring_full, fill_empty, tx_empty] = s.0;
        Ok(XskStatistics { rx_dropped, rx_invalid, tx_invalid, rx_ring_full, fill_empty, tx_empty })
    }

    /// Whether the device uses the frames itself.
    pub(crate) fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Packets that one [`kick_tx`](Self::kick_tx) sends at most in copy mode.
    pub(crate) fn tx_budget(&self) -> u32 {
        self.tx_budget
    }

    /// The device it is bound to.
    pub(crate) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The queue it is bound to.
    pub(crate) fn queue(&self) -> u32 {
        self.queue
    }
}

impl AsFd for XskSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `struct xdp_mmap_offsets`, in the kernel's order: rx, tx, fill, completion.
#[repr(C)]
#[derive(Clone, Copy)]
struct MmapOffsets([libc::xdp_ring_offset; 4]);

// SAFETY: 16 integers of 64 bits.
unsafe impl Plain for MmapOffsets {}

/// `struct xdp_statistics`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Statistics([u64; 6]);

// SAFETY: integers.
unsafe impl Plain for Statistics {}

fn register(fd: &OwnedFd, area: &MemoryArea, options: &XskOptions) -> Result<(), Errno> {
    let (flags, tx_metadata_len) = match options.tx_metadata {
        true => (libc::XDP_UMEM_TX_METADATA_LEN, TX_METADATA_LEN as u32),
        false => (0, 0),
    };
    let registration = libc::xdp_umem_reg {
        addr: area.base().as_ptr() as u64,
        len: area.mapped_len() as u64,
        chunk_size: options.chunk_size,
        headroom: options.headroom,
        flags,
        tx_metadata_len,
    };
    set(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)
}

fn bind_patiently(fd: &OwnedFd, address: &libc::sockaddr_xdp) -> Result<(), Errno> {
    let deadline = Instant::now() + BIND_PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        let Err(errno) = bind(fd, address) else {
            return Ok(());
        };
        if errno != Errno::BUSY || Instant::now() >= deadline {
            return Err(errno);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests;
