//! The small query language of `metrics:` probes: selectors, `rate`, `increase`, aggregations, `quantile`, arithmetic.
//!
//! ```text
//! quantile(0.99, rate(tikv_grpc_msg_duration_seconds{type=~"raw_.*"}, 10s))
//! sum(tikv_store_size_bytes{type="used"}) / sum(tikv_store_size_bytes{type="capacity"})
//! ```
//! `quantile` interpolates within buckets as Prometheus' `histogram_quantile` does.

use std::ops::Range;
use std::time::Duration;

use regex::Regex;

#[derive(Debug, Clone)]
pub enum Query {
    Number(f64),
    Select(Selector),
    /// Per second over the window.
    Rate(Selector, Duration),
    /// Over the window.
    Increase(Selector, Duration),
    Aggregate(Aggregate, Vec<String>, Box<Query>),
    Quantile(f64, Box<Query>),
    Binary(Box<Query>, Operator, Box<Query>),
}

#[derive(Debug, Clone)]
pub struct Selector {
    pub name: String,
    pub matchers: Vec<(String, Matcher)>,
}

#[derive(Debug, Clone)]
pub enum Matcher {
    Is(String),
    IsNot(String),
    Like(Regex),
    NotLike(Regex),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    Sum,
    Min,
    Max,
    Avg,
    Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// What is wrong with a query, and where in its text (bytes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    pub message: String,
    pub at: Range<usize>,
    pub help: Option<String>,
}

impl Query {
    /// # Errors
    /// The first problem, with its place.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let mut parser = Parser { text, at: 0, depth: 0 };
        let query = parser.sum()?;
        parser.space();
        if parser.at < text.len() {
            return Err(parser.error("unexpected text after the query", 1));
        }
        Ok(query)
    }

    /// Metric families the query reads.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Number(_) => Vec::new(),
            Self::Select(selector) | Self::Rate(selector, _) | Self::Increase(selector, _) => vec![&selector.name],
            Self::Aggregate(_, _, inner) | Self::Quantile(_, inner) => inner.names(),
            Self::Binary(left, _, right) => [left.names(), right.names()].concat(),
        }
    }

    /// The longest window any part looks back.
    #[must_use]
    pub fn window(&self) -> Duration {
        match self {
            Self::Number(_) | Self::Select(_) => Duration::ZERO,
            Self::Rate(_, window) | Self::Increase(_, window) => *window,
            Self::Aggregate(_, _, inner) | Self::Quantile(_, inner) => inner.window(),
            Self::Binary(left, _, right) => left.window().max(right.window()),
        }
    }
}

