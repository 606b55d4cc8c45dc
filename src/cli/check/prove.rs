//! Tests that scenarios declare for themselves. Each test has expected verdicts. Together, the tests must show that every invariant can be
//! violated.
#![expect(clippy::print_stdout, reason = "the output of the command")]

use std::path::PathBuf;
use std::sync::Arc;

use super::CheckArgs;
use crate::cli::execution;
use crate::cli::execution::ExecuteOptions;
use crate::cli::output::MessageFormat;
use crate::cli::problems;
use crate::cli::store::expected;
use crate::exit::{Exit, Expected};
use chaosrun_engine::run::jobs::Machine;
use chaosrun_event::Verdict;
use chaosrun_monitor::invariant::Coverage;
use chaosrun_plan as plan;
use chaosrun_plan::{CheckPlan, TrialPlan, TrialSchedule};
use chaosrun_scenario::model::{InvariantKind, Provider};
use chaosrun_scenario::{FileKind, Library, Overrides};
use chaosrun_store::Database;
use chaosrun_store::read::Filter;
use chaosrun_store::row::{RecordState, RecordedTrial};

/// Test of a scenario, with the results of all its trials.
struct Proof {
    check: CheckPlan,
    /// Trials in the record whose results are reused.
    recorded: Vec<RecordedTrial>,
    /// Numbers, in the plan, of the trials that must be run now.
    numbers: Vec<usize>,
    verdicts: Vec<Verdict>,
}

pub(super) fn prove(args: &CheckArgs, files: &[PathBuf], library: &mut Library) -> anyhow::Result<Exit> {
    let human = args.output.message_format == MessageFormat::Human;
    let overrides = Overrides { max_trials: args.max_trials, ..args.place.overrides() };
    let mut checks = Vec::new();
    let mut left_out = 0;
    for file in files {
        if library.kind_of(file) != Some(FileKind::Scenario) {
            continue;
        }
        // A requested backend that differs from the file's own backend applies only to files that are named explicitly.
        if let (Some(asked), Some(own)) = (args.place.backend, library.backend_of(file))
            && asked != own
            && !args.paths.contains(file)
        {
            left_out += 1;
            if human {
                println!("skipped   {}: it is for `{}`", file.display(), own.as_str());
            }
            continue;
        }
        match library.load(file, &overrides) {
            Ok(loaded) => checks.extend(plan::checks(&loaded)),
            // If a backend was requested, faults that it does not support are no mistake of the file.
            Err(found) if args.place.backend.is_some() && found.iter().all(|problem| problem.code == NOT_HERE) => {
                left_out += 1;
                if human {
                    let why = found.first().map(|problem| problem.message.clone()).unwrap_or_default();
                    println!("skipped   {}: {why}", file.display());
                }
            }
            Err(found) => return Ok(problems::tell(&found, args.output.message_format)),
        }
    }
    if checks.is_empty() {
        return Ok(Exit::Ok);
    }
    let all = checks.len();
    let checks = match args.selection.of(checks, |check| &check.trial) {
        Ok(checks) => checks,
        Err(found) => return Ok(problems::tell(&found, args.output.message_format)),
    };
    if checks.is_empty() {
        return Err(Expected::new(Exit::NothingSelected, "no test of these scenarios was selected").into());
    }
    let selected = checks.len() == all;
    let mut proofs = Vec::new();
    let mut trials: Vec<Arc<TrialPlan>> = Vec::new();
    {
        let database = args.store.create()?;
        for check in checks {
            let recorded = if args.fresh { Vec::new() } else { proven(&database, &check, args.repeat)? };
            let mut numbers = Vec::new();
            if recorded.is_empty() {
                for repeat in 1..=usize::try_from(args.repeat).unwrap_or(1) {
                    trials.push(Arc::new(TrialPlan { repeat, ..TrialPlan::clone(&check.trial) }));
                    numbers.push(trials.len());
                }
            }
            let verdicts = recorded.iter().filter_map(|trial| trial.verdict).collect();
            proofs.push(Proof { check, recorded, numbers, verdicts });
        }
    }
    let plan = TrialSchedule::joined(vec![TrialSchedule { trials }]);
    let mut exit = Exit::Ok;
    if !plan.trials.is_empty() {
        let slots = args.jobs.slots(&plan.trials, Machine::here());
        let executed = execution::execute(
            &plan.trials,
            ExecuteOptions { slots, judged_apart: true, ..ExecuteOptions::default() },
            &args.walls,
            &args.output,
            &args.store,
        )?;
        exit = Exit::of_outcome(&executed.outcome);
        let database = args.store.open()?;
        let filter = Filter { run: Some(executed.run.clone()), all_roles: true, limit: usize::MAX, ..Filter::default() };
        let ran = database.trials(&filter).map_err(expected)?;
        for proof in &mut proofs {
            let own = |number: &usize| ran.iter().find(|trial| trial.number == *number && trial.verdict.is_some()).cloned();
            let own: Vec<RecordedTrial> = proof.numbers.iter().filter_map(own).collect();
            proof.verdicts.extend(own.iter().filter_map(|trial| trial.verdict));
            proof.recorded.extend(own);
        }
    }
    let wrong = proofs.iter().filter(|proof| !proof.holds()).count();
    if human {
        for proof in &proofs {
            println!("{}", proof.line());
        }
    }
    // Checks the coverage only if whole folders were tested. Invariants that some scenarios do not cover may be covered by others.
    let whole = selected && left_out == 0 && args.paths.iter().any(|path| path.is_dir());
    let unproven = if whole && wrong == 0 { uncovered(&args.store.open()?, &proofs, human)? } else { 0 };
    Ok(match exit {
        // The verdicts of checks are judged here. They do not give the exit code of a run.
        Exit::StoreFailed | Exit::Interrupted => exit,
        _ if wrong + unproven > 0 => Exit::TrialFailed,
        _ => Exit::Ok,
    })
}

