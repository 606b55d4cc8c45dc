//! Model client. It sends requests, retries them where a retry may help, and counts the cost while the response arrives.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::Uri;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::time::Instant;

use super::cassette::{CassetteRecorder, LENGTHS, Mode, SessionReplay, Tape};
use super::key::{ApiKey, KeySource, scrub};
use super::limiter::{KeyLimiters, Limiter, Permit};
use super::prices::ListedPrice;
use super::retry::{Advice, Next, Retries, next};
use super::sse::Decoder;
use super::tally::Count;
use super::transport::{Connections, Incoming, Outgoing, Transport, TransportBody, TransportError};
use super::wire::{self, AttemptError, ModelWire, RecordedRoute};
use super::{ConversationEntry, CostMeter, ModelBackend, ModelError, ModelFailure, ModelReply, Notice, Spec};
use chaosrun_base::seed::stream;

/// State shared by all agents of a process: connection pool and rate limiters.
#[derive(Debug)]
pub struct SharedModels {
    connections: Connections,
    limits: KeyLimiters,
}

impl Default for SharedModels {
    fn default() -> Self {
        Self::new(Duration::from_secs(10))
    }
}

impl SharedModels {
    /// Creates the shared state. `connect` is the timeout for connecting.
    #[must_use]
    pub fn new(connect: Duration) -> Self {
        Self { connections: Connections::new(connect), limits: KeyLimiters::default() }
    }

    /// Returns the limiter for a server and a key.
    pub fn limiter(&self, base_url: &str, key: Option<&ApiKey>) -> Arc<Limiter> {
        self.limits.of(base_url, key)
    }
}

/// Settings of a model client: the server, the model and the handling of failures.
pub struct ModelClientConfig {
    pub wire: Arc<dyn ModelWire>,
    /// Base URL without the path of the wire: `https://api.anthropic.com`, `http://127.0.0.1:11434/v1`.
    pub base_url: String,
    pub key: KeySource,
    /// True to stream all responses, false to stream only responses that the wire requires to be streamed.
    pub stream: bool,
    /// Maximum time without data within an exchange. A longer silence fails the exchange.
    pub silence: Duration,
    pub retries: Retries,
    /// Seed of the trial, which determines the random delays between attempts.
    pub seed: u64,
    /// Price of the model. `None` if dollars are not counted.
    pub price: Option<ListedPrice>,
    pub source: AnswerSource,
}

/// Maximum time to wait for data from a model server, as in the official clients.
pub const SILENCE: Duration = Duration::from_secs(600);

/// Source of model responses: the server, the server with a recording, or a cassette.
pub enum AnswerSource {
    Live,
    /// Server whose exchanges are recorded in a cassette, under this session name.
    Recorded(Arc<CassetteRecorder>, String),
    Cassette(SessionReplay),
}

impl AnswerSource {
    /// Returns true if requests reach a real server.
    pub const fn is_live(&self) -> bool {
        !matches!(self, Self::Cassette(_))
    }

    /// Creates the transport that sends requests to `url` or replays their responses.
    ///
    /// # Errors
    /// This machine has no trusted certificates, or names an unusable proxy.
    pub fn transport(
        &self,
        shared: &SharedModels,
        url: Uri,
        route: RecordedRoute,
        key: Option<ApiKey>,
    ) -> Result<Box<dyn Transport>, String> {
        Ok(match self {
            Self::Live => Box::new(shared.connections.to(url)?),
            Self::Recorded(recorder, session) => {
                let server = Box::new(shared.connections.to(url)?);
                Box::new(Arc::clone(recorder).session(session.clone(), server, route, key))
            }
            Self::Cassette(replay) => Box::new(replay.clone().of(route, key)),
        })
    }
}

impl Tape {
    /// Returns the source of responses for one session of the cassette, since an agent may use several models.
    ///
    /// # Errors
    /// The replayed cassette has no such session.
    pub fn source(&self, session: &str) -> Result<AnswerSource, String> {
        Ok(match self {
            Self::None => AnswerSource::Live,
            Self::Recorder(recorder) => AnswerSource::Recorded(Arc::clone(recorder), session.to_owned()),
            Self::Cassette(cassette, mode) => AnswerSource::Cassette(cassette.session(session, *mode, None)?),
        })
    }

