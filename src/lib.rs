//! chaosrun tells whether an AI agent can be trusted with a distributed system when it breaks.
//!
//! The pipeline, which is also the reading order of the modules:
//! load -> resolve ([`scenario`]) -> plan ([`plan`]) -> execute trials ([`run`]) on a cluster ([`cluster`]) -> one
//! stream of events ([`event`]) -> recorder ([`store`]) and reporters ([`report`]).
//! Within a trial: load ([`workload`]), faults ([`chaos`]), probes ([`observe`]), invariants ([`invariant`]),
//! tickets ([`monitor`]), the agent ([`agent`]), what it may do by name ([`action`]) and at last the verdict ([`score`]).

pub mod cli;
pub mod diagnostic;
pub mod emit;
pub mod event;
pub mod expr;
pub mod ids;
pub mod process;
pub mod removal;
pub mod scenario;

pub mod plan;
pub mod run;

pub mod burner;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod holder;
pub mod standin;
pub mod station;

pub mod chaos;
pub mod invariant;
pub mod monitor;
pub mod observe;
pub mod workload;

pub mod action;
pub mod agent;
pub mod golden;
pub mod score;
pub mod stats;

pub mod compare;
pub mod gate;
pub mod judge;

pub mod keeper;

pub mod report;
pub mod rescore;
pub mod store;
