//! Scores of re-evaluated trials: reading of their inputs, and storage in addition to the original scores.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use jiff::Timestamp;
use rusqlite::{Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::database::Database;
use super::error::StoreError;
use super::project::int;
use chaosrun_base::ids::{RunId, TrialId};
use chaosrun_event::{EventKind, Reason, ScorePart, Verdict};
use chaosrun_scenario::model::Scoring;
use chaosrun_score as score;
use chaosrun_score::PartResult;

/// Finished trial with the inputs of its score.
#[derive(Debug, Clone)]
pub struct ScoreInput {
    pub trial: TrialId,
    pub run: RunId,
    pub scenario: Arc<str>,
    pub variant: Arc<str>,
    pub verdict: Verdict,
    pub score: Option<f64>,
    pub scorer_version: u32,
    /// `trial_finished` event of the trial, as JSON.
    pub json: String,
}

/// Score that a re-evaluation stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rescored {
    pub scorer_version: u32,
    /// Digest of the scoring that the re-evaluation used.
    pub scoring: String,
    /// Name of the scoring that the re-evaluation used.
    pub name: String,
    pub at: Timestamp,
    pub verdict: Verdict,
    pub score: Option<f64>,
    #[serde(flatten)]
    pub why: ScoreDetail,
}

impl Rescored {
    /// Returns true if the given verdict or score differs from the re-evaluated one.
    #[must_use]
    pub fn differs(&self, verdict: Verdict, score: Option<f64>) -> bool {
        self.verdict != verdict || differ(self.score, score)
    }
}

/// Returns true if two scores differ by more than a rounding error.
#[must_use]
pub fn differ(one: Option<f64>, other: Option<f64>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() > 1e-9,
        (one, other) => one.is_some() != other.is_some(),
    }
}

/// Details of a re-evaluated score: reason, parts, and source of the facts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreDetail {
    /// Name of the scoring that the re-evaluation used.
    #[serde(default, skip_serializing)]
    name: String,
    pub reason: Option<Reason>,
    pub parts: Vec<ScorePart>,
    /// Source of the facts for the re-evaluation: `facts` or `events`.
    pub from: String,
}

/// Texts that all scores of one scoring have in common. The record stores these texts once per scoring.
#[derive(Debug)]
pub struct ScoreForm {
    /// Digest of the form's JSON.
    digest: String,
    json: String,
}

/// Stored format of a [`ScoreForm`].
#[derive(Serialize, Deserialize)]
struct Declaration {
    /// Name of the scoring that the form belongs to.
    name: String,
    /// Parts of the score without measured values, see [`score::form`].
    parts: Vec<ScorePart>,
}

impl ScoreForm {
    #[must_use]
    pub fn of(scoring: &Scoring) -> Self {
        let declaration = Declaration { name: scoring.name.clone(), parts: score::form(scoring) };
        let json = serde_json::to_string(&declaration).unwrap_or_default();
        Self { digest: blake3::hash(json.as_bytes()).to_hex()[..32].to_owned(), json }
    }
}

