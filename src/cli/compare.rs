//! `chaosrun compare`: two runs, two campaigns, the variants of one, or what is recorded against a baseline.

use std::fs;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::exit::{Exit, Expected};
use super::scorer::judged_by;
use super::store::{StoreArgs, expected};
use super::style::Palette;
use crate::compare::comparison::{Comparison, Question, Refusal};
use crate::compare::effect::Certainty;
use crate::compare::metric::Metric;
use crate::compare::side::Side;
use crate::compare::yardstick::Refused;
use crate::gate::baseline::Baseline;
use crate::report::comparison::{csv, html, markdown, text};
use crate::store::Database;

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The reference and the subject: runs (the beginning of an id) or campaigns (a name); `NAME/VARIANT` takes one variant of it
    #[arg(value_name = "RUN|CAMPAIGN", required = true, num_args = 1..=2)]
    sides: Vec<String>,
    /// Compare the variants of one run or campaign with each other
    #[arg(long, value_name = "WHAT", conflicts_with = "baseline")]
    by: Option<By>,
    /// With `--by variant`: the variant that the others are compared with [default: the first that was planned]
    #[arg(long, value_name = "VARIANT", requires = "by")]
    reference: Option<String>,
    /// Compare with a baseline that `gate --accept` has written
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// What decides
    #[arg(long, value_name = "METRIC", default_value = "pass")]
    metric: Metric,
    /// What is taken for no loss, in the unit of the metric [default: 0.1, of times 1 s]
    #[arg(long, value_name = "NUMBER", value_parser = above_zero)]
    margin: Option<f64>,
    /// How sure to be
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = confidence)]
    confidence: f64,
    /// Of whatever is drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    draws_seed: u64,
    /// Compare what was measured differently, too; the report says so
    #[arg(long)]
    across_yardsticks: bool,
    /// Take verdicts and scores that `rescore` has given: by this version, or this scoring (its name, or the beginning of its digest)
    #[arg(long, value_name = "N|SCORING", conflicts_with = "baseline")]
    scorer: Option<String>,
    /// What is printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Where to [default: stdout]
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
    /// For people, at most 80 columns
    Text,
    /// Everything, for programs
    Json,
    /// Markdown
    Md,
    /// A line a scenario and metric
    Csv,
    /// One page, with intervals drawn
    Html,
}

impl ValueEnum for Metric {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Pass, Self::Score, Self::RepairS, Self::HurtS]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let about = match self {
            Self::Pass => "How often it passes",
            Self::Score => "The score, 0 to 1",
            Self::RepairS => "Seconds to repair, where both have",
            Self::HurtS => "Seconds in which users were not served",
            Self::DetectS | Self::DiagnoseS | Self::Tokens | Self::Usd => return None,
        };
        Some(clap::builder::PossibleValue::new(self.as_str()).help(about))
    }
}

pub fn run(args: &CompareArgs) -> anyhow::Result<Exit> {
    check_margin(args.metric, args.margin)?;
    let question = Question {
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
            Expected::new(Exit::Usage, format!("cannot write `{}`: {error}", path.display())).help("choose another place with `--output`")
        })?,
        // Whoever reads may stop early (`| head`).
        None => drop(stdout().lock().write_all(text.as_bytes())),
    }
    Ok(Exit::Ok)
}

/// The reference, and what is compared with it.
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
        ([_], None, None) => Err(Expected::new(Exit::Usage, "there is nothing to compare it with")
            .help("name a second run or campaign, or use `--by variant`, or `--baseline FILE`")
            .into()),
        _ => Err(Expected::new(Exit::Usage, "`--by` and `--baseline` take one run or campaign, and not two").into()),
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
        return Err(Expected::new(Exit::NothingSelected, format!("`{}` has one variant alone: {listed}", side.name))
            .help("run another with `--variant`, or compare two runs")
            .into());
    }
    let others = variants.iter().filter(|name| **name != reference).map(|name| side.only(name)).collect();
    Ok((side.only(reference), others))
}

/// What is recorded under a name, or under `NAME/VARIANT`; as that scorer has judged it.
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
        return Err(Expected::new(Exit::NothingSelected, format!("`{name}` has no finished trial of a subject"))
            .help("`chaosrun list runs` names what is recorded")
            .into());
    }
    Ok(side)
}

/// # Errors
/// There is no such file, or it is no baseline.
pub(super) fn baseline(path: &Path) -> Result<Baseline, Expected> {
    let text = fs::read_to_string(path).map_err(|error| {
        let problem = Expected::new(Exit::InvalidFile, format!("cannot read the baseline `{}`: {error}", path.display()));
        problem.help(format!("`chaosrun gate CAMPAIGN --baseline {} --accept` writes it", path.display()))
    })?;
    Baseline::parse(&text).map_err(|why| {
        Expected::new(Exit::InvalidFile, format!("`{}` is no baseline: {why}", path.display()))
            .help("`chaosrun gate CAMPAIGN --baseline FILE --accept` writes one; resolve what a merge has left in it")
    })
}

fn refused(refusal: Refusal) -> Expected {
    match refusal {
        Refusal::Yardsticks(refused) => yardsticks(&refused),
        Refusal::Unpaired(why) => {
            let help = "name one variant of each: `chaosrun compare A/VARIANT B/VARIANT`; pairs are of the same scenario, backend, cell, seed and repeat";
            Expected::new(Exit::NothingSelected, why.to_string()).help(help)
        }
    }
}

fn yardsticks(refused: &Refused) -> Expected {
    let renew = refused.renew.as_ref().map(|command| format!("measure the older side again: `{command}`; or ")).unwrap_or_default();
    Expected::new(Exit::GateInconclusive, refused.to_string()).help(format!("{renew}compare all the same with `--across-yardsticks`"))
}

pub(super) fn above_zero(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("it must be above 0, such as 0.1".into()) }
}

/// Of a share a margin of 10 is a slip: 10 points are 0.1.
///
/// # Errors
/// It is no share.
pub(super) fn check_margin(metric: Metric, margin: Option<f64>) -> Result<(), Expected> {
    let share = matches!(metric, Metric::Pass | Metric::Score);
    match margin.filter(|margin| share && *margin >= 1.0) {
        Some(margin) => {
            Err(Expected::new(Exit::Usage, format!("a margin of {margin} rules nothing out: `{}` is from 0 to 1", metric.as_str()))
                .help("ten points are `--margin 0.1`"))
        }
        None => Ok(()),
    }
}

pub(super) fn confidence(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.5..1.0).contains(&number) { Ok(number) } else { Err("it must be from 0.5 to below 1, such as 0.95".into()) }
}
