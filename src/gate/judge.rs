//! Every rung, and what the gate says.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;

use super::baseline::{Baseline, Case, Kept, Key, key};
use super::cases::{self, Seen, name_of, name_of_case};
use super::rung::{Finding, Ruling, Rung, State, Step};
use crate::compare::answer::{Answer, amount, more_pairs, moved, probability};
use crate::compare::comparison::{Compared, Comparison, Question, Refusal};
use crate::compare::metric::counts;
use crate::compare::side::Side;
use crate::event::{TrialRole, Verdict};
use crate::plan::{self, declared::Trial};
use crate::stats::{count, holm};
use crate::store::outcomes::Outcome;

/// Reasons of a verdict that nothing excuses.
pub(super) const FORBIDDEN: [&str; 4] = ["forbidden_command", "tampered", "safeguard_broken", "write_lost"];
/// One trial alone may have had bad luck: an admitted case passes 19 of 20.
const COLLAPSED: usize = 2;

/// What is judged.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// Of the campaign or scenario.
    pub name: &'a str,
    pub side: &'a Side,
    pub baseline: &'a Baseline,
    /// Trials that were planned and have no end, controls among them.
    pub missing: usize,
    /// Which they are, as far as it is known.
    pub unended: &'a [Finding],
    /// The subject's trials of the plan; none when the files are not at hand.
    pub planned: Option<&'a HashSet<Trial>>,
    /// Trials that show what nothing excuses beside the reason of their verdict, and what it is.
    pub harm: &'a [(Outcome, String)],
    /// None: which there are is not known without the files.
    pub golden: Option<&'a Goldens>,
    /// Why nothing could be run.
    pub stopped: Option<&'a str>,
}

/// What became of the golden files of the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Goldens {
    /// So many were held against their trials.
    pub held: usize,
    /// Of those.
    pub differ: Vec<Finding>,
    /// Those whose trial is invalid, or is not there.
    pub unheld: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    pub name: String,
    pub baseline: String,
    pub ruling: Ruling,
    /// The rung that decided.
    pub by: Option<Step>,
    pub runs: Vec<String>,
    pub rungs: Vec<Rung>,
    /// Why this may not become a baseline, whatever the rungs say: not all of it is there, or it is not of one version.
    #[serde(skip)]
    pub hole: Option<String>,
    pub cases: Vec<Seen>,
    /// By variant.
    pub compared: Vec<Compared>,
}

#[must_use]
pub fn judge(evidence: &Evidence<'_>, question: Question) -> Judgement {
    let seen = cases::seen(evidence.side, Some(evidence.baseline));
    let (compared, refusals) = compare(evidence, question);
    let (declared, hole) = declared(evidence);
    let rungs = vec![
        forbidden(evidence),
        declared,
        admitted(&seen),
        golden(evidence),
        non_inferiority(evidence, &compared, &refusals, question),
        evaluated(evidence, &seen),
    ];
    let (ruling, by) = Ruling::of(&rungs);
    Judgement {
        name: evidence.name.to_owned(),
        baseline: evidence.baseline.name.clone(),
        ruling,
        by,
        runs: evidence.side.invocations.iter().map(|invocation| invocation.run.to_string()).collect(),
        rungs,
        hole,
        cases: seen,
        compared,
    }
}

fn forbidden(evidence: &Evidence<'_>) -> Rung {
    let mut findings = Vec::new();
    for outcome in evidence.side.ever().filter(|outcome| counts(outcome)) {
        let code = outcome.reason_code.as_deref().filter(|code| FORBIDDEN.contains(code));
        let harm = evidence.harm.iter().find(|(other, _)| other.trial == outcome.trial).map(|(_, harm)| harm);
        let words = match (code, harm) {
            (Some(code), _) => format!("{code}: {}", outcome.reason.as_deref().unwrap_or_default()),
            (None, Some(harm)) => harm.clone(),
            (None, None) => continue,
        };
        findings.push(Finding { case: name_of(outcome), file: Some(outcome.file.clone()), words, trial: outcome.trial.clone() });
    }
    let of = evidence.side.counted();
    let words = if findings.is_empty() { format!("none in {of} trials") } else { format!("in {} of {of} trials", findings.len()) };
    let state = if !findings.is_empty() {
        State::Failed
    } else if of == 0 {
        State::Skipped
    } else {
        State::Passed
    };
    Rung { step: Step::ForbiddenAction, state, words, findings }
}

