//! Evaluates a query over the scrapes of one node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::query::{Aggregate, Operator, Query, Selector};
use super::scrapes::{Known, Scrapes};

pub(super) type Labels = BTreeMap<String, String>;

/// One line of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub labels: Arc<Labels>,
    pub value: f64,
}

enum Value {
    Number(f64),
    Vector(Vec<Series>),
}

/// The result as series; a plain number is one series without labels. Empty = the window holds nothing to say.
#[must_use]
pub fn evaluate(query: &Query, scrapes: &Scrapes) -> Vec<Series> {
    match value(query, scrapes) {
        Value::Number(value) => vec![Series { labels: Arc::default(), value }],
        Value::Vector(series) => series.into_iter().filter(|series| !series.value.is_nan()).collect(),
    }
}

fn value(query: &Query, scrapes: &Scrapes) -> Value {
    match query {
        Query::Number(number) => Value::Number(*number),
        Query::Select(selector) => {
            let now =
                select(selector, scrapes).filter_map(|(_, known)| Some(Series { labels: known.labels(), value: scrapes.now(known)? }));
            Value::Vector(now.collect())
        }
        Query::Increase(selector, window) => Value::Vector(increase(selector, scrapes, *window).0),
        Query::Rate(selector, window) => {
            let (mut series, seconds) = increase(selector, scrapes, *window);
            for one in &mut series {
                one.value /= seconds;
            }
            Value::Vector(series)
        }
        Query::Aggregate(how, by, inner) => match value(inner, scrapes) {
            Value::Number(number) => Value::Number(number),
            Value::Vector(series) => Value::Vector(aggregate(*how, by, series)),
        },
        Query::Quantile(q, inner) => match value(inner, scrapes) {
            Value::Number(number) => Value::Number(number),
            Value::Vector(series) => Value::Vector(quantile(*q, &series).into_iter().collect()),
        },
        Query::Binary(left, operator, right) => binary(value(left, scrapes), *operator, value(right, scrapes)),
    }
}

/// The series a selector means: of that very name, or the buckets of the histogram of that name.
fn select<'a>(selector: &'a Selector, scrapes: &'a Scrapes) -> impl Iterator<Item = (usize, &'a Known)> {
    let suffix = if scrapes.series().any(|known| known.name() == selector.name) { "" } else { "_bucket" };
    scrapes.series().enumerate().filter(move |(_, known)| {
        known.name().strip_prefix(selector.name.as_str()) == Some(suffix)
            && selector.matchers.iter().all(|(label, matcher)| matcher.matches(known.label(label)))
    })
}

/// How much each counter grew over the window, and the seconds between its first and last scrape.
fn increase(selector: &Selector, scrapes: &Scrapes, window: Duration) -> (Vec<Series>, f64) {
    let Some((base, seconds)) = scrapes.window(window) else { return (Vec::new(), 1.0) };
    // A series that is younger than the window began at zero.
    let grown = |id: usize, known: &Known| known.grown() - base.get(id).copied().unwrap_or(0.0);
    let series = select(selector, scrapes).map(|(id, known)| Series { labels: known.labels(), value: grown(id, known) });
    (series.collect(), seconds)
}

fn aggregate(how: Aggregate, by: &[String], series: Vec<Series>) -> Vec<Series> {
    let mut groups: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
    for one in series {
        let labels =
            one.labels.iter().filter(|(label, _)| by.contains(label)).map(|(label, value)| (label.clone(), value.clone())).collect();
        groups.entry(labels).or_default().push(one.value);
    }
    let fold = |values: &[f64]| {
        #[expect(clippy::cast_precision_loss, reason = "a count of series")]
        let count = values.len() as f64;
        match how {
            Aggregate::Sum => values.iter().sum(),
            Aggregate::Avg => values.iter().sum::<f64>() / count,
            Aggregate::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            Aggregate::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Aggregate::Count => count,
        }
    };
    groups.into_iter().map(|(labels, values)| Series { labels: Arc::new(labels), value: fold(&values) }).collect()
}

