//! The limiter's questions to Redis, with their answers typed.

use std::time::Duration;

use redis::Script;

use super::args::{Rule, Settings};
use super::link::{Link, LinkError};
use super::script::{self, PREFIX};

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// Entries of the window, this request's own included when it was allowed.
    pub count: u64,
    pub limit: u64,
    /// How long a blocked one has to wait; none = for ever.
    pub wait: Option<Duration>,
    /// Until the oldest entry leaves.
    pub rest: Duration,
}

/// A key and its count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    pub key: String,
    /// What the nodes have allowed within the window.
    pub count: u64,
    /// What Redis holds in the window: decides.
    pub held: u64,
    pub rule: Rule,
}

/// A node of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    pub address: String,
    pub registered_at: String,
    pub up: bool,
}

pub struct Books {
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

impl Books {
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

    /// Counts a request of `key`, if it may be allowed; `rule` holds where none was set by hand.
    ///
    /// # Errors
    /// No answer: the request may have been counted, and must not be allowed.
    pub async fn check(&self, node: &str, key: &str, rule: Rule) -> Result<Decision, LinkError> {
        let mut call = self.check.key(of("window", key));
        call.key(of("journal", key)).key(of("sequence", key)).key(name("keys")).key(name("limits"));
        call.arg(key).arg(node).arg(rule.limit).arg(rule.window_ms);
        let answer: (u8, u64, u64, u64, i64, u64) = self.link.ask(async |redis| call.invoke_async(redis).await).await?;
        let (allowed, count, limit, _, wait, rest) = answer;
        Ok(Decision {
            allowed: allowed == 1,
            count,
            limit,
            wait: u64::try_from(wait).ok().map(Duration::from_millis),
            rest: Duration::from_millis(rest),
        })
    }

    /// Every key in use, in order.
    ///
    /// # Errors
    /// No answer.
    pub async fn counters(&self) -> Result<Vec<Counter>, LinkError> {
        let mut call = self.counters.key(name("keys"));
        call.key(name("limits")).arg(PREFIX);
        let answer: Vec<(String, u64, u64, u32, u64)> = self.link.ask(async |redis| call.invoke_async(redis).await).await?;
        let counter = |(key, count, held, limit, window_ms)| Counter { key, count, held, rule: Rule { limit, window_ms } };
        let mut counters: Vec<Counter> = answer.into_iter().map(counter).collect();
        counters.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(counters)
    }

    /// Brings the window of a key back to what the nodes have allowed; with `all` that is forgotten as well. Gives the entries before
    /// and after, or none for an unknown key.
    ///
    /// # Errors
    /// No answer.
    pub async fn reset(&self, key: &str, all: bool) -> Result<Option<(u64, u64)>, LinkError> {
        let mut call = self.reset.key(of("window", key));
        call.key(of("journal", key)).key(name("keys")).arg(key).arg(if all { "all" } else { "window" });
        let answer: Vec<u64> = self.link.ask(async |redis| call.invoke_async(redis).await).await?;
        Ok(if let [before, after] = answer[..] { Some((before, after)) } else { None })
    }

    /// Rules set by hand, in order of their keys.
    ///
    /// # Errors
    /// No answer.
    pub async fn rules(&self) -> Result<Vec<(String, Rule)>, LinkError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(name("limits"));
        let answer: std::collections::BTreeMap<String, String> = self.link.ask(async |redis| command.query_async(redis).await).await?;
        let rule = |text: &str| -> Option<Rule> {
            let (limit, window_ms) = text.split_once(' ')?;
            Some(Rule { limit: limit.parse().ok()?, window_ms: window_ms.parse().ok()? })
        };
        Ok(answer.into_iter().filter_map(|(key, text)| Some((key, rule(&text)?))).collect())
    }

    /// # Errors
    /// No answer: the rule may have been set.
    pub async fn set_rule(&self, key: &str, rule: Rule) -> Result<(), LinkError> {
        let mut call = self.limit.key(name("keys"));
        call.key(name("limits")).arg(key).arg(rule.limit).arg(rule.window_ms);
        self.link.ask(async |redis| call.invoke_async(redis).await).await
    }

    /// # Errors
    /// No answer.
    pub async fn heartbeat(&self, settings: &Settings, registered_at: &str) -> Result<(), LinkError> {
        let mut call = self.heartbeat.key(of("nodes", &settings.id));
        let ttl = u64::try_from(settings.time_to_live.as_millis()).unwrap_or(u64::MAX);
        call.key(name("members")).arg(&settings.id).arg(&settings.advertise).arg(registered_at).arg(ttl);
        self.link.ask(async |redis| call.invoke_async(redis).await).await
    }

    /// Says that the node is no longer there.
    ///
    /// # Errors
    /// No answer.
    pub async fn leave(&self, id: &str) -> Result<(), LinkError> {
        let mut command = redis::cmd("DEL");
        command.arg(of("nodes", id));
        self.link.ask(async |redis| command.query_async(redis).await).await
    }

    /// Every node that ever registered, in order.
    ///
    /// # Errors
    /// No answer.
    pub async fn members(&self) -> Result<Vec<Member>, LinkError> {
        let mut call = self.nodes.key(name("members"));
        call.arg(PREFIX);
        let answer: Vec<(String, String, String, u8)> = self.link.ask(async |redis| call.invoke_async(redis).await).await?;
        let member = |(id, address, registered_at, up)| Member { id, address, registered_at, up: up == 1 };
        let mut members: Vec<Member> = answer.into_iter().map(member).collect();
        members.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(members)
    }
}
