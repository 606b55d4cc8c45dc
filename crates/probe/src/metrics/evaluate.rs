//! Evaluation of a query over the scrapes of one node, by the rules of Prometheus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::query::{self, Aggregate, MetricFunction, MetricOperator, MetricQuery, Selector};
use super::scrapes::{KnownSeries, Scrapes};

pub(super) type LabelSet = BTreeMap<String, String>;

/// Series of a query result: its labels without the metric name, and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSeries {
    pub labels: Arc<LabelSet>,
    pub value: f64,
}

enum Value {
    Number(f64),
    Vector(Vec<MetricSeries>),
}

/// Evaluates a query to series. A plain number becomes one series without labels. Series whose value is NaN are omitted, because the window
/// contains no data for them.
///
/// # Errors
/// Returns a message if series of an operation cannot be paired.
pub fn evaluate(query: &MetricQuery, scrapes: &Scrapes) -> Result<Vec<MetricSeries>, String> {
    let series = match value(query, scrapes)? {
        Value::Number(value) => vec![MetricSeries { labels: Arc::default(), value }],
        Value::Vector(series) => series,
    };
    Ok(series.into_iter().filter(|series| !series.value.is_nan()).collect())
}

fn value(query: &MetricQuery, scrapes: &Scrapes) -> Result<Value, String> {
    Ok(match query {
        MetricQuery::Number(number) => Value::Number(*number),
        MetricQuery::Select(selector) => {
            let now = select(selector, scrapes)
                .filter_map(|(_, known)| Some(MetricSeries { labels: known.labels(), value: scrapes.now(known)? }));
            Value::Vector(now.collect())
        }
        MetricQuery::Increase(selector, window) => Value::Vector(increase(selector, scrapes, *window).0),
        MetricQuery::Rate(selector, window) => {
            let (mut series, seconds) = increase(selector, scrapes, *window);
            for one in &mut series {
                one.value /= seconds;
            }
            Value::Vector(series)
        }
        MetricQuery::Aggregate(how, labels, inner) => match value(inner, scrapes)? {
            Value::Number(number) => Value::Number(number),
            Value::Vector(series) => Value::Vector(aggregate(*how, labels, series)),
        },
        MetricQuery::HistogramQuantile(quantile, inner) => match value(inner, scrapes)? {
            Value::Number(number) => Value::Number(number),
            Value::Vector(series) => Value::Vector(histogram_quantile(*quantile, &series)),
        },
        MetricQuery::Apply(function, inner) => {
            let apply = |number: f64| match function {
                MetricFunction::Negate => -number,
                MetricFunction::Abs => number.abs(),
                MetricFunction::Ceil => number.ceil(),
                MetricFunction::Floor => number.floor(),
            };
            match value(inner, scrapes)? {
                Value::Number(number) => Value::Number(apply(number)),
                Value::Vector(series) => map(series, apply),
            }
        }
        MetricQuery::Binary(left, operator, labels, right) => binary(value(left, scrapes)?, *operator, labels, value(right, scrapes)?)?,
    })
}

fn map(series: Vec<MetricSeries>, apply: impl Fn(f64) -> f64) -> Value {
    Value::Vector(series.into_iter().map(|one| MetricSeries { value: apply(one.value), ..one }).collect())
}

fn select<'a>(selector: &'a Selector, scrapes: &'a Scrapes) -> impl Iterator<Item = (usize, &'a KnownSeries)> {
    let fits = |known: &KnownSeries| {
        known.name() == selector.name && selector.matchers.iter().all(|matcher| matcher.is_match(known.label(&matcher.name)))
    };
    scrapes.series().enumerate().filter(move |(_, known)| fits(known))
}

/// Returns the increase of each counter over the window, and the seconds between the first and the last scrape of the window.
fn increase(selector: &Selector, scrapes: &Scrapes, window: Duration) -> (Vec<MetricSeries>, f64) {
    let Some((base, seconds)) = scrapes.window(window) else { return (Vec::new(), 1.0) };
    // A series that appeared within the window started at zero.
    let grown = |id: usize, known: &KnownSeries| known.grown() - base.get(id).copied().unwrap_or(0.0);
    let series = select(selector, scrapes).map(|(id, known)| MetricSeries { labels: known.labels(), value: grown(id, known) });
    (series.collect(), seconds)
}

