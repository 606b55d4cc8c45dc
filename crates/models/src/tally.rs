//! Counter that adds the cost of one exchange to its session's meter while the response arrives.

use std::sync::Arc;

use super::prices::ListedPrice;
use super::wire::AnswerProgress;
use super::{CostMeter, Usage};

/// Approximate average number of bytes per token of English text, for estimates.
const BYTES_PER_TOKEN: u64 = 4;

/// Counter of the cost of one exchange. If the counter is dropped early, the known cost stays in the meter.
pub struct Count {
    meter: Arc<CostMeter>,
    price: Option<ListedPrice>,
    /// Size of the request in bytes.
    asked: u64,
    counted: Usage,
    usd: f64,
    /// True if a part of the token count is an estimate.
    guessed: bool,
}

impl Count {
    pub fn begin(meter: Arc<CostMeter>, price: Option<ListedPrice>, asked: usize) -> Self {
        meter.change(|spent| spent.exchanges += 1);
        Self { meter, price, asked: asked as u64, counted: Usage::default(), usd: 0.0, guessed: false }
    }

    /// Updates the cost of a partial response. Servers report token counts at the end, so the counts are estimated from the received bytes
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

    /// Adds the cost of a response that arrived in one piece. `bytes` is the size of the response.
    pub fn see_whole(&mut self, usage: Usage, bytes: usize) {
        self.see(AnswerProgress {
            usage,
            said: if usage == Usage::default() { bytes as u64 } else { 0 },
            counted: usage != Usage::default(),
        });
    }

    /// Ends the count of a complete response. Returns the token counts of the server, or an estimate if the server reported none.
    pub fn end(&mut self, told: Usage) -> Usage {
        if told != Usage::default() {
            self.guessed = false;
            self.put(told);
        }
        self.counted
    }

    /// Returns the cost of the exchange so far in US dollars.
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
