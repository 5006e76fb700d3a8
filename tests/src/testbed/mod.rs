//! A testbed: networks of namespaces with real kernel stacks, real `vrouter` processes in them.
//!
//! ```text
//!  Testbed ──── a directory and a name of its own; all of it goes when the value does
//!   ├─ Netns ── a namespace: commands, sysctls and sockets inside
//!   ├─ Switch ─ a bridge in a namespace, on request with a filter
//!   ├─ Router ─ one vrouter process: start, SIGTERM, kill -9, vrctl, metrics
//!   └─ two_nodes: switch, two nodes, pods, as most tests want it
//!  traffic ──── pings, TCP transfers and sessions, UDP exchanges
//!  Generator ── numbered packets back to back, by vrouter-pktgen
//!  Capture ──── packets on a device, decoded by tshark
//!  Allocations ─ what a router's workers take from the allocator
//! ```
//!
//! - Every name holds the id of the test process and a number, so that tests run side by side; a testbed
//!   sweeps what processes left that could not clean up.
//! - Nothing sleeps for luck: [`within`] waits for a condition until a deadline and says what did not
//!   come.
//! - Whatever a testbed needs and does not have is a failed test, with the reason.

mod allocations;
mod binaries;
mod capture;
mod config;
mod generator;
mod netns;
mod queue_files;
mod raw;
mod router;
mod switch;
mod traffic;
mod two_nodes;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use allocations::{Allocations, Counts};
pub use binaries::binary;
pub use capture::{Capture, Packet};
pub use config::{Attach, Config, PodConfig, Pool, Route, Uplink};
pub use generator::Generator;
pub use netns::Netns;
pub use raw::RawSender;
pub use router::Router;
pub use switch::Switch;
pub use traffic::{PingStats, Pinger, TcpSession, checksum_errors, ping, scapy, tcp_transfer, udp_exchange};
pub use two_nodes::{Node, Pod, TwoNodes};

/// First letters of every name that a testbed makes, before the process id.
const PREFIX: &str = "vrt";

/// One testbed: a name, a directory, and the order to remove both.
pub struct Testbed {
    prefix: String,
    dir: PathBuf,
}

impl Testbed {
    /// A new testbed.
    ///
    /// # Panics
    ///
    /// Without root: the test cannot run, so it fails.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "network namespaces need root");
        sweep();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&prefix);
        std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        Self { prefix, dir }
    }

    /// A new namespace; `tag` tells it from others of this testbed.
    pub fn netns(&self, tag: &str) -> Netns {
        Netns::add(&format!("{}-{tag}", self.prefix))
    }

    /// A new switch in a namespace of its own.
    pub fn switch(&self, tag: &str) -> Switch {
        Switch::new(self.netns(tag))
    }

    /// A directory for what is on disk; goes with the testbed.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Default for Testbed {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the testbed wrote stays in {}", self.dir.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Removes namespaces, and processes in them, of test processes that are gone.
fn sweep() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|rest| rest.split('-').next());
        let Some(owner) = owner else { continue };
        if !Path::new("/proc").join(owner).exists() {
            netns::remove(&name);
        }
    }
}

/// Calls `probe` until it yields something and returns that.
///
/// # Panics
///
/// When `limit` has passed without: "`what` within ...".
#[track_caller]
pub fn within<R>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<R>) -> R {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(result) = probe() {
            return result;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end and returns what it printed.
#[track_caller]
fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