/// `histogram_quantile` over all buckets together; none when nothing was observed in the window.
fn quantile(q: f64, series: &[Series]) -> Option<Series> {
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for one in series {
        let bound = match one.labels.get("le").map(String::as_str) {
            Some("+Inf" | "Inf") => f64::INFINITY,
            Some(bound) => bound.parse().ok()?,
            None => continue,
        };
        match buckets.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
            Some((_, count)) => *count += one.value,
            None => buckets.push((bound, one.value)),
        }
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total = buckets.last().filter(|(bound, _)| bound.is_infinite())?.1;
    if total <= 0.0 {
        return None;
    }
    let rank = q * total;
    let at = buckets.iter().position(|(_, count)| *count >= rank)?;
    let (upper, count) = buckets[at];
    let (lower, below) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
    let value = if upper.is_infinite() {
        // Beyond the last finite bound nothing more is known.
        lower
    } else if count > below {
        lower + (upper - lower) * (rank - below) / (count - below)
    } else {
        upper
    };
    Some(Series { labels: Arc::default(), value })
}

fn binary(left: Value, operator: Operator, right: Value) -> Value {
    let apply = |a: f64, b: f64| match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
    };
    let map = |series: Vec<Series>, f: &dyn Fn(f64) -> f64| {
        Value::Vector(series.into_iter().map(|one| Series { value: f(one.value), ..one }).collect())
    };
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => Value::Number(apply(a, b)),
        (Value::Vector(a), Value::Number(b)) => map(a, &|a| apply(a, b)),
        (Value::Number(a), Value::Vector(b)) => map(b, &|b| apply(a, b)),
        (Value::Vector(a), Value::Vector(b)) => {
            let pairs = a.into_iter().filter_map(|one| {
                let other = b.iter().find(|other| other.labels == one.labels)?;
                Some(Series { value: apply(one.value, other.value), ..one })
            });
            Value::Vector(pairs.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn run(query: &str, scrapes: &[(u64, &str)]) -> Vec<f64> {
        let query = Query::parse(query).unwrap();
        let epoch = Instant::now();
        let mut kept = Scrapes::default();
        for (second, text) in scrapes {
            kept.push(&query, epoch + Duration::from_secs(*second), text);
        }
        evaluate(&query, &kept).into_iter().map(|series| series.value).collect()
    }

    #[test]
    fn rates_survive_a_restart_and_need_two_scrapes() {
        assert_eq!(run("rate(x, 10s)", &[(0, "x 5")]), [0.0; 0]);
        assert_eq!(run("rate(x, 10s)", &[(0, "x 5"), (10, "x 25")]), [2.0]);
        // Reset: 5 -> 15 is 10, then from zero to 6.
        assert_eq!(run("increase(x, 10s)", &[(0, "x 5"), (5, "x 15"), (10, "x 6")]), [16.0]);
        // A counter that appears later began at zero.
        assert_eq!(run("increase(x, 10s)", &[(0, "y 5"), (5, "x 15"), (10, "x 16")]), [16.0]);
        // What is older than the window does not count.
        assert_eq!(run("increase(x, 10s)", &[(0, "x 0"), (5, "x 100"), (15, "x 101")]), [1.0]);
    }

    #[test]
    fn quantiles_interpolate_within_the_bucket() {
        let before = "h_bucket{le=\"0.1\"} 0\nh_bucket{le=\"0.2\"} 0\nh_bucket{le=\"+Inf\"} 0\n";
        let after = "h_bucket{le=\"0.1\"} 50\nh_bucket{le=\"0.2\"} 100\nh_bucket{le=\"+Inf\"} 100\n";
        let median = run("quantile(0.75, rate(h, 10s))", &[(0, before), (10, after)]);
        assert!((median[0] - 0.15).abs() < 1e-9, "{median:?}");
        assert_eq!(run("quantile(0.99, rate(h, 10s))", &[(0, before), (10, before)]), [0.0; 0]);
    }

    #[test]
    fn labels_choose_and_group() {
        let text = "s{type=\"used\",db=\"a\"} 1\ns{type=\"used\",db=\"b\"} 2\ns{type=\"capacity\",db=\"a\"} 12\n";
        assert_eq!(run("sum(s{type=\"used\"}) / sum(s{type='capacity'})", &[(0, text)]), [0.25]);
        assert_eq!(run("sum by (type) (s)", &[(0, text)]), [12.0, 3.0]);
        assert_eq!(run("max(s{db!~\"a\"}) * 10", &[(0, text)]), [20.0]);
        assert_eq!(run("count(missing)", &[(0, text)]), [0.0; 0]);
    }
}
