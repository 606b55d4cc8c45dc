//! Tests that compare `promql:` probes of a real Prometheus with the PromQL of `metrics:` probes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use chaosrun_cluster::Cluster;
use chaosrun_event::Actor;
use chaosrun_probe::metrics::{MetricQuery, Scrapes, evaluate};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::require;
use crate::watched::{Watched, holds};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_is_understood() {
    if require::program("prometheus").is_none() {
        return;
    }
    let mut watched = Watched::new("tests/it/fixtures/prometheus/prometheus.yaml", &[]);
    watched.up().await;
    let began = Instant::now();
    loop {
        // No scrape has been made at the beginning; the limit only ends a broken test.
        let (judged, _) = watched.look().await;
        let broken: Vec<_> = judged.iter().filter(|(_, judged)| !holds(judged)).collect();
        if broken.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{broken:?}\n{:?}", watched.snapshot.value());
    }

    // A paused server gives no answer, and the probe reports that within its timeout.
    watched.cluster.pause("prometheus", Actor::Fault).await.unwrap();
    let began = Instant::now();
    loop {
        watched.look().await;
        // One of its threads may have answered before the signal arrived.
        if watched.snapshot.states.iter().all(|state| !state.ok) || began.elapsed() > Duration::from_secs(30) {
            break;
        }
    }
    for state in &watched.snapshot.states {
        assert_eq!((state.ok, state.problem.as_deref()), (false, Some("no answer in 1000 ms")), "{}", state.probe);
    }
    watched.down().await;
}

/// Returns metrics of a server that has run for `seconds`: constants, counters that grow linearly, and one counter that grows
/// exponentially. The exponential counter has a constant ratio between its rates over a short and a long window.
fn metrics(seconds: f64) -> String {
    let mut text = String::new();
    for (a, b, value) in [("x", "1", 6.5), ("x", "2", 8.25), ("y", "1", -3.5), ("y", "2", 0.0), ("z", "1", 1e9)] {
        let _ = writeln!(text, "gauge{{a=\"{a}\",b=\"{b}\"}} {value}");
    }
    text += "other{a=\"x\"} 2\nother{a=\"y\"} 0\nplain 3\nodd NaN\nodd2{a=\"x\"} NaN\nodd2{a=\"y\"} 4\n";
    for (kind, buckets) in [
        ("usual", [("0.1", 3.0), ("0.5", 7.0), ("1", 7.0), ("+Inf", 10.0)]),
        ("nothing", [("0.1", 0.0), ("0.5", 0.0), ("1", 0.0), ("+Inf", 0.0)]),
        ("beyond", [("0.1", 0.0), ("0.5", 0.0), ("1", 1.0), ("+Inf", 100.0)]),
        ("falling", [("0.1", 5.0), ("0.5", 4.0), ("1", 8.0), ("+Inf", 10.0)]),
        ("negative", [("-2", 5.0), ("-1", 6.0), ("1", 8.0), ("+Inf", 10.0)]),
        ("endless", [("0.1", 5.0), ("0.5", 6.0), ("1", 8.0), ("2", 10.0)]),
    ] {
        for (le, share) in buckets {
            let _ = writeln!(text, "still_bucket{{kind=\"{kind}\",le=\"{le}\"}} {share}");
            // Counters that begin at zero would be extrapolated to zero at most.
            let _ = writeln!(text, "growing_bucket{{kind=\"{kind}\",le=\"{le}\"}} {}", share * (1000.0 + seconds));
        }
    }
    for (kind, rate) in [("fast", 250.0), ("slow", 2.5)] {
        let _ = writeln!(text, "requests_total{{kind=\"{kind}\"}} {}", rate * (1000.0 + seconds));
    }
    let _ = writeln!(text, "exponential_total {}", seconds.exp());
    text
}

type Rows = BTreeMap<String, f64>;

/// Returns the labels of a series as text, limited to labels that both chaosrun and Prometheus return.
fn key<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut pairs: Vec<_> = labels.filter(|(name, _)| !matches!(*name, "__name__" | "job" | "instance")).collect();
    pairs.sort_unstable();
    format!("{pairs:?}")
}