    /// Returns the source of responses to requests for prompt lengths. Returns `None` if the cassette has none. Prompt lengths do not
    /// affect the trial, so these requests may differ from the recorded ones.
    ///
    /// # Errors
    /// The replayed cassette has no such session.
    pub fn lengths(&self) -> Result<Option<AnswerSource>, String> {
        match self {
            Self::Cassette(cassette, _) if !cassette.sessions().any(|session| session == LENGTHS) => Ok(None),
            Self::Cassette(cassette, _) => Ok(Some(AnswerSource::Cassette(cassette.session(LENGTHS, Mode::Lenient, None)?))),
            Self::None | Self::Recorder(_) => self.source(LENGTHS).map(Some),
        }
    }
}

/// Connection of one agent to its model.
pub struct ModelClient {
    wire: Arc<dyn ModelWire>,
    transport: Box<dyn Transport>,
    /// Rate limiter of the server. `None` if a cassette replaces the server.
    limiter: Option<Arc<Limiter>>,
    key: Option<ApiKey>,
    headers: HeaderMap,
    stream: bool,
    silence: Duration,
    retries: Retries,
    draws: ChaCha8Rng,
    price: Option<ListedPrice>,
    meter: Arc<CostMeter>,
}

impl fmt::Debug for ModelClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("wire", &self.wire).field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Failed attempt of an exchange, with the server's advice about a retry.
struct Failed {
    trouble: AttemptError,
    advice: Advice,
}

impl From<AttemptError> for Failed {
    fn from(trouble: AttemptError) -> Self {
        Self { trouble, advice: Advice::default() }
    }
}

impl From<TransportError> for Failed {
    fn from(lost: TransportError) -> Self {
        match lost {
            TransportError::Connection(message) => {
                AttemptError { again: true, ..AttemptError::new(ModelFailure::Connection, message) }.into()
            }
            TransportError::Cassette(_) | TransportError::Diverged(_) => AttemptError::new(ModelFailure::Cassette, lost.to_string()).into(),
        }
    }
}

/// Maximum size of a response in bytes. A larger response is an error.
pub const LONGEST: usize = 64 << 20;
/// Maximum time to wait for the end of the transmission after a complete response. A later end prevents reuse of the connection.
const LINGER: Duration = Duration::from_secs(2);

impl ModelClient {
    /// Creates a client for a model.
    ///
    /// # Errors
    /// The key is missing, the server address is invalid, or the trusted certificates are missing. The error is one sentence.
    pub fn new(config: ModelClientConfig, shared: &SharedModels) -> Result<Self, String> {
        let ModelClientConfig { wire, base_url, key, stream: streams, silence, retries, seed, price, source } = config;
        let live = source.is_live();
        let url = address(&base_url, wire.path())?;
        let key = match ApiKey::read(&key) {
            Ok(key) => key,
            // A cassette needs no key. The key is still read, because it must be removed from new requests as from the recorded ones.
            Err(_) if !live => None,
            Err(error) => return Err(error.to_string()),
        };
        let limiter = live.then(|| shared.limits.of(&base_url, key.as_ref()));
        let transport = source.transport(shared, url, wire.route(), key.clone())?;
        Ok(Self {
            headers: wire.headers(key.as_ref()),
            wire,
            transport,
            limiter,
            key,
            stream: streams,
            silence,
            retries,
            draws: stream(seed, "agent.model.retry"),
            price,
            meter: Arc::default(),
        })
    }

    /// Returns the meter of the client's cost so far. The meter is updated while a response arrives.
    #[must_use]
    pub fn meter(&self) -> Arc<CostMeter> {
        Arc::clone(&self.meter)
    }

