//! Re-evaluation of recorded trials by the scorer of this version and, on request, by another scoring. The original scores stay. New scores
//! are stored beside them.

mod judge;
mod pipeline;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Serialize;

use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_event::{ReasonCode, Verdict};
use chaosrun_scenario::digest;
use chaosrun_scenario::load_scoring;
use chaosrun_scenario::model::Scoring;
use chaosrun_score::{NEEDED, SCORER_VERSION};
use chaosrun_store::scores::{Declared, ScoreFilter, ScoreInput, Stored, ToKeep, differ};
use chaosrun_store::{Database, StoreError};

use judge::{Again, Rescorer};

/// Number of scores written per transaction. A large batch is fast, because scattered scores share index pages that are written once. A
/// larger batch would block other writers for too long.
const BATCH: usize = 8_000;

/// Path of the embedded scoring file for scenarios that name no scoring.
const SHIPPED: &str = "embedded:scenarios/scoring/default.yaml";

/// Options of a re-evaluation.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub chosen: ScoreFilter,
    /// Scoring that replaces the original scoring of each trial. `None` keeps the original scorings.
    pub scoring: Option<Arc<Scoring>>,
    /// True to re-evaluate trials from their events even where stored facts are sufficient.
    pub from_events: bool,
}

/// Result of a re-evaluation.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rescore {
    pub scorer_version: u32,
    /// Name of the scoring that replaced the original scorings. `None` if the original scorings were used.
    pub scoring: Option<String>,
    pub trials: usize,
    pub from_facts: usize,
    pub from_events: usize,
    /// Number of new scores that were stored in addition to the original scores.
    pub kept: usize,
    /// Number of trials that could not be re-evaluated, by reason.
    pub left: IndexMap<String, usize>,
    /// Trials with a changed result. Trials with a changed verdict come first.
    #[serde(skip)]
    pub changed: Vec<RescoredTrial>,
}

/// Trial whose result has changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RescoredTrial {
    pub trial: TrialId,
    pub scenario: String,
    pub variant: String,
    pub before: RescoreReport,
    pub after: RescoreReport,
    /// Code of the reason for the new verdict. `None` for a pass without harm.
    pub reason: Option<ReasonCode>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RescoreReport {
    pub verdict: Verdict,
    pub score: Option<f64>,
    pub scorer_version: u32,
}

/// Re-evaluates recorded trials. `database` is used for reading and `writer` for writing. Both are connections to the database of the same
/// directory.
///
/// # Errors
/// The database cannot be read or written.
pub fn rescore(database: &Database, writer: &mut Database, wanted: &Wanted, now: Timestamp) -> Result<Rescore, StoreError> {
    let mut declared = database.scorings()?;
    // A record without the text of a scoring may refer to the scoring shipped with the program.
    if let Ok(shipped) = load_scoring(Path::new(SHIPPED)) {
        let (name, scoring, autopsy) = (shipped.name.clone(), shipped.written.clone(), shipped.autopsy.written.clone());
        declared.entry(digest::scoring(&shipped)).or_insert(Declared { name, scoring, autopsy });
    }
    let judge = Rescorer::new(&declared, wanted.scoring.clone());
    let mut taking = Taking::new(writer, now, wanted);
    let mut by_run: IndexMap<RunId, HashMap<String, ScoreInput>> = IndexMap::new();
    if wanted.from_events {
        database.to_judge(&wanted.chosen, false, &mut |recorded| {
            by_run.entry(recorded.run.clone()).or_default().insert(recorded.trial.to_string(), recorded);
            Ok(())
        })?;
    } else {
        let work = |recorded: ScoreInput| {
            let again = judge.by_facts(&recorded.json);
            (ScoreInput { json: String::new(), ..recorded }, again)
        };
        let feed = |each: &mut dyn FnMut(ScoreInput) -> Result<(), StoreError>| database.to_judge(&wanted.chosen, true, each);
        let take = |(recorded, again): (ScoreInput, Option<Again>)| match again {
            Some(again) => taking.take(&recorded, again),
            None => {
                by_run.entry(recorded.run.clone()).or_default().insert(recorded.trial.to_string(), recorded);
                Ok(())
            }
        };
        pipeline::run(feed, work, take)?;
    }
    for (run, trials) in by_run {
        let mut told = 0;
        let work = |(trial, events): (String, Vec<Stored>)| (trial, judge.by_events(&events));
        let feed = |each: &mut dyn FnMut((String, Vec<Stored>)) -> Result<(), StoreError>| {
            let wanted = |trial: &str| trials.contains_key(trial);
            database.trials_events(&run, NEEDED, wanted, |trial, events| each((trial.to_owned(), events)))
        };
        let take = |(trial, again): (String, Again)| {
            told += 1;
            trials.get(&trial).map_or(Ok(()), |recorded| taking.take(recorded, again))
        };
        pipeline::run(feed, work, take)?;
        taking.leave("the events of the trial are missing", trials.len().saturating_sub(told));
    }
    taking.finish()
}

