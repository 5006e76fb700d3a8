//! One `vrouter` process in a node's namespace.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Config, Netns, binary, output_of, within};

/// How long a router may take until it is ready, and until it has left.
const PATIENCE: Duration = Duration::from_secs(20);

/// A router of a node: not running, running, or running again.
pub struct Router {
    netns: String,
    dir: PathBuf,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Router {
    /// A router that is not started yet, for the namespace `netns`; its files go into `dir`.
    pub fn new(netns: &Netns, dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        Self { netns: netns.name().to_owned(), dir, environment: Vec::new(), child: None }
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sets a variable of its environment, from the next start on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it with `config` and waits until it is ready.
    #[track_caller]
    pub fn start(&mut self, config: &Config) {
        self.launch(config, &[]);
        self.wait_until_ready();
    }

    /// Starts it with `config` and further arguments, and does not wait.
    #[track_caller]
    pub fn launch(&mut self, config: &Config, arguments: &[&str]) {
        assert!(self.child.is_none(), "the router runs already");
        let file = self.dir.join("vrouter.toml");
        fs::write(&file, config.toml(&self.dir)).expect("the testbed's directory can be written");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("the testbed's directory can be written");
        let errors = log.try_clone().expect("a file can be cloned");
        let child = self
            .command(binary("vrouter"))
            .args(["run", "--config"])
            .arg(file)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("ip(8) can be started");
        self.child = Some(child);
    }

    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.try_vrctl(&["-o", "json", "status"]);
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if status["ready"] == true {
                return;
            }
            let child = self.child.as_mut().expect("the router was started");
            if let Some(status) = child.try_wait().expect("our own child") {
                panic!("the router ended, {status}:\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "the router is not ready; it says {status}, vrctl says {}\n{}",
                String::from_utf8_lossy(&output.stderr),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the router runs").id()
    }

    /// `kill -9`; returns when the process is gone.
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_for_end();
    }

    /// SIGTERM; returns when the process is gone.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_end()
    }

    /// Waits until it has left by itself.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the router runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("our own child") {
                return status;
            }
            if Instant::now() > deadline {
                self.child = Some(child);
                panic!("the router does not end:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process id is not 0");
        kill_process(pid, signal).expect("our own child, not waited for yet");
    }

    /// `vrctl ARGUMENTS`, which must succeed; what it prints.
    #[track_caller]
    pub fn vrctl(&self, arguments: &[&str]) -> String {
        output_of(&mut self.vrctl_command(arguments))
    }

    /// `vrctl -o json ARGUMENTS`, which must succeed.
    #[track_caller]
    pub fn vrctl_json(&self, arguments: &[&str]) -> Value {
        let text = output_of(self.vrctl_command(&["-o", "json"]).args(arguments));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("vrctl {arguments:?}: {error}: {text}"))
    }

    /// `vrctl ARGUMENTS`, however it ends.
    pub fn try_vrctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.vrctl_command(arguments);
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// `vrctl apply` of a text, which must succeed.
    #[track_caller]
    pub fn apply(&self, text: &str) {
        let file = self.dir.join("apply.yaml");
        fs::write(&file, text).expect("the testbed's directory can be written");
        self.vrctl(&["apply", "-f", &file.to_string_lossy()]);
    }

    /// What it counted: that says more of a lost packet than any log. A router that is stuck is not waited for.
    fn tell_counters(&self) {
        for what in ["drops", "ports"].into_iter().filter(|_| self.child.is_some()) {
            let vrctl = self.vrctl_command(&["-o", "wide", "show", what]);
            let told =
                Command::new("timeout").arg("5").arg(vrctl.get_program()).args(vrctl.get_args()).output();
            eprintln!(
                "--- its {what}\n{}",
                told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned()).unwrap_or_default()
            );
        }
    }

    fn vrctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(binary("vrctl"));
        command.arg("--api").arg(format!("unix:{}/api.sock", self.dir.display())).args(arguments);
        command
    }

    fn command(&self, program: PathBuf) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns]).arg(program);
        command
    }

    /// One port as `vrctl show ports` has it.
    #[track_caller]
    pub fn port(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let ports = self.vrctl_json(&["show", "ports"]);
        let mut found = ports.as_array().into_iter().flatten();
        let found = found.find(|port| wanted(port));
        found.unwrap_or_else(|| panic!("no such port: {ports:#}")).clone()
    }

    /// Packets dropped for `reason` so far, on all ports.
    #[track_caller]
    pub fn drops(&self, reason: &str) -> u64 {
        let drops = self.vrctl_json(&["show", "drops"]);
        let drops = drops.as_array().into_iter().flatten();
        let of_reason = drops.filter(|drop| drop["reason"] == reason);
        of_reason.filter_map(|drop| drop["packets"].as_u64()).sum()
    }

    /// What `/metrics` answers, from inside the node.
    #[track_caller]
    pub fn metrics(&self, netns: &Netns) -> String {
        netns.enter(|| {
            let mut stream =
                within(PATIENCE, "a connection to /metrics", || TcpStream::connect("127.0.0.1:9091").ok());
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above 0");
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
                .expect("the router reads its requests");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("the router answers");
            answer
        })
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Removes the flows that it has left in memory.
    pub fn forget_flows(&self) {
        // The name is the path of the state directory, escaped.
        let escaped = self.dir.to_string_lossy().trim_matches('/').replace('-', "\\x2d").replace('/', "-");
        let file = format!("/dev/shm/vrouter-{escaped}-state.flows");
        let _ = fs::remove_file(&file);
        let _ = fs::remove_file(file + ".next");
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(40).collect::<Vec<_>>();
            eprintln!("--- log of {}", self.dir.display());
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
            self.tell_counters();
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.forget_flows();
    }
}
