//! Replay of a cassette: recorded responses replace a model server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future, stream};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::compare::{asked_of_others, canonical, difference, hash, meant};
use super::tape::{LENGTHS, SERVED};
use super::{Answer, CassetteOrigin, End, Exchange, Mode, head};
use crate::divergence::Divergence;
use crate::key::{ApiKey, scrub_exactly};
use crate::transport::{Incoming, Outgoing, Transport, TransportBody, TransportError};
use crate::wire::RecordedRoute;

/// Cassette that was read from a file for replay.
#[derive(Debug)]
pub struct Cassette {
    name: String,
    of: Option<CassetteOrigin>,
    sessions: BTreeMap<String, Arc<[Exchange]>>,
}

impl Cassette {
    /// Reads a cassette from a file.
    ///
    /// # Errors
    /// The file cannot be read or is no cassette.
    pub fn open(path: &Path) -> Result<Self, String> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read the cassette `{name}`: {error}"))?;
        Self::read(&name, &text)
    }

    fn read(name: &str, text: &str) -> Result<Self, String> {
        let mut lines = text.split_inclusive('\n').enumerate();
        let of = head(name, lines.next().map_or("", |(_, line)| line))?.of;
        let mut sessions: BTreeMap<String, Vec<Exchange>> = BTreeMap::new();
        for (at, line) in lines {
            let exchange: Exchange = match serde_json::from_str(line) {
                Ok(exchange) => exchange,
                // The writer was killed while writing this line.
                Err(_) if !line.ends_with('\n') => break,
                Err(error) => return Err(format!("the cassette `{name}` is damaged in line {}: {error}", at + 1)),
            };
            sessions.entry(exchange.session.clone()).or_default().push(exchange);
        }
        for exchanges in sessions.values_mut() {
            exchanges.sort_by_key(|exchange| exchange.seq);
        }
        Ok(Self { name: name.to_owned(), of, sessions: sessions.into_iter().map(|(name, exchanges)| (name, exchanges.into())).collect() })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn of(&self) -> Option<&CassetteOrigin> {
        self.of.as_ref()
    }

    pub fn sessions(&self) -> impl Iterator<Item = &str> {
        self.sessions.keys().map(String::as_str)
    }

    /// Opens a session by name. A cassette with a single session opens that session under any name. `pace` multiplies the recorded response
    /// times. Without `pace`, responses are immediate.
    ///
    /// # Errors
    /// The cassette has several sessions, and none has this name.
    pub fn session(&self, name: &str, mode: Mode, pace: Option<f64>) -> Result<SessionReplay, String> {
        let foreign = matches!(name, SERVED | LENGTHS);
        let mut models = self.sessions.iter().filter(|(name, _)| *name != LENGTHS);
        let only = models.next().filter(|_| models.next().is_none()).map(|(_, exchanges)| exchanges);
        // An agent that sent no request during recording may send none now.
        if self.sessions.keys().all(|session| session == LENGTHS && name != LENGTHS) {
            return Ok(SessionReplay {
                cassette: self.name.clone(),
                exchanges: Arc::from([]),
                cursor: Arc::default(),
                mode,
                foreign,
                pace,
            });
        }
        let Some(exchanges) = self.sessions.get(name).or(only) else {
            let known: Vec<_> = self.sessions().map(|name| format!("`{name}`")).collect();
            let known = format!("it has {}", known.join(", "));
            return Err(format!("the cassette `{}` has no session `{name}`: {known}", self.name));
        };
        Ok(SessionReplay { cassette: self.name.clone(), exchanges: Arc::clone(exchanges), cursor: Arc::default(), mode, foreign, pace })
    }
}

/// Session of a cassette that is replayed. Several clients may share clones of the session if they send one request at a time.
#[derive(Debug, Clone)]
pub struct SessionReplay {
    cassette: String,
    exchanges: Arc<[Exchange]>,
    cursor: Arc<Cursor>,
    mode: Mode,
    /// True if the requests come from an external program, not from chaosrun's own model client.
    foreign: bool,
    pace: Option<f64>,
}

/// Position of the next exchange in a replayed session.
#[derive(Debug, Default)]
struct Cursor {
    next: AtomicUsize,
    /// Flags that record which kinds of differences were already reported: those in cluster output, and all others.
    told: [AtomicBool; 2],
}

impl SessionReplay {
    pub(crate) fn of(self, route: RecordedRoute, key: Option<ApiKey>) -> Replaying {
        Replaying { replay: self, route, key }
    }
}

/// Transport that returns responses from a cassette.
pub(crate) struct Replaying {
    replay: SessionReplay,
    route: RecordedRoute,
    key: Option<ApiKey>,
}

