//! `--scorer`: verdicts and scores as `rescore` has given them, in the place of those of then.

use super::exit::{Exit, Expected};
use super::store::expected;
use crate::store::Database;
use crate::store::outcomes::Outcome;
use crate::store::scores::Rescored;

/// `scorer` is a version, the name of a scoring, or the beginning of its digest. Trials that were judged by that version then stay as they are.
///
/// # Errors
/// Trials have no such score, or two of them.
pub(super) fn judged_by(database: &Database, mut outcomes: Vec<Outcome>, scorer: &str) -> anyhow::Result<Vec<Outcome>> {
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
                let message = format!("`{scorer}` has judged trials by several scorings: `{}`; `{}`", named(&one), named(&other));
                return Err(Expected::new(Exit::Usage, message).help("give one of these names to `--scorer`").into());
            }
            (None, _) => without += 1,
        }
    }
    if without > 0 {
        let message = format!("{without} of {of} trials were never judged by `{scorer}`");
        return Err(Expected::new(Exit::NothingSelected, message)
            .help("`chaosrun rescore RUN` judges by this version, `--scoring FILE` by another file; `chaosrun show TRIAL` tells all scores")
            .into());
    }
    Ok(outcomes)
}

/// Two scorings of one name differ in their digests.
fn named(score: &Rescored) -> String {
    format!("{}, {}", score.name, score.scoring.get(..8).unwrap_or(&score.scoring))
}
