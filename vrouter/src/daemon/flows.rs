//! The flows outlive the process: `/dev/shm/vrouter-NAME.flows`, a file in memory whose NAME is the state directory's.
//!
//! ```text
//!   start   open NAME.flows (what is left)      create NAME.flows.next (the table in use)
//!           workers, uplinks, pods, policies ...
//!           flows of pods that are here: opened anew, asked about with their next packet
//!           NAME.flows.next -> NAME.flows
//! ```
//!
//! It does not matter how the process before has ended: what it was in the middle of is passed over. A reboot ends all
//! flows, and the file with them. Where there is no tmpfs, flows end with the process, and status says so.

use std::io;
use std::path::{Path, PathBuf};

use acl::conntrack::{LayoutError, TakenOver};

use crate::tables::{FlowMemory, flow_capacity};

/// A tmpfs in every distribution and container; `/run` is none in many containers.
const DIRECTORY: &str = "/dev/shm";

/// The memory of a node's flows.
pub(super) struct Flows {
    /// For the table in use.
    pub(super) memory: FlowMemory,
    /// What the process before has left.
    pub(super) left: Option<FlowMemory>,
    /// Why flows will end with the process.
    pub(super) problem: Option<String>,
}

impl Flows {
    /// Memory for so many flows of the node with this state directory, which it holds locked.
    ///
    /// # Errors
    /// Where there is not enough memory.
    pub(super) fn open(state_dir: &Path, flows: u32) -> io::Result<Self> {
        let lines = flow_capacity(flows).lines().map_err(io::Error::other)?;
        let kept = path(state_dir).and_then(|path| {
            let left = FlowMemory::open(&path).unwrap_or_else(|error| {
                tracing::warn!("flows of the process before are lost: {error}");
                None
            });
            Ok((FlowMemory::create(&path, lines)?, left))
        });
        match kept {
            Ok((memory, left)) => Ok(Flows { memory, left, problem: None }),
            Err(error) => Ok(Flows {
                memory: FlowMemory::anonymous(lines)?,
                left: None,
                problem: Some(format!("flows will not outlive the process: {error}")),
            }),
        }
    }
}

/// Tells what became of the flows that were left.
pub(super) fn tell(done: Result<TakenOver, LayoutError>) {
    match done {
        Err(error) => tracing::warn!("starting without the flows of the process before: {error}"),
        Ok(TakenOver { flows, known, over, unwanted, refused, damaged }) => tracing::info!(
            "{flows} flows taken over from the process before; {known} were known again, {over} had ended, {unwanted} \
             were of pods that are gone, {refused} refused, {damaged} damaged"
        ),
    }
}

/// The file of a state directory, whose path is escaped as systemd does in names of units.
fn path(state_dir: &Path) -> io::Result<PathBuf> {
    let state_dir = std::path::absolute(state_dir)?;
    Ok(Path::new(DIRECTORY).join(format!("vrouter-{}.flows", escaped(&state_dir))))
}

fn escaped(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':');
    let escape = |c: char| match c {
        '/' => "-".to_owned(),
        c if plain(c) => c.to_string(),
        c => c.to_string().bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
    };
    path.trim_matches('/').chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_directories_have_different_names() {
        assert_eq!(escaped(Path::new("/var/lib/vrouter/")), "var-lib-vrouter");
        assert_eq!(escaped(Path::new("/var/lib-vrouter")), "var-lib\\x2dvrouter");
        assert_eq!(escaped(Path::new("/x/ö")), "x-\\xc3\\xb6");
    }
}
