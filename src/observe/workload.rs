//! `on: workload` probes: how the running workload is served, over a window.

use std::time::{Duration, Instant};

use super::answer::{Answer, Body};
use crate::expr::of_serde;
use crate::workload::StatsReader;

pub(super) fn ask(stats: Option<&StatsReader>, window: Duration) -> Answer {
    let began = Instant::now();
    match stats {
        None => Answer::failed("no workload runs", began),
        Some(stats) => {
            let json = serde_json::to_value(stats.window(window)).unwrap_or_default();
            let answer = Answer::of(true, Body::Json(of_serde(&json), json.to_string().into()), began);
            // Of a workload that has ended nothing new is known.
            let at = began.checked_sub(stats.age()).unwrap_or(began);
            Answer { at, ..answer }
        }
    }
}
