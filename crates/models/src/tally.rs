//! Counts one exchange in the meter of its session while it arrives.

use std::sync::Arc;

use super::prices::ListedPrice;
use super::wire::AnswerProgress;
use super::{CostMeter, Usage};

/// Bytes per token for estimates, the approximate average of English text.
const BYTES_PER_TOKEN: u64 = 4;

/// Exchange that is being counted. If dropped early, its known cost stays in the meter.
pub struct Count {
    meter: Arc<CostMeter>,
    price: Option<ListedPrice>,
    /// Bytes of the request.
    asked: u64,
    counted: Usage,
    usd: f64,
    /// True if a part of the count is estimated.
    guessed: bool,
}

impl Count {
    pub fn begin(meter: Arc<CostMeter>, price: Option<ListedPrice>, asked: usize) -> Self {
        meter.change(|spent| spent.exchanges += 1);
        Self { meter, price, asked: asked as u64, counted: Usage::default(), usd: 0.0, guessed: false }
    }

    /// Updates the count of a partial response. Servers report the length at the end, so it is estimated from the received bytes
    /// until then.
    pub fn see(&mut self, tally: AnswerProgress) {
        let AnswerProgress { mut usage, said, counted } = tally;
        if !counted {
            usage.output = usage.output.max(said.div_ceil(BYTES_PER_TOKEN));
            if usage.prompt() == 0 {
                usage.input = self.asked.div_ceil(BYTES_PER_TOKEN);
            }
        }
        self.guessed = !counted;
        self.put(usage);
    }

    /// Counts a response that arrived as a whole.
    pub fn see_whole(&mut self, usage: Usage, bytes: usize) {
        self.see(AnswerProgress {
            usage,
            said: if usage == Usage::default() { bytes as u64 } else { 0 },
            counted: usage != Usage::default(),
        });
    }

    /// Ends the count of a complete response. Returns the server's count, or the estimate if there is none.
    pub fn end(&mut self, told: Usage) -> Usage {
        if told != Usage::default() {
            self.guessed = false;
            self.put(told);
        }
        self.counted
    }

    /// Returns the cost so far in US dollars.
    pub const fn usd(&self) -> f64 {
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
