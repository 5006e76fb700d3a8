//! Following a stream until it ends, its time is over, or the user stops it.

use std::pin::pin;
use std::time::Duration;

use tokio_stream::StreamExt;
use tonic::Streaming;

use crate::failure::Failure;

/// What a stream tells.
pub(crate) enum Event<T> {
    /// The next item.
    Item(T),
    /// Nothing for a tenth of a second: time to flush.
    Pause,
}

/// Hands every item of a stream to `handle`. Ends, with success, when the router ends the stream, when
/// `timeout` is over, and on the interrupt key.
pub(crate) async fn follow<T>(
    mut stream: Streaming<T>,
    timeout: Option<Duration>,
    mut handle: impl FnMut(Event<T>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let end = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let mut end = pin!(end);
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            biased;
            outcome = &mut interrupt => return Ok(outcome?),
            () = &mut end => return Ok(()),
            item = stream.next() => match item {
                Some(item) => handle(Event::Item(item?))?,
                None => return Ok(()),
            },
            () = tokio::time::sleep(Duration::from_millis(100)) => handle(Event::Pause)?,
        }
    }
}
