//! A device under AF_XDP: its XDP program and the sockets of all its queues. On request, a device under
//! packet sockets, with the program that stands in front of them.
//!
//! Every receive queue gets a socket, because the device spreads packets over its
//! queues by a hash that we do not choose. Sockets of one device share the memory
//! registration; the program is attached last, when every queue has its socket, and
//! by a bpf_link, so that it is gone as soon as the process is.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use encap::wire::ethernet::{self, MacAddr};
use ipnet::IpNet;

use super::queue::{MAX_ENTRIES, Queue};
use super::whole::Whole;
use crate::burst::LANES;
use crate::frame::{FrameArea, HEADROOM};
use crate::port::{PortQueue, packet_socket};
use crate::sys::OsError;
use crate::sys::bpf::XdpMode;
use crate::sys::device_xdp::{self, AttachError, AttachMode, DeviceXdp};
use crate::sys::ethtool::Channels;
use crate::sys::ifreq::Interface;
use crate::sys::xsk::{BindMode, BusyPoll, XskOptions, XskSocket};

/// Who else has a part in the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// The kernel keeps everything that is not ours.
    Host,
    /// Nobody: every frame is ours.
    Exclusive,
}

impl From<Sharing> for device_xdp::Sharing {
    fn from(sharing: Sharing) -> Self {
        match sharing {
            Sharing::Host => device_xdp::Sharing::Host,
            Sharing::Exclusive => device_xdp::Sharing::Exclusive,
        }
    }
}

/// Which way to ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// The best that works.
    #[default]
    Auto,
    /// Zero copy or nothing.
    ZeroCopy,
    /// Native XDP, the kernel copies.
    Copy,
    /// XDP on socket buffers: works everywhere, slowest.
    Generic,
    /// No XDP: super-packets, by [`packet_socket`].
    PacketSocket,
}

/// How packets get from and to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crossing {
    /// The device writes into and reads from the frames.
    ZeroCopy,
    /// The driver's XDP; the kernel copies.
    NativeCopy,
    /// XDP on socket buffers; the kernel copies.
    Generic,
    /// Packet sockets; the kernel copies, and cuts up super-packets or has the device do it.
    PacketSocket,
}

impl fmt::Display for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Crossing::ZeroCopy => "zero-copy",
            Crossing::NativeCopy => "native copy",
            Crossing::Generic => "generic copy",
            Crossing::PacketSocket => "packet socket",
        })
    }
}

/// What is left to measurement; `bench/af-xdp-options` is the one that chose the defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuning {
    /// The kernel may sleep until it is woken, and says so. Without it, a zero-copy driver polls
    /// of itself; in copy mode it changes nothing on transmit.
    pub need_wakeup: bool,
    /// System calls of the worker run the device's receive processing: for at most so many
    /// microseconds, at most so many packets.
    pub busy_poll: Option<(u32, u32)>,
    /// Copy mode: packets sent by one system call, from 32 (the kernel's own figure) to the ring's
    /// entries.
    pub tx_budget: u32,
    /// Packets received at a time, 1 to 64.
    pub batch: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning { need_wakeup: true, busy_poll: None, tx_budget: 256, batch: LANES }
    }
}

/// Frames to receive into that a pod keeps with the kernel.
const POD_FRAMES: u32 = 256;

/// How to open a device.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// Who else has a part in it.
    pub sharing: Sharing,
    /// Which way to ask for.
    pub mode: Mode,
    /// Frames that each queue keeps with the kernel to receive into.
    pub fill_depth: u32,
    /// Entries of the transmit ring.
    pub ring_size: u32,
    /// Entries of the receive ring: packets that may wait, as long as frames are provided.
    pub rx_ring_size: u32,
    /// What is left to measurement.
    pub tuning: Tuning,
}

impl DeviceOptions {
    /// An uplink: deep rings.
    pub fn uplink(sharing: Sharing) -> Self {
        DeviceOptions {
            sharing,
            mode: Mode::Auto,
            fill_depth: 2048,
            ring_size: 2048,
            rx_ring_size: 2048,
            tuning: Tuning::default(),
        }
    }

