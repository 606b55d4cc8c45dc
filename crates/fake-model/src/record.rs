//! Request log of the fake model server: one line of JSON per request, without API keys.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, Method, Uri};
use serde_json::{Map, Value, json};

#[derive(Debug)]
pub(crate) struct RequestRecord(Option<Mutex<File>>);

/// Result of a request, as written to the request log.
#[derive(Debug, Default)]
pub(crate) struct RequestResult {
    pub status: u16,
    pub conversation: Option<u64>,
    /// Index in the script of the turn that answered the request.
    pub turn: Option<usize>,
    pub problem: Option<String>,
}

impl RequestRecord {
    /// Opens the request log for appending. Without a path, requests are not logged.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path).map(Mutex::new);
        path.map(open).transpose().map(Self)
    }

    /// Writes the line of a request. Called before the answer is sent, so that the line exists when the client has its answer.
    pub fn write(&self, request: &str, (method, uri): (&Method, &Uri), headers: &HeaderMap, body: &[u8], answered: &RequestResult) {
        let Some(file) = &self.0 else { return };
        let body: Value = serde_json::from_slice(body).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body)));
        let line = json!({
            "request": request,
            "at": jiff::Timestamp::now().to_string(),
            "method": method.as_str(),
            "path": uri.to_string(),
            "headers": blanked(headers),
            "body": body,
            "status": answered.status,
            "conversation": answered.conversation,
            "turn": answered.turn,
            "problem": answered.problem,
        });
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written must not change the answer.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

fn blanked(headers: &HeaderMap) -> Map<String, Value> {
    let mut shown = Map::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let value = match name.as_str() {
            "authorization" | "proxy-authorization" => {
                format!("{} ***", value.split(' ').next().filter(|_| value.contains(' ')).unwrap_or_default())
            }
            "x-api-key" | "api-key" | "cookie" => "***".to_owned(),
            _ => value.into_owned(),
        };
        shown.insert(name.as_str().to_owned(), Value::from(value));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_logged() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("authorization", "Bearer sk-1"), ("x-api-key", "sk-2"), ("proxy-authorization", "sk-3"), ("accept", "*/*")] {
            headers.insert(name, value.parse().unwrap());
        }
        let shown = blanked(&headers);
        assert!(!Value::from(shown.clone()).to_string().contains("sk-"), "{shown:?}");
        assert_eq!((&shown["authorization"], &shown["accept"]), (&json!("Bearer ***"), &json!("*/*")));
    }
}
