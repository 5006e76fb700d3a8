//! Many writes by one system call.
//!
//! ```text
//!   messages --> submission ring --> io_uring_enter: the kernel writes them one by one --> results
//! ```
//!
//! For descriptors whose writes are complete when they return, as a tap's are: the kernel does them while
//! it takes them in, in order, so that all are over when the call is. A kernel that does not offer
//! io_uring, or a container that forbids it, has no [`Writes`].
//!
//! Source: io_uring(7), io_uring_enter(2).

use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, types};
use rustix::io::Errno;

/// Most messages of a call.
pub(crate) const MESSAGES: usize = 64;

/// A ring for writes.
pub(crate) struct Writes {
    ring: IoUring,
}

impl std::fmt::Debug for Writes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writes").finish_non_exhaustive()
    }
}

impl Writes {
    /// A ring; `None` where the kernel has none to give.
    pub(crate) fn new() -> Option<Self> {
        IoUring::new(MESSAGES as u32).ok().map(|ring| Self { ring })
    }

    /// Writes the first [`MESSAGES`] messages, each by itself and in order; what came of each.
    ///
    /// # Errors
    /// The call itself failed: of messages without a result nobody knows. The ring is of no use then.
    pub(crate) fn write(
        &mut self,
        fd: BorrowedFd<'_>,
        messages: &[&[u8]],
        results: &mut [Option<Result<(), Errno>>],
    ) -> Result<(), Errno> {
        let count = messages.len().min(results.len()).min(MESSAGES);
        let fd = types::Fd(fd.as_raw_fd());
        for (at, message) in messages[..count].iter().enumerate() {
            let write = opcode::Write::new(fd, message.as_ptr(), message.len() as u32);
            // SAFETY: the kernel reads `message` until the write is complete, for which this function waits;
            // should waiting fail, the frames that messages lie in stay mapped all the same.
            let pushed = unsafe { self.ring.submission().push(&write.build().user_data(at as u64)) };
            debug_assert!(pushed.is_ok(), "the ring is empty between calls");
        }
        let mut done = 0;
        while done < count {
            match self.ring.submit_and_wait(count - done) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
            for completion in self.ring.completion() {
                let result = match completion.result() {
                    0.. => Ok(()),
                    errno => Err(Errno::from_raw_os_error(-errno)),
                };
                if let Some(place) = results.get_mut(completion.user_data() as usize) {
                    *place = Some(result);
                }
                done += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn messages_are_written_in_order_and_each_has_its_result() {
        let Some(mut writes) = Writes::new() else { panic!("this kernel has no io_uring") };
        let (family, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET);
        let flags = rustix::net::SocketFlags::NONBLOCK;
        let (ours, theirs) = rustix::net::socketpair(family, kind, flags, None).unwrap();
        let texts: Vec<Vec<u8>> = (0..MESSAGES).map(|n| vec![n as u8; 1 + n]).collect();
        for count in [1, 5, MESSAGES] {
            let messages: Vec<&[u8]> = texts[..count].iter().map(Vec::as_slice).collect();
            let mut results = vec![None; count];
            writes.write(ours.as_fd(), &messages, &mut results).unwrap();
            assert_eq!(results, vec![Some(Ok(())); count]);
            for text in &messages {
                let mut buffer = [0; 128];
                let len = rustix::io::read(&theirs, &mut buffer).unwrap();
                assert_eq!(&buffer[..len], *text);
            }
        }
        drop(theirs);
        let mut results = [None; 2];
        writes.write(ours.as_fd(), &[&[1], &[2]], &mut results).unwrap();
        assert_eq!(results, [Some(Err(Errno::PIPE)); 2]);
    }
}
