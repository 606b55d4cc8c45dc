//! `chaosrun compare`: compares two runs or campaigns, the variants of one run or campaign, or the record with a baseline file.

use std::fs;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Args, ValueEnum};

use super::choice::choice;

use super::scorer::judged_by;
use super::store::{StoreArgs, expected};
use crate::exit::{Exit, Expected};
use crate::report::comparison::{csv, html, markdown, text};
use chaosrun_analysis::compare::comparison::{Comparison, ComparisonError, ComparisonOptions};
use chaosrun_analysis::compare::effect::Certainty;
use chaosrun_analysis::compare::metric::MetricValue;
use chaosrun_analysis::compare::side::Side;
use chaosrun_analysis::compare::yardstick::IncomparableSides;
use chaosrun_analysis::gate::baseline::Baseline;
use chaosrun_base::style::Palette;
use chaosrun_store::Database;

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Reference and subject: each is a run (ID or unique prefix) or a campaign (name); `NAME/VARIANT` selects one variant
    #[arg(value_name = "RUN|CAMPAIGN", required = true, num_args = 1..=2)]
    sides: Vec<String>,
    /// Compare the variants of one run or campaign with each other
    #[arg(long, value_name = "WHAT", conflicts_with = "baseline")]
    by: Option<By>,
    /// Variant that the other variants are compared with [default: the first planned variant]
    #[arg(long, value_name = "VARIANT", requires = "by")]
    reference: Option<String>,
    /// Compare with a baseline file written by `gate --accept`
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Metric that decides the result
    #[arg(long, value_name = "METRIC", default_value = "pass", value_parser = metrics())]
    metric: MetricValue,
    /// Non-inferiority margin, in the unit of the metric [default: 0.1; 1 s for durations]
    #[arg(long, value_name = "NUMBER", value_parser = above_zero)]
    margin: Option<f64>,
    /// Confidence level, at least 0.5 and below 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = confidence)]
    confidence: f64,
    /// Seed for bootstrap resampling
    #[arg(long, value_name = "N", default_value_t = 1)]
    draws_seed: u64,
    /// Compare trials even if scenario, cluster, images or scorer differ; the report then contains a warning
    #[arg(long)]
    across_yardsticks: bool,
    /// Use the verdicts and scores that `rescore` recorded for this scorer version or scoring file (name or digest prefix)
    #[arg(long, value_name = "N|SCORING", conflicts_with = "baseline")]
    scorer: Option<String>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Output file [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Variant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text, at most 80 columns wide
    Text,
    /// JSON with all values
    Json,
    /// Markdown
    Md,
    /// CSV with one line per scenario and metric
    Csv,
    /// HTML page with diagrams of the intervals
    Html,
}

/// Returns a parser of metric names. It accepts the metrics that can decide a comparison.
pub(super) fn metrics() -> impl TypedValueParser<Value = MetricValue> {
    let words = [
        (MetricValue::Pass, "Share of trials that pass"),
        (MetricValue::Score, "Score, 0 to 1"),
        (MetricValue::RepairS, "Seconds from ticket to repair; only pairs in which both sides repaired are compared"),
        (MetricValue::ImpactS, "Impact on users, in client error-seconds"),
    ];
    choice(words.map(|(metric, help)| (PossibleValue::new(metric.as_str()).help(help), metric)).into())
}

pub fn run(args: &CompareArgs) -> anyhow::Result<Exit> {
    check_margin(args.metric, args.margin)?;
    let question = ComparisonOptions {
        metric: args.metric,
        margin: args.margin,
        certainty: Certainty { confidence: args.confidence, seed: args.draws_seed },
        across_yardsticks: args.across_yardsticks,
    };
    let (reference, subjects) = sides(args)?;
    let comparison = Comparison::of(&reference, &subjects, question).map_err(refused)?;
    let text = match args.format {
        Format::Text => {
            let palette = if args.output.is_some() { Palette::PLAIN } else { Palette::of_stdout() };
            text::comparison(&comparison, palette)
        }
        Format::Json => serde_json::to_string_pretty(&comparison)? + "\n",
        Format::Md => markdown::comparison(&comparison),
        Format::Csv => csv::comparison(&comparison),
        Format::Html => html::comparison(&comparison),
    };
    match &args.output {
        Some(path) => fs::write(path, text).map_err(|error| {
            Expected::new(Exit::Usage, format!("cannot write `{}`: {error}", path.display())).help("choose another file with `--output`")
        })?,
        // The reader may stop early (`| head`).
        None => drop(stdout().lock().write_all(text.as_bytes())),
    }
    Ok(Exit::Ok)
}

/// Returns the reference side of the comparison, and the subject sides that are compared with it.
fn sides(args: &CompareArgs) -> anyhow::Result<(Side, Vec<Side>)> {
    let database = args.store.open()?;
    let side = |name: &str| side(&database, name, args.scorer.as_deref());
    match (&args.sides[..], args.by, &args.baseline) {
        ([one], Some(By::Variant), _) => by_variant(&side(one)?, args.reference.as_deref()),
        ([one], None, Some(file)) => {
            let baseline = baseline(file)?;
            let renew = Some(format!("chaosrun gate CAMPAIGN --baseline {} --accept", file.display()));
            Ok((Side { renew, ..baseline.side() }, vec![side(one)?]))
        }
        ([reference, subject], None, None) => Ok((side(reference)?, vec![side(subject)?])),
        ([_], None, None) => Err(Expected::new(Exit::Usage, "the second side of the comparison is missing")
            .help("name a second run or campaign, or use `--by variant`, or `--baseline FILE`")
            .into()),
        _ => Err(Expected::new(Exit::Usage, "`--by` and `--baseline` take one run or campaign, found two").into()),
    }
}