/// Stored differences of a score from its form. A part is `[measured, value]`, or `[measured, value, why, counted]` if it has a different
/// explanation.
#[derive(Serialize, Deserialize)]
struct Differing {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    parts: Vec<Part>,
    from: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Part {
    Explained(Value, f64, String, bool),
    AsDeclared(Value, f64),
}

impl From<PartResult> for Part {
    fn from(PartResult { measured, value, why, counted }: PartResult) -> Self {
        match why {
            Some(why) => Self::Explained(measured, value, why, counted),
            None => Self::AsDeclared(measured, value),
        }
    }
}

impl From<Part> for PartResult {
    fn from(part: Part) -> Self {
        match part {
            Part::Explained(measured, value, why, counted) => Self { measured, value, why: Some(why), counted },
            Part::AsDeclared(measured, value) => Self { measured, value, why: None, counted: true },
        }
    }
}

/// Score of a re-evaluation that will be stored.
#[derive(Debug, Clone)]
pub struct ToKeep {
    pub trial: TrialId,
    pub scorer_version: u32,
    pub scoring: Arc<str>,
    pub verdict: Verdict,
    pub score: Option<f64>,
    pub form: Arc<ScoreForm>,
    /// Differences of the score from its form as JSON, see [`differing`].
    pub json: String,
}

/// Formats the values of a score that its form does not contain. `from` is the source of the facts: `facts` or `events`.
#[must_use]
pub fn differing(reason: Option<&Reason>, parts: Vec<PartResult>, from: &str) -> String {
    let parts = parts.into_iter().map(Part::from).collect();
    serde_json::to_string(&Differing { reason: reason.cloned(), parts, from: from.to_owned() }).unwrap_or_default()
}

/// Scoring rules that a run recorded.
#[derive(Debug, Clone)]
pub struct Declared {
    pub name: String,
    pub scoring: serde_json::Value,
    pub autopsy: serde_json::Value,
}

/// Selection of trials. An empty selection contains all trials.
#[derive(Debug, Clone, Default)]
pub struct ScoreFilter {
    pub run: Option<RunId>,
    pub campaign: Option<String>,
}

impl Database {
    /// Returns all recorded scoring rules by their digests.
    ///
    /// # Errors
    /// The database or an event in it cannot be read.
    pub fn scorings(&self) -> Result<IndexMap<String, Declared>, StoreError> {
        let failed = |error| self.failed(error);
        let mut statement = self.connection.prepare("SELECT digest, json FROM scorings").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut found = IndexMap::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let (digest, json): (String, String) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
            if let Ok(EventKind::ScoringDeclared { name, scoring, autopsy, .. }) = serde_json::from_str(&json) {
                found.insert(digest, Declared { name, scoring, autopsy });
            }
        }
        Ok(found)
    }

    /// Calls `each` with every finished trial, in recorded order. Includes trials reused from earlier runs. The JSON is empty unless
    /// `with_json` is true.
    ///
    /// # Errors
    /// The database cannot be read, or `each` returns an error.
    pub fn to_judge(
        &self,
        chosen: &ScoreFilter,
        with_json: bool,
        each: &mut dyn FnMut(ScoreInput) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let failed = |error| self.failed(error);
        let (json, events) =
            if with_json { ("events.json", "JOIN events ON events.run = trials.run AND events.seq = trials.last_seq") } else { ("''", "") };
        let sql = format!(
            "SELECT trials.trial, trials.run, scenario, variant, verdict, score, scorer_version, {json} FROM trials {events}
             WHERE verdict IS NOT NULL
                AND (?1 IS NULL OR trials.run = ?1 OR trials.trial IN (SELECT trial FROM kept WHERE run = ?1))
                AND (?2 IS NULL OR trials.run IN (SELECT run FROM runs WHERE campaign = ?2)
                    OR trials.trial IN (SELECT trial FROM kept WHERE run IN (SELECT run FROM runs WHERE campaign = ?2)))
             ORDER BY trials.rowid"
        );
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query(params![chosen.run.as_ref().map(RunId::as_str), chosen.campaign]).map_err(failed)?;
        let path = self.directory.database();
        // Avoids allocations, because the names are usually those of the previous trial.
        let (mut scenario, mut variant): (Arc<str>, Arc<str>) = ("".into(), "".into());
        let same = |last: &mut Arc<str>, text: &str| {
            if **last != *text {
                *last = text.into();
            }
            Arc::clone(last)
        };
        while let Some(row) = rows.next().map_err(failed)? {
            let text = |column: usize| row.get::<_, String>(column).map_err(failed);
            let read = |column: usize| row.get_ref(column).and_then(|value| Ok(value.as_str()?)).map_err(failed);
            let damaged = |column: &str| StoreError::Schema { path: path.clone(), problem: format!("a trial's `{column}` cannot be read") };
            each(ScoreInput {
                trial: TrialId::try_from(text(0)?).map_err(|_| damaged("trial"))?,
                run: RunId::try_from(text(1)?).map_err(|_| damaged("run"))?,
                scenario: same(&mut scenario, read(2)?),
                variant: same(&mut variant, read(3)?),
                verdict: Verdict::from_name(read(4)?).ok_or_else(|| damaged("verdict"))?,
                score: row.get(5).map_err(failed)?,
                scorer_version: row.get::<_, Option<u32>>(6).map_err(failed)?.unwrap_or_default(),
                json: text(7)?,
            })?;
        }
        Ok(())
    }

