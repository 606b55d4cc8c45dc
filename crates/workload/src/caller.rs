//! Callers, which send an operation to the system by HTTP or through a driver program. Each client has one caller.

use super::http::HttpCaller;
use super::operation::{OperationCall, OperationReply};
use super::program::ProgramCaller;

pub(super) enum Caller {
    Http(Box<HttpCaller>),
    Program(ProgramCaller),
}

impl Caller {
    /// Attempts the operation once. The attempt takes about the workload's timeout at most.
    pub(super) async fn call(&mut self, call: &OperationCall<'_>) -> OperationReply {
        match self {
            Self::Http(http) => http.call(call).await,
            Self::Program(program) => program.call(call).await,
        }
    }

    /// Returns true if further calls are pointless.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Http(_) => false,
            Self::Program(program) => program.is_gone(),
        }
    }
}
