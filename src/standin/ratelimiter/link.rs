//! The way to Redis: one connection, looked after by a task that reconnects, and whether Redis answers on it.
//!
//! Nobody waits for a connection. While there is none, every question fails at once, which is what makes the node refuse.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use tokio::sync::{Notify, watch};

use super::args::Settings;
use crate::standin::log::Log;

/// Why Redis has not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    #[error("redis is unreachable: {0}")]
    Unreachable(String),
    /// It answered, with an error.
    #[error("redis refused: {0}")]
    Refused(String),
}

/// As this node sees it.
#[derive(Clone)]
pub struct View {
    /// Of the connection; none = unreachable.
    connection: Option<MultiplexedConnection>,
    pub since: Instant,
    /// Why it is not reachable.
    pub problem: Option<String>,
}

impl View {
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.connection.is_some()
    }
}

pub struct Link {
    client: Client,
    config: AsyncConnectionConfig,
    address: String,
    timeout: Duration,
    view: watch::Sender<View>,
    /// Somebody doubts that Redis is there.
    doubt: Notify,
}

impl Link {
    /// # Errors
    /// When the address makes no sense.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let client = Client::open(format!("redis://{}/", settings.redis))?;
        let timeout = settings.redis_timeout;
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(timeout)).set_response_timeout(Some(timeout));
        let first = View { connection: None, since: Instant::now(), problem: Some("not connected yet".into()) };
        Ok(Self { client, config, address: settings.redis.clone(), timeout, view: watch::channel(first).0, doubt: Notify::new() })
    }

    #[must_use]
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// Asks something on the present connection.
    ///
    /// # Errors
    /// There is none, it broke, no answer came in time, or Redis refused. What was asked may have been done all the same, unless
    /// there was no connection.
    pub async fn ask<T>(&self, question: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>) -> Result<T, LinkError> {
        let view = self.view();
        let Some(mut connection) = view.connection else {
            return Err(LinkError::Unreachable(view.problem.unwrap_or_default()));
        };
        match question(&mut connection).await {
            Ok(answer) => Ok(answer),
            Err(error) if is_broken(&error) => {
                self.doubt.notify_one();
                Err(LinkError::Unreachable(self.words(&error)))
            }
            Err(error) => Err(LinkError::Refused(words_of(&error))),
        }
    }

    /// Connects, and looks every `look` whether Redis still answers; at once when somebody doubts it. Never ends.
    pub async fn keep(&self, look: Duration, log: &Log) {
        loop {
            let connection = self.view.borrow().connection.clone();
            match self.look(connection).await {
                Ok(connection) => {
                    if !self.view.borrow().is_reachable() {
                        log.info("redis is reachable", &[("redis", &self.address)]);
                        self.view.send_replace(View { connection: Some(connection), since: Instant::now(), problem: None });
                    }
                }
                Err(problem) => {
                    if self.view.borrow().problem.as_deref() != Some(&problem) {
                        log.error("redis is unreachable", &[("redis", &self.address), ("error", &problem)]);
                    }
                    self.view.send_modify(|view| {
                        if view.is_reachable() {
                            view.since = Instant::now();
                        }
                        (view.connection, view.problem) = (None, Some(problem));
                    });
                }
            }
            // An interval that passes without a doubt is what mostly happens.
            let _ = tokio::time::timeout(look, self.doubt.notified()).await;
        }
    }

    /// On the connection there is; when there is none, on a new one.
    async fn look(&self, connection: Option<MultiplexedConnection>) -> Result<MultiplexedConnection, String> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => {
                let connect = self.client.get_multiplexed_async_connection_with_config(&self.config);
                let connected = tokio::time::timeout(self.timeout, connect).await;
                connected.map_err(|_| self.silence())?.map_err(|error| self.words(&error))?
            }
        };
        // A server that is still loading its data answers, and cannot serve.
        redis::cmd("PING").query_async::<()>(&mut connection).await.map_err(|error| self.words(&error))?;
        Ok(connection)
    }

    fn silence(&self) -> String {
        format!("no answer in {} ms", self.timeout.as_millis())
    }

    fn words(&self, error: &RedisError) -> String {
        if error.is_timeout() { self.silence() } else { words_of(error) }
    }
}

fn is_broken(error: &RedisError) -> bool {
    error.is_timeout() || error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

/// What Redis said, or what became of the connection.
fn words_of(error: &RedisError) -> String {
    if error.is_connection_refusal() {
        return "connection refused".into();
    }
    error.to_string()
}
