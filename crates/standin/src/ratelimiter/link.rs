//! Connection to Redis with the last known state of Redis. A task maintains the connection and reconnects.
//!
//! Requests never wait for a connection. Without a connection, every request to Redis fails at once and the node refuses its clients.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use tokio::sync::{Notify, watch};

use super::args::LimiterSettings;
use crate::log::NodeLog;

/// Reason why a request to Redis failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    #[error("redis is unreachable: {0}")]
    Unreachable(String),
    /// Redis answered with an error.
    #[error("redis refused: {0}")]
    Refused(String),
}

/// State of Redis as this node knows it.
#[derive(Clone)]
pub struct RedisView {
    /// Current connection to Redis; `None` if Redis is unreachable.
    connection: Option<MultiplexedConnection>,
    pub since: Instant,
    /// Reason why Redis is unreachable; `None` if Redis is reachable.
    pub problem: Option<String>,
}

impl RedisView {
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
    view: watch::Sender<RedisView>,
    /// Notified when a failed request suggests that Redis is unreachable.
    doubt: Notify,
}

impl Link {
    /// Creates the link without a connection.
    ///
    /// # Errors
    /// Returns an error if the address of Redis is invalid.
    pub fn new(settings: &LimiterSettings) -> anyhow::Result<Self> {
        let client = Client::open(format!("redis://{}/", settings.redis))?;
        let timeout = settings.redis_timeout;
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(timeout)).set_response_timeout(Some(timeout));
        let first = RedisView { connection: None, since: Instant::now(), problem: Some("not connected yet".into()) };
        Ok(Self { client, config, address: settings.redis.clone(), timeout, view: watch::channel(first).0, doubt: Notify::new() })
    }

    #[must_use]
    pub fn view(&self) -> RedisView {
        self.view.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<RedisView> {
        self.view.subscribe()
    }

    /// Sends a request to Redis on the current connection.
    ///
    /// # Errors
    /// Returns an error if the connection is missing or breaks, the answer is late, or Redis refuses. Unless the connection was missing,
    /// Redis may have executed the request.
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

    /// Maintains the connection to Redis. Checks the connection at intervals of `look` and after each failed request. Never returns.
    pub async fn keep(&self, look: Duration, log: &NodeLog) {
        loop {
            let connection = self.view.borrow().connection.clone();
            match self.look(connection).await {
                Ok(connection) => {
                    if !self.view.borrow().is_reachable() {
                        log.info("redis is reachable", &[("redis", &self.address)]);
                        self.view.send_replace(RedisView { connection: Some(connection), since: Instant::now(), problem: None });
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
            // A timeout of this wait is the normal case.
            let _ = tokio::time::timeout(look, self.doubt.notified()).await;
        }
    }

    /// Checks the given connection to Redis, or opens a new connection for `None`. Returns the working connection.
    async fn look(&self, connection: Option<MultiplexedConnection>) -> Result<MultiplexedConnection, String> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => {
                let connect = self.client.get_multiplexed_async_connection_with_config(&self.config);
                let connected = tokio::time::timeout(self.timeout, connect).await;
                connected.map_err(|_| self.silence())?.map_err(|error| self.words(&error))?
            }
        };
        // A Redis server that is still loading data accepts connections but cannot serve.
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

/// Returns the error message of Redis or of the connection.
fn words_of(error: &RedisError) -> String {
    if error.is_connection_refusal() {
        return "connection refused".into();
    }
    error.to_string()
}
