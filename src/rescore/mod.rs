//! Judging again what is recorded, by this version's scorer and, if wanted, another scoring. Nothing of then is changed: what is
//! said now is kept beside it.

mod judge;
mod pipeline;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Serialize;

use crate::event::Verdict;
use crate::ids::{RunId, TrialId};
use crate::plan::digest;
use crate::scenario::load_scoring;
use crate::scenario::model::Scoring;
use crate::score::{NEEDED, SCORER_VERSION};
use crate::store::scores::{Chosen, Declared, Recorded, Stored, ToKeep, differ};
use crate::store::{Database, StoreError};

use judge::{Again, Judge};

/// Scores that are written at once: many, since each page of the index takes a score here and there and is written once for all of them;
/// not so many that another who writes has to wait.
const BATCH: usize = 8_000;

/// The scoring of scenarios that name none.
const SHIPPED: &str = "embedded:scenarios/scoring/default.yaml";

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub chosen: Chosen,
    /// Instead of what each trial was judged by.
    pub scoring: Option<Arc<Scoring>>,
    /// Also where the stored facts would do.
    pub from_events: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rescore {
    pub scorer_version: u32,
    /// The scoring's name, when one was given.
    pub scoring: Option<String>,
    pub trials: usize,
    pub from_facts: usize,
    pub from_events: usize,
    /// Scores that were written beside those of then.
    pub kept: usize,
    /// By why not, how many could not be judged again.
    pub left: IndexMap<String, usize>,
    /// Changes of verdict first.
    #[serde(skip)]
    pub changed: Vec<Change>,
}

/// A trial of which something else is said now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub trial: TrialId,
    pub scenario: String,
    pub variant: String,
    pub before: Said,
    pub after: Said,
    /// Why it is no plain pass now.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Said {
    pub verdict: Verdict,
    pub score: Option<f64>,
    pub scorer_version: u32,
}

/// Judges again. `database` is read, `writer`, of the same directory, is written.
///
/// # Errors
/// The database cannot be read or written.
pub fn rescore(database: &Database, writer: &mut Database, wanted: &Wanted, now: Timestamp) -> Result<Rescore, StoreError> {
    let mut declared = database.scorings()?;
    // A record that does not say what a digest is of may be of what ships with the program.
    if let Ok(shipped) = load_scoring(Path::new(SHIPPED)) {
        let (name, scoring, autopsy) = (shipped.name.clone(), shipped.written.clone(), shipped.autopsy.written.clone());
        declared.entry(digest::scoring(&shipped)).or_insert(Declared { name, scoring, autopsy });
    }
    let judge = Judge::new(&declared, wanted.scoring.clone());
    let mut taking = Taking::new(writer, now, wanted);
    let mut by_run: IndexMap<RunId, HashMap<String, Recorded>> = IndexMap::new();
    if wanted.from_events {
        database.to_judge(&wanted.chosen, false, &mut |recorded| {
            by_run.entry(recorded.run.clone()).or_default().insert(recorded.trial.to_string(), recorded);
            Ok(())
        })?;
    } else {
        let work = |recorded: Recorded| {
            let again = judge.by_facts(&recorded.json);
            (Recorded { json: String::new(), ..recorded }, again)
        };
        let feed = |each: &mut dyn FnMut(Recorded) -> Result<(), StoreError>| database.to_judge(&wanted.chosen, true, each);
        let take = |(recorded, again): (Recorded, Option<Again>)| match again {
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
        taking.leave("its events are gone", trials.len().saturating_sub(told));
    }
    taking.finish()
}

/// Compares what is said now with what was said, and keeps it.
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

    fn take(&mut self, recorded: &Recorded, again: Again) -> Result<(), StoreError> {
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
        let before = Said { verdict: recorded.verdict, score: recorded.score, scorer_version: recorded.scorer_version };
        let after = Said { verdict: scored.verdict, score: scored.score, scorer_version: SCORER_VERSION };
        let differs = before.verdict != after.verdict || differ(before.score, after.score);
        // What the same scorer says of the same again is there already.
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
            self.rescore.changed.push(Change {
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
        // Whoever was quicker to work them out: changes of verdict first, then as the trials are named.
        self.rescore.changed.sort_by_cached_key(|change| (change.before.verdict == change.after.verdict, change.trial.to_string()));
        Ok(self.rescore)
    }
}
