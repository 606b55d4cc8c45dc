//! Queries of `metrics:` probes: the supported subset of PromQL, converted from the syntax tree of the parser.

use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use promql_parser::label::{METRIC_NAME, Matcher};
use promql_parser::parser::{self, AggregateExpr, BinaryExpr, Call, LabelModifier, VectorMatchCardinality, VectorSelector};
use regex::{Captures, Regex};

/// Validated query: a tree of PromQL expressions.
#[derive(Debug, Clone)]
pub enum MetricQuery {
    Number(f64),
    Select(Selector),
    /// Increase of the selected counters over the window.
    Increase(Selector, Duration),
    /// Increase per second of the selected counters over the window.
    Rate(Selector, Duration),
    Aggregate(Aggregate, LabelGrouping, Box<MetricQuery>),
    HistogramQuantile(f64, Box<MetricQuery>),
    Apply(MetricFunction, Box<MetricQuery>),
    Binary(Box<MetricQuery>, MetricOperator, LabelGrouping, Box<MetricQuery>),
}

/// Selector of the series of one metric.
#[derive(Debug, Clone)]
pub struct Selector {
    pub name: String,
    pub matchers: Vec<Matcher>,
}

/// Labels that group or pair series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelGrouping {
    Only(Vec<String>),
    Except(Vec<String>),
}

impl LabelGrouping {
    #[must_use]
    pub fn keeps(&self, label: &str) -> bool {
        match self {
            Self::Only(labels) => labels.iter().any(|one| one == label),
            Self::Except(labels) => !labels.iter().any(|one| one == label),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    Sum,
    Min,
    Max,
    Avg,
    Count,
}

/// Function of PromQL that converts each number of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricFunction {
    Negate,
    Abs,
    Ceil,
    Floor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricOperator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
}

/// Problem of a query, with its byte range in the text of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    pub message: String,
    pub at: Range<usize>,
    pub help: Option<String>,
}

/// Maximum nesting of parentheses, and maximum number of operators. The limit is needed because the syntax tree is processed recursively.
const MOST: usize = 100;

const KNOWN: &str = "known: rate, increase, histogram_quantile, sum, min, max, avg, count (each with `by` or `without`), abs, ceil, floor, \
                     + - * / % ^";

impl MetricQuery {
    /// Parses a PromQL query. For a query in the former query language, the error contains the equivalent PromQL.
    ///
    /// # Errors
    /// Returns the first problem with its place, such as an unsupported part of the query.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        Self::promql(text).map_err(|mut error| {
            if let Some(new) = translated(text).filter(|new| Self::promql(new).is_ok()) {
                error = Compiler { text }.wrong("this is the query language before PromQL", None);
                error.help = Some(format!("write `{new}`"));
            }
            error
        })
    }

    fn promql(text: &str) -> Result<Self, QueryError> {
        let compiler = Compiler { text };
        if let Some(at) = too_much(text) {
            return Err(QueryError { message: "this query is nested too deeply".into(), at: at..text.len(), help: None });
        }
        if let Some(at) = too_long(text) {
            return Err(QueryError {
                message: "this time is too long".into(),
                at,
                help: Some("expected a time such as `10s` or `5m`".into()),
            });
        }
        let parsed = parser::parse(text).map_err(|said| {
            let said = said.lines().next().unwrap_or_default().trim_end_matches('.').to_owned();
            compiler.wrong(if said == "invalid promql query" { "this is not PromQL".into() } else { said }, None)
        })?;
        compiler.query(&parsed)
    }

    /// Returns the names of the metrics that the query reads.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Number(_) => Vec::new(),
            Self::Select(selector) | Self::Rate(selector, _) | Self::Increase(selector, _) => vec![&selector.name],
            Self::Aggregate(_, _, inner) | Self::HistogramQuantile(_, inner) | Self::Apply(_, inner) => inner.names(),
            Self::Binary(left, _, _, right) => [left.names(), right.names()].concat(),
        }
    }

    /// Returns the longest time window in the query.
    #[must_use]
    pub fn window(&self) -> Duration {
        match self {
            Self::Number(_) | Self::Select(_) => Duration::ZERO,
            Self::Rate(_, window) | Self::Increase(_, window) => *window,
            Self::Aggregate(_, _, inner) | Self::HistogramQuantile(_, inner) | Self::Apply(_, inner) => inner.window(),
            Self::Binary(left, _, _, right) => left.window().max(right.window()),
        }
    }

    /// Returns true if histogram buckets in the result still have the label `le`.
    fn keeps_bounds(&self) -> bool {
        match self {
            Self::Number(_) | Self::Select(_) | Self::Rate(..) | Self::Increase(..) => true,
            Self::Aggregate(_, labels, inner) => labels.keeps("le") && inner.keeps_bounds(),
            Self::HistogramQuantile(..) => false,
            Self::Apply(_, inner) => inner.keeps_bounds(),
            Self::Binary(left, _, labels, right) => labels.keeps("le") && left.keeps_bounds() && right.keeps_bounds(),
        }
    }
}

