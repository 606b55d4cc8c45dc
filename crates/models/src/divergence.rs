//! Differences between a request and the request in a replayed cassette.

use std::fmt;

use chaosrun_event::EventKind;

/// Difference between a request and the request that the cassette contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    pub cassette: String,
    /// Number of the exchange in its session, from 1.
    pub exchange: u32,
    pub difference: Difference,
    /// True if only cluster output differs, which means the first prompt or the output of commands.
    pub told: bool,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cassette, exchange, difference, .. } = self;
        write!(f, "exchange {exchange} of the cassette `{cassette}` was recorded of another request: {difference}")
    }
}

impl Divergence {
    /// Converts the difference to an event. `fatal` is true if the cassette did not answer the request.
    #[must_use]
    pub fn event(self, fatal: bool) -> EventKind {
        EventKind::CassetteDiverged {
            file: self.cassette,
            exchange: self.exchange,
            place: self.difference.place,
            recorded: self.difference.recorded,
            now: self.difference.now,
            told: self.told,
            fatal,
        }
    }
}

/// First difference between two JSON values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Path of the first different element, such as `messages[2].content[0].content`.
    pub place: String,
    pub recorded: String,
    pub now: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: recorded {}, now {}", self.place, self.recorded, self.now)
    }
}