#[async_trait]
impl Transport for Replaying {
    async fn send(&mut self, request: Outgoing) -> Result<Incoming, TransportError> {
        let Some(exchange) = self.replay.exchanges.get(self.replay.cursor.next.fetch_add(1, Relaxed)).cloned() else {
            let (name, count) = (&self.replay.cassette, self.replay.exchanges.len());
            return Err(TransportError::Cassette(format!(
                "the cassette `{name}` holds {count} exchanges of this session, and one more was asked for"
            )));
        };
        let diverged = self.compare(&exchange, &request.body)?;
        self.wait(exchange.head_ms).await;
        let Some(answer) = exchange.answer else {
            return match exchange.end {
                End::Broken(why) => Err(TransportError::Connection(why)),
                // No more data arrives until the client gives up, the same as during recording.
                End::Whole | End::GivenUp => future::pending().await,
            };
        };
        let headers = answer
            .headers
            .iter()
            .filter_map(|(name, value)| Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?)));
        let headers: HeaderMap = headers.collect();
        let body = self.body(&answer, exchange.end, exchange.ms.saturating_sub(exchange.head_ms))?;
        Ok(Incoming { status: answer.status, headers, body, diverged })
    }

    fn pace(&self) -> f64 {
        self.replay.pace.unwrap_or(0.0)
    }
}

impl Replaying {
    /// Compares a request with the recorded one. Returns an error if the cassette must not answer the request. Returns a tolerable
    /// difference only once per session and kind.
    fn compare(&self, exchange: &Exchange, body: &[u8]) -> Result<Option<Divergence>, TransportError> {
        let at = format!("exchange {} of the cassette `{}`", exchange.seq, self.replay.cassette);
        if (exchange.wire.as_str(), exchange.path.as_str()) != (self.route.wire, self.route.path) {
            return Err(TransportError::Cassette(format!(
                "{at} is of `{}` at `{}`, and `{}` at `{}` was asked",
                exchange.wire, exchange.path, self.route.wire, self.route.path
            )));
        }
        let text = scrub_exactly(&String::from_utf8_lossy(body), self.key.as_ref());
        let now = canonical(&serde_json::from_str(&text).unwrap_or(Value::String(text)));
        if hash(self.route.path, &now) == exchange.hash {
            return Ok(None);
        }
        let recorded = canonical(&exchange.request);
        let meant = if self.replay.foreign { asked_of_others } else { meant };
        let deep = difference(&meant(&recorded), &meant(&now));
        let told = deep.is_none();
        let Some(difference) = deep.or_else(|| difference(&recorded, &now)) else { return Ok(None) };
        let diverged = Divergence { cassette: self.replay.cassette.clone(), exchange: exchange.seq, difference, told };
        if self.replay.mode == Mode::Strict && !told {
            return Err(TransportError::Diverged(Box::new(diverged)));
        }
        let before = self.replay.cursor.told[usize::from(told)].swap(true, Relaxed);
        Ok((!before).then_some(diverged))
    }

    async fn wait(&self, millis: u64) {
        if let Some(wait) = self.replay.pace.and_then(|pace| scaled(millis, pace)) {
            tokio::time::sleep(wait).await;
        }
    }

    fn body(&self, answer: &Answer, end: End, millis: u64) -> Result<TransportBody, TransportError> {
        let bytes = match answer.body_base64.as_str() {
            "" => answer.body.clone().into_bytes(),
            base64 => {
                STANDARD.decode(base64).map_err(|error| TransportError::Cassette(format!("a body in the cassette is damaged: {error}")))?
            }
        };
        let wait = self.replay.pace.and_then(|pace| scaled(millis, pace));
        let bytes = stream::iter((!bytes.is_empty()).then(|| Ok(Bytes::from(bytes))));
        let end: TransportBody = match end {
            End::Whole => Box::pin(stream::empty()),
            End::Broken(why) => Box::pin(stream::iter([Err(TransportError::Connection(why))])),
            End::GivenUp => Box::pin(stream::pending()),
        };
        let all = bytes.chain(end);
        Ok(match wait {
            Some(wait) => Box::pin(tokio::time::sleep(wait).into_stream().filter_map(|()| future::ready(None)).chain(all)),
            None => Box::pin(all),
        })
    }
}

fn scaled(millis: u64, pace: f64) -> Option<Duration> {
    #[expect(clippy::cast_precision_loss, reason = "no exchange takes so long")]
    let seconds = millis as f64 / 1000.0 * pace;
    Duration::try_from_secs_f64(seconds).ok().filter(|wait| !wait.is_zero())
}
