//! Blocking until a port has work: epoll over sockets and taps, woken by eventfd.
//!
//! A socket in an epoll set is a socket with somebody to wake: the kernel calls epoll for
//! every packet that the socket has sent (`sock_def_write_space`), a tenth of what sending
//! it costs, although nobody waits. So a few sockets can be awaited by poll(2) instead,
//! which leaves nothing behind when it returns, but looks at each of them each time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// File descriptors awaited together, each with a token of the caller's.
///
/// Level-triggered: a descriptor is reported by every wait until it is drained.
/// A descriptor leaves the set when it is closed (all duplicates of it).
pub(crate) struct WaitSet {
    epoll: OwnedFd,
    events: Vec<Event>,
    /// The epoll set itself, then what is awaited by poll(2).
    polled: Vec<libc::pollfd>,
}

// SAFETY: the only part that is not `Send` by itself is the pointer variant of epoll's
// event data, which is never used: tokens are integers.
unsafe impl Send for WaitSet {}

impl WaitSet {
    /// A set that reports at most `capacity` descriptors per wait.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut polled = Vec::with_capacity(1 + Self::MOST_POLLED);
        polled.push(awaiting(epoll.as_fd()));
        Ok(Self { epoll, events: Vec::with_capacity(capacity.max(1)), polled })
    }

    /// Most descriptors awaited by poll(2).
    pub(crate) const MOST_POLLED: usize = 16;

    /// Awaits input on `fd` while a wait blocks, and at no other time; `false` where there are
    /// [`MOST_POLLED`](Self::MOST_POLLED). It has no token: waits just end. To be
    /// [removed](Self::remove_polled) before it is closed.
    pub(crate) fn add_polled(&mut self, fd: BorrowedFd<'_>) -> bool {
        let room = self.polled.len() <= Self::MOST_POLLED;
        if room {
            self.polled.push(awaiting(fd));
        }
        room
    }

    /// Awaits `fd` no more.
    pub(crate) fn remove_polled(&mut self, fd: BorrowedFd<'_>) {
        self.polled.retain(|polled| polled.fd != fd.as_raw_fd());
    }

    /// Awaits input on `fd` (for an AF_XDP socket: entries in its receive ring).
    ///
    /// # Errors
    /// `EEXIST` when it is in the set already, `EPERM` for files that cannot be awaited.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Takes `fd` out of the set; `ENOENT` when it was not in it.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Blocks until something is ready or `timeout` has passed (`None`: no limit) and
    /// puts the tokens of ready descriptors into `ready`, replacing what was there.
    /// Errors and hang-ups count as ready: the read that follows reports them. A
    /// signal ends the wait with no tokens. Does not allocate once `ready` has room
    /// for the set's capacity.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<u64>) -> io::Result<()> {
        ready.clear();
        self.events.clear();
        let mut timeout = timeout;
        if self.polled.len() > 1 && timeout != Some(Duration::ZERO) {
            self.poll(timeout)?;
            timeout = Some(Duration::ZERO);
        }
        let timeout = timeout.map(|t| Timespec {
            tv_sec: t.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        ready.extend(self.events.iter().map(|event| event.data.u64()));
        Ok(())
    }
}

impl WaitSet {
    /// Blocks until the epoll set has something, or what is beside it.
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|t| libc::timespec {
            tv_sec: t.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        let limit = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
        let count = self.polled.len() as libc::nfds_t;
        // SAFETY: the array is valid for `count` entries, `limit` is null or a timespec that
        // lives on; a null mask leaves signals alone.
        let found = unsafe { libc::ppoll(self.polled.as_mut_ptr(), count, limit, core::ptr::null()) };
        match (found, Errno::from_io_error(&io::Error::last_os_error())) {
            (0.., _) | (_, Some(Errno::INTR)) => Ok(()),
            (_, errno) => Err(errno.unwrap_or(Errno::INVAL).into()),
        }
    }
}

