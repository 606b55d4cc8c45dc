//! Counts one exchange into the meter of its session, while it comes.

use std::sync::Arc;

use super::prices::Price;
use super::wire::Tally;
use super::{Meter, Usage};

/// Bytes of a token where the server has not counted: about what text in English has.
const BYTES_PER_TOKEN: u64 = 4;

/// An exchange that is being counted. Dropped before its end, it leaves in the meter what it came to, as far as that is known.
pub(in crate::agent) struct Count {
    meter: Arc<Meter>,
    price: Option<Price>,
    /// Bytes of the request.
    asked: u64,
    counted: Usage,
    usd: f64,
    /// Whether a part of it is our own guess.
    guessed: bool,
}

impl Count {
    pub(in crate::agent) fn begin(meter: Arc<Meter>, price: Option<Price>, asked: usize) -> Self {
        meter.change(|spent| spent.exchanges += 1);
        Self { meter, price, asked: asked as u64, counted: Usage::default(), usd: 0.0, guessed: false }
    }

    /// An answer has come so far. Servers tell at its end how long it is: until then, from what has come.
    pub(in crate::agent) fn see(&mut self, tally: Tally) {
        let Tally { mut usage, said, counted } = tally;
        if !counted {
            usage.output = usage.output.max(said.div_ceil(BYTES_PER_TOKEN));
            if usage.prompt() == 0 {
                usage.input = self.asked.div_ceil(BYTES_PER_TOKEN);
            }
        }
        self.guessed = !counted;
        self.put(usage);
    }

    /// An answer has come as a whole.
    pub(in crate::agent) fn see_whole(&mut self, usage: Usage, bytes: usize) {
        self.see(Tally { usage, said: if usage == Usage::default() { bytes as u64 } else { 0 }, counted: usage != Usage::default() });
    }

    /// The whole answer was understood. What counts is what the server says, or our guess if it says nothing.
    pub(in crate::agent) fn end(&mut self, told: Usage) -> Usage {
        if told != Usage::default() {
            self.guessed = false;
            self.put(told);
        }
        self.counted
    }

    /// What it has cost so far, in US dollars.
    pub(in crate::agent) const fn usd(&self) -> f64 {
        self.usd
    }

    fn put(&mut self, usage: Usage) {
        let usd = self.price.as_ref().map_or(0.0, |price| price.cost(&usage));
        let (before, before_usd) = (self.counted, self.usd);
        self.meter.change(|spent| {
            spent.usage -= before;
            spent.usage += usage;
            spent.usd += usd - before_usd;
        });
        (self.counted, self.usd) = (usage, usd);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        if self.guessed {
            self.meter.change(|spent| spent.guessed += 1);
        }
    }
}
