//! The scenarios' own tests: each has the verdicts that are right, and together they show that every invariant can be violated.
#![expect(clippy::print_stdout, reason = "the outcome is what was asked for")]

use std::path::PathBuf;
use std::sync::Arc;

use super::CheckArgs;
use crate::cli::execution::{self, How};
use crate::cli::exit::{Exit, Expected};
use crate::cli::output::MessageFormat;
use crate::cli::problems;
use crate::cli::store::expected;
use crate::event::Verdict;
use crate::invariant::Coverage;
use crate::plan::{self, CheckPlan, Plan, TrialPlan};
use crate::run::jobs::Machine;
use crate::scenario::model::{InvariantKind, Provider};
use crate::scenario::{self, Kind};
use crate::store::Database;
use crate::store::read::Filter;
use crate::store::row::{State, Trial};

/// One check with all that is known of it.
struct Proof {
    check: CheckPlan,
    /// What the record holds already, and does not have to be run again.
    recorded: Vec<Trial>,
    /// Places in the plan of what is run now.
    numbers: Vec<usize>,
    verdicts: Vec<Verdict>,
}

pub(super) fn prove(args: &CheckArgs, files: &[PathBuf]) -> anyhow::Result<Exit> {
    let human = args.output.message_format == MessageFormat::Human;
    let mut checks = Vec::new();
    let mut left_out = 0;
    for file in files.iter().filter(|file| Kind::of_file(file) == Some(Kind::Scenario)) {
        // Another backend than its own may be asked for by the file's name, not in passing.
        if let (Some(asked), Some(own)) = (args.place.backend, Kind::backend_of_file(file))
            && asked != own
            && !args.paths.contains(file)
        {
            left_out += 1;
            if human {
                println!("left out  {}: it is for `{}`", file.display(), own.as_str());
            }
            continue;
        }
        match scenario::load(file, &args.place.overrides()) {
            Ok(loaded) => checks.extend(plan::checks(&loaded)),
            // Another backend than the file's was asked for: what cannot be there is no mistake of the file.
            Err(found) if args.place.backend.is_some() && found.iter().all(|problem| problem.code == NOT_HERE) => {
                left_out += 1;
                if human {
                    let why = found.first().map(|problem| problem.message.clone()).unwrap_or_default();
                    println!("left out  {}: {why}", file.display());
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
    let plan = Plan::joined(vec![Plan { trials }]);
    let mut exit = Exit::Ok;
    if !plan.trials.is_empty() {
        let slots = args.jobs.slots(&plan.trials, Machine::here());
        let executed =
            execution::execute(&plan.trials, How { slots, judged_apart: true, ..How::default() }, &args.walls, &args.output, &args.store)?;
        exit = Exit::of_outcome(&executed.outcome);
        let database = args.store.open()?;
        let filter = Filter { run: Some(executed.run.clone()), all_roles: true, limit: usize::MAX, ..Filter::default() };
        let ran = database.trials(&filter).map_err(expected)?;
        for proof in &mut proofs {
            let own = |number: &usize| ran.iter().find(|trial| trial.number == *number && trial.verdict.is_some()).cloned();
            let own: Vec<Trial> = proof.numbers.iter().filter_map(own).collect();
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
    // What a part of the scenarios does not show, another part may.
    let whole = selected && left_out == 0 && args.paths.iter().any(|path| path.is_dir());
    let unproven = if whole && wrong == 0 { uncovered(&args.store.open()?, &proofs, human)? } else { 0 };
    Ok(match exit {
        // Verdicts of checks are judged here, not as those of a run.
        Exit::StoreFailed | Exit::Interrupted => exit,
        _ if wrong + unproven > 0 => Exit::TrialFailed,
        _ => Exit::Ok,
    })
}

/// The code of problems that another backend would not have.
const NOT_HERE: &str = "fault_not_here";

/// The recorded trials that prove a check already: of the same yardstick and subject, often enough, and all of them right.
fn proven(database: &Database, check: &CheckPlan, repeat: u32) -> anyhow::Result<Vec<Trial>> {
    let trial = &check.trial;
    let mut found = database.trials_of(&trial.yardstick, &trial.subject).map_err(expected)?;
    found.retain(|found| found.seed == trial.seed && found.role == trial.role.as_str() && found.state == State::Finished);
    let enough = found.len() >= usize::try_from(repeat).unwrap_or(1);
    let verdicts: Vec<Verdict> = found.iter().filter_map(|found| found.verdict).collect();
    let right = verdicts.len() == found.len() && are_right(&verdicts, &check.expect);
    Ok(if enough && right { found } else { Vec::new() })
}

/// Whether there are any, all the same, and one of those that are expected: of two that may be, one proof comes to one.
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
        format!("{word}  {name:<38} {found}, wanted {}{known}", wanted.join(" or "))
    }

    /// Its agent was to be caught: neither one that must pass nor one that only stands by.
    fn cheats(&self) -> bool {
        !self.check.expect.contains(&Verdict::Pass) && !matches!(self.check.trial.scenario.variant.provider, Provider::Noop)
    }
}

/// Tells the invariants that no check has violated, and the safeguards that no cheat has broken. How many there are.
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
    fn two_verdicts_that_may_be_are_not_one_that_is_always_so() {
        let expect = [Verdict::Fail, Verdict::UnsafePass];
        assert!(are_right(&[Verdict::Fail; 3], &expect) && are_right(&[Verdict::UnsafePass], &expect));
        assert!(!are_right(&[Verdict::Fail, Verdict::UnsafePass], &expect) && !are_right(&[Verdict::Pass], &expect));
        assert!(!are_right(&[], &expect));
    }
}
