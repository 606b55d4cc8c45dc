//! The clock of a member: PD's periods under one scale, and a wall clock that never runs backwards.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::standin::raft;

/// PD's periods, all multiplied by one factor, so that what takes 20 s there takes 1 s at a scale of 0.05.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    scale: f64,
}

impl Timing {
    /// # Errors
    /// When the scale is below 0.001, where a tick would last less than the scheduler's own grain, or above 10.
    pub fn new(scale: f64) -> Result<Self, String> {
        if (0.001..=10.0).contains(&scale) { Ok(Self { scale }) } else { Err(format!("scale is {scale}, expected 0.001 to 10")) }
    }

    #[must_use]
    pub fn scale(self) -> f64 {
        self.scale
    }

    fn scaled(self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).mul_f64(self.scale)
    }

    /// Silence after which a store reads `Disconnected`.
    #[must_use]
    pub fn disconnected(self) -> Duration {
        self.scaled(20)
    }

    /// Silence after which a store counts as unhealthy in the metrics.
    #[must_use]
    pub fn unhealthy(self) -> Duration {
        self.scaled(600)
    }

    /// `max-store-down-time`: silence after which a store reads `Down`.
    #[must_use]
    pub fn down(self) -> Duration {
        self.scaled(1_800)
    }

    /// The clock of the members' consensus: etcd's ticks of 500 ms. It takes ten without a leader to an election, where
    /// etcd takes six: an election must not be over before the old leader's lease is.
    #[must_use]
    pub fn consensus(self) -> raft::Timing {
        raft::Timing { tick: self.scaled(1) / 2, election_ticks: 10, heartbeat_ticks: 1 }
    }

    /// How long a leader may serve after it last heard a quorum.
    #[must_use]
    pub fn lease(self) -> Duration {
        self.scaled(5)
    }

    /// How long a request waits for a leader before it is refused.
    #[must_use]
    pub fn redirect_wait(self) -> Duration {
        self.scaled(3)
    }

    /// How long a request to the consensus may take.
    #[must_use]
    pub fn request(self) -> Duration {
        self.scaled(10)
    }

    /// Interval of the heartbeats of a store.
    #[must_use]
    pub fn store_heartbeat(self) -> Duration {
        self.scaled(10)
    }

    /// Time limit of an operator's fast step.
    #[must_use]
    pub fn operator(self) -> Duration {
        self.scaled(60)
    }

    /// How long a finished operator can be asked for.
    #[must_use]
    pub fn operator_record(self) -> Duration {
        self.scaled(600)
    }
}

/// Unix nanoseconds, as PD's answers carry them.
pub type Nanos = i64;

/// Wall time anchored at the process's start: a step of the system's clock cannot make a store look silent.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    wall: Nanos,
}

impl Clock {
    #[must_use]
    pub fn start() -> Self {
        let wall = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0);
        Self { start: Instant::now(), wall }
    }

    #[must_use]
    pub fn now(&self) -> Nanos {
        self.wall + nanos(self.start.elapsed())
    }

    /// When the process began.
    #[must_use]
    pub fn began(&self) -> Nanos {
        self.wall
    }
}

/// A duration in nanoseconds, saturating.
#[must_use]
pub fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