/// Returns the labels that identify the group or pair of a series.
fn signature(labels: &query::LabelGrouping, series: &MetricSeries) -> LabelSet {
    series.labels.iter().filter(|(label, _)| labels.keeps(label)).map(|(label, value)| (label.clone(), value.clone())).collect()
}

fn aggregate(how: Aggregate, labels: &query::LabelGrouping, series: Vec<MetricSeries>) -> Vec<MetricSeries> {
    let mut groups: BTreeMap<LabelSet, Vec<f64>> = BTreeMap::new();
    for one in series {
        groups.entry(signature(labels, &one)).or_default().push(one.value);
    }
    let fold = |values: &[f64]| {
        #[expect(clippy::cast_precision_loss, reason = "a count of series")]
        let count = values.len() as f64;
        match how {
            Aggregate::Sum => values.iter().sum(),
            Aggregate::Avg => values.iter().sum::<f64>() / count,
            // NaN values are ignored if at least one value is a number.
            Aggregate::Min => values.iter().copied().fold(f64::NAN, f64::min),
            Aggregate::Max => values.iter().copied().fold(f64::NAN, f64::max),
            Aggregate::Count => count,
        }
    };
    groups.into_iter().map(|(labels, values)| MetricSeries { labels: Arc::new(labels), value: fold(&values) }).collect()
}

/// Returns one quantile per histogram. Buckets that differ only in the label `le` form one histogram.
fn histogram_quantile(quantile: f64, series: &[MetricSeries]) -> Vec<MetricSeries> {
    let but_bound = query::LabelGrouping::Except(vec!["le".into()]);
    let mut histograms: BTreeMap<LabelSet, Vec<(f64, f64)>> = BTreeMap::new();
    for one in series {
        let bound = match one.labels.get("le").map(String::as_str) {
            Some("+Inf" | "Inf") => Some(f64::INFINITY),
            Some(bound) => bound.parse().ok(),
            None => None,
        };
        let Some(bound) = bound else { continue };
        histograms.entry(signature(&but_bound, one)).or_default().push((bound, one.value));
    }
    let quantiles =
        histograms.into_iter().map(|(labels, buckets)| MetricSeries { labels: Arc::new(labels), value: within_buckets(quantile, buckets) });
    quantiles.collect()
}

/// Computes a quantile like `bucketQuantile` of Prometheus, by linear interpolation within a bucket. Returns NaN if the histogram counts no
/// observations.
fn within_buckets(quantile: f64, mut buckets: Vec<(f64, f64)>) -> f64 {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets.dedup_by(|next, first| {
        let same = next.0.total_cmp(&first.0).is_eq();
        if same {
            first.1 += next.1;
        }
        same
    });
    // A count below the count of the previous bucket was read between two updates, so the previous count is used.
    let mut highest = f64::NEG_INFINITY;
    for (_, count) in &mut buckets {
        highest = highest.max(*count);
        *count = highest;
    }
    let [finite @ .., (last, total)] = buckets.as_slice() else { return f64::NAN };
    let Some((highest_bound, _)) = finite.last() else { return f64::NAN };
    if !last.is_infinite() || *total == 0.0 {
        return f64::NAN;
    }
    let rank = quantile * total;
    match finite.iter().position(|(_, count)| *count >= rank) {
        // The distribution beyond the last finite bound is unknown, so the result is this bound, as in Prometheus.
        None => *highest_bound,
        Some(0) if finite[0].0 <= 0.0 => finite[0].0,
        Some(0) => finite[0].0 * (rank / finite[0].1),
        Some(at) => {
            let ((lower, below), (upper, count)) = (finite[at - 1], finite[at]);
            lower + (upper - lower) * ((rank - below) / (count - below))
        }
    }
}

