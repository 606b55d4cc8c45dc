//! Checks of the values of a file. Each problem is collected with its place, so that one pass reports all problems.

use std::sync::LazyLock;
use std::time::Duration;

use indexmap::IndexMap;
use regex::Regex;

use super::document::{self, Document};
use super::{OneOrMany, RawCount, RawDuration, RawSize, Text, names, quantity};
use chaosrun_diagnostic::yaml;
use chaosrun_diagnostic::{Diagnostic, Pointer, SourcePlace};
use chaosrun_expr::{Expr, Scope, Template};

/// Checker of one file that is being resolved. It collects the problems found so far.
pub struct Checker<'a> {
    pub doc: &'a Document,
    pub problems: Vec<Diagnostic>,
    /// Names of the cluster's roles and nodes. `None` until the cluster is resolved.
    pub known: Option<Names>,
}

/// Names that the functions `role('...')` and `node('...')` accept in expressions.
pub struct Names {
    pub roles: Vec<String>,
    pub nodes: Vec<String>,
}

impl<'a> Checker<'a> {
    #[must_use]
    pub fn new(doc: &'a Document) -> Self {
        Self { doc, problems: Vec::new(), known: None }
    }

    /// Returns the place of the value at `pointer`.
    #[must_use]
    pub fn place(&self, pointer: &Pointer) -> SourcePlace {
        self.doc.place(pointer)
    }

    /// Adds a problem at the place of the value at `pointer`.
    pub fn wrong(&mut self, pointer: &Pointer, problem: Diagnostic) {
        let place = self.doc.place(pointer);
        self.problems.push(problem.at(place));
    }

    /// Adds a problem at the place of the key at `pointer`.
    pub fn wrong_key(&mut self, pointer: &Pointer, problem: Diagnostic) {
        let place = self.doc.key_place(pointer);
        self.problems.push(problem.at(place));
    }

