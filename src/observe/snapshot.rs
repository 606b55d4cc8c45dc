//! All observations of a moment, as expressions see them.

use std::time::Instant;

use indexmap::IndexMap;

use super::answer::{Answer, nothing_known};
use crate::expr::{Context, Value};
use crate::scenario::model::{On, Probe};

/// The newest answers of all probes. Values are shared with what it is added to.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    values: Vec<(String, Value)>,
    /// Of every probe on every node that has answered.
    pub states: Vec<ProbeState>,
}

/// Whether a probe answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeState {
    pub probe: String,
    /// None for a probe that asks no node, or any.
    pub node: Option<String>,
    pub ok: bool,
    pub problem: Option<String>,
}

impl Snapshot {
    /// Adds a probe's answers, one for each node it asks, or a single one under no name.
    pub(super) fn add(&mut self, probe: &Probe, answers: &[(Option<&str>, Option<&Answer>)], now: Instant) {
        let mut items = Vec::with_capacity(answers.len());
        for (node, answer) in answers {
            items.push(match answer {
                Some(answer) => answer.value(*node, probe.stale_after, now),
                None => nothing_known(*node, "the probe has not answered yet", IndexMap::new()),
            });
            self.states.extend(answer.map(|answer| ProbeState {
                probe: probe.name.clone(),
                node: node.map(str::to_owned),
                ok: answer.ok,
                problem: answer.problem(),
            }));
        }
        let value = match probe.on {
            On::Each(_) => items.into(),
            On::Any(_) | On::Workload | On::Tools => items.into_iter().next().unwrap_or_default(),
        };
        self.values.push((probe.name.clone(), value));
    }

    /// Adds every observation to a context, by its name.
    #[must_use]
    pub fn context(&self, mut context: Context) -> Context {
        for (name, value) in &self.values {
            context.set(name.clone(), value.clone());
        }
        context
    }

    /// All observations as one object.
    #[must_use]
    pub fn value(&self) -> Value {
        Value::from_pairs(self.values.iter().map(|(name, value)| (name.as_str(), value.clone())))
    }
}
