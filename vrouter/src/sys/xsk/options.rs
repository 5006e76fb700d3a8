//! What an AF_XDP socket is opened with.

#[cfg(doc)]
use super::XskSocket;

/// How packets get between the device and the frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BindMode {
    /// The device reads and writes the frames; refused where the driver cannot.
    ZeroCopy,
    /// The kernel copies.
    Copy,
    /// Zero copy where the driver can, else copy; [`XskSocket::zero_copy`] tells.
    Any,
}

/// Busy polling: the caller's system calls run the device's receive processing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BusyPoll {
    /// Longest time of one poll, in microseconds.
    pub(crate) micros: u32,
    /// Most packets of one poll.
    pub(crate) budget: u32,
}

/// What a socket is opened with. Ring sizes are powers of two, in entries.
#[derive(Clone, Debug)]
pub(crate) struct XskOptions {
    /// Bytes of a frame: 2048 or 4096.
    pub(crate) chunk_size: u32,
    /// Bytes left free in front of received packets, beyond the 256 that the kernel
    /// leaves anyway (`XDP_PACKET_HEADROOM`).
    pub(crate) headroom: u32,
    pub(crate) fill_size: u32,
    pub(crate) comp_size: u32,
    pub(crate) rx_size: u32,
    pub(crate) tx_size: u32,
    /// Ignored for a socket that shares: it has the first one's.
    pub(crate) mode: BindMode,
    /// Lets the kernel sleep and say so in the rings' flags. As `mode`, the first
    /// socket's.
    pub(crate) need_wakeup: bool,
    /// Packets of several frames (`XDP_USE_SG`, Linux 6.6). As `mode`, the first
    /// socket's; the XDP program must be loaded for it too.
    pub(crate) multi_buffer: bool,
    /// Registers the memory with room for transmit metadata (Linux 6.8).
    pub(crate) tx_metadata: bool,
    pub(crate) busy_poll: Option<BusyPoll>,
    /// Copy mode: packets sent per system call, from 32 (the kernel's default) to
    /// `tx_size`. Kernels before 6.17 do not know it: see [`XskSocket::tx_budget`].
    pub(crate) tx_budget: Option<u32>,
}

impl Default for XskOptions {
    fn default() -> Self {
        Self {
            chunk_size: 2048,
            headroom: 0,
            fill_size: 2048,
            comp_size: 2048,
            rx_size: 2048,
            tx_size: 2048,
            mode: BindMode::Any,
            need_wakeup: true,
            multi_buffer: false,
            tx_metadata: false,
            busy_poll: None,
            tx_budget: None,
        }
    }
}

impl XskOptions {
    /// The flags of `sockaddr_xdp` for a device's first socket.
    pub(super) fn bind_flags(&self) -> u16 {
        let mut flags = match self.mode {
            BindMode::ZeroCopy => libc::XDP_ZEROCOPY,
            BindMode::Copy => libc::XDP_COPY,
            BindMode::Any => 0,
        };
        if self.need_wakeup {
            flags |= libc::XDP_USE_NEED_WAKEUP;
        }
        if self.multi_buffer {
            flags |= libc::XDP_USE_SG;
        }
        flags
    }
}
