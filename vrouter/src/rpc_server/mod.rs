//! The API's server: `vrouter.v1` over a Unix socket, answered from the node.
//!
//! ```text
//!   request --> [lock] Node --> reply          reads: status, ports, routes, ...
//!           --> task: [lock] Node, change it   writes: pods, resources
//!           --> stream: [lock] Node for a page  routes
//!           --> stream of packets              trace, capture
//! ```
//!
//! A write runs in a task of its own: a client that goes away does not stop it half-way.

mod capture;
mod drops;
mod error;
mod explain;
mod filter;
mod flow_log;
mod flows;
mod follow;
mod headers;
mod memory;
pub(crate) mod neighbors;
mod pods;
pub(crate) mod policy;
mod policy_diff;
pub(crate) mod ports;
mod resources;
mod route_decision;
mod route_sources;
mod routes;
mod status;
mod trace;
pub(crate) mod tunnels;
mod workers;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};

use crate::daemon::{Node, NodeError};
use crate::rpc::v1;
use crate::rpc::v1::router_server::{Router, RouterServer};
use follow::{Followers, Sink};

/// Who may use the socket: its owner and group.
const MODE: u32 = 0o660;
/// The largest request that is taken: resources of a large site in one text.
const LARGEST_REQUEST: usize = 64 << 20;
/// Items of a list that wait for a slow client.
const ITEMS_ON_THE_WAY: usize = 256;

/// Binds the API's socket, for its owner and group. A socket that nobody listens on is
/// removed first.
///
/// # Errors
/// Another process listens there, or the path cannot be used.
pub fn bind(path: &Path) -> Result<UnixListener, NodeError> {
    let failed =
        |error: std::io::Error| NodeError::Invalid(format!("api socket {}: {error}", path.display()));
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(NodeError::Invalid(format!(
            "api socket {}: another router listens there",
            path.display()
        )));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let socket = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE)).map_err(failed)?;
    Ok(socket)
}

/// Removes the socket.
pub fn unbind(path: &Path) {
    // It may be gone with its directory.
    let _ = std::fs::remove_file(path);
}