    /// Requests the next message of the conversation from the model. The future may be dropped at any time.
    ///
    /// # Errors
    /// All attempts failed. A refusal or a truncated response is not an error.
    pub async fn ask(
        &mut self,
        spec: &Spec,
        history: &[ConversationEntry],
        notice: &(dyn Fn(Notice) + Send + Sync),
    ) -> Result<ModelReply, ModelError> {
        let streams = self.stream || self.wire.must_stream(spec);
        let body: Bytes = match self.wire.body(spec, history, streams) {
            Ok(body) => body.into(),
            Err(why) => return Err(self.error(AttemptError::new(ModelFailure::Request, why), 0)),
        };
        let mut begun = None;
        let mut attempt = 1;
        loop {
            // Silence counts only with a server. A silence in a cassette was given up at recording time.
            let live = self.limiter.is_some();
            let permit = self.admitted(notice).await;
            let tried = Instant::now();
            let begun = *begun.get_or_insert(tried);
            if live {
                self.meter.waits();
            }
            let Failed { mut trouble, advice } = match self.attempt(body.clone(), permit, notice).await {
                Ok(reply) => {
                    self.meter.answered();
                    return Ok(reply);
                }
                Err(failed) => failed,
            };
            let why = scrub(&trouble.message, self.key.as_ref());
            if live {
                self.meter.loses(tried.elapsed(), &why);
            }
            match next(self.retries, attempt, begun.elapsed(), &trouble, advice, self.draws.random()) {
                Next::Again(wait) => {
                    notice(Notice::Retry { attempt, status: trouble.status, why: why.clone(), wait });
                    let wait = wait.mul_f64(self.transport.pace());
                    if live {
                        self.meter.waits();
                    }
                    tokio::time::sleep(wait).await;
                    if live {
                        self.meter.loses(wait, &why);
                    }
                    attempt += 1;
                }
                Next::GiveUp(why) => {
                    if let Some(why) = why {
                        trouble.message = format!("{} ({why})", trouble.message);
                    }
                    return Err(self.error(trouble, attempt));
                }
            }
        }
    }

    fn error(&self, trouble: AttemptError, attempts: u32) -> ModelError {
        let AttemptError { kind, status, message, request, .. } = trouble;
        ModelError { kind, status, message: scrub(&message, self.key.as_ref()), request, attempts }
    }

