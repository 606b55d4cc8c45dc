//! Flags of a node.

use std::time::Duration;

use anyhow::ensure;

/// Flags of `chaosrun node ratelimiter`. A flag given twice counts as it was given last.
#[derive(Debug, Clone, clap::Args)]
#[command(args_override_self = true)]
pub struct Args {
    /// Name of this node in the registry.
    #[arg(long)]
    pub id: String,
    /// Where to listen, `host:port`.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Where clients find this node [default: `--listen`].
    #[arg(long)]
    pub advertise: Option<String>,
    /// `host:port` of Redis.
    #[arg(long, default_value = "127.0.0.1:6379")]
    pub redis: String,
    /// Requests of a key that are allowed within a window, where no rule of its own says otherwise.
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
    /// Length of a window, like `60s` or `500ms`.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub window: Duration,
    /// How long Redis may take for an answer.
    #[arg(long, default_value = "250ms", value_parser = parse_duration)]
    pub redis_timeout: Duration,
    /// Factor on the node's periods: heartbeat 10 s, time to live in the registry 30 s, look at Redis 1 s.
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).map_err(|error| format!("`{text}` is not a duration like `60s`: {error}"))?;
    if parsed < Duration::from_millis(1) { Err(format!("`{text}` is shorter than a millisecond")) } else { Ok(parsed) }
}

/// What may be allowed of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub limit: u32,
    pub window_ms: u64,
}

/// What the flags come to.
#[derive(Debug, Clone)]
pub struct Settings {
    pub id: String,
    pub listen: String,
    pub advertise: String,
    pub redis: String,
    pub default: Rule,
    pub redis_timeout: Duration,
    pub heartbeat: Duration,
    pub time_to_live: Duration,
    /// Between two looks at whether Redis is there.
    pub look: Duration,
}

/// Scaled down, looking at Redis still leaves it time for its work.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

impl Settings {
    /// # Errors
    /// When a flag is invalid; the message is for a person.
    pub fn new(args: Args) -> anyhow::Result<Self> {
        ensure!(args.scale > 0.0 && args.scale <= 10.0, "scale {} is not above 0 and at most 10", args.scale);
        ensure!(!args.id.is_empty() && !args.id.contains(char::is_whitespace), "`{}` cannot name a node", args.id);
        let scaled = |seconds: f64| Duration::from_secs_f64(seconds * args.scale);
        Ok(Self {
            advertise: args.advertise.unwrap_or_else(|| args.listen.clone()),
            id: args.id,
            listen: args.listen,
            redis: args.redis,
            default: Rule { limit: args.limit, window_ms: u64::try_from(args.window.as_millis()).unwrap_or(u64::MAX) },
            redis_timeout: args.redis_timeout,
            heartbeat: scaled(10.0),
            time_to_live: scaled(30.0),
            look: scaled(1.0).max(SHORTEST_LOOK),
        })
    }
}
