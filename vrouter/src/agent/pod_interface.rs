//! Pod interfaces
use serde::{Deserialize, Serialize};
/// How a pod's interface is attached to the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// A persistent tap inside the pod's namespace.
    Tap,
    /// A veth pair with its host end here.
    Veth,
}
