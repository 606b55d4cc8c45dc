//! Scorings by themselves: of a file, and as a record has kept them.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::document::Document;
use super::kind::Kind;
use super::load::{Loader, Overrides, describe};
#[cfg(test)]
use super::model::AutopsyRules;
use super::model::{Judge, Scoring};
use super::raw::{RawAutopsy, RawScoring};
use super::resolve;
use super::typed::typed;
use crate::diagnostic::{Diagnostic, SourceFile, sorted};

/// Loads the scoring file at `path` with the rules on commands that it names.
///
/// # Errors
/// All problems of both files, in the order of files and lines.
pub fn load_scoring(path: &Path) -> Result<Arc<Scoring>, Vec<Diagnostic>> {
    let kind = Kind::of_file(path).unwrap_or(Kind::Scoring);
    if kind != Kind::Scoring {
        let problem = Diagnostic::error("wrong_kind", format!("`{}` is {}", path.display(), kind.with_article()));
        return Err(vec![problem.help("name a scoring file, such as `scenarios/scoring/default.yaml`")]);
    }
    let overrides = Overrides::default();
    let mut loader = Loader::new(&overrides);
    let loaded = loader.scoring_file(path, &[]);
    let problems = sorted(loader.problems);
    match loaded {
        Some(scoring) if problems.is_empty() => Ok(scoring),
        _ => Err(problems),
    }
}

/// Loads a judge: a file by its path, or `variants/judges/NAME.yaml`.
///
/// # Errors
/// All problems of its file and its template, in the order of files and lines.
pub fn load_judge(name: &str) -> Result<Judge, Vec<Diagnostic>> {
    let is_path = Path::new(name).extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let path = if is_path { name.to_owned() } else { format!("variants/judges/{name}.yaml") };
    let overrides = Overrides::default();
    let mut loader = Loader::new(&overrides);
    let judge = match loader.files.find(&path, Path::new(".")) {
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

/// A scoring as it stands in a record: what its file and that of its rules on commands said.
///
/// # Errors
/// What this version cannot read of it.
pub fn recorded_scoring(name: &str, scoring: &Value, autopsy: &Value) -> Result<Arc<Scoring>, Vec<Diagnostic>> {
    let file = Arc::new(SourceFile { name: format!("{name}.yaml"), text: String::new() });
    let (mut scoring, mut autopsy) = (Document::of(&file, scoring.clone()), Document::of(&file, autopsy.clone()));
    let (raw_rules, mut problems) = typed::<RawAutopsy>(&mut autopsy, Kind::Autopsy);
    let (raw, mut more) = typed::<RawScoring>(&mut scoring, Kind::Scoring);
    problems.append(&mut more);
    let (Some(raw), Some(raw_rules)) = (raw, raw_rules) else { return Err(sorted(problems)) };
    let (rules, mut more) = resolve::autopsy(&autopsy, &raw_rules);
    problems.append(&mut more);
    let (resolved, mut more) = resolve::scoring(&scoring, &raw, Arc::new(rules));
    problems.append(&mut more);
    if problems.is_empty() { Ok(Arc::new(resolved)) } else { Err(sorted(problems)) }
}

/// The rules on commands that ship with the program.
#[cfg(test)]
pub fn default_autopsy() -> AutopsyRules {
    let overrides = Overrides::default();
    let mut loader = Loader::new(&overrides);
    let rules = loader.autopsy_file(Path::new("embedded:scenarios/scoring/autopsy.yaml"));
    let problems = crate::diagnostic::render(&loader.problems, crate::diagnostic::Look::default());
    assert!(loader.problems.is_empty(), "{problems}");
    AutopsyRules::clone(&rules.expect("rules"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::digest;

    #[test]
    fn a_scoring_comes_out_of_a_record_as_it_went_in() {
        let scoring = load_scoring(Path::new("embedded:scenarios/scoring/default.yaml")).expect("loads");
        let again = recorded_scoring(&scoring.name, &scoring.written, &scoring.autopsy.written).expect("reads");
        assert_eq!(digest::scoring(&again), digest::scoring(&scoring));
        assert!(recorded_scoring("x", &serde_json::json!({ "odd": 1 }), &Value::Null).is_err());
        assert!(load_scoring(Path::new("embedded:scenarios/node_kill.yaml")).is_err());
    }

    #[test]
    fn the_rules_that_ship_pass_their_own_tests() {
        assert!(default_autopsy().commands.len() > 20);
    }
}
