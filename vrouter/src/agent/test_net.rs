//! Network namespaces for the agent's tests, each removed with its test.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// Runs `work` in a new network namespace, on a thread with a tokio runtime.
pub(crate) fn in_node<R: Send>(work: impl AsyncFnOnce() -> R + Send) -> R {
    assert!(rustix::process::geteuid().is_root(), "this test must run as root");
    let node = NamedNetns::new("node");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let netns = File::open(node.path()).expect("the namespace");
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("entering the namespace");
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// `ip ARGS` in the thread's namespace; its output.
#[track_caller]
pub(crate) fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split_whitespace()).output().expect("ip(8)");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

/// `ip -j ARGS`, parsed; an empty answer is an empty array.
#[track_caller]
pub(crate) fn ip_json(args: &str) -> Value {
    let text = ip(&format!("-d -j {args}"));
    if text.trim().is_empty() { Value::Array(Vec::new()) } else { serde_json::from_str(&text).expect("JSON") }
}

/// A named network namespace, removed with this value.
pub(crate) struct NamedNetns {
    pub(crate) name: String,
}

impl NamedNetns {
    pub(crate) fn new(tag: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("os-{tag}-{}-{number}", std::process::id());
        ip(&format!("netns add {name}"));
        let netns = Self { name };
        netns.ip("link set lo up");
        netns
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    #[track_caller]
    pub(crate) fn ip(&self, args: &str) -> String {
        ip(&format!("-n {} {args}", self.name))
    }

    #[track_caller]
    pub(crate) fn ip_json(&self, args: &str) -> Value {
        ip_json(&format!("-n {} {args}", self.name))
    }

    /// The names of the devices inside, without loopback.
    #[track_caller]
    pub(crate) fn devices(&self) -> Vec<String> {
        names(&self.ip_json("link show"))
    }

    pub(crate) fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/net/{key}");
        let status = Command::new("ip")
            .args(["netns", "exec", &self.name, "sh", "-c", &format!("echo {value} > {path}")])
            .status()
            .expect("ip(8)");
        assert!(status.success(), "{path} = {value}");
    }
}

impl Drop for NamedNetns {
    fn drop(&mut self) {
        // A test may have removed it already.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// The device names in `ip -j link`, without loopback.
pub(crate) fn names(links: &Value) -> Vec<String> {
    let links = links.as_array().expect("an array");
    let names = links.iter().map(|link| link["ifname"].as_str().expect("a name").to_owned());
    names.filter(|name| name != "lo").collect()
}
