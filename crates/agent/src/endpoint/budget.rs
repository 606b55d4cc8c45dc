//! Budget for the concurrent requests of one program.
//!
//! A single request is admitted as long as its program has not exceeded its limit. The cost of an answer is known only at its
//! end, so one request may exceed the remaining budget. Several concurrent requests must not each do so. Each request therefore
//! reserves the highest possible cost until its end. A further request is admitted only if its reservation fits into the budget
//! as well. Otherwise it waits until a running request has ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::cost::paid;
use chaosrun_models::prices::ListedPrice;
use chaosrun_models::{CostMeter, Spent, Usage};
use chaosrun_scenario::model::Limits;

/// Approximate average number of bytes per token of English text.
const BYTES_PER_TOKEN: u64 = 4;
/// Length of the longest answer of current models in tokens. Used for a request that sets no limit.
const LONGEST_ANSWER: u64 = 128_000;

pub(super) struct RequestBudget {
    limits: Limits,
    meter: Arc<CostMeter>,
    aside: Mutex<Aside>,
    /// Notifies waiting requests when a reservation is released.
    changed: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct Aside {
    requests: u32,
    tokens: u64,
    usd: f64,
}

/// Highest possible cost of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Most {
    tokens: u64,
    /// Highest cost in US dollars. Zero if the model has no known price, since dollars are then not counted.
    usd: f64,
}

impl Most {
    /// Computes the highest cost of a request of `bytes` bytes and an answer of at most `answer` tokens.
    pub fn of(bytes: usize, answer: Option<u64>, price: Option<&ListedPrice>) -> Self {
        let (input, output) = ((bytes as u64).div_ceil(BYTES_PER_TOKEN), answer.unwrap_or(LONGEST_ANSWER));
        let ways = [
            Usage { input, output, ..Usage::default() },
            Usage { cache_write: input, output, ..Usage::default() },
            Usage { cache_write_long: input, output, ..Usage::default() },
        ];
        let usd = price.map_or(0.0, |price| ways.iter().map(|usage| price.cost(usage)).fold(0.0, f64::max));
        Self { tokens: input.saturating_add(output), usd }
    }
}

/// Budget reserved for a running request. The reservation is released when this value is dropped.
pub(super) struct Reserved {
    budget: Arc<RequestBudget>,
    most: Most,
}

impl RequestBudget {
    pub fn new(limits: Limits, meter: Arc<CostMeter>) -> Arc<Self> {
        Arc::new(Self { limits, meter, aside: Mutex::default(), changed: Notify::new() })
    }

    /// Reserves budget for a request and waits while the budget is reserved by others. Calls `waits` once if the request has to wait.
    ///
    /// # Errors
    /// A limit is already exceeded. The error names the limit.
    pub async fn reserve(self: &Arc<Self>, most: Most, waits: impl FnOnce()) -> Result<Reserved, String> {
        let mut waits = Some(waits);
        loop {
            // Subscribe before the check, so that a release after the check is not missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(reserved) = self.try_reserve(most)? {
                return Ok(reserved);
            }
            if let Some(waits) = waits.take() {
                waits();
            }
            changed.await;
        }
    }

    fn try_reserve(self: &Arc<Self>, most: Most) -> Result<Option<Reserved>, String> {
        let mut aside = self.aside();
        let spent = self.meter.spent();
        if let Some(limit) = paid(&self.limits, spent) {
            return Err(limit);
        }
        if aside.requests > 0 && !self.fits(spent, *aside, most) {
            return Ok(None);
        }
        *aside = Aside { requests: aside.requests + 1, tokens: aside.tokens.saturating_add(most.tokens), usd: aside.usd + most.usd };
        Ok(Some(Reserved { budget: Arc::clone(self), most }))
    }

    /// Returns true if the budget has room for another reservation. The received part of a running answer counts twice, as spent and as
    /// reserved, so the limit is enforced too early rather than too late.
    fn fits(&self, spent: Spent, aside: Aside, most: Most) -> bool {
        let tokens = spent.usage.tokens().saturating_add(aside.tokens).saturating_add(most.tokens);
        let usd = spent.usd + aside.usd + most.usd;
        self.limits.tokens.is_none_or(|limit| tokens <= limit) && self.limits.usd.is_none_or(|limit| usd <= limit)
    }

    fn aside(&self) -> MutexGuard<'_, Aside> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut aside = self.budget.aside();
        aside.requests = aside.requests.saturating_sub(1);
        aside.tokens = aside.tokens.saturating_sub(self.most.tokens);
        // Sums of fractions do not return to exactly zero.
        aside.usd = if aside.requests == 0 { 0.0 } else { aside.usd - self.most.usd };
        drop(aside);
        self.budget.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn budget(tokens: Option<u64>, usd: Option<f64>) -> Arc<RequestBudget> {
        let second = std::time::Duration::from_secs(1);
        RequestBudget::new(Limits { wall: second, turns: 1, tokens, usd, command: second, output: 1 }, Arc::default())
    }

    #[tokio::test]
    async fn reservation_waits_until_others_end() {
        let all = budget(Some(1000), None);
        let most = |tokens| Most { tokens, usd: 0.0 };
        let told = std::cell::Cell::new(0);
        let waits = || told.set(told.get() + 1);
        let large = all.reserve(most(5000), waits).await.expect("alone, it may cost what it does");
        let mut second = Box::pin(all.reserve(most(1), waits));
        assert!(second.as_mut().now_or_never().is_none() && told.get() == 1);
        drop(large);
        let second = second.await.expect("nothing was spent");
        let third = all.reserve(most(999), waits).await.expect("they fit together");
        let mut fourth = Box::pin(all.reserve(most(1), waits));
        assert!(fourth.as_mut().now_or_never().is_none());
        all.meter.change(|spent| spent.usage.output = 1001);
        drop((second, third));
        assert_eq!(fourth.await.err().as_deref(), Some("the limit of 1000 tokens was reached"));
        let left = *all.aside();
        assert_eq!((told.get(), left.requests, left.tokens), (2, 0, 0));
    }

    #[test]
    fn highest_cost_uses_the_most_expensive_price() {
        let price = ListedPrice {
            input: 2.0,
            output: 10.0,
            read: Some(0.1),
            write: Some(4.0),
            write_long: None,
            long_prompt: None,
            source: String::new(),
            date: String::new(),
        };
        let most = Most::of(4001, Some(500), Some(&price));
        assert_eq!(most.tokens, 1501);
        assert!((most.usd - (1001.0 * 4.0 + 500.0 * 10.0) / 1e6).abs() < 1e-12, "{most:?}");
        assert_eq!(Most::of(0, None, None), Most { tokens: LONGEST_ANSWER, usd: 0.0 });
    }
}
