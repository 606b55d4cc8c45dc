//! Clock of a member: PD's periods multiplied by one factor, and a wall clock that never runs backwards.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::raft;

/// PD's periods, all multiplied by one factor: a period of 20 s is 1 s at a scale of 0.05.
#[derive(Debug, Clone, Copy)]
pub struct PdTiming {
    scale: f64,
}

impl PdTiming {
    /// Creates the periods.
    ///
    /// # Errors
    /// The scale is below 0.001, where a tick would be shorter than the scheduler's granularity, or above 10.
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

    /// Silence after which a store becomes `Disconnected`.
    #[must_use]
    pub fn disconnected(self) -> Duration {
        self.scaled(20)
    }

    /// Silence after which a store counts as unhealthy in the metrics.
    #[must_use]
    pub fn unhealthy(self) -> Duration {
        self.scaled(600)
    }

    /// `max-store-down-time`: silence after which a store becomes `Down`.
    #[must_use]
    pub fn down(self) -> Duration {
        self.scaled(1_800)
    }

    /// Timing of the members' consensus: etcd's ticks of 500 ms. Ten ticks without a leader lead to an election, instead of etcd's six, so
    /// that an election cannot end before the old leader's lease.
    #[must_use]
    pub fn consensus(self) -> raft::RaftTiming {
        raft::RaftTiming { tick: self.scaled(1) / 2, election_ticks: 10, heartbeat_ticks: 1 }
    }

    /// Time for which a leader may serve after it last heard a quorum.
    #[must_use]
    pub fn lease(self) -> Duration {
        self.scaled(5)
    }

    /// Longest wait of a request for a leader.
    #[must_use]
    pub fn redirect_wait(self) -> Duration {
        self.scaled(3)
    }

    /// Time limit of a request to the consensus.
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

    /// Time for which a finished operator can be queried.
    #[must_use]
    pub fn operator_record(self) -> Duration {
        self.scaled(600)
    }
}

/// Unix nanoseconds, as in PD's answers.
pub type Nanos = i64;

/// Wall clock anchored at the process's start, so that a step of the system's clock cannot make a store look silent.
#[derive(Debug, Clone, Copy)]
pub struct AnchoredClock {
    start: Instant,
    wall: Nanos,
}

impl AnchoredClock {
    #[must_use]
    pub fn start() -> Self {
        let wall = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0);
        Self { start: Instant::now(), wall }
    }

    #[must_use]
    pub fn now(&self) -> Nanos {
        self.wall + nanos(self.start.elapsed())
    }

    /// Start of the process.
    #[must_use]
    pub fn began(&self) -> Nanos {
        self.wall
    }
}

/// Converts a duration to nanoseconds, saturating.
#[must_use]
pub fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
