//! Ioctls on a network device by name: index, MAC address, flags, MTU.
//!
//! Source: netdevice(7).

use std::ffi::c_char;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::error::{OsError, last_errno};

/// A device, addressed by its name in the network namespace where the value was made.
///
/// The value keeps a socket of that namespace, so it works from any thread.
#[derive(Debug)]
pub(crate) struct Interface {
    name: String,
    socket: OwnedFd,
}

impl Interface {
    /// Opens the device `name` in the calling thread's network namespace.
    ///
    /// # Errors
    /// The name is empty or longer than 15 bytes, or there is no such device.
    pub(crate) fn open(name: &str) -> Result<Self, OsError> {
        let failed = |errno, hint| OsError::new(format!("open the device {name}"), errno).hint(hint);
        encode_name(name).map_err(|hint| failed(Errno::INVAL, hint))?;
        let socket = control_socket().map_err(|errno| failed(errno, ""))?;
        let interface = Self { name: name.into(), socket };
        interface.index()?;
        Ok(interface)
    }

    /// The name that the device was opened by.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The device's number in its namespace. It changes when the device is re-created.
    pub(crate) fn index(&self) -> Result<u32, OsError> {
        let request = self.ioctl(libc::SIOCGIFINDEX, "find", self.request())?;
        // SAFETY: SIOCGIFINDEX fills this member; any bit pattern is a valid integer.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
    }

    /// The Ethernet address.
    ///
    /// # Errors
    /// Also when the device is not an Ethernet device.
    pub(crate) fn hardware_address(&self) -> Result<[u8; 6], OsError> {
        let step = "read the MAC address of";
        let request = self.ioctl(libc::SIOCGIFHWADDR, step, self.request())?;
        decode_ethernet(&request)
            .ok_or_else(|| self.failed(step, Errno::INVAL).hint("it is not an Ethernet device"))
    }

    /// Sets the Ethernet address.
    pub(crate) fn set_hardware_address(&self, address: [u8; 6]) -> Result<(), OsError> {
        let mut request = self.request();
        request.ifr_ifru.ifru_hwaddr = encode_ethernet(address);
        self.ioctl(libc::SIOCSIFHWADDR, "set the MAC address of", request).map(drop)
    }

    /// `IFF_UP`, `IFF_RUNNING` (carrier) and the other flags of netdevice(7).
    pub(crate) fn flags(&self) -> Result<u16, OsError> {
        let request = self.ioctl(libc::SIOCGIFFLAGS, "read the flags of", self.request())?;
        // SAFETY: SIOCGIFFLAGS fills this member; any bit pattern is a valid integer.
        Ok(unsafe { request.ifr_ifru.ifru_flags } as u16)
    }

    /// Sets the device up or down, leaving its other flags.
    pub(crate) fn set_up(&self, up: bool) -> Result<(), OsError> {
        let bit = libc::IFF_UP as u16;
        let flags = self.flags()?;
        let flags = if up { flags | bit } else { flags & !bit };
        let mut request = self.request();
        request.ifr_ifru.ifru_flags = flags as i16;
        self.ioctl(libc::SIOCSIFFLAGS, "set the flags of", request).map(drop)
    }

    /// Largest L3 packet, in bytes.
    pub(crate) fn mtu(&self) -> Result<u32, OsError> {
        let request = self.ioctl(libc::SIOCGIFMTU, "read the MTU of", self.request())?;
        // SAFETY: SIOCGIFMTU fills this member; any bit pattern is a valid integer.
        Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
    }

    /// Sets the largest L3 packet, in bytes.
    ///
    /// # Errors
    /// `EINVAL`, `ERANGE`: out of the driver's range, or too large for a native XDP
    /// program that does not take packets of several buffers.
    pub(crate) fn set_mtu(&self, mtu: u32) -> Result<(), OsError> {
        let mut request = self.request();
        request.ifr_ifru.ifru_mtu = i32::try_from(mtu).unwrap_or(i32::MAX);
        self.ioctl(libc::SIOCSIFMTU, "set the MTU of", request).map(drop)
    }

    pub(super) fn request(&self) -> libc::ifreq {
        let name = encode_name(&self.name).expect("checked when the value was made");
        request(name)
    }

    pub(super) fn failed(&self, step: &str, errno: Errno) -> OsError {
        let error = OsError::new(format!("{step} {}", self.name), errno);
        match errno {
            Errno::NODEV => error.hint("no such device in this network namespace"),
            Errno::PERM => error.hint("CAP_NET_ADMIN is missing"),
            _ => error,
        }
    }

