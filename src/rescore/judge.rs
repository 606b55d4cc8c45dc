//! One trial judged again, from its stored facts or from its events. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::{Kind, Verdict};
use crate::plan::digest;
use crate::scenario::model::Scoring;
use crate::scenario::recorded_scoring;
use crate::score::{self, Case, FACTS_VERSION, Facts, Outcome, Ruling};
use crate::store::scores::{Declared, Stored, Why};

/// What came of a trial.
#[derive(Debug)]
pub(super) enum Again {
    Scored(Box<Scored>),
    /// It cannot be judged again, and why.
    Left(String),
}

#[derive(Debug)]
pub(super) struct Scored {
    /// Digest of what it was judged by now.
    pub scoring: Arc<str>,
    /// It is what it was judged by then.
    pub own: bool,
    pub verdict: Verdict,
    pub score: Option<f64>,
    /// The reason's code.
    pub reason: Option<String>,
    pub from_facts: bool,
    /// See [`Why::json`].
    pub why: String,
}

/// Knows all scorings of the record.
#[derive(Debug)]
pub(super) struct Judge {
    known: HashMap<String, Known>,
    given: Option<(Arc<str>, Arc<Scoring>)>,
}

#[derive(Debug)]
struct Known {
    digest: Arc<str>,
    /// None: this version cannot read it.
    scoring: Option<Arc<Scoring>>,
    /// What is to judge now finds the same in commands: facts that were made by this one are its facts, too.
    same_commands: bool,
}

/// What counts of a `trial_finished`.
#[derive(Deserialize)]
struct Finished<'a> {
    #[serde(borrow, default)]
    basis: Option<Basis<'a>>,
}

#[derive(Deserialize)]
struct Basis<'a> {
    version: u32,
    scoring: String,
    #[serde(borrow)]
    facts: &'a RawValue,
    #[serde(borrow)]
    outcome: &'a RawValue,
}

impl Judge {
    pub fn new(declared: &IndexMap<String, Declared>, given: Option<Arc<Scoring>>) -> Self {
        let given: Option<(Arc<str>, Arc<Scoring>)> = given.map(|scoring| (digest::scoring(&scoring).into(), scoring));
        let known = declared.iter().map(|(digest, declared)| {
            let scoring = recorded_scoring(&declared.name, &declared.scoring, &declared.autopsy).ok();
            let same_commands = match (&given, &scoring) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some((_, given)), Some(own)) => digest::of_commands(given) == digest::of_commands(own),
            };
            (digest.clone(), Known { digest: digest.as_str().into(), scoring, same_commands })
        });
        Self { known: known.collect(), given }
    }

    /// None: what is stored will not do, the events must be asked.
    pub fn by_facts(&self, json: &str) -> Option<Again> {
        let finished: Finished<'_> = serde_json::from_str(json).ok()?;
        let basis = finished.basis.filter(|basis| basis.version == FACTS_VERSION)?;
        self.known.get(&basis.scoring).filter(|known| known.same_commands)?;
        let facts: Facts = serde_json::from_str(basis.facts.get()).ok()?;
        let outcome: Outcome = serde_json::from_str(basis.outcome.get()).ok()?;
        Some(self.judged(&basis.scoring, "facts", |scoring| Some(score::rule(scoring, &facts, &outcome))))
    }

    pub fn by_events(&self, events: &[Stored]) -> Again {
        let mut case = Case::default();
        let mut own = String::new();
        for event in events {
            match event.kind() {
                Err(problem) => return Again::Left(format!("this version cannot read its {problem}")),
                Ok(kind) => {
                    if let Kind::GroundTruth(ground) = &kind {
                        own.clone_from(&ground.scoring);
                    }
                    case.event(event.elapsed_us, &kind);
                }
            }
        }
        self.judged(&own, "events", |scoring| {
            let judged = case.judged(scoring)?;
            Some(score::rule(scoring, &judged.facts, &judged.outcome))
        })
    }

    /// `own`: digest of what it was judged by then.
    fn judged(&self, own: &str, from: &str, rule: impl FnOnce(&Scoring) -> Option<Ruling>) -> Again {
        let (digest, scoring) = match (&self.given, self.known.get(own)) {
            (Some((digest, scoring)), _) => (digest, scoring),
            (None, Some(Known { digest, scoring: Some(scoring), .. })) => (digest, scoring),
            (None, Some(_)) => return Again::Left("this version cannot read what it was judged by: give `--scoring FILE`".into()),
            (None, None) => return Again::Left("the record does not say what it was judged by, or nothing was to be judged".into()),
        };
        let Some(Ruling { verdict, reason, score }) = rule(scoring) else {
            return Again::Left("it ended before anything could be judged, or an older version recorded it".into());
        };
        let (own, from_facts) = (**digest == *own, from == "facts");
        let why = Why { name: scoring.name.clone(), reason, parts: score.parts, from: from.to_owned() };
        let (json, reason) = (why.json(), why.reason.map(|reason| reason.code));
        Again::Scored(Box::new(Scored { scoring: Arc::clone(digest), own, verdict, score: score.total, reason, from_facts, why: json }))
    }
}