struct Compiler<'a> {
    text: &'a str,
}

type Compiled<T> = Result<T, QueryError>;

impl Compiler<'_> {
    /// Returns an error at the first occurrence of `word` in the query, or at the whole query.
    fn wrong(&self, message: impl Into<String>, word: Option<&str>) -> QueryError {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        let found = word.filter(|word| !word.is_empty()).and_then(|word| {
            let is_word = word.chars().all(part);
            let whole = |at: &usize| {
                let before = self.text[..*at].chars().next_back().is_some_and(part);
                let after = self.text[at + word.len()..].chars().next().is_some_and(part);
                !is_word || !before && !after
            };
            self.text.match_indices(word).map(|(at, _)| at).find(whole).map(|at| at..at + word.len())
        });
        QueryError { message: message.into(), at: found.unwrap_or(0..self.text.len()), help: None }
    }

    fn refused(&self, what: &str) -> QueryError {
        QueryError { help: Some(KNOWN.into()), ..self.wrong(format!("`{what}` is not supported in `metrics` probes"), Some(what)) }
    }

    fn query(&self, expr: &parser::Expr) -> Compiled<MetricQuery> {
        Ok(match expr {
            parser::Expr::NumberLiteral(number) => MetricQuery::Number(number.val),
            parser::Expr::Paren(paren) => self.query(&paren.expr)?,
            parser::Expr::Unary(unary) => MetricQuery::Apply(MetricFunction::Negate, Box::new(self.query(&unary.expr)?)),
            parser::Expr::VectorSelector(selector) => MetricQuery::Select(self.selector(selector)?),
            parser::Expr::Aggregate(aggregate) => self.aggregate(aggregate)?,
            parser::Expr::Call(call) => self.call(call)?,
            parser::Expr::Binary(binary) => self.binary(binary)?,
            parser::Expr::MatrixSelector(matrix) => {
                let name = matrix.vs.name.as_deref();
                let problem = self.wrong("a range of samples is no value", name);
                return Err(QueryError { help: Some("use `rate(NAME[10s])` or `increase(NAME[10s])`".into()), ..problem });
            }
            parser::Expr::Subquery(_) => return Err(self.refused("subquery")),
            parser::Expr::StringLiteral(_) => return Err(self.wrong("a text is no value", None)),
            parser::Expr::Extension(_) => return Err(self.refused("extension")),
        })
    }

    fn selector(&self, selector: &VectorSelector) -> Compiled<Selector> {
        let VectorSelector { name, matchers, offset, at } = selector;
        let by_name = matchers.matchers.iter().any(|matcher| matcher.name == METRIC_NAME);
        let Some(name) = name.clone().filter(|_| !by_name) else { return Err(self.wrong("a selector needs the name of a metric", None)) };
        if offset.is_some() {
            return Err(self.refused("offset"));
        }
        if at.is_some() {
            return Err(self.refused("@"));
        }
        if !matchers.or_matchers.is_empty() {
            return Err(self.refused("or"));
        }
        Ok(Selector { name, matchers: matchers.matchers.clone() })
    }

    fn labels(&self, modifier: Option<&LabelModifier>) -> Compiled<Option<LabelGrouping>> {
        let labels = modifier.map(|modifier| match modifier {
            LabelModifier::Include(labels) => LabelGrouping::Only(labels.labels.clone()),
            LabelModifier::Exclude(labels) => LabelGrouping::Except(labels.labels.clone()),
        });
        if let Some(LabelGrouping::Only(names) | LabelGrouping::Except(names)) = &labels
            && names.iter().any(|name| name == METRIC_NAME)
        {
            return Err(self.refused(METRIC_NAME));
        }
        Ok(labels)
    }

    fn aggregate(&self, aggregate: &AggregateExpr) -> Compiled<MetricQuery> {
        let name = aggregate.op.to_string();
        let how = match name.as_str() {
            "sum" => Aggregate::Sum,
            "min" => Aggregate::Min,
            "max" => Aggregate::Max,
            "avg" => Aggregate::Avg,
            "count" => Aggregate::Count,
            _ => return Err(self.refused(&name)),
        };
        let labels = self.labels(aggregate.modifier.as_ref())?.unwrap_or(LabelGrouping::Only(Vec::new()));
        Ok(MetricQuery::Aggregate(how, labels, Box::new(self.query(&aggregate.expr)?)))
    }

    fn call(&self, call: &Call) -> Compiled<MetricQuery> {
        let name = call.func.name;
        let arguments: Vec<&parser::Expr> = call.args.args.iter().map(|argument| &**argument).collect();
        let applied = |function, inner: &parser::Expr| Ok(MetricQuery::Apply(function, Box::new(self.query(inner)?)));
        match (name, arguments.as_slice()) {
            ("rate" | "increase", [parser::Expr::MatrixSelector(matrix)]) => {
                let selector = self.selector(&matrix.vs)?;
                if matrix.range.is_zero() {
                    return Err(self.wrong("the window is empty", Some(name)));
                }
                Ok(if name == "rate" { MetricQuery::Rate(selector, matrix.range) } else { MetricQuery::Increase(selector, matrix.range) })
            }
            ("rate" | "increase", [parser::Expr::Subquery(_)]) => Err(self.refused("subquery")),
            ("histogram_quantile", [quantile, buckets]) => self.histogram_quantile(quantile, buckets),
            ("abs", [inner]) => applied(MetricFunction::Abs, inner),
            ("ceil", [inner]) => applied(MetricFunction::Ceil, inner),
            ("floor", [inner]) => applied(MetricFunction::Floor, inner),
            _ => Err(self.refused(name)),
        }
    }

    fn histogram_quantile(&self, quantile: &parser::Expr, buckets: &parser::Expr) -> Compiled<MetricQuery> {
        let MetricQuery::Number(quantile) = self.query(quantile)? else {
            return Err(self.wrong("a quantile is a number", Some("histogram_quantile")));
        };
        if !(0.0..=1.0).contains(&quantile) {
            return Err(self.wrong(format!("quantile `{quantile}` is not between 0 and 1"), Some(&quantile.to_string())));
        }
        let buckets = self.query(buckets)?;
        if let Some(name) = buckets.names().into_iter().find(|name| !name.ends_with("_bucket")) {
            let problem = self.wrong(format!("`{name}` is not a histogram's buckets"), Some(name));
            return Err(QueryError { help: Some(format!("a histogram `{name}` has its buckets in `{name}_bucket`")), ..problem });
        }
        if !buckets.keeps_bounds() {
            let problem = self.wrong("`histogram_quantile` needs the label `le` of the buckets", Some("histogram_quantile"));
            return Err(QueryError { help: Some("write `sum by (le) (...)`".into()), ..problem });
        }
        Ok(MetricQuery::HistogramQuantile(quantile, Box::new(buckets)))
    }

    fn binary(&self, binary: &BinaryExpr) -> Compiled<MetricQuery> {
        let name = binary.op.to_string();
        let operator = match name.as_str() {
            "+" => MetricOperator::Add,
            "-" => MetricOperator::Subtract,
            "*" => MetricOperator::Multiply,
            "/" => MetricOperator::Divide,
            "%" => MetricOperator::Modulo,
            "^" => MetricOperator::Power,
            _ if binary.op.is_comparison_operator() => {
                let help = "compare in an expression over the probe: `item.value < 1`";
                return Err(QueryError { help: Some(help.into()), ..self.refused(&name) });
            }
            _ => return Err(self.refused(&name)),
        };
        let mut labels = LabelGrouping::Except(Vec::new());
        if let Some(modifier) = &binary.modifier {
            match &modifier.card {
                VectorMatchCardinality::ManyToOne(_) => return Err(self.refused("group_left")),
                VectorMatchCardinality::OneToMany(_) => return Err(self.refused("group_right")),
                VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => {}
            }
            if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
                return Err(self.refused("fill"));
            }
            labels = self.labels(modifier.matching.as_ref())?.unwrap_or(labels);
        }
        Ok(MetricQuery::Binary(Box::new(self.query(&binary.lhs)?), operator, labels, Box::new(self.query(&binary.rhs)?)))
    }
}