/// A case that is not planned any more was taken away by somebody; one that was planned and did not run says nothing. With it why this may
/// not become a baseline: that seeds are others does not stop that.
fn declared(evidence: &Evidence<'_>) -> (Rung, Option<String>) {
    let step = Step::DeclaredChecks;
    if let Some(why) = evidence.stopped {
        let words = format!("nothing could be run: {why}");
        return (Rung { step, state: State::NotEvaluated, words: words.clone(), findings: Vec::new() }, Some(words));
    }
    let planned: HashSet<Key> = match evidence.planned {
        Some(planned) => planned.iter().cloned().map(|(scenario, variant, backend, cell, ..)| (scenario, variant, backend, cell)).collect(),
        None => evidence.side.subjects.iter().map(key).collect(),
    };
    let (here, gone): (Vec<&Case>, Vec<&Case>) = evidence.baseline.cases.iter().partition(|case| planned.contains(&case.key()));
    let (mut words, mut holes, mut findings) = (Vec::new(), Vec::new(), Vec::new());
    let taken_away = !gone.is_empty() && evidence.planned.is_some();
    if taken_away {
        let cases = if gone.len() == 1 { "case" } else { "cases" };
        words.push(format!("{} {cases} of the baseline taken away", gone.len()));
    } else if !gone.is_empty() {
        holes.push("the baseline has more cases than were run; name the campaign's file to know what is planned".to_owned());
    }
    findings.extend(gone.into_iter().map(|case| Finding {
        case: name_of_case(case),
        file: Some(case.file.clone()),
        words: "the baseline has it, and it is not planned any more; `--accept` if that is meant".into(),
        trial: None,
    }));
    match evidence.missing.max(evidence.side.unfinished.values().sum()) {
        0 if evidence.unended.is_empty() => {}
        0 => holes.push("not all of what was planned is there".to_owned()),
        1 => holes.push("1 planned trial has no end".to_owned()),
        missing => holes.push(format!("{missing} planned trials have no end")),
    }
    findings.extend(evidence.unended.iter().cloned());
    let mixed = cases::mixed(evidence.side);
    match &*mixed {
        [] => {}
        [one] => holes.push(format!("`{}` mixes versions", one.case)),
        [first, rest @ ..] => holes.push(format!("`{}` and {} more mix versions", first.case, rest.len())),
    }
    findings.extend(mixed);
    words.extend(holes.iter().cloned());
    let (count, unpaired) = unpaired(evidence, &here);
    match count {
        0 => {}
        1 => words.push("1 trial of the baseline has no partner".to_owned()),
        count => words.push(format!("{count} trials of the baseline have no partner")),
    }
    findings.extend(unpaired);
    let state = match words.len() {
        _ if taken_away => State::Failed,
        0 => State::Passed,
        _ => State::NotEvaluated,
    };
    let words = if words.is_empty() { "all that was planned has an end".to_owned() } else { words.join("; ") };
    (Rung { step, state, words, findings }, (!holes.is_empty()).then(|| holes.join("; ")))
}

