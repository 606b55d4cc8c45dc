//! Asks a model: sends what a wire wrote, again where that may help, and counts what it costs while it comes.

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

use super::cassette::{Recorder, Replay};
use super::key::{Key, KeySource, scrub};
use super::limiter::{Limiter, Limits, Permit};
use super::prices::Price;
use super::retry::{Advice, Next, Retries, next};
use super::sse::Decoder;
use super::tally::Count;
use super::transport::{Body, Connections, Incoming, Lost, Outgoing, Transport};
use super::wire::{self, Route, Trouble, Wire};
use super::{Entry, Failure, Meter, Model, ModelError, Notice, Reply, Spec};
use crate::plan::seed::stream;

/// What the agents of a process share: connections, and the limits of keys.
#[derive(Debug)]
pub struct Shared {
    connections: Connections,
    limits: Limits,
}

impl Default for Shared {
    fn default() -> Self {
        Self::new(Duration::from_secs(10))
    }
}

impl Shared {
    /// `connect` bounds the making of a connection.
    #[must_use]
    pub fn new(connect: Duration) -> Self {
        Self { connections: Connections::new(connect), limits: Limits::default() }
    }

    /// The limiter of whoever asks that server with that key.
    pub(in crate::agent) fn limiter(&self, base_url: &str, key: Option<&Key>) -> Arc<Limiter> {
        self.limits.of(base_url, key)
    }
}

/// Whom one agent asks, and how.
pub struct Config {
    pub wire: Arc<dyn Wire>,
    /// Without the path of the wire: `https://api.anthropic.com`, `http://127.0.0.1:11434/v1`.
    pub base_url: String,
    pub key: KeySource,
    /// Whether answers are streamed even if they need not.
    pub stream: bool,
    /// The longest silence within an exchange.
    pub silence: Duration,
    pub retries: Retries,
    /// Of the trial: for the waits between tries.
    pub seed: u64,
    /// None if nobody knows it: then dollars are not counted.
    pub price: Option<Price>,
    pub source: Source,
}

/// The longest silence that the official clients bear.
pub const SILENCE: Duration = Duration::from_secs(600);

/// Where answers come from.
pub enum Source {
    Live,
    /// From the server; all is written down under that name.
    Recorded(Arc<Recorder>, String),
    Cassette(Replay),
}

impl Source {
    /// Whether a server is asked.
    pub(in crate::agent) const fn is_live(&self) -> bool {
        !matches!(self, Self::Cassette(_))
    }

    /// What carries requests to `url`.
    ///
    /// # Errors
    /// When this machine has no certificates to trust.
    pub(in crate::agent) fn transport(
        &self,
        shared: &Shared,
        url: Uri,
        route: Route,
        key: Option<Key>,
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

/// One agent's way to its model.
pub struct Client {
    wire: Arc<dyn Wire>,
    transport: Box<dyn Transport>,
    /// None where nobody is asked.
    limiter: Option<Arc<Limiter>>,
    key: Option<Key>,
    headers: HeaderMap,
    stream: bool,
    silence: Duration,
    retries: Retries,
    draws: ChaCha8Rng,
    price: Option<Price>,
    meter: Arc<Meter>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("wire", &self.wire).field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// A failed try.
struct Failed {
    trouble: Trouble,
    advice: Advice,
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self { trouble, advice: Advice::default() }
    }
}

impl From<Lost> for Failed {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Connection(message) => Trouble { again: true, ..Trouble::new(Failure::Connection, message) }.into(),
            Lost::Cassette(_) | Lost::Diverged(_) => Trouble::new(Failure::Cassette, lost.to_string()).into(),
        }
    }
}

/// Bytes of a whole answer; more is none.
pub(in crate::agent) const LONGEST: usize = 64 << 20;
/// How long the end of a connection may come after the end of an answer. Later than this it is not used again.
const LINGER: Duration = Duration::from_secs(2);

