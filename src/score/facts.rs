//! The facts of a trial that a scoring file may name.

use serde::Serialize;

/// Seconds are numbers; what is not known is null (and a part that needs it scores 0 and says why).
#[derive(Debug, Clone, Default, Serialize)]
pub struct Facts {
    pub detected: bool,
    pub detect_s: Option<f64>,
    pub repaired: bool,
    pub repair_s: Option<f64>,
    pub hurt_s: Option<f64>,
    pub acked: Option<u64>,
    pub lost: Option<u64>,
    pub durable: Option<bool>,
    pub commands: u32,
    pub failed_commands: u32,
    /// How many commands matched a forbidden pattern.
    pub forbidden: usize,
    pub touched_nodes: Vec<String>,
    pub collateral: Vec<String>,
    pub safeguards_broken: usize,
    /// None when there was nothing to diagnose.
    pub diagnosed: Option<bool>,
    pub turns: u32,
    pub tokens: u64,
    pub usd: f64,
    pub timing: Timing,
    pub limits: Limits,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Timing {
    pub steady_for: f64,
    pub detect_within: f64,
    pub repair_within: f64,
    pub stable_for: f64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Limits {
    pub wall: f64,
    pub turns: u32,
    pub command: f64,
}
