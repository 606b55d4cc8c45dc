//! Re-evaluation of one trial, from stored facts or from events. The functions are pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::Deserialize;

use chaosrun_event::{EventKind, ReasonCode, Verdict};
use chaosrun_scenario::digest;
use chaosrun_scenario::model::Scoring;
use chaosrun_scenario::recorded_scoring;
use chaosrun_score as score;
use chaosrun_score::{CaseFacts, FACTS_VERSION, Facts, MeasuredScore, VerdictFacts};
use chaosrun_store::scores::{Declared, ScoreForm, Stored, differing};

/// Result of the re-evaluation of one trial.
#[derive(Debug)]
pub(super) enum Again {
    Scored(Box<Scored>),
    /// Reason why the trial cannot be re-evaluated.
    Left(String),
}

#[derive(Debug)]
pub(super) struct Scored {
    /// Digest of the scoring used for the re-evaluation.
    pub scoring: Arc<str>,
    /// True if the re-evaluation uses the same scoring as the original evaluation.
    pub own: bool,
    pub verdict: Verdict,
    pub score: Option<f64>,
    /// Code of the reason for the verdict.
    pub reason: Option<ReasonCode>,
    pub from_facts: bool,
    pub form: Arc<ScoreForm>,
    /// Differences between the score and the form of the scoring, as JSON. See [`differing`].
    pub json: String,
}

/// Re-evaluator of trials, which holds all scorings of the record.
#[derive(Debug)]
pub(super) struct Rescorer {
    known: HashMap<String, Known>,
    given: Option<Standard>,
}

/// Scoring with its digest and its form. The form contains the texts that all scores of the scoring share.
#[derive(Debug)]
struct Standard {
    digest: Arc<str>,
    scoring: Arc<Scoring>,
    form: Arc<ScoreForm>,
}

impl Standard {
    fn new(digest: &str, scoring: Arc<Scoring>) -> Self {
        Self { digest: digest.into(), form: ScoreForm::of(&scoring).into(), scoring }
    }
}

#[derive(Debug)]
struct Known {
    /// Parsed scoring. `None` if this version cannot read the scoring.
    standard: Option<Standard>,
    /// True if the current scoring classifies commands in the same way. Facts that were derived with this scoring are then still valid.
    same_commands: bool,
}

/// Fields of a `trial_finished` event that the re-evaluation needs.
#[derive(Deserialize)]
struct Finished<'a> {
    #[serde(borrow, default)]
    basis: Option<Basis<'a>>,
}

#[derive(Deserialize)]
struct Basis<'a> {
    version: u32,
    #[serde(borrow)]
    scoring: Cow<'a, str>,
    facts: Facts,
    outcome: VerdictFacts,
}

impl Rescorer {
    pub fn new(declared: &IndexMap<String, Declared>, given: Option<Arc<Scoring>>) -> Self {
        let given = given.map(|scoring| Standard::new(&digest::scoring(&scoring), scoring));
        let known = declared.iter().map(|(digest, declared)| {
            let scoring = recorded_scoring(&declared.name, &declared.scoring, &declared.autopsy).ok();
            let same_commands = match (&given, &scoring) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(given), Some(own)) => digest::of_commands(&given.scoring) == digest::of_commands(own),
            };
            (digest.clone(), Known { standard: scoring.map(|scoring| Standard::new(digest, scoring)), same_commands })
        });
        Self { known: known.collect(), given }
    }

    /// Re-evaluates a trial from its stored facts. Returns `None` if the facts are not sufficient, so that the events are needed.
    pub fn by_facts(&self, json: &str) -> Option<Again> {
        let finished: Finished<'_> = serde_json::from_str(json).ok()?;
        let Basis { version, scoring, facts, outcome } = finished.basis?;
        self.known.get(&*scoring).filter(|known| version == FACTS_VERSION && known.same_commands)?;
        Some(self.judged(&scoring, "facts", |_| Some((facts, outcome))))
    }

    pub fn by_events(&self, events: &[Stored]) -> Again {
        let mut case = CaseFacts::default();
        let mut own = String::new();
        for event in events {
            match event.kind() {
                Err(problem) => return Again::Left(format!("this version of chaosrun cannot read the {problem} of the trial")),
                Ok(kind) => {
                    if let EventKind::GroundTruth(ground) = &kind {
                        own.clone_from(&ground.scoring);
                    }
                    case.event(event.elapsed_us, &kind);
                }
            }
        }
        self.judged(&own, "events", |scoring| case.judged(scoring).map(|judged| (judged.facts, judged.outcome)))
    }

    /// Scores a trial. `own` is the digest of the trial's original scoring. `came_to` derives the facts and the outcome of the trial from a
    /// scoring.
    fn judged(&self, own: &str, from: &str, came_to: impl FnOnce(&Scoring) -> Option<(Facts, VerdictFacts)>) -> Again {
        let Standard { digest, scoring, form } = match (&self.given, self.known.get(own)) {
            (Some(standard), _) | (None, Some(Known { standard: Some(standard), .. })) => standard,
            (None, Some(_)) => return Again::Left("this version cannot read the original scoring: use `--scoring FILE`".into()),
            (None, None) => return Again::Left("the record contains no scoring, or the trial has nothing to score".into()),
        };
        let Some((facts, outcome)) = came_to(scoring) else {
            return Again::Left("the trial ended before it could be scored, or an older version recorded it".into());
        };
        let (verdict, reason) = score::verdict(&outcome);
        let MeasuredScore { total, parts } = score::measure(scoring, &facts, verdict);
        Again::Scored(Box::new(Scored {
            scoring: Arc::clone(digest),
            own: **digest == *own,
            verdict,
            score: total,
            from_facts: from == "facts",
            form: Arc::clone(form),
            json: differing(reason.as_ref(), parts, from),
            reason: reason.map(|reason| reason.code),
        }))
    }
}
