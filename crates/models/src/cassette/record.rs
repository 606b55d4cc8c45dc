//! Recorder of cassettes. It writes each exchange as soon as the exchange ends, so that a killed run does not lose earlier exchanges.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Instant;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::Stream;
use jiff::Timestamp;
use serde_json::Value;

use super::compare::{canonical, hash};
use super::{Answer, CassetteHead, CassetteOrigin, End, Exchange, FORMAT, HEADERS};
use crate::key::{ApiKey, scrub_exactly};
use crate::transport::{Incoming, Outgoing, Transport, TransportBody, TransportError};
use crate::wire::RecordedRoute;

/// Cassette file that is being recorded. All agents of a run may share one cassette.
#[derive(Debug)]
pub struct CassetteRecorder {
    begun: Instant,
    /// Number of exchanges that were started, by session name.
    counts: Mutex<HashMap<String, u32>>,
    lines: Mutex<Option<mpsc::Sender<String>>>,
    writer: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl CassetteRecorder {
    /// Creates a cassette file and starts its recording.
    ///
    /// # Errors
    /// The file cannot be created or already exists. Existing cassettes are never overwritten, because their model calls cost money.
    pub fn create(path: &Path, of: Option<CassetteOrigin>) -> Result<Arc<Self>, String> {
        let wrong = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("the cassette `{}` exists already: remove it, or record to another file", path.display())
            }
            _ => format!("cannot record to `{}`: {error}", path.display()),
        };
        let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(wrong)?;
        let program = concat!("chaosrun ", env!("CARGO_PKG_VERSION")).to_owned();
        let head = line(&CassetteHead { cassette: FORMAT, program, recorded: Timestamp::now().to_string(), of });
        file.write_all(head.as_bytes()).map_err(wrong)?;
        let (lines, queue) = mpsc::channel();
        let writer = std::thread::Builder::new().name("cassette".into()).spawn(move || write(file, &queue)).map_err(wrong)?;
        let (lines, writer) = (Mutex::new(Some(lines)), Mutex::new(Some(writer)));
        Ok(Arc::new(Self { begun: Instant::now(), counts: Mutex::default(), lines, writer }))
    }

    /// Waits until all ended exchanges are in the file. Exchanges that end later are not recorded.
    ///
    /// # Errors
    /// An exchange could not be written to the file.
    pub fn close(&self) -> io::Result<()> {
        // The writer ends with its queue.
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        writer.map_or(Ok(()), |writer| writer.join().unwrap_or_else(|_| Err(io::Error::other("the writer of the cassette has panicked"))))
    }

    /// Opens a session of the cassette. Several clients may share a session if they send one request at a time.
    pub(crate) fn session(
        self: Arc<Self>,
        name: String,
        server: Box<dyn Transport>,
        route: RecordedRoute,
        key: Option<ApiKey>,
    ) -> Recording {
        Recording { recorder: self, name, server, route, key }
    }

    fn put(&self, exchange: &Exchange) {
        if let Some(lines) = &*self.lines.lock().unwrap_or_else(PoisonError::into_inner) {
            // Errors of the writer are reported when the cassette is closed.
            lines.send(line(exchange)).ok();
        }
    }

    fn count(&self, session: &str) -> u32 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(session.to_owned()).or_default();
        *count += 1;
        *count
    }
}

impl Drop for CassetteRecorder {
    fn drop(&mut self) {
        self.close().ok();
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn line(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).map_or_else(|error| format!("# {error}\n"), |text| text + "\n")
}

fn write(mut file: File, queue: &mpsc::Receiver<String>) -> io::Result<()> {
    queue.iter().try_for_each(|line| file.write_all(line.as_bytes()))
}

/// Transport that forwards requests to a server and records the exchanges in a cassette.
pub(crate) struct Recording {
    recorder: Arc<CassetteRecorder>,
    name: String,
    server: Box<dyn Transport>,
    route: RecordedRoute,
    key: Option<ApiKey>,
}

#[async_trait]
impl Transport for Recording {
    async fn send(&mut self, request: Outgoing) -> Result<Incoming, TransportError> {
        let mut draft = self.draft(&request.body);
        let mut incoming = match self.server.send(request).await {
            Ok(incoming) => incoming,
            Err(lost) => {
                draft.exchange.end = End::Broken(lost.to_string());
                return Err(lost);
            }
        };
        draft.exchange.head_ms = millis(draft.begun);
        let header = |name: &str| Some((name.to_owned(), incoming.headers.get(name)?.to_str().ok()?.to_owned()));
        let headers = HEADERS.into_iter().filter_map(header).collect();
        draft.exchange.answer = Some(Answer { status: incoming.status, headers, body: String::new(), body_base64: String::new() });
        incoming.body = Box::pin(Tee { body: incoming.body, draft: Some(draft) });
        Ok(incoming)
    }
}

impl Recording {
    fn draft(&self, body: &[u8]) -> Draft {
        let text = scrub_exactly(&String::from_utf8_lossy(body), self.key.as_ref());
        let request: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let exchange = Exchange {
            session: self.name.clone(),
            seq: self.recorder.count(&self.name),
            wire: self.route.wire.into(),
            path: self.route.path.into(),
            hash: hash(self.route.path, &canonical(&request)),
            request,
            answer: None,
            end: End::GivenUp,
            at_ms: millis(self.recorder.begun),
            head_ms: 0,
            ms: 0,
        };
        Draft { recorder: Arc::clone(&self.recorder), key: self.key.clone(), begun: Instant::now(), exchange, body: Vec::new() }
    }
}

/// Exchange in progress that will be recorded. It is written when this value is dropped, even after a failure.
struct Draft {
    recorder: Arc<CassetteRecorder>,
    key: Option<ApiKey>,
    begun: Instant,
    exchange: Exchange,
    body: Vec<u8>,
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.exchange.ms = millis(self.begun);
        if let Some(answer) = &mut self.exchange.answer {
            match String::from_utf8(std::mem::take(&mut self.body)) {
                Ok(text) => answer.body = scrub_exactly(&text, self.key.as_ref()),
                Err(error) => answer.body_base64 = STANDARD.encode(error.as_bytes()),
            }
        }
        self.recorder.put(&self.exchange);
    }
}

/// Response body that is forwarded to the reader and recorded at the same time.
struct Tee {
    body: TransportBody,
    draft: Option<Draft>,
}

impl Stream for Tee {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = ready!(self.body.as_mut().poll_next(cx));
        match (&piece, &mut self.draft) {
            (Some(Ok(bytes)), Some(draft)) => draft.body.extend_from_slice(bytes),
            (Some(Err(lost)), Some(draft)) => draft.exchange.end = End::Broken(lost.to_string()),
            (None, Some(draft)) if draft.exchange.end == End::GivenUp => draft.exchange.end = End::Whole,
            _ => {}
        }
        if !matches!(piece, Some(Ok(_))) {
            self.draft = None;
        }
        Poll::Ready(piece)
    }
}
