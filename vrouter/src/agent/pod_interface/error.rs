//! Why a pod's interface could not be made or removed: always with the pod's name.

use std::io;
use std::path::PathBuf;

use crate::agent::netlink::NetlinkError;
use crate::agent::sysctl::SysctlError;

/// Why a pod's interface could not be made or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodInterfaceError {
    /// What was asked for makes no sense.
    #[error("pod {pod}: {reason}")]
    Invalid {
        /// The pod.
        pod: String,
        /// What is wrong.
        reason: String,
    },
    /// The namespace is not there or cannot be entered.
    #[error("pod {pod}: {source}")]
    Netns {
        /// The pod.
        pod: String,
        /// Names the path and the reason.
        source: io::Error,
    },
    /// The name is taken by a device that is not ours to adopt.
    #[error("pod {pod}: `{interface}` in {} is there already: {reason}", netns.display())]
    Occupied {
        /// The pod.
        pod: String,
        /// The interface.
        interface: String,
        /// Where.
        netns: PathBuf,
        /// What it is and why it cannot be adopted.
        reason: String,
    },
    /// The pod has a route that stands in the way of one that it needs.
    #[error("pod {pod}: it has another route to {prefix} already; remove that first")]
    RouteTaken {
        /// The pod.
        pod: String,
        /// The route's destination.
        prefix: ipnet::IpNet,
    },
    /// The tap driver refused.
    #[error("pod {pod}: {source}")]
    Tap {
        /// The pod.
        pod: String,
        /// Names the step and the reason.
        source: io::Error,
    },
    /// The kernel refused a change.
    #[error("pod {pod}: {source}")]
    Netlink {
        /// The pod.
        pod: String,
        /// Names the step and the reason.
        source: NetlinkError,
    },
    /// The kernel refused a setting.
    #[error("pod {pod}: {source}")]
    Sysctl {
        /// The pod.
        pod: String,
        /// Names the setting and the reason.
        source: SysctlError,
    },
}

/// Attaches the pod's name to errors.
pub(super) trait OfPod<T> {
    fn of(self, pod: &str) -> Result<T, PodInterfaceError>;
}

impl<T> OfPod<T> for Result<T, NetlinkError> {
    fn of(self, pod: &str) -> Result<T, PodInterfaceError> {
        self.map_err(|source| PodInterfaceError::Netlink { pod: pod.to_owned(), source })
    }
}

impl<T> OfPod<T> for Result<T, SysctlError> {
    fn of(self, pod: &str) -> Result<T, PodInterfaceError> {
        self.map_err(|source| PodInterfaceError::Sysctl { pod: pod.to_owned(), source })
    }
}
