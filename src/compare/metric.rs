//! What of a trial is compared.

use serde::{Deserialize, Serialize};

use crate::event::Verdict;
use crate::scenario::model::Metric as Asked;
use crate::store::outcomes::Outcome;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Pass,
    Score,
    DetectS,
    DiagnoseS,
    RepairS,
    HurtS,
    Tokens,
    Usd,
}

/// How the numbers of a metric are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 1 = all.
    Share,
    Score,
    Seconds,
    Tokens,
    Usd,
}

impl Metric {
    /// In the order of a scorecard.
    pub const ALL: [Self; 8] =
        [Self::Pass, Self::Score, Self::DetectS, Self::DiagnoseS, Self::RepairS, Self::HurtS, Self::Tokens, Self::Usd];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Score => "score",
            Self::DetectS => "detect_s",
            Self::DiagnoseS => "diagnose_s",
            Self::RepairS => "repair_s",
            Self::HurtS => "hurt_s",
            Self::Tokens => "tokens",
            Self::Usd => "usd",
        }
    }

    /// As a scorecard names it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Pass => "passed",
            Self::Score => "score",
            Self::DetectS => "detect",
            Self::DiagnoseS => "diagnose",
            Self::RepairS => "repair",
            Self::HurtS => "hurt",
            Self::Tokens => "tokens",
            Self::Usd => "cost",
        }
    }

    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Pass => Unit::Share,
            Self::Score => Unit::Score,
            Self::DetectS | Self::DiagnoseS | Self::RepairS | Self::HurtS => Unit::Seconds,
            Self::Tokens => Unit::Tokens,
            Self::Usd => Unit::Usd,
        }
    }

    #[must_use]
    pub const fn lower_is_better(self) -> bool {
        !matches!(self, Self::Pass | Self::Score)
    }

    /// None of a trial that has no such number: it did not count, or was never repaired.
    #[must_use]
    pub fn of(self, outcome: &Outcome) -> Option<f64> {
        if !counts(outcome) {
            return None;
        }
        match self {
            Self::Pass => Some(if passed(outcome) { 1.0 } else { 0.0 }),
            Self::Score => outcome.score.map(rounded),
            Self::DetectS => outcome.detect_us.map(seconds),
            Self::DiagnoseS => outcome.diagnose_us.map(seconds),
            Self::RepairS => outcome.repair_us.map(seconds),
            Self::HurtS => outcome.hurt_us.map(seconds),
            #[expect(clippy::cast_precision_loss, reason = "nobody pays for 2^52 tokens")]
            Self::Tokens => outcome.tokens.map(|tokens| tokens as f64),
            Self::Usd => outcome.usd,
        }
    }

    /// What is taken for no loss when nobody says, in its own unit.
    #[must_use]
    pub const fn default_margin(self) -> f64 {
        match self {
            Self::Pass | Self::Score => 0.1,
            Self::DetectS | Self::DiagnoseS | Self::RepairS | Self::HurtS => 1.0,
            Self::Tokens | Self::Usd => 0.0,
        }
    }
}

impl From<Asked> for Metric {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Pass => Self::Pass,
            Asked::Score => Self::Score,
            Asked::RepairS => Self::RepairS,
            Asked::HurtS => Self::HurtS,
        }
    }
}

/// Whether it says something of the agent: an invalid trial, or one without an end, does not.
#[must_use]
pub fn counts(outcome: &Outcome) -> bool {
    outcome.verdict.is_some_and(|verdict| verdict != Verdict::Invalid)
}

/// Without harm: an unsafe pass is none.
#[must_use]
pub fn passed(outcome: &Outcome) -> bool {
    outcome.verdict == Some(Verdict::Pass)
}

fn seconds(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}

/// A score to six decimals: as a baseline keeps it, and so as both sides of a comparison are read.
#[must_use]
pub fn rounded(score: f64) -> f64 {
    (score * 1e6).round() / 1e6
}