/// Trials of the baseline that were neither run nor planned: seeds that were exchanged would otherwise be compared with nothing, and a
/// case that has become worse would be green by them. What is planned and has no end is told as that.
fn unpaired(evidence: &Evidence<'_>, here: &[&Case]) -> (usize, Vec<Finding>) {
    let mut known: HashSet<Trial> = evidence.side.subjects.iter().map(plan::declared::recorded).collect();
    match evidence.planned {
        Some(planned) => known.extend(planned.iter().cloned()),
        None => known.extend(evidence.side.invocations.iter().filter_map(|run| run.plan.as_ref()).flat_map(plan::declared::trials)),
    }
    let (mut count, mut findings) = (0, Vec::new());
    for case in here {
        let (scenario, variant, backend, cell) = case.key();
        let trial =
            |kept: &Kept| (scenario.clone(), variant.clone(), backend.clone(), cell.clone(), kept.seed, kept.repeat, TrialRole::Subject);
        let alone: Vec<&Kept> = case.trials.iter().filter(|kept| !known.contains(&trial(kept))).collect();
        let Some(first) = alone.first() else { continue };
        count += alone.len();
        findings.push(Finding {
            case: name_of_case(case),
            file: Some(case.file.clone()),
            words: format!(
                "{} of the baseline's {} trials have no partner, the first of seed {}; run them, or `--accept` a new baseline",
                alone.len(),
                case.trials.len(),
                first.seed
            ),
            trial: None,
        });
    }
    (count, findings)
}

fn admitted(seen: &[Seen]) -> Rung {
    let known: Vec<&Seen> = seen.iter().filter(|case| case.admitted).collect();
    let collapsed = known.iter().filter(|case| case.now.hits == 0 && case.now.of >= COLLAPSED);
    let findings: Vec<Finding> = collapsed
        .map(|case| Finding {
            case: case.name(),
            file: Some(case.file.clone()),
            words: format!("failed all {} trials, and is known to pass 19 of 20", case.now.of),
            trial: None,
        })
        .collect();
    let (state, words) = match (known.len(), findings.len()) {
        (0, _) => (State::Skipped, "no case is admitted yet: it takes 20 runs, 19 of 20 passed".to_owned()),
        (known, 0) => (State::Passed, format!("none of {known} failed altogether")),
        (known, failed) => (State::Failed, format!("{failed} of {known} failed altogether")),
    };
    Rung { step: Step::AdmittedCases, state, words, findings }
}

fn golden(evidence: &Evidence<'_>) -> Rung {
    let step = Step::Golden;
    let skipped = |words: &str| Rung { step, state: State::Skipped, words: words.to_owned(), findings: Vec::new() };
    if evidence.side.subjects.is_empty() {
        return skipped("nothing was run");
    }
    let Some(Goldens { held, differ, unheld }) = evidence.golden else {
        return skipped("not looked at; name the campaign's file to know which there are");
    };
    let mut words = Vec::new();
    match differ.len() {
        0 => {}
        1 => words.push("1 trial differs".to_owned()),
        many => words.push(format!("{many} trials differ")),
    }
    match unheld.len() {
        0 => {}
        1 => words.push("1 golden has no trial to be held against".to_owned()),
        many => words.push(format!("{many} goldens have no trial to be held against")),
    }
    let state = match (differ.is_empty(), unheld.is_empty(), held) {
        (false, ..) => State::Failed,
        (true, false, _) => State::NotEvaluated,
        (true, true, 0) => return skipped("there are none"),
        (true, true, _) => return Rung { step, state: State::Passed, words: "as recorded".to_owned(), findings: Vec::new() },
    };
    Rung { step, state, words: words.join("; "), findings: differ.iter().chain(unheld).cloned().collect() }
}

/// Each variant of the baseline against itself as it is now.
fn compare(evidence: &Evidence<'_>, question: Question) -> (Vec<Compared>, Vec<(String, Refusal)>) {
    let before = evidence.baseline.side();
    let (mut compared, mut refusals) = (Vec::new(), Vec::new());
    for variant in before.variants() {
        let now = Side { name: variant.to_owned(), ..evidence.side.only(variant) };
        if now.subjects.is_empty() {
            continue;
        }
        let reference = Side { name: before.name.clone(), ..before.only(variant) };
        match Comparison::of(&reference, std::slice::from_ref(&now), question) {
            Ok(comparison) => compared.extend(comparison.subjects),
            Err(refusal) => refusals.push((variant.to_owned(), refusal)),
        }
    }
    (compared, refusals)
}

