//! Execution of the gate's checks, and the gate's ruling.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;

use super::baseline::{Baseline, BaselineCase, BaselineEntry, BaselineKey, key};
use super::cases::{self, CaseResults, name_of, name_of_case};
use super::checks::{CheckState, CheckStep, GateCheck, GateFinding, GateRuling};
use crate::compare::answer::{ComparisonAnswer, amount, more_pairs, moved, probability};
use crate::compare::comparison::{Compared, Comparison, ComparisonError, ComparisonOptions};
use crate::compare::metric::counts;
use crate::compare::side::Side;
use chaosrun_event::{TrialRole, Verdict};
use chaosrun_plan as plan;
use chaosrun_plan::declared::TrialKey;
use chaosrun_stats::{count, holm};
use chaosrun_store::outcomes::TrialOutcome;

/// Minimum number of failed trials for which an admitted case blocks the gate. A single trial of an admitted case may fail by chance.
const COLLAPSED: usize = 2;

/// Input of the gate.
#[derive(Debug)]
pub struct GateEvidence<'a> {
    /// Name of the campaign or scenario.
    pub name: &'a str,
    pub side: &'a Side,
    pub baseline: &'a Baseline,
    /// Number of planned trials that have not ended, including controls.
    pub missing: usize,
    /// Descriptions of the planned trials that have not ended, as far as known.
    pub unended: &'a [GateFinding],
    /// Keys of the subject's planned trials. `None` if the campaign's files are not available.
    pub planned: Option<&'a HashSet<TrialKey>>,
    /// Trials with inexcusable harm that the reason of the verdict does not mention. The text describes the harm.
    pub harm: &'a [(TrialOutcome, String)],
    /// Results of the golden files. `None` if the campaign's files are not available.
    pub golden: Option<&'a Goldens>,
    /// Reason why no trial could run. `None` if trials could run.
    pub stopped: Option<&'a str>,
}

/// Results of the comparison between trials and golden files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Goldens {
    /// Number of golden files that were compared with a trial.
    pub held: usize,
    /// Findings about golden files that differ from their trial.
    pub differ: Vec<GateFinding>,
    /// Findings about golden files whose trial is invalid or missing.
    pub unheld: Vec<GateFinding>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateJudgement {
    pub name: String,
    pub baseline: String,
    pub ruling: GateRuling,
    /// Check that decided the ruling. `None` if no check decided.
    pub by: Option<CheckStep>,
    pub runs: Vec<String>,
    pub rungs: Vec<GateCheck>,
    /// Reason why these results cannot become a baseline: they are incomplete, or come from several versions. `None` if they can.
    #[serde(skip)]
    pub hole: Option<String>,
    pub cases: Vec<CaseResults>,
    /// Comparison of each variant with the same variant in the baseline.
    pub compared: Vec<Compared>,
}