fn awaiting(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// A wake-up call from another thread, awaited in a [`WaitSet`].
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes the descriptor readable until [`clear`](Self::clear). Any thread may call it.
    pub(crate) fn signal(&self) -> io::Result<()> {
        match rustix::io::write(&self.0, &1u64.to_ne_bytes()) {
            // EAGAIN: the counter is at its maximum, so it is readable anyway.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes back all signals; whether there were any.
    pub(crate) fn clear(&self) -> io::Result<bool> {
        match rustix::io::read(&self.0, &mut [0u8; 8]) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl EventFd {
    /// A view of the eventfd for tokio's reactor, readable while it is signalled.
    pub(crate) fn register(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let own = self.0.try_clone()?;
        // SAFETY: the `OwnedFd` is valid until it is dropped, which the `AsyncFd` that
        // takes it does after deregistering; nobody else can replace or close it.
        unsafe { AsyncFd::register(own) }.map_err(Into::into)
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Instant;

    const SHORT: Option<Duration> = Some(Duration::from_millis(1));

    #[test]
    fn tokens_of_ready_descriptors() {
        let mut set = WaitSet::new(8).unwrap();
        let events: Vec<_> = (0..3).map(|_| EventFd::new().unwrap()).collect();
        for (event, token) in events.iter().zip([10, 11, u64::MAX]) {
            set.add(event.as_fd(), token).unwrap();
        }
        let mut ready = vec![99];
        set.wait(SHORT, &mut ready).unwrap();
        assert!(ready.is_empty());

        events[0].signal().unwrap();
        events[2].signal().unwrap();
        events[2].signal().unwrap();
        set.wait(SHORT, &mut ready).unwrap();
        ready.sort_unstable();
        assert_eq!(ready, [10, u64::MAX]);

        assert!(events[2].clear().unwrap());
        assert!(!events[2].clear().unwrap());
        set.remove(events[0].as_fd()).unwrap();
        set.wait(SHORT, &mut ready).unwrap();
        assert!(ready.is_empty());
        assert!(set.remove(events[0].as_fd()).is_err());
        assert!(set.add(events[1].as_fd(), 1).is_err());
    }

    #[test]
    fn what_is_polled_ends_a_wait_that_blocks() {
        let mut set = WaitSet::new(8).unwrap();
        let events: Vec<_> = (0..2 + WaitSet::MOST_POLLED).map(|_| EventFd::new().unwrap()).collect();
        set.add(events[0].as_fd(), 10).unwrap();
        let taken = events[1..].iter().filter(|event| set.add_polled(event.as_fd())).count();
        assert_eq!(taken, WaitSet::MOST_POLLED);
        let mut ready = Vec::new();
        let start = Instant::now();
        set.wait(Some(Duration::from_millis(2)), &mut ready).unwrap();
        assert!(ready.is_empty() && start.elapsed() >= Duration::from_millis(2));
        events[3].signal().unwrap();
        set.wait(None, &mut ready).unwrap();
        assert!(ready.is_empty(), "it has no token");
        events[0].signal().unwrap();
        set.wait(None, &mut ready).unwrap();
        assert_eq!(ready, [10]);
        events[0].clear().unwrap();
        set.remove_polled(events[3].as_fd());
        set.wait(SHORT, &mut ready).unwrap();
        assert!(ready.is_empty());
        events[0].signal().unwrap();
        set.wait(None, &mut ready).unwrap();
        assert_eq!(ready, [10], "the epoll set ends it as well");
    }

    #[test]
    fn a_signal_from_another_thread_wakes() {
        let mut set = WaitSet::new(1).unwrap();
        let event = Arc::new(EventFd::new().unwrap());
        set.add(event.as_fd(), 5).unwrap();
        let signaller = Arc::clone(&event);
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            signaller.signal().unwrap();
        });
        let mut ready = Vec::new();
        set.wait(None, &mut ready).unwrap();
        assert_eq!(ready, [5]);
        thread.join().unwrap();
    }

    #[test]
    fn waits_as_long_as_asked() {
        let mut set = WaitSet::new(1).unwrap();
        let start = Instant::now();
        set.wait(Some(Duration::from_micros(1500)), &mut Vec::new()).unwrap();
        assert!(start.elapsed() >= Duration::from_micros(1400));
    }
}
