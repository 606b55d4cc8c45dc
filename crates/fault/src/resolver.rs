//! Resolution of the parameters of one fault: checks against the file, the cluster and the backend.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Serialize;

use super::ground::FaultGround;
use super::ramp::Ramp;
use super::target::{self, RawTarget, Target};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_expr::{Expr, Scope, Template};
use chaosrun_input::quantity::serialize_duration;
use chaosrun_input::{Checker, RawAmount, RawDuration, RawRamp, RawRamped, RawSize, Short, Text};

/// Condition that ends a fault: the key `heal` of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Heal {
    /// The agent may repair the fault.
    Agent,
    /// The fault never ends, because the agent cannot repair it and chaosrun does not heal it.
    Never,
    /// The fault ends by itself after this duration.
    After(#[serde(serialize_with = "serialize_duration")] Duration),
}

/// Context for the resolution of one fault. The parameter `key` of its methods is relative to the pointer `at`.
pub struct Resolver<'a, 'd> {
    pub check: &'a mut Checker<'d>,
    /// Pointer to the map of the parameters of the fault.
    pub at: Pointer,
    pub heal: Heal,
    pub ground: &'a FaultGround<'a>,
}

impl Resolver<'_, '_> {
    /// Reports a problem of the parameter `key`.
    pub fn wrong(&mut self, key: &str, problem: Diagnostic) {
        self.check.wrong(&self.at.key(key), problem);
    }

    /// Reports a problem of the whole fault, at the name of the fault in the file.
    pub fn wrong_fault(&mut self, problem: Diagnostic) {
        self.check.wrong_key(&self.at, problem);
    }

    /// Resolves the parameter `target` of the fault.
    pub fn target(&mut self, read: &Short<RawTarget>) -> Option<Target> {
        target::target(self.check, &self.at.key("target"), read, self.ground)
    }

    pub fn duration(&mut self, key: &str, read: Option<&RawDuration>, default: Duration) -> Duration {
        self.check.duration(&self.at.key(key), read, default)
    }

    pub fn size(&mut self, key: &str, read: Option<&RawSize>) -> Option<u64> {
        self.check.size(&self.at.key(key), read)
    }

    pub fn within(&mut self, key: &str, value: Option<f64>, range: RangeInclusive<f64>, default: f64) -> f64 {
        self.check.within(&self.at.key(key), value, range, default)
    }

    /// Returns the value of an integer parameter. Returns `default` if the value is missing or outside of `range`.
    pub fn whole(&mut self, key: &str, value: Option<u32>, range: RangeInclusive<u32>, default: u32) -> u32 {
        whole(self.check, &self.at.key(key), value, range, default)
    }

    pub fn amount(&mut self, key: &str, read: Option<&RawAmount>, parse: fn(&str) -> Result<f64, String>) -> Option<f64> {
        amount(self.check, &self.at.key(key), read, parse)
    }

    /// Returns the first value of a parameter, and its ramp if the value changes over time.
    pub fn ramped(&mut self, key: &str, read: &RawRamped, parse: fn(&str) -> Result<f64, String>) -> Option<(f64, Option<Ramp>)> {
        let at = self.at.key(key);
        match read {
            RawRamped::Constant(text) => Some((amount(self.check, &at, Some(&RawAmount(text.clone())), parse)?, None)),
            RawRamped::Ramp(RawRamp { from, to, steps, over }) => {
                let from = amount(self.check, &at.key("from"), Some(from), parse);
                let to = amount(self.check, &at.key("to"), Some(to), parse);
                let steps = whole(self.check, &at.key("steps"), *steps, 2..=1000, 10);
                let over = self.check.maybe_duration(&at.key("over"), Some(over));
                let from = from?;
                Some((from, Some(Ramp { from, to: to?, steps, over: over? })))
            }
        }
    }

    pub fn template(&mut self, key: &str, text: &Text, scope: Scope) -> Option<Template> {
        self.check.template(&self.at.key(key), text, scope, &[])
    }

    pub fn templates(&mut self, key: &str, texts: &[Text], scope: Scope) -> Vec<Template> {
        self.check.templates(&self.at.key(key), texts, scope, &[])
    }

    /// Compiles a condition over the observations.
    pub fn condition(&mut self, key: &str, text: Option<&Text>) -> Option<Expr> {
        let known = self.ground.observed();
        self.check.maybe_expr(&self.at.key(key), text, Scope::Observations, &known)
    }
}

fn amount(check: &mut Checker, pointer: &Pointer, read: Option<&RawAmount>, parse: fn(&str) -> Result<f64, String>) -> Option<f64> {
    let read = read?;
    match parse(&read.0) {
        Ok(value) => Some(value),
        Err(expected) => {
            check.wrong(pointer, Diagnostic::error("out_of_range", format!("`{}` is not a valid value", read.0)).label(expected));
            None
        }
    }
}

fn whole(check: &mut Checker, pointer: &Pointer, value: Option<u32>, range: RangeInclusive<u32>, default: u32) -> u32 {
    match value {
        None => default,
        Some(value) if range.contains(&value) => value,
        Some(value) => {
            let expected = format!("expected a number from {} to {}", range.start(), range.end());
            check.wrong(pointer, Diagnostic::error("out_of_range", format!("`{value}` is out of range")).label(expected));
            default
        }
    }
}