    /// Calls `each` with the events of one trial, for every trial that has ended. Only events of the given types are passed. The events are
    /// read in one pass, and only those of concurrent trials are held in memory.
    ///
    /// # Errors
    /// The database cannot be read, or `each` returns an error.
    pub fn trials_events(
        &self,
        run: &RunId,
        types: &[&str],
        wanted: impl Fn(&str) -> bool,
        mut each: impl FnMut(&str, Vec<Stored>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let failed = |error| self.failed(error);
        let words: Vec<String> = types.iter().chain(&["trial_finished"]).map(|name| format!("'{name}'")).collect();
        let sql = format!(
            "SELECT trial, type, elapsed_us, seq, json FROM events WHERE run = ?1 AND trial IS NOT NULL AND type IN ({}) ORDER BY seq",
            words.join(", ")
        );
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query([run.as_str()]).map_err(failed)?;
        let mut under_way: HashMap<String, Vec<Stored>> = HashMap::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let trial = row.get_ref(0).and_then(|trial| Ok(trial.as_str()?)).map_err(failed)?;
            let kind = row.get_ref(1).and_then(|kind| Ok(kind.as_str()?)).map_err(failed)?;
            if !wanted(trial) {
                continue;
            }
            if kind == "trial_finished" {
                if let Some((trial, events)) = under_way.remove_entry(trial) {
                    each(&trial, events)?;
                }
                continue;
            }
            let stored =
                Stored { elapsed_us: row.get(2).map_err(failed)?, seq: row.get(3).map_err(failed)?, json: row.get(4).map_err(failed)? };
            match under_way.get_mut(trial) {
                Some(events) => events.push(stored),
                None => drop(under_way.insert(trial.to_owned(), vec![stored])),
            }
        }
        Ok(())
    }

    /// Stores scores of re-evaluations. Replaces earlier scores of the same scorer version and scoring.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn keep_scores(&self, scores: &[ToKeep], at: Timestamp) -> Result<(), StoreError> {
        let failed = |error| self.failed(error);
        // A score that is lost in a power failure can be recomputed. So no commit waits for the disk, and checkpoints are large. A batch
        // stays in memory (64 MB) until it is complete.
        for pragma in ["PRAGMA synchronous = NORMAL", "PRAGMA wal_autocheckpoint = 16000", "PRAGMA cache_size = -65536"] {
            self.connection.prepare_cached(pragma).and_then(|mut pragma| pragma.query([])?.next().map(drop)).map_err(failed)?;
        }
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate).map_err(failed)?;
        {
            let mut insert = transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO scores (trial, scorer_version, scoring, at, verdict, score, form, json)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                )
                .map_err(failed)?;
            let mut form = transaction.prepare_cached("INSERT OR IGNORE INTO forms (digest, json) VALUES (?, ?)").map_err(failed)?;
            let at = at.to_string();
            let mut last = None;
            for score in scores {
                if last.replace(Arc::as_ptr(&score.form)) != Some(Arc::as_ptr(&score.form)) {
                    form.execute([&score.form.digest, &score.form.json]).map_err(failed)?;
                }
                insert
                    .execute(params![
                        score.trial.as_str(),
                        int(score.scorer_version),
                        &*score.scoring,
                        at,
                        score.verdict.as_str(),
                        score.score,
                        score.form.digest,
                        score.json
                    ])
                    .map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)
    }

    /// Returns the re-evaluated scores of these trials, by trial id.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn rescored(&self, trials: &[&TrialId]) -> Result<HashMap<TrialId, Vec<Rescored>>, StoreError> {
        let failed = |error| self.failed(error);
        let sql = "SELECT scorer_version, scoring, at, verdict, score, scores.json, form, forms.json
                   FROM scores LEFT JOIN forms ON forms.digest = scores.form WHERE trial = ? ORDER BY at, scorer_version";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let path = self.directory.database();
        let mut found = HashMap::new();
        for trial in trials {
            let mut rows = statement.query([trial.as_str()]).map_err(failed)?;
            let mut scores = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                scores.push(rescored(row, &path)?);
            }
            if !scores.is_empty() {
                found.insert((*trial).clone(), scores);
            }
        }
        Ok(found)
    }
}

