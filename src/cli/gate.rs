//! `chaosrun gate`: runs a campaign, or uses a recorded one, and decides whether the tested variants pass.
#![expect(clippy::print_stdout, reason = "the output of the command")]

use std::collections::{HashMap, HashSet};
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::compare;
use super::early_stopping::EarlyStop;
use super::execution::{self, ExecuteOptions, Resume, SandboxArgs};
use super::golden;
use super::output::{MessageFormat, OutputArgs};
use super::overrides::OverrideArgs;
use super::planned;
use super::policy::{self, PolicyArgs};
use super::problems;
use super::selection::SelectionArgs;
use super::store::{StoreArgs, expected};
use crate::exit::{Exit, Expected};
use crate::report::gate::{annotations, junit, markdown, text};
use chaosrun_analysis::compare::comparison::ComparisonOptions;
use chaosrun_analysis::compare::effect::Certainty;
use chaosrun_analysis::compare::metric::MetricValue;
use chaosrun_analysis::compare::side::Side;
use chaosrun_analysis::gate::baseline::Baseline;
use chaosrun_analysis::gate::certain_regression::CertainRegression;
use chaosrun_analysis::gate::checks::{CheckState, CheckStep, GateFinding};
use chaosrun_analysis::gate::judge::{GateEvidence, GateJudgement, judge};
use chaosrun_analysis::gate::unfinished::{UnfinishedTrials, missing};
use chaosrun_base::style::Palette;
use chaosrun_engine::run::recording::Records;
use chaosrun_event::{ScoreGroup, Stopped, TrialRole, Verdict};
use chaosrun_plan::declared;
use chaosrun_plan::declared::TrialKey;
use chaosrun_plan::resume::yardstick;
use chaosrun_plan::{TrialPlan, TrialSchedule};
use chaosrun_scenario::model::Campaign;
use chaosrun_score as score;
use chaosrun_score::unexcused;
use chaosrun_store::Database;
use chaosrun_store::outcomes::TrialOutcome;

