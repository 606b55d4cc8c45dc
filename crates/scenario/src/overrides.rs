//! Overrides that change the values of a file before it is resolved: `--set PATH=VALUE`, and the cells of a matrix.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;

use super::file_kind::FileKind;
use super::path::{self, SettingPath};
use super::schema;
use chaosrun_diagnostic::yaml;
use chaosrun_diagnostic::{Diagnostic, PathStep, Pointer, SourceFile, SourcePlace};
use chaosrun_input::Document;
use chaosrun_input::names;

/// Override of one value: a path and the value that replaces the value at this path.
#[derive(Debug, Clone)]
pub struct Setting {
    pub path: SettingPath,
    pub value: Value,
    /// File in which the new value was written.
    pub file: Arc<SourceFile>,
    pub from: Pointer,
    /// Place where the setting was written, for error messages.
    pub whole: SourcePlace,
}

/// Returns the place of a command-line argument. Each argument is represented as a small file of its own.
#[must_use]
pub fn argument(option: &str, text: &str) -> SourcePlace {
    let file = SourceFile { name: option.to_owned(), text: text.to_owned() };
    SourcePlace::new(Arc::new(file), Pointer::default())
}

/// Keys of a scenario that decide which trials are planned, with the option that replaces each key.
const OWN: [(&str, &str); 3] =
    [("backend", "`--backend`"), ("matrix", "`--variant`, `--seed` and one `--set` per value"), ("repeat", "`--repeat`")];

/// Parses arguments of the form `PATH=VALUE`. Returns the settings and the problems.
pub fn settings(arguments: &[String]) -> (Vec<Setting>, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for argument in arguments {
        let whole = self::argument("--set", argument);
        let Some((path, value)) = argument.split_once('=') else {
            let problem =
                Diagnostic::error("bad_setting", format!("`{argument}` is not an assignment")).at(whole.within(0..argument.len()));
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
        if let Some((_, option)) = OWN.iter().find(|(own, _)| parsed.pointer.0.first() == Some(&PathStep::Key((*own).to_owned()))) {
            let problem = Diagnostic::error("bad_setting", format!("`--set` cannot change `{path}`")).at(whole.within(0..path.len()));
            problems.push(problem.label("has its own option").help(format!("use {option} instead")));
            continue;
        }
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

/// Creates a setting from a path and a value of a recorded trial. Returns `None` if the path is invalid.
#[must_use]
pub fn recorded(path: &str, value: &Value) -> Option<Setting> {
    let parsed = path::parse(path).ok()?;
    let whole = argument("--like", &format!("{path}={value}"));
    Some(Setting { path: parsed, value: value.clone(), file: Arc::clone(&whole.file), from: Pointer::default(), whole })
}

/// Applies settings to a document. If `prefix` is given, the document is the file that the scenario names under this key, and only settings
/// below this key apply. Without a prefix, the settings of the scenario itself apply.
pub fn apply(doc: &mut Document, kind: FileKind, prefix: Option<&str>, settings: &[&Setting], problems: &mut Vec<Diagnostic>) {
    for setting in settings {
        let steps = &setting.path.pointer.0;
        // `cluster=clusters/other.yaml` sets the key of the scenario. `cluster.nodes...` leads into the cluster file.
        let other = matches!(steps.as_slice(), [PathStep::Key(key), _, ..] if key == "cluster" || key == "scoring");
        let ours = match prefix {
            Some(prefix) => other && matches!(steps.first(), Some(PathStep::Key(key)) if key == prefix),
            None => !other,
        };
        if !ours {
            continue;
        }
        let skip = usize::from(prefix.is_some());
        let path = SettingPath { pointer: Pointer(steps[skip..].to_vec()), spans: setting.path.spans[skip..].to_vec() };
        if let Err(bad) = schema::check_path(kind, &doc.value, &path) {
            problems.push(describe(setting, &path, &bad));
            continue;
        }
        if let Err(at) = doc.set(&path.pointer, setting.value.clone(), &setting.file, &setting.from) {
            let step = at.0.len().min(path.spans.len() - 1);
            let problem = Diagnostic::error("bad_path", format!("`{at}` is not a map, so no key can be set in it"));
            problems.push(problem.at(place(setting, &path, step)).help(format!("set the whole value: `--set '{at}={{ ... }}'`")));
        }
    }
}

/// Returns a cache key that differs between documents with different settings below `prefix`.
pub fn key(settings: &[&Setting], prefix: &str) -> String {
    let mut key = String::new();
    for setting in settings {
        if matches!(setting.path.pointer.0.as_slice(), [PathStep::Key(first), _, ..] if first == prefix) {
            let _ = write!(key, "{}={};", setting.path.pointer, setting.value);
        }
    }
    key
}

fn place(setting: &Setting, path: &SettingPath, step: usize) -> SourcePlace {
    if setting.whole.on_key { setting.whole.clone() } else { setting.whole.within(path.spans[step].clone()) }
}

fn describe(setting: &Setting, path: &SettingPath, bad: &schema::BadStep) -> Diagnostic {
    let name = match &path.pointer.0[bad.at] {
        PathStep::Key(key) => key.clone(),
        PathStep::Index(index) => index.to_string(),
    };
    let problem = Diagnostic::error("bad_path", bad.reason.clone()).at(place(setting, path, bad.at));
    let problem = match names::closest(&name, bad.known.iter().map(String::as_str)) {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None => problem.label("unknown path"),
    };
    if bad.known.is_empty() {
        problem
    } else {
        problem.help(format!("known here: {}", names::listed(bad.known.iter().map(String::as_str))))
    }
}
