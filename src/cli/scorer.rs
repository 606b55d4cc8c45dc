//! Option `--scorer`: the results of a `rescore` replace the original verdicts and scores.

use super::store::expected;
use crate::exit::{Exit, Expected};
use chaosrun_store::Database;
use chaosrun_store::outcomes::TrialOutcome;
use chaosrun_store::scores::Rescored;

/// Replaces the verdicts and scores of trials by those of `scorer`. `scorer` is a version, the name of a scoring, or the beginning of the
/// digest of a scoring. A trial stays unchanged if the version `scorer` judged it originally.
///
/// # Errors
/// Returns an error if a trial has no score of this scorer, or several such scores.
pub(super) fn judged_by(database: &Database, mut outcomes: Vec<TrialOutcome>, scorer: &str) -> anyhow::Result<Vec<TrialOutcome>> {
    let version: Option<u32> = scorer.parse().ok();
    let trials: Vec<_> = outcomes.iter().filter(|outcome| outcome.verdict.is_some()).filter_map(|outcome| outcome.trial.as_ref()).collect();
    let mut rescored = database.rescored(&trials).map_err(expected)?;
    let is = |score: &Rescored| match version {
        Some(version) => score.scorer_version == version,
        None => score.name == scorer || (scorer.len() >= 6 && score.scoring.starts_with(scorer)),
    };
    let (mut without, mut of) = (0, 0);
    for outcome in outcomes.iter_mut().filter(|outcome| outcome.verdict.is_some()) {
        of += 1;
        if version.is_some() && outcome.scorer_version == version {
            continue;
        }
        let given = outcome.trial.as_ref().and_then(|trial| rescored.remove(trial)).unwrap_or_default();
        let mut given = given.into_iter().filter(is);
        match (given.next(), given.next()) {
            (Some(score), None) => {
                outcome.verdict = Some(score.verdict);
                outcome.score = score.score;
                outcome.scorer_version = Some(score.scorer_version);
                outcome.reason_code = score.why.reason.as_ref().map(|reason| reason.code.clone());
                outcome.reason = score.why.reason.map(|reason| reason.message);
            }
            (Some(one), Some(other)) => {
                let message = format!("`{scorer}` was used with several scorings: `{}`; `{}`", named(&one), named(&other));
                return Err(Expected::new(Exit::Usage, message).help("name one of them with `--scorer`").into());
            }
            (None, _) => without += 1,
        }
    }
    if without > 0 {
        let message = format!("{without} of {of} trials have no score by `{scorer}`");
        return Err(Expected::new(Exit::NothingSelected, message)
            .help("`chaosrun rescore RUN` scores with this version, `--scoring FILE` with another file; `chaosrun show TRIAL` lists all scores")
            .into());
    }
    Ok(outcomes)
}

/// Formats the name of a scoring and the beginning of its digest. The digest distinguishes scorings with the same name.
fn named(score: &Rescored) -> String {
    format!("{}, {}", score.name, score.scoring.get(..8).unwrap_or(&score.scoring))
}