impl Client {
    /// # Errors
    /// In one sentence: no key, no address, no certificates.
    pub fn new(config: Config, shared: &Shared) -> Result<Self, String> {
        let Config { wire, base_url, key, stream: streams, silence, retries, seed, price, source } = config;
        let live = source.is_live();
        let url = address(&base_url, wire.path())?;
        let key = match key.read() {
            Ok(key) => key,
            // A cassette needs none. It is read all the same: what was scrubbed from the recorded requests is from ours too.
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

    /// What has been spent so far. It is kept up to date while an answer comes.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// Asks for the next message of the conversation. May be dropped at any time.
    ///
    /// # Errors
    /// When no try came to an answer. A model that refuses or is cut off has answered.
    pub async fn ask(&mut self, spec: &Spec, history: &[Entry], notice: &(dyn Fn(Notice) + Send + Sync)) -> Result<Reply, ModelError> {
        let streams = self.stream || self.wire.must_stream(spec);
        let body: Bytes = match self.wire.body(spec, history, streams) {
            Ok(body) => body.into(),
            Err(why) => return Err(self.error(Trouble::new(Failure::Request, why), 0)),
        };
        let mut begun = None;
        let mut attempt = 1;
        loop {
            // A cassette keeps nobody waiting: what it holds of a silence is one that was given up.
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

    fn error(&self, trouble: Trouble, attempts: u32) -> ModelError {
        let Trouble { kind, status, message, request, .. } = trouble;
        ModelError { kind, status, message: scrub(&message, self.key.as_ref()), request, attempts }
    }

    /// Leave to ask. What it waits for, another may have brought about: it is lost, and not by the agent.
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

    async fn attempt(&mut self, body: Bytes, permit: Option<Permit>, notice: &(dyn Fn(Notice) + Send + Sync)) -> Result<Reply, Failed> {
        let mut count = Count::begin(Arc::clone(&self.meter), self.price.clone(), body.len());
        let request = Outgoing { headers: self.headers.clone(), body };
        let sent = tokio::time::timeout(self.silence, self.transport.send(request)).await;
        let sent = sent.unwrap_or_else(|_| Err(self.silent()));
        if let Err(Lost::Diverged(diverged)) = &sent {
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
                if let Some(permit) = permit.filter(|_| matches!(failed.trouble.kind, Failure::RateLimit | Failure::Overloaded)) {
                    permit.refused(failed.advice.after);
                }
                failed.trouble = failed.trouble.with_request(request);
                failed
            })
    }

    fn silent(&self) -> Lost {
        let silence = Duration::from_millis(u64::try_from(self.silence.as_millis()).unwrap_or(u64::MAX));
        Lost::Connection(format!("nothing came for {}", humantime::format_duration(silence)))
    }

    async fn piece(&self, body: &mut Body) -> Result<Option<Bytes>, Failed> {
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

    async fn text(&self, body: &mut Body) -> Result<String, Failed> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece(body).await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > LONGEST {
                return Err(Trouble::senseless(format!("the answer is longer than {} MiB", LONGEST >> 20)).into());
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn whole(&self, body: &mut Body, count: &mut Count) -> Result<Reply, Failed> {
        let text = self.text(body).await?;
        let reply = self.wire.reply(&text)?;
        count.see_whole(reply.usage, text.len());
        Ok(reply)
    }

    async fn streamed(&self, body: &mut Body, count: &mut Count) -> Result<Reply, Failed> {
        let (mut decoder, mut assembly) = (Decoder::default(), self.wire.assembly());
        while !assembly.ended() {
            let Some(piece) = self.piece(body).await? else { break };
            for event in decoder.push(&piece) {
                assembly.take(&event)?;
                count.see(assembly.tally());
            }
            if decoder.overlong() {
                return Err(Trouble::senseless("an event of the stream is longer than any may be").into());
            }
        }
        if assembly.ended() {
            // Its end lets the connection be used again, and makes the record whole.
            let rest = async { while body.next().await.is_some_and(|piece| piece.is_ok()) {} };
            tokio::time::timeout(LINGER, rest).await.ok();
        }
        Ok(assembly.finish()?)
    }
}

#[async_trait]
impl Model for Client {
    async fn ask(&mut self, spec: &Spec, history: &[Entry], notice: &(dyn Fn(Notice) + Send + Sync)) -> Result<Reply, ModelError> {
        Client::ask(self, spec, history, notice).await
    }

    fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

/// As the server has it, so that its clock may differ from ours.
pub(in crate::agent) fn server_time(headers: &HeaderMap) -> Timestamp {
    wire::text(headers, "date").and_then(|date| rfc2822::parse(date).ok()).map_or_else(Timestamp::now, |date| date.timestamp())
}

/// The address of requests. A `/v1` that both the base and the path have is meant once.
pub(in crate::agent) fn address(base_url: &str, path: &str) -> Result<Uri, String> {
    let base = base_url.trim_end_matches('/');
    let base = if path.starts_with("/v1/") { base.strip_suffix("/v1").unwrap_or(base) } else { base };
    let wrong = |why: &str| format!("the base URL `{base_url}` of a model is wrong: {why}");
    // It would be printed with every failed connection.
    if base.contains('@') {
        return Err("the base URL of a model has a name and a password in it: a key is given by an environment variable or a file".into());
    }
    let url: Uri = format!("{base}{path}").parse().map_err(|_| wrong("it is no URL that begins with http:// or https://"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
        return Err(wrong("it begins with http:// or https:// and a host"));
    }
    Ok(url)
}
