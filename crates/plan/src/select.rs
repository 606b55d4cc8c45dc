//! Selection of the trials of a plan by their properties and by shard. The functions are pure.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::TrialPlan;
use chaosrun_diagnostic::{Diagnostic, PathStep};
use chaosrun_expr::{Context, Expr, Scope, Unknown};
use chaosrun_scenario::{argument, parse_path};

/// Filter that selects trials of a plan. A trial is selected if it matches any `only` pattern and no `skip` pattern. Without `only`
/// patterns, all trials match. If a shard is given, only its trials are selected.
#[derive(Debug, Clone, Default)]
pub struct TrialFilter {
    only: Vec<Pattern>,
    skip: Vec<Pattern>,
    shard: Option<Shard>,
}

/// Selected trials, with the options that had no effect.
#[derive(Debug)]
pub struct Selected<T> {
    pub kept: Vec<T>,
    /// Options that matched no trial. They are probably mistyped.
    pub idle: Vec<String>,
}

impl TrialFilter {
    /// Parses the globs and expressions of the options `--only` and `--skip`.
    ///
    /// # Errors
    /// Returns all problems of all expressions.
    pub fn read(only: &[String], skip: &[String], shard: Option<Shard>) -> Result<Self, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let mut all = |option: &'static str, texts: &[String]| -> Vec<Pattern> {
            let read = texts.iter().map(|text| Pattern::read(option, text));
            read.filter_map(|read| read.map_err(|mut found| problems.append(&mut found)).ok()).collect()
        };
        let (only, skip) = (all("--only", only), all("--skip", skip));
        if problems.is_empty() { Ok(Self { only, skip, shard }) } else { Err(problems) }
    }

    /// Returns the selected trials in their original order and with their original numbers.
    ///
    /// # Errors
    /// Returns the problem of an expression whose value is unknown for every trial, because the expression uses names that no trial has.
    pub fn apply<T>(&self, all: Vec<T>, trial: impl Fn(&T) -> &TrialPlan) -> Result<Selected<T>, Vec<Diagnostic>> {
        let contexts: Vec<Context> = all.iter().map(|one| context(trial(one))).collect();
        let mut problems = Vec::new();
        let mut idle = Vec::new();
        let mut taken = |pattern: &Pattern| -> Vec<bool> {
            let found: Vec<Result<bool, Unknown>> =
                all.iter().zip(&contexts).map(|(one, context)| pattern.takes(trial(one), context)).collect();
            if let (Some(Err(unknown)), true) = (found.first(), found.iter().all(Result::is_err)) {
                problems.push(pattern.diagnostic(unknown));
            }
            let taken: Vec<bool> = found.into_iter().map(|found| found.unwrap_or(false)).collect();
            if !taken.contains(&true) {
                idle.push(format!("{} {}", pattern.option, pattern.text));
            }
            taken
        };
        let mut keep = vec![self.only.is_empty(); all.len()];
        for pattern in &self.only {
            keep.iter_mut().zip(taken(pattern)).for_each(|(keep, taken)| *keep |= taken);
        }
        for pattern in &self.skip {
            keep.iter_mut().zip(taken(pattern)).for_each(|(keep, taken)| *keep &= !taken);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut kept: Vec<T> = all.into_iter().zip(keep).filter_map(|(one, keep)| keep.then_some(one)).collect();
        if let Some(shard) = self.shard {
            kept = shard.of(kept, trial);
        }
        Ok(Selected { kept, idle })
    }
}

/// Parsed pattern of one `--only` or `--skip` option.
#[derive(Debug, Clone)]
struct Pattern {
    option: &'static str,
    text: String,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// Glob that is matched against `scenario/variant`, converted to a regular expression.
    Glob(Regex),
    Expr(Box<Expr>),
}

impl Pattern {
    /// Parses a pattern. A text that consists only of letters, digits and glob characters is a glob. Any other text is an expression.
    fn read(option: &'static str, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let is_glob = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./*?{},".contains(c)) && !text.is_empty();
        let what = if is_glob {
            let whole = argument(option, text).within(0..text.len());
            let bad = |_| vec![Diagnostic::error("bad_glob", format!("`{text}` is not a valid glob")).at(whole).help(HELP)];
            What::Glob(Regex::new(&pattern(text)).map_err(bad)?)
        } else {
            let problems = |problems: Vec<Diagnostic>| -> Vec<Diagnostic> {
                problems.into_iter().map(|problem| if problem.help.is_some() { problem } else { problem.help(HELP) }).collect()
            };
            What::Expr(Box::new(Expr::compile(text, Some(argument(option, text)), Scope::Selection, &[]).map_err(problems)?))
        };
        Ok(Self { option, text: text.to_owned(), what })
    }

