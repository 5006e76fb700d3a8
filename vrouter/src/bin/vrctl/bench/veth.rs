//! Forwarding between two veth pairs: by the kernel and by a router of ours, in turns.
//!
//! ```text
//!   NAME-gen              NAME-router                    NAME-sink
//!   g0 generator ------ a0 10.255.0.1   b0 10.255.1.1 ------ s0 10.255.1.2
//! ```
//!
//! The namespaces are made by ip(8) and are gone at the end. The sink's kernel has no route for what
//! arrives, counts it on s0 and drops it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Spread;
use super::cores::{Cores, mask};

const ROUTE: &str = "10.255.2.0/24";
const VIA: &str = "10.255.1.2";
/// Until rates are steady.
const WARM_UP: Duration = Duration::from_millis(400);

/// How much less the generator may send in one run than in another.
const HELD_UP: f64 = 4.0;

/// What was found.
pub(super) struct Found {
    pub(super) kernel: Spread,
    pub(super) vrouter: Spread,
    /// Packets a second that the generator sent, at the median.
    pub(super) offered: f64,
}

/// Alternates `rounds` times.
///
/// # Errors
/// Why it cannot be measured here.
pub(super) fn measure(cores: Cores, rounds: u16, duration: Duration) -> Result<Found, String> {
    let generator = cores.generator.ok_or("it takes two cores: one for the generator")?;
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces need root".to_owned());
    }
    let net = Net::new(cores.router, generator)?;
    let (mut kernel, mut vrouter, mut offered) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        for ours in [false, true] {
            let router = if ours { Some(net.router()?) } else { None };
            let (sent, arrived) = net.rates(duration)?;
            drop(router);
            offered.push(sent);
            if ours { vrouter.push(arrived) } else { kernel.push(arrived) }
        }
    }
    // Where the generator does not get to send, the routers are not what is measured.
    let least = offered.iter().copied().fold(f64::INFINITY, f64::min);
    let most = offered.iter().copied().fold(0.0, f64::max);
    if least < most / HELD_UP {
        return Err(format!(
            "the generator was held up: it sent {least:.0} to {most:.0} packets a second; is the machine busy?"
        ));
    }
    let spread = |rates: Vec<f64>, who: &str| {
        let found = Spread::of(rates).filter(|spread| spread.median > 0.0);
        found.ok_or_else(|| format!("{who} forwarded nothing"))
    };
    Ok(Found {
        kernel: spread(kernel, "the kernel")?,
        vrouter: spread(vrouter, "the router")?,
        offered: spread(offered, "the generator")?.median,
    })
}

/// A program inside a namespace; ends with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The end of its input is the end of it.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The namespaces; gone with the value.
struct Net {
    name: String,
    router_core: usize,
    generator_core: usize,
}

impl Net {
    fn new(router_core: usize, generator_core: usize) -> Result<Self, String> {
        let name = format!("vrctl-bench-{}", std::process::id());
        let net = Net { name, router_core, generator_core };
        for part in ["gen", "router", "sink"] {
            ip(&["netns", "add", &net.space(part)])?;
        }
        for (near, near_part, far, far_part) in
            [("g0", "gen", "a0", "router"), ("b0", "router", "s0", "sink")]
        {
            let queues = ["numtxqueues", "1", "numrxqueues", "1"];
            let (near_space, far_space) = (net.space(near_part), net.space(far_part));
            let near =
                [&["link", "add", near][..], &queues, &["netns", &near_space, "type", "veth"]].concat();
            let far = [&["peer", "name", far][..], &queues, &["netns", &far_space]].concat();
            ip(&[near, far].concat())?;
        }
        let addresses = [
            ("gen", "g0", "10.255.0.2/24"),
            ("router", "a0", "10.255.0.1/24"),
            ("router", "b0", "10.255.1.1/24"),
            ("sink", "s0", "10.255.1.2/24"),
        ];
        for (part, device, address) in addresses {
            ip(&["-n", &net.space(part), "addr", "add", address, "dev", device])?;
            ip(&["-n", &net.space(part), "link", "set", device, "up"])?;
        }
        ip(&["-n", &net.space("router"), "route", "add", ROUTE, "via", VIA])?;
        ip(&["-n", &net.space("sink"), "route", "add", "10.255.0.0/24", "via", "10.255.1.1"])?;
        // The kernel forwards on the router's core too: its packets go there by RPS.
        let mask = mask(router_core);
        let script = format!(
            "echo 1 >/proc/sys/net/ipv4/ip_forward && echo {mask} >/sys/class/net/a0/queues/rx-0/rps_cpus"
        );
        ip(&["netns", "exec", &net.space("router"), "sh", "-c", &script])?;
        Ok(net)
    }

    fn space(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }

    /// This program in another role.
    fn start(&self, part: &str, core: usize, arguments: &[&str]) -> Result<Running, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.space(part), "taskset", "-c", &core.to_string()])
            .arg(program)
            .args(["bench", "role"])
            .args(arguments)
            .args(["--route", ROUTE, "--via", VIA])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("taskset: {error}"))?;
        let mut line = String::new();
        let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let running = Running(child);
        match read {
            Some(Ok(_)) if line.trim() == "ready" => Ok(running),
            _ => Err(format!("the part in {} did not start", self.space(part))),
        }
    }

    fn router(&self) -> Result<Running, String> {
        let core = self.router_core.to_string();
        let devices = ["--device", "a0=10.255.0.1/24", "--device", "b0=10.255.1.1/24"];
        self.start("router", self.router_core, &[&["router", "--core", &core], &devices[..]].concat())
    }

    /// Packets a second that were sent and that arrived.
    fn rates(&self, duration: Duration) -> Result<(f64, f64), String> {
        let mac = ip(&["-n", &self.space("router"), "-j", "link", "show", "a0"])?;
        let mac: serde_json::Value = serde_json::from_str(&mac).map_err(|error| error.to_string())?;
        let mac = mac[0]["address"].as_str().ok_or("a0 has no MAC address")?;
        let what = ["generator", "--device", "g0=10.255.0.2/24", "--to-mac", mac];
        let generator = self.start("gen", self.generator_core, &what)?;
        std::thread::sleep(WARM_UP);
        let count = || -> Result<(u64, u64, Instant), String> {
            let sent = self.packets("router", "a0")?;
            Ok((sent, self.packets("sink", "s0")?, Instant::now()))
        };
        let (sent, arrived, start) = count()?;
        std::thread::sleep(duration);
        let (sent_then, arrived_then, end) = count()?;
        drop(generator);
        let seconds = end.duration_since(start).as_secs_f64();
        Ok(((sent_then - sent) as f64 / seconds, (arrived_then - arrived) as f64 / seconds))
    }

    /// Packets that a device received, those dropped included.
    fn packets(&self, part: &str, device: &str) -> Result<u64, String> {
        let text = ip(&["-n", &self.space(part), "-s", "-j", "link", "show", device])?;
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let rx = &value[0]["stats64"]["rx"];
        let of = |field: &str| rx[field].as_u64();
        Ok(of("packets").ok_or("ip(8) shows no counters")? + of("dropped").unwrap_or(0))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for part in ["gen", "router", "sink"] {
            // One that was not made cannot be removed; there is nobody to tell.
            let _ = Command::new("ip").args(["netns", "del", &self.space(part)]).output();
        }
    }
}

fn ip(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| format!("ip(8), of iproute2: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("ip {}: {}", arguments.join(" "), why.trim()));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}
