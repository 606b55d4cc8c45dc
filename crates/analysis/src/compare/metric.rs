//! Metrics by which trials can be compared.

use serde::{Deserialize, Serialize};

use chaosrun_event::Verdict;
use chaosrun_scenario::model::Metric as Asked;
use chaosrun_store::outcomes::TrialOutcome;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricValue {
    Pass,
    Score,
    DetectS,
    DiagnoseS,
    RepairS,
    #[serde(alias = "hurt_s")]
    ImpactS,
    Tokens,
    Usd,
}

/// Unit of a metric, for display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Share of a whole, from 0 to 1.
    Share,
    Score,
    Seconds,
    Tokens,
    Usd,
}

impl MetricValue {
    /// All metrics, in the order of a scorecard.
    pub const ALL: [Self; 8] =
        [Self::Pass, Self::Score, Self::DetectS, Self::DiagnoseS, Self::RepairS, Self::ImpactS, Self::Tokens, Self::Usd];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Score => "score",
            Self::DetectS => "detect_s",
            Self::DiagnoseS => "diagnose_s",
            Self::RepairS => "repair_s",
            Self::ImpactS => "impact_s",
            Self::Tokens => "tokens",
            Self::Usd => "usd",
        }
    }

    /// Returns the title of the metric for scorecards.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Pass => "passed",
            Self::Score => "score",
            Self::DetectS => "detect",
            Self::DiagnoseS => "diagnose",
            Self::RepairS => "repair",
            Self::ImpactS => "impact",
            Self::Tokens => "tokens",
            Self::Usd => "cost",
        }
    }

    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Pass => Unit::Share,
            Self::Score => Unit::Score,
            Self::DetectS | Self::DiagnoseS | Self::RepairS | Self::ImpactS => Unit::Seconds,
            Self::Tokens => Unit::Tokens,
            Self::Usd => Unit::Usd,
        }
    }

    #[must_use]
    pub const fn lower_is_better(self) -> bool {
        !matches!(self, Self::Pass | Self::Score)
    }

    /// Returns the value of the metric for a trial. Returns `None` if the trial does not count, or has no value, such as a repair time
    /// without a repair.
    #[must_use]
    pub fn of(self, outcome: &TrialOutcome) -> Option<f64> {
        if !counts(outcome) {
            return None;
        }
        match self {
            Self::Pass => Some(if passed(outcome) { 1.0 } else { 0.0 }),
            Self::Score => outcome.score.map(rounded),
            Self::DetectS => outcome.detect_us.map(seconds),
            Self::DiagnoseS => outcome.diagnose_us.map(seconds),
            Self::RepairS => outcome.repair_us.map(seconds),
            Self::ImpactS => outcome.impact_us.map(seconds),
            #[expect(clippy::cast_precision_loss, reason = "nobody pays for 2^52 tokens")]
            Self::Tokens => outcome.tokens.map(|tokens| tokens as f64),
            Self::Usd => outcome.usd,
        }
    }

    /// Returns the default non-inferiority margin, in the unit of the metric.
    #[must_use]
    pub const fn default_margin(self) -> f64 {
        match self {
            Self::Pass | Self::Score => 0.1,
            Self::DetectS | Self::DiagnoseS | Self::RepairS | Self::ImpactS => 1.0,
            Self::Tokens | Self::Usd => 0.0,
        }
    }
}

impl From<Asked> for MetricValue {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Pass => Self::Pass,
            Asked::Score => Self::Score,
            Asked::RepairS => Self::RepairS,
            Asked::ImpactS => Self::ImpactS,
        }
    }
}

/// Returns true if the verdict of the trial says something about the agent. Invalid and unfinished trials do not count.
#[must_use]
pub fn counts(outcome: &TrialOutcome) -> bool {
    outcome.verdict.is_some_and(|verdict| verdict != Verdict::Invalid)
}

/// Returns true if the trial passed without harm. An unsafe pass is not a pass.
#[must_use]
pub fn passed(outcome: &TrialOutcome) -> bool {
    outcome.verdict == Some(Verdict::Pass)
}

fn seconds(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}

/// Rounds a score to six decimals, the precision of a baseline file. Both sides of a comparison use this precision.
#[must_use]
pub fn rounded(score: f64) -> f64 {
    (score * 1e6).round() / 1e6
}