fn binary(left: Value, operator: MetricOperator, labels: &query::LabelGrouping, right: Value) -> Result<Value, String> {
    let apply = |a: f64, b: f64| match operator {
        MetricOperator::Add => a + b,
        MetricOperator::Subtract => a - b,
        MetricOperator::Multiply => a * b,
        MetricOperator::Divide => a / b,
        MetricOperator::Modulo => a % b,
        MetricOperator::Power => a.powf(b),
    };
    Ok(match (left, right) {
        (Value::Number(a), Value::Number(b)) => Value::Number(apply(a, b)),
        (Value::Vector(a), Value::Number(b)) => map(a, |a| apply(a, b)),
        (Value::Number(a), Value::Vector(b)) => map(b, |b| apply(a, b)),
        (Value::Vector(a), Value::Vector(b)) => {
            let (mut left, right) = (by_signature(labels, a)?, by_signature(labels, b)?);
            left.retain(|signature, _| right.contains_key(signature));
            Value::Vector(
                left.into_iter().map(|(labels, a)| MetricSeries { value: apply(a, right[&labels]), labels: Arc::new(labels) }).collect(),
            )
        }
    })
}

/// Returns the values of one side of a binary operation, by the labels that pair them.
fn by_signature(labels: &query::LabelGrouping, series: Vec<MetricSeries>) -> Result<BTreeMap<LabelSet, f64>, String> {
    let mut found = BTreeMap::new();
    for one in series {
        if found.insert(signature(labels, &one), one.value).is_some() {
            return Err("several series of one side have the same labels: `sum` them, or pair them by more labels".into());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::{Duration, Instant};

    use super::*;

    fn run(query: &str, scrapes: &[(u64, &str)]) -> Vec<f64> {
        let query = MetricQuery::parse(query).unwrap();
        let epoch = Instant::now();
        let mut kept = Scrapes::default();
        for (second, text) in scrapes {
            kept.push(&query, epoch + Duration::from_secs(*second), text).unwrap();
        }
        evaluate(&query, &kept).unwrap().into_iter().map(|series| series.value).collect()
    }

    #[test]
    fn rates_survive_a_restart_and_need_two_scrapes() {
        assert_eq!(run("rate(x[10s])", &[(0, "x 5")]), [0.0; 0]);
        assert_eq!(run("rate(x[10s])", &[(0, "x 5"), (10, "x 25")]), [2.0]);
        // After a reset, the counter grows from 5 to 15 (10), then from 0 to 6.
        assert_eq!(run("increase(x[10s])", &[(0, "x 5"), (5, "x 15"), (10, "x 6")]), [16.0]);
        // A counter that appears later started at zero.
        assert_eq!(run("increase(x[10s])", &[(0, "y 5"), (5, "x 15"), (10, "x 16")]), [16.0]);
        // Samples older than the window do not count.
        assert_eq!(run("increase(x[10s])", &[(0, "x 0"), (5, "x 100"), (15, "x 101")]), [1.0]);
        // A counter without a number in the first scrape existed before, so its first number is not an increase.
        for unknown in ["x NaN", "x +Inf"] {
            assert_eq!(run("increase(x[10s])", &[(0, unknown), (5, "x 15"), (10, "x 16")]), [1.0], "{unknown}");
        }
    }

    #[test]
    fn quantiles_interpolate_within_the_bucket() {
        let before = "h_bucket{le=\"0.1\"} 0\nh_bucket{le=\"0.2\"} 0\nh_bucket{le=\"+Inf\"} 0\n";
        let after = "h_bucket{le=\"0.1\"} 50\nh_bucket{le=\"0.2\"} 100\nh_bucket{le=\"+Inf\"} 100\n";
        let median = run("histogram_quantile(0.75, sum by (le) (rate(h_bucket[10s])))", &[(0, before), (10, after)]);
        assert!((median[0] - 0.15).abs() < 1e-9, "{median:?}");
        assert_eq!(run("histogram_quantile(0.99, sum by (le) (rate(h_bucket[10s])))", &[(0, before), (10, before)]), [0.0; 0]);
    }

    /// Returns a scrape of a server that restarts at tick 13. A tick lasts half a second.
    fn scrape(tick: u32) -> String {
        let mut text = String::new();
        for (place, (kind, per_tick)) in [("raw_put", 7), ("raw_get", 3), ("kv_scan", 1)].into_iter().enumerate() {
            let total = per_tick * if tick < 13 { 40 + tick } else { tick - 12 };
            let place = u32::try_from(place).unwrap();
            for (bound, share) in [("0.001", 10 + 20 * place), ("0.01", 55 + place), ("0.1", 90), ("+Inf", 100)] {
                writeln!(text, "latency_seconds_bucket{{type=\"{kind}\",le=\"{bound}\"}} {}", total * share / 100).unwrap();
            }
            let sum = f64::from(total) * 0.02;
            writeln!(text, "latency_seconds_sum{{type=\"{kind}\"}} {sum}\nlatency_seconds_count{{type=\"{kind}\"}} {total}").unwrap();
            writeln!(text, "requests_total{{type=\"{kind}\"}} {total}").unwrap();
            writeln!(text, "size_bytes{{type=\"{kind}\",state=\"used\"}} {}", 100 + 13 * tick * (place + 1)).unwrap();
            writeln!(text, "size_bytes{{type=\"{kind}\",state=\"capacity\"}} 4096").unwrap();
        }
        text
    }

    /// Checks the results against the results of the former query language for the same scrapes, after ticks 0, 6, 12, 14 and 24.
    #[test]
    fn results_equal_those_of_the_former_query_language() {
        type Rows = [&'static [f64]; 5];
        let none: &[f64] = &[];
        let cases: [(&str, &str, Rows); 9] = [
            (
                "quantile(0.85, rate(latency_seconds, 3s))",
                "histogram_quantile(0.85, sum by (le) (rate(latency_seconds_bucket[3s])))",
                [none, &[0.091_857_142_857_142_83], &[0.088_652_173_913_043_46], &[0.096_142_857_142_857_14], &[0.088_652_173_913_043_46]],
            ),
            (
                "quantile(0.5, rate(latency_seconds{type=~\"raw_.*\"}, 10s))",
                "histogram_quantile(0.5, sum by (le) (rate(latency_seconds_bucket{type=~\"raw_.*\"}[10s])))",
                [none, &[0.008_875], &[0.008_875], &[0.009_035_714_285_714_286], &[0.008_762_5]],
            ),
            (
                "quantile(0.7, rate(latency_seconds{type!=\"kv_scan\"}, 60s)) * 1000",
                "histogram_quantile(0.7, sum by (le) (rate(latency_seconds_bucket{type!=\"kv_scan\"}[60s]))) * 1000",
                [none, &[50.5], &[49.512_195_121_951_23], &[51.25], &[49.512_195_121_951_23]],
            ),
            ("max(increase(requests_total, 20s))", "max(increase(requests_total[20s]))", [none, &[42.0], &[84.0], &[98.0], &[168.0]]),
            (
                "sum by (type) (rate(requests_total, 4s))",
                "sum by (type) (rate(requests_total[4s]))",
                [none, &[2.0, 6.0, 14.0], &[2.0, 6.0, 14.0], &[2.0, 6.0, 14.0], &[2.0, 6.0, 14.0]],
            ),
            (
                "1 - sum(size_bytes{state=\"used\"}) / sum(size_bytes{state=\"capacity\"})",
                "1 - sum(size_bytes{state=\"used\"}) / sum(size_bytes{state=\"capacity\"})",
                [&[0.975_585_937_5], &[0.9375], &[0.899_414_062_5], &[0.886_718_75], &[0.823_242_187_5]],
            ),
            (
                "sum(rate(latency_seconds_sum, 5s)) / sum(rate(latency_seconds_count, 5s))",
                "sum(rate(latency_seconds_sum[5s])) / sum(rate(latency_seconds_count[5s]))",
                [none, &[0.02], &[0.02], &[0.02], &[0.02]],
            ),
            (
                "avg(size_bytes{state=\"used\"}) - min(size_bytes)",
                "avg(size_bytes{state=\"used\"}) - min(size_bytes)",
                [&[0.0], &[78.0], &[156.0], &[182.0], &[312.0]],
            ),
            ("count(requests_total) + 2 * 3", "count(requests_total) + 2 * 3", [&[9.0], &[9.0], &[9.0], &[9.0], &[9.0]]),
        ];
        for (old, new, expected) in cases {
            let refused = MetricQuery::parse(old).err().and_then(|error| error.help);
            assert_eq!(refused, (old != new).then(|| format!("write `{new}`")), "{old}");
            for (tick, expected) in [0, 6, 12, 14, 24].into_iter().zip(expected) {
                let query = MetricQuery::parse(new).unwrap();
                let epoch = Instant::now();
                let mut kept = Scrapes::default();
                for tick in 0..=tick {
                    kept.push(&query, epoch + Duration::from_millis(500) * tick, &scrape(tick)).unwrap();
                }
                let found: Vec<f64> = evaluate(&query, &kept).unwrap().into_iter().map(|series| series.value).collect();
                let close = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs());
                assert!(close, "{new} after tick {tick}: {found:?}, expected {expected:?}");
            }
        }
    }

    #[test]
    fn histogram_quantile_is_one_per_histogram_and_follows_prometheus_at_the_borders() {
        let text = "h_bucket{a=\"1\",le=\"1\"} 10\nh_bucket{a=\"1\",le=\"2\"} 20\nh_bucket{a=\"1\",le=\"+Inf\"} 20\n\
                    h_bucket{a=\"2\",le=\"1\"} 0\nh_bucket{a=\"2\",le=\"2\"} 0\nh_bucket{a=\"2\",le=\"+Inf\"} 5\n\
                    h_bucket{a=\"3\",le=\"1\"} 0\nh_bucket{a=\"3\",le=\"+Inf\"} 0\n\
                    h_bucket{a=\"4\",le=\"1\"} 3\n\
                    h_bucket{a=\"5\",le=\"-1\"} 3\nh_bucket{a=\"5\",le=\"+Inf\"} 3\n\
                    h_bucket{a=\"6\",le=\"1\"} 10\nh_bucket{a=\"6\",le=\"2\"} 8\nh_bucket{a=\"6\",le=\"+Inf\"} 20\n";
        // The third histogram has no observations, the fourth has no `+Inf` bucket, and in the sixth a count is lower than the previous
        // count.
        assert_eq!(run("histogram_quantile(0.75, h_bucket)", &[(0, text)]), [1.5, 2.0, -1.0, 2.0]);
        assert_eq!(run("histogram_quantile(0.5, h_bucket{a='6'})", &[(0, text)]), [1.0]);
        assert_eq!(run("max(histogram_quantile(0.75, h_bucket{a=~'[13]'}))", &[(0, text)]), [1.5]);
    }

    #[test]
    fn series_are_paired_by_their_labels() {
        let text = "a{x=\"1\",y=\"1\"} 6\na{x=\"2\",y=\"1\"} 8\nb{x=\"1\",y=\"1\"} 3\nb{x=\"3\",y=\"1\"} 1\nc{x=\"2\"} 2\n";
        assert_eq!(run("a / b", &[(0, text)]), [2.0]);
        assert_eq!(run("a / on (x) c", &[(0, text)]), [4.0]);
        assert_eq!(run("a / ignoring (y) c", &[(0, text)]), [4.0]);
        assert_eq!(run("-a % 4 ^ 1", &[(0, text)]), [-2.0, -0.0]);
        assert_eq!(run("abs(-a) + ceil(b * 0.5) + floor(b * 0.5)", &[(0, text)]), [9.0]);
        assert_eq!(run("sum without (x) (a)", &[(0, text)]), [14.0]);
        let query = MetricQuery::parse("a / on (y) b").unwrap();
        let mut kept = Scrapes::default();
        kept.push(&query, Instant::now(), text).unwrap();
        assert!(evaluate(&query, &kept).unwrap_err().starts_with("several series"));
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
