//! The way to the router, and why there is none.

use std::error::Error;
use std::io;
use std::path::Path;

use tonic::transport::{Channel, Endpoint};
use vrouter::rpc::v1::router_client::RouterClient;

use crate::failure::Failure;

/// A client of the router.
pub(crate) type Client = RouterClient<Channel>;

/// The largest answer that is taken: a table of a million routes is far below it.
const LARGEST_ANSWER: usize = 1 << 30;

/// Connects to the Unix socket at `path`.
pub(crate) async fn connect(path: &Path) -> Result<Client, Failure> {
    let name = path.display();
    let endpoint = Endpoint::from_shared(format!("unix:{name}"))
        .map_err(|error| format!("{name} cannot be a socket's path: {error}"))?;
    let channel = endpoint.connect().await.map_err(|error| explain(path, &error))?;
    Ok(RouterClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
}

fn explain(path: &Path, error: &tonic::transport::Error) -> Failure {
    const START: &str = "start the router with `vrouter run --config FILE`, or name the socket of a \
                         running one with --api unix:PATH";
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut kind = None;
    let mut last = error.to_string();
    while let Some(inner) = cause {
        last = inner.to_string();
        kind = inner.downcast_ref::<io::Error>().map(io::Error::kind).or(kind);
        cause = inner.source();
    }
    let name = path.display();
    Failure::Message(match kind {
        Some(io::ErrorKind::NotFound) => format!("no router at {name}: no such socket; {START}"),
        Some(io::ErrorKind::ConnectionRefused) => {
            format!("no router at {name}: nobody listens on the socket; {START}")
        }
        Some(io::ErrorKind::PermissionDenied) => {
            format!("not allowed to speak to the router at {name}: permission denied; try as root")
        }
        _ => format!("no router at {name}: {last}; {START}"),
    })
}
