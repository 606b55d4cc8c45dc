//! What the requests of one program that are under way at once may spend together.
//!
//! A request alone is let through as long as its program has not spent more than it may: what an answer costs is known at its end, and so
//! one may go beyond what was left. Several at once must not do so one by one. So each has set aside the most that it may cost until its
//! end, and another is let through beside it only if it would fit all the same. Otherwise it waits until one of them has ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::agent::model::prices::Price;
use crate::agent::model::{Meter, Spent, Usage};
use crate::agent::run::paid;
use crate::scenario::model::Limits;

/// Bytes of a token: about what text in English has.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens of the longest answer that current models give, where a request names no limit.
const LONGEST_ANSWER: u64 = 128_000;

pub(super) struct Budget {
    limits: Limits,
    meter: Arc<Meter>,
    aside: Mutex<Aside>,
    /// Something was given back.
    changed: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct Aside {
    requests: u32,
    tokens: u64,
    usd: f64,
}

/// The most that a request may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Most {
    tokens: u64,
    /// None without a price: then dollars are not counted.
    usd: f64,
}

impl Most {
    /// Of a request of so many bytes, and an answer of at most so many tokens.
    pub fn of(bytes: usize, answer: Option<u64>, price: Option<&Price>) -> Self {
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

/// What a request that is under way has set aside. Dropped, it is given back.
pub(super) struct Reserved {
    budget: Arc<Budget>,
    most: Most,
}

impl Budget {
    pub fn new(limits: Limits, meter: Arc<Meter>) -> Arc<Self> {
        Arc::new(Self { limits, meter, aside: Mutex::default(), changed: Notify::new() })
    }

    /// Lets a request through, now or later; `waits` is told once when it is later.
    ///
    /// # Errors
    /// The limit that is over.
    pub async fn reserve(self: &Arc<Self>, most: Most, waits: impl FnOnce()) -> Result<Reserved, String> {
        let mut waits = Some(waits);
        loop {
            // Before looking: what is given back after the look must not be missed.
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

    /// What has come of answers under way is counted twice, as spent and as set aside: rather too late than too much.
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
        // Sums of what is no whole number do not end at nothing by themselves.
        aside.usd = if aside.requests == 0 { 0.0 } else { aside.usd - self.most.usd };
        drop(aside);
        self.budget.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn budget(tokens: Option<u64>, usd: Option<f64>) -> Arc<Budget> {
        let second = std::time::Duration::from_secs(1);
        Budget::new(Limits { wall: second, turns: 1, tokens, usd, command: second, output: 1 }, Arc::default())
    }

    #[tokio::test]
    async fn what_does_not_fit_beside_others_waits_until_they_have_ended() {
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
        assert_eq!(fourth.await.err().as_deref(), Some("the limit of 1000 tokens is over"));
        let left = *all.aside();
        assert_eq!((told.get(), left.requests, left.tokens), (2, 0, 0));
    }

    #[test]
    fn the_most_that_a_request_may_cost_is_told_by_its_dearest_way() {
        let price = Price {
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