    /// Adds the problem that `name` is not one of the `known` names.
    pub fn unknown<'n>(
        &mut self,
        pointer: &Pointer,
        code: &'static str,
        noun: &str,
        name: &str,
        known: impl IntoIterator<Item = &'n str> + Clone,
    ) {
        let problem = unknown(code, noun, name, known);
        self.wrong(pointer, problem);
    }

    /// Parses a duration. Returns the default if `raw` is `None` or invalid.
    pub fn duration(&mut self, pointer: &Pointer, raw: Option<&RawDuration>, default: Duration) -> Duration {
        self.maybe_duration(pointer, raw).unwrap_or(default)
    }

    /// Parses a duration. Returns `None` if `raw` is `None` or invalid.
    pub fn maybe_duration(&mut self, pointer: &Pointer, raw: Option<&RawDuration>) -> Option<Duration> {
        let raw = raw?;
        match quantity::duration(&raw.0) {
            Ok(value) => Some(value),
            Err(help) => {
                let problem = Diagnostic::error("bad_duration", format!("`{}` is not a duration", raw.0));
                self.wrong(pointer, problem.label("expected a duration such as `500ms`, `2s` or `1m 30s`").help(help));
                None
            }
        }
    }

    /// Parses a number of bytes. Returns `None` if `raw` is `None` or invalid.
    pub fn size(&mut self, pointer: &Pointer, raw: Option<&RawSize>) -> Option<u64> {
        let raw = raw?;
        let size = quantity::size(&raw.0);
        if size.is_none() {
            let problem = Diagnostic::error("bad_size", format!("`{}` is not a size", raw.0));
            self.wrong(pointer, problem.label("expected a size such as `512MiB`").help("units: B, KiB, MiB, GiB, TiB and KB, MB, GB, TB"));
        }
        size
    }

    /// Parses a number such as `200k`. Returns `None` if `raw` is `None` or invalid.
    pub fn count(&mut self, pointer: &Pointer, raw: Option<&RawCount>) -> Option<u64> {
        let raw = raw?;
        let count = quantity::count(&raw.0);
        if count.is_none() {
            let problem = Diagnostic::error("bad_count", format!("`{}` is not a number", raw.0));
            self.wrong(pointer, problem.label("expected a number such as `200k`").help("units: k = 1,000 and M = 1,000,000"));
        }
        count
    }

    /// Returns a number if it is within the range. Returns the default if `value` is `None` or outside the range.
    pub fn within(&mut self, pointer: &Pointer, value: Option<f64>, range: std::ops::RangeInclusive<f64>, default: f64) -> f64 {
        let Some(value) = value else { return default };
        if range.contains(&value) {
            return value;
        }
        let expected = if range.end().is_finite() && *range.end() < 1e9 {
            format!("expected a number from {} to {}", range.start(), range.end())
        } else {
            format!("expected a number of at least {}", range.start())
        };
        self.wrong(pointer, Diagnostic::error("out_of_range", format!("`{value}` is out of range")).label(expected));
        default
    }

    /// Compiles an expression. The expression may use the names of `scope` and the names in `known`.
    pub fn expr(&mut self, pointer: &Pointer, text: &Text, scope: Scope, known: &[String]) -> Option<Expr> {
        let place = self.place(pointer);
        self.asked_names(&text.0, &place);
        match Expr::compile(&text.0, Some(place.clone()), scope, known) {
            Ok(expr) => Some(expr),
            Err(mut problems) => {
                if let Some(cut) = comment_behind(&place) {
                    for problem in &mut problems {
                        problem.help = Some(format!("YAML takes ` #` for the start of a comment: quote the whole value: `{cut}`"));
                    }
                }
                self.problems.append(&mut problems);
                None
            }
        }
    }

    /// Checks the constant names in calls of `role()` and `node()`. Without this check, an unknown name would cause an error only at
    /// evaluation.
    fn asked_names(&mut self, text: &str, place: &SourcePlace) {
        static CALL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"\b(role|node)\(\s*['"]([^'"]*)['"]\s*\)"#).expect("a valid pattern"));
        let Some(known) = &self.known else { return };
        for call in CALL.captures_iter(text) {
            let (Some(what), Some(name)) = (call.get(1), call.get(2)) else { continue };
            let (code, names) = if what.as_str() == "role" { ("unknown_role", &known.roles) } else { ("unknown_node", &known.nodes) };
            if !names.iter().any(|known| known == name.as_str()) {
                let problem = unknown(code, what.as_str(), name.as_str(), names.iter().map(String::as_str));
                self.problems.push(problem.at(place.within(name.range())));
            }
        }
    }

    /// Compiles an expression as [`Self::expr`] does. Returns `None` if `text` is `None` or invalid.
    pub fn maybe_expr(&mut self, pointer: &Pointer, text: Option<&Text>, scope: Scope, known: &[String]) -> Option<Expr> {
        text.and_then(|text| self.expr(pointer, text, scope, known))
    }

    /// Compiles the expression of a built-in default, which is not written in any file.
    pub fn own_expr(&mut self, text: &str, scope: Scope) -> Option<Expr> {
        match Expr::compile(text, None, scope, &[]) {
            Ok(expr) => Some(expr),
            Err(mut problems) => {
                self.problems.append(&mut problems);
                None
            }
        }
    }

    /// Compiles a template. The template may use the names of `scope` and the names in `known`.
    pub fn template(&mut self, pointer: &Pointer, text: &Text, scope: Scope, known: &[String]) -> Option<Template> {
        let place = self.place(pointer);
        self.asked_names(&text.0, &place);
        match Template::compile(&text.0, Some(place), scope, known) {
            Ok(template) => Some(template),
            Err(mut problems) => {
                self.problems.append(&mut problems);
                None
            }
        }
    }

    /// Compiles a list of templates with the same scope and the same known names.
    pub fn templates(&mut self, pointer: &Pointer, texts: &[Text], scope: Scope, known: &[String]) -> Vec<Template> {
        texts.iter().enumerate().filter_map(|(at, text)| self.template(&pointer.index(at), text, scope, known)).collect()
    }

    /// Compiles the values of a map as templates with the same scope and the same known names.
    pub fn template_map(
        &mut self,
        pointer: &Pointer,
        texts: &IndexMap<String, Text>,
        scope: Scope,
        known: &[String],
    ) -> IndexMap<String, Template> {
        texts
            .iter()
            .filter_map(|(name, text)| Some((name.clone(), self.template(&pointer.key(name.as_str()), text, scope, known)?)))
            .collect()
    }

    /// Checks that the text at `pointer` is a valid regular expression.
    pub fn pattern(&mut self, pointer: &Pointer, pattern: &str) {
        if let Err(error) = Regex::new(pattern) {
            // The regex crate draws its own caret over several lines; the last line contains the message.
            let said = error.to_string();
            let last = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            self.wrong(pointer, Diagnostic::error("bad_pattern", "this is not a valid regular expression").label(last));
        }
    }

    /// Checks that a name is a valid identifier in expressions.
    pub fn identifier(&mut self, pointer: &Pointer, noun: &str, name: &str) {
        if !names::is_identifier(name) {
            let problem = Diagnostic::error("bad_name", format!("`{name}` cannot name {noun}"));
            self.wrong_key(
                pointer,
                problem.label("expected a letter or `_`, then letters, digits and `_`").help("expressions use this name"),
            );
        }
    }

    /// Checks that a name is not already a name or function of expressions.
    pub fn not_reserved(&mut self, pointer: &Pointer, name: &str) {
        if Scope::Invariant.reserves(name) {
            let problem = Diagnostic::error("bad_name", format!("`{name}` is reserved in expressions"));
            self.wrong_key(pointer, problem.label("expected another name"));
        }
    }

    /// Checks that no name occurs twice in the list at `pointer`.
    pub fn no_duplicates(&mut self, pointer: &Pointer, list: &[String]) {
        for (at, name) in list.iter().enumerate() {
            if list[..at].contains(name) {
                let problem = Diagnostic::error("duplicate_name", format!("`{name}` is listed twice"));
                self.wrong(&pointer.index(at), problem.label("already named above").help("keep one of them"));
            }
        }
    }

    /// Returns the HTTP method `raw`, or `GET` if `raw` is `None`.
    pub fn method(&mut self, pointer: &Pointer, raw: Option<&str>) -> String {
        const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        let Some(method) = raw else { return "GET".to_owned() };
        if !METHODS.contains(&method) {
            let upper = method.to_uppercase();
            let problem = unknown("unknown_word", "method", method, METHODS);
            self.wrong(
                pointer,
                if METHODS.contains(&upper.as_str()) { problem.label(format!("did you mean `{upper}`?")) } else { problem },
            );
        }
        method.to_owned()
    }
}

