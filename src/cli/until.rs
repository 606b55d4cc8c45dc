//! `--until decided`: the comparison that a run is to decide, and no trial more than that takes.

use clap::{Args, ValueEnum};

use super::compare::check_margin;
use super::exit::{Exit, Expected};
use crate::compare::metric::Metric;
use crate::plan::Plan;
use crate::run::until::{Question, Undecidable, Until as Comparisons};
use crate::scenario::model::Campaign;

/// How often any answer may be wrong.
const ALPHA: f64 = 0.05;

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Execution")]
pub struct UntilArgs {
    /// Start no trial whose outcome is not needed any more: `decided` ends a variant when its comparison with the reference is
    #[arg(long, value_name = "WHEN", env = "CHAOSRUN_UNTIL")]
    pub until: Option<Until>,
    /// With `--until decided`: the variant that the others are compared with [default: the campaign's]
    #[arg(long, value_name = "VARIANT", requires = "until")]
    reference: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// Nothing that is left can change the answer
    Decided,
}

impl UntilArgs {
    /// None: all of the plan is run.
    ///
    /// # Errors
    /// The plan cannot decide anything, or it is not said what.
    pub fn comparisons(&self, plan: &Plan, campaign: Option<&Campaign>, is_share: bool) -> Result<Option<Comparisons>, Expected> {
        let Some(Until::Decided) = self.until else { return Ok(None) };
        let usage = |message: String| Expected::new(Exit::Usage, message);
        if is_share {
            let message = "a share knows nothing of what the others have seen, and decides nothing early".to_owned();
            return Err(usage(message).help("leave out `--shard`, or `--until decided`"));
        }
        let stated = campaign.and_then(|campaign| campaign.compare.as_ref());
        let Some(reference) = self.reference.as_ref().or(stated.map(|compare| &compare.reference)) else {
            let message = "nothing says which variant the others are compared with, so nothing can be decided".to_owned();
            return Err(
                usage(message).help("give the campaign `compare: { reference: VARIANT, margin: 0.1 }`, or name it with `--reference`")
            );
        };
        let metric = stated.map_or(Metric::Pass, |compare| compare.metric.into());
        let margin = stated.map_or(Metric::Pass.default_margin(), |compare| compare.margin);
        check_margin(metric, Some(margin))?;
        let question = Question { reference: reference.clone(), metric, margin, alpha: ALPHA };
        Comparisons::new(&plan.trials, question).map(Some).map_err(|why| {
            let help = match &why {
                Undecidable::NoReference { variants, .. } => {
                    format!("judged are {}", variants.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
                }
                Undecidable::Alone { .. } => "add another with `--variant`, or among `variants` of the campaign".into(),
                Undecidable::Unbounded(_) => "compare by `pass` or `score`, or run all of it and use `chaosrun compare`".into(),
                Undecidable::TooFew { .. } => "give it more seeds or scenarios, or run all of it and use `chaosrun compare`".into(),
            };
            usage(why.to_string()).help(help)
        })
    }
}
