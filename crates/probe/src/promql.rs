//! Probe `promql:` sends a query to a Prometheus server, over its HTTP API v1
//! (<https://prometheus.io/docs/prometheus/latest/querying/api/>).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;

use super::answer::{AnswerBody, ProbeAnswer, ProbeReply};
use super::client::HttpRequest;
use super::failure::ProbeFailure;
use super::http::get;
use super::kind::{FromFile, Prepared, ProbeKind, ProbeSite, ProbeTarget, ReadinessProbe, SharedKeys};
use chaosrun_diagnostic::Pointer;
use chaosrun_expr::Scope;
use chaosrun_expr::{Template, Unknown, UnknownReason, Value, of_serde};
use chaosrun_input::Checker;
use chaosrun_input::quantity::serialize_duration;
use chaosrun_input::scalar::{RawDuration, Text};

/// Maximum number of samples of a range query. Prometheus itself refuses more.
const MOST_SAMPLES: u32 = 11_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "promql")]
pub struct RawPromql {
    /// URL of the Prometheus server, for example `http://{{ self.client }}`.
    pub url: Text,
    pub query: Text,
    /// Length of the queried time range, which ends now [default: only the newest value].
    pub range: Option<RawDuration>,
    /// Time between two values of the range [default: a tenth of `range`, at least 1s].
    pub step: Option<RawDuration>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Promql {
    url: Template,
    query: Template,
    #[serde(serialize_with = "maybe_duration")]
    range: Option<Duration>,
    #[serde(serialize_with = "serialize_duration")]
    step: Duration,
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn maybe_duration<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serialize_duration(value, serializer),
        None => serializer.serialize_none(),
    }
}

impl FromFile for Promql {
    type Raw = RawPromql;

    fn read(raw: &RawPromql, at: &Pointer, _: &SharedKeys<'_>, check: &mut Checker<'_>) -> Option<Self> {
        let range = raw.range.as_ref().map(|range| check.duration(&at.key("range"), Some(range), Duration::ZERO));
        let tenth = range.map_or(Duration::ZERO, |range| (range / 10).max(Duration::from_secs(1)));
        let step = check.duration(&at.key("step"), raw.step.as_ref(), tenth);
        let url = check.template(&at.key("url"), &raw.url, Scope::Probe, &[])?;
        Some(Self { url, query: check.template(&at.key("query"), &raw.query, Scope::Probe, &[])?, range, step })
    }
}

impl ProbeKind for Promql {
    fn prepare(&self, target: &ProbeTarget<'_>) -> Result<Prepared, String> {
        let range = self.range.map(|range| (range, self.step));
        let timeout = target.timeout;
        Ok(Prepared::Ask(Arc::new(Question { url: target.render(&self.url)?, query: target.render(&self.query)?, range, timeout })))
    }

    fn hedged(&self) -> bool {
        true
    }
}

/// Prepared query to one Prometheus server.
#[derive(Debug)]
struct Question {
    /// URL of the server, without the path of the API.
    pub url: String,
    pub query: String,
    /// Length of the queried time range, and the step; `None` queries only the newest value.
    pub range: Option<(Duration, Duration)>,
    pub timeout: Duration,
}