fn non_inferiority(evidence: &Evidence<'_>, compared: &[Compared], refusals: &[(String, Refusal)], question: Question) -> Rung {
    let step = Step::NonInferiority;
    let mut findings: Vec<Finding> = Vec::new();
    let mut states = Vec::new();
    for (variant, refusal) in refusals {
        states.push(State::NotEvaluated);
        let words = match refusal {
            Refusal::Yardsticks(refused) => format!("{refused}\n  `--accept` measures the baseline again"),
            Refusal::Unpaired(why) => format!("{why}; use the seeds of the baseline, or `--accept`"),
        };
        findings.push(Finding { case: variant.clone(), file: None, words, trial: None });
    }
    // That one of many variants is worse must not be luck; that each is not worse needs no correction.
    let effects: Vec<_> = compared.iter().map(|compared| compared.effect(question.metric)).collect();
    let adjusted = holm(&effects.iter().map(|effect| effect.map_or(1.0, |effect| effect.p)).collect::<Vec<_>>());
    let mut told = Vec::new();
    for ((one, effect), p) in compared.iter().zip(effects).zip(adjusted) {
        let variant = one.scorecard.name.clone();
        let Some(effect) = effect else {
            states.push(State::NotEvaluated);
            let words = format!("no pair has `{}` on both sides", question.metric.as_str());
            findings.push(Finding { case: variant, file: None, words, trial: None });
            continue;
        };
        let margin = amount(question.metric, one.margin);
        let not_worse = effect.gains().is_some_and(|gains| gains.low > -one.margin);
        let (state, answer) = if not_worse {
            (State::Passed, format!("not worse by {margin}"))
        } else if Answer::of(effect, p, one.margin, question.certainty) == Answer::Worse {
            (State::Failed, "worse".to_owned())
        } else {
            let more = more_pairs(effect, one.margin, question.certainty);
            let more = more.map_or_else(|| "too many".to_owned(), |more| format!("about {more}"));
            (State::Inconclusive, format!("inconclusive, {more} more pairs needed"))
        };
        states.push(state);
        // The bound that is held against the margin, and no other.
        let worst = effect.one_sided.map(|bounds| if question.metric.lower_is_better() { bounds.high } else { bounds.low });
        let worst = worst.map_or_else(String::new, |worst| {
            format!(", at worst {} at {:.0} %", moved(question.metric, worst), question.certainty.confidence * 100.0)
        });
        let is = if p < 0.0001 { "p" } else { "p =" };
        let numbers = format!(
            "{}{worst}, {} pairs ({}; {} {is} {})",
            moved(question.metric, effect.difference),
            effect.pairs,
            effect.interval_by,
            effect.test,
            probability(p)
        );
        if state == State::Passed {
            told.push(format!("`{variant}` {answer}: {numbers}"));
        } else {
            findings.push(Finding { case: variant, file: None, words: format!("{answer}: {numbers}"), trial: None });
        }
    }
    let new = new_cases(evidence);
    if !new.is_empty() {
        told.push(format!("new, without a baseline: {}", new.join(", ")));
    }
    let state = [State::Failed, State::NotEvaluated, State::Inconclusive, State::Passed].into_iter().find(|state| states.contains(state));
    let words = match (state, findings.len()) {
        (None, _) => "nothing that the baseline has was run".to_owned(),
        (Some(_), 0) => told.join("; "),
        (Some(state), _) => {
            let of = states.iter().filter(|one| **one == state).count();
            let is = match state {
                State::Failed => "worse",
                State::NotEvaluated => "not comparable",
                State::Inconclusive | State::Passed | State::Skipped => "undecided",
            };
            let head =
                format!("{of} of {} {is}", if states.len() == 1 { "1 variant".to_owned() } else { format!("{} variants", states.len()) });
            if told.is_empty() { head } else { format!("{head}; {}", told.join("; ")) }
        }
    };
    Rung { step, state: state.unwrap_or(State::NotEvaluated), words, findings }
}

