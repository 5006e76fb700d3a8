//! A router that says what the tests want to read, behind the real service on a Unix socket.

use std::fmt::Debug;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use vrouter::rpc::v1::router_server::{Router, RouterServer};
use vrouter::rpc::v1::*;

use crate::answers;

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the router was asked, in order: the requests as text.
pub(crate) type Asked = Arc<Mutex<Vec<String>>>;

struct Mock {
    asked: Asked,
}

impl Mock {
    fn note<M: Debug>(&self, request: &Request<M>) {
        let mut asked = self.asked.lock().expect("no test panics with the lock held");
        asked.push(format!("{:?}", request.get_ref()));
    }

    fn answer<M: Debug, T>(&self, request: Request<M>, reply: T) -> Answer<T> {
        self.note(&request);
        Ok(Response::new(reply))
    }
}

/// Items, and then either the end or silence.
fn packets<T: Send + 'static>(items: Vec<T>, ends: bool) -> Items<T> {
    let items = tokio_stream::iter(items.into_iter().map(Ok));
    if ends { Box::pin(items) } else { Box::pin(items.chain(tokio_stream::pending())) }
}

#[tonic::async_trait]
impl Router for Mock {
    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusReply> {
        self.answer(request, answers::status())
    }

    async fn list_ports(&self, request: Request<ListPortsRequest>) -> Answer<ListPortsReply> {
        let ports = answers::ports();
        self.answer(request, ListPortsReply { ports })
    }

    type ListRoutesStream = Items<Route>;

    async fn list_routes(&self, request: Request<ListRoutesRequest>) -> Answer<Self::ListRoutesStream> {
        // As many as the name of the source says, or those of the walk-through.
        let routes = match request.get_ref().source.strip_prefix("many-") {
            Some(count) => answers::many_routes(count.parse().unwrap_or_default()),
            None => answers::routes(),
        };
        self.note(&request);
        Ok(Response::new(packets(routes, true)))
    }

    type ListNextHopGroupsStream = Items<NextHopGroup>;

    async fn list_next_hop_groups(
        &self,
        request: Request<ListNextHopGroupsRequest>,
    ) -> Answer<Self::ListNextHopGroupsStream> {
        self.note(&request);
        Ok(Response::new(packets(answers::groups(), true)))
    }

    async fn get_route(&self, request: Request<GetRouteRequest>) -> Answer<RouteDecision> {
        let decision = answers::decision(&request.get_ref().address);
        self.answer(request, decision)
    }

    async fn list_neighbors(&self, request: Request<ListNeighborsRequest>) -> Answer<ListNeighborsReply> {
        let neighbors = answers::neighbors();
        self.answer(request, ListNeighborsReply { neighbors })
    }

    async fn list_drops(&self, request: Request<ListDropsRequest>) -> Answer<ListDropsReply> {
        let drops = answers::drops();
        self.answer(request, ListDropsReply { drops })
    }

    async fn list_workers(&self, request: Request<ListWorkersRequest>) -> Answer<ListWorkersReply> {
        let workers = answers::workers();
        self.answer(request, ListWorkersReply { workers })
    }

    async fn set_workers(&self, request: Request<SetWorkersRequest>) -> Answer<SetWorkersReply> {
        match request.get_ref().count {
            1 | 2 => self.answer(request, SetWorkersReply { moved: 3, most: 2 }),
            _ => Err(Status::invalid_argument("there can be 1 to 2 workers here")),
        }
    }

    async fn memory(&self, request: Request<MemoryRequest>) -> Answer<MemoryReply> {
        self.answer(request, answers::memory())
    }

    async fn list_tunnels(&self, request: Request<ListTunnelsRequest>) -> Answer<ListTunnelsReply> {
        let tunnels = answers::tunnels();
        self.answer(request, ListTunnelsReply { tunnels })
    }

    async fn attach_pod(&self, request: Request<AttachPodRequest>) -> Answer<AttachPodReply> {
        if request.get_ref().addresses[0].starts_with("11.") {
            return Err(Status::invalid_argument("11.0.0.1 is outside every pool"));
        }
        let reply = AttachPodReply { pod: answers::pods().pop(), generation: 8 };
        self.answer(request, reply)
    }