/// Returns the pointer of item `at` of a [`OneOrMany`]. If a single item is written without a list, this is the pointer of the whole value.
pub fn item_of<T>(doc: &Document, pointer: &Pointer, list: &OneOrMany<T>, at: usize) -> Pointer {
    let written_as_list = document::get(&doc.value, pointer).is_some_and(serde_json::Value::is_array);
    if written_as_list || list.0.len() > 1 { pointer.index(at) } else { pointer.clone() }
}

/// Creates the problem of an unknown name. The problem lists the known names and suggests the closest one.
pub fn unknown<'n>(code: &'static str, noun: &str, name: &str, known: impl IntoIterator<Item = &'n str> + Clone) -> Diagnostic {
    let mut problem = Diagnostic::error(code, format!("unknown {noun} `{name}`"));
    problem.label = names::closest(name, known.clone()).map(|near| format!("did you mean `{near}`?"));
    let listed = names::listed(known);
    if listed.is_empty() { problem.help(format!("no {noun} is declared")) } else { problem.help(format!("known here: {listed}")) }
}

/// Returns the whole value in quotes if YAML read ` #` in the value as the start of a comment.
fn comment_behind(place: &SourcePlace) -> Option<String> {
    let found = yaml::places::Places::scan(&place.file.text).ok()?.find(&place.pointer)?;
    let rest = place.file.text.get(found.value.end..)?.lines().next()?;
    let plain = matches!(found.scalar, Some((_, yaml::places::Style::Plain)));
    (plain && rest.starts_with(" #")).then(|| yaml::quoted(&format!("{}{}", &place.file.text[found.value], rest.trim_end())))
}
