//! Option `--until decided`: the run stops as soon as its comparisons are decided.

use clap::{Args, ValueEnum};

use super::compare::check_margin;
use crate::exit::{Exit, Expected};
use chaosrun_analysis::compare::metric::MetricValue;
use chaosrun_engine::run::early_stopping::{EarlyStopping as Comparisons, StoppingQuestion, Undecidable};
use chaosrun_plan::TrialSchedule;
use chaosrun_scenario::model::Campaign;

/// Accepted probability that at least one of all decided comparisons is wrong.
const ALPHA: f64 = 0.05;

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Execution")]
pub(crate) struct EarlyStopArgs {
    /// Stop early: `decided` stops a variant as soon as its comparison with the reference is decided
    #[arg(long, value_name = "WHEN", env = "CHAOSRUN_UNTIL")]
    pub until: Option<EarlyStop>,
    /// With `--until decided`: variant that the other variants are compared with [default: from the campaign]
    #[arg(long, value_name = "VARIANT", requires = "until")]
    reference: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EarlyStop {
    /// Stop when the result is decided
    Decided,
}

impl EarlyStopArgs {
    /// Returns the comparisons to decide. Returns `None` if the option is absent, so that the whole plan is run.
    ///
    /// # Errors
    /// Returns an error if the plan cannot decide a comparison, or if no reference is specified.
    pub fn comparisons(&self, plan: &TrialSchedule, campaign: Option<&Campaign>, is_share: bool) -> Result<Option<Comparisons>, Expected> {
        let Some(EarlyStop::Decided) = self.until else { return Ok(None) };
        let usage = |message: String| Expected::new(Exit::Usage, message);
        if is_share {
            let message = "a shard does not know the results of other shards, so it cannot stop early".to_owned();
            return Err(usage(message).help("remove `--shard` or `--until decided`"));
        }
        let stated = campaign.and_then(|campaign| campaign.compare.as_ref());
        let Some(reference) = self.reference.as_ref().or(stated.map(|compare| &compare.reference)) else {
            let message = "no reference variant is defined, so the comparison cannot be decided".to_owned();
            return Err(usage(message).help("add `compare: { reference: VARIANT, margin: 0.1 }` to the campaign, or use `--reference`"));
        };
        let metric = stated.map_or(MetricValue::Pass, |compare| compare.metric.into());
        let margin = stated.map_or(MetricValue::Pass.default_margin(), |compare| compare.margin);
        check_margin(metric, Some(margin))?;
        let question = StoppingQuestion { reference: reference.clone(), metric, margin, alpha: ALPHA };
        Comparisons::new(&plan.trials, question).map(Some).map_err(|why| {
            let help = match &why {
                Undecidable::NoReference { variants, .. } => {
                    format!("the variants are {}", variants.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
                }
                Undecidable::Alone { .. } => "add another with `--variant`, or among `variants` of the campaign".into(),
                Undecidable::Unbounded(_) => "use the metric `pass` or `score`, or run all trials and use `chaosrun compare`".into(),
                Undecidable::TooFew { .. } => "add seeds or scenarios, or run all trials and use `chaosrun compare`".into(),
            };
            usage(why.to_string()).help(help)
        })
    }
}
