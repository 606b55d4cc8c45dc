//! Responses in PD's formats.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

/// Text that Go's `net/http` returns for an unknown path.
pub const NOT_FOUND: &str = "404 page not found";
/// Error text for requests that arrive while the members elect a leader.
pub(crate) const NO_LEADER: &str = "[PD:apiutil:ErrRedirectNoLeader]redirect finds no leader";
/// Error text of most endpoints as long as no store has registered.
pub(crate) const NOT_BOOTSTRAPPED: &str = "[PD:cluster:ErrNotBootstrapped]TiKV cluster not bootstrapped, please start TiKV first";

fn with_type(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Creates a response with indented JSON, the format of nearly all responses.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec_pretty(value) {
        Ok(mut body) => {
            body.push(b'\n');
            with_type(status, "application/json; charset=UTF-8", body)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

pub fn ok(value: &impl Serialize) -> Response {
    json(StatusCode::OK, value)
}

/// Creates a response with a message or an error as a JSON string.
pub fn message(status: StatusCode, text: &str) -> Response {
    json(status, &text)
}

pub fn bad_request(text: &str) -> Response {
    message(StatusCode::BAD_REQUEST, text)
}

pub fn internal(text: &str) -> Response {
    message(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// Creates a response with compact JSON and the default content type of Go's library. Used for answers about regions.
pub fn compact(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => with_type(StatusCode::OK, "application/octet-stream", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Creates a response with plain text, for errors before a handler of the API runs.
pub fn text(status: StatusCode, text: &str) -> Response {
    with_type(status, "text/plain; charset=utf-8", format!("{text}\n").into_bytes())
}

pub fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, NOT_FOUND)
}

/// Creates an error response about malformed input, in the format of pingcap/errcode.
pub fn bad_input(text: &str, data: &serde_json::Value) -> Response {
    let mut response = json(StatusCode::BAD_REQUEST, &json!({"code": "input", "msg": text, "data": data}));
    response.headers_mut().insert("TiDB-Error-Code", HeaderValue::from_static("input"));
    response
}

/// Parses a request body that must be a JSON object.
///
/// # Errors
/// Returns the error response if the body is not a JSON object.
#[expect(clippy::result_large_err, reason = "the error is the result, created once")]
pub fn object(body: &[u8]) -> Result<serde_json::Map<String, serde_json::Value>, Response> {
    serde_json::from_slice(body).map_err(|error| bad_input(&error.to_string(), &json!({"Offset": error.column()})))
}

/// Parses an id in a request body, which must be a JSON number. Go reads the id as a float, so a string is not accepted.
pub fn number(value: Option<&serde_json::Value>) -> Option<u64> {
    let value = value?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as Go converts a float to an id: saturating, fraction dropped"
    )]
    value.as_u64().or_else(|| value.as_f64().map(|float| float as u64))
}

/// Returns Go's error message for an invalid number. `function` is the Go function that fails to parse `text`.
pub(crate) fn not_a_number(function: &str, text: &str) -> String {
    let why = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) { "value out of range" } else { "invalid syntax" };
    format!("strconv.{function}: parsing {text:?}: {why}")
}