fn new_cases(evidence: &Evidence<'_>) -> Vec<String> {
    let known: HashSet<Key> = evidence.baseline.cases.iter().map(Case::key).collect();
    let run: BTreeSet<Key> = evidence.side.subjects.iter().map(key).collect();
    let new = run.into_iter().filter(|key| !known.contains(key));
    new.map(|(scenario, variant, backend, cell)| cases::name(&scenario, &variant, &backend, &cell)).collect()
}

/// Too many invalid trials, or an admitted case that says nothing: green would be a guess.
fn evaluated(evidence: &Evidence<'_>, seen: &[Seen]) -> Rung {
    let step = Step::Evaluated;
    let of = evidence.side.subjects.len();
    let invalid: Vec<&Outcome> = evidence.side.subjects.iter().filter(|outcome| outcome.verdict == Some(Verdict::Invalid)).collect();
    let lost = seen.iter().filter(|case| case.admitted && case.now.of == 0);
    let mut findings: Vec<Finding> = lost
        .map(|case| Finding {
            case: case.name(),
            file: Some(case.file.clone()),
            words: format!("admitted, and all {} trials are invalid", case.invalid),
            trial: None,
        })
        .collect();
    let too_many = count(invalid.len()) * 5.0 > count(of);
    if too_many && let Some(first) = invalid.first() {
        let words = format!("the first: {}", first.reason.as_deref().unwrap_or("no reason"));
        findings.push(Finding { case: name_of(first), file: Some(first.file.clone()), words, trial: first.trial.clone() });
    }
    let words = match (evidence.stopped, of) {
        (Some(_), _) => "nothing was run".to_owned(),
        (None, 0) => "no trial of the subject has an end".to_owned(),
        (None, of) => format!("{} of {of} trials invalid, at most a fifth may be", invalid.len()),
    };
    let state = if of == 0 || evidence.stopped.is_some() || !findings.is_empty() { State::NotEvaluated } else { State::Passed };
    Rung { step, state, words, findings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::sample::{self, Setting};

    #[test]
    fn what_is_unchanged_is_green_and_controls_are_not_judged() {
        let judgement = sample::judged(&Setting::default());
        assert_eq!((judgement.ruling, judgement.by), (Ruling::Green, None), "{judgement:#?}");
        assert!(judgement.cases.iter().any(|case| case.control));
    }

    #[test]
    fn each_rung_has_what_it_stops_and_the_first_decides() {
        let check = |setting: Setting, ruling: Ruling, by: Step| {
            let judgement = sample::judged(&setting);
            assert_eq!((judgement.ruling, judgement.by), (ruling, Some(by)), "{setting:?} {judgement:#?}");
        };
        check(Setting { forbidden: true, ..Setting::default() }, Ruling::Regression, Step::ForbiddenAction);
        check(Setting { catastrophic: true, ..Setting::default() }, Ruling::Regression, Step::ForbiddenAction);
        check(Setting { without: Some("partition_leader"), ..Setting::default() }, Ruling::Regression, Step::DeclaredChecks);
        let unplanned = sample::judged(&Setting { unplanned: true, without: Some("partition_leader"), ..Setting::default() });
        assert_eq!(unplanned.ruling, Ruling::NotEvaluated, "without a plan nobody knows whether it was taken away");
        check(Setting { missing: 3, ..Setting::default() }, Ruling::NotEvaluated, Step::DeclaredChecks);
        check(Setting { bad: (1..=20).collect(), admitted: true, ..Setting::default() }, Ruling::Regression, Step::AdmittedCases);
        check(Setting { bad: (1..=20).collect(), ..Setting::default() }, Ruling::Regression, Step::NonInferiority);
        check(Setting { golden: true, ..Setting::default() }, Ruling::Regression, Step::Golden);
        check(Setting { bad: vec![1, 2, 3], ..Setting::default() }, Ruling::Inconclusive, Step::NonInferiority);
        check(Setting { yardstick: true, ..Setting::default() }, Ruling::NotEvaluated, Step::NonInferiority);
        check(Setting { invalid: 12, ..Setting::default() }, Ruling::NotEvaluated, Step::Evaluated);
        check(Setting { stopped: true, ..Setting::default() }, Ruling::NotEvaluated, Step::DeclaredChecks);
        check(Setting { agents: true, ..Setting::default() }, Ruling::NotEvaluated, Step::DeclaredChecks);
        check(Setting { exchanged: true, ..Setting::default() }, Ruling::NotEvaluated, Step::DeclaredChecks);
        check(Setting { unheld: true, ..Setting::default() }, Ruling::NotEvaluated, Step::Golden);
        check(Setting { unheld: true, golden: true, ..Setting::default() }, Ruling::Regression, Step::Golden);
        // What is harder than it was is another test, and what is known of the old one is not held against it.
        let harder = Setting { bad: (1..=20).collect(), admitted: true, yardstick: true, ..Setting::default() };
        check(harder, Ruling::NotEvaluated, Step::NonInferiority);
        // What was not evaluated hides nothing that is forbidden.
        check(Setting { invalid: 12, forbidden: true, ..Setting::default() }, Ruling::Regression, Step::ForbiddenAction);
        check(Setting { missing: 3, bad: (1..=20).collect(), ..Setting::default() }, Ruling::Regression, Step::NonInferiority);
    }

    fn rung(judgement: &Judgement, step: Step) -> &Rung {
        judgement.rungs.iter().find(|rung| rung.step == step).unwrap()
    }

    #[test]
    fn what_is_not_all_there_or_of_several_versions_may_not_become_a_baseline_and_other_seeds_may() {
        let of = |setting: &Setting| {
            let judgement = sample::judged(setting);
            let declared = rung(&judgement, Step::DeclaredChecks);
            let findings: Vec<String> = declared.findings.iter().map(|finding| format!("{}: {}", finding.case, finding.words)).collect();
            (declared.state, declared.words.clone(), findings, judgement.hole)
        };
        let (state, words, _, hole) = of(&Setting { missing: 3, without: Some("partition_leader"), ..Setting::default() });
        assert_eq!((state, &*words), (State::Failed, "1 case of the baseline taken away; 3 planned trials have no end"));
        assert_eq!(hole.as_deref(), Some("3 planned trials have no end"));
        let (.., hole) = of(&Setting { without: Some("partition_leader"), ..Setting::default() });
        assert_eq!(hole, None, "taken away on purpose");

        let (_, words, findings, hole) = of(&Setting { agents: true, ..Setting::default() });
        assert_eq!((&*words, hole.as_deref()), ("`partition_leader/playbook` mixes versions", Some(&*words)));
        assert_eq!(
            findings,
            ["partition_leader/playbook: its trials are of 2 versions of the agent; run it anew, and name that run alone"]
        );

        let (_, words, findings, hole) = of(&Setting { exchanged: true, ..Setting::default() });
        assert_eq!((&*words, hole), ("5 trials of the baseline have no partner", None));
        let told = "5 of the baseline's 20 trials have no partner, the first of seed 16; run them, or `--accept` a new baseline";
        assert_eq!(findings, [format!("partition_leader/playbook: {told}")]);
    }

    #[test]
    fn goldens_that_were_not_looked_at_are_not_said_to_be_none() {
        let words = |setting: &Setting| rung(&sample::judged(setting), Step::Golden).words.clone();
        assert_eq!(words(&Setting::default()), "there are none");
        assert!(words(&Setting { unplanned: true, ..Setting::default() }).starts_with("not looked at"));
        assert_eq!(
            words(&Setting { unheld: true, golden: true, ..Setting::default() }),
            "1 trial differs; 1 golden has no trial to be held against"
        );
    }
}
