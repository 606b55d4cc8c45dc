//! Audit of the calls to the docker proxy: one event per call, for every result.

use std::time::Instant;

use axum::http::StatusCode;

use chaosrun_event::EventKind;
use chaosrun_event::emit::Emitter;

/// Maximum length in bytes of the agent's text in the record of a call. Longer text is cut off.
const DETAIL_LIMIT: usize = 4096;

/// Status of a call for which the client disconnected, or the proxy ended, before an answer was sent.
const GONE: u16 = 499;

/// Audit record of a call in progress. If the value is dropped without [`Audit::finish`], the call is recorded as aborted.
#[derive(Debug)]
pub(super) struct Audit {
    emitter: Emitter,
    began: Instant,
    verb: &'static str,
    node: Option<String>,
    detail: String,
    status: Option<u16>,
}

impl Audit {
    pub fn new(emitter: Emitter, verb: &'static str) -> Self {
        Self { emitter, began: Instant::now(), verb, node: None, detail: String::new(), status: None }
    }

    pub fn node(&mut self, node: &str) {
        self.node = Some(node.into());
    }

    pub fn detail(&mut self, detail: impl Into<String>) {
        self.detail = detail.into();
        if self.detail.len() > DETAIL_LIMIT {
            let cut = (0..=DETAIL_LIMIT).rev().find(|place| self.detail.is_char_boundary(*place));
            self.detail.truncate(cut.unwrap_or(0));
            self.detail.push_str("...");
        }
    }

    pub fn finish(mut self, status: StatusCode) {
        self.status = Some(status.as_u16());
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.emitter.emit(EventKind::EngineCall {
            verb: self.verb.into(),
            node: self.node.take(),
            detail: std::mem::take(&mut self.detail),
            status: self.status.unwrap_or(GONE),
            took_us: u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
        });
    }
}
