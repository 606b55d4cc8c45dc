//! From the raw types to the model: pure, and collecting every problem in one go. Each function gives the best model
//! it can beside the problems, so that what depends on it can be checked too; `load` refuses the whole when there is
//! any problem.

mod action;
mod autopsy;
mod campaign;
mod chaos;
mod cluster;
mod fault;
mod judge;
mod link;
mod probe;
mod program;
mod provider;
pub mod quantity;
mod scenario;
mod scoring;
mod target;
mod variant;
mod workload;

use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;

pub use action::unfit;
pub use autopsy::autopsy;
pub use campaign::campaign;
pub use chaos::alone;
pub(super) use cluster::stem;
pub use cluster::{Form, cluster};
pub use fault::Ground;
pub use judge::judge;
pub use program::brought;
pub use provider::prompts;
pub use scenario::{DEFAULT_VARIANT, Found, Surroundings, missing_variant, scenario};
pub use scoring::scoring;
pub use variant::{FAULT_CLASSES, variant};

use super::document::Document;
use super::names;
use super::raw::{OneOrMany, RawCount, RawDuration, RawSize, Text};
use super::yaml;
use crate::diagnostic::{Diagnostic, Place, Pointer};
use crate::expr::{Expr, Scope, Template};

/// One file being resolved, and what is wrong with it so far.
struct Checker<'a> {
    doc: &'a Document,
    problems: Vec<Diagnostic>,
    /// Roles and nodes of the cluster, once they are known.
    known: Option<Names>,
}

/// Names that `role('...')` and `node('...')` may ask for.
struct Names {
    roles: Vec<String>,
    nodes: Vec<String>,
}

impl<'a> Checker<'a> {
    fn new(doc: &'a Document) -> Self {
        Self { doc, problems: Vec::new(), known: None }
    }

    fn place(&self, pointer: &Pointer) -> Place {
        self.doc.place(pointer)
    }

    /// A problem of the value at `pointer`.
    fn wrong(&mut self, pointer: &Pointer, problem: Diagnostic) {
        let place = self.doc.place(pointer);
        self.problems.push(problem.at(place));
    }

    /// A problem of the key at `pointer`.
    fn wrong_key(&mut self, pointer: &Pointer, problem: Diagnostic) {
        let place = self.doc.key_place(pointer);
        self.problems.push(problem.at(place));
    }

    /// A name that leads nowhere.
    fn unknown<'n>(
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

    fn duration(&mut self, pointer: &Pointer, raw: Option<&RawDuration>, default: Duration) -> Duration {
        self.maybe_duration(pointer, raw).unwrap_or(default)
    }