    /// The host's end of a pod's veth pair with so many queues: there are many pods, so each has few
    /// frames, which its queues share.
    pub fn pod(queues: u32) -> Self {
        DeviceOptions {
            sharing: Sharing::Exclusive,
            mode: Mode::Auto,
            fill_depth: (POD_FRAMES / queues.max(1)).max(64),
            ring_size: 512,
            rx_ring_size: 2048,
            tuning: Tuning::default(),
        }
    }
}

/// The largest MTU whose Ethernet frames fit one packet frame of `frame_size` bytes: what every driver
/// with XDP can do.
pub fn single_frame_mtu(frame_size: u32) -> u32 {
    (frame_size as usize - HEADROOM - ethernet::HEADER_LEN) as u32
}

/// The largest MTU of a device that takes packets of several frames. One frame is left for headers
/// that the router puts in front.
pub fn largest_mtu(frame_size: u32) -> u32 {
    let room = (MAX_ENTRIES - 1) * (frame_size as usize - HEADROOM);
    (room - ethernet::HEADER_LEN).min(usize::from(u16::MAX)) as u32
}

/// Why a device could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeviceError {
    /// The device has an XDP program of somebody else.
    InUse(String),
    /// The device's MTU asks for packets of several frames, which the driver or the kernel refuses.
    MtuTooLarge {
        /// The device.
        device: String,
        /// Its MTU.
        mtu: u32,
        /// Bytes of a frame.
        frame_size: u32,
        /// The step that was refused.
        refusal: String,
    },
    /// The kernel refused a step.
    Os(String),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceError::InUse(what) | DeviceError::Os(what) => f.write_str(what),
            DeviceError::MtuTooLarge { device, mtu, frame_size, refusal } => {
                let works = single_frame_mtu(*frame_size);
                write!(
                    f,
                    "{device}: its MTU of {mtu} asks for packets of several frames, which is refused here \
                     ({refusal}); an MTU of at most {works} works"
                )?;
                if *frame_size < 4096 {
                    write!(f, ", of {} with memory.frame_size = 4096", single_frame_mtu(4096))?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for DeviceError {}

impl DeviceError {
    /// What a refusal of a step means on a device whose packets take several frames.
    fn with_mtu(self, device: &str, mtu: u32, frame_size: u32) -> Self {
        match self {
            DeviceError::Os(refusal) => {
                DeviceError::MtuTooLarge { device: device.to_owned(), mtu, frame_size, refusal }
            }
            other => other,
        }
    }
}

impl From<OsError> for DeviceError {
    fn from(error: OsError) -> Self {
        DeviceError::Os(error.to_string())
    }
}

impl From<AttachError> for DeviceError {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::AlreadyAttached { .. } => DeviceError::InUse(error.to_string()),
            AttachError::Os(error) => error.into(),
        }
    }
}

/// A device that is open. Dropping it detaches the program.
#[derive(Debug)]
pub struct Device {
    xdp: DeviceXdp,
    crossing: Crossing,
    crossing_reason: String,
    mac: MacAddr,
    mtu: u32,
    multi_buffer: bool,
    queues: u32,
}

impl Device {
    /// Opens every receive queue of the device `name`, in the calling thread's network
    /// namespace.
    ///
    /// # Errors
    /// Which step failed on which device, and why; which MTU would work, where that is what stands in
    /// the way.
    pub fn open(
        area: &Arc<FrameArea>,
        name: &str,
        options: &DeviceOptions,
    ) -> Result<(Device, Vec<Box<dyn PortQueue>>), DeviceError> {
        let interface = Interface::open(name)?;
        let mtu = interface.mtu()?;
        if options.mode == Mode::PacketSocket {
            return Self::open_packet_sockets(&interface, options, mtu);
        }
        let multi_buffer = mtu > single_frame_mtu(area.frame_size());
        match Self::open_as(area, &interface, options, mtu, multi_buffer) {
            // Without several frames a packet it fails all the same: the MTU is not why.
            Err(error) if multi_buffer && !would_open(area, &interface, options) => Err(error),
            Err(error) if multi_buffer => Err(error.with_mtu(name, mtu, area.frame_size())),
            outcome => outcome,
        }
    }

