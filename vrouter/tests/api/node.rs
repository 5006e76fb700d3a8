//! A node under test: namespaces, devices, the router, and ways to ask it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// The outcome of one run: exit status, stdout, stderr.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Run {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn run(words: &str) -> Run {
    let mut words = words.split_whitespace();
    let program = words.next().expect("a program");
    Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}")).into()
}

/// Runs `ip` with success.
#[track_caller]
pub(crate) fn ip(words: &str) -> String {
    let run = run(&format!("ip {words}"));
    assert_eq!(run.code, Some(0), "ip {words}: {}", run.err);
    run.out
}

/// Waits until `done` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A network namespace, removed with this value.
pub(crate) struct Netns(String);

impl Netns {
    pub(crate) fn new(tag: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("api-{tag}-{}-{number}", std::process::id());
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        Netns(name)
    }

    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }

    /// Runs `ip` in it, with success.
    #[track_caller]
    pub(crate) fn ip(&self, words: &str) -> String {
        ip(&format!("-n {} {words}", self.0))
    }

    /// Runs a program in it.
    #[track_caller]
    pub(crate) fn run(&self, words: &str) -> Run {
        run(&format!("ip netns exec {} {words}", self.0))
    }

    /// Pings from it; whether an answer came to each.
    #[track_caller]
    pub(crate) fn pings(&self, to: &str, count: u32) -> bool {
        self.run(&format!("ping -n -i 0.2 -W 2 -c {count} {to}")).code == Some(0)
    }

    /// The names of its devices.
    pub(crate) fn devices(&self) -> Vec<String> {
        let links: Value = serde_json::from_str(&self.ip("-j link show")).expect("JSON");
        let links = links.as_array().expect("a list").iter();
        links.map(|link| link["ifname"].as_str().expect("a name").to_owned()).collect()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // One that stays behind fails no test.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// Two namespaces with a wire between their `eth1`, and a directory.
pub(crate) struct Site {
    pub(crate) node: Netns,
    pub(crate) far: Netns,
    pub(crate) directory: PathBuf,
}

impl Site {
    pub(crate) fn new(name: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test must run as root");
        let (node, far) = (Netns::new(name), Netns::new(name));
        ip(&format!("link add eth1 netns {} type veth peer name eth1 netns {}", node.0, far.0));
        for (netns, host) in [(&node, 1), (&far, 2)] {
            netns.ip(&format!("addr add 172.16.20.{host}/24 dev eth1"));
            netns.ip(&format!("addr add fd00:20::{host}/64 dev eth1 nodad"));
            netns.ip("link set eth1 up");
        }
        let directory = std::env::temp_dir().join(format!("vrouter-api-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
        Site { node, far, directory }
    }

    /// A configuration with one uplink, a pool, a route and a peer, and what is appended.
    pub(crate) fn config(&self, more: &str) -> PathBuf {
        let directory = self.directory.display();
        let text = format!(
            "[node]\nname = \"node1\"\napi = \"unix:{directory}/v.sock\"\nstate_dir = \"{directory}/state\"\n\
             blocks = [\"10.100.36.64/26\"]\n[memory]\nframes = 4096\n[[uplink]]\ndevice = \"eth1\"\n\
             [[pool]]\ncidr = \"10.100.0.0/16\"\nipip_mode = \"Always\"\n\
             [[pool]]\ncidr = \"fd00:10::/48\"\n\
             [[route]]\nprefix = \"10.100.169.128/26\"\nvia = \"172.16.20.2\"\n\
             [[peer]]\naddress = \"172.16.20.2\"\n{more}"
        );
        let file = self.directory.join("node1.toml");
        std::fs::write(&file, text).expect("the directory is writable");
        file
    }

    /// `vrouter check` of a configuration.
    pub(crate) fn check(&self, config: &Path) -> Run {
        self.node.run(&format!("{} check --config {}", env!("CARGO_BIN_EXE_vrouter"), config.display()))
    }

    /// Runs a router that does not start.
    pub(crate) fn run(&self, config: &Path) -> Run {
        let vrouter = env!("CARGO_BIN_EXE_vrouter");
        self.node.run(&format!("timeout 20 {vrouter} run --config {}", config.display()))
    }

    /// Starts the router and waits until it answers.
    pub(crate) fn start(self, more: &str) -> Router {
        let config = self.config(more);
        let child = self.spawn(&config);
        let router = Router { site: self, child };
        until("the router answers", || router.vrctl("status").code == Some(0));
        router
    }

    /// Removes the flows that a killed router has left in memory.
    fn forget_flows(&self) {
        // The name is the path of the state directory, escaped.
        let path = self.directory.join("state").to_string_lossy().into_owned();
        let name = path.trim_matches('/').replace('-', "\\x2d").replace('/', "-");
        for end in ["flows", "flows.next"] {
            let _ = std::fs::remove_file(format!("/dev/shm/vrouter-{name}.{end}"));
        }
    }

    fn spawn(&self, config: &Path) -> Child {
        let log = File::options().create(true).append(true).open(self.directory.join("log")).expect("a log");
        Command::new("ip")
            .args(["netns", "exec", &self.node.0, env!("CARGO_BIN_EXE_vrouter"), "run", "--config"])
            .arg(config)
            .stderr(log)
            .spawn()
            .expect("the router starts")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(log) = std::fs::read_to_string(self.directory.join("log"))
        {
            eprintln!("---- the router's log\n{log}----");
        }
        self.forget_flows();
        // A directory that stays behind fails no test.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A running router; it ends with the value.
pub(crate) struct Router {
    pub(crate) site: Site,
    child: Child,
}

impl Router {
    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vrctl"));
        let socket = self.site.directory.join("v.sock");
        command.env("VRCTL_API", format!("unix:{}", socket.display())).args(words.split_whitespace());
        command.current_dir(&self.site.directory);
        command
    }

    /// Runs `vrctl`.
    pub(crate) fn vrctl(&self, words: &str) -> Run {
        self.command(words).output().expect("vrctl is built with the tests").into()
    }

    /// Starts `vrctl`, to be waited for later.
    pub(crate) fn begin(&self, words: &str) -> Child {
        let mut command = self.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vrctl is built with the tests")
    }

    /// The JSON of a verb that must succeed.
    #[track_caller]
    pub(crate) fn json(&self, words: &str) -> Value {
        let run = self.vrctl(&format!("{words} -o json"));
        assert_eq!(run.code, Some(0), "{words}: {}", run.err);
        serde_json::from_str(&run.out).expect("JSON")
    }

    /// The items of a list whose `field` is `value`; exactly one.
    #[track_caller]
    pub(crate) fn item(&self, words: &str, field: &str, value: &str) -> Value {
        let list = self.json(words);
        let mut found = list.as_array().expect("a list").iter().filter(|item| item[field] == value);
        let item = found.next().unwrap_or_else(|| panic!("{words}: no {field} {value} in {list:#}"));
        assert!(found.next().is_none(), "{words}: several with {field} {value} in {list:#}");
        item.clone()
    }

    /// The reason that a verb is refused for, with exit status 1.
    #[track_caller]
    pub(crate) fn refusal(&self, words: &str) -> String {
        let run = self.vrctl(words);
        assert_eq!(run.code, Some(1), "{words}: {run:?}");
        run.err
    }

    /// `vrctl apply` of a text.
    pub(crate) fn apply(&self, text: &str, options: &str) -> Run {
        let file = self.site.directory.join("applied.yaml");
        std::fs::write(&file, text).expect("the directory is writable");
        self.vrctl(&format!("apply -f {} {options}", file.display()))
    }

    /// Status and body of an HTTP request to the metrics address.
    pub(crate) fn http(&self, method: &str, path: &str) -> (u16, String) {
        let netns = File::open(self.site.node.path()).expect("the namespace");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: node1\r\nConnection: close\r\n\r\n");
        let exchange = move || {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).expect("entering it");
            let mut stream = TcpStream::connect("127.0.0.1:9091").expect("metrics are served");
            stream.write_all(request.as_bytes()).expect("a request");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            answer
        };
        let answer = std::thread::spawn(exchange).join().expect("no panic");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// Ends the router as an operator does; its exit status.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends").code()
    }

    /// Starts it again with the same configuration.
    pub(crate) fn start_again(&mut self) {
        self.child = self.site.spawn(&self.site.directory.join("node1.toml"));
        until("the router answers again", || self.vrctl("status").code == Some(0));
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The output of a program that was begun; it must succeed.
#[track_caller]
pub(crate) fn finish(child: Child) -> Run {
    let run: Run = child.wait_with_output().expect("it ends").into();
    assert_eq!(run.code, Some(0), "{}", run.err);
    run
}

/// A `[[pod]]` table.
pub(crate) fn pod(name: &str, netns: &Netns, address: &str, attach: &str) -> String {
    format!(
        "[[pod]]\nname = \"default/{name}\"\nnetns = \"{}\"\naddresses = [\"{address}\"]\nattach = \"{attach}\"\n",
        netns.path()
    )
}