/// Returns the response of Prometheus to a query, without rows whose value is NaN.
async fn asked(url: &str, query: &str) -> Rows {
    let url = reqwest::Url::parse_with_params(&format!("{url}/api/v1/query"), [("query", query)]).unwrap();
    let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let number = |sample: &Value| sample[1].as_str().unwrap().parse::<f64>().unwrap();
    let rows: Vec<(String, f64)> = match answer["data"]["resultType"].as_str().unwrap() {
        "scalar" => vec![(key(std::iter::empty()), number(&answer["data"]["result"]))],
        _ => {
            let row = |row: &Value| {
                let labels = row["metric"].as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
                (key(labels), number(&row["value"]))
            };
            answer["data"]["result"].as_array().unwrap().iter().map(row).collect()
        }
    };
    rows.into_iter().filter(|(_, value)| !value.is_nan()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_probes_agree_with_a_real_prometheus() {
    const EXACT: &[&str] = &[
        "gauge",
        "plain * 2 - 1",
        "1 / 4 + 2 ^ 3 % 5",
        "sum(gauge)",
        "sum by (a) (gauge)",
        "sum without (a) (gauge)",
        "avg by (b) (gauge)",
        "min(gauge)",
        "max(gauge)",
        "max(odd)",
        "min(odd2)",
        "count by (a) (gauge)",
        "count(missing)",
        "gauge{a=~\"x|z\", b!=\"2\"}",
        "gauge{a!~\"x.*\", c=\"\"}",
        "sum by (a) (gauge) / on (a) other",
        "gauge{b=\"1\"} - ignoring (b) gauge{b=\"2\"}",
        "1 - sum(gauge{b=\"1\"}) / sum(gauge)",
        "-gauge",
        "-gauge % 4",
        "2 ^ -gauge",
        "plain / 0",
        "abs(gauge) + ceil(gauge) - floor(gauge)",
        "histogram_quantile(0.5, still_bucket)",
        "histogram_quantile(0.99, still_bucket)",
        "histogram_quantile(0, still_bucket)",
        "histogram_quantile(1, still_bucket)",
        "max(histogram_quantile(0.9, still_bucket))",
        "histogram_quantile(0.7, sum by (le) (still_bucket{kind=~\"usual|beyond\"}))",
        "histogram_quantile(0.5, sum by (kind, le) (rate(growing_bucket[3s])))",
        "histogram_quantile(0.9, sum without (kind) (rate(growing_bucket{kind=~\"usual|beyond\"}[3s]))) * 1000",
    ];
    const RATES: &[&str] = &[
        "rate(requests_total[3s])",
        "increase(requests_total[3s])",
        "sum(rate(requests_total[3s]))",
        "max by (kind) (increase(requests_total{kind=\"slow\"}[3s])) / 3",
        "rate(exponential_total[1500ms]) / rate(exponential_total[3s])",
    ];
    let Some(program) = require::program("prometheus") else { return };
    let began = Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let app = Router::new().route("/metrics", get(move || async move { metrics(began.elapsed().as_secs_f64()) }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("prometheus.yml");
    let scrape = format!(
        "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\nscrape_configs: [{{ job_name: x, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
    );
    std::fs::write(&config, scrape).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut prometheus = tokio::process::Command::new(program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={port}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let url = format!("http://{port}");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    while !client.get(format!("{url}/-/ready")).send().await.is_ok_and(|answer| answer.status().is_success()) {
        // The limit only ends a broken test.
        assert!(began.elapsed() < Duration::from_secs(60), "Prometheus does not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let queries: Vec<(&str, MetricQuery)> = EXACT.iter().chain(RATES).map(|text| (*text, MetricQuery::parse(text).unwrap())).collect();
    let mut scrapes: Vec<Scrapes> = queries.iter().map(|_| Scrapes::default()).collect();
    let until = Instant::now() + Duration::from_secs(4);
    // Prometheus begins to scrape some seconds after its start. A window that begins before its first scrape has a smaller rate there:
    // it divides by the whole window.
    let scraped = async || asked(&url, "count_over_time(plain[1m])").await.into_values().sum::<f64>();
    while Instant::now() < until || scraped().await < 18.0 {
        assert!(began.elapsed() < Duration::from_secs(60), "Prometheus does not scrape");
        let text = client.get(format!("http://{target}/metrics")).send().await.unwrap().text().await.unwrap();
        let now = Instant::now();
        for ((_, query), scrapes) in queries.iter().zip(&mut scrapes) {
            scrapes.push(query, now, &text).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (place, ((text, query), scrapes)) in queries.iter().zip(&scrapes).enumerate() {
        let series = evaluate(query, scrapes).unwrap();
        let own: Rows =
            series.iter().map(|one| (key(one.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))), one.value)).collect();
        let theirs = asked(&url, text).await;
        assert_eq!(own.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{text}");
        // Rates depend on the times of the scrapes, which differ.
        let tolerance = if place < EXACT.len() { 1e-9 } else { 0.2 };
        for (labels, value) in &own {
            let other = theirs[labels];
            let close = value.total_cmp(&other).is_eq() || (value - other).abs() <= tolerance * other.abs();
            assert!(close, "{text} {labels}: {value} here, {other} in Prometheus");
        }
    }
    prometheus.kill().await.unwrap();
}