/// Returns the position of the first number without a unit that is no reasonable number of seconds, in a range or after `offset`. The
/// parser panics on such a number.
fn too_long(text: &str) -> Option<Range<usize>> {
    static TIME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?i)(?:[\[:]|\boffset\b)[\s+-]*([0-9.][\w.]*(?:[+-]\d+)?)").ok());
    const LONGEST: f64 = 1e9;
    let mut times = TIME.as_ref()?.captures_iter(text).filter_map(|found| found.get(1));
    let is_long = |time: &str| match time.strip_prefix("0x").or_else(|| time.strip_prefix("0X")) {
        Some(digits) => digits.len() > 7,
        None => time.parse::<f64>().is_ok_and(|seconds| seconds > LONGEST),
    };
    times.find(|time| is_long(time.as_str())).map(|time| time.range())
}

/// Returns the byte position at which the query exceeds the limit [`MOST`] for nested parentheses or operators.
fn too_much(text: &str) -> Option<usize> {
    let (mut depth, mut operators) = (0_usize, 0);
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, '+' | '-' | '*' | '/' | '%' | '^' | '=' | '<' | '>') => operators += 1,
            (None, _) => {}
        }
        if depth > MOST || operators > MOST {
            return Some(at);
        }
    }
    // Set operators consist of letters, so they are counted as words.
    (text.split_whitespace().filter(|word| matches!(word.to_lowercase().as_str(), "and" | "or" | "unless" | "atan2")).count() > MOST)
        .then_some(0)
}