/// Serves until aborted.
pub async fn serve(node: Arc<Mutex<Node>>, socket: UnixListener) {
    let service = RouterServer::new(Service { node, followers: Arc::default() })
        .max_decoding_message_size(LARGEST_REQUEST);
    let server = tonic::transport::Server::builder().add_service(service);
    if let Err(error) = server.serve_with_incoming(UnixListenerStream::new(socket)).await {
        tracing::error!("api: {error}");
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Service {
    node: Arc<Mutex<Node>>,
    followers: Arc<Mutex<Followers>>,
}

impl Service {
    async fn read<T>(&self, look: impl FnOnce(&Node) -> T) -> T {
        look(&*self.node.lock().await)
    }

    async fn follow(&self, filter: Option<v1::PacketFilter>, count: u64, sink: Sink) -> Result<(), Status> {
        let filter = filter::compile(&*self.node.lock().await, filter)?;
        follow::begin(&self.followers, &self.node, filter, count, sink).await
    }

    /// Runs a change to its end, whatever becomes of the client.
    async fn change<T, F>(&self, change: impl FnOnce(OwnedMutexGuard<Node>) -> F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let node = self.node.clone().lock_owned().await;
        let changed = node.changed.clone();
        let outcome = tokio::spawn(change(node)).await;
        changed.notify_one();
        outcome.unwrap_or_else(|error| Err(Status::internal(format!("the change ended early: {error}"))))
    }
}

#[tonic::async_trait]
impl Router for Service {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusReply> {
        Ok(Response::new(self.read(status::status).await))
    }

    async fn list_ports(&self, _: Request<v1::ListPortsRequest>) -> Answer<v1::ListPortsReply> {
        let ports = self.read(ports::list).await;
        Ok(Response::new(v1::ListPortsReply { ports }))
    }

    type ListRoutesStream = Items<v1::Route>;

    async fn list_routes(&self, request: Request<v1::ListRoutesRequest>) -> Answer<Self::ListRoutesStream> {
        let filter = routes::Filter::new(request.into_inner())?;
        let (to, routes) = tokio::sync::mpsc::channel(ITEMS_ON_THE_WAY);
        tokio::spawn(routes::send(self.node.clone(), filter, to));
        Ok(Response::new(Box::pin(ReceiverStream::new(routes))))
    }

    type ListNextHopGroupsStream = Items<v1::NextHopGroup>;

    async fn list_next_hop_groups(
        &self,
        _: Request<v1::ListNextHopGroupsRequest>,
    ) -> Answer<Self::ListNextHopGroupsStream> {
        let (to, groups) = tokio::sync::mpsc::channel(ITEMS_ON_THE_WAY);
        tokio::spawn(routes::send_groups(self.node.clone(), to));
        Ok(Response::new(Box::pin(ReceiverStream::new(groups))))
    }

    async fn get_route(&self, request: Request<v1::GetRouteRequest>) -> Answer<v1::RouteDecision> {
        Ok(Response::new(self.read(|node| route_decision::decide(node, request.get_ref())).await?))
    }

    async fn list_neighbors(&self, _: Request<v1::ListNeighborsRequest>) -> Answer<v1::ListNeighborsReply> {
        let neighbors = self.read(neighbors::list).await;
        Ok(Response::new(v1::ListNeighborsReply { neighbors }))
    }

    async fn list_drops(&self, request: Request<v1::ListDropsRequest>) -> Answer<v1::ListDropsReply> {
        let drops = self.read(|node| drops::list(node, request.get_ref().include_zero)).await;
        Ok(Response::new(v1::ListDropsReply { drops }))
    }

    async fn list_workers(&self, _: Request<v1::ListWorkersRequest>) -> Answer<v1::ListWorkersReply> {
        let workers = self.read(workers::list).await;
        Ok(Response::new(v1::ListWorkersReply { workers }))
    }

    async fn set_workers(&self, request: Request<v1::SetWorkersRequest>) -> Answer<v1::SetWorkersReply> {
        let count = request.into_inner().count;
        let reply = self.change(move |mut node| async move { workers::set(&mut node, count) }).await?;
        Ok(Response::new(reply))
    }

    async fn memory(&self, _: Request<v1::MemoryRequest>) -> Answer<v1::MemoryReply> {
        Ok(Response::new(self.read(memory::memory).await))
    }

    async fn list_tunnels(&self, _: Request<v1::ListTunnelsRequest>) -> Answer<v1::ListTunnelsReply> {
        let tunnels = self.read(tunnels::list).await;
        Ok(Response::new(v1::ListTunnelsReply { tunnels }))
    }

    async fn attach_pod(&self, request: Request<v1::AttachPodRequest>) -> Answer<v1::AttachPodReply> {
        let request = request.into_inner();
        let reply = self.change(|mut node| async move { pods::attach(&mut node, request).await }).await?;
        Ok(Response::new(reply))
    }

    async fn detach_pod(&self, request: Request<v1::DetachPodRequest>) -> Answer<v1::DetachPodReply> {
        let request = request.into_inner();
        let reply = self.change(|mut node| async move { pods::detach(&mut node, request).await }).await?;
        Ok(Response::new(reply))
    }

    async fn list_pods(&self, _: Request<v1::ListPodsRequest>) -> Answer<v1::ListPodsReply> {
        let pods = self.read(pods::list).await;
        Ok(Response::new(v1::ListPodsReply { pods }))
    }

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Answer<v1::ApplyReply> {
        let request = request.into_inner();
        let reply =
            self.change(|mut node| async move { Ok(resources::apply(&mut node, request).await) }).await?;
        Ok(Response::new(reply))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Answer<v1::GetReply> {
        Ok(Response::new(self.read(|node| resources::get(node, request.get_ref())).await?))
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Answer<v1::DeleteReply> {
        let request = request.into_inner();
        let reply =
            self.change(|mut node| async move { resources::delete(&mut node, &request).await }).await?;
        Ok(Response::new(reply))
    }

    async fn list_policies(
        &self,
        request: Request<v1::ListPoliciesRequest>,
    ) -> Answer<v1::ListPoliciesReply> {
        Ok(Response::new(self.read(|node| policy::list(node, request.get_ref())).await?))
    }

    type ListFlowLogStream = Items<v1::FlowLogEntry>;

    async fn list_flow_log(
        &self,
        request: Request<v1::ListFlowLogRequest>,
    ) -> Answer<Self::ListFlowLogStream> {
        let (to, entries) = tokio::sync::mpsc::channel(ITEMS_ON_THE_WAY);
        tokio::spawn(flow_log::send(self.node.clone(), request.into_inner(), to));
        Ok(Response::new(Box::pin(ReceiverStream::new(entries))))
    }

    type ListFlowsStream = Items<v1::Flow>;

    async fn list_flows(&self, request: Request<v1::ListFlowsRequest>) -> Answer<Self::ListFlowsStream> {
        let (to, flows) = tokio::sync::mpsc::channel(ITEMS_ON_THE_WAY);
        tokio::spawn(flows::send(self.node.clone(), request.into_inner(), to));
        Ok(Response::new(Box::pin(ReceiverStream::new(flows))))
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Answer<v1::ExplainReply> {
        Ok(Response::new(self.read(|node| explain::explain(node, request.get_ref())).await?))
    }

    async fn diff_policy(&self, request: Request<v1::DiffPolicyRequest>) -> Answer<v1::DiffPolicyReply> {
        Ok(Response::new(policy_diff::diff(self.node.clone(), request.into_inner()).await?))
    }

    type TraceStream = Items<v1::TraceRecord>;

    async fn trace(&self, request: Request<v1::TraceRequest>) -> Answer<Self::TraceStream> {
        let v1::TraceRequest { filter, count } = request.into_inner();
        let (sender, receiver) = follow::queue();
        self.follow(filter, count, Sink::Trace(sender)).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type CaptureStream = Items<v1::CapturedPacket>;

    async fn capture(&self, request: Request<v1::CaptureRequest>) -> Answer<Self::CaptureStream> {
        let v1::CaptureRequest { filter, snaplen, count } = request.into_inner();
        let (sender, receiver) = follow::queue();
        self.follow(filter, count, Sink::Capture(sender, snaplen)).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
