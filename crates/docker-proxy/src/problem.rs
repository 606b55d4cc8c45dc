//! Error response in the format and wording of the real engine: `{"message": "..."}` and a status.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineProblem {
    pub status: StatusCode,
    pub message: String,
}

impl EngineProblem {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn no_such_container(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("No such container: {name}"))
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub fn refused(method: &str, path: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, format!("access denied: {method} {path} is not allowed on this engine"))
    }
}

impl IntoResponse for EngineProblem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "message": self.message }))).into_response()
    }
}
