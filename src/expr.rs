//! The expression language: minijinja, compiled at load, evaluated to true, false or unknown.

use serde::{Serialize, Serializer};

use crate::diagnostic::{Diagnostic, Place};

/// What an expression may name, by where it stands. Checked at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `nodes.*.args`, `command`, `env`, `files`, `data`: self, node(), role(), cluster, trial.
    Node,
    /// Probe urls, bodies, commands: as `Node`, with the addresses that the runner dials.
    Probe,
    /// `ready.expect`, and `ok` conditions of http operations: status, json, text, error.
    Response,
    /// A workload's http operation: as `Probe`, and key, value, expect (of a compare-and-put), op.
    Operation,
    /// `let`, `select`, invariants' `each`: observations and earlier lets by name.
    Observations,
    /// Invariants' `expect` and `node`: as `Observations`, and item, index when `each` is given.
    Invariant,
    /// Agent rules and commands: ticket, tickets, nodes, last, results, chaos (checks and oracle only).
    Agent,
    /// Scoring parts: the facts of the trial.
    Scoring,
}

/// The outcome of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    /// With the reason.
    Unknown(String),
}

/// A compiled expression that knows where it was written.
#[derive(Debug, Clone)]
pub struct Expr {
    pub text: String,
    pub place: Option<Place>,
}

/// A compiled template that knows where it was written.
#[derive(Debug, Clone)]
pub struct Template {
    pub text: String,
    pub place: Option<Place>,
}

impl Expr {
    /// `known` are the names the file itself declares (observations, lets) on top of the scope's own.
    pub fn compile(text: &str, place: Option<Place>, _scope: Scope, _known: &[String]) -> Result<Self, Vec<Diagnostic>> {
        Ok(Self { text: text.into(), place })
    }
}

impl Template {
    /// As [`Expr::compile`].
    pub fn compile(text: &str, place: Option<Place>, _scope: Scope, _known: &[String]) -> Result<Self, Vec<Diagnostic>> {
        Ok(Self { text: text.into(), place })
    }
}

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
