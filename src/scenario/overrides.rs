//! What changes a file from outside: `--set PATH=VALUE` and the cells of a matrix.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;

use super::document::Document;
use super::kind::Kind;
use super::path::{self, Path};
use super::schema;
use super::{names, yaml};
use crate::diagnostic::{Diagnostic, Place, Pointer, SourceFile, Step};

/// One value for one path.
#[derive(Debug, Clone)]
pub struct Setting {
    pub path: Path,
    pub value: Value,
    /// Where the value was written.
    pub file: Arc<SourceFile>,
    pub from: Pointer,
    /// Where the path was written.
    pub whole: Place,
}

/// The place of an argument of the command line: its own little file.
#[must_use]
pub fn argument(option: &str, text: &str) -> Place {
    let file = SourceFile { name: option.to_owned(), text: text.to_owned() };
    Place::new(Arc::new(file), Pointer::default())
}

/// Reads `PATH=VALUE` arguments.
pub fn settings(arguments: &[String]) -> (Vec<Setting>, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for argument in arguments {
        let whole = self::argument("--set", argument);
        let Some((path, value)) = argument.split_once('=') else {
            let problem = Diagnostic::error("bad_setting", format!("`{argument}` sets nothing")).at(whole.within(0..argument.len()));
            problems.push(problem.label("expected `PATH=VALUE`").help("for example `--set chaos.kill.at=2s`"));
            continue;
        };
        let parsed = match path::parse(path) {
            Ok(parsed) => parsed,
            Err((message, span)) => {
                problems.push(Diagnostic::error("bad_path", message).at(whole.within(span)).help("for example `--set chaos.kill.at=2s`"));
                continue;
            }
        };
        match yaml::read_value(value) {
            Ok(read) => {
                let file = Arc::new(SourceFile { name: format!("--set {path}"), text: value.to_owned() });
                found.push(Setting { path: parsed, value: read, file, from: Pointer::default(), whole });
            }
            Err(message) => {
                let problem = Diagnostic::error("bad_setting", "this value is not YAML").at(whole.within(path.len() + 1..argument.len()));
                problems.push(problem.label(message).help(format!("quote it: `--set '{path}={}'`", yaml::quoted(value))));
            }
        }
    }
    (found, problems)
}

/// What a recorded trial had set; none when that is no path.
#[must_use]
pub fn recorded(path: &str, value: &Value) -> Option<Setting> {
    let parsed = path::parse(path).ok()?;
    let whole = argument("--like", &format!("{path}={value}"));
    Some(Setting { path: parsed, value: value.clone(), file: Arc::clone(&whole.file), from: Pointer::default(), whole })
}

/// Applies those settings that are about this document: paths that begin with `prefix`, or for the scenario itself
/// (no prefix) all that lead into no other file.
pub fn apply(doc: &mut Document, kind: Kind, prefix: Option<&str>, settings: &[&Setting], problems: &mut Vec<Diagnostic>) {
    for setting in settings {
        let steps = &setting.path.pointer.0;
        // `cluster=clusters/other.yaml` sets the scenario's key, `cluster.nodes...` leads into that file.
        let other = matches!(steps.as_slice(), [Step::Key(key), _, ..] if key == "cluster" || key == "scoring");
        let ours = match prefix {
            Some(prefix) => other && matches!(steps.first(), Some(Step::Key(key)) if key == prefix),
            None => !other,
        };
        if !ours {
            continue;
        }
        let skip = usize::from(prefix.is_some());
        let path = Path { pointer: Pointer(steps[skip..].to_vec()), spans: setting.path.spans[skip..].to_vec() };
        if let Err(bad) = schema::check_path(kind, &doc.value, &path) {
            problems.push(describe(setting, &path, &bad));
            continue;
        }
        if let Err(at) = doc.set(&path.pointer, setting.value.clone(), &setting.file, &setting.from) {
            let step = at.0.len().min(path.spans.len() - 1);
            let problem = Diagnostic::error("bad_path", format!("`{at}` is no map, nothing can be set within it"));
            problems.push(problem.at(place(setting, &path, step)).help(format!("set it as a whole: `--set '{at}={{ ... }}'`")));
        }
    }
}

/// Tells apart documents that settings made different.
pub fn key(settings: &[&Setting], prefix: &str) -> String {
    let mut key = String::new();
    for setting in settings {
        if matches!(setting.path.pointer.0.as_slice(), [Step::Key(first), _, ..] if first == prefix) {
            let _ = write!(key, "{}={};", setting.path.pointer, setting.value);
        }
    }
    key
}

fn place(setting: &Setting, path: &Path, step: usize) -> Place {
    if setting.whole.on_key { setting.whole.clone() } else { setting.whole.within(path.spans[step].clone()) }
}

fn describe(setting: &Setting, path: &Path, bad: &schema::BadStep) -> Diagnostic {
    let name = match &path.pointer.0[bad.at] {
        Step::Key(key) => key.clone(),
        Step::Index(index) => index.to_string(),
    };
    let problem = Diagnostic::error("bad_path", bad.reason.clone()).at(place(setting, path, bad.at));
    let problem = match names::closest(&name, bad.known.iter().map(String::as_str)) {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None => problem.label("this leads nowhere"),
    };
    if bad.known.is_empty() {
        problem
    } else {
        problem.help(format!("known here: {}", names::listed(bad.known.iter().map(String::as_str))))
    }
}
