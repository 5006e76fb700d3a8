//! Network namespaces, devices and raw packet sockets for the tests of this module.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use super::ifreq::Interface;

/// Runs `work` on a thread inside a new network namespace, which goes with the thread
/// and the sockets made there.
pub(crate) fn in_new_netns<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: a network namespace has no part in memory safety, and this thread
            // ends with it.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
                .expect("a new network namespace: tests must run as root");
            ip("link set lo up");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// `ip ARGS` in the thread's namespace; its output.
pub(super) fn ip(args: &str) -> String {
    run(&format!("ip {args}"))
}

/// A command of iproute2 in the thread's namespace; its output.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a program");
    let output = Command::new(program).args(words).output().expect("iproute2 is installed");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

/// A veth pair `va` and `vb` with `queues` queues each, up, with fixed addresses and
/// without packets of the kernel's own.
pub(crate) fn veth_pair(queues: u32) {
    let q = format!("numrxqueues {queues} numtxqueues {queues}");
    for key in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{key}/disable_ipv6");
        // A kernel without IPv6 sends none.
        let _ = std::fs::write(path, "1");
    }
    ip(&format!(
        "link add name va address 02:00:00:00:00:0a {q} type veth peer name vb address 02:00:00:00:00:0b {q}"
    ));
    ip("link set va up");
    ip("link set vb up");
}

/// An `AF_PACKET` socket that sends and receives whole frames.
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    pub(crate) fn on(device: &str) -> Self {
        let index = Interface::open(device).unwrap().index().unwrap();
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers are passed; the new descriptor is owned from here on.
        let fd = unsafe {
            let fd = libc::socket(libc::AF_PACKET, flags, protocol.into());
            assert!(fd >= 0, "{}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: all zero is a valid `sockaddr_ll`, and bind reads exactly its size.
        let result = unsafe {
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = index as i32;
            let len = size_of_val(&address) as u32;
            libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len)
        };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        Self(fd)
    }

    pub(super) fn send(&self, frame: &[u8]) {
        assert_eq!(rustix::io::write(&self.0, frame), Ok(frame.len()));
    }

    /// The next frame that `wanted` accepts; fails the test after two seconds.
    pub(crate) fn receive(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut buffer = vec![0; 65536];
        within(Duration::from_secs(2), || {
            let len = rustix::io::read(&self.0, &mut buffer).ok()?;
            wanted(&buffer[..len]).then(|| buffer[..len].to_vec())
        })
        .expect("a frame within two seconds")
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Calls `probe` until it yields something or `limit` has passed.
pub(super) fn within<R>(limit: Duration, mut probe: impl FnMut() -> Option<R>) -> Option<R> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(result) = probe() {
            return Some(result);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// An Ethernet frame from `vb` to `va` with an EtherType for local experiments.
pub(super) fn test_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0xa, 2, 0, 0, 0, 0, 0xb, 0x88, 0xb5];
    frame.extend_from_slice(payload);
    frame
}
