//! Typed requests of a rate limiter node to Redis.

use std::time::Duration;

use redis::Script;

use super::args::{LimiterSettings, QuotaRule};
use super::link::{Link, LinkError};
use super::script::{self, PREFIX};

/// Decision about one request of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaDecision {
    pub allowed: bool,
    /// Number of entries in the window of the key, including this request if it was allowed.
    pub count: u64,
    pub limit: u64,
    /// Time that a blocked request has to wait; `None` means forever.
    pub wait: Option<Duration>,
    /// Time until the oldest entry leaves the window of the key.
    pub rest: Duration,
}

/// Rate limit key with its number of requests and its rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    pub key: String,
    /// Number of requests that the nodes have allowed within the window, according to the journal.
    pub count: u64,
    /// Number of entries in the window in Redis. This number decides about further requests.
    pub held: u64,
    pub rule: QuotaRule,
}

/// Rate limiter node as listed in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredNode {
    pub id: String,
    pub address: String,
    pub registered_at: String,
    pub up: bool,
}

pub struct QuotaStore {
    link: Link,
    check: Script,
    counters: Script,
    reset: Script,
    limit: Script,
    heartbeat: Script,
    nodes: Script,
}

fn name(what: &str) -> String {
    format!("{PREFIX}:{what}")
}

fn of(what: &str, key: &str) -> String {
    format!("{PREFIX}:{what}:{key}")
}

impl QuotaStore {
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self {
            link,
            check: Script::new(script::CHECK),
            counters: Script::new(script::COUNTERS),
            reset: Script::new(script::RESET),
            limit: Script::new(script::LIMIT),
            heartbeat: Script::new(script::HEARTBEAT),
            nodes: Script::new(script::NODES),
        }
    }

    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Counts a request for `key` if it is allowed. `rule` applies if no rule was set manually for the key.
    ///
    /// # Errors
    /// Returns an error if Redis does not answer. The request may have been counted, and must not be allowed.
    pub async fn check(&self, node: &str, key: &str, rule: QuotaRule) -> Result<QuotaDecision, LinkError> {
        let mut call = self.check.key(of("window", key));
        call.key(of("journal", key)).key(of("sequence", key)).key(name("keys")).key(name("limits"));
        call.arg(key).arg(node).arg(rule.limit).arg(rule.window_ms);
        let answer: (u8, u64, u64, u64, i64, u64) = self.link.ask(async |redis| call.invoke_async(redis).await).await?;
        let (allowed, count, limit, _, wait, rest) = answer;
        Ok(QuotaDecision {
            allowed: allowed == 1,
            count,
            limit,
            wait: u64::try_from(wait).ok().map(Duration::from_millis),
            rest: Duration::from_millis(rest),
        })
    }

    /// Returns all keys in use, in order.
    ///
    /// # Errors
    /// Returns an error if Redis does not answer.
    pub async fn counters(&self) -> Result<Vec<Counter>, LinkError> {
        let mut call = self.counters.key(name("keys"));
        call.key(name("limits")).arg(PREFIX);
        let answer: Vec<(String, u64, u64, u32, u64)> = self.link.ask(async |redis| call.invoke_async(redis).await).await?;
        let counter = |(key, count, held, limit, window_ms)| Counter { key, count, held, rule: QuotaRule { limit, window_ms } };
        let mut counters: Vec<Counter> = answer.into_iter().map(counter).collect();
        counters.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(counters)
    }

    /// Resets the window of a key to the requests that the nodes have allowed. With `all`, forgets these requests as well. Returns the
    /// number of entries before and after, or `None` for an unknown key.
    ///
    /// # Errors
    /// Returns an error if Redis does not answer.
    pub async fn reset(&self, key: &str, all: bool) -> Result<Option<(u64, u64)>, LinkError> {
        let mut call = self.reset.key(of("window", key));
        call.key(of("journal", key)).key(name("keys")).arg(key).arg(if all { "all" } else { "window" });
        let answer: Vec<u64> = self.link.ask(async |redis| call.invoke_async(redis).await).await?;
        Ok(if let [before, after] = answer[..] { Some((before, after)) } else { None })
    }

    /// Returns the manually set rules, in the order of their keys.
    ///
    /// # Errors
    /// Returns an error if Redis does not answer.
    pub async fn rules(&self) -> Result<Vec<(String, QuotaRule)>, LinkError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(name("limits"));
        let answer: std::collections::BTreeMap<String, String> = self.link.ask(async |redis| command.query_async(redis).await).await?;
        let rule = |text: &str| -> Option<QuotaRule> {
            let (limit, window_ms) = text.split_once(' ')?;
            Some(QuotaRule { limit: limit.parse().ok()?, window_ms: window_ms.parse().ok()? })
        };
        Ok(answer.into_iter().filter_map(|(key, text)| Some((key, rule(&text)?))).collect())
    }

    /// Sets the rule of a key.
    ///
    /// # Errors
    /// Returns an error if Redis does not answer. The rule may have been set nevertheless.
    pub async fn set_rule(&self, key: &str, rule: QuotaRule) -> Result<(), LinkError> {
        let mut call = self.limit.key(name("keys"));
        call.key(name("limits")).arg(key).arg(rule.limit).arg(rule.window_ms);
        self.link.ask(async |redis| call.invoke_async(redis).await).await
    }

    /// Registers this node in Redis, or renews its registration.
    ///
    /// # Errors
    /// Returns an error if Redis does not answer.
    pub async fn heartbeat(&self, settings: &LimiterSettings, registered_at: &str) -> Result<(), LinkError> {
        let mut call = self.heartbeat.key(of("nodes", &settings.id));
        let ttl = u64::try_from(settings.time_to_live.as_millis()).unwrap_or(u64::MAX);
        call.key(name("members")).arg(&settings.id).arg(&settings.advertise).arg(registered_at).arg(ttl);
        self.link.ask(async |redis| call.invoke_async(redis).await).await
    }

    /// Removes the node from the list of present nodes.
    ///
    /// # Errors
    /// Returns an error if Redis does not answer.
    pub async fn leave(&self, id: &str) -> Result<(), LinkError> {
        let mut command = redis::cmd("DEL");
        command.arg(of("nodes", id));
        self.link.ask(async |redis| command.query_async(redis).await).await
    }

    /// Returns all nodes that ever registered, in order.
    ///
    /// # Errors
    /// Returns an error if Redis does not answer.
    pub async fn members(&self) -> Result<Vec<RegisteredNode>, LinkError> {
        let mut call = self.nodes.key(name("members"));
        call.arg(PREFIX);
        let answer: Vec<(String, String, String, u8)> = self.link.ask(async |redis| call.invoke_async(redis).await).await?;
        let member = |(id, address, registered_at, up)| RegisteredNode { id, address, registered_at, up: up == 1 };
        let mut members: Vec<RegisteredNode> = answer.into_iter().map(member).collect();
        members.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(members)
    }
}
