//! A named network namespace and what is done inside it.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use super::output_of;

/// A named network namespace, removed with this value together with the processes in it.
pub struct Netns {
    name: String,
}

impl Netns {
    /// Adds the namespace, with its loopback device up.
    pub(super) fn add(name: &str) -> Self {
        output_of(Command::new("ip").args(["netns", "add", name]));
        let netns = Self { name: name.to_owned() };
        netns.ip("link set lo up");
        // A link-local address is good at once: the kernel asks for IPv6 neighbours from it, and
        // the nodes of a real network were up long before their routers.
        netns.set_sysctl("ipv6/conf/default/accept_dad", "0");
        netns
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command that will run inside; its process id is the program's own.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `line`, split at spaces, and returns what it printed; it must succeed.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        output_of(&mut self.prepared(line))
    }

    /// Runs `line`, split at spaces, however it ends.
    #[track_caller]
    pub fn try_run(&self, line: &str) -> Output {
        let mut command = self.prepared(line);
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    fn prepared(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().expect("a command"));
        command.args(words);
        command
    }

    /// `ip ARGS` inside.
    #[track_caller]
    pub fn ip(&self, args: &str) -> String {
        let words = args.split_whitespace();
        output_of(Command::new("ip").args(["-n", &self.name]).args(words))
    }

    /// `ip -json ARGS` inside; an empty answer is an empty array.
    #[track_caller]
    pub fn ip_json(&self, args: &str) -> Value {
        let text = self.ip(&format!("-d -j {args}"));
        if text.trim().is_empty() {
            return Value::Array(Vec::new());
        }
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("ip {args}: {error}: {text}"))
    }

    /// One device as `ip -json link` shows it; `None` where there is none.
    pub fn link(&self, device: &str) -> Option<Value> {
        let links = self.ip_json("link show");
        let mut links = links.as_array()?.iter();
        links.find(|link| link["ifname"] == device).cloned()
    }

    /// MAC address of a device.
    #[track_caller]
    pub fn mac(&self, device: &str) -> String {
        let link = self.link(device).unwrap_or_else(|| {
            panic!("no device {device} in {}", self.name);
        });
        link["address"].as_str().expect("a MAC address").to_owned()
    }

    /// Runs `work` on a thread inside; sockets opened there stay there.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let path = self.path();
                let netns = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter a namespace");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sets a sysctl below `net`, such as `ipv4/ip_forward`.
    #[track_caller]
    pub fn set_sysctl(&self, key: &str, value: &str) {
        self.enter(|| {
            let path = format!("/proc/sys/net/{key}");
            std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
        });
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes a namespace, and first the processes in it: they would keep it alive.
pub(super) fn remove(name: &str) {
    if let Ok(output) = Command::new("ip").args(["netns", "pids", name]).output() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let ids = text.split_whitespace().filter_map(|id| id.parse().ok());
        // A thread of this very process may be inside.
        let others = ids.filter(|id: &i32| *id != std::process::id().cast_signed());
        for pid in others.filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}