    /// One of the ioctls of this file, which read and write `ifreq` only.
    fn ioctl(&self, code: libc::Ioctl, step: &str, mut request: libc::ifreq) -> Result<libc::ifreq, OsError> {
        // SAFETY: the netdevice ioctls above take an `ifreq` that they read and fill in
        // place; none of them follows a pointer in it.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), code, &mut request) } {
            0 => Ok(request),
            _ => Err(self.failed(step, last_errno())),
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }
}

/// The device's name for messages, or its number when it has none here.
pub(super) fn device_name(ifindex: u32) -> String {
    control_socket()
        .and_then(|socket| rustix::net::netdevice::index_to_name(&socket, ifindex))
        .unwrap_or_else(|_| format!("device {ifindex}"))
}

fn control_socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

/// The name as the kernel takes it, or what is wrong with it.
pub(super) fn encode_name(name: &str) -> Result<[c_char; libc::IFNAMSIZ], &'static str> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err("a device name has 1 to 15 bytes");
    }
    if name.bytes().any(|b| b == b'/' || b == 0 || b == b':' || b.is_ascii_whitespace()) {
        return Err("a device name has no space, slash, colon or zero byte");
    }
    let mut encoded = [0; libc::IFNAMSIZ];
    for (to, from) in encoded.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    Ok(encoded)
}

pub(super) fn request(name: [c_char; libc::IFNAMSIZ]) -> libc::ifreq {
    // SAFETY: `ifreq` is integers, byte arrays and null-able pointers: all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name = name;
    request
}

pub(super) fn decode_ethernet(request: &libc::ifreq) -> Option<[u8; 6]> {
    // SAFETY: only called on requests whose address member the kernel filled; it is
    // integers, for which any bit pattern is valid.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    let [a, b, c, d, e, f, ..] = address.sa_data.map(|byte| byte as u8);
    (address.sa_family == libc::ARPHRD_ETHER).then_some([a, b, c, d, e, f])
}

pub(super) fn encode_ethernet(address: [u8; 6]) -> libc::sockaddr {
    let mut sa_data = [0; 14];
    for (to, from) in sa_data.iter_mut().zip(address) {
        *to = from as c_char;
    }
    libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data }
}

#[cfg(test)]
mod tests {
    use super::super::netns::Netns;
    use super::super::test_net::{in_new_netns, ip};
    use super::*;

    #[test]
    fn reads_and_sets_from_outside_the_namespace_root() {
        let (device, netns) = in_new_netns(|| {
            ip("link add name va mtu 1400 type veth peer name vb");
            ip("link set va address 02:00:00:00:00:0a");
            (Interface::open("va").unwrap(), Netns::current().unwrap())
        });
        assert_eq!(device.hardware_address().unwrap(), [2, 0, 0, 0, 0, 0xa]);
        assert_eq!(device.mtu().unwrap(), 1400);
        assert_eq!(device.flags().unwrap() & libc::IFF_UP as u16, 0);
        device.set_mtu(1300).unwrap();
        device.set_hardware_address([0xee; 6]).unwrap();
        device.set_up(true).unwrap();
        assert_eq!(device.mtu().unwrap(), 1300);
        assert_eq!(device.hardware_address().unwrap(), [0xee; 6]);
        assert_ne!(device.flags().unwrap() & libc::IFF_UP as u16, 0);
        let index = device.index().unwrap();
        assert_eq!(netns.run_in(|| device_name(index)).unwrap(), "va");
        device.set_up(false).unwrap();
        assert_eq!(device.flags().unwrap() & libc::IFF_UP as u16, 0);
        let text = device.set_mtu(7).unwrap_err().to_string();
        assert!(text.contains("set the MTU of va"), "{text}");
    }

    #[test]
    fn names_are_checked() {
        for name in ["", "sixteen-bytes-xx", "a b", "a/b", "a:1", "a\0b"] {
            let text = Interface::open(name).unwrap_err().to_string();
            assert!(text.contains("a device name has"), "{text}");
        }
        let text = Interface::open("nope0").unwrap_err().to_string();
        assert!(text.contains("no such device"), "{text}");
        assert_eq!(device_name(u32::MAX >> 1), "device 2147483647");
    }

    #[test]
    fn loopback_is_not_ethernet() {
        let text = Interface::open("lo").unwrap().hardware_address().unwrap_err().to_string();
        assert!(text.contains("not an Ethernet device"), "{text}");
    }
}