    async fn detach_pod(&self, request: Request<DetachPodRequest>) -> Answer<DetachPodReply> {
        match request.get_ref().name.as_str() {
            "default/web" => self.answer(request, DetachPodReply { generation: 9 }),
            other => Err(Status::not_found(format!("there is no pod {other}"))),
        }
    }

    async fn list_pods(&self, request: Request<ListPodsRequest>) -> Answer<ListPodsReply> {
        let pods = answers::pods();
        self.answer(request, ListPodsReply { pods })
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Answer<ApplyReply> {
        let objects = api::read(&request.get_ref().documents);
        let reply = answers::apply(objects);
        self.answer(request, reply)
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<GetReply> {
        let GetRequest { kind, name } = request.get_ref();
        let kind: api::Kind =
            kind.parse().map_err(|error: api::UnknownKind| Status::invalid_argument(error.to_string()))?;
        let mut resources = answers::resources(kind);
        resources.retain(|resource| name.is_empty() || *name == resource.name);
        if resources.is_empty() {
            return Err(Status::not_found(format!("there is no {kind} {name}")));
        }
        self.answer(request, GetReply { resources })
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteReply> {
        match request.get_ref().name.as_str() {
            "busy" => Err(Status::failed_precondition("2 pods have its addresses")),
            _ => self.answer(request, DeleteReply { generation: 9 }),
        }
    }

    async fn list_policies(&self, request: Request<ListPoliciesRequest>) -> Answer<ListPoliciesReply> {
        self.answer(request, answers::policies())
    }

    type ListFlowLogStream = Items<FlowLogEntry>;

    async fn list_flow_log(&self, request: Request<ListFlowLogRequest>) -> Answer<Self::ListFlowLogStream> {
        self.note(&request);
        Ok(Response::new(packets(answers::flow_log(), true)))
    }

    type ListFlowsStream = Items<Flow>;

    async fn list_flows(&self, request: Request<ListFlowsRequest>) -> Answer<Self::ListFlowsStream> {
        self.note(&request);
        Ok(Response::new(packets(answers::flows(), true)))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Answer<ExplainReply> {
        let answers = request.get_ref().questions.iter().map(answers::explained).collect();
        self.answer(request, ExplainReply { answers })
    }

    async fn diff_policy(&self, request: Request<DiffPolicyRequest>) -> Answer<DiffPolicyReply> {
        let reply = answers::difference(api::read(&request.get_ref().documents));
        self.answer(request, reply)
    }

    type TraceStream = Items<TraceRecord>;

    async fn trace(&self, request: Request<TraceRequest>) -> Answer<Self::TraceStream> {
        self.note(&request);
        let TraceRequest { filter, count } = request.into_inner();
        let port = filter.unwrap_or_default().port;
        let mut records = answers::trace();
        records.retain(|record| port.is_empty() || record.port == port);
        let ends = count > 0 && records.len() as u64 >= count;
        Ok(Response::new(packets(records, ends)))
    }

    type CaptureStream = Items<CapturedPacket>;

    async fn capture(&self, request: Request<CaptureRequest>) -> Answer<Self::CaptureStream> {
        self.note(&request);
        let ends = request.get_ref().count > 0;
        Ok(Response::new(packets(answers::captured(), ends)))
    }
}

/// A running router; it ends with the value.
pub(crate) struct Server {
    /// Its directory, removed at the end.
    pub(crate) directory: PathBuf,
    /// What it was asked.
    pub(crate) asked: Asked,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    /// Starts one in a directory of its own; `name` is unique among the tests of a run.
    pub(crate) fn start(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("vrctl-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
        let asked = Asked::default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime needs a thread and an epoll");
        let socket = {
            let _inside = runtime.enter();
            UnixListener::bind(directory.join("v.sock")).expect("the directory is new")
        };
        let mock = Mock { asked: asked.clone() };
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(RouterServer::new(mock))
                .serve_with_incoming(UnixListenerStream::new(socket)),
        );
        Self { directory, asked, _runtime: runtime }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("no test panics with the lock held");
        asked.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A directory that stays behind fails no test.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
