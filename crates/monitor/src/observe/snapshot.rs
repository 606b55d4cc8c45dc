//! Snapshot of the newest observations, as expressions access them.

use std::time::Instant;

use indexmap::IndexMap;

use chaosrun_expr::{Context, Value};
use chaosrun_probe::{ProbeAnswer, nothing_known};
use chaosrun_scenario::model::{On, Probe};

/// Newest answers of all probes. The values are shared with the expression contexts that contain them.
#[derive(Debug, Clone, Default)]
pub struct ProbeSnapshot {
    values: Vec<(String, Value)>,
    /// State of every probe on every node, for probes that have answered.
    pub states: Vec<ProbeState>,
}

/// State of a probe: either its last answer was good, or it has a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeState {
    pub probe: String,
    /// Name of the probe's node. `None` for a probe without a node, and for a probe that may query any of several nodes.
    pub node: Option<String>,
    pub ok: bool,
    pub problem: Option<String>,
}

impl ProbeSnapshot {
    /// Adds the answers of a probe. Each node has one answer, or there is a single answer without a node name.
    pub(super) fn add(&mut self, probe: &Probe, answers: &[(Option<&str>, Option<&ProbeAnswer>)], now: Instant) {
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

    /// Adds every observation to an expression context, under the name of the observation.
    #[must_use]
    pub fn context(&self, mut context: Context) -> Context {
        for (name, value) in &self.values {
            context.set(name.clone(), value.clone());
        }
        context
    }

    /// Returns all observations as one object.
    #[must_use]
    pub fn value(&self) -> Value {
        Value::from_pairs(self.values.iter().map(|(name, value)| (name.as_str(), value.clone())))
    }
}