    fn maybe_duration(&mut self, pointer: &Pointer, raw: Option<&RawDuration>) -> Option<Duration> {
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

    fn size(&mut self, pointer: &Pointer, raw: Option<&RawSize>) -> Option<u64> {
        let raw = raw?;
        let size = quantity::size(&raw.0);
        if size.is_none() {
            let problem = Diagnostic::error("bad_size", format!("`{}` is not a size", raw.0));
            self.wrong(pointer, problem.label("expected a size such as `512MiB`").help("units: B, KiB, MiB, GiB, TiB and KB, MB, GB, TB"));
        }
        size
    }

    fn count(&mut self, pointer: &Pointer, raw: Option<&RawCount>) -> Option<u64> {
        let raw = raw?;
        let count = quantity::count(&raw.0);
        if count.is_none() {
            let problem = Diagnostic::error("bad_count", format!("`{}` is not a number", raw.0));
            self.wrong(pointer, problem.label("expected a number such as `200k`").help("units: k = 1,000 and M = 1,000,000"));
        }
        count
    }

    /// A number within a range; outside of it the default stands in.
    fn within(&mut self, pointer: &Pointer, value: Option<f64>, range: std::ops::RangeInclusive<f64>, default: f64) -> f64 {
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

    fn expr(&mut self, pointer: &Pointer, text: &Text, scope: Scope, known: &[String]) -> Option<Expr> {
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

    /// A name that `role()` or `node()` asks for would only be found missing when the expression is evaluated.
    fn asked_names(&mut self, text: &str, place: &Place) {
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

    fn maybe_expr(&mut self, pointer: &Pointer, text: Option<&Text>, scope: Scope, known: &[String]) -> Option<Expr> {
        text.and_then(|text| self.expr(pointer, text, scope, known))
    }

    /// An expression of ours, where the file gives none.
    fn own_expr(&mut self, text: &str, scope: Scope) -> Option<Expr> {
        match Expr::compile(text, None, scope, &[]) {
            Ok(expr) => Some(expr),
            Err(mut problems) => {
                self.problems.append(&mut problems);
                None
            }
        }
    }

    fn template(&mut self, pointer: &Pointer, text: &Text, scope: Scope, known: &[String]) -> Option<Template> {
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

    fn templates(&mut self, pointer: &Pointer, texts: &[Text], scope: Scope, known: &[String]) -> Vec<Template> {
        texts.iter().enumerate().filter_map(|(at, text)| self.template(&pointer.index(at), text, scope, known)).collect()
    }

    fn template_map(
        &mut self,
        pointer: &Pointer,
        texts: &indexmap::IndexMap<String, Text>,
        scope: Scope,
        known: &[String],
    ) -> indexmap::IndexMap<String, Template> {
        texts
            .iter()
            .filter_map(|(name, text)| Some((name.clone(), self.template(&pointer.key(name.as_str()), text, scope, known)?)))
            .collect()
    }

    fn pattern(&mut self, pointer: &Pointer, pattern: &str) {
        if let Err(error) = Regex::new(pattern) {
            // The crate draws its own caret over several lines; the last one says what is wrong.
            let said = error.to_string();
            let last = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            self.wrong(pointer, Diagnostic::error("bad_pattern", "this is not a valid regular expression").label(last));
        }
    }

    /// A name that expressions use.
    fn identifier(&mut self, pointer: &Pointer, noun: &str, name: &str) {
        if !names::is_identifier(name) {
            let problem = Diagnostic::error("bad_name", format!("`{name}` cannot name {noun}"));
            self.wrong_key(pointer, problem.label("expected a letter, then letters, digits and `_`").help("expressions use this name"));
        }
    }

    /// A name that means something else in expressions already.
    fn not_reserved(&mut self, pointer: &Pointer, name: &str) {
        if Scope::Invariant.reserves(name) {
            let problem = Diagnostic::error("bad_name", format!("`{name}` means something else in expressions"));
            self.wrong_key(pointer, problem.label("expected another name"));
        }
    }

    /// Names in a list, each only once.
    fn no_duplicates(&mut self, pointer: &Pointer, list: &[String]) {
        for (at, name) in list.iter().enumerate() {
            if list[..at].contains(name) {
                let problem = Diagnostic::error("duplicate_name", format!("`{name}` stands twice in this list"));
                self.wrong(&pointer.index(at), problem.label("already named above").help("keep one of them"));
            }
        }
    }
}

/// What a file says, with the name that it has from its file when it says none.
fn named(value: &serde_json::Value, name: &str) -> serde_json::Value {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.insert("name".into(), name.into());
    }
    value
}

/// The pointer of an item of a [`OneOrMany`], which may have been written without a list.
fn item_of<T>(doc: &Document, pointer: &Pointer, list: &OneOrMany<T>, at: usize) -> Pointer {
    let written_as_list = super::document::get(&doc.value, pointer).is_some_and(serde_json::Value::is_array);
    if written_as_list || list.0.len() > 1 { pointer.index(at) } else { pointer.clone() }
}

/// An unknown name, with what is known and what was probably meant.
pub(super) fn unknown<'n>(code: &'static str, noun: &str, name: &str, known: impl IntoIterator<Item = &'n str> + Clone) -> Diagnostic {
    let mut problem = Diagnostic::error(code, format!("unknown {noun} `{name}`"));
    problem.label = names::closest(name, known.clone()).map(|near| format!("did you mean `{near}`?"));
    let listed = names::listed(known);
    if listed.is_empty() { problem.help(format!("no {noun} is declared")) } else { problem.help(format!("known here: {listed}")) }
}

/// The whole value in quotes, when YAML cut it off at ` #`.
fn comment_behind(place: &Place) -> Option<String> {
    let found = yaml::places::Places::scan(&place.file.text).ok()?.find(&place.pointer)?;
    let rest = place.file.text.get(found.value.end..)?.lines().next()?;
    let plain = matches!(found.scalar, Some((_, yaml::places::Style::Plain)));
    (plain && rest.starts_with(" #")).then(|| yaml::quoted(&format!("{}{}", &place.file.text[found.value], rest.trim_end())))
}