#[derive(Debug, Args)]
pub struct GateArgs {
    /// Campaign file or scenario files; not required with `--run`
    #[arg(required_unless_present = "run", value_name = "CAMPAIGN|SCENARIO")]
    files: Vec<PathBuf>,
    /// Baseline file to compare with; keep it under version control
    #[arg(long, value_name = "FILE", env = "CHAOSRUN_BASELINE")]
    baseline: PathBuf,
    /// Compare recorded trials of this run (ID or unique prefix) or campaign (name) instead of running trials
    #[arg(long, value_name = "RUN|CAMPAIGN")]
    run: Option<String>,
    /// Write the results as the new baseline
    #[arg(long)]
    accept: bool,
    /// Stop as soon as a regression is certain
    #[arg(long, value_name = "WHEN", env = "CHAOSRUN_UNTIL", conflicts_with_all = ["run", "accept"])]
    until: Option<EarlyStop>,
    /// Folder of golden snapshots
    #[arg(long, value_name = "DIR", env = "CHAOSRUN_GOLDEN", default_value = golden::FOLDER)]
    golden: PathBuf,
    /// Metric that decides the result; a gate supports only `pass` and `score` [default: from the campaign, else pass]
    #[arg(long, value_name = "METRIC", value_parser = compare::metrics())]
    metric: Option<MetricValue>,
    /// Non-inferiority margin, in the unit of the metric [default: from the campaign, else 0.1; 1 s for durations]
    #[arg(long, value_name = "NUMBER", value_parser = compare::above_zero)]
    margin: Option<f64>,
    /// Confidence level, at least 0.5 and below 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = compare::confidence)]
    confidence: f64,
    /// Write a JUnit XML report to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a Markdown summary to this file, in addition to the file that `GITHUB_STEP_SUMMARY` names
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Output format
    #[arg(long, value_name = "FORMAT", env = "CHAOSRUN_MESSAGE_FORMAT", default_value = "human")]
    message_format: MessageFormat,
    #[command(flatten)]
    walls: SandboxArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Trials that the gate judges, with the number of missing trials.
struct Ran {
    side: Side,
    missing: usize,
    /// Findings that describe the missing trials. Empty if the missing trials are not known.
    unended: Vec<GateFinding>,
    /// Reason why no trial could be run. `None` if trials were run.
    stopped: Option<String>,
}

pub fn run(args: &GateArgs) -> anyhow::Result<Exit> {
    let previous = previous(args)?;
    let plan = match load(args)? {
        Ok(plan) => plan,
        Err(exit) => return Ok(exit),
    };
    let name = plan.as_ref().map_or_else(|| args.run.clone().unwrap_or_default(), |plan| plan.name.clone());
    // Checks the options before any cost is incurred.
    let question = question(args, plan.as_ref())?;
    let none = Baseline::accepted(None, &name, &Side::default());
    let baseline = previous.as_ref().unwrap_or(&none);
    let ran = match ran(args, plan.as_ref(), &name, (baseline, question))? {
        Ok(ran) => ran,
        Err(exit) => return Ok(exit),
    };
    let (mut harmful, mut goldens) = (Vec::new(), None);
    if !ran.side.subjects.is_empty() {
        let database = args.store.open()?;
        harmful = harm(&database, &ran.side)?;
        if let Some(plan) = &plan {
            goldens = Some(golden::findings::findings(&database, &args.golden, &plan.plan.trials, &ran.side.subjects)?);
        }
    }
    let planned = plan.as_ref().map(Planned::subjects);
    let judgement = judge(
        &GateEvidence {
            name: &name,
            side: &ran.side,
            baseline,
            missing: ran.missing,
            unended: &ran.unended,
            planned: planned.as_ref(),
            harm: &harmful,
            golden: goldens.as_ref(),
            stopped: ran.stopped.as_deref(),
        },
        question,
    );
    write(args, &judgement)?;
    if !args.accept {
        tell(args, &judgement)?;
        return Ok(Exit::of_ruling(judgement.ruling));
    }
    accept(args, previous.as_ref(), &judgement, &ran.side)
}

/// Reads the baseline file. Returns `None` if the file does not exist and `--accept` is given, which creates the file.
fn previous(args: &GateArgs) -> Result<Option<Baseline>, Expected> {
    if args.accept && !args.baseline.exists() { Ok(None) } else { compare::baseline(&args.baseline).map(Some) }
}

/// Plan of the files that the command line names.
struct Planned {
    name: String,
    plan: TrialSchedule,
    campaign: Option<Arc<Campaign>>,
}

impl Planned {
    /// Returns the keys of all planned trials of the tested variants, without controls.
    fn subjects(&self) -> HashSet<TrialKey> {
        self.plan.trials.iter().filter(|trial| trial.role == TrialRole::Subject).map(|trial| declared::planned(trial)).collect()
    }