/// Translates a query of the former query language to PromQL. In that language, `quantile(0.99, rate(h, 10s))` meant
/// `histogram_quantile(0.99, sum by (le) (rate(h_bucket[10s])))`.
fn translated(text: &str) -> Option<String> {
    let quantile = Regex::new(r"(^|[^\w:])quantile\(\s*([0-9.]+)\s*,").ok()?;
    let Some(found) = quantile.captures(text) else { return Some(ranges(text, "")) };
    let (whole, before) = (found.get(0)?, found.get(1)?);
    let inner = &text[whole.end()..];
    let mut depth = 1_usize;
    let end = inner.char_indices().find_map(|(at, c)| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })?;
    let buckets = match Regex::new(r"^[A-Za-z_:][\w:]*").ok()?.find(inner[..end].trim()) {
        // In this case the quantile contains only a selector.
        Some(name) if !inner[..end].contains('(') => {
            let trimmed = inner[..end].trim();
            format!("{}{}{}", name.as_str(), suffix(name.as_str()), &trimmed[name.end()..])
        }
        _ => ranges(inner[..end].trim(), "_bucket"),
    };
    let head = ranges(&text[..before.end()], "");
    let rest = translated(&inner[end + 1..])?;
    Some(format!("{head}histogram_quantile({}, sum by (le) ({buckets})){rest}", &found[2]))
}

fn suffix(name: &str) -> &'static str {
    if name.ends_with("_bucket") { "" } else { "_bucket" }
}