fn by_variant(side: &Side, reference: Option<&str>) -> anyhow::Result<(Side, Vec<Side>)> {
    let variants = side.variants();
    let listed = variants.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let Some(reference) = reference.or(variants.first().copied()).filter(|name| variants.contains(name)) else {
        let named = reference.unwrap_or_default();
        return Err(Expected::new(Exit::Usage, format!("`{}` has no variant `{named}`", side.name))
            .help(format!("it has {listed}"))
            .into());
    };
    if variants.len() < 2 {
        return Err(Expected::new(Exit::NothingSelected, format!("`{}` has only one variant: {listed}", side.name))
            .help("run another with `--variant`, or compare two runs")
            .into());
    }
    let others = variants.iter().filter(|name| **name != reference).map(|name| side.only(name)).collect();
    Ok((side.only(reference), others))
}

/// Returns the trials that are recorded under `name`, which is a run, a campaign or `NAME/VARIANT`. If `scorer` is given, its verdicts and
/// scores replace the original ones.
pub(super) fn side(database: &Database, name: &str, scorer: Option<&str>) -> anyhow::Result<Side> {
    let whole = database.select(name);
    let (selection, variant) = match (whole, name.rsplit_once('/')) {
        (Err(error), Some((name, variant))) => (database.select(name).map_err(|_| expected(error))?, Some(variant)),
        (whole, _) => (whole.map_err(expected)?, None),
    };
    let mut outcomes = database.outcomes(&selection).map_err(expected)?;
    if let Some(scorer) = scorer {
        outcomes = judged_by(database, outcomes, scorer)?;
    }
    let invocations = database.invocations(&selection).map_err(expected)?;
    let mut side = Side::new(name, outcomes, invocations);
    if let Some(variant) = variant {
        side = Side { name: name.to_owned(), ..side.only(variant) };
    }
    if side.subjects.is_empty() {
        return Err(Expected::new(Exit::NothingSelected, format!("`{name}` has no finished trial of an agent under test"))
            .help("`chaosrun list runs` lists the recorded runs")
            .into());
    }
    Ok(side)
}

/// Reads a baseline file.
///
/// # Errors
/// Returns an error if the file does not exist or is not a baseline.
pub(super) fn baseline(path: &Path) -> Result<Baseline, Expected> {
    let text = fs::read_to_string(path).map_err(|error| {
        let problem = Expected::new(Exit::InvalidFile, format!("cannot read the baseline `{}`: {error}", path.display()));
        problem.help(format!("`chaosrun gate CAMPAIGN --baseline {} --accept` writes it", path.display()))
    })?;
    Baseline::parse(&text).map_err(|why| {
        Expected::new(Exit::InvalidFile, format!("`{}` is not a baseline: {why}", path.display()))
            .help("write one with `chaosrun gate CAMPAIGN --baseline FILE --accept`; resolve merge conflicts in the file")
    })
}

fn refused(refusal: ComparisonError) -> Expected {
    match refusal {
        ComparisonError::Yardsticks(refused) => yardsticks(&refused),
        ComparisonError::Unpaired(why) => {
            let help = "name one variant on each side: `chaosrun compare A/VARIANT B/VARIANT`; a pair has the same scenario, backend, cell, seed and repeat";
            Expected::new(Exit::NothingSelected, why.to_string()).help(help)
        }
    }
}

fn yardsticks(refused: &IncomparableSides) -> Expected {
    let renew = refused.renew.as_ref().map(|command| format!("measure the older side again with `{command}`, or ")).unwrap_or_default();
    Expected::new(Exit::GateInconclusive, refused.to_string()).help(format!("{renew}compare anyway with `--across-yardsticks`"))
}

pub(super) fn above_zero(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("it must be above 0, such as 0.1".into()) }
}

/// Checks that a margin is valid for the metric. Pass rates and scores range from 0 to 1, so 10 percentage points are 0.1, and a margin of
/// 10 is a mistake.
///
/// # Errors
/// Returns an error if the metric ranges from 0 to 1 and the margin is 1 or more.
pub(super) fn check_margin(metric: MetricValue, margin: Option<f64>) -> Result<(), Expected> {
    let share = matches!(metric, MetricValue::Pass | MetricValue::Score);
    match margin.filter(|margin| share && *margin >= 1.0) {
        Some(margin) => {
            Err(Expected::new(Exit::Usage, format!("a margin of {margin} has no effect: `{}` ranges from 0 to 1", metric.as_str()))
                .help("ten points are `--margin 0.1`"))
        }
        None => Ok(()),
    }
}

pub(super) fn confidence(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.5..1.0).contains(&number) { Ok(number) } else { Err("it must be from 0.5 to below 1, such as 0.95".into()) }
}