    fn open_packet_sockets(
        interface: &Interface,
        options: &DeviceOptions,
        mtu: u32,
    ) -> Result<(Device, Vec<Box<dyn PortQueue>>), DeviceError> {
        let ifindex = interface.index()?;
        let mut xdp = DeviceXdp::load_ingress(options.sharing.into())?;
        let queues = packet_socket::queues(ifindex, options.sharing == Sharing::Host)?;
        xdp.attach_ingress(ifindex)?;
        let device = Device {
            xdp,
            crossing: Crossing::PacketSocket,
            crossing_reason: "asked for".to_owned(),
            mac: MacAddr(interface.hardware_address()?),
            mtu,
            multi_buffer: true,
            queues: queues.len() as u32,
        };
        Ok((device, queues))
    }

    fn open_as(
        area: &Arc<FrameArea>,
        interface: &Interface,
        options: &DeviceOptions,
        mtu: u32,
        multi_buffer: bool,
    ) -> Result<(Device, Vec<Box<dyn PortQueue>>), DeviceError> {
        let ifindex = interface.index()?;
        let mac = MacAddr(interface.hardware_address()?);
        let channels = interface.channels()?;
        let count = channels.as_ref().map_or(1, Channels::rx_queues).max(1);
        let is_veth = interface.driver().is_ok_and(|driver| driver == "veth");

        let xsk = socket_options(area, options, multi_buffer);
        let mut queues: Vec<Box<Queue>> = Vec::with_capacity(count as usize);
        for index in 0..count {
            let first = queues.first().map(|queue| queue.socket());
            let socket = XskSocket::open(area.memory(), ifindex, index, &xsk, first)?;
            let depth = options.fill_depth as usize;
            let batch = options.tuning.batch;
            queues.push(Box::new(Queue::new(socket, area.clone(), depth, batch, multi_buffer, is_veth)));
        }
        let (xdp, attached) = attach(ifindex, options, multi_buffer, &queues)?;
        let zero_copy = queues.first().is_some_and(|queue| queue.socket().zero_copy());
        // With several transmit queues the kernel would choose another than the ring's.
        let one_queue = channels.is_none_or(|channels| channels.tx_queues() == 1);
        if let [queue] = &mut queues[..]
            && is_veth
            && one_queue
        {
            match Whole::open(ifindex) {
                Ok(whole) => queue.send_super_packets_by(whole),
                // They are cut up here instead.
                Err(error) => tracing::warn!("{error}"),
            }
        }
        let (crossing, crossing_reason) = describe(attached, zero_copy, &xdp);
        let queues = queues.into_iter().map(|queue| queue as Box<dyn PortQueue>).collect();
        Ok((Device { xdp, crossing, crossing_reason, mac, mtu, multi_buffer, queues: count }, queues))
    }

    /// How packets get from and to the device.
    pub fn crossing(&self) -> Crossing {
        self.crossing
    }

    /// Why not in a better way; empty where there is none.
    pub fn crossing_reason(&self) -> &str {
        &self.crossing_reason
    }

    /// The device's MAC address when it was opened.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// The device's MTU when it was opened.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Whether it was opened as such an MTU asks for, with `frame_size` bytes in a frame.
    pub fn suits(&self, mtu: u32, frame_size: u32) -> bool {
        let several = mtu > single_frame_mtu(frame_size);
        self.crossing == Crossing::PacketSocket || self.multi_buffer == several
    }

    /// Receive queues, each with a socket: the device's, or one for each IP version on packet sockets that
    /// share it.
    pub fn queues(&self) -> u32 {
        self.queues
    }

    /// Takes packets to a prefix from the kernel.
    ///
    /// # Errors
    /// The program's table is full, or the kernel refuses.
    pub fn take(&self, prefix: IpNet) -> Result<(), DeviceError> {
        Ok(self.xdp.take(prefix)?)
    }

