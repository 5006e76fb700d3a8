//! ethtool by ioctl: channels, driver, transmit checksum offload.
//!
//! Source: `linux/ethtool.h`.

use std::os::fd::AsRawFd;

use rustix::io::Errno;

use super::error::{OsError, last_errno};
use super::ifreq::Interface;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// Queues in use. A combined channel is a receive and a transmit queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Channels {
    /// Receive-only channels.
    pub(crate) rx: u32,
    /// Transmit-only channels.
    pub(crate) tx: u32,
    pub(crate) combined: u32,
}

impl Channels {
    /// Receive queues: each needs an AF_XDP socket.
    pub(crate) fn rx_queues(&self) -> u32 {
        (self.rx + self.combined).max(1)
    }

    /// Transmit queues.
    pub(crate) fn tx_queues(&self) -> u32 {
        (self.tx + self.combined).max(1)
    }
}

impl Interface {
    /// The queues in use; `None` when the driver does not say (most have one then).
    pub(crate) fn channels(&self) -> Result<Option<Channels>, OsError> {
        let mut value = Values::<9>::new(ETHTOOL_GCHANNELS);
        match self.ethtool("read the channels of", &mut value) {
            Ok(()) => {
                // Four maxima come first.
                let [_, _, _, _, _, rx, tx, _other, combined] = value.0;
                Ok(Some(Channels { rx, tx, combined }))
            }
            Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The driver's name: `veth`, `virtio_net`, `mlx5_core`.
    pub(crate) fn driver(&self) -> Result<String, OsError> {
        let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
        self.ethtool("read the driver of", &mut info)?;
        let end = info.driver.iter().position(|&b| b == 0).unwrap_or(info.driver.len());
        Ok(String::from_utf8_lossy(&info.driver[..end]).into_owned())
    }

    /// Whether the device's stack leaves TCP and UDP checksums to the device.
    pub(crate) fn tx_checksum(&self) -> Result<bool, OsError> {
        let mut value = Values::<2>::new(ETHTOOL_GTXCSUM);
        self.ethtool("read the checksum offload of", &mut value)?;
        Ok(value.0[1] != 0)
    }

    /// Turns transmit checksum offload on or off (`ethtool -K NAME tx on|off`). Off, the
    /// device's stack sends complete checksums; segmentation offload ends with it. A
    /// pod's packets then reach the other end of its veth complete.
    ///
    /// # Errors
    /// Also when the device keeps its state in spite of the request.
    pub(crate) fn set_tx_checksum(&self, on: bool) -> Result<(), OsError> {
        let step = "set the checksum offload of";
        let mut value = Values::<2>::new(ETHTOOL_STXCSUM);
        value.0[1] = on.into();
        self.ethtool(step, &mut value)?;
        if self.tx_checksum()? == on {
            return Ok(());
        }
        Err(self.failed(step, Errno::OPNOTSUPP).hint("the driver does not let it change"))
    }

    fn ethtool<T: Command>(&self, step: &str, command: &mut T) -> Result<(), OsError> {
        let mut request = self.request();
        request.ifr_ifru.ifru_data = std::ptr::from_mut(command).cast();
        // SAFETY: SIOCETHTOOL follows `ifru_data` and reads and writes there the
        // structure that its first word names; `Command` vouches that it is `T`.
        match unsafe { libc::ioctl(self.socket().as_raw_fd(), SIOCETHTOOL, &mut request) } {
            0 => Ok(()),
            _ => Err(self.failed(step, last_errno())),
        }
    }
}

/// A structure that starts with its ethtool command number.
///
/// # Safety
/// The type is `repr(C)` or transparent, and at least as large as what the kernel
/// reads and writes for every command that its values are made with.
unsafe trait Command {}

/// `ethtool_value` (2 words), `ethtool_channels` (9 words).
#[repr(transparent)]
struct Values<const N: usize>([u32; N]);

impl<const N: usize> Values<N> {
    fn new(command: u32) -> Self {
        let mut words = [0; N];
        words[0] = command;
        Self(words)
    }
}

// SAFETY: GTXCSUM and STXCSUM take two words, GCHANNELS nine, as made above.
unsafe impl<const N: usize> Command for Values<N> {}

/// `ethtool_drvinfo`: command, driver, version, and more that we do not read.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

// SAFETY: `ethtool_drvinfo` has 196 bytes, as this has.
unsafe impl Command for DriverInfo {}
const _: () = assert!(size_of::<DriverInfo>() == 196);

#[cfg(test)]
mod tests {
    use super::super::test_net::{in_new_netns, ip};
    use super::*;

    #[test]
    fn veth_queues_driver_and_offload_root() {
        in_new_netns(|| {
            ip("link add name va numrxqueues 3 numtxqueues 2 type veth peer name vb");
            let a = Interface::open("va").unwrap();
            assert_eq!(a.driver().unwrap(), "veth");
            let channels = a.channels().unwrap().unwrap();
            assert_eq!((channels.rx_queues(), channels.tx_queues()), (3, 2));
            assert!(a.tx_checksum().unwrap());
            a.set_tx_checksum(false).unwrap();
            assert!(!a.tx_checksum().unwrap());
            a.set_tx_checksum(true).unwrap();
            assert!(a.tx_checksum().unwrap());
        });
    }

    #[test]
    fn a_driver_that_does_not_tell_its_channels_root() {
        in_new_netns(|| {
            ip("link add name br0 type bridge");
            assert_eq!(Interface::open("br0").unwrap().channels().unwrap(), None);
            // Loopback always leaves checksums out.
            let text = Interface::open("lo").unwrap().set_tx_checksum(false).unwrap_err();
            assert!(text.to_string().contains("set the checksum offload of lo"), "{text}");
        });
    }
}