/// Parentheses deeper than this are refused.
const DEPTH: usize = 64;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, message: impl Into<String>, length: usize) -> QueryError {
        let start = self.at.min(self.text.len());
        let mut end = (start + length).min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        QueryError { message: message.into(), at: start..end, help: None }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, token: char) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len_utf8();
        }
        found
    }

    fn expect(&mut self, token: char) -> Result<(), QueryError> {
        if self.eat(token) { Ok(()) } else { Err(self.error(format!("expected `{token}`"), 1)) }
    }

    fn word(&mut self) -> &'a str {
        self.space();
        let end = self.rest().find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(self.rest().len());
        let word = &self.rest()[..end];
        self.at += end;
        word
    }

    fn sum(&mut self) -> Result<Query, QueryError> {
        let mut left = self.product()?;
        loop {
            let operator = if self.eat('+') {
                Operator::Add
            } else if self.eat('-') {
                Operator::Subtract
            } else {
                return Ok(left);
            };
            left = Query::Binary(Box::new(left), operator, Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Query, QueryError> {
        let mut left = self.term()?;
        loop {
            let operator = if self.eat('*') {
                Operator::Multiply
            } else if self.eat('/') {
                Operator::Divide
            } else {
                return Ok(left);
            };
            left = Query::Binary(Box::new(left), operator, Box::new(self.term()?));
        }
    }

    fn term(&mut self) -> Result<Query, QueryError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error("nested too deeply", 1));
        }
        let term = self.term_inner();
        self.depth -= 1;
        term
    }

    fn term_inner(&mut self) -> Result<Query, QueryError> {
        if self.eat('(') {
            let inner = self.sum()?;
            self.expect(')')?;
            return Ok(inner);
        }
        self.space();
        let start = self.at;
        if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(Query::Number(self.number()?));
        }
        let word = self.word();
        let aggregate = match word {
            "sum" => Some(Aggregate::Sum),
            "min" => Some(Aggregate::Min),
            "max" => Some(Aggregate::Max),
            "avg" => Some(Aggregate::Avg),
            "count" => Some(Aggregate::Count),
            _ => None,
        };
        if let Some(aggregate) = aggregate {
            let by = self.by()?;
            self.expect('(')?;
            let inner = self.sum()?;
            self.expect(')')?;
            return Ok(Query::Aggregate(aggregate, by, Box::new(inner)));
        }
        match word {
            "" => Err(self.error("expected a metric name, a number or a function", 1)),
            "rate" | "increase" => {
                self.expect('(')?;
                let selector = self.selector()?;
                self.expect(',')?;
                let window = self.window()?;
                self.expect(')')?;
                Ok(if word == "rate" { Query::Rate(selector, window) } else { Query::Increase(selector, window) })
            }
            "quantile" => {
                self.expect('(')?;
                self.space();
                let place = self.at;
                let q = self.number()?;
                if !(0.0..=1.0).contains(&q) {
                    return Err(QueryError { message: format!("quantile `{q}` is not between 0 and 1"), at: place..self.at, help: None });
                }
                self.expect(',')?;
                let inner = self.sum()?;
                self.expect(')')?;
                Ok(Query::Quantile(q, Box::new(inner)))
            }
            name if self.rest().trim_start().starts_with('(') => Err(QueryError {
                message: format!("no function `{name}`"),
                at: start..start + name.len(),
                help: Some("known: rate, increase, quantile, sum, min, max, avg, count".into()),
            }),
            _ => {
                self.at = start;
                Ok(Query::Select(self.selector()?))
            }
        }
    }

    fn by(&mut self) -> Result<Vec<String>, QueryError> {
        let start = self.at;
        if self.word() != "by" {
            self.at = start;
            return Ok(Vec::new());
        }
        self.expect('(')?;
        let mut labels = Vec::new();
        loop {
            match self.word() {
                "" => return Err(self.error("expected a label", 1)),
                label => labels.push(label.to_owned()),
            }
            if !self.eat(',') {
                self.expect(')')?;
                return Ok(labels);
            }
        }
    }

    fn number(&mut self) -> Result<f64, QueryError> {
        self.space();
        let end = self.rest().find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(self.rest().len());
        let number = self.rest()[..end].parse().map_err(|_| self.error("expected a number", end.max(1)))?;
        self.at += end;
        Ok(number)
    }

    fn window(&mut self) -> Result<Duration, QueryError> {
        self.space();
        let end = self.rest().find([')', ',', ' ']).unwrap_or(self.rest().len());
        let text = &self.rest()[..end];
        let window = humantime::parse_duration(text).ok().filter(|window| !window.is_zero());
        let window = window.ok_or_else(|| self.error(format!("`{text}` is not a duration like `10s`"), end.max(1)))?;
        self.at += end;
        Ok(window)
    }

    fn selector(&mut self) -> Result<Selector, QueryError> {
        let name = self.word();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.error("expected a metric name", 1));
        }
        let mut matchers = Vec::new();
        if self.eat('{') {
            while !self.eat('}') {
                matchers.push(self.matcher()?);
                if !self.eat(',') {
                    self.expect('}')?;
                    break;
                }
            }
        }
        Ok(Selector { name: name.to_owned(), matchers })
    }

    fn matcher(&mut self) -> Result<(String, Matcher), QueryError> {
        let label = self.word().to_owned();
        if label.is_empty() {
            return Err(self.error("expected a label", 1));
        }
        self.space();
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| self.rest().starts_with(operator));
        let operator = operator.ok_or_else(|| self.error("expected `=`, `!=`, `=~` or `!~`", 1))?;
        self.at += operator.len();
        self.space();
        let quote = self.rest().chars().next().filter(|c| matches!(c, '"' | '\''));
        let quote = quote.ok_or_else(|| self.error("expected a quoted text", 1))?;
        let body = &self.rest()[1..];
        let end = body.find(quote).ok_or_else(|| self.error("the quoted text does not end", 1))?;
        let text = &body[..end];
        let matcher = match operator {
            "=" => Matcher::Is(text.to_owned()),
            "!=" => Matcher::IsNot(text.to_owned()),
            _ => {
                let pattern = Regex::new(&format!("^(?:{text})$")).map_err(|_| self.error("not a regular expression", end + 2))?;
                if operator == "=~" { Matcher::Like(pattern) } else { Matcher::NotLike(pattern) }
            }
        };
        self.at += end + 2;
        Ok((label, matcher))
    }
}

impl Matcher {
    /// A missing label counts as empty, as in Prometheus.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Is(wanted) => value == wanted,
            Self::IsNot(unwanted) => value != unwanted,
            Self::Like(pattern) => pattern.is_match(value),
            Self::NotLike(pattern) => !pattern.is_match(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_what_it_reads_and_how_far_back() {
        let query = Query::parse("quantile(0.99, rate(x_seconds{type=~\"raw_.*\", a!='b'}, 10s)) * 1000 + sum by (le) (y)").unwrap();
        assert_eq!(query.names(), ["x_seconds", "y"]);
        assert_eq!(query.window(), Duration::from_secs(10));
    }

    #[test]
    fn problems_have_their_place() {
        for (text, message, at) in [
            ("rat(x, 10s)", "no function `rat`", 0..3),
            ("rate(x, 10)", "`10` is not a duration like `10s`", 8..10),
            ("quantile(2, x)", "quantile `2` is not between 0 and 1", 9..10),
            ("x{a=b}", "expected a quoted text", 4..5),
            ("x{a=~\"(\"}", "not a regular expression", 5..8),
            ("x y", "unexpected text after the query", 2..3),
            ("", "expected a metric name, a number or a function", 0..0),
        ] {
            let error = Query::parse(text).unwrap_err();
            assert_eq!((error.message.as_str(), error.at), (message, at), "{text}");
        }
        assert!(Query::parse(&"(".repeat(100_000)).is_err());
    }
}