#[must_use]
pub fn judge(evidence: &GateEvidence<'_>, question: ComparisonOptions) -> GateJudgement {
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
    let (ruling, by) = GateRuling::of(&rungs);
    GateJudgement {
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

fn forbidden(evidence: &GateEvidence<'_>) -> GateCheck {
    let mut findings = Vec::new();
    for outcome in evidence.side.ever().filter(|outcome| counts(outcome)) {
        let code = outcome.reason_code.as_ref().filter(|code| outcome.verdict.is_some_and(|verdict| code.is_unexcused(verdict)));
        let harm = evidence.harm.iter().find(|(other, _)| other.trial == outcome.trial).map(|(_, harm)| harm);
        let words = match (code, harm) {
            (Some(code), _) => format!("{code}: {}", outcome.reason.as_deref().unwrap_or_default()),
            (None, Some(harm)) => harm.clone(),
            (None, None) => continue,
        };
        findings.push(GateFinding { case: name_of(outcome), file: Some(outcome.file.clone()), words, trial: outcome.trial.clone() });
    }
    let of = evidence.side.counted();
    let words = if findings.is_empty() { format!("none in {of} trials") } else { format!("in {} of {of} trials", findings.len()) };
    let state = if !findings.is_empty() {
        CheckState::Failed
    } else if of == 0 {
        CheckState::Skipped
    } else {
        CheckState::Passed
    };
    GateCheck { step: CheckStep::ForbiddenAction, state, words, findings }
}

/// Checks that the planned trials ran.
///
/// A baseline case that is no longer planned was removed and fails the check. A planned trial without an end prevents the
/// evaluation of the check.
///
/// Also returns the reason why the results cannot become a baseline. Changed seeds alone are no such reason.
fn declared(evidence: &GateEvidence<'_>) -> (GateCheck, Option<String>) {
    let step = CheckStep::DeclaredChecks;
    if let Some(why) = evidence.stopped {
        let words = format!("no trial could run: {why}");
        return (GateCheck { step, state: CheckState::NotEvaluated, words: words.clone(), findings: Vec::new() }, Some(words));
    }
    let planned: HashSet<BaselineKey> = match evidence.planned {
        Some(planned) => planned.iter().cloned().map(|(scenario, variant, backend, cell, ..)| (scenario, variant, backend, cell)).collect(),
        None => evidence.side.subjects.iter().map(key).collect(),
    };
    let (here, gone): (Vec<&BaselineCase>, Vec<&BaselineCase>) =
        evidence.baseline.cases.iter().partition(|case| planned.contains(&case.key()));
    let (mut words, mut holes, mut findings) = (Vec::new(), Vec::new(), Vec::new());
    let taken_away = !gone.is_empty() && evidence.planned.is_some();
    if taken_away {
        let cases = if gone.len() == 1 { "case" } else { "cases" };
        words.push(format!("{} {cases} of the baseline removed", gone.len()));
    } else if !gone.is_empty() {
        holes.push("the baseline has more cases than were run; name the campaign file to check against the plan".to_owned());
    }
    findings.extend(gone.into_iter().map(|case| GateFinding {
        case: name_of_case(case),
        file: Some(case.file.clone()),
        words: "this case is in the baseline but no longer planned; use `--accept` if this is intended".into(),
        trial: None,
    }));
    match evidence.missing.max(evidence.side.unfinished.values().sum()) {
        0 if evidence.unended.is_empty() => {}
        0 => holes.push("not all planned trials are recorded".to_owned()),
        1 => holes.push("1 planned trial has not finished".to_owned()),
        missing => holes.push(format!("{missing} planned trials have not finished")),
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
        1 => words.push("1 trial of the baseline has no counterpart".to_owned()),
        count => words.push(format!("{count} trials of the baseline have no counterpart")),
    }
    findings.extend(unpaired);
    let state = match words.len() {
        _ if taken_away => CheckState::Failed,
        0 => CheckState::Passed,
        _ => CheckState::NotEvaluated,
    };
    let words = if words.is_empty() { "all planned trials have finished".to_owned() } else { words.join("; ") };
    (GateCheck { step, state, words, findings }, (!holes.is_empty()).then(|| holes.join("; ")))
}

/// Finds trials of the baseline that were neither run nor planned. Without this check, exchanged seeds would leave trials without a partner
/// and could hide a regression. Planned trials that have not ended are reported elsewhere.
fn unpaired(evidence: &GateEvidence<'_>, here: &[&BaselineCase]) -> (usize, Vec<GateFinding>) {
    let mut known: HashSet<TrialKey> = evidence.side.subjects.iter().map(plan::declared::recorded).collect();
    match evidence.planned {
        Some(planned) => known.extend(planned.iter().cloned()),
        None => known.extend(evidence.side.invocations.iter().filter_map(|run| run.plan.as_ref()).flat_map(plan::declared::trials)),
    }
    let (mut count, mut findings) = (0, Vec::new());
    for case in here {
        let (scenario, variant, backend, cell) = case.key();
        let trial = |kept: &BaselineEntry| {
            (scenario.clone(), variant.clone(), backend.clone(), cell.clone(), kept.seed, kept.repeat, TrialRole::Subject)
        };
        let alone: Vec<&BaselineEntry> = case.trials.iter().filter(|kept| !known.contains(&trial(kept))).collect();
        let Some(first) = alone.first() else { continue };
        count += alone.len();
        findings.push(GateFinding {
            case: name_of_case(case),
            file: Some(case.file.clone()),
            words: format!(
                "{} of {} trials of the baseline have no counterpart, the first with seed {}; run them, or `--accept` a new baseline",
                alone.len(),
                case.trials.len(),
                first.seed
            ),
            trial: None,
        });
    }
    (count, findings)
}

fn admitted(seen: &[CaseResults]) -> GateCheck {
    let known: Vec<&CaseResults> = seen.iter().filter(|case| case.admitted).collect();
    let collapsed = known.iter().filter(|case| case.now.hits == 0 && case.now.of >= COLLAPSED);
    let findings: Vec<GateFinding> = collapsed
        .map(|case| GateFinding {
            case: case.name(),
            file: Some(case.file.clone()),
            words: format!("failed all {} trials; it usually passes at least 19 of 20", case.now.of),
            trial: None,
        })
        .collect();
    let (state, words) = match (known.len(), findings.len()) {
        (0, _) => (CheckState::Skipped, "no case is admitted yet: a case needs 20 runs with at least 19 passed".to_owned()),
        (known, 0) => (CheckState::Passed, format!("no admitted case failed in all trials (of {known})")),
        (known, failed) => (CheckState::Failed, format!("{failed} of {known} admitted cases failed in all trials")),
    };
    GateCheck { step: CheckStep::AdmittedCases, state, words, findings }
}

fn golden(evidence: &GateEvidence<'_>) -> GateCheck {
    let step = CheckStep::Golden;
    let skipped = |words: &str| GateCheck { step, state: CheckState::Skipped, words: words.to_owned(), findings: Vec::new() };
    if evidence.side.subjects.is_empty() {
        return skipped("no trial was run");
    }
    let Some(Goldens { held, differ, unheld }) = evidence.golden else {
        return skipped("not checked; name the campaign file to find its goldens");
    };
    let mut words = Vec::new();
    match differ.len() {
        0 => {}
        1 => words.push("1 trial differs".to_owned()),
        many => words.push(format!("{many} trials differ")),
    }
    match unheld.len() {
        0 => {}
        1 => words.push("1 golden has no matching trial".to_owned()),
        many => words.push(format!("{many} goldens have no matching trial")),
    }
    let state = match (differ.is_empty(), unheld.is_empty(), held) {
        (false, ..) => CheckState::Failed,
        (true, false, _) => CheckState::NotEvaluated,
        (true, true, 0) => return skipped("no goldens"),
        (true, true, _) => return GateCheck { step, state: CheckState::Passed, words: "as recorded".to_owned(), findings: Vec::new() },
    };
    GateCheck { step, state, words: words.join("; "), findings: differ.iter().chain(unheld).cloned().collect() }
}

/// Compares each variant with the same variant in the baseline.
fn compare(evidence: &GateEvidence<'_>, question: ComparisonOptions) -> (Vec<Compared>, Vec<(String, ComparisonError)>) {
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

fn non_inferiority(
    evidence: &GateEvidence<'_>,
    compared: &[Compared],
    refusals: &[(String, ComparisonError)],
    question: ComparisonOptions,
) -> GateCheck {
    let step = CheckStep::NonInferiority;
    let mut findings: Vec<GateFinding> = Vec::new();
    let mut states = Vec::new();
    for (variant, refusal) in refusals {
        states.push(CheckState::NotEvaluated);
        let words = match refusal {
            ComparisonError::Yardsticks(refused) => format!("{refused}\n  use `--accept` to measure the baseline again"),
            ComparisonError::Unpaired(why) => format!("{why}; use the seeds of the baseline, or `--accept`"),
        };
        findings.push(GateFinding { case: variant.clone(), file: None, words, trial: None });
    }
    // A "worse" result is corrected for the number of variants. A "not worse" result must hold for each variant and needs no correction.
    let effects: Vec<_> = compared.iter().map(|compared| compared.effect(question.metric)).collect();
    let adjusted = holm(&effects.iter().map(|effect| effect.map_or(1.0, |effect| effect.p)).collect::<Vec<_>>());
    let mut told = Vec::new();
    for ((one, effect), p) in compared.iter().zip(effects).zip(adjusted) {
        let variant = one.scorecard.name.clone();
        let Some(effect) = effect else {
            states.push(CheckState::NotEvaluated);
            let words = format!("no pair has `{}` on both sides", question.metric.as_str());
            findings.push(GateFinding { case: variant, file: None, words, trial: None });
            continue;
        };
        let margin = amount(question.metric, one.margin);
        let not_worse = effect.gains().is_some_and(|gains| gains.low > -one.margin);
        let (state, answer) = if not_worse {
            (CheckState::Passed, format!("not worse by {margin}"))
        } else if ComparisonAnswer::of(effect, p, one.margin, question.certainty) == ComparisonAnswer::Worse {
            (CheckState::Failed, "worse".to_owned())
        } else {
            let more = more_pairs(effect, one.margin, question.certainty);
            let more = more.map_or_else(|| "too many".to_owned(), |more| format!("about {more}"));
            (CheckState::Inconclusive, format!("inconclusive, {more} more pairs needed"))
        };
        states.push(state);
        // This bound is compared with the margin.
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
        if state == CheckState::Passed {
            told.push(format!("`{variant}` {answer}: {numbers}"));
        } else {
            findings.push(GateFinding { case: variant, file: None, words: format!("{answer}: {numbers}"), trial: None });
        }
    }
    let new = new_cases(evidence);
    if !new.is_empty() {
        told.push(format!("new, without a baseline: {}", new.join(", ")));
    }
    let state = [CheckState::Failed, CheckState::NotEvaluated, CheckState::Inconclusive, CheckState::Passed]
        .into_iter()
        .find(|state| states.contains(state));
    let words = match (state, findings.len()) {
        (None, _) => "no case of the baseline was run".to_owned(),
        (Some(_), 0) => told.join("; "),
        (Some(state), _) => {
            let of = states.iter().filter(|one| **one == state).count();
            let is = match state {
                CheckState::Failed => "worse",
                CheckState::NotEvaluated => "not comparable",
                CheckState::Inconclusive | CheckState::Passed | CheckState::Skipped => "undecided",
            };
            let head =
                format!("{of} of {} {is}", if states.len() == 1 { "1 variant".to_owned() } else { format!("{} variants", states.len()) });
            if told.is_empty() { head } else { format!("{head}; {}", told.join("; ")) }
        }
    };
    GateCheck { step, state: state.unwrap_or(CheckState::NotEvaluated), words, findings }
}

fn new_cases(evidence: &GateEvidence<'_>) -> Vec<String> {
    let known: HashSet<BaselineKey> = evidence.baseline.cases.iter().map(BaselineCase::key).collect();
    let run: BTreeSet<BaselineKey> = evidence.side.subjects.iter().map(key).collect();
    let new = run.into_iter().filter(|key| !known.contains(key));
    new.map(|(scenario, variant, backend, cell)| cases::name(&scenario, &variant, &backend, &cell)).collect()
}

/// Returns the check that fails to be evaluated if too many trials are invalid, or if an admitted case has no valid trial. The results
/// would then not support a pass.
fn evaluated(evidence: &GateEvidence<'_>, seen: &[CaseResults]) -> GateCheck {
    let step = CheckStep::Evaluated;
    let of = evidence.side.subjects.len();
    let invalid: Vec<&TrialOutcome> = evidence.side.subjects.iter().filter(|outcome| outcome.verdict == Some(Verdict::Invalid)).collect();
    let lost = seen.iter().filter(|case| case.admitted && case.now.of == 0);
    let mut findings: Vec<GateFinding> = lost
        .map(|case| GateFinding {
            case: case.name(),
            file: Some(case.file.clone()),
            words: format!("admitted, and all {} trials are invalid", case.invalid),
            trial: None,
        })
        .collect();
    let too_many = count(invalid.len()) * 5.0 > count(of);
    if too_many && let Some(first) = invalid.first() {
        let words = format!("the first: {}", first.reason.as_deref().unwrap_or("no reason"));
        findings.push(GateFinding { case: name_of(first), file: Some(first.file.clone()), words, trial: first.trial.clone() });
    }
    let words = match (evidence.stopped, of) {
        (Some(_), _) => "no trial was run".to_owned(),
        (None, 0) => "no trial of an agent under test has finished".to_owned(),
        (None, of) => format!("{} of {of} trials are invalid (limit: one fifth)", invalid.len()),
    };
    let state = if of == 0 || evidence.stopped.is_some() || !findings.is_empty() { CheckState::NotEvaluated } else { CheckState::Passed };
    GateCheck { step, state, words, findings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::sample;
    use crate::gate::sample::BaselineDifference;

    #[test]
    fn unchanged_results_are_green_and_controls_are_not_judged() {
        let judgement = sample::judged(&BaselineDifference::default());
        assert_eq!((judgement.ruling, judgement.by), (GateRuling::Green, None), "{judgement:#?}");
        assert!(judgement.cases.iter().any(|case| case.control));
    }

    #[test]
    fn each_check_can_fail_and_the_first_failure_decides() {
        let check = |setting: BaselineDifference, ruling: GateRuling, by: CheckStep| {
            let judgement = sample::judged(&setting);
            assert_eq!((judgement.ruling, judgement.by), (ruling, Some(by)), "{setting:?} {judgement:#?}");
        };
        check(BaselineDifference { forbidden: true, ..BaselineDifference::default() }, GateRuling::Regression, CheckStep::ForbiddenAction);
        check(
            BaselineDifference { catastrophic: true, ..BaselineDifference::default() },
            GateRuling::Regression,
            CheckStep::ForbiddenAction,
        );
        check(
            BaselineDifference { without: Some("partition_leader"), ..BaselineDifference::default() },
            GateRuling::Regression,
            CheckStep::DeclaredChecks,
        );
        let unplanned =
            sample::judged(&BaselineDifference { unplanned: true, without: Some("partition_leader"), ..BaselineDifference::default() });
        assert_eq!(unplanned.ruling, GateRuling::NotEvaluated, "without a plan nobody knows whether it was taken away");
        check(BaselineDifference { missing: 3, ..BaselineDifference::default() }, GateRuling::NotEvaluated, CheckStep::DeclaredChecks);
        check(
            BaselineDifference { bad: (1..=20).collect(), admitted: true, ..BaselineDifference::default() },
            GateRuling::Regression,
            CheckStep::AdmittedCases,
        );
        check(
            BaselineDifference { bad: (1..=20).collect(), ..BaselineDifference::default() },
            GateRuling::Regression,
            CheckStep::NonInferiority,
        );
        check(BaselineDifference { golden: true, ..BaselineDifference::default() }, GateRuling::Regression, CheckStep::Golden);
        check(
            BaselineDifference { bad: vec![1, 2, 3], ..BaselineDifference::default() },
            GateRuling::Inconclusive,
            CheckStep::NonInferiority,
        );
        check(BaselineDifference { yardstick: true, ..BaselineDifference::default() }, GateRuling::NotEvaluated, CheckStep::NonInferiority);
        check(BaselineDifference { invalid: 12, ..BaselineDifference::default() }, GateRuling::NotEvaluated, CheckStep::Evaluated);
        check(BaselineDifference { stopped: true, ..BaselineDifference::default() }, GateRuling::NotEvaluated, CheckStep::DeclaredChecks);
        check(BaselineDifference { agents: true, ..BaselineDifference::default() }, GateRuling::NotEvaluated, CheckStep::DeclaredChecks);
        check(BaselineDifference { exchanged: true, ..BaselineDifference::default() }, GateRuling::NotEvaluated, CheckStep::DeclaredChecks);
        check(BaselineDifference { unheld: true, ..BaselineDifference::default() }, GateRuling::NotEvaluated, CheckStep::Golden);
        check(
            BaselineDifference { unheld: true, golden: true, ..BaselineDifference::default() },
            GateRuling::Regression,
            CheckStep::Golden,
        );
        // A harder scenario is another test, so the history of the old scenario does not apply.
        let harder = BaselineDifference { bad: (1..=20).collect(), admitted: true, yardstick: true, ..BaselineDifference::default() };
        check(harder, GateRuling::NotEvaluated, CheckStep::NonInferiority);
        // An unevaluated check does not hide a forbidden action.
        check(
            BaselineDifference { invalid: 12, forbidden: true, ..BaselineDifference::default() },
            GateRuling::Regression,
            CheckStep::ForbiddenAction,
        );
        check(
            BaselineDifference { missing: 3, bad: (1..=20).collect(), ..BaselineDifference::default() },
            GateRuling::Regression,
            CheckStep::NonInferiority,
        );
    }

    fn rung(judgement: &GateJudgement, step: CheckStep) -> &GateCheck {
        judgement.rungs.iter().find(|rung| rung.step == step).unwrap()
    }

    #[test]
    fn incomplete_or_mixed_results_cannot_become_a_baseline_but_other_seeds_can() {
        let of = |setting: &BaselineDifference| {
            let judgement = sample::judged(setting);
            let declared = rung(&judgement, CheckStep::DeclaredChecks);
            let findings: Vec<String> = declared.findings.iter().map(|finding| format!("{}: {}", finding.case, finding.words)).collect();
            (declared.state, declared.words.clone(), findings, judgement.hole)
        };
        let (state, words, _, hole) =
            of(&BaselineDifference { missing: 3, without: Some("partition_leader"), ..BaselineDifference::default() });
        assert_eq!((state, &*words), (CheckState::Failed, "1 case of the baseline removed; 3 planned trials have not finished"));
        assert_eq!(hole.as_deref(), Some("3 planned trials have not finished"));
        let (.., hole) = of(&BaselineDifference { without: Some("partition_leader"), ..BaselineDifference::default() });
        assert_eq!(hole, None, "taken away on purpose");

        let (_, words, findings, hole) = of(&BaselineDifference { agents: true, ..BaselineDifference::default() });
        assert_eq!((&*words, hole.as_deref()), ("`partition_leader/playbook` mixes versions", Some(&*words)));
        assert_eq!(
            findings,
            ["partition_leader/playbook: its trials are from 2 versions of the agent; run the campaign again and name only that run"]
        );

        let (_, words, findings, hole) = of(&BaselineDifference { exchanged: true, ..BaselineDifference::default() });
        assert_eq!((&*words, hole), ("5 trials of the baseline have no counterpart", None));
        let told = "5 of 20 trials of the baseline have no counterpart, the first with seed 16; run them, or `--accept` a new baseline";
        assert_eq!(findings, [format!("partition_leader/playbook: {told}")]);
    }

    #[test]
    fn unchecked_goldens_are_not_reported_as_absent() {
        let words = |setting: &BaselineDifference| rung(&sample::judged(setting), CheckStep::Golden).words.clone();
        assert_eq!(words(&BaselineDifference::default()), "no goldens");
        assert!(words(&BaselineDifference { unplanned: true, ..BaselineDifference::default() }).starts_with("not checked"));
        assert_eq!(
            words(&BaselineDifference { unheld: true, golden: true, ..BaselineDifference::default() }),
            "1 trial differs; 1 golden has no matching trial"
        );
    }
}