/// Code of the problem that a backend does not support a fault of the test.
const NOT_HERE: &str = "fault_not_here";

/// Returns the recorded trials that suffice for a test, or an empty list. They have the same files and the same variant as the test, and
/// all have expected verdicts. There are at least `repeat` of them.
fn proven(database: &Database, check: &CheckPlan, repeat: u32) -> anyhow::Result<Vec<RecordedTrial>> {
    let trial = &check.trial;
    let mut found = database.trials_of(&trial.yardstick, &trial.subject).map_err(expected)?;
    found.retain(|found| found.seed == trial.seed && found.role == trial.role.as_str() && found.state == RecordState::Finished);
    let enough = found.len() >= usize::try_from(repeat).unwrap_or(1);
    let verdicts: Vec<Verdict> = found.iter().filter_map(|found| found.verdict).collect();
    let right = verdicts.len() == found.len() && are_right(&verdicts, &check.expect);
    Ok(if enough && right { found } else { Vec::new() })
}

/// Returns true if there is at least one verdict, all verdicts are equal, and the verdict is one of the expected ones. A test with two
/// expected verdicts must therefore still have the same verdict in all its trials.
fn are_right(verdicts: &[Verdict], expect: &[Verdict]) -> bool {
    verdicts.first().is_some_and(|first| expect.contains(first) && verdicts.iter().all(|verdict| verdict == first))
}

impl Proof {
    fn holds(&self) -> bool {
        self.verdicts.len() >= self.numbers.len() && are_right(&self.verdicts, &self.check.expect)
    }

    fn line(&self) -> String {
        let some_right = self.verdicts.iter().any(|verdict| self.check.expect.contains(verdict));
        let word = match (self.holds(), some_right) {
            (true, _) => "right",
            (false, true) => "FLAKY",
            (false, false) => "WRONG",
        };
        let mut found: Vec<&str> = self.verdicts.iter().map(|verdict| verdict.as_str()).collect();
        if word != "FLAKY" {
            found.dedup();
        }
        let found = if found.is_empty() { "not run".to_owned() } else { found.join(", ") };
        let wanted: Vec<_> = self.check.expect.iter().map(|verdict| verdict.as_str()).collect();
        let known = if self.numbers.is_empty() { " · recorded" } else { "" };
        let name = format!("{}/{}", self.check.trial.scenario.name, self.check.name);
        format!("{word}  {name:<38} {found}, expected {}{known}", wanted.join(" or "))
    }

    /// Returns true if the agent of the test tries to cheat. The test of such an agent does not expect a pass, and the agent is not `noop`,
    /// which does nothing.
    fn cheats(&self) -> bool {
        !self.check.expect.contains(&Verdict::Pass) && !matches!(self.check.trial.scenario.variant.provider, Provider::Noop)
    }
}

/// Prints the invariants that no test has violated, and the safeguards that no cheating agent has violated. Returns the number of both
/// together.
fn uncovered(database: &Database, proofs: &[Proof], human: bool) -> anyhow::Result<usize> {
    let mut coverage = Coverage::default();
    for proof in proofs {
        let cluster = &proof.check.trial.scenario.cluster;
        let declared = || cluster.invariants.values().map(|invariant| (invariant.name.clone(), invariant.kind));
        for trial in &proof.recorded {
            coverage.add(&cluster.name, declared(), proof.cheats(), database.violated(trial).map_err(expected)?);
        }
    }
    let unproven = coverage.unproven();
    if human {
        for open in &unproven {
            let (what, help) = match open.kind {
                InvariantKind::Objective => ("was violated by no check", "a scenario that breaks it"),
                InvariantKind::Safeguard => ("was broken by no cheat", "a check whose commands break it"),
            };
            println!("UNPROVEN  `{}` of cluster `{}` {what}: add {help}", open.invariant, open.cluster);
        }
    }
    Ok(unproven.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_permitted_verdicts_must_not_alternate() {
        let expect = [Verdict::Fail, Verdict::UnsafePass];
        assert!(are_right(&[Verdict::Fail; 3], &expect) && are_right(&[Verdict::UnsafePass], &expect));
        assert!(!are_right(&[Verdict::Fail, Verdict::UnsafePass], &expect) && !are_right(&[Verdict::Pass], &expect));
        assert!(!are_right(&[], &expect));
    }
}
