//! From the node's errors to the API's status codes; messages pass verbatim.

use tonic::Status;

use crate::agent::pod_interface::PodInterfaceError;
use crate::control::EngineError;
use crate::daemon::NodeError;
use crate::router::RouterError;

/// The status of an error.
pub(super) fn status(error: &NodeError) -> Status {
    let message = error.to_string();
    match error {
        NodeError::Invalid(_) => Status::invalid_argument(message),
        NodeError::NotFound(_) => Status::not_found(message),
        NodeError::Exists(_) => Status::already_exists(message),
        NodeError::InUse(_) | NodeError::Uplink(_) | NodeError::Device(..) => {
            Status::failed_precondition(message)
        }
        NodeError::Refused(refused) | NodeError::Router(RouterError::Refused(refused)) => match refused {
            EngineError::AddressTaken { .. } => Status::already_exists(message),
            EngineError::NoNextHops(_) | EngineError::MixedFamilies(..) => Status::invalid_argument(message),
            EngineError::NoSuchPort(_) | EngineError::NoSuchPool(_) | EngineError::NoSuchRoute(..) => {
                Status::not_found(message)
            }
            _ => Status::failed_precondition(message),
        },
        NodeError::Pod(error) => match error {
            PodInterfaceError::Invalid { .. } | PodInterfaceError::Netns { .. } => {
                Status::invalid_argument(message)
            }
            PodInterfaceError::Occupied { .. } | PodInterfaceError::RouteTaken { .. } => {
                Status::failed_precondition(message)
            }
            _ => Status::internal(message),
        },
        _ => Status::internal(message),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn codes_and_verbatim_messages() {
        let of = |error: NodeError| {
            let status = status(&error);
            assert_eq!(status.message(), error.to_string());
            status.code()
        };
        assert_eq!(of(NodeError::NotFound("there is no pod a/b".into())), Code::NotFound);
        assert_eq!(of(NodeError::InUse("needed".into())), Code::FailedPrecondition);
        let address = "10.0.0.1".parse().unwrap();
        let taken = EngineError::AddressTaken { address, port: "b".into(), owner: "a".into() };
        assert_eq!(of(NodeError::Router(taken.into())), Code::AlreadyExists);
        assert_eq!(of(NodeError::Refused(EngineError::TooManyPorts)), Code::FailedPrecondition);
    }
}