/// Collector that compares new scores with the original scores and stores the new scores.
struct Taking<'a> {
    writer: &'a mut Database,
    now: Timestamp,
    rescore: Rescore,
    to_keep: Vec<ToKeep>,
}

impl<'a> Taking<'a> {
    fn new(writer: &'a mut Database, now: Timestamp, wanted: &Wanted) -> Self {
        let scoring = wanted.scoring.as_ref().map(|scoring| scoring.name.clone());
        let rescore = Rescore { scorer_version: SCORER_VERSION, scoring, ..Rescore::default() };
        Self { writer, now, rescore, to_keep: Vec::new() }
    }

    fn leave(&mut self, why: &str, count: usize) {
        if count > 0 {
            self.rescore.trials += count;
            *self.rescore.left.entry(why.to_owned()).or_default() += count;
        }
    }

    fn take(&mut self, recorded: &ScoreInput, again: Again) -> Result<(), StoreError> {
        let scored = match again {
            Again::Left(why) => {
                self.leave(&why, 1);
                return Ok(());
            }
            Again::Scored(scored) => scored,
        };
        self.rescore.trials += 1;
        if scored.from_facts {
            self.rescore.from_facts += 1;
        } else {
            self.rescore.from_events += 1;
        }
        let before = RescoreReport { verdict: recorded.verdict, score: recorded.score, scorer_version: recorded.scorer_version };
        let after = RescoreReport { verdict: scored.verdict, score: scored.score, scorer_version: SCORER_VERSION };
        let differs = before.verdict != after.verdict || differ(before.score, after.score);
        // An unchanged score of the same scorer and the same scoring is already stored.
        if differs || before.scorer_version != after.scorer_version || !scored.own {
            self.rescore.kept += 1;
            self.to_keep.push(ToKeep {
                trial: recorded.trial.clone(),
                scorer_version: SCORER_VERSION,
                scoring: scored.scoring,
                verdict: scored.verdict,
                score: scored.score,
                form: scored.form,
                json: scored.json,
            });
        }
        if differs {
            self.rescore.changed.push(RescoredTrial {
                trial: recorded.trial.clone(),
                scenario: recorded.scenario.to_string(),
                variant: recorded.variant.to_string(),
                before,
                after,
                reason: scored.reason,
            });
        }
        if self.to_keep.len() >= BATCH { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let kept = self.writer.keep_scores(&self.to_keep, self.now);
        self.to_keep.clear();
        kept
    }

    fn finish(mut self) -> Result<Rescore, StoreError> {
        self.write()?;
        // Worker threads finish in any order. Sorts changes of the verdict first, then by trial id.
        self.rescore.changed.sort_by_cached_key(|change| (change.before.verdict == change.after.verdict, change.trial.to_string()));
        Ok(self.rescore)
    }
}
