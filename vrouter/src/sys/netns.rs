//! Network namespaces: opened by path, told apart, entered for one call.

use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::OsError;

/// An open network namespace. It lives as long as this value, even when its file
/// and all of its processes are gone.
#[derive(Debug)]
pub(crate) struct Netns {
    fd: OwnedFd,
    identity: (u64, u64),
}

impl Netns {
    /// Opens a namespace file: `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// The file is not there, or is not a network namespace (as when the pod is gone
    /// and only the mount point is left).
    pub(crate) fn open(path: &Path) -> Result<Self, OsError> {
        let step = || format!("open the network namespace {}", path.display());
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
            .map_err(|errno| OsError::new(step(), errno))?;
        // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours.
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(OsError::new(step(), Errno::INVAL)
                .hint("the file is not a network namespace; is the pod gone?"));
        }
        let stat = rustix::fs::fstat(&fd).map_err(|errno| OsError::new(step(), errno))?;
        Ok(Self { fd, identity: (stat.st_dev, stat.st_ino) })
    }

    /// The calling thread's namespace.
    pub(crate) fn current() -> Result<Self, OsError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Device and inode number of the namespace: equal for the same namespace,
    /// whatever the path.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Runs `work` inside the namespace, on a thread of its own that ends with it, so
    /// that no thread of ours is ever left in a foreign namespace. Sockets, taps and
    /// AF_XDP sockets made there keep working outside. A panic passes through.
    ///
    /// # Errors
    /// No thread, or no permission to enter (CAP_SYS_ADMIN).
    pub(crate) fn run_in<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, OsError> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, || {
                    move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
                        .map_err(|errno| OsError::new("enter the network namespace", errno))?;
                    Ok(work())
                })
                .map_err(|error| OsError::new("start a thread for the namespace", error))?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Netns {}

#[cfg(test)]
mod tests {
    use super::super::test_net::in_new_netns;
    use super::*;

    #[test]
    fn work_runs_inside_and_we_stay_outside_root() {
        let ours = Netns::current().unwrap();
        let other = in_new_netns(|| Netns::current().unwrap());
        assert_ne!(ours, other);
        let mut seen = None;
        let answer = other
            .run_in(|| {
                seen = Some(Netns::current().unwrap().identity());
                42
            })
            .unwrap();
        assert_eq!(answer, 42);
        assert_eq!(seen, Some(other.identity()));
        assert_eq!(Netns::current().unwrap(), ours);
    }

    #[test]
    fn refuses_what_is_not_a_network_namespace() {
        for path in ["/nonexistent/netns", "/etc/passwd", "/proc/self/ns/mnt", "/proc"] {
            let text = Netns::open(Path::new(path)).unwrap_err().to_string();
            assert!(text.contains(path), "{text}");
        }
        let text = Netns::open(Path::new("/etc/passwd")).unwrap_err().to_string();
        assert!(text.contains("not a network namespace"), "{text}");
    }

    #[test]
    fn panics_pass_through() {
        let ours = Netns::current().unwrap();
        let caught = std::panic::catch_unwind(|| ours.run_in(|| panic!("inside")));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"inside"));
    }
}
