//! `metrics:` probes: Prometheus text scraped directly, and a small query over the scrapes of a window.

mod evaluate;
pub mod query;
mod text;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use evaluate::{Series, evaluate};
pub use query::{Query, QueryError};
pub use text::{Sample, samples};

/// The scrapes of one node that a query looks at.
#[derive(Debug, Default)]
pub struct Scrapes {
    kept: VecDeque<(Instant, Vec<Sample>)>,
}

impl Scrapes {
    /// Keeps what `query` reads of a scrape, and forgets what is older than its window.
    pub fn push(&mut self, query: &Query, at: Instant, text: &str) {
        let names = query.names();
        let wanted = |name: &str| {
            names.iter().any(|wanted| name.strip_prefix(wanted).is_some_and(|rest| matches!(rest, "" | "_bucket" | "_count" | "_sum")))
        };
        self.kept.push_back((at, samples(text, wanted)));
        // One scrape older than the window stays: the window needs a sample at its beginning.
        while self.kept.len() > 2 && self.kept.get(1).is_some_and(|(second, _)| at.duration_since(*second) > query.window()) {
            self.kept.pop_front();
        }
    }

    fn last(&self) -> &[Sample] {
        self.kept.back().map_or(&[], |(_, samples)| samples)
    }

    /// The scrapes within the window before the last one, oldest first.
    fn within(&self, window: Duration) -> impl Iterator<Item = &(Instant, Vec<Sample>)> {
        let end = self.kept.back().map(|(at, _)| *at);
        self.kept.iter().filter(move |(at, _)| end.is_some_and(|end| end.duration_since(*at) <= window + Duration::from_millis(50)))
    }
}