    fn takes(&self, trial: &TrialPlan, context: &Context) -> Result<bool, Unknown> {
        match &self.what {
            What::Glob(glob) => Ok(glob.is_match(&format!("{}/{}", trial.scenario.name, trial.scenario.variant.name))),
            What::Expr(expr) => expr.condition(context),
        }
    }

    fn diagnostic(&self, unknown: &Unknown) -> Diagnostic {
        match &self.what {
            What::Expr(expr) => expr.diagnostic(unknown).help("this holds for every trial; `chaosrun plan` shows the cells"),
            What::Glob(_) => Diagnostic::error("bad_glob", format!("`{}` is not a valid glob", self.text)),
        }
    }
}

const HELP: &str = "a glob such as `node_*/noop`, or an expression such as `seed <= 3 and role == 'subject'`";

/// Converts a glob to a regular expression. A glob without `/` is matched against the name of the scenario only.
fn pattern(glob: &str) -> String {
    let mut pattern = String::from("^");
    let mut braces = 0_i32;
    for c in glob.chars() {
        match c {
            '*' => pattern.push_str("[^/]*"),
            '?' => pattern.push_str("[^/]"),
            '{' => {
                braces += 1;
                pattern.push_str("(?:");
            }
            '}' => {
                // An extra closing brace makes an invalid glob, which the regex compiler reports.
                braces -= 1;
                pattern.push(')');
            }
            ',' if braces > 0 => pattern.push('|'),
            c => pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    if !glob.contains('/') {
        pattern.push_str("/.*");
    }
    pattern.push('$');
    pattern
}

/// Creates the context of a trial, with the names of [`Scope::Selection`].
fn context(trial: &TrialPlan) -> Context {
    let scenario = &trial.scenario;
    let mut cell = Map::new();
    for (path, value) in &trial.cell {
        nest(&mut cell, path, value);
        cell.insert(path.clone(), value.clone());
    }
    Context::from_fields(&json!({
        "scenario": scenario.name,
        "variant": scenario.variant.name,
        "seed": trial.seed,
        "repeat": trial.repeat,
        "backend": scenario.backend.as_str(),
        "role": trial.role.as_str(),
        "goal": scenario.goal.as_str(),
        "cell": cell,
    }))
}

/// Inserts a value into nested maps along a path such as `workload.rate`, so that expressions can use `cell.workload.rate`.
fn nest(cell: &mut Map<String, Value>, path: &str, value: &Value) {
    let Ok(path) = parse_path(path) else { return };
    let mut here = cell;
    for (at, step) in path.pointer.0.iter().enumerate() {
        let PathStep::Key(key) = step else { return };
        if at + 1 == path.pointer.0.len() {
            here.insert(key.clone(), value.clone());
            return;
        }
        match here.entry(key.clone()).or_insert_with(|| json!({})) {
            Value::Object(inner) => here = inner,
            _ => return,
        }
    }
}

/// Shard `number` of `count` shards of a plan. The first shard has number 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    pub number: u32,
    pub count: u32,
}

impl Shard {
    /// Returns the trials of this shard. All variants of one seed and cell form a group, which stays together so that its trials can be
    /// paired. The groups are sorted by a hash and distributed to the shards in turn. The shards therefore have similar sizes and similar
    /// content.
    fn of<T>(self, all: Vec<T>, trial: impl Fn(&T) -> &TrialPlan) -> Vec<T> {
        let mut groups: BTreeMap<[u8; 32], u32> = all.iter().map(|one| (group(trial(one)), 0)).collect();
        for (place, share) in groups.values_mut().zip((1..=self.count).cycle()) {
            *place = share;
        }
        all.into_iter().filter(|one| groups.get(&group(trial(one))) == Some(&self.number)).collect()
    }
}

fn group(trial: &TrialPlan) -> [u8; 32] {
    let mut cell: Vec<String> = trial.cell.iter().map(|(path, value)| format!("{path}={value}")).collect();
    cell.sort_unstable();
    let scenario = &trial.scenario;
    let what = json!([scenario.name, scenario.backend.as_str(), cell, trial.seed]).to_string();
    *blake3::hash(what.as_bytes()).as_bytes()
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(number, count)| Some((number.trim().parse().ok()?, count.trim().parse().ok()?)));
        match parsed {
            Some((number, count)) if (1..=count).contains(&number) => Ok(Self { number, count }),
            Some((_, 0)) => Err(format!("`{text}` has no shards")),
            Some((_, count)) => Err(format!("`{text}` is out of range: there are {count} shards, numbered from 1")),
            None => Err(format!("`{text}` is not a shard, expected `K/N` such as `1/4`")),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use chaosrun_diagnostic::{RenderStyle, render};
    use chaosrun_scenario::{Overrides, load_campaign};

    fn trials() -> Vec<Arc<TrialPlan>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.yaml");
        let text = "name: x\nscenarios:\n- node_kill.yaml\n- { file: node_pause.yaml, set: { workload.rate: 200 } }\n\
            variants: [noop, oracle]\ncontrols: [playbook]\nseeds: 1..10\nrepeat: 2\n";
        fs::write(&file, text).unwrap();
        let loaded = load_campaign(&file, &Overrides::default());
        let loaded = loaded.unwrap_or_else(|problems| panic!("{}", render(&problems, RenderStyle::default())));
        crate::campaign(&loaded).trials
    }

    fn selection(only: &[&str], skip: &[&str], shard: Option<&str>) -> Result<TrialFilter, Vec<Diagnostic>> {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        TrialFilter::read(&texts(only), &texts(skip), shard.map(|shard| shard.parse().unwrap()))
    }

    fn count(only: &[&str], skip: &[&str]) -> usize {
        selection(only, skip, None).unwrap().apply(trials(), |trial| trial).unwrap().kept.len()
    }

    #[test]
    fn globs_and_expressions_select_trials() {
        let all = 2 * 3 * 10 * 2;
        assert_eq!([count(&[], &[]), count(&["*"], &[]), count(&[], &["*/*"])], [all, all, 0]);
        assert_eq!([count(&["node_kill"], &[]), count(&["*/noop"], &[]), count(&["node_?ill/{noop,oracle}"], &[])], [60, 40, 40]);
        assert_eq!([count(&["node_kill/noop", "node_pause/oracle"], &["seed > 3"]), count(&["role == 'control'"], &[])], [12, 40]);
        assert_eq!(count(&["cell.workload.rate == 200 and repeat == 1", "seed==1"], &["*/playbook"]), 26);
        assert_eq!(count(&["cell['workload.rate'] > 100"], &["backend == 'docker'"]), 60);
        let idle = selection(&["node_kil", "node_kill"], &["seed == 11"], None).unwrap().apply(trials(), |trial| trial).unwrap().idle;
        assert_eq!(idle, ["--only node_kil", "--skip seed == 11"]);
    }

    #[test]
    fn options_that_select_nothing_are_reported() {
        for (text, code) in [("seed >", "expression_syntax"), ("sede == 1", "unknown_name"), ("noop}", "bad_glob"), ("{a", "bad_glob")] {
            assert_eq!(selection(&[text], &[], None).unwrap_err()[0].code, code, "{text}");
        }
        let nowhere = selection(&[], &["cell.workload.rte > 1"], None).unwrap().apply(trials(), |trial| trial).unwrap_err();
        assert_eq!(nowhere.len(), 1, "{nowhere:?}");
        for text in ["0/4", "5/4", "1/0", "1", "a/b"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    #[test]
    fn shards_partition_the_plan_keep_pairs_together_and_have_similar_sizes() {
        let all = trials();
        for count in [1, 2, 3, 7, 40] {
            let mut seen: Vec<usize> = Vec::new();
            let mut groups: BTreeSet<[u8; 32]> = BTreeSet::new();
            for number in 1..=count {
                let shard = selection(&[], &[], Some(&format!("{number}/{count}"))).unwrap();
                let kept = shard.apply(all.clone(), |trial| trial).unwrap().kept;
                let share: BTreeSet<[u8; 32]> = kept.iter().map(|trial| group(trial)).collect();
                assert!(share.is_disjoint(&groups), "no pair is torn apart");
                assert!(share.len().abs_diff(20 / usize::try_from(count).unwrap()) <= 1, "{number}/{count} has {} of 20", share.len());
                groups.extend(share);
                seen.extend(kept.iter().map(|trial| trial.number));
            }
            seen.sort_unstable();
            assert_eq!(seen, (1..=all.len()).collect::<Vec<_>>());
        }
    }
}
