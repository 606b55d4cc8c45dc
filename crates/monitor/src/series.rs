//! Recent values of numeric observations, one per second. They show an agent the history before the present state.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indexmap::IndexMap;

use chaosrun_expr as expr;
use chaosrun_expr::Value;

/// Time span for which numeric observations are stored.
const KEPT: Duration = Duration::from_secs(60);
const APART: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default)]
pub struct ObservedSeries(IndexMap<Of, VecDeque<(Instant, f64)>>);

/// Key of a series: the name of the observation, and the name of the node if the observation has one.
type Of = (String, Option<String>);

impl ObservedSeries {
    /// Adds the numeric values of the newest observations to the series.
    pub fn note(&mut self, now: Instant, observed: &Value) {
        let Ok(names) = observed.try_iter() else { return };
        for name in names {
            let (Some(key), Ok(item)) = (name.as_str().map(str::to_owned), observed.get_item(&name)) else { continue };
            if expr::is_list(&item) {
                for item in item.try_iter().into_iter().flatten() {
                    self.note_one(now, &key, &item);
                }
            } else {
                self.note_one(now, &key, &item);
            }
        }
    }

    fn note_one(&mut self, now: Instant, name: &str, item: &Value) {
        if !expr::is_map(item) {
            return;
        }
        let number = item.get_attr("value").ok().and_then(|value| f64::try_from(value).ok()).filter(|number| number.is_finite());
        let Some(number) = number else { return };
        let node = item.get_attr("node").ok().and_then(|node| node.as_str().map(str::to_owned));
        let points = self.0.entry((name.to_owned(), node)).or_default();
        // Two ticks are not exactly one second apart.
        if points.back().is_some_and(|(at, _)| now.saturating_duration_since(*at) < APART * 9 / 10) {
            return;
        }
        points.push_back((now, number));
        while points.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > KEPT) {
            points.pop_front();
        }
    }

    /// Returns the series of an observation, oldest value first. Each entry is the age in seconds and the value.
    pub fn of(&self, name: &str, node: Option<&str>) -> impl Iterator<Item = (f64, f64)> {
        let found = self.0.iter().find(move |((known, of), _)| known == name && of.as_deref() == node);
        found.into_iter().flat_map(|(_, points)| points).map(|(at, number)| (at.elapsed().as_secs_f64(), *number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_per_second_is_stored_for_a_minute() {
        let observed = |value: f64| {
            let item = Value::from_pairs([("node", Value::from("n1")), ("value", Value::from(value)), ("ok", Value::from(true))]);
            Value::from_pairs([("p99", Value::from(vec![item])), ("text", Value::from("none"))])
        };
        let mut series = ObservedSeries::default();
        let began = Instant::now();
        for step in 0..200 {
            series.note(began + Duration::from_millis(500) * step, &observed(f64::from(step)));
        }
        let numbers: Vec<f64> = series.of("p99", Some("n1")).map(|(_, number)| number).collect();
        assert_eq!((numbers.first(), numbers.last(), numbers.len()), (Some(&78.0), Some(&198.0), 61));
        assert_eq!(series.of("p99", Some("n2")).count() + series.of("text", None).count(), 0);
    }
}
