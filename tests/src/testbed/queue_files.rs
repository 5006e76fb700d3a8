//! The open files that a router's queues are, told from any that could have come in their place.
//!
//! | queue | told by |
//! |---|---|
//! | AF_XDP or packet socket | its inode: no other socket has it |
//! | queue of a tap | its device, and a mark that is left on the open file: all taps share an inode |

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::Router;

/// A flag of open files that means nothing to a tap, and that nobody else sets.
const MARK: OFlags = OFlags::APPEND;

impl Router {
    /// Its queues. A tap's queue without the mark of [`Self::mark_queue_files`] was not there at that time.
    #[track_caller]
    pub fn queue_files(&self) -> BTreeSet<String> {
        self.each_queue_file(|name, file| match file {
            Some(tap) => {
                let marked = fcntl_getfl(tap).expect("a file has flags").contains(MARK);
                if marked { name } else { format!("{name}, not marked") }
            }
            None => name,
        })
    }

    /// Marks the taps' queues; all queues, as [`Self::queue_files`] has them from now on.
    #[track_caller]
    pub fn mark_queue_files(&self) -> BTreeSet<String> {
        self.each_queue_file(|name, file| {
            if let Some(tap) = file {
                let flags = fcntl_getfl(tap).expect("a file has flags");
                fcntl_setfl(tap, flags | MARK).expect("a tap takes flags");
            }
            name
        })
    }

    /// Calls `each` with the name of each queue and, of a tap's, its open file.
    fn each_queue_file(&self, mut each: impl FnMut(String, Option<&OwnedFd>) -> String) -> BTreeSet<String> {
        let process = format!("/proc/{}", self.pid());
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process id is not 0");
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("the router runs");
        let mut out = BTreeSet::new();
        for entry in fs::read_dir(format!("{process}/fd")).expect("the router runs").flatten() {
            let number = entry.file_name().to_string_lossy().into_owned();
            // A file may be closed at any time; one of a queue is not, and is missed if it were.
            let Ok(link) = fs::read_link(entry.path()) else { continue };
            let link = link.to_string_lossy().into_owned();
            let is_tap = link.ends_with("/tun");
            if !is_tap && !link.starts_with("socket:") {
                continue;
            }
            let raw = number.parse().expect("files are numbers");
            let Ok(file) = pidfd_getfd(&pidfd, raw, PidfdGetfdFlags::empty()) else { continue };
            if is_tap {
                let info = fs::read_to_string(format!("{process}/fdinfo/{number}")).unwrap_or_default();
                let device = info.lines().find_map(|line| line.strip_prefix("iff:")).unwrap_or("").trim();
                out.insert(each(format!("tap {device}, file {number}"), Some(&file)));
                continue;
            }
            match socket_domain(&file).expect("a socket has a domain") {
                AddressFamily::XDP => out.insert(each(format!("AF_XDP {link}"), None)),
                AddressFamily::PACKET => out.insert(each(format!("packet {link}"), None)),
                _ => false,
            };
        }
        out
    }
}
