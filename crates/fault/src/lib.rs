//! Faults, one file per fault: parameters, requirements per backend, injection, evidence and healing.
//!
//! A fault is a module of [`kinds`] with three items, registered by one line in the list of that module: `DESCRIPTION` (fixed data),
//! `Parameters` (the map below `inject:` of a file) and `resolve` (checks the parameters and returns the fault). A resolved fault
//! ([`ResolvedFault`]) builds an [`Injection`], which injects once and proves the effect: installed, hit, felt, gone. Faults of one family
//! share helpers: `process`, `network`, `disk`, `clock`, `resources`, `configuration`, `data`.
//!
//! Reading order: [`description`], [`ground`], [`target`], [`resolver`], [`resolution`], [`injection`], [`context`], [`active_effects`],
//! [`kinds`], a family, [`resolved`]. This crate does not use scenarios, the monitor or trials, which depend on this crate.

pub mod active_effects;
pub mod context;
pub mod description;
pub mod ground;
pub mod injection;
pub mod kinds;
pub mod ramp;
pub mod resolution;
pub mod resolved;
pub mod resolver;
pub mod target;

mod clock;
mod configuration;
mod data;
mod disk;
mod network;
mod process;
mod resources;

#[cfg(test)]
mod docs;

pub use active_effects::ActiveEffects;
pub use context::{Changes, ClusterObserver, FaultContext};
pub use description::{BackendWays, DOCKER, FaultDescription, Feature, LOCAL, Preparation, Repair, Way};
pub use ground::{FaultGround, FaultNode};
pub use injection::{FaultFinding, Injection, Numbers};
pub use kinds::{ALL, FaultParameters};
pub use ramp::Ramp;
pub use resolution::{Choice, Chooser, Resolution, ResolvedFault};
pub use resolved::Fault;
pub use resolver::{Heal, Resolver};
pub use target::{Pick, RawTarget, Target, TargetOf};

use injection::{FELT_WITHIN, PATIENT, PROBE, each, ms};