#[async_trait]
impl ReadinessProbe for Question {
    async fn ask(&self, site: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure> {
        let address = self.address(SystemTime::now()).map_err(ProbeFailure::Told)?;
        let request = HttpRequest::new("GET", &address, &[], None).map_err(ProbeFailure::Told)?;
        Ok(read(get(site, &request).await?))
    }
}

impl Question {
    /// Returns the URL of the request. The URL contains the timeout, so that the server stops the query when the caller no longer waits.
    fn address(&self, now: SystemTime) -> Result<String, String> {
        let base = self.url.trim_end_matches('/');
        let timeout = format!("{}ms", self.timeout.as_millis().max(1));
        let mut parameters = vec![("query", self.query.clone()), ("timeout", timeout)];
        let mut path = "query";
        if let Some((range, step)) = self.range {
            path = "query_range";
            let end = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            let step = step.max(Duration::from_millis(1)).max(range / MOST_SAMPLES);
            let moments = [("start", end.saturating_sub(range)), ("end", end), ("step", step)];
            parameters.extend(moments.map(|(name, time)| (name, format!("{:.3}", time.as_secs_f64()))));
        }
        let url = reqwest::Url::parse_with_params(&format!("{base}/api/v1/{path}"), &parameters);
        url.map(String::from).map_err(|error| format!("`{base}` is not the address of a server: {error}"))
    }
}

/// JSON object of the Prometheus API that contains the data of an answer.
#[derive(Deserialize)]
struct Envelope {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Instant>),
    Matrix(Vec<Range>),
    Scalar(Sample),
    /// Result of type `string`. The type is separate from a scalar, because the text need not be a number.
    String((Json, String)),
}

#[derive(Deserialize)]
struct Instant {
    metric: BTreeMap<String, String>,
    /// Sample of the series; `None` for a native histogram, which uses another key.
    value: Option<Sample>,
}

#[derive(Deserialize)]
struct Range {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<Sample>,
}

/// Value of a sample such as `[1435781451.781, "1"]`. The value is text in JSON, because JSON has no `NaN` and no `+Inf`.
struct Sample(f64);

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (_, text) = <(f64, String)>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| serde::de::Error::custom(format!("`{text}` is no number")))
    }
}

#[derive(Serialize)]
struct Row<'a, T> {
    labels: &'a BTreeMap<String, String>,
    #[serde(flatten)]
    found: T,
}

#[derive(Serialize)]
struct PromSample {
    value: f64,
}

#[derive(Serialize)]
struct Many {
    values: Vec<f64>,
}

/// Parses the answer of a server. An answer without success becomes a failed probe with the error message of the server.
fn read(reply: ProbeReply) -> ProbeReply {
    let (AnswerBody::Json(_, text) | AnswerBody::Text(text)) = &reply.body else { return reply };
    let told: Envelope = match serde_json::from_str(text) {
        Ok(told) => told,
        // This is the page of a proxy, or of another service at this address.
        Err(_) if !reply.ok => return reply,
        Err(error) => {
            let problem = format!("this is not an answer of Prometheus: {error}");
            return ProbeReply { ok: false, error: Some(problem), body: AnswerBody::None, ..reply };
        }
    };
    match told.data.filter(|_| told.status == "success") {
        Some(data) => ProbeReply { ok: true, body: body(&data, told.warnings), ..reply },
        None => {
            let problem = if told.error.is_empty() { told.status } else { format!("{}: {}", told.error_type, told.error) };
            ProbeReply { ok: false, error: Some(problem), body: AnswerBody::None, ..reply }
        }
    }
}

/// Converts the data of an answer to a body. Samples with `NaN` (0 divided by 0) are omitted, like series that have ended.
fn body(data: &Data, warnings: Vec<String>) -> AnswerBody {
    let nothing = BTreeMap::new();
    let (rows, value) = match data {
        Data::Vector(series) => {
            let told = |one: &&Instant| one.value.as_ref().is_none_or(|value| !value.0.is_nan());
            let series: Vec<&Instant> = series.iter().filter(told).collect();
            if series.iter().any(|one| one.value.is_none()) {
                let histogram = Unknown::new(UnknownReason::Types, "the query gives native histograms: ask for `histogram_quantile(...)`");
                return AnswerBody::Rows { rows: histogram.clone().into(), value: histogram.into(), warnings };
            }
            let values: Vec<f64> = series.iter().filter_map(|one| Some(one.value.as_ref()?.0)).collect();
            let rows: Vec<_> =
                series.iter().zip(&values).map(|(one, value)| Row { labels: &one.metric, found: PromSample { value: *value } }).collect();
            (of_serde(&rows), ProbeAnswer::single(&values))
        }
        Data::Matrix(series) => {
            let values = |one: &Range| one.values.iter().map(|value| value.0).filter(|value| !value.is_nan()).collect();
            let rows: Vec<_> = series.iter().map(|one| Row { labels: &one.metric, found: Many { values: values(one) } }).collect();
            let rows: Vec<_> = rows.into_iter().filter(|row| !row.found.values.is_empty()).collect();
            let value = match rows.as_slice() {
                [] => Value::from(()),
                _ => Unknown::new(UnknownReason::Types, "the query gives a range: use `.rows`, each with `.values`").into(),
            };
            (of_serde(&rows), value)
        }
        Data::Scalar(Sample(value)) if value.is_nan() => (of_serde(&Vec::<Row<PromSample>>::new()), Value::from(())),
        Data::Scalar(Sample(value)) => (of_serde(&[Row { labels: &nothing, found: PromSample { value: *value } }]), Value::from(*value)),
        Data::String((_, text)) => (of_serde(&Vec::<Row<PromSample>>::new()), Value::from(text.as_str())),
    };
    AnswerBody::Rows { rows, value, warnings }
}