    /// Waits until the rate limiter permits a request. Another agent may have caused the wait, so this time does not count against the
    /// agent.
    async fn admitted(&self, notice: &(dyn Fn(Notice) + Send + Sync)) -> Option<Permit> {
        let limiter = self.limiter.as_ref()?;
        let asked = Instant::now();
        let waits = Mutex::new(None);
        self.meter.waits();
        let told = |why: String, wait| {
            *waits.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
            notice(Notice::Waits { why, wait });
        };
        let permit = limiter.admit(told).await;
        if let Some(why) = waits.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.meter.loses(asked.elapsed(), &why);
        }
        Some(permit)
    }

    async fn attempt(
        &mut self,
        body: Bytes,
        permit: Option<Permit>,
        notice: &(dyn Fn(Notice) + Send + Sync),
    ) -> Result<ModelReply, Failed> {
        let mut count = Count::begin(Arc::clone(&self.meter), self.price.clone(), body.len());
        let request = Outgoing { headers: self.headers.clone(), body };
        let sent = tokio::time::timeout(self.silence, self.transport.send(request)).await;
        let sent = sent.unwrap_or_else(|_| Err(self.silent()));
        if let Err(TransportError::Diverged(diverged)) = &sent {
            notice(Notice::Diverged { divergence: *diverged.clone(), fatal: true });
        }
        let Incoming { status, headers, mut body, diverged } = sent?;
        self.heard();
        if let Some(divergence) = diverged {
            notice(Notice::Diverged { divergence, fatal: false });
        }
        let now = server_time(&headers);
        let request = self.wire.request_id(&headers);
        let advice = Advice::of(&headers, now);
        if let Some(permit) = &permit {
            permit.heard(&self.wire.allowances(&headers, now));
        }
        let answer = if (200..300).contains(&status) {
            let streamed =
                headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|kind| kind.contains("event-stream"));
            if streamed { self.streamed(&mut body, &mut count).await } else { self.whole(&mut body, &mut count).await }
        } else {
            let text = self.text(&mut body).await.unwrap_or_else(|failed| failed.trouble.message);
            Err(Failed { trouble: self.wire.trouble(status, &text), advice })
        };
        answer
            .map(|mut reply| {
                if let Some(permit) = &permit {
                    permit.succeeded();
                }
                reply.usage = count.end(reply.usage);
                reply.request = reply.request.or_else(|| request.clone());
                reply
            })
            .map_err(|mut failed| {
                if let Some(permit) = permit.filter(|_| matches!(failed.trouble.kind, ModelFailure::RateLimit | ModelFailure::Overloaded)) {
                    permit.refused(failed.advice.after);
                }
                failed.trouble = failed.trouble.with_request(request);
                failed
            })
    }

    fn silent(&self) -> TransportError {
        let silence = Duration::from_millis(u64::try_from(self.silence.as_millis()).unwrap_or(u64::MAX));
        TransportError::Connection(format!("nothing came for {}", humantime::format_duration(silence)))
    }

    async fn piece(&self, body: &mut TransportBody) -> Result<Option<Bytes>, Failed> {
        match tokio::time::timeout(self.silence, body.next()).await {
            Ok(piece) => {
                self.heard();
                Ok(piece.transpose()?)
            }
            Err(_) => Err(self.silent().into()),
        }
    }

    fn heard(&self) {
        if self.limiter.is_some() {
            self.meter.waits();
        }
    }

    async fn text(&self, body: &mut TransportBody) -> Result<String, Failed> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece(body).await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > LONGEST {
                return Err(AttemptError::unexpected_reply(format!("the response is larger than {} MiB", LONGEST >> 20)).into());
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn whole(&self, body: &mut TransportBody, count: &mut Count) -> Result<ModelReply, Failed> {
        let text = self.text(body).await?;
        let reply = self.wire.reply(&text)?;
        count.see_whole(reply.usage, text.len());
        Ok(reply)
    }

    async fn streamed(&self, body: &mut TransportBody, count: &mut Count) -> Result<ModelReply, Failed> {
        let (mut decoder, mut assembly) = (Decoder::default(), self.wire.assembly());
        while !assembly.ended() {
            let Some(piece) = self.piece(body).await? else { break };
            for event in decoder.push(&piece) {
                assembly.take(&event)?;
                count.see(assembly.tally());
            }
            if decoder.overlong() {
                return Err(AttemptError::unexpected_reply("an event of the stream is longer than any may be").into());
            }
        }
        if assembly.ended() {
            // Reading to the end allows reuse of the connection and completes the recording.
            let rest = async { while body.next().await.is_some_and(|piece| piece.is_ok()) {} };
            tokio::time::timeout(LINGER, rest).await.ok();
        }
        Ok(assembly.finish()?)
    }
}

#[async_trait]
impl ModelBackend for ModelClient {
    async fn ask(
        &mut self,
        spec: &Spec,
        history: &[ConversationEntry],
        notice: &(dyn Fn(Notice) + Send + Sync),
    ) -> Result<ModelReply, ModelError> {
        ModelClient::ask(self, spec, history, notice).await
    }

    fn meter(&self) -> &Arc<CostMeter> {
        &self.meter
    }
}

/// Returns the time of the response according to its `date` header, because the server's clock may differ from the local one. Without this
/// header, returns the local time.
pub fn server_time(headers: &HeaderMap) -> Timestamp {
    wire::text(headers, "date").and_then(|date| rfc2822::parse(date).ok()).map_or_else(Timestamp::now, |date| date.timestamp())
}

/// Returns the URL of a request from a base URL and a path. If both contain `/v1`, the URL contains `/v1` once.
pub fn address(base_url: &str, path: &str) -> Result<Uri, String> {
    let base = base_url.trim_end_matches('/');
    let base = if path.starts_with("/v1/") { base.strip_suffix("/v1").unwrap_or(base) } else { base };
    let wrong = |why: &str| format!("the base URL `{base_url}` of a model is wrong: {why}");
    // Credentials in the URL would be printed with every failed connection.
    if base.contains('@') {
        return Err("the base URL of a model has a name and a password in it: a key is given by an environment variable or a file".into());
    }
    let url: Uri = format!("{base}{path}").parse().map_err(|_| wrong("it is no URL that begins with http:// or https://"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
        return Err(wrong("it begins with http:// or https:// and a host"));
    }
    Ok(url)
}
