//! Metrics and health over HTTP.
//!
//! | request        | answer                                                         |
//! |----------------|----------------------------------------------------------------|
//! | `GET /metrics` | 200, OpenMetrics text, which Prometheus reads                  |
//! | `GET /healthz` | 200 `ok`, or 503 with a line for each part that is not well     |
//! | other paths    | 404                                                            |
//! | other methods  | 405                                                            |

mod families;
mod node;
mod policy;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};

use crate::daemon::{Node, NodeError};

/// Connections at a time; more wait.
const CONNECTIONS: usize = 32;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Binds the metrics address.
///
/// # Errors
/// The address is taken or not of this host.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| NodeError::Invalid(format!("metrics {address}: {error}")))
}

/// Serves until aborted.
pub async fn serve(node: Arc<Mutex<Node>>, socket: TcpListener) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or the client went away: neither lasts.
                tracing::debug!("metrics: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let node = node.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(node.clone(), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!("metrics: {error}");
            }
            drop(slot);
        });
    }
}

async fn answer(
    node: Arc<Mutex<Node>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET {
        let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return Ok(response);
    }
    Ok(match request.uri().path() {
        "/metrics" => {
            let families = node::families(&*node.lock().await);
            match families::encode(families) {
                Ok(text) => reply(StatusCode::OK, OPEN_METRICS, text),
                Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
            }
        }
        "/healthz" => {
            let node = node.lock().await;
            if node.problems.is_empty() {
                reply(StatusCode::OK, PLAIN, "ok\n".to_owned())
            } else {
                let lines = node.problems.iter().map(|(part, problem)| format!("{part}: {problem}\n"));
                reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, lines.collect())
            }
        }
        path => reply(StatusCode::NOT_FOUND, PLAIN, format!("there is no {path}: /metrics or /healthz\n")),
    })
}

fn reply(status: StatusCode, content_type: HeaderValue, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
