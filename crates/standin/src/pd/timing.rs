//! Clock of a PD member: PD's periods multiplied by one factor, and a wall clock that never runs backwards.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::raft;

/// PD's periods, all multiplied by one factor: a period of 20 s is 1 s at a scale of 0.05.
#[derive(Debug, Clone, Copy)]
pub struct PdTiming {
    scale: f64,
}

impl PdTiming {
    /// Creates the periods of PD, multiplied by `scale`.
    ///
    /// # Errors
    /// Returns an error if `scale` is below 0.001 or above 10. Below 0.001, a tick would be shorter than the granularity of the OS
    /// scheduler.
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

    /// Returns the time without a heartbeat after which a store becomes `Disconnected`.
    #[must_use]
    pub fn disconnected(self) -> Duration {
        self.scaled(20)
    }

    /// Returns the time without a heartbeat after which the metrics count a store as unhealthy.
    #[must_use]
    pub fn unhealthy(self) -> Duration {
        self.scaled(600)
    }

    /// Returns the time without a heartbeat after which a store becomes `Down` (`max-store-down-time`).
    #[must_use]
    pub fn down(self) -> Duration {
        self.scaled(1_800)
    }

    /// Returns the Raft timing of the members: etcd's ticks of 500 ms. An election starts after ten ticks without a leader instead of
    /// etcd's six, so that no election can end before the old leader's lease.
    #[must_use]
    pub fn consensus(self) -> raft::RaftTiming {
        raft::RaftTiming { tick: self.scaled(1) / 2, election_ticks: 10, heartbeat_ticks: 1 }
    }

    /// Returns the time for which a leader may serve after a quorum last confirmed the leadership.
    #[must_use]
    pub fn lease(self) -> Duration {
        self.scaled(5)
    }

    /// Returns the longest time that a request waits for a leader.
    #[must_use]
    pub fn redirect_wait(self) -> Duration {
        self.scaled(3)
    }

    /// Returns the time limit of a request to the Raft group.
    #[must_use]
    pub fn request(self) -> Duration {
        self.scaled(10)
    }

    /// Returns the interval between two heartbeats of a store.
    #[must_use]
    pub fn store_heartbeat(self) -> Duration {
        self.scaled(10)
    }

    /// Returns the time limit of an operator such as a leader transfer, which PD treats as a fast step.
    #[must_use]
    pub fn operator(self) -> Duration {
        self.scaled(60)
    }

    /// Returns the time for which a finished operator can be queried.
    #[must_use]
    pub fn operator_record(self) -> Duration {
        self.scaled(600)
    }
}

/// Time in nanoseconds since 1970, as in PD's answers.
pub type Nanos = i64;

/// Wall clock that starts at the system time of the process start. A later step of the system clock therefore cannot make a store appear
/// silent.
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

    /// Returns the start time of the process.
    #[must_use]
    pub fn began(&self) -> Nanos {
        self.wall
    }
}

/// Converts a duration to nanoseconds. Too large values become the largest `i64`.
#[must_use]
pub fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
