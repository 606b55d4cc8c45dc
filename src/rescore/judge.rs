//! One trial judged again, from its stored facts or from its events. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::Deserialize;

use crate::event::{Kind, Verdict};
use crate::plan::digest;
use crate::scenario::model::Scoring;
use crate::scenario::recorded_scoring;
use crate::score::{self, Case, FACTS_VERSION, Facts, Measured, Outcome};
use crate::store::scores::{Declared, Form, Stored, differing};

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
    pub form: Arc<Form>,
    /// See [`differing`].
    pub json: String,
}

/// Knows all scorings of the record.
#[derive(Debug)]
pub(super) struct Judge {
    known: HashMap<String, Known>,
    given: Option<Standard>,
}

/// What is judged by.
#[derive(Debug)]
struct Standard {
    digest: Arc<str>,
    scoring: Arc<Scoring>,
    form: Arc<Form>,
}

impl Standard {
    fn new(digest: &str, scoring: Arc<Scoring>) -> Self {
        Self { digest: digest.into(), form: Form::of(&scoring).into(), scoring }
    }
}

#[derive(Debug)]
struct Known {
    /// None: this version cannot read it.
    standard: Option<Standard>,
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
    #[serde(borrow)]
    scoring: Cow<'a, str>,
    facts: Facts,
    outcome: Outcome,
}

impl Judge {
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

    /// None: what is stored will not do, the events must be asked.
    pub fn by_facts(&self, json: &str) -> Option<Again> {
        let finished: Finished<'_> = serde_json::from_str(json).ok()?;
        let Basis { version, scoring, facts, outcome } = finished.basis?;
        self.known.get(&*scoring).filter(|known| version == FACTS_VERSION && known.same_commands)?;
        Some(self.judged(&scoring, "facts", |_| Some((facts, outcome))))
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
        self.judged(&own, "events", |scoring| case.judged(scoring).map(|judged| (judged.facts, judged.outcome)))
    }

    /// `own`: digest of what it was judged by then. `came_to`: its facts and outcome.
    fn judged(&self, own: &str, from: &str, came_to: impl FnOnce(&Scoring) -> Option<(Facts, Outcome)>) -> Again {
        let Standard { digest, scoring, form } = match (&self.given, self.known.get(own)) {
            (Some(standard), _) | (None, Some(Known { standard: Some(standard), .. })) => standard,
            (None, Some(_)) => return Again::Left("this version cannot read what it was judged by: give `--scoring FILE`".into()),
            (None, None) => return Again::Left("the record does not say what it was judged by, or nothing was to be judged".into()),
        };
        let Some((facts, outcome)) = came_to(scoring) else {
            return Again::Left("it ended before anything could be judged, or an older version recorded it".into());
        };
        let (verdict, reason) = score::verdict(&outcome);
        let Measured { total, parts } = score::measure(scoring, &facts, verdict);
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
