//! `metrics:` probes: Prometheus text, scraped by the runner, and a PromQL query over the scrapes of a window.
//!
//! The crate `promql_parser` parses the query. [`MetricQuery`] is the supported subset: selectors with label matchers, `rate` and
//! `increase`, aggregations, `histogram_quantile`, some functions of numbers, and arithmetic. Unsupported parts are refused by name when
//! the file is loaded. A query sees the scrapes of one node. The evaluation differs from a Prometheus server in three points:
//! * `rate` and `increase` count from the first to the last scrape of the window, without extrapolation to its borders. The increase of a
//!   counter is therefore a whole number.
//! * A counter that appears while the probe runs began at zero.
//! * A sample that is not a number is omitted.

mod evaluate;
mod query;
mod scrapes;
mod text;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use serde::Serialize;

use super::answer::{AnswerBody, ProbeAnswer, ProbeReply};
use super::client::HttpRequest;
use super::failure::ProbeFailure;
use super::http::get;
use super::kind::{FromFile, Prepared, ProbeKind, ProbeSite, ProbeTarget, ReadinessProbe, SharedKeys};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_expr::Scope;
use chaosrun_expr::{Template, of_serde};
use chaosrun_input::Checker;
use chaosrun_input::scalar::Text;

pub use evaluate::{MetricSeries, evaluate};
pub use query::{MetricQuery, QueryError};
pub use scrapes::Scrapes;
pub use text::MalformedLine;

#[derive(Debug, Clone, Serialize)]
pub struct Metrics {
    url: Template,
    /// Text of the PromQL query.
    expr: String,
}

/// Returns the problem of a file that contains only one of the keys `metrics` and `expr`.
pub(super) fn unpaired(there: &str, missing: &str) -> Diagnostic {
    let help = "`metrics` is the address, `expr` the query: `histogram_quantile(0.99, sum by (le) (rate(NAME_bucket[10s])))`";
    Diagnostic::error("bad_probe", format!("`{there}` needs `{missing}`")).help(help)
}

impl FromFile for Metrics {
    type Raw = Text;

    fn read(raw: &Text, at: &Pointer, shared: &SharedKeys<'_>, check: &mut Checker<'_>) -> Option<Self> {
        let Some(expr) = shared.expr else {
            check.wrong_key(at, unpaired("metrics", "expr"));
            return None;
        };
        if let Err(wrong) = MetricQuery::parse(expr) {
            let place = check.place(&shared.at.key("expr"));
            let mut problem = Diagnostic::error("bad_query", wrong.message).at(place.within(wrong.at));
            problem.help = wrong.help;
            check.problems.push(problem);
        }
        Some(Self { url: check.template(at, raw, Scope::Probe, &[])?, expr: expr.to_owned() })
    }
}

impl ProbeKind for Metrics {
    fn prepare(&self, target: &ProbeTarget<'_>) -> Result<Prepared, String> {
        let query = MetricQuery::parse(&self.expr).map_err(|error| error.message)?;
        let request = HttpRequest::new("GET", &target.render(&self.url)?, &[], None)?;
        Ok(Prepared::Ask(Arc::new(Scraped { request, query, scrapes: Mutex::default() })))
    }
}

/// Prepared `metrics:` probe of one node, with its scrapes.
#[derive(Debug)]
struct Scraped {
    request: HttpRequest,
    query: MetricQuery,
    scrapes: Mutex<Scrapes>,
}

#[async_trait]
impl ReadinessProbe for Scraped {
    async fn ask(&self, site: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure> {
        let reply = get(site, &self.request).await?;
        let (AnswerBody::Json(_, text) | AnswerBody::Text(text)) = &reply.body else { return Ok(reply) };
        if !reply.ok {
            return Ok(reply);
        }
        let mut scrapes = self.scrapes.lock().unwrap_or_else(PoisonError::into_inner);
        scrapes.push(&self.query, Instant::now(), text).map_err(|error| ProbeFailure::Told(error.to_string()))?;
        let series = evaluate(&self.query, &scrapes).map_err(ProbeFailure::Told)?;
        Ok(ProbeReply { body: body(&series), ..reply })
    }

    /// Returns true while a query over a window has fewer than two moments to compare. The next scrape then follows at the next tick.
    fn needs_another(&self) -> bool {
        self.scrapes.lock().unwrap_or_else(PoisonError::into_inner).needs_another(self.query.window())
    }
}

/// Converts the series of a query result to the body of an answer.
fn body(series: &[MetricSeries]) -> AnswerBody {
    #[derive(Serialize)]
    struct Row<'a> {
        labels: &'a std::collections::BTreeMap<String, String>,
        value: f64,
    }
    let rows: Vec<_> = series.iter().map(|one| Row { labels: &one.labels, value: one.value }).collect();
    let values: Vec<f64> = series.iter().map(|one| one.value).collect();
    AnswerBody::Rows { rows: of_serde(&rows), value: ProbeAnswer::single(&values), warnings: Vec::new() }
}
