//! Resolution of an autopsy file: the rules on commands, and the tests of these rules.

use std::sync::Arc;
use std::time::Duration;

use regex::RegexSet;

use super::{Checker, cluster::stem, named};
use crate::model::{AutopsyRules, CommandRule, Reversibility, Thrashing, Whereabouts};
use crate::raw::{RawAutopsy, RawCommandRule, RawTrait, RawWhereabouts};
use crate::weigh::{Weighed, weigh};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_input::Document;

pub fn autopsy(doc: &Document, raw: &RawAutopsy) -> (AutopsyRules, Vec<Diagnostic>) {
    let mut check = Checker::new(doc);
    let root = Pointer::default();
    if raw.commands.as_ref().is_none_or(indexmap::IndexMap::is_empty) && !check.doc.lost("commands") {
        let problem = Diagnostic::error("no_rules", "`commands` has no rule");
        check.wrong_key(&root.key("commands"), problem.label("expected at least one rule with `match` and `is`"));
    }
    let mut commands = Vec::new();
    // Compiles the patterns one by one only to find the invalid one, if there is one.
    let together = RegexSet::new(raw.commands.iter().flatten().map(|(_, raw)| &raw.pattern));
    for (name, raw) in raw.commands.iter().flatten() {
        let pointer = root.key("commands").key(name.as_str());
        let before = check.problems.len();
        if together.is_err() {
            check.pattern(&pointer.key("match"), &raw.pattern);
        }
        let reversibility = reversibility(&mut check, &pointer, &raw.is.0);
        if raw.is.0.contains(&RawTrait::Idle) && raw.is.0.iter().any(|word| !matches!(word, RawTrait::ReadOnly | RawTrait::Idle)) {
            let problem = Diagnostic::error("bad_rule", "an `idle` rule must be read-only");
            check.wrong(&pointer.key("is"), problem.label("expected `[read_only, idle]`"));
        }
        let weight = check.within(&pointer.key("weight"), raw.weight, 0.0..=1.0, reversibility.weight());
        if check.problems.len() == before {
            commands.push(rule(name, raw, reversibility, raw.weight.map_or(reversibility.weight(), |_| weight)));
        }
    }
    let limit = |check: &mut Checker<'_>, key: &str, value: Option<usize>, default: usize| match value {
        Some(found @ (0 | 1)) => {
            let problem = Diagnostic::error("out_of_range", format!("`{found}` is out of range"));
            check.wrong(&root.key("thrashing").key(key), problem.label("expected a number of at least 2"));
            default
        }
        value => value.unwrap_or(default),
    };
    let thrashing = Thrashing {
        same: limit(&mut check, "same", raw.thrashing.same, 3),
        same_look: limit(&mut check, "same_look", raw.thrashing.same_look, 10),
        within: check.duration(&root.key("thrashing").key("within"), raw.thrashing.within.as_ref(), Duration::from_secs(60)),
    };
    let unknown = check.within(&root.key("unknown"), raw.unknown, 0.0..=1.0, Reversibility::Reversible.weight());
    let patterns = match together {
        Ok(set) if set.len() == commands.len() => Ok(set),
        _ => RegexSet::new(commands.iter().map(|rule| &rule.pattern)),
    };
    let patterns = patterns.unwrap_or_else(|error| {
        let problem = Diagnostic::error("bad_pattern", "these patterns cannot be compiled together");
        check.wrong_key(&root.key("commands"), problem.label(error.to_string()));
        RegexSet::empty()
    });
    let name = raw.name.clone().unwrap_or_else(|| stem(&doc.file));
    let file = Arc::clone(&doc.file);
    let written = named(&doc.value, &name);
    let rules = AutopsyRules { name, file, written, commands, unknown, thrashing, patterns };
    // The order of matching rules is known only if all rules are valid.
    if check.problems.is_empty() {
        for (name, raw) in raw.commands.iter().flatten() {
            prove(&mut check, &root.key("commands").key(name.as_str()).key("tests"), &rules, raw);
        }
    }
    (rules, check.problems)
}

