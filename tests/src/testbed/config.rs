//! Configuration of a router, as tests write it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// How a pod hangs on its router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// A tap inside the pod.
    Tap,
    /// A veth pair with its host end at AF_XDP.
    Veth,
}

impl Attach {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Tap, Self::Veth];

    /// The word for it in configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Veth => "veth",
        }
    }
}

/// `[[uplink]]`
#[derive(Debug, Clone)]
pub struct Uplink {
    /// The device.
    pub device: String,
    /// Further lines of TOML.
    pub lines: String,
}

/// `[[pool]]`
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its name, by which `vrctl apply` replaces it.
    pub name: String,
    /// The range.
    pub cidr: String,
    /// `Always`, `CrossSubnet` or `Never`.
    pub ipip_mode: String,
}

/// `[[route]]`
#[derive(Debug, Clone)]
pub struct Route {
    /// Destinations.
    pub prefix: String,
    /// Next hop.
    pub via: String,
}

/// `[[pod]]`
#[derive(Debug, Clone)]
pub struct PodConfig {
    /// namespace/name.
    pub name: String,
    /// Its network namespace.
    pub netns: PathBuf,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// How it hangs on the router.
    pub attach: Attach,
}

/// A configuration file in the making.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Name of the node.
    pub name: String,
    /// Blocks of pod addresses.
    pub blocks: Vec<String>,
    /// Lines of `[workers]`; the defaults where empty.
    pub workers: String,
    /// Lines of `[memory]`; the defaults where empty.
    pub memory: String,
    /// Devices to the network.
    pub uplinks: Vec<Uplink>,
    /// Ranges of pod addresses.
    pub pools: Vec<Pool>,
    /// Tunnel peers.
    pub peers: Vec<String>,
    /// Static routes.
    pub routes: Vec<Route>,
    /// Pods to attach at start.
    pub pods: Vec<PodConfig>,
}

impl Config {
    /// The file's text; socket and state go into `dir`.
    pub fn toml(&self, dir: &Path) -> String {
        let dir = dir.display();
        let mut out = format!(
            "[node]\nname = {:?}\napi = \"unix:{dir}/api.sock\"\nmetrics = \"127.0.0.1:9091\"\n\
             state_dir = \"{dir}/state\"\nblocks = {:?}\n",
            self.name, self.blocks
        );
        let mut put = |text: String| {
            out.write_str(&text).expect("a string takes what it is given");
        };
        for (table, lines) in [("memory", &self.memory), ("workers", &self.workers)] {
            put(format!("\n[{table}]\n{lines}\n"));
        }
        for Uplink { device, lines } in &self.uplinks {
            put(format!("\n[[uplink]]\ndevice = {device:?}\n{lines}\n"));
        }
        for pool in &self.pools {
            put(format!(
                "\n[[pool]]\nname = {:?}\ncidr = {:?}\nipip_mode = {:?}\n",
                pool.name, pool.cidr, pool.ipip_mode
            ));
        }
        for peer in &self.peers {
            put(format!("\n[[peer]]\naddress = {peer:?}\n"));
        }
        for Route { prefix, via } in &self.routes {
            put(format!("\n[[route]]\nprefix = {prefix:?}\nvia = {via:?}\n"));
        }
        for pod in &self.pods {
            put(format!(
                "\n[[pod]]\nname = {:?}\nnetns = {:?}\naddresses = {:?}\nattach = {:?}\n",
                pod.name,
                pod.netns,
                pod.addresses,
                pod.attach.word()
            ));
        }
        out
    }
}