fn rescored(row: &rusqlite::Row<'_>, path: &Path) -> Result<Rescored, StoreError> {
    let failed = |error| StoreError::database(path, error);
    let damaged = |column: &str| StoreError::Schema { path: path.to_path_buf(), problem: format!("a score's `{column}` cannot be read") };
    let text = |column: usize| row.get::<_, String>(column).map_err(failed);
    let json = text(5)?;
    let why = match row.get::<_, Option<String>>(6).map_err(failed)? {
        None => serde_json::from_str(&json).map_err(|_| damaged("json"))?,
        Some(_) => {
            let Declaration { name, parts: form } = serde_json::from_str(&text(7)?).map_err(|_| damaged("form"))?;
            let Differing { reason, parts, from } = serde_json::from_str(&json).map_err(|_| damaged("json"))?;
            let parts = form.into_iter().zip(parts).map(|(form, part)| score::filled(form, part.into())).collect();
            ScoreDetail { name, reason, parts, from }
        }
    };
    Ok(Rescored {
        scorer_version: row.get(0).map_err(failed)?,
        scoring: text(1)?,
        name: why.name.clone(),
        at: text(2)?.parse().map_err(|_| damaged("at"))?,
        verdict: Verdict::from_name(&text(3)?).ok_or_else(|| damaged("verdict"))?,
        score: row.get(4).map_err(failed)?,
        why,
    })
}

/// Stored event with the fields that the computation of a score needs.
#[derive(Debug, Clone)]
pub struct Stored {
    pub elapsed_us: u64,
    pub seq: u64,
    pub json: String,
}

impl Stored {
    /// Parses the content of the event.
    ///
    /// # Errors
    /// This version cannot read the event. The error contains the sequence number and the reason.
    pub fn kind(&self) -> Result<EventKind, String> {
        serde_json::from_str(&self.json).map_err(|error| format!("event {}: {error}", self.seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Directory, Recorder};
    use chaosrun_gallery as gallery;
    use chaosrun_gallery::GalleryStream;

    #[test]
    fn reused_trials_are_judged_with_their_run_and_campaign() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::of(temp.path());
        let (mut one, mut two, mut other) = (GalleryStream::new("r-1", 1), GalleryStream::new("r-2", 2), GalleryStream::new("r-3", 1));
        one.whole("t-0d0d0001", gallery::started("a", "b", 1), gallery::failed()).finish(false);
        two.push(gallery::kept(1, Verdict::Fail));
        two.whole("t-2", gallery::started("a", "b", 2), gallery::finished(Verdict::Pass)).finish(false);
        other.whole("t-3", gallery::started("a", "b", 1), gallery::failed()).finish(false);
        if let EventKind::RunStarted { campaign, .. } = &mut Arc::make_mut(&mut two.events[0]).kind {
            *campaign = Some("nightly".into());
        }
        for stream in [&one, &two, &other] {
            let recorder =
                Recorder::start(Database::create(&directory).unwrap(), stream.run.clone(), |problem| panic!("{problem}")).unwrap();
            stream.events.iter().for_each(|event| recorder.record(Arc::clone(event)));
            recorder.finish().unwrap();
        }
        let database = Database::open(&directory).unwrap();
        let judged = |run: Option<&GalleryStream>, campaign: Option<&str>| {
            let chosen = ScoreFilter { run: run.map(|stream| stream.run.clone()), campaign: campaign.map(str::to_owned) };
            let mut trials = Vec::new();
            let mut each = |recorded: ScoreInput| {
                trials.push(format!("{} of {}", recorded.trial, recorded.run));
                Ok(())
            };
            database.to_judge(&chosen, true, &mut each).unwrap();
            trials
        };
        // The events of the reused trial belong to the run that executed it.
        assert_eq!(judged(Some(&two), None), ["t-0d0d0001 of r-1", "t-2 of r-2"]);
        assert_eq!(judged(None, Some("nightly")), judged(Some(&two), None));
        assert_eq!((judged(Some(&one), None).len(), judged(None, None).len()), (1, 3));
    }
}
