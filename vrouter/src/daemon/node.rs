//! The node: everything that the daemon holds, and how it starts and stops.
//!
//! ```text
//!   Node
//!    |- router      engine, workers           the library
//!    |- uplinks     device, lock, XDP program  uplinks.rs
//!    |- pods        interface, record          pods.rs
//!    |- host port   tap, addresses, routes     host.rs
//!    '- resources   pools and routes by name   resources.rs
//! ```
//!
//! One lock guards it: the event loop and the API take turns. Whatever changes ends
//! in one commit, so that the API answers when every worker has adopted the change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use crate::agent::netlink::Netlink;
use crate::agent::state_store::{StateError, StateStore};
use crate::config::{self, Config};
use crate::control::Event;
use crate::daemon::check::available_cores;
use crate::daemon::flow_log::FlowLogHistory;
use crate::daemon::flows::{self, Flows};
use crate::daemon::host::HostSide;
use crate::daemon::kernel_neighbors::KernelNeighbor;
use crate::daemon::pods::AttachedPodPort;
use crate::daemon::resources::Resources;
use crate::daemon::uplinks::UplinkPort;
use crate::daemon::watchdog::Watchdog;
use crate::ids::PortId;
use crate::pipeline::spread::Spread;
use crate::router::{Router, RouterError, Workers};
use crate::tables::FlowMemory;
use crate::worker::idle::IdleMode;
use crate::worker::load::LoadMeter;

