//! Callers of a workload, which send operations to the system by HTTP or through a driver program. Each client has one caller.

use super::http::HttpCaller;
use super::operation::{OperationCall, OperationReply};
use super::program::ProgramCaller;

pub(super) enum Caller {
    Http(Box<HttpCaller>),
    Program(ProgramCaller),
}

impl Caller {
    /// Attempts an operation once and returns the result. The attempt takes at most about the timeout of the workload.
    pub(super) async fn call(&mut self, call: &OperationCall<'_>) -> OperationReply {
        match self {
            Self::Http(http) => http.call(call).await,
            Self::Program(program) => program.call(call).await,
        }
    }

    /// Returns true if the caller cannot send operations any more, because the driver program has ended.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Http(_) => false,
            Self::Program(program) => program.is_gone(),
        }
    }
}