    /// Returns the planned trials that have no result in the record, including controls. A trial that was recorded with other files counts
    /// as missing.
    fn missing(&self, side: &Side) -> UnfinishedTrials {
        let ended: HashMap<TrialKey, &TrialOutcome> =
            side.subjects.iter().chain(side.controls.iter()).map(|outcome| (declared::recorded(outcome), outcome)).collect();
        let (mut absent, mut stale) = (0, 0);
        for trial in &self.plan.trials {
            match ended.get(&declared::planned(trial)) {
                None => absent += 1,
                Some(outcome) if !is_of(trial, outcome) => stale += 1,
                Some(_) => {}
            }
        }
        let words =
            || format!("{stale} of {} planned trials are recorded with another agent or yardstick; run them again", self.plan.trials.len());
        let finding = (stale > 0).then(|| GateFinding { case: self.name.clone(), file: None, words: words(), trial: None });
        UnfinishedTrials { trials: absent + stale, findings: finding.into_iter().collect() }
    }
}

/// Returns true if the recorded trial was run with the same files as the planned trial. For a trial in containers, the files can only be
/// compared if the digests of the images are known. Otherwise, only the variants are compared.
fn is_of(trial: &TrialPlan, outcome: &TrialOutcome) -> bool {
    let known = !trial.scenario.backend.images || !trial.images.is_empty();
    outcome.subject == trial.subject && (!known || outcome.yardstick == yardstick(trial))
}

/// Loads the plan from the files that the arguments name. Returns `None` if the arguments name only a recorded run.
fn load(args: &GateArgs) -> anyhow::Result<Result<Option<Planned>, Exit>> {
    if args.overrides.like.is_some() {
        return Err(Expected::new(Exit::Usage, "`--like` cannot be used with `gate`: a gate evaluates a whole campaign").into());
    }
    if args.files.is_empty() {
        return Ok(Ok(None));
    }
    let planned = match planned::load(&args.files, &args.overrides.overrides(None)?, &SelectionArgs::default())? {
        Ok(planned) => planned,
        Err(found) => return Ok(Err(problems::tell(&found, args.message_format))),
    };
    let mut names: Vec<&str> = planned.plan.trials.iter().map(|trial| trial.scenario.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let name = planned.campaign.as_ref().map_or_else(|| names.join(" "), |campaign| campaign.name.clone());
    Ok(Ok(Some(Planned { name, plan: planned.plan, campaign: planned.campaign })))
}

fn question(args: &GateArgs, plan: Option<&Planned>) -> Result<ComparisonOptions, Expected> {
    let asked = plan.and_then(|plan| plan.campaign.as_ref()).and_then(|campaign| campaign.compare.as_ref());
    let metric = args.metric.or(asked.map(|asked| asked.metric.into())).unwrap_or(MetricValue::Pass);
    if !matches!(metric, MetricValue::Pass | MetricValue::Score) {
        let message = "a baseline contains no times: a gate compares `pass` or `score`";
        return Err(Expected::new(Exit::Usage, message).help("use `--metric pass`; `chaosrun compare` supports all metrics"));
    }
    // The margin of the campaign is valid only for the metric of the campaign.
    let margin = args.margin.or(asked.filter(|asked| metric == asked.metric.into()).map(|asked| asked.margin));
    compare::check_margin(metric, margin)?;
    let certainty = Certainty { confidence: args.confidence, seed: 1 };
    Ok(ComparisonOptions { metric, margin, certainty, across_yardsticks: false })
}

/// Runs the planned trials, or reads the recorded trials.
fn ran(
    args: &GateArgs,
    plan: Option<&Planned>,
    name: &str,
    (baseline, question): (&Baseline, ComparisonOptions),
) -> anyhow::Result<Result<Ran, Exit>> {
    if let Some(recorded) = &args.run {
        let side = compare::side(&args.store.open()?, recorded, None)?;
        let UnfinishedTrials { trials, findings } = plan.map_or_else(|| missing(&side), |plan| plan.missing(&side));
        let side = Side { name: name.to_owned(), ..side }.with_controls_apart();
        return Ok(Ok(Ran { side, missing: trials, unended: findings, stopped: None }));
    }
    let Some(plan) = plan else { return Ok(Err(Exit::NothingSelected)) };
    let output = OutputArgs { message_format: MessageFormat::Human, junit: None };
    let policy = args.policy.policy(plan.campaign.as_deref());
    let unbounded = policy::unbounded(&plan.plan.trials, &policy.budget);
    if !unbounded.is_empty() {
        return Ok(Err(problems::tell(&unbounded, args.message_format)));
    }
    let how = ExecuteOptions {
        campaign: plan.campaign.as_ref().map(|campaign| campaign.name.clone()),
        slots: args.overrides.slots(&plan.plan.trials),
        policy,
        resume: args.policy.resume.then_some(Resume { retry_invalid: args.policy.retry_invalid }),
        records: Records::default(),
        judged_apart: true,
        certain: args.until.map(|EarlyStop::Decided| CertainRegression::new(&plan.plan.trials, baseline, question)),
        ..ExecuteOptions::default()
    };
    let executed = match execution::execute(&plan.plan.trials, how, &args.walls, &output, &args.store) {
        Ok(executed) => executed,
        Err(error) => {
            // The environment is the cause, not the agent. The error is included in all reports, and the result is never green.
            let environment = |expected: &&Expected| expected.exit == Exit::TrialInvalid;
            let Some(told) = error.downcast_ref::<Expected>().filter(environment) else { return Err(error) };
            let side = Side { name: name.to_owned(), ..Side::default() };
            return Ok(Ok(Ran { side, missing: plan.plan.trials.len(), unended: Vec::new(), stopped: Some(told.message.clone()) }));
        }
    };
    let exit = Exit::of_outcome(&executed.outcome);
    if matches!(exit, Exit::Interrupted | Exit::StoreFailed) {
        return Ok(Err(exit));
    }
    let database = args.store.open()?;
    let selection = database.select(executed.run.as_str()).map_err(expected)?;
    let outcomes = database.outcomes(&selection).map_err(expected)?;
    let side = Side::new(name, outcomes, database.invocations(&selection).map_err(expected)?);
    let UnfinishedTrials { trials: missing, findings: mut unended } = plan.missing(&side);
    let not_needed = |why: &String| GateFinding {
        case: name.to_owned(),
        file: None,
        words: format!("not run, because a regression was already certain: {why}"),
        trial: None,
    };
    if let Some(Stopped::Certain { why }) = &executed.outcome.tally.stopped {
        unended.push(not_needed(why));
    }
    Ok(Ok(Ran { side: side.with_controls_apart(), missing, unended, stopped: None }))
}

/// Returns the trials in which harm occurred, each with a description of the harm. The verdict of such a trial may have another reason.
///
/// The verdict of a failure or a timeout names only the objective that does not hold. The facts behind such a verdict are therefore
/// examined for other violations. A catastrophic part or gate with value 0 is harm too, and such a trial has score 0. A missing repair is a
/// failure, but not harm.
fn harm(database: &Database, side: &Side) -> anyhow::Result<Vec<(TrialOutcome, String)>> {
    let mut found = Vec::new();
    let unmet = |outcome: &TrialOutcome| matches!(outcome.verdict, Some(Verdict::Fail | Verdict::Timeout));
    for outcome in side.ever().filter(|outcome| outcome.score == Some(0.0) || unmet(outcome)) {
        let Some(trial) = &outcome.trial else { continue };
        let Some(finished) = database.finished(trial).map_err(expected)? else { continue };
        // A basis of another version may not be readable. In this case only the parts are used.
        let judged =
            finished.basis.filter(|_| unmet(outcome)).and_then(|basis| serde_json::from_value::<score::VerdictFacts>(basis.outcome).ok());
        let words = judged.and_then(|judged| unexcused(&judged)).map(|reason| format!("{}: {}", reason.code, reason.message));
        let part = || {
            let mut parts = finished.parts.iter().filter(|_| outcome.score == Some(0.0));
            let part = parts.find(|part| part.catastrophic && part.group != ScoreGroup::Correctness && part.value <= 0.0)?;
            Some(format!("catastrophic: `{}` is {}: {}", part.name, part.measured, part.why))
        };
        found.extend(words.or_else(part).map(|words| (outcome.clone(), words)));
    }
    Ok(found)
}

fn accept(args: &GateArgs, previous: Option<&Baseline>, judgement: &GateJudgement, side: &Side) -> anyhow::Result<Exit> {
    // A baseline with gaps would let the next gate pass without an evaluation.
    let invalid = || judgement.rungs.iter().find(|rung| rung.step == CheckStep::Evaluated && rung.state == CheckState::NotEvaluated);
    if let Some(words) = judgement.hole.as_ref().or_else(|| invalid().map(|rung| &rung.words)) {
        tell(args, judgement)?;
        return Err(Expected::new(Exit::GateInconclusive, format!("these results cannot be a baseline: {words}"))
            .help("run all trials again on a machine where they can run")
            .into());
    }
    if let Some(case) = judgement.cases.iter().find(|case| !case.control && case.now.of == 0) {
        tell(args, judgement)?;
        let message = format!("these results cannot be a baseline: all trials of `{}` are invalid", case.name());
        return Err(Expected::new(Exit::GateInconclusive, message).help("run all trials again on a machine where they can run").into());
    }
    if judgement.rungs.iter().any(|rung| rung.step == CheckStep::ForbiddenAction && rung.state == CheckState::Failed) {
        tell(args, judgement)?;
        eprintln!("warning: a forbidden action occurred; forbidden actions fail the gate even if the baseline contains them");
    }
    let accepted = Baseline::accepted(previous, &judgement.name, side);
    let unwritable = |error: std::io::Error| Expected::new(Exit::Usage, format!("cannot write `{}`: {error}", args.baseline.display()));
    if let Some(folder) = args.baseline.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(unwritable)?;
    }
    fs::write(&args.baseline, accepted.text()).map_err(unwritable)?;
    let trials: usize = accepted.cases.iter().map(|case| case.trials.len()).sum();
    let admitted = accepted.cases.iter().filter(|case| case.is_admitted()).count();
    let cases = chaosrun_event::figures::plural(accepted.cases.len(), "case");
    eprintln!("accepted {trials} trials of {cases}, {admitted} of them admitted, into {}", args.baseline.display());
    Ok(Exit::Ok)
}

/// Writes the reports to the files that the arguments name.
fn write(args: &GateArgs, judgement: &GateJudgement) -> anyhow::Result<()> {
    let unwritable =
        |path: &Path, error: &dyn std::fmt::Display| Expected::new(Exit::Usage, format!("cannot write `{}`: {error}", path.display()));
    if let Some(path) = &args.junit {
        let xml = junit::judgement(judgement).map_err(|error| unwritable(path, &error))?;
        fs::write(path, xml).map_err(|error| unwritable(path, &error))?;
    }
    if let Some(path) = &args.summary {
        fs::write(path, markdown::judgement(judgement)).map_err(|error| unwritable(path, &error))?;
    }
    if let Some(path) = env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()).map(PathBuf::from) {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(markdown::judgement(judgement).as_bytes()));
        written.map_err(|error| unwritable(&path, &error))?;
    }
    Ok(())
}