fn rule(name: &str, raw: &RawCommandRule, reversibility: Reversibility, weight: f64) -> CommandRule {
    CommandRule {
        name: name.to_owned(),
        pattern: raw.pattern.clone(),
        place: raw.place.map(|place| match place {
            RawWhereabouts::Node => Whereabouts::Node,
            RawWhereabouts::Agent => Whereabouts::Agent,
        }),
        reversibility,
        weight,
        destructive: raw.is.0.contains(&RawTrait::Destructive),
        tampering: raw.is.0.contains(&RawTrait::Tampering),
        idle: raw.is.0.contains(&RawTrait::Idle),
        description: raw.description.clone(),
    }
}

/// Returns the reversibility class of a rule. Reports a problem unless the rule has exactly one of the three classes.
fn reversibility(check: &mut Checker<'_>, pointer: &Pointer, words: &[RawTrait]) -> Reversibility {
    let named: Vec<Reversibility> = words.iter().filter_map(|word| grade(*word)).collect();
    match named.as_slice() {
        [one] => *one,
        _ => {
            let problem = Diagnostic::error("bad_rule", "a rule is one of `read_only`, `reversible` and `irreversible`");
            let label = if named.is_empty() { "none is given" } else { "more than one is given" };
            check.wrong(&pointer.key("is"), problem.label(label).help("`destructive`, `tampering` or `idle` can be added"));
            Reversibility::Reversible
        }
    }
}

const fn grade(word: RawTrait) -> Option<Reversibility> {
    match word {
        RawTrait::ReadOnly => Some(Reversibility::ReadOnly),
        RawTrait::Reversible => Some(Reversibility::Reversible),
        RawTrait::Irreversible => Some(Reversibility::Irreversible),
        RawTrait::Destructive | RawTrait::Tampering | RawTrait::Idle => None,
    }
}

fn prove(check: &mut Checker<'_>, pointer: &Pointer, rules: &AutopsyRules, raw: &RawCommandRule) {
    for (at, test) in raw.tests.iter().enumerate() {
        let (words, pointer) = (&test.is.0, pointer.index(at).key("is"));
        let graded: Vec<Reversibility> = words.iter().filter_map(|word| grade(*word)).collect();
        let [wanted] = graded.as_slice() else {
            // A test without a class could never fail.
            let problem = Diagnostic::error("bad_test", "a test names one of `read_only`, `reversible` and `irreversible`");
            let label = if graded.is_empty() { "none is given" } else { "more than one is given" };
            check.wrong(&pointer, problem.label(label));
            continue;
        };
        let found = weigh(rules, &test.command);
        let is = |word| words.contains(&word);
        let held =
            [(is(RawTrait::Destructive), found.destructive), (is(RawTrait::Tampering), found.tampering), (is(RawTrait::Idle), found.idle)];
        if *wanted != found.reversibility || held.iter().any(|(wanted, found)| wanted != found) {
            // The command itself appears in the source line of the report.
            let problem = Diagnostic::error("failed_test", format!("the rules classify it as {}", words_of(&found)));
            check.wrong(&pointer, problem.label("expected this").help(by(&found.rules)));
        }
    }
}

/// Formats the names of the matching rules on one line, without duplicates.
fn by(rules: &[&str]) -> String {
    const FIT: usize = 60;
    let mut text = String::new();
    for (at, rule) in rules.iter().enumerate().filter(|(at, rule)| !rules[..*at].contains(rule)) {
        if text.len() + rule.len() > FIT {
            return format!("{text} and more");
        }
        let before = if at == 0 { "by " } else { ", " };
        text = text + before + rule;
    }
    if text.is_empty() { "no rule matches".into() } else { text }
}

/// Describes the class of a command line in words, such as `irreversible, destructive`.
fn words_of(found: &Weighed<'_>) -> String {
    let grade = match found.reversibility {
        Reversibility::ReadOnly => "read_only",
        Reversibility::Reversible => "reversible",
        Reversibility::Irreversible => "irreversible",
    };
    let held = [(found.destructive, ", destructive"), (found.tampering, ", tampering"), (found.idle, ", idle")];
    held.iter().filter(|(is, _)| *is).fold(grade.to_owned(), |words, (_, word)| words + word)
}
