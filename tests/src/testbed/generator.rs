//! `vrouter-pktgen` in a namespace: numbered packets back to back, and what it says of those that came.

use std::process::{Child, Stdio};

use serde_json::Value;

use super::{Netns, binary};

/// A generator that runs.
pub struct Generator {
    child: Option<Child>,
}

impl Generator {
    /// Starts `vrouter-pktgen ARGUMENTS`, split at spaces, inside.
    #[track_caller]
    pub fn start(netns: &Netns, arguments: &str) -> Self {
        let child = netns
            .command(&binary("vrouter-pktgen").to_string_lossy())
            .args(arguments.split_whitespace())
            .args(["-o", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip(8) can be started");
        Self { child: Some(child) }
    }

    /// Whether it has not ended yet.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("our own child").is_none())
    }

    /// Waits for its end, which must be a good one; its report.
    #[track_caller]
    pub fn report(mut self) -> Value {
        let child = self.child.take().expect("it is waited for once");
        let output = child.wait_with_output().expect("our own child");
        assert!(
            output.status.success(),
            "vrouter-pktgen: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("vrouter-pktgen writes JSON")
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