fn tell(args: &GateArgs, judgement: &GateJudgement) -> anyhow::Result<()> {
    let in_actions = env::var_os("GITHUB_ACTIONS").is_some_and(|set| set == "true");
    let annotations = if in_actions { annotations::judgement(judgement) } else { String::new() };
    match args.message_format {
        MessageFormat::Human => print!("{}{annotations}", text::judgement(judgement, Palette::of_stdout())),
        MessageFormat::Json => {
            println!("{}", serde_json::to_string(judgement)?);
            eprint!("{annotations}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_analysis::compare::sample;
    use chaosrun_scenario::{Overrides, load};

    #[test]
    fn trials_of_another_version_are_missing() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/empty.yaml");
        let overrides = Overrides { variants: vec!["noop".to_owned()], seeds: Some(vec![1, 2, 3, 4]), ..Overrides::default() };
        let planned =
            Planned { name: "empty".into(), plan: chaosrun_plan::plan(&load(file.as_ref(), &overrides).unwrap()), campaign: None };
        let mut outcomes: Vec<TrialOutcome> = planned
            .plan
            .trials
            .iter()
            .map(|trial| {
                let one = sample::outcome("empty", "noop", trial.seed, Some(Verdict::Pass));
                TrialOutcome { yardstick: trial.yardstick.clone(), subject: trial.subject.clone(), role: trial.role, ..one }
            })
            .collect();
        let side = |outcomes: &[TrialOutcome]| Side::new("empty", outcomes.to_vec(), Vec::new());
        assert_eq!(planned.missing(&side(&outcomes)), UnfinishedTrials::default());
        outcomes[0].subject = "other".into();
        outcomes[1].yardstick = "other".into();
        outcomes.pop();
        let found = planned.missing(&side(&outcomes));
        let told = "2 of 4 planned trials are recorded with another agent or yardstick; run them again";
        assert_eq!((found.trials, &*found.findings[0].words), (3, told));
    }
}
