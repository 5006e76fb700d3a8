//! Blocking until a port has work: epoll over sockets and taps, woken by eventfd.

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
    /// Scratch of [`wait_with`](Self::wait_with).
    polled: Vec<libc::pollfd>,
}

// SAFETY: the only part that is not `Send` by itself is the pointer variant of epoll's
// event data, which is never used: tokens are integers.
unsafe impl Send for WaitSet {}

impl WaitSet {
    /// A set that reports at most `capacity` descriptors per wait.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let capacity = capacity.max(1);
        Ok(Self { epoll, events: Vec::with_capacity(capacity), polled: Vec::with_capacity(1 + capacity) })
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
    /// As [`wait`](Self::wait), which also ends by input on one of `others`, without telling on which.
    ///
    /// A member of the set has the kernel note each arrival, waited for or not; `others` cost nothing
    /// while nobody waits. Does not allocate while they are not more than the set's capacity.
    pub(crate) fn wait_with<'a>(
        &mut self,
        timeout: Option<Duration>,
        others: impl Iterator<Item = BorrowedFd<'a>>,
        ready: &mut Vec<u64>,
    ) -> io::Result<()> {
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        self.polled.clear();
        self.polled.extend(others.map(|fd| entry(fd.as_raw_fd())));
        if self.polled.is_empty() {
            return self.wait(timeout, ready);
        }
        self.polled.push(entry(self.epoll.as_raw_fd()));
        let timeout = timeout.map(|t| libc::timespec {
            tv_sec: t.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the array has as many entries as are said, the timeout is one or null, and the signal
        // mask stays as it is.
        let ended = unsafe {
            libc::ppoll(
                self.polled.as_mut_ptr(),
                self.polled.len() as libc::nfds_t,
                timeout,
                std::ptr::null(),
            )
        };
        if ended < 0 {
            ready.clear();
            return match super::error::last_errno() {
                Errno::INTR => Ok(()),
                errno => Err(errno.into()),
            };
        }
        if self.polled.last().is_some_and(|epoll| epoll.revents != 0) {
            return self.wait(Some(Duration::ZERO), ready);
        }
        ready.clear();
        Ok(())
    }
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
    fn others_end_a_wait_and_are_not_reported() {
        let mut set = WaitSet::new(2).unwrap();
        let [member, other, silent] = [0; 3].map(|_| EventFd::new().unwrap());
        set.add(member.as_fd(), 7).unwrap();
        let mut ready = vec![99];
        let mut wait = |ready: &mut Vec<u64>| {
            let start = Instant::now();
            let others = [silent.as_fd(), other.as_fd()].into_iter();
            set.wait_with(Some(Duration::from_secs(5)), others, ready).unwrap();
            start.elapsed() < Duration::from_secs(4)
        };
        other.signal().unwrap();
        assert!(wait(&mut ready));
        assert!(ready.is_empty());
        member.signal().unwrap();
        assert!(wait(&mut ready));
        assert_eq!(ready, [7]);
        other.clear().unwrap();
        ready.clear();
        assert!(wait(&mut ready));
        assert_eq!(ready, [7]);
        member.clear().unwrap();
        let start = Instant::now();
        set.wait_with(SHORT, [other.as_fd()].into_iter(), &mut ready).unwrap();
        assert!(ready.is_empty() && start.elapsed() >= Duration::from_micros(900));
    }

    #[test]
    fn waits_as_long_as_asked() {
        let mut set = WaitSet::new(1).unwrap();
        let start = Instant::now();
        set.wait(Some(Duration::from_micros(1500)), &mut Vec::new()).unwrap();
        assert!(start.elapsed() >= Duration::from_micros(1400));
    }
}