#[cfg(test)]
mod tests {
    use std::time::Instant as Clock;

    use super::*;
    use chaosrun_expr::{Context, Expr, Scope};

    /// Returns the answer that results from an HTTP reply with this status and text.
    fn answered(status: i64, text: &str) -> ProbeAnswer {
        let reply = ProbeReply::new((200..300).contains(&status), ProbeAnswer::body(text)).with_status(status);
        ProbeAnswer::of(Ok(read(reply)), Clock::now())
    }

    fn success(data: &str) -> ProbeAnswer {
        answered(200, &format!(r#"{{"status":"success","data":{data}}}"#))
    }

    /// Evaluates the condition `text` over the answer `p`. Returns `None` if the result is unknown.
    fn judge(answer: &ProbeAnswer, text: &str) -> Option<bool> {
        let expr = Expr::compile(text, None, Scope::Invariant, &["p".to_owned()]).unwrap_or_else(|problems| panic!("{problems:?}"));
        let mut context = Context::new();
        context.set("p", answer.value(None, Duration::ZERO, Clock::now()));
        expr.condition(&context).ok()
    }

    #[track_caller]
    fn all_true(answer: &ProbeAnswer, texts: &[&str]) {
        for text in texts {
            assert_eq!(judge(answer, text), Some(true), "{text}: {:?}", answer.body);
        }
    }

    #[test]
    fn queries_become_urls() {
        let now = UNIX_EPOCH + Duration::from_millis(1_435_781_451_781);
        let ask = |range| {
            let (url, query) = ("http://127.0.0.1:9090/prom/".into(), r#"up{job="tikv"} + 1"#.into());
            Question { url, query, range, timeout: Duration::from_millis(1500) }.address(now).unwrap()
        };
        let query = "query=up%7Bjob%3D%22tikv%22%7D+%2B+1&timeout=1500ms";
        assert_eq!(ask(None), format!("http://127.0.0.1:9090/prom/api/v1/query?{query}"));
        let range = ask(Some((Duration::from_secs(60), Duration::from_secs(6))));
        let moments = "start=1435781391.781&end=1435781451.781&step=6.000";
        assert_eq!(range, format!("http://127.0.0.1:9090/prom/api/v1/query_range?{query}&{moments}"));
        // Even for very small steps, the URL requests no more samples than the server returns.
        assert!(ask(Some((Duration::from_secs(11_000), Duration::ZERO))).ends_with("step=1.000"));
        let bad = Question { url: "not an address".into(), query: "up".into(), range: None, timeout: Duration::from_secs(1) };
        assert!(bad.address(now).unwrap_err().contains("`not an address` is not the address"));
    }

    #[test]
    fn an_instant_vector_gives_rows_and_a_single_one_its_value() {
        let one = r#"{"metric":{"__name__":"up","job":"etcd","instance":"a:1"},"value":[1435781451.781,"1"]}"#;
        let two = r#"{"metric":{"__name__":"up","job":"etcd","instance":"b:1"},"value":[1435781451,"0.5"]}"#;
        let single = success(&format!(r#"{{"resultType":"vector","result":[{one}]}}"#));
        all_true(&single, &["p.ok and p.value == 1", "p.rows[0].labels.instance == 'a:1' and p.rows[0].value == 1"]);
        let both = success(&format!(r#"{{"resultType":"vector","result":[{one},{two}]}}"#));
        all_true(&both, &["p.rows | length == 2", "p.rows | map(attribute='value') | sum == 1.5", "p.warnings | length == 0"]);
        assert_eq!(judge(&both, "p.value > 0"), None);
    }

    #[test]
    fn a_range_gives_rows_of_values() {
        let data = r#"{"resultType":"matrix","result":[
            {"metric":{"instance":"a:1"},"values":[[1435781430.781,"1"],[1435781445.781,"NaN"],[1435781460.781,"3e+0"]]},
            {"metric":{"instance":"b:1"},"values":[[1435781430.781,"NaN"]]}]}"#;
        let answer = success(data);
        all_true(&answer, &["p.ok and p.rows | length == 1", "p.rows[0].values | max == 3", "p.rows[0].values | length == 2"]);
        assert_eq!(judge(&answer, "p.value == 3"), None);
    }

    #[test]
    fn scalars_and_texts_are_values() {
        all_true(&success(r#"{"resultType":"scalar","result":[1435781451.781,"-2.5"]}"#), &["p.ok and p.value == -2.5"]);
        all_true(&success(r#"{"resultType":"scalar","result":[1435781451.781,"+Inf"]}"#), &["p.value > 1000000"]);
        all_true(&success(r#"{"resultType":"string","result":[1435781451.781,"NaN"]}"#), &["p.ok and p.value == 'NaN'"]);
    }

    #[test]
    fn empty_result_is_a_good_answer_and_unknown() {
        for data in [
            r#"{"resultType":"vector","result":[]}"#,
            r#"{"resultType":"matrix","result":[]}"#,
            r#"{"resultType":"scalar","result":[1435781451.781,"NaN"]}"#,
            r#"{"resultType":"vector","result":[{"metric":{},"value":[1435781451.781,"NaN"]}]}"#,
        ] {
            let answer = success(data);
            all_true(&answer, &["p.ok", "p.rows | length == 0", "p.value | default(0) == 0"]);
            assert_eq!(judge(&answer, "p.value <= 0.1"), None, "{data}");
        }
    }

    #[test]
    fn warnings_are_included_in_the_result() {
        let text = r#"{"status":"success","warnings":["remote read: timeout"],"infos":["may not be a counter"],
            "data":{"resultType":"scalar","result":[1,"4"]}}"#;
        all_true(&answered(200, text), &["p.ok and p.value == 4", "p.warnings == ['remote read: timeout']"]);
    }

    #[test]
    fn errors_have_the_message_of_the_server() {
        let problem = |status, text| {
            let answer = answered(status, text);
            assert_eq!(judge(&answer, "p.value == 1"), None);
            answer.problem().expect("a problem")
        };
        let bad = r#"{"status":"error","errorType":"bad_data","error":"1:4: parse error: unexpected <aggr:sum>"}"#;
        assert_eq!(problem(400, bad), "bad_data: 1:4: parse error: unexpected <aggr:sum>");
        let slow = r#"{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}"#;
        assert_eq!(problem(503, slow), "timeout: query timed out in expression evaluation");
        assert_eq!(problem(502, "<html>Bad Gateway</html>"), "answered 502");
        assert!(problem(200, "<html>Welcome</html>").starts_with("this is not an answer of Prometheus: "));
        assert!(problem(200, r#"{"status":"success","data":{"resultType":"cube","result":[]}}"#).contains("cube"));
        let histogram = r#"{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[]}]}]}"#;
        assert_eq!(judge(&success(histogram), "p.rows | length == 0"), None);
    }
}