/// Why the node cannot start, or cannot do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The dataplane refused.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// The control engine refused.
    #[error(transparent)]
    Refused(#[from] crate::control::EngineError),
    /// The durable state cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] crate::agent::netlink::NetlinkError),
    /// An uplink cannot be used.
    #[error(transparent)]
    Uplink(#[from] crate::agent::uplink_guard::UplinkRefused),
    /// A device cannot be opened for AF_XDP.
    #[error("device `{0}`: {1}")]
    Device(String, #[source] crate::port::af_xdp::DeviceError),
    /// The host port cannot be made.
    #[error(transparent)]
    Host(#[from] crate::agent::host_port::HostPortError),
    /// A pod's interface cannot be made.
    #[error(transparent)]
    Pod(#[from] crate::agent::pod_interface::PodInterfaceError),
    /// A request is wrong in itself.
    #[error("{0}")]
    Invalid(String),
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What was named exists already.
    #[error("{0}")]
    Exists(String),
    /// Something else needs it to stay as it is.
    #[error("{0}")]
    InUse(String),
}

/// A running node.
pub struct Node {
    /// The configuration it was started with.
    pub config: Config,
    /// The file it came from.
    pub config_file: String,
    /// The dataplane.
    pub router: Router,
    /// Uplinks by device name.
    pub uplinks: BTreeMap<String, UplinkPort>,
    /// Pods by `namespace/name`.
    pub pods: BTreeMap<String, AttachedPodPort>,
    /// The host port.
    pub host: Option<HostSide>,
    /// Pools and routes.
    pub resources: Resources,
    /// What policy denied or logged lately.
    pub flow_log: FlowLogHistory,
    /// When it started.
    pub started: Instant,
    /// What is not well, by part, for status.
    pub problems: BTreeMap<String, String>,
    pub(super) netlink: Netlink,
    pub(super) store: StateStore,
    /// Prefixes that the uplinks' XDP programs take.
    pub(super) taken: BTreeSet<ipnet::IpNet>,
    pub(super) watchdog: Watchdog,
    pub(super) loads: Vec<LoadMeter>,
    pub(super) kernel_neighbors: BTreeMap<(PortId, IpAddr), KernelNeighbor>,
    /// Wakes the event loop after a change from outside it: requests to the kernel and
    /// to the neighbour machines may wait.
    pub(crate) changed: Arc<Notify>,
    workers: Option<Workers>,
}

impl Node {
    /// Brings everything up in the order in which packets need it: workers, host
    /// port, uplinks, pods.
    ///
    /// # Errors
    /// The first part that fails; what was made is removed.
    pub async fn start(config: Config, config_file: &str) -> Result<Node, NodeError> {
        let (store, set_aside) = StateStore::open(&config.node.state_dir)?;
        let mut problems = BTreeMap::new();
        if let Some(set_aside) = set_aside {
            tracing::error!("{set_aside}");
            problems.insert("state".to_owned(), set_aside.to_string());
        }
        let Flows { memory, left, problem } = Flows::open(&config.node.state_dir, *config.memory.flows)
            .map_err(|error| RouterError::Os("flow table", error))?;
        if let Some(problem) = problem {
            tracing::warn!("{problem}");
            problems.insert("flows".to_owned(), problem);
        }
        let cores: Vec<usize> = config.workers.cores.iter().map(|core| **core).collect();
        let spare: Vec<usize> = available_cores().into_iter().filter(|core| !cores.contains(core)).collect();
        let seed = crate::clock::now().0;
        let router = Router::builder()
            .cores(&cores)
            .spare_cores(&spare)
            .frames(*config.memory.frames)
            .frame_size(*config.memory.frame_size)
            .flows(*config.memory.flows)
            .flow_memory(memory)
            .idle(match *config.workers.idle {
                config::IdleMode::Poll => IdleMode::Poll,
                config::IdleMode::Adaptive => IdleMode::Adaptive,
                config::IdleMode::Interrupt => IdleMode::Interrupt,
            })
            .seed(seed)
            .spread(Spread {
                seed: match *config.ecmp.seed {
                    0 => (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 | 1,
                    seed => seed,
                },
                inner: *config.ecmp.inner,
            })
            .build()?;
        let mut node = Node {
            config,
            config_file: config_file.to_owned(),
            router,
            uplinks: BTreeMap::new(),
            pods: BTreeMap::new(),
            host: None,
            resources: Resources::default(),
            flow_log: FlowLogHistory::default(),
            started: Instant::now(),
            problems,
            netlink: Netlink::connect()?,
            store,
            taken: BTreeSet::new(),
            watchdog: Watchdog::default(),
            loads: Vec::new(),
            kernel_neighbors: BTreeMap::new(),
            changed: Arc::default(),
            workers: None,
        };
        match node.bring_up(left).await {
            Ok(()) => Ok(node),
            Err(error) => {
                node.stop(true).await;
                Err(error)
            }
        }
    }

    async fn bring_up(&mut self, left: Option<FlowMemory>) -> Result<(), NodeError> {
        self.workers = Some(self.router.start()?);
        let name = self.config.node.name.clone().into_value();
        self.router.apply(Event::SetNode(name))?;
        let policy = &self.config.policy;
        let failsafe = [&policy.failsafe_inbound_host_ports, &policy.failsafe_outbound_host_ports];
        let failsafe = failsafe.map(|ports| ports.iter().map(|port| port.value).collect());
        self.router.apply(Event::SetFailsafe(failsafe))?;
        self.router.apply(Event::SetSourceSpoofing(*policy.workload_source_spoofing))?;
        let unread = self.load_resources()?;
        let blocks = self.config.node.blocks.iter().map(|block| **block).collect();
        self.router.apply(Event::SetBlocks(blocks))?;
        for peer in &self.config.peers {
            if let std::net::IpAddr::V4(peer) = *peer.address {
                self.router.apply(Event::PutPeer(peer))?;
            }
        }
        for index in 0..self.config.uplinks.len() {
            self.claim_uplink(index).await?;
        }
        self.open_host_port().await?;
        self.refuse_unenforced(&unread)?;
        self.router.commit()?;
        self.sync_host().await?;
        self.attach_all_pods().await?;
        if let Some(done) = self.router.take_over_flows(left.as_ref(), crate::clock::now())? {
            flows::tell(done);
        }
        drop(left);
        self.sync_taken();
        self.remove_leftovers().await;
        Ok(())
    }

    /// Commits what was applied, and brings what depends on it in line: the prefixes
    /// that XDP programs take, the host's routes. Returns the generation.
    ///
    /// # Errors
    /// Where the dataplane or the kernel refuses.
    pub async fn commit(&mut self) -> Result<u64, NodeError> {
        let generation = self.router.commit()?;
        self.sync_taken();
        self.sync_host().await?;
        Ok(generation)
    }

    /// Ends the node. `remove`: takes the devices that it made with it; otherwise
    /// they stay, to be adopted by the next start.
    pub async fn stop(&mut self, remove: bool) {
        if remove {
            for name in self.pods.keys().cloned().collect::<Vec<_>>() {
                if let Err(error) = self.disconnect_pod(&name).await {
                    tracing::error!("{error}");
                }
            }
        }
        self.workers = None;
        if remove {
            self.router.engine().flows().memory().forget();
        }
        self.uplinks.clear();
        if let Some(host) = self.host.take()
            && remove
        {
            if let Err(error) = host.port.remove().await {
                tracing::error!("{error}");
            }
            self.forget_device("host-port");
        }
    }
}
