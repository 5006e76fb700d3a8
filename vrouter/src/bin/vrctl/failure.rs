//! Why a verb did not succeed, in words for stderr.

use std::io;

/// The end of a verb that did not succeed.
pub(crate) enum Failure {
    /// The reason.
    Message(String),
    /// The reader of stdout is gone.
    OutputClosed,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Message(message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Message(error.to_string())
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self::Message(match status.message() {
            "" => status.code().description().to_owned(),
            message => message.to_owned(),
        })
    }
}
