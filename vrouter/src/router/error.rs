//! Why something could not be done to a router.

use std::io;

use crate::control::EngineError;
use crate::ids::WorkerId;

/// Why something could not be done to a router.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouterError {
    /// The event was refused.
    #[error(transparent)]
    Refused(#[from] EngineError),
    /// A port without a queue carries nothing.
    #[error("port {0} has no queue")]
    NoQueues(String),
    /// The operating system refused something.
    #[error("{0}: {1}")]
    Os(&'static str, #[source] io::Error),
    /// The flow table cannot be made.
    #[error("flow table: {0}")]
    Flows(#[source] acl::conntrack::LayoutError),
    /// A worker does not take commands.
    #[error("worker {0} does not answer")]
    WorkerStuck(WorkerId),
    /// Workers run in threads, or not any more.
    #[error("the workers are not here")]
    NotHere,
    /// Not a number of workers that can be had.
    #[error("there can be 1 to {0} workers here")]
    TooManyWorkers(usize),
    /// One worker may have to own all queues.
    #[error("ports have at most {0} queues in all")]
    TooManyQueues(usize),
    /// Workers do not come to a stop together.
    #[error("the workers do not all answer")]
    WorkersStuck,
}
