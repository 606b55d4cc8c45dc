//! Loading of scorings from a file or from a record, and loading of judges. Neither needs a scenario.

use std::path::Path;
use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

use super::cli_request::Overrides;
use super::deserialize::typed;
use super::file_kind::FileKind;
use super::files::describe;
use super::library::Library;
use super::loader::Loader;
#[cfg(test)]
use super::model::AutopsyRules;
use super::model::{Judge, Scoring};
use super::raw::{RawAutopsy, RawScoring};
use super::resolve;
use chaosrun_diagnostic::{Diagnostic, SourceFile, sorted};
use chaosrun_input::Document;

/// Loads the scoring file at `path` and the autopsy file (rules on commands) that it names.
///
/// # Errors
/// Returns all problems of both files, in the order of files and lines.
pub fn load_scoring(path: &Path) -> Result<Arc<Scoring>, Vec<Diagnostic>> {
    let kind = FileKind::of_file(path).unwrap_or(FileKind::Scoring);
    if kind != FileKind::Scoring {
        let problem = Diagnostic::error("wrong_kind", format!("`{}` is {}", path.display(), kind.with_article()));
        return Err(vec![problem.help("name a scoring file, such as `scenarios/scoring/default.yaml`")]);
    }
    let overrides = Overrides::default();
    let mut library = Library::default();
    let mut loader = Loader::new(&mut library, &overrides);
    let loaded = loader.scoring_file(path, &[]);
    let problems = sorted(loader.problems);
    match loaded {
        Some(scoring) if problems.is_empty() => Ok(scoring),
        _ => Err(problems),
    }
}

/// Loads a judge. `name` is the path of a file, or the name of a file in `variants/judges/` without `.yaml`.
///
/// # Errors
/// Returns all problems of the judge's file and its template, in the order of files and lines.
pub fn load_judge(name: &str) -> Result<Judge, Vec<Diagnostic>> {
    let is_path = Path::new(name).extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let path = if is_path { name.to_owned() } else { format!("variants/judges/{name}.yaml") };
    let overrides = Overrides::default();
    let mut library = Library::default();
    let mut loader = Loader::new(&mut library, &overrides);
    let judge = match loader.library.files.find(&path, Path::new(".")) {
        Ok(file) => loader.judge_file(Path::new(&file.name)),
        Err(no_file) => {
            loader.problems.push(describe(&path, no_file).help("a judge is a file in `variants/judges/`; `careful` ships"));
            None
        }
    };
    let problems = sorted(loader.problems);
    match judge {
        Some(judge) if problems.is_empty() => Ok(judge),
        _ => Err(problems),
    }
}

/// Resolves a scoring that a record contains. `scoring` is the content of its scoring file, and `autopsy` is the content of its autopsy
/// file.
///
/// # Errors
/// Returns the problems of the parts that this version of chaosrun cannot read.
pub fn recorded_scoring(name: &str, scoring: &Value, autopsy: &Value) -> Result<Arc<Scoring>, Vec<Diagnostic>> {
    let file = Arc::new(SourceFile { name: format!("{name}.yaml"), text: String::new() });
    let (mut scoring, mut autopsy) = (Document::of(&file, renamed(scoring.clone())), Document::of(&file, autopsy.clone()));
    let (raw_rules, mut problems) = typed::<RawAutopsy>(&mut autopsy);
    let (raw, mut more) = typed::<RawScoring>(&mut scoring);
    problems.append(&mut more);
    let (Some(raw), Some(raw_rules)) = (raw, raw_rules) else { return Err(sorted(problems)) };
    let (rules, mut more) = resolve::autopsy(&autopsy, &raw_rules);
    problems.append(&mut more);
    let (resolved, mut more) = resolve::scoring(&scoring, &raw, Arc::new(rules));
    problems.append(&mut more);
    if problems.is_empty() { Ok(Arc::new(resolved)) } else { Err(sorted(problems)) }
}

/// Replaces names of older versions in the expressions of a recorded scoring. Scoring files, in contrast, must use the current names.
fn renamed(scoring: Value) -> Value {
    match scoring {
        Value::String(text) => {
            Regex::new(r"\bhurt_s\b").map_or_else(|_| text.clone(), |old| old.replace_all(&text, "impact_s").into_owned()).into()
        }
        Value::Array(items) => items.into_iter().map(renamed).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, renamed(value))).collect(),
        other => other,
    }
}

/// Returns the default rules on commands, which are embedded in the program.
#[cfg(test)]
fn default_autopsy() -> AutopsyRules {
    let overrides = Overrides::default();
    let mut library = Library::default();
    let mut loader = Loader::new(&mut library, &overrides);
    let rules = loader.autopsy_file(Path::new("embedded:scenarios/scoring/autopsy.yaml"));
    let problems = chaosrun_diagnostic::render(&loader.problems, chaosrun_diagnostic::RenderStyle::default());
    assert!(loader.problems.is_empty(), "{problems}");
    AutopsyRules::clone(&rules.expect("rules"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest;

    #[test]
    fn a_recorded_scoring_round_trips() {
        let scoring = load_scoring(Path::new("embedded:scenarios/scoring/default.yaml")).expect("loads");
        let again = recorded_scoring(&scoring.name, &scoring.written, &scoring.autopsy.written).expect("reads");
        assert_eq!(digest::scoring(&again), digest::scoring(&scoring));
        assert!(recorded_scoring("x", &serde_json::json!({ "odd": 1 }), &Value::Null).is_err());
    }

    #[test]
    fn a_recorded_scoring_with_the_old_name_of_impact_is_read() {
        let scoring = load_scoring(Path::new("embedded:scenarios/scoring/default.yaml")).expect("loads");
        let text = scoring.written.to_string();
        assert!(text.contains("impact_s"), "{text}");
        let old: Value = serde_json::from_str(&text.replace("impact_s", "hurt_s")).expect("JSON");
        let again = recorded_scoring(&scoring.name, &old, &scoring.autopsy.written).expect("reads");
        assert_eq!(digest::scoring(&again), digest::scoring(&scoring));
        assert!(load_scoring(Path::new("embedded:scenarios/node_kill.yaml")).is_err());
    }

    #[test]
    fn the_shipped_rules_pass_their_own_tests() {
        assert!(default_autopsy().commands.len() > 20);
    }
}