    /// Leaves packets to a prefix to the kernel, within a longer-reaching `take`.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub fn pass(&self, prefix: IpNet) -> Result<(), DeviceError> {
        Ok(self.xdp.pass(prefix)?)
    }

    /// Undoes `take` or `pass`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget(&self, prefix: IpNet) -> Result<(), DeviceError> {
        Ok(self.xdp.forget(prefix)?)
    }

    /// Takes tunnel packets to these addresses of ours.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub fn set_tunnel_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), DeviceError> {
        Ok(self.xdp.set_tunnel_local(addresses)?)
    }

    /// Leaves tunnel packets from these addresses to the kernel.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub fn set_foreign_tunnels(&mut self, addresses: &[IpAddr]) -> Result<(), DeviceError> {
        Ok(self.xdp.set_foreign_tunnels(addresses)?)
    }

    /// Packets passed to the kernel, redirected to us, and dropped because their
    /// queue had no socket.
    pub fn program_counters(&self) -> (u64, u64, u64) {
        self.xdp.counters().map_or((0, 0, 0), |c| (c.passed, c.redirected, c.dropped_no_socket))
    }
}

fn socket_options(area: &FrameArea, options: &DeviceOptions, multi_buffer: bool) -> XskOptions {
    XskOptions {
        chunk_size: area.frame_size(),
        fill_size: options.fill_depth.next_power_of_two(),
        comp_size: options.ring_size,
        rx_size: options.rx_ring_size,
        tx_size: options.ring_size,
        mode: match options.mode {
            Mode::Auto => BindMode::Any,
            Mode::ZeroCopy => BindMode::ZeroCopy,
            Mode::Copy | Mode::Generic | Mode::PacketSocket => BindMode::Copy,
        },
        need_wakeup: options.tuning.need_wakeup,
        multi_buffer,
        busy_poll: options.tuning.busy_poll.map(|(micros, budget)| BusyPoll { micros, budget }),
        tx_budget: Some(options.tuning.tx_budget.min(options.ring_size)),
        ..XskOptions::default()
    }
}

/// Loads the program and attaches it, with the sockets of all queues in its map.
///
/// It is one for packets of several buffers wherever the driver takes such, whatever the MTU is now: with
/// another one attached the device's MTU, and that of a veth's peer, could not grow any more.
fn attach(
    ifindex: u32,
    options: &DeviceOptions,
    multi_buffer: bool,
    queues: &[Box<Queue>],
) -> Result<(DeviceXdp, XdpMode), DeviceError> {
    let load = |several: bool| {
        let xdp = DeviceXdp::load(options.sharing.into(), several)?;
        for queue in queues {
            xdp.register_socket(queue.socket().queue(), queue.socket().as_fd())?;
        }
        Ok::<_, DeviceError>(xdp)
    };
    let mode = match options.mode {
        Mode::Auto => AttachMode::Auto,
        Mode::ZeroCopy | Mode::Copy => AttachMode::Native,
        Mode::Generic | Mode::PacketSocket => AttachMode::Generic,
    };
    if !multi_buffer
        && mode != AttachMode::Generic
        && let Ok(mut xdp) = load(true)
    {
        match xdp.attach(ifindex, AttachMode::Native) {
            Ok(attached) => return Ok((xdp, attached)),
            Err(error @ AttachError::AlreadyAttached { .. }) => return Err(error.into()),
            Err(AttachError::Os(_)) => {}
        }
    }
    let mut xdp = load(multi_buffer)?;
    let attached = xdp.attach(ifindex, mode)?;
    Ok((xdp, attached))
}

/// Whether the device's first queue takes a socket for packets of one frame.
fn would_open(area: &Arc<FrameArea>, interface: &Interface, options: &DeviceOptions) -> bool {
    let Ok(ifindex) = interface.index() else { return false };
    XskSocket::open(area.memory(), ifindex, 0, &socket_options(area, options, false), None).is_ok()
}

fn describe(attached: XdpMode, zero_copy: bool, xdp: &DeviceXdp) -> (Crossing, String) {
    match (attached, zero_copy) {
        (XdpMode::Native, true) => (Crossing::ZeroCopy, String::new()),
        (XdpMode::Native, false) => (Crossing::NativeCopy, "the driver has no zero-copy AF_XDP".to_owned()),
        (XdpMode::Generic, _) => {
            let refusal = xdp.native_refusal().map(ToString::to_string);
            (Crossing::Generic, refusal.unwrap_or_else(|| "asked for".to_owned()))
        }
    }
}