/// Rewrites `rate(NAME, WINDOW)` as `rate(NAME[WINDOW])`, with `_bucket` appended to the name if `bucket` is not empty.
fn ranges(text: &str, bucket: &str) -> String {
    let old = Regex::new(r"\b(rate|increase)\(\s*([A-Za-z_:][\w:]*)\s*(\{[^}]*\})?\s*,\s*([0-9]+[0-9a-z]*)\s*\)").expect("a valid pattern");
    let new = |found: &Captures<'_>| {
        let bucket = if bucket.is_empty() { "" } else { suffix(&found[2]) };
        let matchers = found.get(3).map_or("", |matchers| matchers.as_str());
        format!("{}({}{bucket}{matchers}[{}])", &found[1], &found[2], &found[4])
    };
    old.replace_all(text, new).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_times_are_refused() {
        for text in [
            "rate(x[1e300])",
            "rate(x[1e20])",
            "rate(x[1.5e+300])",
            "x offset 1e300",
            "x offset -1e300",
            "x[5m:1e300]",
            "rate(x[0xffffffffffffffffff])",
            "rate(x[99999999999999999999999s])",
        ] {
            assert!(MetricQuery::parse(text).is_err(), "{text}");
        }
        assert!(MetricQuery::parse("rate(x[300])").is_ok());
        assert!(MetricQuery::parse("x + 1e300").is_ok());
    }

    #[test]
    fn query_names_the_metrics_it_reads_and_its_window() {
        let text =
            "histogram_quantile(0.99, sum by (le) (rate(x_seconds_bucket{type=~\"raw_.*\", a!='b'}[10s]))) * 1000 + sum without (a) (y)";
        let query = MetricQuery::parse(text).unwrap();
        assert_eq!(query.names(), ["x_seconds_bucket", "y"]);
        assert_eq!(query.window(), Duration::from_secs(10));
    }

    #[test]
    fn unsupported_syntax_is_refused_by_name_with_its_place() {
        for (text, message, at) in [
            ("1 + topk(3, x)", "`topk` is not supported in `metrics` probes", 4..8),
            ("irate(x[10s])", "`irate` is not supported in `metrics` probes", 0..5),
            ("avg_over_time(x[10s])", "`avg_over_time` is not supported in `metrics` probes", 0..13),
            ("quantile by (a) (0.5, x)", "`quantile` is not supported in `metrics` probes", 0..8),
            ("x offset 5m", "`offset` is not supported in `metrics` probes", 2..8),
            ("x @ 5", "`@` is not supported in `metrics` probes", 2..3),
            ("rate(x[10s:1s])", "`subquery` is not supported in `metrics` probes", 0..15),
            ("x > 1", "`>` is not supported in `metrics` probes", 2..3),
            ("x and y", "`and` is not supported in `metrics` probes", 2..5),
            ("x / on (a) group_left y", "`group_left` is not supported in `metrics` probes", 11..21),
            ("{a='b'}", "a selector needs the name of a metric", 0..7),
            ("x[10s]", "a range of samples is no value", 0..1),
            ("histogram_quantile(2, x_bucket)", "quantile `2` is not between 0 and 1", 19..20),
            ("histogram_quantile(0.9, rate(x[1s]))", "`x` is not a histogram's buckets", 29..30),
            ("histogram_quantile(0.9, sum(x_bucket))", "`histogram_quantile` needs the label `le` of the buckets", 0..18),
            ("x y", "this is not PromQL", 0..3),
        ] {
            let error = MetricQuery::parse(text).unwrap_err();
            assert_eq!((error.message.as_str(), error.at), (message, at), "{text}");
        }
        for text in ["", "rat(x[10s])", "x{a=b}", "x{a=~\"(\"}", "sum(", "rate(x)"] {
            assert!(MetricQuery::parse(text).is_err(), "{text}");
        }
        for deep in ["(".repeat(100_000), "-".repeat(100_000) + "1", "1".to_owned() + &"+1".repeat(100_000), "1 or ".repeat(100_000) + "1"]
        {
            assert_eq!(MetricQuery::parse(&deep).unwrap_err().message, "this query is nested too deeply");
        }
    }

    #[test]
    fn former_query_language_is_refused_with_a_translation() {
        for (old, new) in [
            ("quantile(0.99, rate(h, 3s))", "histogram_quantile(0.99, sum by (le) (rate(h_bucket[3s])))"),
            ("quantile(0.5, h)", "histogram_quantile(0.5, sum by (le) (h_bucket))"),
            (
                "1 + quantile(0.9, rate(h_bucket{type=~\"raw_.*\"}, 1m)) * 1000",
                "1 + histogram_quantile(0.9, sum by (le) (rate(h_bucket{type=~\"raw_.*\"}[1m]))) * 1000",
            ),
            ("max(increase(c{a='b'}, 20s))", "max(increase(c{a='b'}[20s]))"),
            (
                "quantile(0.9, rate(a, 1s)) / quantile(0.5, rate(b, 1s))",
                "histogram_quantile(0.9, sum by (le) (rate(a_bucket[1s]))) / histogram_quantile(0.5, sum by (le) (rate(b_bucket[1s])))",
            ),
        ] {
            let error = MetricQuery::parse(old).unwrap_err();
            assert_eq!(
                (error.message.as_str(), error.help),
                ("this is the query language before PromQL", Some(format!("write `{new}`"))),
                "{old}"
            );
            assert!(MetricQuery::parse(new).is_ok(), "{new}");
        }
    }
}
