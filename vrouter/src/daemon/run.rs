//! The event loop: waits for whatever concerns the node and has it done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::agent::link::{LinkEvent, LinkWatch};
use crate::agent::neighbor_mirror::{KeepResolved, NeighborEvent, NeighborMirror};
use crate::clock;
use crate::config::Config;
use crate::control::NeighborRequest;
use crate::daemon::node::{Node, NodeError};

/// How often what has no event is looked after: grace periods, vanished pods.
const TICK: Duration = Duration::from_secs(1);

/// Runs a node until SIGTERM or SIGINT. `keep`: its devices stay behind.
///
/// # Errors
/// Why it could not start.
pub async fn run(config: Config, config_file: &str, keep: bool) -> Result<(), NodeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let mut links = LinkWatch::start()?;
    let mut mirror = NeighborMirror::start(KeepResolved::Managed)?;
    let (api, metrics) = (config.node.api.clone().into_value(), *config.node.metrics);
    let api_socket = crate::rpc_server::bind(&api)?;
    let metrics_socket = crate::metrics::bind(metrics).await?;
    let node = Arc::new(Mutex::new(Node::start(config, config_file).await?));
    let (bell, changed) = {
        let node = node.lock().await;
        (node.router.slow_path_bell().clone(), node.changed.clone())
    };
    let bell_fd = bell.event().register().map_err(signals)?;
    bell.announce_sleep();
    let api_task = tokio::spawn(crate::rpc_server::serve(node.clone(), api_socket));
    let metrics_task = tokio::spawn(crate::metrics::serve(node.clone(), metrics_socket));
    pass_requests(&node, &mut mirror).await;
    if let Err(error) = mirror.sweep().await {
        tracing::warn!("{error}");
    }
    tracing::info!("ready");

    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = node.lock().await.router.next_timeout();
        let timeout = due.map_or(TICK, |due| due.since(clock::now()));
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            event = links.next() => match event {
                Ok(event) => on_link(&node, &links, event).await,
                Err(error) => tracing::warn!("links: {error}"),
            },
            event = mirror.next() => match event {
                Ok(event) => on_neighbor(&node, event).await,
                Err(error) => tracing::warn!("neighbours: {error}"),
            },
            guard = bell_fd.readable() => {
                if let Ok(mut guard) = guard {
                    guard.clear_ready();
                }
                bell.announce_awake();
                bell.announce_sleep();
            }
            () = changed.notified() => {}
            () = tokio::time::sleep(timeout) => {}
            _ = tick.tick() => node.lock().await.tick(),
        }
        node.lock().await.router.poll_slow_path(clock::now());
        pass_requests(&node, &mut mirror).await;
    }

    tracing::info!("stopping");
    api_task.abort();
    metrics_task.abort();
    node.lock().await.stop(!keep).await;
    crate::rpc_server::unbind(&api);
    Ok(())
}

fn signals(error: std::io::Error) -> NodeError {
    NodeError::Invalid(format!("cannot wait for events: {error}"))
}

/// Hands requests about neighbours on shared uplinks to the kernel.
async fn pass_requests(node: &Mutex<Node>, mirror: &mut NeighborMirror) {
    let mut requests = Vec::new();
    {
        let mut node = node.lock().await;
        while let Some(request) = node.router.next_kernel_request() {
            if let Some(ifindex) = node.ifindex_of(request.port()) {
                requests.push((request, ifindex));
            }
        }
    }
    for (request, ifindex) in requests {
        let outcome = match request {
            NeighborRequest::Keep(_, address) | NeighborRequest::Resolve(_, address) => {
                mirror.ensure(ifindex, address).await
            }
            NeighborRequest::Release(_, address) => mirror.release(ifindex, address).await,
        };
        if let Err(error) = outcome {
            tracing::warn!("neighbour {}: {error}", request.address());
        }
    }
}

async fn on_neighbor(node: &Mutex<Node>, event: NeighborEvent) {
    let mut node = node.lock().await;
    if let Some(port) = node.port_of(event.ifindex) {
        node.neighbor_changed(port, &event, Instant::now());
    }
}

async fn on_link(node: &Mutex<Node>, links: &LinkWatch, event: LinkEvent) {
    let mut node = node.lock().await;
    match event {
        LinkEvent::Appeared(link) | LinkEvent::Changed { link, .. } => node.link_changed(&link).await,
        LinkEvent::AddressAdded { index, .. } | LinkEvent::AddressRemoved { index, .. } => {
            if let Some(link) = links.links().find(|link| link.index == index).cloned() {
                node.link_changed(&link).await;
            }
        }
        LinkEvent::Removed { name, .. } => node.link_removed(&name).await,
    }
}

impl Node {
    /// The device of an uplink port.
    fn ifindex_of(&self, port: crate::ids::PortId) -> Option<u32> {
        let name = self.router.engine().port_name(port)?;
        self.uplinks.get(name).map(|uplink| uplink.link.index)
    }

    /// The port of an uplink's device.
    fn port_of(&self, ifindex: u32) -> Option<crate::ids::PortId> {
        let (name, _) = self.uplinks.iter().find(|(_, uplink)| uplink.link.index == ifindex)?;
        self.router.engine().port_id(name)
    }

    fn tick(&mut self) {
        self.watch_pods();
        self.watch_workers();
        self.watch_load();
        self.take_flow_log();
        self.router.expire_gleaned();
        self.forget_gone_neighbors();
        if let Err(error) = self.router.commit() {
            self.note_problem("tables", Some(error.to_string()));
        }
    }
}
