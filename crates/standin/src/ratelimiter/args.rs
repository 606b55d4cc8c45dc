//! Flags of a rate limiter node.

use std::time::Duration;

use anyhow::ensure;

/// Flags of `chaosrun node ratelimiter`. If a flag is repeated, the last value counts.
#[derive(Debug, Clone, clap::Args)]
#[command(args_override_self = true)]
pub struct Args {
    /// Name of this node in the registry.
    #[arg(long)]
    pub id: String,
    /// Listen address, `host:port`.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Address for clients [default: `--listen`].
    #[arg(long)]
    pub advertise: Option<String>,
    /// Address of Redis, `host:port`.
    #[arg(long, default_value = "127.0.0.1:6379")]
    pub redis: String,
    /// Default number of requests allowed per key and window.
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
    /// Length of a window, for example `60s` or `500ms`.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub window: Duration,
    /// Timeout of requests to Redis.
    #[arg(long, default_value = "250ms", value_parser = parse_duration)]
    pub redis_timeout: Duration,
    /// Factor for the periods of the node: heartbeat 10 s, registry time to live 30 s, Redis check 1 s.
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).map_err(|error| format!("`{text}` is not a duration like `60s`: {error}"))?;
    if parsed < Duration::from_millis(1) { Err(format!("`{text}` is shorter than a millisecond")) } else { Ok(parsed) }
}

/// Rate limit of a key: number of allowed requests and length of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaRule {
    pub limit: u32,
    pub window_ms: u64,
}

/// Settings of a rate limiter node, computed from its flags.
#[derive(Debug, Clone)]
pub struct LimiterSettings {
    pub id: String,
    pub listen: String,
    pub advertise: String,
    pub redis: String,
    pub default: QuotaRule,
    pub redis_timeout: Duration,
    pub heartbeat: Duration,
    pub time_to_live: Duration,
    /// Interval between two checks that Redis answers.
    pub look: Duration,
}

/// Shortest interval between two checks of Redis. Even at a small scale, Redis has time for other requests.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

impl LimiterSettings {
    /// Creates the settings from the flags.
    ///
    /// # Errors
    /// Returns an error with a readable message if a flag is invalid.
    pub fn new(args: Args) -> anyhow::Result<Self> {
        ensure!(args.scale > 0.0 && args.scale <= 10.0, "scale {} is not above 0 and at most 10", args.scale);
        ensure!(!args.id.is_empty() && !args.id.contains(char::is_whitespace), "`{}` cannot name a node", args.id);
        let scaled = |seconds: f64| Duration::from_secs_f64(seconds * args.scale);
        Ok(Self {
            advertise: args.advertise.unwrap_or_else(|| args.listen.clone()),
            id: args.id,
            listen: args.listen,
            redis: args.redis,
            default: QuotaRule { limit: args.limit, window_ms: u64::try_from(args.window.as_millis()).unwrap_or(u64::MAX) },
            redis_timeout: args.redis_timeout,
            heartbeat: scaled(10.0),
            time_to_live: scaled(30.0),
            look: scaled(1.0).max(SHORTEST_LOOK),
        })
    }
}
